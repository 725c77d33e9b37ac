"""A program that another one runs in its place: forked early, executed later, waited for, and sent what signals come.

The child is forked while the process has one thread, because a fork of more than one is not safe. It waits at a
pipe until it is told to execute the program, or until its parent has ended. It stays in the process group of its
parent, so it is in the foreground of the terminal where the parent is: it reads the terminal, and what is typed
there (Ctrl-C, Ctrl-Z) reaches both. On Linux it gets SIGTERM when its parent dies without a word.

`Signals` blocks the signals that a program may be sent, and a thread waits for them. A signal that another process
has sent to the parent is passed on. One that comes from the terminal has reached the program already, and is not
sent twice.
"""

from __future__ import annotations

import errno
import os
import signal
import sys
import threading
from collections.abc import Callable, Sequence
from contextlib import suppress
from typing import Final

from naught.cli.exit_status import NOT_EXECUTABLE, NOT_FOUND, SIGNALLED

PASSED_ON: Final = tuple(
    getattr(signal, name)
    for name in ("SIGHUP", "SIGINT", "SIGQUIT", "SIGTERM", "SIGUSR1", "SIGUSR2", "SIGWINCH")
    if hasattr(signal, name)
)

_PR_SET_PDEATHSIG: Final = 1  # of prctl(2)


class Signals:
    """The signals of PASSED_ON, from the moment this is made. Those that are ignored stay ignored, as after
    `nohup`."""

    def __init__(self) -> None:
        waited_for = {each for each in PASSED_ON if signal.getsignal(each) is not signal.SIG_IGN}
        self._waited_for: Final = waited_for
        self.mask_before: Final = signal.pthread_sigmask(signal.SIG_BLOCK, waited_for)

    def listen(self, on_signal: Callable[[int, bool], None]) -> None:
        """Call back in a thread of its own, with the number, and whether the program has had the signal already."""
        threading.Thread(target=self._listen, args=(on_signal,), daemon=True).start()

    def _listen(self, on_signal: Callable[[int, bool], None]) -> None:
        while True:
            number, from_system = self._wait()
            on_signal(number, from_system and not _is_hangup_of_leader(number))

    def _wait(self) -> tuple[int, bool]:
        """The next signal, and whether the terminal has sent it."""
        if hasattr(signal, "sigwaitinfo"):
            found = signal.sigwaitinfo(self._waited_for)
            return found.si_signo, found.si_code > 0  # 0 and less are of other processes
        number = signal.sigwait(self._waited_for)  # macOS does not say who has sent it
        return number, number in (signal.SIGINT, signal.SIGQUIT, signal.SIGWINCH) and _is_in_foreground()


def _is_hangup_of_leader(number: int) -> bool:
    """A terminal that is gone tells the leader of its session alone."""
    return number == signal.SIGHUP and os.getsid(0) == os.getpid()


def _is_in_foreground() -> bool:
    try:
        with open("/dev/tty") as terminal:
            return os.tcgetpgrp(terminal.fileno()) == os.getpgrp()
    except OSError:
        return False


class Program:
    """One program. Made by forking, so before there are threads and connections."""

    def __init__(self, words: Sequence[str], mask: set[int] | set[signal.Signals]) -> None:
        self.name: Final = words[0]
        go, self._go = os.pipe()  # a byte: execute it; the end: do not
        self._failure, failure = os.pipe()  # why it could not be executed; the end when it is
        parent = os.getpid()
        self.pid: Final = os.fork()
        if self.pid == 0:
            os.close(self._go)
            _be_child(words, go, failure, parent, mask)
        os.close(go)
        os.close(failure)
        self._has_ended = False  # its number may belong to another process by now

    def start(self) -> OSError | None:
        """Execute it. Returns why that is not possible; None where it runs."""
        with suppress(BrokenPipeError):  # something has ended the child: its status says so
            os.write(self._go, b"!")
        os.close(self._go)
        with os.fdopen(self._failure, "rb") as failure:
            number = failure.read()
        if not number:
            return None
        return OSError(int(number), os.strerror(int(number)))

    def give_up(self) -> None:
        """Do not execute it."""
        os.close(self._go)
        os.close(self._failure)
        self.wait()

    def wait(self) -> int:
        """Wait until it has ended. Returns its exit status, as shells have it."""
        _, status = os.waitpid(self.pid, 0)
        self._has_ended = True
        code = os.waitstatus_to_exitcode(status)
        return code if code >= 0 else SIGNALLED - code

    def send(self, number: int) -> None:
        """Send it a signal, if it still runs."""
        if not self._has_ended:
            with suppress(ProcessLookupError, PermissionError):
                os.kill(self.pid, number)


def status_of(error: OSError) -> int:
    """The exit status for a program that could not be executed."""
    return NOT_FOUND if isinstance(error, FileNotFoundError | NotADirectoryError) else NOT_EXECUTABLE


def _be_child(words: Sequence[str], go: int, failure: int, parent: int, mask: set[int] | set[signal.Signals]) -> None:
    """Execute the program, or end. Never returns."""
    try:
        _end_with_parent()
        if os.getppid() == parent and os.read(go, 1):
            for name in ("SIGPIPE", "SIGXFSZ", "SIGXFZ"):  # which Python ignores, and programs do not expect to be
                if hasattr(signal, name):
                    signal.signal(getattr(signal, name), signal.SIG_DFL)
            if signal.getsignal(signal.SIGINT) is not signal.SIG_IGN:
                signal.signal(signal.SIGINT, signal.SIG_DFL)
            signal.pthread_sigmask(signal.SIG_SETMASK, mask)
            os.execvp(words[0], list(words))
    except OSError as error:
        os.write(failure, str(error.errno).encode())
    except ValueError:  # an empty name
        os.write(failure, str(errno.ENOENT).encode())
    finally:
        os._exit(NOT_FOUND)


def _end_with_parent() -> None:
    """Have the system send SIGTERM when the parent has died. It keeps that over the execution of a program."""
    if sys.platform == "linux":
        with suppress(ImportError, OSError, AttributeError):
            import ctypes

            ctypes.CDLL(None).prctl(_PR_SET_PDEATHSIG, signal.SIGTERM, 0, 0, 0)
