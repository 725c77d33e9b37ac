"""Keeps every SafeMap of the process consistent over a fork.

The child has only the thread that forked. A lock that another thread held at that moment would stay locked in the
child for ever, so the forking thread takes the locks of all maps before the fork, and releases them on both sides
after it.
"""

from __future__ import annotations

import os
import weakref
from typing import Protocol


class ForkedMap(Protocol):
    """What a fork calls of each map."""

    def _hold_for_fork(self) -> None:
        """Take every lock of the map."""

    def _release_after_fork(self) -> None:
        """Release them, in the parent."""

    def _start_again_in_child(self) -> None:
        """Release them in the child, which has none of the parent's other threads."""


# Every map alive, by its id, because maps have no hash. A map that is collected leaves by itself.
living: weakref.WeakValueDictionary[int, ForkedMap] = weakref.WeakValueDictionary()
# The maps whose locks are held for the fork under way.
_held_for_fork: list[ForkedMap] = []


def hold_over_forks(counters: ForkedMap) -> None:
    """Take the locks of this map at every fork, for as long as it lives."""
    living[id(counters)] = counters


def _before_fork() -> None:
    _held_for_fork.extend(each for reference in living.valuerefs() if (each := reference()) is not None)
    for each in _held_for_fork:
        each._hold_for_fork()


def _after_fork_in_parent() -> None:
    for each in reversed(_held_for_fork):
        each._release_after_fork()
    _held_for_fork.clear()


def _after_fork_in_child() -> None:
    for each in reversed(_held_for_fork):
        each._start_again_in_child()
    _held_for_fork.clear()


if hasattr(os, "register_at_fork"):
    os.register_at_fork(
        before=_before_fork, after_in_parent=_after_fork_in_parent, after_in_child=_after_fork_in_child
    )
