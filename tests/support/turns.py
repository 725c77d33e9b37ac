"""A deterministic scheduler for real threads: one runs at a time, on a virtual clock that advances when all wait.

    turns = Turns(seed)
    with turns.installed():                    # naught.blocking uses the threads and the clock of this module
        turns.spawn("a", lambda: ...)
        turns.run()                            # raises what a thread raised, or Deadlock

A thread lets another one run where it waits, and with probability `preempt` before any line of the client for
threads, or with `opcodes` before any instruction. The next thread is drawn at random, so a seed determines the
interleaving. When all threads wait forever, `Deadlock` is raised at once.

A *patient* thread is the test itself: it runs when no other thread can, and before time passes. It can stop another
thread where a function is called or before a line, and let it go on later.

`interrupt` interrupts a thread as a signal handler would, at the points where CPython checks for signals: when a
function is entered, when a call of a C function has returned, and in a wait that a signal can break off.
"""

from __future__ import annotations

import errno
import linecache
import select
import sys
import threading
from collections.abc import Callable, Iterator
from contextlib import contextmanager
from random import Random
from types import FrameType, SimpleNamespace
from typing import Any

import pytest

from naught.blocking import future, gathering, keeper, link
from naught.blocking.crowd import LOOK_S

GUARD_S = 30.0
"""Real seconds after which a thread that does not end its turn is a failure."""

SPINS = 1_000
"""The most times a thread may take the lock without waiting once."""

_CLIENT = "naught."
_THREADS = frozenset(module.__name__ for module in (future, gathering, keeper, link))
"""Modules in which a thread may be preempted. Not the client's own: the collector calls its finalizer at any time."""


class Stopped(BaseException):
    """Raised in threads that are left when the test is over."""


class Deadlock(AssertionError):
    """All threads wait, and no time limit will wake one."""


class Task:
    """One thread."""

    def __init__(self, name: str, patient: bool) -> None:
        self.name = name
        self.patient = patient
        self.baton = threading.Lock()  # locked while it is not its turn
        self.baton.acquire()
        self.ready: Callable[[], bool] | None = None  # the condition it waits for; None while it can go on
        self.due: float | None = None  # when its wait times out
        self.ended = False
        self.wakes = 0  # waits that have ended
        self.busy = 0  # times it has taken the lock since the last wait
        self.main = False  # it is the main thread, which handles signals
        self.interrupt: Callable[[], None] | None = None  # the signal handler to call, once
        self.chance = 0.0  # the probability of calling it at the next possible point
        self.breakable = False  # it is in a wait that a signal breaks off
        self.stops: set[str] = set()  # functions it stops at, by qualified name, and lines, by their text
        self.at: str | None = None  # where it is stopped now
        self.thread: threading.Thread | None = None

    def may_run(self, now: float) -> bool:
        return not self.ended and (
            self.ready is None or self.ready() or (self.due is not None and self.due <= now) or self.interrupts_wait()
        )

    def interrupts_wait(self) -> bool:
        return self.breakable and self.interrupt is not None and self.chance >= 1.0


