"""Standard output of a command.

Results go to standard output, as text or with `--json` as JSON, in UTF-8. Where standard output is in another
encoding, which Python takes from the locale, they are in ASCII, with the other characters spelled out. Everything
is collected and written by `flush`, past the buffers of Python, which would try again at the exit to write what
could not be written. Two things can go wrong:

- the reader of the output has closed it, as `head` does: `OutputClosed`. The command ends and that is no error, or
  it goes on and prints nothing more;
- the system refuses the output, as on a full disk, or standard output was closed from the beginning: `OutputFailed`.

What is said to the user goes to standard error: `streams.py`.
"""

from __future__ import annotations

import codecs
import io
import os
import select
import signal
import sys
from collections.abc import Iterable, Iterator, Sequence
from contextlib import contextmanager, suppress
from typing import Any, Final, TextIO

from naught.cli.keys import written
from naught.cli.text import WIDTH_MIN, shown

COLLECTED_MAX: Final = 1_000
"""Pieces of output that are collected at most, before they are written."""


class OutputClosed(Exception):
    """Nobody reads standard output any more."""


class OutputFailed(Exception):
    """Standard output cannot be written; the message is a sentence."""


class Output:
    """Standard output, as lines of text or as JSON."""

    def __init__(self, stream: TextIO | None, *, as_json: bool) -> None:
        self.as_json: Final = as_json
        self._stream: Final = stream
        self._pieces: list[str] = []  # what `flush` writes
        self._is_discarded = False  # nothing is printed any more
        self._is_utf8: Final = stream is not None and is_utf8(stream)
        is_terminal = stream is not None and stream.isatty()
        self.coloured: Final = is_terminal and not os.environ.get("NO_COLOR")
        # A table is as wide as the terminal.
        self.width: Final = max(WIDTH_MIN, _columns() if is_terminal else WIDTH_MIN)

    def json(self, value: Any) -> None:
        """Print one value as a line of JSON, in ASCII."""
        import json  # it takes a good part of the time in which a command starts

        self._print(json.dumps(value) + "\n")

    def line(self, *cells: object) -> None:
        """Print one line of text; tabs separate the cells, so that `cut` can select them. Texts are not escaped."""
        self._print("\t".join(map(str, cells)) + "\n")

    def pairs(self, pairs: Sequence[tuple[str, int]]) -> None:
        """Print keys with values, a line each, as standard input is read (`keys.py`)."""
        if self.as_json:
            for key, value in pairs:
                self.json({"key": key, "value": value})
        else:
            for key, value in pairs:
                self._print(f"{self.key(key)}\t{value}\n")

    def key(self, key: str) -> str:
        """A key, as it is printed here."""
        return written(key, ascii_only=not self._is_utf8)

    def lines(self, lines: Iterable[str]) -> None:
        """Print lines of text as they are."""
        for line in lines:
            self._print(f"{line}\n")

    def value(self, value: object) -> None:
        """Print the only result of a command."""
        if self.as_json:
            self.json(value)
        else:
            self.line(shown(value))

    def _print(self, text: str) -> None:
        self._pieces.append(text)
        if len(self._pieces) >= COLLECTED_MAX:
            self.flush()

    def flush(self) -> None:
        """Write everything that was printed. Raises OutputClosed, OutputFailed, and KeyboardInterrupt at a Ctrl-C
        while the reader takes nothing."""
        text = "".join(self._pieces)
        self._pieces.clear()
        if not text or self._is_discarded:
            return
        if self._stream is None:
            raise OutputFailed("standard output is closed")
        try:
            with _interruptible():
                _write(self._stream, text.encode("utf-8" if self._is_utf8 else "ascii", "backslashreplace"))
        except BrokenPipeError:
            raise OutputClosed from None
        except OSError as error:
            raise OutputFailed(f"standard output cannot be written: {error.strerror}") from None

    def discard(self) -> None:
        """Print nothing from now on."""
        self._is_discarded = True
        self._pieces.clear()


def is_utf8(stream: TextIO) -> bool:
    """Whether the stream's encoding is UTF-8."""
    try:
        return codecs.lookup(stream.encoding or "ascii").name.startswith("utf-8")
    except LookupError:
        return False


def _columns() -> int:
    with suppress(OSError, ValueError):
        return os.get_terminal_size(sys.stdout.fileno()).columns
    return 0


def _write(stream: TextIO, data: bytes) -> None:
    """Write past the stream's buffers where it is a file."""
    try:
        descriptor = stream.fileno()
    except (AttributeError, io.UnsupportedOperation):  # a stream that is none of the system's
        stream.buffer.write(data)
        stream.flush()
        return
    while data:
        try:
            data = data[os.write(descriptor, data) :]
        except BlockingIOError:  # another program has made the pipe non-blocking, for all that use it
            select.select([], [descriptor], [])


class Interrupted(KeyboardInterrupt):
    """A signal has come while a write waited for the reader."""

    def __init__(self, number: int) -> None:
        super().__init__()
        self.number: Final = number


def _interrupt(number: int, _: object) -> None:
    raise Interrupted(number)


@contextmanager
def _interruptible() -> Iterator[None]:
    """Have Ctrl-C and SIGTERM end a write that waits for the reader.

    The event loop, where it handles them, would only note them until the write is over.
    """
    handlers = {number: signal.getsignal(number) for number in (signal.SIGINT, signal.SIGTERM)}
    noted = {number: handler for number, handler in handlers.items() if callable(handler)}
    try:
        for number in noted:
            signal.signal(number, _interrupt)
    except ValueError:  # not in the main thread
        noted = {}
    try:
        yield
    finally:
        for number, handler in noted.items():
            signal.signal(number, handler)
