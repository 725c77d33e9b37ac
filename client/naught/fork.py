"""What a fork means for a connection: it stays the parent's, and ends with the parent though the child has a copy.

Whoever has connections registers with `watch`, and is told in the child by `forsake`, before anything else runs
there. What is being connected at that moment is nobody's yet, so the child cannot know that it has a copy: the parent
finds by `count` that there was a fork meanwhile, hangs up, and connects anew.
"""

from __future__ import annotations

import os
import socket
import weakref
from contextlib import suppress
from typing import Final, Protocol


class _Forsaker(Protocol):
    def forsake(self) -> None: ...


_watched: weakref.WeakSet[_Forsaker] = weakref.WeakSet()
_forks: Final = [0, 0]  # begun and ended, of this process


def watch(who: _Forsaker) -> None:
    """Have `forsake` called in every child of a fork from now on."""
    _watched.add(who)


def count() -> object:
    """How often this process has forked. The same as before only if no child can have been made between: while a
    fork is under way, what the child will have cannot be told, and the answer is like no other."""
    begun, ended = _forks
    return begun if begun == ended else object()


def replace_with_nothing(descriptor: int) -> None:
    """Let go of a descriptor in the child without closing its number, which its owner there may close later."""
    try:
        nothing = os.open(os.devnull, os.O_RDWR)
    except OSError:  # no descriptor is free, and one is about to be
        os.close(descriptor)
        return
    os.dup2(nothing, descriptor, inheritable=False)
    os.close(nothing)


def hang_up(connected: socket.socket | None) -> None:
    """End the connection whoever else has its descriptor, which closing would not."""
    if connected is not None:
        with suppress(OSError), socket.socket(fileno=os.dup(connected.fileno())) as same:
            same.shutdown(socket.SHUT_RDWR)


def _begin() -> None:
    _forks[0] += 1


def _end() -> None:
    _forks[1] += 1


def _forsake_all() -> None:
    _forks[1] = _forks[0]
    for who in list(_watched):
        who.forsake()


if hasattr(os, "register_at_fork"):
    os.register_at_fork(before=_begin, after_in_parent=_end, after_in_child=_forsake_all)
