"""`Crowd`: lets threads that wait for the same replies continue together.

With a lock each, whoever opens them holds the interpreter's lock while it does: every thread that is woken finds that
taken and goes to sleep again, two switches of threads for each. A crowd waits to read from one socket, and is let
through by one byte, which is written without the interpreter's lock and which nobody takes away (MSG_PEEK): whoever
comes finds it open, and a call costs one switch of threads where it cost two. `gathering.py` has the figures.

A crowd is opened once. Its sockets are used again when nobody refers to it any more, so when all have gone through.
That is looked for where sockets are wanted, and is no finalizer's: an interrupt that strikes in one is lost.
"""

from __future__ import annotations

import atexit
import os
import select
import socket
import struct
import weakref
from contextlib import suppress
from typing import Any, Final

LOOK_S: Final = 0.25
"""A thread in a crowd looks at least this often whether it should go on waiting. Exact deadlines are kept apart."""

SPARE_MAX: Final = 8
"""Pairs of sockets kept for the next crowd, of all clients of the process. There are as many crowds at a time as
batches on their way, two or three of each client."""

Pair = tuple[socket.socket, socket.socket]


class _Pairs:
    """All pairs of the process. Several clients may be at it at the same time, each in a thread of its own."""

    def __init__(self) -> None:
        # Each with the crowd it was lent to last, which whoever takes it out may replace. They are referred to from
        # here, so that the collector of cycles never finds one to be garbage along with its crowd, and closes it: it
        # finishes garbage in no order.
        self.all: list[tuple[Pair, list[weakref.ref[Crowd]]]] = []

    def lend(self, crowd: Crowd) -> Pair:
        """One whose gate is closed. Raises OSError when the process may have no more."""
        found: Pair | None = None
        spare = 0
        for each in tuple(self.all):
            pair, owner = each
            if not _take_out(owner):
                continue
            spare += 1
            if found is None:
                try:
                    _shut(pair)
                except BaseException:
                    owner.append(_GONE)
                    raise
                found = pair
                owner.append(weakref.ref(crowd))
            elif spare <= SPARE_MAX:
                owner.append(_GONE)
            else:
                self.all.remove(each)
                _close(pair)
        if found is None:
            found = socket.socketpair()
            for each_end in found:
                each_end.setblocking(True)  # whatever the process has as its default
            self.all.append((found, [weakref.ref(crowd)]))
            limit = struct.pack("@ll", *divmod(int(LOOK_S * 1e6), 10**6))
            found[0].setsockopt(socket.SOL_SOCKET, socket.SO_RCVTIMEO, limit)
        return found


def _take_out(owner: list[weakref.ref[Crowd]]) -> bool:
    """The owner of a pair, if that has gone through. False where another thread was faster, too."""
    try:
        last = owner[0]
        if last() is not None:
            return False
        taken = owner.pop()
    except IndexError:
        return False
    if taken is not last:  # another was faster, and has lent it
        owner.append(taken)
        return False
    return True


def _shut(pair: Pair) -> None:
    """Close the gate, if it was opened."""
    with suppress(BlockingIOError):
        pair[0].recv(1, socket.MSG_DONTWAIT)


def _close(pair: Pair) -> None:
    pair[0].close()
    pair[1].close()


_pairs = _Pairs()


def _begin_anew() -> None:
    """At the end, and in the child of a fork, where what there is are copies of the parent's gates."""
    global _pairs  # noqa: PLW0603 - what is the parent's is left behind as a whole
    for pair, _ in _pairs.all:
        _close(pair)
    _pairs = _Pairs()


if hasattr(os, "register_at_fork"):
    os.register_at_fork(after_in_child=_begin_anew)
atexit.register(_begin_anew)


class Crowd:
    """See the module."""

    __slots__ = ("__weakref__", "_pair", "members", "opened")

    def __init__(self) -> None:
        self.members = 0  # threads that have come to wait here
        self.opened = False  # or about to be: nobody joins any more
        self._pair: Pair | None = None  # from the first who joins on

    def admit(self) -> bool:
        """Before a thread waits here for the first time. False when it cannot: the process is out of descriptors."""
        if self._pair is None:
            try:
                self._pair = _pairs.lend(self)
            except OSError:
                return False
        return True

    def wait(self, timeout: float) -> bool:
        """Wait until it is opened: true then, at once if it is. False after `timeout` seconds, or LOOK_S if that is
        less."""
        assert self._pair is not None
        gate = self._pair[0]
        if timeout < LOOK_S:
            poll = select.poll()
            poll.register(gate, select.POLLIN)
            return bool(poll.poll(max(0.0, timeout) * 1000))
        try:
            gate.recv(1, socket.MSG_PEEK)
        except BlockingIOError:
            return False
        return True

    def open(self) -> None:
        """Let all through. Once."""
        if self._pair is not None:
            self._pair[1].send(b"!")


class _Gone:
    """What a weak reference to a crowd is made of that is there no more."""


_GONE: Final[weakref.ref[Any]] = weakref.ref(_Gone())
