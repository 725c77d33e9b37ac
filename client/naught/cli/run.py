"""`naught run --semaphore gpu --limit 4 -- PROGRAM ARGUMENT ...`: run a program while it holds a permit.

It waits for a permit, runs the program, and gives the permit back when the program has ended, however it ends. The
exit status is the program's; 128 and the number of the signal where a signal has ended it. `program.py` has what
concerns the process and its signals.

If the permit is lost, because the server was started anew or could not be reached for longer than the lease, another
program may get it. Standard error says so. By default the program goes on, and waits for another permit beside it;
with `--when-lost stop` it gets SIGTERM.
"""

from __future__ import annotations

import argparse
import signal
from collections.abc import Sequence
from contextlib import suppress
from typing import TYPE_CHECKING, Any, Final

from naught.cli.arguments import Parser, access_of, add_server, from_1, key, waiting_time
from naught.cli.exit_status import CANNOT_RUN, NO_PERMIT, SIGNALLED, WRONG_USAGE
from naught.cli.keys import written
from naught.cli.program import Program, Signals, status_of
from naught.cli.streams import say
from naught.errors import CallTimeout, InvalidRequest, NaughtError

if TYPE_CHECKING:
    from asyncio import AbstractEventLoop, Future, Task

    from naught.patterns import Permit, Semaphore

ENDING: Final = {signal.SIGHUP, signal.SIGINT, signal.SIGQUIT, signal.SIGTERM}
"""Signals that end the command while it waits for a permit."""

RETRY_S: Final = 1.0
"""Between two attempts to get another permit while the server cannot be reached."""


def parser() -> argparse.ArgumentParser:
    """The parser of the command."""
    found = Parser(
        "naught run",
        usage="naught run --semaphore KEY --limit N [--wait SECONDS] [--when-lost {go-on,stop}]\n"
        "                  [--url URL] [--timeout SECONDS] -- PROGRAM [ARGUMENT ...]",
        description="Run a program while it holds a permit of a semaphore, which comes back when it has ended.",
        epilog="Exit status: that of the program; 124 no permit in time, 125 no connection, 126 the program cannot "
        "be executed, 127 there is no such program, 128 and a number: ended by this signal.",
    )
    found.add_argument("--semaphore", metavar="KEY", type=key, required=True, help="the name of the semaphore")
    found.add_argument("--limit", metavar="N", type=from_1, required=True, help="permits that there are at a time")
    found.add_argument(
        "--wait",
        metavar="SECONDS",
        type=waiting_time,
        help="for a permit, at most; 0 does not wait (default: no limit)",
    )
    found.add_argument(
        "--when-lost",
        choices=("go-on", "stop"),
        default="go-on",
        help="what the program does when its permit is lost: go on, and wait for another one, or stop by SIGTERM",
    )
    add_server(found)
    found.add_argument("program", nargs=argparse.REMAINDER, metavar="PROGRAM", help="the program and its arguments")
    return found


def main(words: Sequence[str]) -> int:
    """Run the command. Returns the exit status."""
    arguments = parser().parse_args(words)
    program = arguments.program[1:] if arguments.program[:1] == ["--"] else arguments.program
    if not program:
        say("run needs a program: naught run --semaphore gpu --limit 4 -- PROGRAM")
        return WRONG_USAGE
    try:
        return _run(arguments, program)
    except OSError as error:  # of the system: no descriptor or process is left, for example
        say(str(error))
        return CANNOT_RUN


def _run(arguments: argparse.Namespace, program: Sequence[str]) -> int:
    signals = Signals()
    child = Program(program, signals.mask_before)
    import asyncio  # from here on there are threads
    import logging

    logging.getLogger("naught").addHandler(logging.NullHandler())  # what concerns the permit is said here
    run = Run(arguments, child, signals)
    try:
        return asyncio.run(run.run())
    except InvalidRequest as error:
        say(str(error))
        return WRONG_USAGE
    except NaughtError as error:
        say(str(error))
        return NO_PERMIT if isinstance(error, CallTimeout) and run.is_connected else CANNOT_RUN
    finally:
        if not run.is_started:
            child.give_up()


