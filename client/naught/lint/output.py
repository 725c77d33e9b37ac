"""How findings are printed: as text, JSON, JSON lines, SARIF 2.1.0, or annotations of a workflow on GitHub.

Every form but SARIF prints the findings of a file as soon as the file is checked. SARIF is one document, whose tools
read it as a whole.
"""

from __future__ import annotations

import json
import os
import sys
from collections.abc import Callable, Iterator
from pathlib import Path, PurePath
from typing import Any, Protocol, TextIO
from urllib.parse import quote

from naught._version import __version__
from naught.lint.finding import RULES, UNREADABLE, Finding

SCHEMA = "https://json.schemastore.org/sarif-2.1.0.json"
PROGRESS_FILES = 16
"""Progress is shown once for this number of files, some twenty times a second: as often as an eye can follow."""


class Output(Protocol):
    """One form. `findings` is called for each file that has some, in the order of the files."""

    def findings(self, found: list[Finding]) -> None:
        """Print the findings of one file."""

    def end(self, files: int) -> None:
        """Print what comes after the findings of `files` files."""


class TextOutput:
    """`path:line:column: rule message`, and how many there are on standard error."""

    def __init__(self, stream: TextIO) -> None:
        self._stream = stream
        # How many were printed.
        self._count = 0

    def findings(self, found: list[Finding]) -> None:
        """Print a line for each finding."""
        encoding = self._stream.encoding or "utf-8"
        self._count += len(found)
        for each in found:
            # A file's name may be no valid text, and the terminal may be unable to show it.
            self._stream.write(each.text().encode(encoding, "backslashreplace").decode(encoding) + "\n")

    def end(self, files: int) -> None:
        """Print the count."""
        if self._count:
            self._stream.flush()
            plural = "" if self._count == 1 else "s"
            print(f"{self._count} finding{plural} in {files} file{'' if files == 1 else 's'}", file=sys.stderr)


class JSONOutput:
    """One JSON object, written as the findings come: `version`, `findings`, and at the end `files`."""

    def __init__(self, stream: TextIO) -> None:
        self._stream = stream
        self._before = "\n"
        stream.write('{"version": 1, "findings": [')

    def findings(self, found: list[Finding]) -> None:
        """Print the objects of an array, one a line."""
        for each in found:
            self._stream.write(self._before + json.dumps(each.as_json()))
            self._before = ",\n"

    def end(self, files: int) -> None:
        """Close the array and the object."""
        self._stream.write(f'\n], "files": {files}}}\n')


class LinesOutput:
    """One JSON object a line for each finding, and nothing else."""

    def __init__(self, stream: TextIO) -> None:
        self._stream = stream

    def findings(self, found: list[Finding]) -> None:
        """Print the objects."""
        for each in found:
            self._stream.write(json.dumps(each.as_json()) + "\n")

    def end(self, files: int) -> None:
        """Print nothing: that the lines end is the end."""


class GitHubOutput:
    """Annotations of a workflow: GitHub shows them at the lines of a pull request."""

    def __init__(self, stream: TextIO) -> None:
        self._stream = stream

    def findings(self, found: list[Finding]) -> None:
        """Print a command for each finding."""
        for each in found:
            where = {
                "file": _relative(each.path),
                "line": each.line,
                "endLine": each.end_line,
                "col": each.column,
                "title": f"{each.rule}: {RULES[each.rule]}",
            }
            written = ",".join(f"{name}={_property(str(value))}" for name, value in where.items())
            level = "error" if each.rule == UNREADABLE else "warning"
            self._stream.write(f"::{level} {written}::{_data(f'{each.rule} {each.message}')}\n")

    def end(self, files: int) -> None:
        """Print nothing."""