class Turns:
    """See the module."""

    def __init__(self, seed: int = 0, preempt: float = 0.0, opcodes: bool = False) -> None:
        self.now = 1_000.0
        self.random = Random(seed)
        self.preempt = preempt
        self.opcodes = opcodes
        self.tasks: list[Task] = []
        self.failure: BaseException | None = None
        self.stopping = False
        self.descriptors: dict[int, Any] = {}  # open descriptors, by number
        self._current: Task | None = None
        self._own = threading.local()
        self._over = threading.Lock()
        self._over.acquire()

    # Threads.

    def spawn(self, name: str, function: Callable[[], object], *, patient: bool = False) -> Task:
        """Start a thread. It has its first turn when another thread gives up its own."""
        task = Task(name, patient)
        task.thread = threading.Thread(target=self._run_task, args=(task, function), name=name, daemon=True)
        self.tasks.append(task)
        task.thread.start()
        return task

    def me(self) -> Task:
        task: Task = self._own.task
        return task

    def _run_task(self, task: Task, function: Callable[[], object]) -> None:
        self._own.task = task
        task.baton.acquire()
        try:
            if not self.stopping:
                sys.settrace(self._entered)
                function()
        except Stopped:
            pass
        except BaseException as error:
            if self.failure is None:
                self.failure = error
        finally:
            sys.settrace(None)
            sys.setprofile(None)
            task.ended = True
            self._pass_on()

    def run(self) -> None:
        """Run until all threads have ended. Raises the first exception of a thread."""
        self._pass_on()
        if not self._over.acquire(timeout=GUARD_S):
            self.failure = Deadlock(f"{self._current and self._current.name} kept its turn")
        self.stopping = True
        for task in self.tasks:
            if not task.ended:
                task.baton.release()
            assert task.thread is not None
            task.thread.join(GUARD_S)
        if self.failure is not None:
            raise self.failure

    def _pass_on(self) -> None:
        """Give the turn to the next thread, if there is one. Called by a thread that has ended, and by `run`."""
        if self.stopping:
            return
        following = None if self.failure is not None else self._next()
        if following is None:
            self._over.release()
        else:
            self._current = following
            following.baton.release()

    def _next(self) -> Task | None:
        """The next thread. None when all have ended, or none will ever go on."""
        while True:
            able = [task for task in self.tasks if task.may_run(self.now)]
            hasty = [task for task in able if not task.patient]
            if hasty or able:
                return self.random.choice(hasty or able)
            dues = [task.due for task in self.tasks if not task.ended and task.due is not None]
            if not dues:
                waiting = [task.name for task in self.tasks if not task.ended]
                if waiting and self.failure is None:
                    self.failure = Deadlock(f"these wait forever: {', '.join(waiting)}")
                return None
            self.now = max(self.now, min(dues))

    def switch(self) -> None:
        """Let another thread run, or the same one again."""
        if self.stopping:
            raise Stopped
        task = self.me()
        following = self._next()
        if following is task:
            return
        if following is None:
            self._over.release()
        else:
            self._current = following
            following.baton.release()
        task.baton.acquire()
        if self.stopping:
            raise Stopped

    def block(self, ready: Callable[[], bool], timeout: float | None = None, *, breakable: bool = False) -> bool:
        """Wait until `ready()` is true (True) or `timeout` seconds have passed (False)."""
        task = self.me()
        due = None if timeout is None else self.now + timeout
        while not ready():
            if due is not None and due <= self.now:
                return False
            task.ready, task.due, task.breakable = ready, due, breakable
            try:
                self.switch()
            finally:
                task.ready = task.due = None
                task.breakable = False
            task.wakes += 1
            task.busy = 0
            if breakable:
                self._interrupt_now(task)
        return True

    def sleep(self, seconds: float) -> None:
        self.block(lambda: False, seconds)

    def settle(self) -> None:
        """For a patient thread: wait until no other thread can go on at this time."""
        self.switch()

    # Where a thread is preempted, stopped, or interrupted.

    def _entered(self, frame: FrameType, event: str, _: Any) -> Any:
        module = frame.f_globals.get("__name__", "")
        if not module.startswith(_CLIENT):
            return None
        task = self.me()
        if task.main and sys.getprofile() is None:  # which a handler that raises takes away
            sys.setprofile(self._passed)
        self._stop(task, frame.f_code.co_qualname)
        if module not in _THREADS or not (self.preempt or task.stops):
            return None
        frame.f_trace_opcodes = self.opcodes
        return self._went_on

    def _went_on(self, frame: FrameType, event: str, _: Any) -> Any:
        if event in {"line", "opcode"}:
            if self.preempt and self.random.random() < self.preempt:
                self.switch()
            task = self.me()
            if task.stops:
                self._stop(task, linecache.getline(frame.f_code.co_filename, frame.f_lineno).strip())
        return self._went_on

    def _stop(self, task: Task, where: str) -> None:
        if where in task.stops:
            task.stops.discard(where)
            task.at = where
            self.block(lambda: task.at is None)

    def interrupt(self, task: Task, what: Callable[[], None], chance: float = 1.0) -> None:
        """Have `what` interrupt a thread once, with this probability at each point from now on. `task.main` must be
        set before the thread begins."""
        task.interrupt = what
        task.chance = chance

    def _passed(self, frame: FrameType, event: str, _: Any) -> None:
        if event == "return" and frame.f_code in _STANDS_FOR_C and frame.f_back is not None:
            if frame.f_locals.get("kind") is not None:  # a lock that is left by an exception: no signal is looked for
                return
            frame = frame.f_back
        elif event not in {"call", "c_return"}:
            return
        if frame.f_globals.get("__name__", "").startswith(_CLIENT) and frame.f_code.co_name != "__del__":
            self._interrupt_now(self.me())

    def _interrupt_now(self, task: Task) -> None:
        if task.interrupt is not None and self.random.random() < task.chance:
            handler, task.interrupt = task.interrupt, None
            handler()

    # Replacements for modules of the standard library.

    def monotonic(self) -> float:
        return self.now

    @contextmanager
    def installed(self) -> Iterator[None]:
        """While the context is open, clients use this scheduler's threads, locks and clock."""
        threads = SimpleNamespace(
            RLock=lambda: Lock(self),
            Event=lambda: Event(self),
            Thread=lambda target, name, daemon: Thread(self, target, name),
            get_ident=threading.get_ident,
        )
        sockets = SimpleNamespace(socketpair=lambda: pair(self))
        polls = SimpleNamespace(poll=lambda: Poll(self), POLLIN=select.POLLIN, POLLOUT=select.POLLOUT)
        with pytest.MonkeyPatch.context() as patch:
            patch.setattr(link, "threading", threads)
            patch.setattr(link, "monotonic", self.monotonic)
            patch.setattr(future, "_thread", SimpleNamespace(allocate_lock=lambda: Gate(self)))
            patch.setattr(gathering, "Crowd", lambda: Crowd(self))
            patch.setattr(keeper, "threading", threads)
            patch.setattr(keeper, "socket", sockets)
            patch.setattr(keeper, "select", polls)
            patch.setattr(keeper, "monotonic", self.monotonic)
            patch.setattr(keeper, "check_system", lambda _: None)  # it would take these for handlers of signals
            yield

    def number(self, what: Any) -> int:
        """A new descriptor for `what`. As in the kernel, the lowest free number is used."""
        number = next(each for each in range(3, 1_000_000) if each not in self.descriptors)
        self.descriptors[number] = what
        return number


