"""`# noqa` comments: which rules a person has silenced on which lines.

`# noqa` alone silences everything on its line, `# noqa: NZ101` (or several, with commas or spaces) only
what is named; a beginning such as `NZ1` names all that begin with it, as flake8 has it. Only comments
count: the same words in a string are a string. A finding that runs over several lines is silenced by a
comment on any of them.
"""

from __future__ import annotations

import re
import tokenize
from collections.abc import Iterable
from io import StringIO

from naught.lint.finding import Finding

NOQA = re.compile(r"#\s*noqa\b(?P<codes>:[\s,]*[A-Z]+[0-9]*(?:[\s,]+[A-Z]+[0-9]+)*)?", re.IGNORECASE)


def silenced(text: str) -> dict[int, tuple[str, ...]]:
    """The beginnings of rules silenced, by line; the empty string silences every rule."""
    if "noqa" not in text.lower():
        return {}
    lines: dict[int, tuple[str, ...]] = {}
    try:
        for token in tokenize.generate_tokens(StringIO(text, newline=None).readline):
            match = NOQA.search(token.string) if token.type == tokenize.COMMENT else None
            if match is not None:
                codes = re.findall(r"[A-Z]+[0-9]*", (match["codes"] or "").upper())
                lines[token.start[0]] = tuple(codes) or ("",)
    except (tokenize.TokenError, SyntaxError):
        pass  # What parses also tokenizes; should the two ever differ, what was read so far counts.
    return lines


def without_silenced(findings: Iterable[Finding], text: str) -> list[Finding]:
    """The findings that no comment silences."""
    findings = list(findings)
    lines = silenced(text) if findings else {}
    return [
        found
        for found in findings
        if not any(found.rule.startswith(lines.get(line, ())) for line in range(found.line, found.end_line + 1))
    ]
