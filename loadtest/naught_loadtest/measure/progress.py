"""The line that shows a run is alive: rewritten in place on a terminal, a line a second elsewhere."""

from __future__ import annotations

import sys
from typing import TextIO

from naught_loadtest.generate.runner import Progress
from naught_loadtest.measure.report import milliseconds


class Live:
    """Prints progress. `end` leaves the terminal on a fresh line."""

    def __init__(self, stream: TextIO | None = None) -> None:
        self._stream = stream or sys.stderr
        self._terminal = self._stream.isatty()
        # Length of the line that stands on the terminal, to be overwritten whole.
        self._standing = 0

    def show(self, progress: Progress) -> None:
        """One progress."""
        live = "" if progress.live is None else f"   {progress.live:>7,} live"
        self._write(
            f"{progress.at_s:>4} s   {progress.throughput:>9,} op/s"
            f"   p50 {milliseconds(progress.p50_ns):>8}   p99 {milliseconds(progress.p99_ns):>8}{live}"
            f"   {progress.failed:,} failed"
        )

    def _write(self, line: str) -> None:
        if self._terminal:
            self._stream.write("\r" + line.ljust(self._standing))
            self._standing = len(line)
        else:
            self._stream.write(line + "\n")
        self._stream.flush()

    def end(self) -> None:
        """No more progress comes."""
        if self._standing:
            self._stream.write("\n")
            self._stream.flush()
            self._standing = 0
