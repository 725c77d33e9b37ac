"""Takes zeros out of nested data: `prune`, and the graph of containers that it works on.

`_Pruning.judge_all` makes a node for each container and finds which are zero. `run` then finds which containers stay
in the result, which of those are replaced by a copy, makes the copies, and edits them. A tuple or frozenset cannot be
edited, so it is rebuilt from its finished parts.

A node lists the zeros among its leaves and its inner containers, and nothing else: most leaves are neither, and each
entry costs time. Where all values of a container are of types that are false when they are zero, one comprehension
finds the zeros.

Most data is a tree of dicts and lists, and not deep. `trees` prunes it in one walk, several times as fast; where it
finds anything else it gives up, and the graph is made.
"""

from __future__ import annotations

import copy
import types
from collections import deque
from collections.abc import Iterable, Set
from itertools import compress
from operator import not_
from typing import Any, Generic, NamedTuple, TypeVar

from naught.zeros.judge import Judge, Rules, Treat, attributes_of
from naught.zeros.report import Place, Removed, removed_from
from naught.zeros.trees import NotATree, prune_tree

T = TypeVar("T")


class Pruned(NamedTuple, Generic[T]):
    """The result of `prune`."""

    value: T
    """The value without zeros."""
    removed: list[Removed]
    """The zeros that were taken out. Those of a container come before those inside its items."""


def prune(value: T, *, in_place: bool = False, rules: Rules | None = None) -> Pruned[T]:
    """Take the zeros out of nested data; return the data without them, and which were taken out from where.

    The value itself is never taken out: `prune({"a": 0})` is an empty dict. By default the result is a new structure,
    which shares with the old one only parts that need no change: leaves, values of unknown types, members of sets,
    private attributes. With `in_place`, the containers themselves are changed. Only those that cannot be changed (a
    frozenset, a tuple around one, a frozen dataclass around one) are replaced where they are, so go on with the value
    that is returned.

    rules: as for `is_zero`. No method of an object is called, not even its constructor. If a rule raises, nothing
    has changed. Time and memory are in proportion to the size of the data, whatever its depth.
    """
    judge = Judge(rules)
    if not in_place:
        removed: list[Removed] = []
        try:
            return Pruned(prune_tree(value, judge, removed), removed)
        except NotATree:
            pass
    pruning = _Pruning(judge, in_place)
    pruning.judge_all(value)
    return pruning.run(value)


class _Node:
    """One container of the data."""

    __slots__ = (
        *("value", "treat", "kind", "zeros", "inner", "parents", "nonzero"),
        *("reached", "place", "replaced", "result"),
    )

    def __init__(self, value: Any, treat: Treat) -> None:
        # The container, in the caller's data.
        self.value = value
        # How its values are found.
        self.treat = treat
        # The kind of the step to a value of it.
        self.kind = "key"
        # The leaves that are zero, if they are to be taken out: name and value.
        self.zeros: list[tuple[Any, Any]] = _NONE
        # The containers in it: name and value, its node, whether to prune inside it, and how many of `zeros` come
        # before it.
        self.inner: list[tuple[tuple[Any, Any], _Node, bool, int]] = _NONE
        # The nodes that have this one among their values, each with whether it prunes inside.
        self.parents: list[tuple[_Node, bool]] = []
        # Whether a nonzero leaf can be reached from here.
        self.nonzero = False
        # Whether it stays in the result, where pruning reaches it.
        self.reached = False
        # The first way in which it was reached.
        self.place: Place = None
        # Whether another object takes its place in the result.
        self.replaced = False
        # The object in the result; _UNMADE until it is known.
        self.result: Any = _UNMADE

    def removes(self) -> bool:
        """Whether zeros are taken out of it."""
        return self.treat is Treat.ENTRIES or self.treat is Treat.ITEMS

    def gone(self) -> list[tuple[Any, Any]]:
        """Return the name and value of each container that is taken out of it."""
        return [item for item, child, _, _ in self.inner if not child.nonzero] if self.removes() else _NONE


_UNMADE = object()
# The list of every node that has none of something. It is never changed.
_NONE: list[Any] = []


