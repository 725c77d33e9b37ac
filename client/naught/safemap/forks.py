"""Keeps every SafeMap of the process consistent over a fork.

The child has only the thread that forked. A lock that another thread held at that moment would stay locked in the
child for ever, so the forking thread takes the locks of all maps before the fork, and releases them on both sides
after it.

Python writes an exception of these functions to standard error and goes on with the fork. So what they took is
released even if a signal handler raises in one of them, as it may where a function begins: each function that runs
after the fork is registered twice, and does nothing the second time unless the first was interrupted.
"""

from __future__ import annotations

import os
import weakref
from collections.abc import Iterator
from itertools import compress
from typing import ClassVar, Protocol

from naught.safemap.locks import Lock, take_each


class ForkedMap(Protocol):
    """What a fork calls of each map."""

    def _every_lock(self) -> tuple[Lock, ...]:
        """Return the locks of the map, in the order in which they are taken."""

    def _start_again_in_child(self) -> None:
        """Begin anew in the child, which has none of the parent's other threads."""


# Every map alive, by its id, because maps have no hash. A map that is collected leaves by itself.
living: weakref.WeakValueDictionary[int, ForkedMap] = weakref.WeakValueDictionary()


class _Fork:
    """The fork under way: which maps the child has still to begin anew, None before it has looked for them; and how
    the locks that were taken are released, as in `locks.with_locks`.
    """

    maps: ClassVar[list[ForkedMap] | None] = None
    releases: ClassVar[Iterator[None]] = iter(())


def hold_over_forks(counters: ForkedMap) -> None:
    """Take the locks of this map at every fork, for as long as it lives."""
    living[id(counters)] = counters


def _before_fork() -> None:
    _Fork.maps = None
    locks = [lock for each in _living_maps() for lock in each._every_lock()]
    while True:
        held: list[bool] = []
        _Fork.releases = map(Lock.release, compress(locks, held))
        held += take_each(locks)
        if False not in held:
            return
        _ = [*_Fork.releases]
        held = []


def _living_maps() -> list[ForkedMap]:
    return [each for reference in living.valuerefs() if (each := reference()) is not None]


def _after_fork_in_parent() -> None:
    _ = [*_Fork.releases]


def _after_fork_in_child() -> None:
    _ = [*_Fork.releases]
    if _Fork.maps is None:
        _Fork.maps = _living_maps()
    for each in _Fork.maps:
        for lock in each._every_lock():
            # Of a thread of the parent, if the map was made after `_before_fork`, or if an interrupt has kept this
            # thread from taking the lock there.
            if not lock.owned:
                lock._at_fork_reinit()  # type: ignore[attr-defined]
    while _Fork.maps:
        _Fork.maps.pop()._start_again_in_child()


if hasattr(os, "register_at_fork"):
    os.register_at_fork(
        before=_before_fork, after_in_parent=_after_fork_in_parent, after_in_child=_after_fork_in_child
    )
    os.register_at_fork(after_in_parent=_after_fork_in_parent, after_in_child=_after_fork_in_child)