class Lock:
    """threading.RLock."""

    def __init__(self, turns: Turns) -> None:
        self._turns = turns
        self._owner: Task | None = None
        self._depth = 0

    def __enter__(self) -> None:
        turns = self._turns
        me = turns.me()
        if self._owner is not me:
            if turns.preempt:
                turns.switch()
            turns.block(lambda: self._owner is None, breakable=True)
            self._owner = me
            me.busy += 1
            assert me.busy < SPINS, "a busy loop"
        self._depth += 1

    def __exit__(self, kind: object, *_: object) -> None:
        self._depth -= 1
        if not self._depth:
            self._owner = None


class Gate:
    """A lock as `_thread.allocate_lock` makes it."""

    def __init__(self, turns: Turns) -> None:
        self._turns = turns
        self._locked = False

    def acquire(self, blocking: bool = True, timeout: float = -1) -> bool:
        wait = None if timeout < 0 else timeout
        if not self._turns.block(lambda: not self._locked, wait, breakable=True):
            return False
        self._locked = True
        return True

    def release(self) -> None:
        assert self._locked, "a gate is opened once"
        self._locked = False


class Crowd:
    """naught.blocking.crowd.Crowd, without its sockets."""

    def __init__(self, turns: Turns) -> None:
        self._turns = turns
        self._open = False
        self.members = 0
        self.opened = False

    def admit(self) -> bool:
        return True

    def wait(self, timeout: float | None) -> bool:
        assert self.members, "no thread has joined it"
        limit = LOOK_S if timeout is None else min(LOOK_S, max(0.0, timeout))
        return self._turns.block(lambda: self._open, limit, breakable=True)

    def open(self) -> None:
        assert not self._open, "a gate is opened once"
        if self._turns.preempt:
            self._turns.switch()
        self._open = True


