"""All maps of the process, held over a fork: a child has only the thread that forked, and needs every lock free."""

from __future__ import annotations

import os
import weakref
from typing import TYPE_CHECKING, Any

if TYPE_CHECKING:
    from naught.safemap.map import SafeMap

# Every map alive, by id as maps have no hash, to be held over a fork. The maps' collection takes them out.
living: weakref.WeakValueDictionary[int, SafeMap[Any, Any]] = weakref.WeakValueDictionary()
# The maps held for the fork under way.
_held_for_fork: list[SafeMap[Any, Any]] = []


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
