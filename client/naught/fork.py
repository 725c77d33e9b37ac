"""What happens to connections when the process forks: they stay the parent's, although the child has a copy of each.

A client registers itself with `register`; its `after_fork` is called in the child before any other code runs there.
This does not cover a connection attempt that is under way during a fork: the client does not know its socket yet, so
`after_fork` cannot close it. Therefore the parent compares `count` before and after the attempt. If the process has
forked in between, the parent shuts the new connection down and connects again.
"""

from __future__ import annotations

import os
import socket
import weakref
from contextlib import suppress
from typing import Final, Protocol


class ForkHandler(Protocol):
    """A client that has connections."""

    def after_fork(self) -> None:
        """Close the child's copies of the connections, without sending anything to the server."""


_handlers: weakref.WeakSet[ForkHandler] = weakref.WeakSet()
_forks: Final = [0, 0]  # forks of this process: begun, ended


def register(handler: ForkHandler) -> None:
    """Have `handler.after_fork` called in the child of every later fork, as long as the handler exists."""
    _handlers.add(handler)


def count() -> object:
    """A value that two calls return equally only if no child was made between them.

    It is the number of forks of this process, or a new object while a fork is under way, as that child may inherit
    what the caller is about to open.
    """
    begun, ended = _forks
    return begun if begun == ended else object()


def replace_with_devnull(descriptor: int) -> None:
    """Close the file behind a descriptor, but keep the number in use: its owner may close the number later."""
    try:
        devnull = os.open(os.devnull, os.O_RDWR)
    except OSError:  # the process has no free descriptor number: then this one is freed
        os.close(descriptor)
        return
    os.dup2(devnull, descriptor, inheritable=False)
    os.close(devnull)


def shut_down(connected: socket.socket | None) -> None:
    """End the connection even if another process has a copy of its descriptor; closing ours would not end it."""
    if connected is not None:
        with suppress(OSError), socket.socket(fileno=os.dup(connected.fileno())) as same:
            same.shutdown(socket.SHUT_RDWR)


def _before_fork() -> None:
    _forks[0] += 1


def _after_fork_in_parent() -> None:
    _forks[1] += 1


def _after_fork_in_child() -> None:
    _forks[1] = _forks[0]
    for handler in list(_handlers):
        handler.after_fork()


if hasattr(os, "register_at_fork"):
    os.register_at_fork(
        before=_before_fork, after_in_parent=_after_fork_in_parent, after_in_child=_after_fork_in_child
    )
