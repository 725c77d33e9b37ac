"""From source text to findings: parse, look, silence.

Whatever the text is, the answer is a list of findings. What does not parse (a syntax error, bytes that are
not of the encoding declared, null bytes, nesting too deep for the parser or for the checks) is a finding
itself, NZ100.
"""

from __future__ import annotations

import ast
import re
import tokenize
import warnings
from collections.abc import Iterator
from io import BytesIO

from naught.lint import countdown, emptied, gauges, misread
from naught.lint.countdown import Report
from naught.lint.finding import UNREADABLE, Finding
from naught.lint.flow import Flow
from naught.lint.names import Names
from naught.lint.suppress import without_silenced
from naught.lint.uses import Uses

# What every rule needs to find anything: a map that inserts, a count that goes down, nothing or a new
# collection stored, or a count that is got and may be zero. A module without any of it is parsed and not
# looked at further: most of the standard library's.
WORTH_A_LOOK = re.compile(
    r"defaultdict|DefaultDict|setdefault|Gauge|subtract"
    r"|-=|\]\s*\+=\s*-|\]\s*=[^=\n]*-|\]\s*=\s*(?:0|None)\b"
    r"|\]\s*=\s*(?:\[\S|\[\]|\{|set\(|list\(|dict\(|(?:collections\.)?deque\()"
    r"|\.get\((?s:.*)(?:len|sum|count)\(|(?:len|sum|count)\((?s:.*)\.get\("
)


def check_source(source: str | bytes, path: str, *, with_locals: bool = False) -> list[Finding]:
    """Everything found in one file's source, in the order of its lines.

    `path` is only what the findings say. `with_locals` asks for maps that end with their call as well. Bytes
    are decoded as Python would: by byte order mark, by the encoding the file declares, or as UTF-8. Never
    raises for what the source holds.
    """
    try:
        text = decode(source) if isinstance(source, bytes) else source
        tree = parse(text)
        findings = list(check_tree(tree, text, path, with_locals=with_locals))
    except RecursionError:
        return [_unreadable(path, 1, 1, "nested too deeply to be read")]
    except MemoryError:
        return [_unreadable(path, 1, 1, "too large or nested too deeply to be read")]
    except SyntaxError as error:
        line, column = max(error.lineno or 1, 1), max(error.offset or 1, 1)
        return [_unreadable(path, line, column, f"does not parse: {error.msg}")]
    except ValueError as error:
        return [_unreadable(path, 1, 1, f"does not parse: {error}")]
    return without_silenced(findings, text)


def decode(source: bytes) -> str:
    """The text of a source file, with line ends as `\\n`; SyntaxError or ValueError where its encoding does
    not hold."""
    try:
        encoding, _ = tokenize.detect_encoding(BytesIO(source).readline)
        return source.decode(encoding)
    except LookupError as error:  # an encoding that exists, but not for text
        raise SyntaxError(str(error)) from None


def parse(text: str) -> ast.Module:
    """The syntax tree. What the compiler warns of in other people's code is theirs to hear, not ours."""
    with warnings.catch_warnings():
        warnings.simplefilter("ignore")
        return ast.parse(text)


def check_tree(tree: ast.Module, text: str, path: str, *, with_locals: bool = False) -> Iterator[Finding]:
    """What is found in a module that has been parsed; comments are not looked at."""
    if not WORTH_A_LOOK.search(text):
        return
    uses = Uses(Names(tree), with_locals=with_locals)
    flow = Flow(uses)
    lines = split_lines(text)
    # One finding per rule and place: `counts[a][b]` begins where `counts[a]` does, and says it once.
    found: dict[tuple[int, int, str], Finding] = {}
    for each in uses.maps.values():
        if flow.has_few_keys(each):
            continue
        for check in (countdown.check, misread.check, gauges.check, emptied.check):
            for report in check(each, flow):
                finding = _finding(report, lines, path)
                found.setdefault((finding.line, finding.column, finding.rule), finding)
    yield from sorted(found.values())


def split_lines(text: str) -> list[str]:
    """The lines as the parser counts them: a form feed ends none."""
    return re.split(r"\r\n|\r|\n", text)


def _finding(report: Report, lines: list[str], path: str) -> Finding:
    rule, node, message = report
    # The parser counts columns in bytes of UTF-8, people count characters.
    line = lines[node.lineno - 1] if node.lineno <= len(lines) else ""
    column = len(line.encode("utf-8", "surrogatepass")[: node.col_offset].decode("utf-8", "replace")) + 1
    return Finding(path, node.lineno, column, rule, message, node.end_lineno or node.lineno)


def _unreadable(path: str, line: int, column: int, why: str) -> Finding:
    return Finding(path, line, column, UNREADABLE, why, line)