class SARIFOutput:
    """One SARIF 2.1.0 document, which code scanning on GitHub and other tools read."""

    def __init__(self, stream: TextIO) -> None:
        self._stream = stream
        # The findings so far, as SARIF has them.
        self._results: list[dict[str, Any]] = []

    def findings(self, found: list[Finding]) -> None:
        """Keep the findings."""
        self._results += map(self._result, found)

    def _result(self, found: Finding) -> dict[str, Any]:
        region = {"startLine": found.line, "startColumn": found.column, "endLine": found.end_line}
        place = {"artifactLocation": {"uri": _uri(found.path)}, "region": region}
        return {
            "ruleId": found.rule,
            "ruleIndex": list(RULES).index(found.rule),
            "level": "error" if found.rule == UNREADABLE else "warning",
            "message": {"text": found.message.encode("utf-8", "backslashreplace").decode()},
            "locations": [{"physicalLocation": place}],
        }

    def end(self, files: int) -> None:
        """Print the document."""
        help_text = {"text": "docs/lint.md of naught explains the rule, with an example and its correction."}
        rules = [
            {"id": rule, "shortDescription": {"text": meaning}, "help": help_text} for rule, meaning in RULES.items()
        ]
        driver = {"name": "naught lint", "version": __version__, "rules": rules}
        run = {"tool": {"driver": driver}, "columnKind": "unicodeCodePoints", "results": self._results}
        json.dump({"$schema": SCHEMA, "version": "2.1.0", "runs": [run]}, self._stream, indent=1)
        self._stream.write("\n")


FORMS: dict[str, Callable[[TextIO], Output]] = {
    "text": TextOutput,
    "json": JSONOutput,
    "jsonl": LinesOutput,
    "sarif": SARIFOutput,
    "github": GitHubOutput,
}
"""The value of `--output`, and the class that prints it."""


class Progress:
    """A line on a terminal that says how many files are checked. It is wiped before anything else is printed."""

    def __init__(self, stream: TextIO, total: int) -> None:
        self._stream = stream
        self._total = total
        # Whether the stream is a terminal that can go back to the start of a line.
        self._shows = total > 1 and stream.isatty() and os.environ.get("TERM") != "dumb"
        # The length of the line that is shown.
        self._shown = 0

    def update(self, files: int, found: int) -> None:
        """Show how many files are done, and how many findings there are, for some of the files."""
        if not self._shows or files % PROGRESS_FILES != 1:
            return
        line = f"{files} of {self._total} files checked, {found} found"
        self._stream.write("\r" + line.ljust(self._shown))
        self._stream.flush()
        self._shown = len(line)

    def wipe(self) -> None:
        """Remove the line."""
        if self._shown:
            self._stream.write("\r" + " " * self._shown + "\r")
            self._stream.flush()
            self._shown = 0


def print_all(
    checked: Iterator[list[Finding]], output: Output, progress: Progress, stream: TextIO
) -> tuple[int, int]:
    """Print the findings of each file as they come. Returns how many files and findings there were."""
    files = count = 0
    for found in checked:
        files += 1
        count += len(found)
        if found:
            progress.wipe()
            output.findings(found)
            stream.flush()
        progress.update(files, count)
    progress.wipe()
    output.end(files)
    stream.flush()
    return files, count


def _relative(path: str) -> str:
    """Return a path relative to the working directory, if it is below it, with slashes."""
    absolute = Path(os.path.abspath(path))
    here = Path.cwd()
    return (absolute.relative_to(here) if absolute.is_relative_to(here) else absolute).as_posix()


def _uri(path: str) -> str:
    """Return a path as a URI: a reference relative to the working directory, or an absolute one."""
    if path == "-":
        return "stdin"
    relative = _relative(path)
    written = quote(os.fsencode(relative))
    return f"file://{written}" if PurePath(relative).is_absolute() else written


def _data(text: str) -> str:
    """Escape the message of a workflow command."""
    text = text.encode("utf-8", "backslashreplace").decode()
    return text.replace("%", "%25").replace("\r", "%0D").replace("\n", "%0A")


def _property(text: str) -> str:
    """Escape a property of a workflow command."""
    return _data(text).replace(":", "%3A").replace(",", "%2C")
