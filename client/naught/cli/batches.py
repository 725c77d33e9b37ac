"""Sends the lines of standard input to the server: `naught incr -`, `decr -`, `get -` and `take -`.

What has arrived is sent when the input pauses, and at most BATCH lines in a call. The lines before a bad one count.
So do those before Ctrl-C or SIGTERM: the call that is under way is given a moment to end. However it ends early,
one sentence says how many lines were done, and up to which line, so that the rest can be sent later. If nobody
reads the results any more, the lines are counted nevertheless.
"""

from __future__ import annotations

import asyncio
import signal
import sys
from collections.abc import Callable, Sequence
from types import FrameType, TracebackType
from typing import Any, Final

from naught.cli.exit_status import FAILED, OK, SIGNALLED, WRONG_USAGE
from naught.cli.keys import read_line
from naught.cli.lines import Lines
from naught.cli.output import Output, OutputClosed, OutputFailed
from naught.cli.stdin import StandardInput
from naught.cli.streams import say, write_error
from naught.errors import CommandError, InvalidRequest, NaughtError, TooLarge
from naught.wire.codec import decode_key

BATCH: Final = 1_000
"""Lines that are sent in one call: what a server does for one client in a turn."""

GRACE_S: Final = 1.0
"""How long the call that is under way may take after an interrupt."""

Send = Callable[[list[bytes], list[int]], "asyncio.Future[Any]"]
"""Sends keys with their amounts in one call. The result has an integer or an error for each."""


class Interrupts:
    """Notes the first SIGINT or SIGTERM while the block runs, where the program does not ignore them."""

    def __init__(self) -> None:
        self.status: int | None = None  # the exit status that the signal asks for
        self.noted: Final[asyncio.Future[None]] = asyncio.get_running_loop().create_future()
        self._before: Final[dict[int, Callable[[int, FrameType | None], Any] | int | None]] = {}  # handlers

    def __enter__(self) -> Interrupts:
        loop = asyncio.get_running_loop()
        for number in (signal.SIGINT, signal.SIGTERM):
            handler = signal.getsignal(number)
            if handler not in (signal.SIG_IGN, None):
                try:
                    loop.add_signal_handler(number, self.note, number)
                # Only the main thread takes signals (ValueError), and only loops that can (else a RuntimeError).
                except (ValueError, RuntimeError):
                    break
                self._before[number] = handler
        return self

    def __exit__(
        self, kind: type[BaseException] | None, error: BaseException | None, trace: TracebackType | None
    ) -> None:
        for number, handler in self._before.items():
            asyncio.get_running_loop().remove_signal_handler(number)
            signal.signal(number, handler)

    def note(self, number: int) -> None:
        """The signal has come."""
        if self.status is None:
            self.status = SIGNALLED + number
        if not self.noted.done():
            self.noted.set_result(None)


