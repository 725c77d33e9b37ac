"""The full screen of `naught watch`: asks the server, reads keys, and writes what `screen.py` makes of both.

Two tasks share a `Seen` (what the server has said) and a `View` (what is shown). One asks the server for what the
view needs, about once a second, and leaves a slow server alone for most of the time. The other draws, once a second
and whenever something happens. `Terminal` puts the terminal into the mode for this, and back whatever happens.
"""

from __future__ import annotations

import asyncio
import contextlib
import logging
import os
import signal
import sys
import termios
import tty
from collections.abc import Callable, Iterator, Mapping
from types import TracebackType
from typing import Final

from naught.aio.client import Client
from naught.cli.screen import TOP, Seen, View, ansi, keys_in, screen
from naught.errors import NaughtError

DRAW_S: Final = 1.0
"""From one drawing to the next when nothing happens: ages are shown in seconds."""

LEFT_ALONE: Final = 4
"""After an answer, the server is left alone for this multiple of the time that the answer took."""

LEFT_ALONE_S_MAX: Final = 10.0
"""But not longer."""

TOP_LEFT_ALONE: Final = 20
"""The same for the largest counters, for which a server reads all it has: they cost it 5 % of its time at most."""

_ENTER: Final = "\x1b[?1049h\x1b[?25l\x1b[2J"  # a screen of our own, without a cursor, empty
_LEAVE: Final = "\x1b[?25h\x1b[?1049l"
_CLEAR: Final = "\x1b[2J"


def can_watch() -> bool:
    """Whether there is a terminal for a full screen: keys come from it, it obeys sequences, and it can show bars."""
    streams = (sys.stdin, sys.stdout)
    if (
        not all(stream is not None and stream.isatty() for stream in streams)
        or os.environ.get("TERM", "dumb") == "dumb"
    ):
        return False
    return sys.stdout.encoding.lower().replace("-", "") == "utf8"


class Terminal:
    """The terminal of standard input and output, while the block runs in a mode for a full screen."""

    def __init__(self) -> None:
        self._input: Final = sys.stdin.fileno()
        self._before: Final = termios.tcgetattr(self._input)  # its mode, to be restored

    def __enter__(self) -> Terminal:
        tty.setcbreak(self._input)  # keys come at once and are not shown; Ctrl-C and Ctrl-Z stay signals
        self.write(_ENTER)
        return self

    def __exit__(
        self, kind: type[BaseException] | None, error: BaseException | None, trace: TracebackType | None
    ) -> None:
        self.write(_LEAVE)
        termios.tcsetattr(self._input, termios.TCSADRAIN, self._before)

    def suspend(self) -> None:
        """Stop the process as Ctrl-Z does, with the terminal as it was before. Returns when it goes on."""
        self.__exit__(None, None, None)
        os.kill(os.getpid(), signal.SIGSTOP)
        self.__enter__()

    def size(self) -> tuple[int, int]:
        """Columns and lines. A terminal that does not say has 80 and 24."""
        wide, high = os.get_terminal_size(sys.stdout.fileno())
        return wide or 80, high or 24

    def read(self) -> bytes:
        """What was typed; at least one byte, or none where the terminal is gone."""
        try:
            return os.read(self._input, 1024)
        except OSError:  # what the other end of a pseudo-terminal that has closed reads
            return b""

    def write(self, text: str) -> None:
        """Write at once."""
        sys.stdout.write(text)
        sys.stdout.flush()

    @contextlib.contextmanager
    def listening(self, on_input: Callable[[], None], on_signal: Mapping[int, Callable[[], None]]) -> Iterator[None]:
        """Call back when there is something to read and when a signal comes, while the block runs."""
        loop = asyncio.get_running_loop()
        loop.add_reader(self._input, on_input)
        for number, callback in on_signal.items():
            loop.add_signal_handler(number, callback)
        try:
            yield
        finally:
            loop.remove_reader(self._input)
            for number in on_signal:
                loop.remove_signal_handler(number)


