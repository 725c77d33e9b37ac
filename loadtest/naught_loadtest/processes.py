"""Processes that the harness starts: which environment they get, and how they are ended.

Servers, load processes, programs of client libraries and trials are processes of their own. The code that starts one
also ends it, even when the harness is interrupted: `stopped_on_signals` turns SIGTERM and SIGHUP into the exception
of Ctrl-C, so that every `with` block and every `finally` on the way out runs.
"""

from __future__ import annotations

import contextlib
import os
import signal
import subprocess
import sys
from collections.abc import Callable, Iterator
from types import FrameType
from typing import NoReturn

# How long a process may take to end after SIGTERM before it is killed.
STOP_S_MAX = 15.0


@contextlib.contextmanager
def stopped_on_signals() -> Iterator[None]:
    """Inside the block SIGTERM raises KeyboardInterrupt, as Ctrl-C does, so that started processes are ended.

    So does SIGHUP, which comes when a terminal is closed, unless it is ignored as nohup has it.
    """

    def leave(number: int, frame: FrameType | None) -> NoReturn:
        raise KeyboardInterrupt

    before = {
        number: signal.signal(number, leave)
        for number in (signal.SIGTERM, signal.SIGHUP)
        if signal.getsignal(number) != signal.SIG_IGN
    }
    try:
        yield
    finally:
        for number, handler in before.items():
            signal.signal(number, handler)


@contextlib.contextmanager
def first_interrupt(end_early: Callable[[], None]) -> Iterator[None]:
    """Inside the block the first Ctrl-C calls `end_early`, and the second raises KeyboardInterrupt as ever."""

    def interrupted(number: int, frame: FrameType | None) -> None:
        # A shell starts a program in the background with the signal ignored. Who sends it all the same means it.
        signal.signal(signal.SIGINT, before if callable(before) else signal.default_int_handler)
        end_early()

    before = signal.signal(signal.SIGINT, interrupted)
    try:
        yield
    finally:
        signal.signal(signal.SIGINT, before)


def environment() -> dict[str, str]:
    """The environment for a Python process that must be able to import what this process can import.

    The process may run in another directory, where an entry of `sys.path` that is a relative path would be another
    folder. So the entries are handed on in PYTHONPATH, the empty one (the current directory) left out.
    """
    return {**os.environ, "PYTHONPATH": os.pathsep.join(path for path in sys.path if path)}


def end(process: subprocess.Popen[bytes]) -> None:
    """End a process and wait for it: SIGTERM first, SIGKILL after `STOP_S_MAX` seconds."""
    if process.poll() is None:
        # A process stopped by SIGSTOP handles SIGTERM only once it continues. A running process ignores SIGCONT.
        process.send_signal(signal.SIGCONT)
        process.terminate()
        try:
            process.wait(STOP_S_MAX)
        except subprocess.TimeoutExpired:
            process.kill()
    process.wait()
