"""From the source text of one file to its findings: decode, parse, apply every rule, drop what `# noqa` silences.

The result is a list of findings for any text. Text that does not parse (a syntax error, bytes that are invalid in the
declared encoding, null bytes, nesting too deep for the parser or for the rules) is itself a finding, NZ100.
"""

from __future__ import annotations

import ast
import re
import tokenize
import warnings
from collections.abc import Iterator
from io import BytesIO

from naught.lint import blanked, countdown, emptied, gauges, misread, records
from naught.lint.arrivals import Arrivals
from naught.lint.countdown import Report
from naught.lint.finding import INSERTING_LOOP, INSERTING_READ, MISREAD_ZERO, UNREADABLE, Finding
from naught.lint.flow import Flow
from naught.lint.names import Names
from naught.lint.suppress import without_silenced
from naught.lint.uses import Uses

TOO_DEEP = "nested too deeply to be read"
FAILED = "the checker failed, please report it"
# The rules on code that misreads zeros, whatever the keys are.
ANY_KEYS = frozenset({MISREAD_ZERO, INSERTING_READ, INSERTING_LOOP})
CHECKS = (countdown.check, records.check, blanked.check, misread.check, gauges.check, emptied.check)

# Each rule can find something only where this matches: a map that inserts, a count that goes down, 0, None or a new
# collection that is stored, or a count that is read with `get` and may be zero. A module without a match is only
# parsed. That is most of the standard library.
CAN_HAVE_FINDINGS = re.compile(
    r"defaultdict|DefaultDict|setdefault|Gauge|subtract|__setitem__|\.update\(\{"
    r"|=\s*[\w.]+(?:\[|\.get\()[^\n]*[\])]\s*-\s*\d"
    r"|-=|\]\s*\+=\s*-|(?:\]|:)\s*=[^\n]*-|\]\s*=\s*(?:0\b|None\b|False\b|''|\"\")"
    r"|\.get\([^\n]*(?:\(\)|\[\]|\{\})"
    r"|\]\s*=[^\n]*(?:\[|\{|set\(|list\(|dict\(|deque\(|\(\))"
)
# Or a number of things that is stored and read with `get`.
COUNT = re.compile(r"\b(?:len|sum)\(|\.count\(")


def check_source(
    source: str | bytes, path: str, *, with_locals: bool = False, with_all: bool = False
) -> list[Finding]:
    """Return the findings in the source of one file, in the order of its lines.

    `path` is copied into the findings, and tells whether the file belongs to a package. With `with_locals`, maps that
    end with the call that makes them are checked as well; with `with_all`, findings that are not sure are returned as
    well. Bytes are decoded as Python would: by their byte order mark, by the encoding that the file declares, or as
    UTF-8. No source text makes this function raise.
    """
    try:
        text = decode(source) if isinstance(source, bytes) else source
        tree = parse(text)
    except RecursionError:
        return [_unreadable(path, 1, 1, TOO_DEEP)]
    except MemoryError:
        return [_unreadable(path, 1, 1, "too large or nested too deeply to be read")]
    except SyntaxError as error:
        line, column = max(error.lineno or 1, 1), max(error.offset or 1, 1)
        return [_unreadable(path, line, column, f"does not parse: {error.msg}")]
    except ValueError as error:
        return [_unreadable(path, 1, 1, f"does not parse: {error}")]
    try:
        findings = list(check_tree(tree, text, path, with_locals=with_locals, with_all=with_all))
    except RecursionError:
        return [_unreadable(path, 1, 1, TOO_DEEP)]
    except Exception as error:  # a fault of the checker must not hide what it finds in the other files
        return [_unreadable(path, 1, 1, f"{FAILED}: {type(error).__name__}: {error}")]
    return without_silenced(findings, text)


def decode(source: bytes) -> str:
    """Return the text of a source file; SyntaxError or ValueError if it cannot be decoded."""
    try:
        encoding, _ = tokenize.detect_encoding(BytesIO(source).readline)
        return source.decode(encoding)
    except LookupError as error:  # an encoding that exists, but not for text
        raise SyntaxError(str(error)) from None


def parse(text: str) -> ast.Module:
    """Return the syntax tree, without the compiler's warnings: they are for the authors of the code."""
    with warnings.catch_warnings():
        warnings.simplefilter("ignore")
        return ast.parse(text)


def check_tree(
    tree: ast.Module, text: str, path: str, *, with_locals: bool = False, with_all: bool = False
) -> Iterator[Finding]:
    """Return the findings in a parsed module, without regard to `# noqa` comments."""
    if not can_have_findings(text):
        return
    uses = Uses(Names(tree), with_locals=with_locals)
    flow = Flow(uses)
    arrivals = Arrivals(flow, path)
    lines = split_lines(text)
    # One finding for each rule and position: `counts[a][b]` begins where `counts[a]` does, and is reported once.
    found: dict[tuple[int, int, str], Finding] = {}
    for tracked in uses.maps.values():
        if flow.has_few_keys(tracked):
            continue
        for check in CHECKS:
            for report in check(tracked, flow):
                sure = report.sure and (report.rule in ANY_KEYS or arrivals.keep_coming(tracked))
                if sure or with_all:
                    finding = _finding(report, sure, lines, path)
                    found.setdefault((finding.line, finding.column, finding.rule), finding)
    yield from sorted(found.values())


def can_have_findings(text: str) -> bool:
    """Whether a text has what at least one of the rules needs."""
    if CAN_HAVE_FINDINGS.search(text) is not None:
        return True
    return ".get(" in text and "] =" in text and COUNT.search(text) is not None


def split_lines(text: str) -> list[str]:
    """Return the lines as the parser counts them: a form feed does not end one."""
    return re.split(r"\r\n|\r|\n", text)


def _finding(report: Report, sure: bool, lines: list[str], path: str) -> Finding:
    node = report.node
    # The parser counts columns in bytes of UTF-8, and a finding counts characters.
    line = lines[node.lineno - 1] if node.lineno <= len(lines) else ""
    column = len(line.encode("utf-8", "surrogatepass")[: node.col_offset].decode("utf-8", "replace")) + 1
    last = node.end_lineno or node.lineno
    return Finding(path, node.lineno, column, report.rule, report.message, last, sure)


def _unreadable(path: str, line: int, column: int, why: str) -> Finding:
    return Finding(path, line, column, UNREADABLE, why, line)
