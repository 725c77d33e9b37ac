"""Prunes data that is a tree of dicts and lists, in one walk: `prune_tree`.

What is in a dict or list is known to be zero when its copy has stayed empty. So one walk judges, copies and reports.
This holds for dicts, lists and leaves, and tuples of leaves. For anything else `prune_tree` raises `NotATree`: for
containers of other types, for rules of the caller about these, for a container that is found twice, and for data that
is deeper than `DEPTH_MAX`. Nothing has changed then.
"""

from __future__ import annotations

from operator import not_
from typing import Any

from naught.zeros.judge import Judge, Treat
from naught.zeros.report import Place, Removed, removed_from

# The walk is recursive. Each level takes one level of Python's stack, which has a thousand unless changed.
DEPTH_MAX = 100


class NotATree(Exception):
    """The data is not what this module is for."""


def prune_tree(value: Any, judge: Judge, removed: list[Removed]) -> Any:
    """Return a copy of a tree without its zeros, and put what was left out into `removed`."""
    kind = type(value)
    if kind is not dict and kind is not list:
        raise NotATree
    tree = _Tree(judge)
    try:
        if kind is dict:
            return tree.prune_dict(value, None, removed, DEPTH_MAX)
        return tree.prune_list(value, None, removed, DEPTH_MAX)
    except RecursionError:  # the caller's stack is deep already
        removed.clear()
        raise NotATree from None
    except NotATree:
        removed.clear()
        raise


class _Tree:
    """One walk."""

    def __init__(self, judge: Judge) -> None:
        self._judge = judge
        self._false_when_zero = judge.false_when_zero
        # The containers that were found, by their ids.
        self._seen: set[int] = set()
        # Whether dicts, lists and tuples follow the built-in rules.
        if (judge.rule(dict), judge.rule(list), judge.rule(tuple)) != (Treat.ENTRIES, Treat.ITEMS, Treat.PLACES):
            raise NotATree

    def prune_dict(
        self, value: dict[Any, Any], place: Place, removed: list[Removed], depth_left: int
    ) -> dict[Any, Any]:
        """Return a copy without zeros. It is empty if the dict is zero; only for the outermost is this reported."""
        false_when_zero = self._false_when_zero
        names: list[Any]
        values: list[Any]
        if false_when_zero.issuperset(map(type, value.values())):
            kept = {key: each for key, each in value.items() if each}
            if not kept:
                if place is None:
                    removed += removed_from(place, "key", value, value.values())
            elif len(kept) < len(value):
                names = [key for key, each in value.items() if not each]
                removed += removed_from(place, "key", names, [each for each in value.values() if not each])
            return kept
        kept = {}
        names, values = [], []
        inner: list[Removed] = []
        for key, each in value.items():
            kind = type(each)
            if kind in false_when_zero:
                if each:
                    kept[key] = each
                else:
                    names.append(key)
                    values.append(each)
            elif kind is dict or kind is list:
                child = self._prune_child(each, (place, "key", key), inner, depth_left)
                if child:
                    kept[key] = child
                else:
                    names.append(key)
                    values.append(each)
            elif self._is_zero(each):
                names.append(key)
                values.append(each)
            else:
                kept[key] = each
        if kept or place is None:
            if names:
                removed += removed_from(place, "key", names, values)
            removed += inner
        return kept

    def prune_list(self, value: list[Any], place: Place, removed: list[Removed], depth_left: int) -> list[Any]:
        """The same for a list."""
        false_when_zero = self._false_when_zero
        names: list[Any]
        values: list[Any]
        if false_when_zero.issuperset(map(type, value)):
            kept = [each for each in value if each]
            if not kept:
                if place is None:
                    removed += removed_from(place, "item", range(len(value)), value)
            elif len(kept) < len(value):
                names = [index for index, each in enumerate(value) if not each]
                removed += removed_from(place, "item", names, [each for each in value if not each])
            return kept
        kept = []
        names, values = [], []
        inner: list[Removed] = []
        for index, each in enumerate(value):
            kind = type(each)
            if kind in false_when_zero:
                if each:
                    kept.append(each)
                else:
                    names.append(index)
                    values.append(each)
            elif kind is dict or kind is list:
                child = self._prune_child(each, (place, "item", index), inner, depth_left)
                if child:
                    kept.append(child)
                else:
                    names.append(index)
                    values.append(each)
            elif self._is_zero(each):
                names.append(index)
                values.append(each)
            else:
                kept.append(each)
        if kept or place is None:
            if names:
                removed += removed_from(place, "item", names, values)
            removed += inner
        return kept

    def _prune_child(self, value: Any, place: Place, removed: list[Removed], depth_left: int) -> Any:
        if id(value) in self._seen or not depth_left:
            raise NotATree
        self._seen.add(id(value))
        if type(value) is dict:
            return self.prune_dict(value, place, removed, depth_left - 1)
        return self.prune_list(value, place, removed, depth_left - 1)

    def _is_zero(self, value: Any) -> bool:
        """Whether a value is zero that is no dict, no list, and not of a type that is false when it is zero."""
        rule = self._judge.rule(type(value))
        if rule is Treat.KEEP:
            return False
        if not isinstance(rule, Treat):
            return bool(rule(value))
        if type(value) is tuple and rule is Treat.PLACES and all(self._is_leaf(each) for each in value):
            return (
                all(map(not_, value))
                if self._false_when_zero.issuperset(map(type, value))
                else all(self._is_zero(each) for each in value)
            )
        raise NotATree

    def _is_leaf(self, value: Any) -> bool:
        rule = self._judge.rule(type(value))
        return not isinstance(rule, Treat) or rule is Treat.KEEP
