"""The line that shows how far a run is: rewritten in place on a terminal, one line per second elsewhere."""

from __future__ import annotations

from typing import TextIO

from naught_loadtest.generate.runner import Progress
from naught_loadtest.measure.report import milliseconds


class ProgressLine:
    """Prints each `Progress` of a run to a stream. `end` must be called before anything else is printed there."""

    def __init__(self, stream: TextIO) -> None:
        self._stream = stream
        self._terminal = stream.isatty()
        # Length of the line on the terminal. The next one is padded to it, so that it covers the whole line.
        self._length = 0

    def show(self, progress: Progress) -> None:
        """Print one progress."""
        live = "" if progress.live is None else f"  {progress.live:>7,} live"
        self._write(
            f"{progress.at_s:>4} s  {progress.throughput:>9,}/s"
            f"  p50 {milliseconds(progress.p50_ns):>8}  p99 {milliseconds(progress.p99_ns):>8}{live}"
            f"  {progress.failed:,} failed"
        )

    def encoding(self, done: int, of: int) -> None:
        """Print how far the requests are encoded."""
        self._write(f"encoding the requests: {done:,} of {of:,} connections")

    def note(self, sentence: str) -> None:
        """Print a sentence between two lines of progress. A signal handler may call this."""
        self._write(sentence)

    def _write(self, line: str) -> None:
        if self._terminal:
            self._stream.write("\r" + line.ljust(self._length))
            self._length = len(line)
        else:
            self._stream.write(line + "\n")
        self._stream.flush()

    def end(self) -> None:
        """Finish the line, so that what is printed next begins on a new one."""
        if self._length:
            self._stream.write("\n")
            self._stream.flush()
            self._length = 0
