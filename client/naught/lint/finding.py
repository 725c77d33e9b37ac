"""What the checker can find: its rules, and one finding of one rule at one place.

A rule's identifier is what people type in `# noqa` and in the configuration, so it never changes its meaning.
The rationale and the examples of each are in docs/lint.md, where the tests read them.
"""

from __future__ import annotations

from dataclasses import dataclass

UNREADABLE = "NZ100"
COUNTDOWN = "NZ101"
DELETED_AS_ZERO = "NZ102"
INSERTING_READ = "NZ103"
MISREAD_ZERO = "NZ104"
SETDEFAULT_ZERO = "NZ105"
GAUGE_COUNTDOWN = "NZ106"
INSERTING_LOOP = "NZ107"
EMPTIED = "NZ108"

RULES: dict[str, str] = {
    UNREADABLE: "the file cannot be read or parsed",
    COUNTDOWN: "an entry is counted down, and nothing deletes it at zero",
    DELETED_AS_ZERO: "0 or None is stored where an entry should be deleted",
    INSERTING_READ: "a defaultdict is read in a condition, and the read inserts a zero",
    MISREAD_ZERO: "truth or `or` on a count takes a stored zero for an absent one",
    SETDEFAULT_ZERO: "setdefault inserts a zero that nothing deletes",
    GAUGE_COUNTDOWN: "a labelled gauge is counted down, and its label is never removed",
    INSERTING_LOOP: "a loop runs over an entry of a defaultdict, and the read inserts an empty one",
    EMPTIED: "an entry's collection runs empty, and nothing deletes it then",
}
"""Every rule: its identifier, and what it says in one line."""

ON_REQUEST = frozenset({INSERTING_READ})
"""Rules that are followed only where somebody asks for them: more often wrong than right on code they had not seen
(docs/lint.md)."""


@dataclass(frozen=True, order=True, slots=True)
class Finding:
    """One thing found. Findings sort by path, then by place in the file."""

    path: str
    line: int
    """From 1."""
    column: int
    """From 1, in characters."""
    rule: str
    """A key of `RULES`."""
    message: str
    """A sentence that names what was found."""
    end_line: int
    """The last line of what was found; a `# noqa` on any of its lines covers it."""

    def text(self) -> str:
        """`path:line:column: rule message`, as editors and people read it."""
        return f"{self.path}:{self.line}:{self.column}: {self.rule} {self.message}"

    def as_json(self) -> dict[str, str | int]:
        """The finding as a JSON object; its fields are those of this class."""
        return {
            "path": self.path,
            "line": self.line,
            "column": self.column,
            "end_line": self.end_line,
            "rule": self.rule,
            "message": self.message,
        }


def words(text: str) -> list[str]:
    """The words of a text: how the longer lists of names in this package are written."""
    return text.split()