class Event:
    """threading.Event."""

    def __init__(self, turns: Turns) -> None:
        self._turns = turns
        self._set = False

    def set(self) -> None:
        self._set = True

    def is_set(self) -> bool:
        return self._set

    def wait(self, timeout: float | None = None) -> bool:
        return self._turns.block(self.is_set, timeout, breakable=True)


class Thread:
    """The part of threading.Thread that a keeper uses."""

    def __init__(self, turns: Turns, target: Callable[[], None], name: str) -> None:
        self._turns = turns
        self._target = target
        self._name = name
        self.task: Task | None = None

    def start(self) -> None:
        self.task = self._turns.spawn(self._name, self._target)

    def join(self, timeout: float) -> None:
        task = self.task
        assert task is not None
        self._turns.block(lambda: task.ended, timeout, breakable=True)


class Descriptor:
    """An open file that can be polled, until it is closed."""

    def __init__(self, turns: Turns) -> None:
        self.turns = turns
        self._number = turns.number(self)

    def fileno(self) -> int:
        return self._number

    def close(self) -> None:
        if self._number >= 0:
            del self.turns.descriptors[self._number]
            self._number = -1

    @property
    def closed(self) -> bool:
        return self._number < 0

    def readable(self) -> bool:
        raise AssertionError("says so itself")

    def writable(self) -> bool:
        raise AssertionError("says so itself")


class Socket(Descriptor):
    """One of a pair of sockets, which wakes up a thread that polls."""

    BYTES_MAX = 250

    def __init__(self, turns: Turns) -> None:
        super().__init__(turns)
        self._come = b""
        self.peer: Socket | None = None

    def setblocking(self, _: bool) -> None:
        pass

    def send(self, data: bytes) -> int:
        assert self.peer is not None
        if self.closed:
            raise OSError(errno.EBADF, "closed")
        number = self.fileno()
        if self.turns.preempt:
            self.turns.switch()
        assert self.fileno() == number, (
            "closed by another thread during a call: the number may be another file's by now"
        )
        if len(self.peer._come) >= self.BYTES_MAX:
            raise BlockingIOError(errno.EAGAIN, "full")
        self.peer._come += data
        return len(data)

    def recv(self, count: int) -> bytes:
        assert self._come, "read without being readable"
        data, self._come = self._come[:count], self._come[count:]
        return data

    def readable(self) -> bool:
        return bool(self._come)

    def writable(self) -> bool:
        return True


def pair(turns: Turns) -> tuple[Socket, Socket]:
    one, other = Socket(turns), Socket(turns)
    one.peer, other.peer = other, one
    return one, other


class Poll:
    """select.poll."""

    def __init__(self, turns: Turns) -> None:
        self._turns = turns
        self._watched: dict[int, int] = {}

    def register(self, what: Any, events: int) -> None:
        number = what if isinstance(what, int) else what.fileno()
        if number < 0:
            raise ValueError("file descriptor cannot be a negative integer (-1)")
        self._watched[number] = events

    def _ready(self) -> list[tuple[int, int]]:
        found = []
        for number, events in self._watched.items():
            what = self._turns.descriptors.get(number)
            if what is None:
                found.append((number, select.POLLNVAL))
            else:
                happened = (select.POLLIN if what.readable() else 0) | (select.POLLOUT if what.writable() else 0)
                if happened & events:
                    found.append((number, happened & events))
        return found

    def poll(self, milliseconds: float | None) -> list[tuple[int, int]]:
        before = {number: self._turns.descriptors.get(number) for number in self._watched}
        self._turns.block(
            lambda: bool(self._ready()), None if milliseconds is None else milliseconds / 1000, breakable=True
        )
        for number, what in before.items():
            assert self._turns.descriptors.get(number) is what, "closed under a thread that polls it"
        return self._ready()


_STANDS_FOR_C = {
    function.__code__ for function in (Gate.acquire, Gate.release, Crowd.wait, Crowd.open, Socket.send, Lock.__exit__)
}


def stands_for_c(*functions: Any) -> None:
    """These functions act as system calls: a signal may interrupt when they have returned."""
    _STANDS_FOR_C.update(function.__code__ for function in functions)