class _Pruning:
    """One run of `prune`: it judges everything first, and makes changes after."""

    def __init__(self, judge: Judge, in_place: bool) -> None:
        self._judge = judge
        self._in_place = in_place
        # Every container, by its id. The nodes keep the containers alive, so an id cannot be used again.
        self._nodes: dict[int, _Node] = {}
        # The nodes that stay in the result, in the order in which their zeros are reported.
        self._reached: list[_Node] = []
        # The report.
        self._removed: list[Removed] = []

    # Judging.

    def judge_all(self, root: Any) -> None:
        """Make the nodes of everything that can be reached, and find which of them are zero."""
        rule = self._judge.rule(type(root))
        if not isinstance(rule, Treat) or rule is Treat.KEEP:
            return
        first = self._nodes[id(root)] = _Node(root, rule)
        pending = [first]
        nonzero: list[_Node] = []
        while pending:
            node = pending.pop()
            if self._scan(node, pending):
                nonzero.append(node)
        while nonzero:
            node = nonzero.pop()
            if not node.nonzero:
                node.nonzero = True
                for parent, _ in node.parents:
                    if not parent.nonzero:
                        nonzero.append(parent)

    def _scan(self, node: _Node, pending: list[_Node]) -> bool:
        """Find the zeros and the containers in a container; return whether it has a leaf that is not zero."""
        value, treat = node.value, node.treat
        kind = type(value)
        if treat is Treat.ENTRIES:
            kinds = set(map(type, value.values()))
            pairs: Iterable[tuple[Any, Any]] = value.items()
        elif treat is Treat.FIELDS:
            return self._scan_fields(node, pending)
        elif isinstance(value, Set):
            node.kind = "member"
            kinds = set(map(type, value))
            pairs = zip(value, value, strict=True)
            return self._scan_pairs(node, pairs, kinds, False, pending)
        elif issubclass(kind, tuple) and hasattr(kind, "_fields"):
            node.kind = "attribute"
            kinds = set(map(type, value))
            pairs = zip(kind._fields, value, strict=True)
        else:
            node.kind = "item"
            kinds = set(map(type, value))
            pairs = enumerate(value)
        return self._scan_pairs(node, pairs, kinds, True, pending)

    def _scan_fields(self, node: _Node, pending: list[_Node]) -> bool:
        node.kind = "attribute"
        fields = self._judge.fields(node.value)
        if fields is None:
            node.treat = Treat.KEEP
            return True
        nonzero = fields.significant
        for pairs, inside in ((fields.public, True), (fields.private, False)):
            if pairs:
                kinds = {type(value) for _, value in pairs}
                nonzero |= self._scan_pairs(node, pairs, kinds, inside, pending)
        return nonzero

    def _scan_pairs(
        self, node: _Node, pairs: Iterable[tuple[Any, Any]], kinds: set[type], inside: bool, pending: list[_Node]
    ) -> bool:
        removes = node.removes()
        if kinds <= self._judge.false_when_zero:
            zeros = [pair for pair in pairs if not pair[1]]
            nonzero = len(zeros) < len(node.value) if node.treat is not Treat.FIELDS else any(v for _, v in pairs)
            if removes:
                node.zeros = zeros
            return nonzero
        known, nodes = self._judge.known, self._nodes
        for kind in kinds:
            if kind not in known:
                self._judge.rule(kind)
        zeros, nonzero = [], False
        inner = [] if node.inner is _NONE else node.inner
        for pair in pairs:
            value = pair[1]
            rule = known[type(value)]
            if rule is not_:
                if value:
                    nonzero = True
                else:
                    zeros.append(pair)
            elif rule is Treat.KEEP:
                nonzero = True
            elif not isinstance(rule, Treat):
                if rule(value):
                    zeros.append(pair)
                else:
                    nonzero = True
            else:
                child = nodes.get(id(value))
                if child is None:
                    child = nodes[id(value)] = _Node(value, rule)
                    pending.append(child)
                child.parents.append((node, inside))
                inner.append((pair, child, inside, len(zeros)))
        if removes:
            node.zeros = zeros
        node.inner = inner
        return nonzero

    # Changing.

    def run(self, root: Any) -> Pruned[Any]:
        """Make the result, after `judge_all`."""
        node = self._nodes.get(id(root))
        if node is None:
            return Pruned(root, [])
        self._reach(node)
        self._find_replaced()
        for each in self._reached:
            if not each.replaced:
                each.result = each.value
            elif not isinstance(each.value, tuple | frozenset):
                each.result = _shell(each.value, each.treat)
        for each in self._reached:
            if each.result is _UNMADE:
                self._rebuild(each)
        for each in self._reached:
            if not isinstance(each.value, tuple | frozenset):
                self._edit(each.result, each)
        return Pruned(node.result, self._removed)

    def _reach(self, root: _Node) -> None:
        """Find the containers that stay in the result, and report the values that do not."""
        root.reached = True
        pending = [root]
        while pending:
            node = pending.pop()
            self._reached.append(node)
            if node.zeros:
                self._report(node)
            if not node.inner:
                continue
            removes = node.removes()
            if removes and not node.zeros:
                self._report(node)
            found: list[_Node] = []
            place, kind = node.place, node.kind
            for (name, _), child, inside, _ in node.inner:
                if inside and not child.reached and (child.nonzero or not removes):
                    child.reached = True
                    child.place = (place, kind, name)
                    found.append(child)
            found.reverse()
            pending += found

    def _report(self, node: _Node) -> None:
        """Report what is taken out of a container, in the order in which it stands there."""
        gone = node.zeros
        if any(not child.nonzero for _, child, _, _ in node.inner):
            gone, begin = [], 0
            for item, child, _, before in node.inner:
                if not child.nonzero:
                    gone += [*node.zeros[begin:before], item]
                    begin = before
            gone += node.zeros[begin:]
        names = [name for name, _ in gone]
        self._removed += removed_from(node.place, node.kind, names, [value for _, value in gone])

    def _find_replaced(self) -> None:
        """Find the containers that another object replaces in the result.

        In a new structure: every dict, list, deque and set, and every container around one; an object or tuple with
        none inside is shared. In place: every container that must lose or replace a value and cannot be changed.
        """
        in_place = self._in_place
        pending = [node for node in self._reached if self._is_replaced_itself(node)]
        while pending:
            node = pending.pop()
            if node.replaced:
                continue
            node.replaced = True
            for parent, inside in node.parents:
                if parent.replaced or not parent.reached or not inside:
                    continue
                if not (in_place and _can_be_changed(parent.value)):
                    pending.append(parent)

    def _is_replaced_itself(self, node: _Node) -> bool:
        """Whether a container is replaced for its own sake, and not because a value of it is replaced."""
        if node.treat is Treat.KEEP or node.treat is Treat.FIELDS:
            return False
        if isinstance(node.value, tuple | frozenset):
            return bool(node.zeros or node.gone())
        return not self._in_place

    def _rebuild(self, start: _Node) -> None:
        """Make the result of a tuple or frozenset: first those of the tuples and frozensets in it, then its own.

        All other results exist already, and no cycle consists of tuples and frozensets alone.
        """
        pending = [start]
        while pending:
            node = pending[-1]
            if node.result is _UNMADE:
                unmade = [
                    child
                    for _, child, inside, _ in node.inner
                    if inside and child.reached and child.result is _UNMADE
                ]
                if unmade:
                    pending.extend(unmade)
                    continue
                if isinstance(node.value, tuple):
                    node.result = tuple.__new__(type(node.value), _kept(node))
                else:
                    node.result = frozenset.__new__(type(node.value), _kept(node))
            pending.pop()

    def _edit(self, target: Any, node: _Node) -> None:
        """Take the zeros out of a container, or put what is left into its empty copy."""
        treat = node.treat
        if treat is Treat.ENTRIES:
            self._edit_entries(target, node)
        elif treat is Treat.FIELDS:
            for (name, value), child, inside, _ in node.inner:
                if inside and child.result is not value:
                    object.__setattr__(target, name, child.result)
        elif isinstance(node.value, Set):
            # What stays is not put in again: its hash may not be what it was, and it would be lost.
            set.difference_update(target, [item for _, item in (*node.zeros, *node.gone())])
        elif treat is not Treat.KEEP and (target is not node.value or node.zeros or _changes(node)):
            kept = _kept(node)
            if isinstance(target, deque):
                target.clear()
                target.extend(kept)
            else:
                target[:] = kept

    @staticmethod
    def _edit_entries(target: Any, node: _Node) -> None:
        gone = node.gone()
        if type(target) is dict and target is not node.value:
            if len(node.zeros) + len(gone) == len(node.value):
                return
            target.update(node.value)
        for name, _ in node.zeros:
            del target[name]
        for name, _ in gone:
            del target[name]
        for (name, value), child, inside, _ in node.inner:
            if inside and child.nonzero and child.result is not value:
                target[name] = child.result