class Sending:
    """One run over the lines of standard input."""

    def __init__(self, output: Output, send: Send, *, amounts: bool, done: str) -> None:
        self._output: Final = output
        self._send: Final = send
        self._amounts: Final = amounts  # a line may have one
        self._done: Final = done  # what has happened to a line, in a word
        self._source: Final = StandardInput()
        self._lines: Final = Lines()
        self._place = 0  # the last line that was looked at
        self._good = 0  # lines that the server has taken
        self._failed = 0  # lines that it has refused
        self._unknown = 0  # lines that were sent without an answer
        self._shows_progress: Final = _is_terminal(sys.stderr) and not _is_terminal(sys.stdin)

    async def run(self) -> int:
        """Until the end of the input. Returns the exit status."""
        with Interrupts() as interrupts:
            interrupts.noted.add_done_callback(lambda _: self._source.wake())
            try:
                await self._run(interrupts)
            except KeyboardInterrupt as interrupt:  # while the reader of the output took nothing
                interrupts.note(getattr(interrupt, "number", signal.SIGINT))
            except (NaughtError, OutputFailed) as error:
                return self._ended(str(error), WRONG_USAGE if isinstance(error, InvalidRequest) else FAILED)
            except OSError as error:
                return self._ended(f"standard input cannot be read: {error.strerror}", FAILED)
            if interrupts.status is not None:
                return self._ended("interrupted", interrupts.status)
        return FAILED if self._failed else OK

    def _ended(self, why: str, status: int) -> int:
        """It has ended early: say how far it came."""
        self._end_progress()
        count = f"{self._good} line{'' if self._good == 1 else 's'}"
        place = f", up to line {self._place}" if self._place else ""
        unknown = f"; it is not known whether the next {self._unknown} were" if self._unknown else ""
        say(f"{why}; {count} {'was' if self._good == 1 else 'were'} {self._done}{place}{unknown}")
        return status

    async def _run(self, interrupts: Interrupts) -> None:
        while data := await self._source.read():
            await self._take(self._lines.feed(data), interrupts)
            self._lines.check()
        if interrupts.status is None:
            await self._take(self._lines.end(), interrupts)
        self._end_progress()

    def _end_progress(self) -> None:
        if self._shows_progress and self._place:
            write_error("\n")

    async def _take(self, lines: list[bytes], interrupts: Interrupts) -> None:
        for start in range(0, len(lines), BATCH):
            if interrupts.status is None:
                await self._take_batch(lines[start : start + BATCH], interrupts)

    async def _take_batch(self, lines: list[bytes], interrupts: Interrupts) -> None:
        keys: list[bytes] = []
        amounts: list[int] = []
        looked_at = self._place
        bad: NaughtError | None = None
        for line in lines:
            try:
                found = read_line(line, amounts=self._amounts)
            except (InvalidRequest, TooLarge) as error:
                bad = InvalidRequest(f"line {looked_at + 1} of standard input: {error}")
                break
            looked_at += 1
            if found is not None:
                keys.append(found[0])
                amounts.append(found[1])
        results = await self._call(keys, amounts, interrupts) if keys else []
        self._place = looked_at
        self._print(keys, results)
        if self._shows_progress:
            write_error(f"\r{self._place} lines")
        self._flush()
        if bad is not None:
            raise bad

    async def _call(self, keys: list[bytes], amounts: list[int], interrupts: Interrupts) -> Sequence[Any]:
        """Send one batch, and wait a moment only once there was an interrupt."""
        call = self._send(keys, amounts)
        self._unknown = len(keys)
        await asyncio.wait({call, interrupts.noted}, return_when=asyncio.FIRST_COMPLETED)
        if not call.done():
            await asyncio.wait({call}, timeout=GRACE_S)
        if not call.done():
            call.cancel()
            raise KeyboardInterrupt
        if isinstance(call.exception(), CommandError):  # the server has refused the whole call
            self._unknown = 0
        results: Sequence[Any] = call.result()
        self._unknown = 0
        return results

    def _print(self, keys: list[bytes], results: Sequence[Any]) -> None:
        good = [(decode_key(key), value) for key, value in zip(keys, results, strict=True) if isinstance(value, int)]
        self._good += len(good)
        self._failed += len(keys) - len(good)
        for key, value in zip(keys, results, strict=True):
            if not isinstance(value, int):
                say(f"{self._output.key(decode_key(key))}: {value}")
        try:
            self._output.pairs(good)
        except OutputClosed:
            self._output.discard()

    def _flush(self) -> None:
        try:
            self._output.flush()
        except OutputClosed:
            self._output.discard()


def _is_terminal(stream: Any) -> bool:
    return stream is not None and stream.isatty()


async def send_lines(output: Output, send: Send, *, amounts: bool = True, done: str = "counted") -> int:
    """Send the lines of standard input with `send`. Returns the exit status."""
    return await Sending(output, send, amounts=amounts, done=done).run()
