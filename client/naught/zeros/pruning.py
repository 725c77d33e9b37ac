"""Takes zeros out of nested data: `prune`, and the graph of containers that it works on.

`_Pruning.judge_all` makes a node for each container and finds which are zero. `run` then finds which containers stay
in the result, which of those are replaced by a copy, makes the copies, and edits them. A tuple or frozenset cannot be
edited, so it is rebuilt from its finished parts.
"""

from __future__ import annotations

import copy
import operator
from collections import deque
from collections.abc import Set
from typing import Any, Generic, NamedTuple, TypeVar

from naught.zeros.judge import Judge, Rules, Step, Treat, attributes_of

T = TypeVar("T")


class Removed(NamedTuple):
    """A zero that was taken out."""

    path: tuple[Step, ...]
    """The steps to it in the value as it was before."""
    value: Any
    """The zero, as it was."""

    @property
    def where(self) -> str:
        """The path as Python writes it after the value: `['orders'][3].lines`, and {x} for a set's member."""
        return "".join(map(str, self.path))

    def __str__(self) -> str:
        return self.where


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
    has changed.
    """
    pruning = _Pruning(Judge(rules), in_place)
    pruning.judge_all(value)
    return pruning.run(value)


class _Node:
    """One container of the data, with its values."""

    __slots__ = (
        *("value", "treat", "children", "parents", "nonzero"),
        *("reached", "path_to", "path_step", "replaced", "result"),
    )

    def __init__(self, value: Any, treat: Treat) -> None:
        # The container, in the caller's data.
        self.value = value
        # How its values are found.
        self.treat = treat
        # Its values: the step to it, the value, its node (None for a leaf), whether it is a leaf that is zero, and
        # whether to prune inside it.
        self.children: list[tuple[Step, Any, _Node | None, bool, bool]] = []
        # The nodes that have this one among their values, each with whether it prunes inside.
        self.parents: list[tuple[_Node, bool]] = []
        # Whether a nonzero leaf can be reached from here.
        self.nonzero = False
        # Whether it stays in the result, where pruning reaches it.
        self.reached = False
        # The first way in which it was reached: the node before, and the step from there.
        self.path_to: _Node | None = None
        self.path_step: Step | None = None
        # Whether another object takes its place in the result.
        self.replaced = False
        # The object in the result; _UNMADE until it is known.
        self.result: Any = _UNMADE

    def path(self, last: Step) -> tuple[Step, ...]:
        """Return the steps from the outermost value to a value of this container, whose step is `last`."""
        steps = [last]
        node: _Node | None = self
        while node is not None and node.path_step is not None:
            steps.append(node.path_step)
            node = node.path_to
        return tuple(reversed(steps))

    def is_removed(self, child: _Node | None, leaf_is_zero: bool) -> bool:
        """Whether a value of this container is taken out of it."""
        if self.treat not in (Treat.ENTRIES, Treat.ITEMS):
            return False
        return leaf_is_zero if child is None else not child.nonzero


_UNMADE = object()


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

    def _node_of(self, value: Any, pending: list[_Node]) -> _Node | None:
        """Return the node of a container, appending a new one to `pending`; None for a leaf."""
        rule = self._judge.rule(type(value))
        if not isinstance(rule, Treat) or rule is Treat.KEEP:
            return None
        node = self._nodes.get(id(value))
        if node is None:
            node = self._nodes[id(value)] = _Node(value, rule)
            pending.append(node)
        return node

    def judge_all(self, root: Any) -> None:
        """Make the nodes of everything that can be reached, and find which of them are zero."""
        pending: list[_Node] = []
        nonzero: list[_Node] = []
        self._node_of(root, pending)
        while pending:
            node = pending.pop()
            children = self._judge.children(node.value, node.treat)
            if children is None:
                node.treat = Treat.KEEP
                nonzero.append(node)
                continue
            for step, value, inside in children:
                child = self._node_of(value, pending)
                leaf_is_zero = False
                if child is not None:
                    child.parents.append((node, inside))
                else:
                    rule = self._judge.rule(type(value))
                    leaf_is_zero = not isinstance(rule, Treat) and bool(rule(value))
                    if not leaf_is_zero:
                        nonzero.append(node)
                node.children.append((step, value, child, leaf_is_zero, inside))
        while nonzero:
            node = nonzero.pop()
            if not node.nonzero:
                node.nonzero = True
                nonzero.extend(parent for parent, _ in node.parents)

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
                each.result = _shallow_copy(each.value, each.treat)
        for each in self._reached:
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
            found: list[_Node] = []
            for step, value, child, leaf_is_zero, inside in node.children:
                if node.is_removed(child, leaf_is_zero):
                    self._removed.append(Removed(node.path(step), value))
                elif child is not None and inside and not child.reached:
                    child.reached = True
                    child.path_to, child.path_step = node, step
                    found.append(child)
            pending.extend(reversed(found))

    def _find_replaced(self) -> None:
        """Find the containers that another object replaces in the result.

        In a new structure: every dict, list, deque and set, and every container around one; an object or tuple with
        none inside is shared. In place: every container that must lose or replace a value and cannot be changed.
        """
        pending = [node for node in self._reached if self._is_replaced_itself(node)]
        while pending:
            node = pending.pop()
            if node.replaced:
                continue
            node.replaced = True
            for parent, inside in node.parents:
                if parent.reached and inside and not (self._in_place and _can_be_changed(parent.value)):
                    pending.append(parent)

    def _is_replaced_itself(self, node: _Node) -> bool:
        """Whether a container is replaced for its own sake, and not because a value of it is replaced."""
        if self._in_place and _can_be_changed(node.value):
            return False
        if node.treat in (Treat.KEEP, Treat.FIELDS):
            return False
        if not isinstance(node.value, tuple | frozenset):
            return True
        return any(node.is_removed(child, leaf_is_zero) for _, _, child, leaf_is_zero, _ in node.children)

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
                    for _, _, child, _, inside in node.children
                    if inside and child is not None and child.reached and child.result is _UNMADE
                ]
                if unmade:
                    pending.extend(unmade)
                    continue
                kept = self._kept(node)
                if isinstance(node.value, tuple):
                    node.result = tuple.__new__(type(node.value), kept)
                else:
                    node.result = type(node.value)(kept)
            pending.pop()

    def _kept(self, node: _Node) -> list[Any]:
        """Return the items of a sequence or set in the result."""
        return [
            _result_of(value, child, inside)
            for _, value, child, leaf_is_zero, inside in node.children
            if not node.is_removed(child, leaf_is_zero)
        ]

    def _edit(self, target: Any, node: _Node) -> None:
        """Take the zeros out of a container, or of its copy, and put in the results of its other values."""
        if node.treat in (Treat.ITEMS, Treat.PLACES) and not isinstance(target, Set):
            kept = self._kept(node)
            if len(kept) != len(target) or not all(map(operator.is_, kept, target)):
                if isinstance(target, deque):
                    target.clear()
                    target.extend(kept)
                else:
                    target[:] = kept
            return
        for step, value, child, leaf_is_zero, inside in node.children:
            if node.is_removed(child, leaf_is_zero):
                if node.treat is Treat.ENTRIES:
                    del target[step.name]
                else:
                    target.discard(value)
                continue
            result = _result_of(value, child, inside)
            if result is not value:
                if node.treat is Treat.ENTRIES:
                    target[step.name] = result
                else:
                    object.__setattr__(target, step.name, result)


def _shallow_copy(value: Any, treat: Treat) -> Any:
    """Return a new container with the same values. An object is copied without running any of its methods."""
    if treat is not Treat.FIELDS:
        return copy.copy(value)
    new = object.__new__(type(value))
    for name, child in attributes_of(value):
        object.__setattr__(new, name, child)
    return new


def _can_be_changed(value: Any) -> bool:
    """Whether the values in a container can be changed."""
    if isinstance(value, tuple | frozenset):
        return False
    parameters = getattr(type(value), "__dataclass_params__", None)
    return parameters is None or not parameters.frozen


def _result_of(value: Any, child: _Node | None, inside: bool) -> Any:
    """Return the object that a value has in the result."""
    return child.result if child is not None and inside else value
