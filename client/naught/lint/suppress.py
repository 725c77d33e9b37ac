"""`# noqa` comments: which rules are silenced on which lines.

`# noqa` alone silences every rule on its line, and `# noqa: NZ101` (or several rules, with commas or spaces) only the
named ones. A prefix such as `NZ1` names all rules that begin with it, as in flake8. Only comments count, not the same
words in a string. A comment on any line of a finding silences it.
"""

from __future__ import annotations

import re
import tokenize
from collections.abc import Iterable
from io import StringIO

from naught.lint.finding import Finding

NOQA = re.compile(r"#\s*noqa\b(?P<codes>:[\s,]*[A-Z]+[0-9]*(?:[\s,]+[A-Z]+[0-9]+)*)?", re.IGNORECASE)


def silenced(text: str) -> dict[int, tuple[str, ...]]:
    """Return the prefixes of the silenced rules, by line; the empty prefix silences every rule."""
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
        pass  # text that parses also tokenizes; if the two ever differ, the comments read so far count
    return lines


def without_silenced(findings: Iterable[Finding], text: str) -> list[Finding]:
    """Return the findings that no comment silences."""
    findings = list(findings)
    lines = silenced(text) if findings else {}
    return [
        found
        for found in findings
        if not any(found.rule.startswith(lines.get(line, ())) for line in range(found.line, found.end_line + 1))
    ]
