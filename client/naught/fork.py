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
_forks: Final = [0]


def watch(who: _Forsaker) -> None:
    """Have `forsake` called in every child of a fork from now on."""
    _watched.add(who)


def count() -> int:
    """How often this process has forked."""
    return _forks[0]


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


def _forsake_all() -> None:
    for who in list(_watched):
        who.forsake()


def _count_fork() -> None:
    _forks[0] += 1


if hasattr(os, "register_at_fork"):
    os.register_at_fork(after_in_parent=_count_fork, after_in_child=_forsake_all)
