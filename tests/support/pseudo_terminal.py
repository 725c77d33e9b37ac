"""A program in a pseudo-terminal, and what its user sees there.

    async with PseudoTerminal(["naught", "watch"], environment) as terminal:
        await terminal.until(r"commands/s")         # until the screen shows it
        terminal.type("q")
        assert await terminal.ended() == 0

The terminal understands the sequences that `naught watch` may send and no others: any other fails the test, as it
could come from a hostile name.
"""

from __future__ import annotations

import asyncio
import codecs
import fcntl
import os
import pty
import re
import struct
import subprocess
import sys
import termios
import unicodedata
from collections.abc import Mapping, Sequence
from typing import Any, Final

GUARD_S: Final = 30.0

# The program gets the terminal as its controlling terminal, so that keys become signals and a new size is told. Tests
# that run in the background may ignore SIGINT, and child processes inherit that.
AS_IN_A_TERMINAL: Final = (
    "import fcntl, runpy, signal, sys, termios; fcntl.ioctl(0, termios.TIOCSCTTY, 0);"
    "signal.signal(signal.SIGINT, signal.default_int_handler); runpy.run_module('naught', run_name='__main__')"
)

TOKEN: Final = re.compile(r"\x1b\[(\??)([0-9;]*)([A-Za-z])|([^\x1b])", re.DOTALL)


class Screen:
    """What a terminal shows."""

    def __init__(self, columns: int, lines: int) -> None:
        self.modes: set[str] = set()  # private modes that are set: 1049 is the screen of a program
        self._rest = ""  # the beginning of a sequence that has not come wholly
        self.resize(columns, lines)

    def resize(self, columns: int, lines: int) -> None:
        self._columns, self._lines = columns, lines
        self._cells = [[" "] * columns for _ in range(lines)]
        self._row = self._column = 0

    def feed(self, text: str) -> None:
        text = self._rest + text
        whole = re.sub(r"\x1b(\[[?0-9;]*)?\Z", "", text)
        self._rest = text[len(whole) :]
        place = 0
        for token in TOKEN.finditer(whole):
            assert token.start() == place, f"a sequence that is not known: {whole[place : place + 20]!r}"
            place = token.end()
            private, numbers, final, character = token.groups()
            if character is not None:
                self._show(character)
            else:
                self._obey(private, numbers, final)
        assert place == len(whole), f"a sequence that is not known: {whole[place : place + 20]!r}"

    def _show(self, character: str) -> None:
        if character == "\r":
            self._column = 0
        elif character == "\n":
            assert self._row < self._lines - 1 or "1049" not in self.modes, "a full screen scrolls"
            self._row = min(self._row + 1, self._lines - 1)
        else:
            assert character.isprintable(), f"a terminal would obey {character!r}"
            if unicodedata.category(character) in ("Mn", "Me"):
                return
            wide = 2 if unicodedata.east_asian_width(character) in ("W", "F") else 1
            if "1049" in self.modes:
                assert self._column + wide <= self._columns, f"a line is wider than the screen: {self.text()}"
            elif self._column + wide > self._columns:
                self._column = 0
            self._cells[self._row][self._column] = character
            self._column += wide

    def _obey(self, private: str, numbers: str, final: str) -> None:
        if final == "m" and not private:
            return
        if private and final in "hl":
            (self.modes.add if final == "h" else self.modes.discard)(numbers)
        elif (final, numbers) == ("H", ""):
            self._row = self._column = 0
        elif (final, numbers) == ("K", ""):
            assert self._column < self._columns, "it would erase the last column"
            self._cells[self._row][self._column :] = [" "] * (self._columns - self._column)
        elif (final, numbers) == ("J", "2"):
            self._cells = [[" "] * self._columns for _ in range(self._lines)]
        else:
            raise AssertionError(f"a sequence that is not known: {private}{numbers}{final}")

    def text(self) -> str:
        """The lines, without blanks at their ends."""
        return "\n".join("".join(row).rstrip() for row in self._cells)