def _kept(node: _Node) -> list[Any]:
    """Return the items that a sequence or set has in the result."""
    items = list(node.value)
    if node.kind == "member":
        if not node.zeros and not node.inner:
            return items
        gone = {id(value) for _, value in node.zeros} | {id(value) for _, value in node.gone()}
        return [item for item in items if id(item) not in gone]
    flags = [True] * len(items)
    names = type(node.value)._fields if node.kind == "attribute" else None  # as places of a named tuple
    for (name, value), child, inside, _ in node.inner:
        index = name if names is None else names.index(name)
        if inside and child.result is not _UNMADE and child.result is not value:
            items[index] = child.result
        flags[index] = child.nonzero or not node.removes()
    for index, _ in node.zeros:
        flags[index] = False
    return items if all(flags) else list(compress(items, flags))


def _changes(node: _Node) -> bool:
    """Whether a sequence loses a container or has one replaced in the result."""
    return any(
        (not child.nonzero and node.removes()) or (child.result is not value and child.result is not _UNMADE)
        for (_, value), child, _, _ in node.inner
    )


def _shell(value: Any, treat: Treat) -> Any:
    """Return a new container of the type of this one: a dict or list of exactly that type is empty, another has the
    same values. An object is copied without running any of its methods.
    """
    kind = type(value)
    if kind is dict:
        return {}
    if kind is list:
        return []
    if treat is not Treat.FIELDS:
        return copy.copy(value)
    new: Any = (
        types.SimpleNamespace.__new__(kind) if isinstance(value, types.SimpleNamespace) else object.__new__(kind)
    )
    for name, child in attributes_of(value):
        object.__setattr__(new, name, child)
    return new


def _can_be_changed(value: Any) -> bool:
    """Whether the values in a container can be changed."""
    if isinstance(value, tuple | frozenset):
        return False
    parameters = getattr(type(value), "__dataclass_params__", None)
    if parameters is not None:
        return not parameters.frozen
    # attrs gives a frozen class this method.
    return getattr(type(value).__setattr__, "__name__", "") != "_frozen_setattrs"