class Watch:
    """One run of the full screen."""

    def __init__(self, client: Client[str], terminal: Terminal, *, url: str, interval: float, coloured: bool) -> None:
        self._client: Final = client
        self._terminal: Final = terminal
        self._interval: Final = interval  # seconds between two questions, at least
        self._coloured: Final = coloured
        self._clock: Final = asyncio.get_running_loop().time
        self._seen: Final = Seen(url, self._clock())
        self._view: Final = View()
        self._happened: Final = asyncio.Event()  # there is something to draw
        self._wanted: Final = asyncio.Event()  # a view needs what was not asked for yet
        self._top_due = 0.0  # when the largest counters may be asked for again

    async def run(self) -> None:
        """Until it is quit."""
        signals: dict[int, Callable[[], None]] = {
            signal.SIGWINCH: self._resized,
            signal.SIGTSTP: self._suspended,
            signal.SIGTERM: self._ended,
        }
        with self._terminal.listening(self._typed, signals):
            asking = asyncio.create_task(self._ask_always())
            try:
                while not self._view.is_over:
                    self._draw()
                    self._happened.clear()
                    with contextlib.suppress(TimeoutError):
                        async with asyncio.timeout(DRAW_S):
                            await self._happened.wait()
                    if asking.done():
                        break  # with an error that is no failure of the server: raised below
            finally:
                asking.cancel()
                with contextlib.suppress(asyncio.CancelledError):
                    await asking

    def _draw(self) -> None:
        wide, high = self._terminal.size()
        lines = screen(self._seen, self._view, wide, high, self._clock())
        self._terminal.write(ansi(lines, wide, coloured=self._coloured))

    # What happens.

    def _typed(self) -> None:
        data = self._terminal.read()
        if not data:
            self._view.is_over = True
        for key in keys_in(data):
            self._view.press(key)
            if self._view.is_paused:
                self._seen.interrupt()
            if key == "ctrl-l":
                self._terminal.write(_CLEAR)
        self._happened.set()
        self._wanted.set()

    def _resized(self) -> None:
        self._terminal.write(_CLEAR)
        self._happened.set()

    def _suspended(self) -> None:
        self._terminal.suspend()
        self._happened.set()

    def _ended(self) -> None:
        self._view.is_over = True
        self._happened.set()

    # Asking.

    async def _ask_always(self) -> None:
        while True:
            started = self._clock()
            if not self._view.is_paused:
                await self._ask()
                self._happened.set()
            took = self._clock() - started
            await self._rest(max(self._interval - took, min(LEFT_ALONE * took, LEFT_ALONE_S_MAX)))

    async def _rest(self, seconds: float) -> None:
        """Wait, but not where the view lacks what could be asked for."""
        until = self._clock() + seconds
        while True:
            self._wanted.clear()
            with contextlib.suppress(TimeoutError):
                async with asyncio.timeout_at(until):
                    await self._wanted.wait()
            if self._clock() >= until or self._lacks():
                return

    def _lacks(self) -> bool:
        if self._view.is_paused or self._seen.failure is not None:
            return False
        needed = {"counters": self._seen.top, "sessions": self._seen.sessions, "holders": self._seen.sessions}
        return self._view.name in needed and needed[self._view.name] is None

    async def _ask(self) -> None:
        seen, name = self._seen, self._view.name
        seen.ask(self._clock())
        try:
            info = await self._client.info()
            if name in ("sessions", "holders"):
                seen.answer_sessions(await self._client.sessions())
            elif name == "counters" and self._clock() >= self._top_due:
                started = self._clock()
                seen.answer_top(await self._client.top(TOP), self._clock())
                self._top_due = self._clock() + TOP_LEFT_ALONE * (self._clock() - started)
        except NaughtError as error:
            seen.fail(str(error))
        else:
            seen.answer(info, self._clock())


async def watch(client: Client[str], *, url: str, interval: float, coloured: bool) -> None:
    """Show the server until the user quits."""
    with _silent_log(), Terminal() as terminal:
        await Watch(client, terminal, url=url, interval=interval, coloured=coloured).run()


@contextlib.contextmanager
def _silent_log() -> Iterator[None]:
    """Keep what the client logs off the screen, which says itself that the server does not answer."""
    log, silent = logging.getLogger("naught"), logging.NullHandler()
    log.addHandler(silent)
    try:
        yield
    finally:
        log.removeHandler(silent)
