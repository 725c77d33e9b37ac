"""A process that ends for want of memory, while what it needs for that is not there. A program.

    python tests/support/no_memory_end.py HOW

`lock`      the thread that writes the log gets no memory for a moment, and then the process ends
`blocked`   a handler of the log waits for ever
`pipe`      nobody reads standard error, which is full
`thread`    a thread gets no memory
`ignored`   a callback of the garbage collector gets none, of which nobody is told
`reported`  a library catches the exception, and logs it
`stuck`     the loop does not come out of a turn
`stopped`   the process is stopped for longer than a turn may take, and goes on: it prints `serves`
"""

from __future__ import annotations

import asyncio
import gc
import logging
import os
import signal
import sys
import threading
import time
from pathlib import Path

if __name__ == "__main__":
    sys.path.insert(0, str(Path(__file__).parents[1]))

import _testcapi

from naught_server import exhausted, logs

STUCK_CPU_S = 0.1


def lock() -> None:
    logs._ALIKE_WINDOW_S = 0.02  # type: ignore[misc]
    logs.set_up()
    writer = logs._handlers()[0].writer
    tick, failing = writer._tick, False

    def fail() -> None:
        nonlocal failing
        tick()
        if not failing:
            failing = True
            _testcapi.set_nomemory(3, 9)

    writer._tick = fail
    time.sleep(0.3)  # needs no memory; the other thread dies meanwhile, or has come through
    assert failing
    _testcapi.remove_mem_hooks()
    exhausted.end_process(MemoryError())


def blocked() -> None:
    class Waits(logging.Handler):
        def emit(self, record: logging.LogRecord) -> None:
            threading.Semaphore(0).acquire()

    exhausted.END_S_MAX = 0.2  # type: ignore[misc]
    logging.getLogger(logs.LOGGER_NAME).addHandler(Waits())
    exhausted.end_process(MemoryError())


def pipe() -> None:
    _reader, writer = os.pipe()
    os.set_blocking(writer, False)
    try:
        while True:
            os.write(writer, bytes(4096))
    except BlockingIOError:
        os.set_blocking(writer, True)
    os.dup2(writer, 2)
    logs.set_up()
    exhausted.END_S_MAX = 0.2  # type: ignore[misc]
    exhausted.end_process(MemoryError())


def thread() -> None:
    def fail() -> None:
        raise MemoryError

    with exhausted.watch():
        started = threading.Thread(target=fail)
        started.start()
        started.join()


def ignored() -> None:
    def fail(phase: str, info: dict[str, int]) -> None:
        raise MemoryError

    with exhausted.watch():
        gc.callbacks.append(fail)
        gc.collect()


def reported() -> None:
    with exhausted.watch():
        try:
            raise MemoryError
        except MemoryError:
            logging.getLogger("concurrent.futures").exception("exception calling callback")


def stuck() -> None:
    async def spin() -> None:
        exhausted.LoopWatch(STUCK_CPU_S)
        while True:
            pass

    with exhausted.watch():
        asyncio.run(spin())


def stopped() -> None:
    async def be_stopped() -> None:
        watch = exhausted.LoopWatch(STUCK_CPU_S)
        if os.fork():
            signal.sigtimedwait([signal.SIGCHLD], 10)  # it is stopped now, and continued by its child
        else:
            parent = os.getppid()
            os.kill(parent, signal.SIGSTOP)
            signal.sigtimedwait([signal.SIGUSR1], 3 * STUCK_CPU_S)
            os.kill(parent, signal.SIGCONT)
            os._exit(0)
        await asyncio.sleep(0)
        watch.close()
        print("serves")

    signal.pthread_sigmask(signal.SIG_BLOCK, [signal.SIGCHLD, signal.SIGUSR1])
    with exhausted.watch():
        asyncio.run(be_stopped())


if __name__ == "__main__":
    globals()[sys.argv[1]]()