class Run:
    """One run of the command."""

    def __init__(self, arguments: argparse.Namespace, program: Program, signals: Signals) -> None:
        self._arguments: Final = arguments
        self._program: Final = program
        self._signals: Final = signals
        self._name: Final = written(arguments.semaphore, ascii_only=True)  # for messages
        self.is_connected = False  # there was a connection
        self.is_started = False  # the program was told to execute
        self._ended_by: int | None = None  # the signal that has ended the wait for a permit

    async def run(self) -> int:
        """Wait for a permit, and run the program. Returns the exit status."""
        import asyncio

        loop, task = asyncio.get_running_loop(), asyncio.current_task()
        assert task is not None

        def on_signal(number: int, program_had_it: bool) -> None:
            with suppress(RuntimeError):  # the loop has ended
                loop.call_soon_threadsafe(self._on_signal, task, number, program_had_it)

        self._signals.listen(on_signal)
        try:
            return await self._run(loop)
        except asyncio.CancelledError:
            if self._ended_by is None:
                raise
            task.uncancel()
            return SIGNALLED + self._ended_by

    def _on_signal(self, task: Task[int], number: int, program_had_it: bool) -> None:
        if self.is_started:
            if not program_had_it:
                self._program.send(number)
        elif number in ENDING and self._ended_by is None:
            self._ended_by = number
            task.cancel()

    async def _run(self, loop: AbstractEventLoop) -> int:
        from naught.aio.client import connect

        arguments, timeout = self._arguments, self._arguments.timeout
        access = access_of(arguments)
        async with connect(arguments.url, timeout=timeout, connect_timeout=max(timeout, 0.001), **access) as client:
            self.is_connected = True
            semaphore = client.semaphore(arguments.semaphore, arguments.limit)
            permit: Permit | None = await semaphore.acquire(timeout=arguments.wait)
            self.is_started = True
            failure = self._program.start()
            ended: Future[int] = loop.run_in_executor(None, self._program.wait)
            permit = await self._watch(ended, semaphore, permit)
            if permit is not None:
                await self._release(permit)
            status = await ended
        if failure is not None:
            say(f"{written(self._program.name, ascii_only=True)}: {failure.strerror}")
            return status_of(failure)
        return status

    async def _watch(self, ended: Future[int], semaphore: Semaphore, permit: Permit | None) -> Permit | None:
        """Until the program has ended. Returns the permit that it has then."""
        import asyncio

        while not ended.done():
            if permit is None:
                permit = await self._regain(ended, semaphore)
                continue
            lost = asyncio.ensure_future(permit.lost.wait())
            await asyncio.wait(_both(ended, lost), return_when=asyncio.FIRST_COMPLETED)
            lost.cancel()
            if permit.lost and not ended.done():
                permit = None
                if self._arguments.when_lost == "stop":
                    say(f"the permit of {self._name} is lost; the program is stopped")
                    self._program.send(signal.SIGTERM)
                    await asyncio.wait({ended})
                else:
                    say(f"the permit of {self._name} is lost; the program goes on, and waits for another one")
        return permit

    async def _regain(self, ended: Future[int], semaphore: Semaphore) -> Permit | None:
        """Another permit; None where there is none, or the program has ended meanwhile."""
        import asyncio

        acquiring = asyncio.ensure_future(semaphore.acquire())
        await asyncio.wait(_both(ended, acquiring), return_when=asyncio.FIRST_COMPLETED)
        if not acquiring.done():
            acquiring.cancel()
        try:
            permit = await acquiring
        except asyncio.CancelledError:
            return None
        except NaughtError:
            await asyncio.wait({ended}, timeout=RETRY_S)
            return None
        say(f"the program has a permit of {self._name} again")
        return permit

    async def _release(self, permit: Permit) -> None:
        try:
            await permit.release()
        except NaughtError as error:  # the end of the session gives it back
            say(str(error))


def _both(first: Future[Any], second: Future[Any]) -> list[Future[Any]]:
    return [first, second]
