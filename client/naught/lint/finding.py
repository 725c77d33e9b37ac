"""The table of rules, and `Finding`: one finding of one rule at one position in a file.

People write a rule's identifier in `# noqa` comments and configurations, so it never changes its meaning.
docs/lint.md has the rationale and the examples of each rule, and tests hold the page to this table.
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
    DELETED_AS_ZERO: "0, None or something empty is stored where an entry should be deleted",
    INSERTING_READ: "a defaultdict is read in a condition, and the read inserts a zero",
    MISREAD_ZERO: "a truth test or `or` treats a stored zero like an absent count",
    SETDEFAULT_ZERO: "setdefault inserts a zero that nothing deletes",
    GAUGE_COUNTDOWN: "a labelled gauge comes down to zero, and its label is never removed",
    INSERTING_LOOP: "a loop runs over an entry of a defaultdict, and the read inserts an empty one",
    EMPTIED: "the collection in an entry becomes empty, and nothing deletes the entry",
}
"""The identifier of every rule, and the rule in one line."""

ON_REQUEST = frozenset({INSERTING_READ})
"""Rules that are applied only if the configuration selects them, because most of their findings in code that they
were not written for were wrong (docs/lint.md)."""


@dataclass(frozen=True, order=True, slots=True)
class Finding:
    """One finding. Findings sort by path, then by line and column."""

    path: str
    line: int
    """From 1."""
    column: int
    """From 1, in characters."""
    rule: str
    """A key of `RULES`."""
    message: str
    """A sentence that names the map and the problem."""
    end_line: int
    """The last line of the expression; a `# noqa` on any of its lines silences the finding."""
    sure: bool = True
    """Whether the source gives enough reason to report it without being asked for all findings (`--all`)."""

    def text(self) -> str:
        """Return `path:line:column: rule message`, the form that editors understand."""
        return f"{self.path}:{self.line}:{self.column}: {self.rule} {self.message}"

    def as_json(self) -> dict[str, str | int]:
        """Return the finding as a JSON object with the fields of this class."""
        return {
            "path": self.path,
            "line": self.line,
            "column": self.column,
            "end_line": self.end_line,
            "rule": self.rule,
            "message": self.message,
            "sure": self.sure,
        }


def words(text: str) -> list[str]:
    """Split a text into words. The longer lists of names in this package are written as texts."""
    return text.split()