def _keep_output_at_signals(terminal: int) -> None:
    """Unless told so, a terminal drops what it has not shown yet after it has sent a signal for a key: also what the
    program writes because of this signal."""
    modes = termios.tcgetattr(terminal)
    modes[3] |= termios.NOFLSH
    termios.tcsetattr(terminal, termios.TCSANOW, modes)


class PseudoTerminal:
    """The other end of the terminal that a `naught` command runs in."""

    def __init__(
        self, words: Sequence[str], environment: Mapping[str, str], *, columns: int = 100, lines: int = 30
    ) -> None:
        self._words = words
        self._environment = environment
        self.screen = Screen(columns, lines)
        self._size = (columns, lines)
        self._changed = asyncio.Event()
        self._decoder = codecs.getincrementaldecoder("utf-8")()  # a read may end within a character
        self._fault: AssertionError | None = None  # of what was written, to be raised where a test looks

    async def __aenter__(self) -> PseudoTerminal:
        self._ours, theirs = pty.openpty()
        self._set_size(*self._size)
        _keep_output_at_signals(theirs)
        self.modes = termios.tcgetattr(theirs)  # before the program has changed anything
        self._theirs = theirs
        self.process = subprocess.Popen(  # noqa: ASYNC220 - it has a thread that waits for it
            [sys.executable, "-W", "error", "-c", AS_IN_A_TERMINAL, *self._words],
            stdin=theirs,
            stdout=theirs,
            stderr=theirs,
            env={"TERM": "xterm", **self._environment, "PYTHONIOENCODING": "utf-8"},
            start_new_session=True,
        )
        os.set_blocking(self._ours, False)
        asyncio.get_running_loop().add_reader(self._ours, self._read)
        return self

    async def __aexit__(self, *_: object) -> None:
        asyncio.get_running_loop().remove_reader(self._ours)
        if self.process.poll() is None:
            self.process.kill()
        self.process.wait()
        os.close(self._ours)
        os.close(self._theirs)

    def _read(self) -> None:
        try:
            data = os.read(self._ours, 1 << 16)
        except OSError:  # the program has ended, or there is nothing to read
            return
        self._feed(data)
        self._changed.set()

    def _feed(self, data: bytes) -> None:
        try:
            self.screen.feed(self._decoder.decode(data))
        except AssertionError as error:
            self._fault = self._fault or error

    def _set_size(self, columns: int, lines: int) -> None:
        fcntl.ioctl(self._ours, termios.TIOCSWINSZ, struct.pack("HHHH", lines, columns, 0, 0))

    def resize(self, columns: int, lines: int) -> None:
        """Give the terminal another size, of which the program is told."""
        self.screen.resize(columns, lines)
        self._set_size(columns, lines)

    def type(self, keys: str) -> None:
        """Type keys."""
        os.write(self._ours, keys.encode())

    async def until(self, pattern: str) -> str:
        """Until the screen shows this. Returns all that it shows."""
        try:
            async with asyncio.timeout(GUARD_S):
                while self._fault is None and not re.search(pattern, self.screen.text()):
                    self._changed.clear()
                    await self._changed.wait()
        except TimeoutError:
            raise AssertionError(f"no {pattern!r} on the screen:\n{self.screen.text()}") from None
        self._check()
        return self.screen.text()

    def _check(self) -> None:
        if self._fault is not None:
            raise self._fault

    async def ended(self) -> int:
        """Until the program has ended, and all that it wrote was read. Returns its exit status."""
        status = await asyncio.to_thread(self.process.wait, GUARD_S)
        self.read_rest()
        return status

    def read_rest(self) -> None:
        """Read what was written so far."""
        while True:
            try:
                data = os.read(self._ours, 1 << 16)
            except OSError:
                break
            if not data:
                break
            self._feed(data)
        self._check()

    def modes_now(self) -> list[Any]:
        """The modes of the terminal."""
        return termios.tcgetattr(self._theirs)
