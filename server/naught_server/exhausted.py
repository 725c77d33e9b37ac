"""What happens when there is no memory: the process ends.

An allocation can fail at any place of a command, after it has changed one counter and before it has changed the next.
Undoing would need memory too. So nothing is undone and nothing is answered: replies of that turn were not sent, the
process ends, and its clients learn that the outcome is unknown, as after any other end of it. A supervisor starts it
again. Redis does the same.

Saying so and ending need some memory too, and so does noticing. What there is for that, from the usual to the last:

- `end_process` is called where a MemoryError comes out of a turn, the sweeper or a callback of the loop.
- `watch` has it called where nobody is told: for what the interpreter reports as ignored (an exception within the C
  code of uvloop, in a callback of the garbage collector), for a thread that dies, and for what libraries only log.
- An alarm of the kernel ends the process `END_S_MAX` after `end_process` has begun, whatever that waits for.
- Another one ends it when the loop has used `STUCK_CPU_S` of processor time without coming to a turn. That needs no
  memory, and no lock of the interpreter. It is there for a fault of CPython 3.11 to 3.13: an exception that passes a
  `finally` or `except` far behind in its function needs memory for a number, and where there is none it is tried
  again for ever. The time is that of the processor, so a process that was stopped, or has no core, is not hit.

An alarm ends the process by its signal: SIGALRM, SIGPROF. The signal handlers of Python would need memory.

The limits of the configuration add up to what a server needs at most; `--print-config` says how much that is.
"""

from __future__ import annotations

import asyncio
import contextlib
import logging
import os
import signal
import sys
import threading
from collections.abc import Iterator
from typing import Final, NoReturn

from naught_server.fatal import FATAL
from naught_server.logs import LOGGER_NAME, flush, lines_dropped

EXIT_STATUS: Final = 71
"""EX_OSERR of sysexits.h: the system could not give what was asked for."""

END_S_MAX: Final = 3.0
"""How long the process takes to end at most. Writing the log may take a second of it."""

STUCK_CPU_S: Final = 10.0
"""How much processor time the loop may use without a turn. Turns take milliseconds, and what takes longest, a full
collection of millions of objects, about a second."""

ALIVE_EVERY_S: Final = 1.0
"""How often the loop says that it turns."""

_LIBRARIES: Final = ("asyncio", "concurrent.futures")
"""Loggers of those that catch an exception of ours, and go on."""

_LINE: Final = b"naught-server: out of memory: the process ends\n"
"""Made beforehand: there may be no memory for another."""


def end_process(fault: BaseException) -> NoReturn:
    """End it at once, whatever is under way. Says so in the log, or if there is no memory for that, in a line."""
    try:
        signal.setitimer(signal.ITIMER_REAL, END_S_MAX)
        dropped = lines_dropped()
        logging.getLogger(LOGGER_NAME).critical("out of memory: the process ends", exc_info=fault)
        if not flush() or lines_dropped() > dropped:
            os.write(2, _LINE)
    except BaseException:
        try:  # noqa: SIM105 - contextlib.suppress needs memory
            os.write(2, _LINE)
        except OSError:
            pass
    finally:
        os._exit(EXIT_STATUS)


@contextlib.contextmanager
def watch() -> Iterator[None]:
    """While the block runs, end the process for a lack of memory that nobody else is told of. Of the main thread."""
    before = sys.unraisablehook, threading.excepthook
    handler = _Reports()
    for number in (signal.SIGALRM, signal.SIGPROF):  # ignored, they would end nothing
        signal.signal(number, signal.SIG_DFL)
    sys.unraisablehook = _on_unraisable
    threading.excepthook = _on_thread_end
    for name in _LIBRARIES:
        logging.getLogger(name).addHandler(handler)
    try:
        yield
    finally:
        for name in _LIBRARIES:
            logging.getLogger(name).removeHandler(handler)
        sys.unraisablehook, threading.excepthook = before


def _on_unraisable(ignored: sys.UnraisableHookArgs) -> None:
    if issubclass(ignored.exc_type, FATAL):
        end_process(ignored.exc_value or MemoryError())
    sys.__unraisablehook__(ignored)


def _on_thread_end(ended: threading.ExceptHookArgs) -> None:
    if issubclass(ended.exc_type, FATAL):
        end_process(ended.exc_value or MemoryError())
    threading.__excepthook__(ended)


class _Reports(logging.Handler):
    """Ends the process for a record that has a lack of memory as its exception."""

    def emit(self, record: logging.LogRecord) -> None:
        fault = record.exc_info[1] if record.exc_info else None
        if isinstance(fault, FATAL):
            end_process(fault)


class LoopWatch:
    """Ends the process when the loop is stuck in a turn. `close` ends the watch."""

    def __init__(self, stuck_cpu_s: float | None = None) -> None:
        self._stuck_cpu_s = STUCK_CPU_S if stuck_cpu_s is None else stuck_cpu_s
        self._loop = asyncio.get_running_loop()
        self._timer: asyncio.TimerHandle | None = None  # None once it is closed
        self._turn()

    def _turn(self) -> None:
        signal.setitimer(signal.ITIMER_PROF, self._stuck_cpu_s)
        self._timer = self._loop.call_later(ALIVE_EVERY_S, self._turn)

    def close(self) -> None:
        """Watch no more."""
        if self._timer is not None:
            self._timer.cancel()
            self._timer = None
        signal.setitimer(signal.ITIMER_PROF, 0)
