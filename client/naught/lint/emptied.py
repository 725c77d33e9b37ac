"""The rule on collections that become empty while their keys stay, NZ108: `listeners[topic].discard(listener)`.

A set of listeners is a count that also knows what it counts, and the empty set is its zero. The rule needs the same
certainty as those of `countdown`. In addition, the module must show that it makes an entry when it has an item to put
into it. If a program makes empty entries on purpose, as a graph does for a new node, an empty entry is expected.
"""

from __future__ import annotations

import ast
import re
from collections.abc import Iterator

from naught.lint import finding
from naught.lint.blanked import is_removal
from naught.lint.countdown import Report
from naught.lint.entries import (
    Entry,
    entries,
    has_sets,
    is_empty,
    is_set,
    made_on_demand,
    part_of_itself,
    put_into,
    taken_from,
)
from naught.lint.flow import Flow
from naught.lint.names import Scope
from naught.lint.uses import Action, TrackedMap, Use

# Names of maps whose entries are meant to stay when they are empty: the edges of a node, a pool of objects.
MEANT_TO_STAY = re.compile(
    r"(^|[._])(edges?|adj|adjacen\w+|neighbou?rs?|succs?|successors?|preds?|predecessors?|pools?|free|spare)$"
)
# Names of points in time, and of lengths of time. An item that is compared with one expires.
TIMES = re.compile(
    r"(^|_)(now|time|times|timestamp|ts|cutoff|cut_off|expir\w*|deadline|horizon|window|period|interval|ttl|age|"
    r"since|threshold|oldest|seconds|minute|hour|monotonic|utcnow)($|_)"
)


def check(tracked: TrackedMap, flow: Flow) -> Iterator[Report]:
    """Return the findings for one map."""
    if not tracked.lasting or tracked.kind.name not in ("dict", "defaultdict") or tracked.may_lose_entries():
        return
    if (tracked.filled and tracked.kind.name == "dict") or flow.is_by_event(tracked):
        return
    if MEANT_TO_STAY.search(tracked.name.lower()) is not None:
        return
    found = entries(tracked, flow)
    put = [each for each in found if put_into(each.node, flow) is not None]
    taken: list[Use | Entry] = [use for use in tracked.uses if _is_cut_down(use, put, tracked, flow)]
    taken += [each for each in found if _may_become_empty(each, put, flow)]
    if not taken or not made_on_demand(tracked, put, flow) or _made_empty(tracked, put, flow):
        return
    for each in taken:
        message = f"an entry of {tracked.name} can become empty here, and nothing deletes an empty one; its key stays"
        yield Report(finding.EMPTIED, each.node, message, sure=not _is_filled_again(each, put, flow))


# -- taking out --------------------------------------------------------------------------------------------


def _may_become_empty(entry: Entry, put: list[Entry], flow: Flow) -> bool:
    """Whether an item is taken out of an entry that may then be empty, and that the function does not fill."""
    taking = taken_from(entry.node, flow)
    if taking is None or flow.is_fixed(entry.key) or flow.is_fixed(entry.use.key) or _keeps_some(entry.node, flow):
        return False
    if entry.key is None and _is_cleared(entry.node, flow):
        return False  # all entries are emptied, and the map is kept for new items
    return _slides(entry.node, flow) or not _is_filled_in(entry.scope, entry.key, put, flow, entry)


def _is_cut_down(use: Use, put: list[Entry], tracked: TrackedMap, flow: Flow) -> bool:
    """Whether an entry is replaced by a part of itself: `of[key] = [each for each in of[key] if …]`."""
    if flow.is_fixed(use.key):
        return False
    if use.action is Action.CHANGE:
        less = isinstance(use.operator, ast.Sub | ast.BitAnd)
        less = less and (is_set(use.value, flow) or has_sets(tracked, flow))
        more = any(
            isinstance(other.operator, ast.BitOr | ast.Add) for other in flow.beside(use, tracked, Action.CHANGE)
        )
        return less and not more and not _is_filled_in(use.scope, use.key, put, flow)
    tests = part_of_itself(use, tracked, flow)
    if tests is None:
        return False
    return any(map(_names_a_time, tests)) or not _is_filled_in(use.scope, use.key, put, flow)


def _slides(entry: ast.expr, flow: Flow) -> bool:
    """Whether items are taken because they are too old: in a loop whose test asks for the time of the first one.

    Then the function may put an item into the entry afterwards: once that is too old as well, nothing takes it out.
    """
    for child, parent in flow.names.ancestors(entry):
        if isinstance(parent, ast.While) and child is not parent.test:
            own = flow.written(entry)
            tests = [each for each in ast.walk(parent.test) if isinstance(each, ast.Compare)]
            for test in tests:
                first = any(
                    isinstance(each, ast.Subscript) and flow.written(each.value) == own for each in ast.walk(test)
                )
                if first and _names_a_time(test):
                    return True
    return False


def _names_a_time(test: ast.expr) -> bool:
    """Whether a comparison has the name of a time, or a function that returns it."""
    if not any(isinstance(each, ast.Compare) for each in ast.walk(test)):
        return False
    for each in ast.walk(test):
        name = each.id if isinstance(each, ast.Name) else each.attr if isinstance(each, ast.Attribute) else ""
        if name and TIMES.search(name.lower()):
            return True
    return False


def _is_filled_in(
    scope: Scope, key: ast.expr | None, put: list[Entry], flow: Flow, taken: Entry | None = None
) -> bool:
    """Whether this function also puts an item into the entry under this key, and does not take it out here again."""
    for each in put:
        here = each.runs_in(scope) or (taken is not None and taken.runs_in(each.scope))
        same = each.key is key or flow.same(each.key, key)
        if here and same and (taken is None or not _takes_back(each, taken, flow)):
            return True
    return False


def _is_filled_again(taken: Entry | Use, put: list[Entry], flow: Flow) -> bool:
    """Whether the function also fills the entry, or every function that calls this one for it does.

    A limit of calls takes out what is too old and adds the call of now. Then the entry is empty only for a moment: a
    key that is not used again keeps its last items, and not an empty entry.
    """
    if _is_filled_in(taken.scope, taken.key, put, flow, taken if isinstance(taken, Entry) else None):
        return True
    calls = flow.calls_of(taken.scope.node) if _is_window(taken.node, flow) else []
    callers = [flow.names.scope_of[call].function for call in calls]
    return bool(callers) and all(any(each.runs_in(caller) for each in put) for caller in callers)


def _is_window(taken: ast.expr, flow: Flow) -> bool:
    """Whether the function that takes items out of an entry compares times."""
    function = flow.names.scope_of[taken].function.node
    return any(isinstance(each, ast.Compare) and _names_a_time(each) for each in ast.walk(function))


def _takes_back(put: Entry, taken: Entry, flow: Flow) -> bool:
    """Whether what one expression puts into an entry, another takes out later: the same item, or in a `finally`."""
    names = flow.names
    if (
        put.scope is not taken.scope
        or put.node.lineno > taken.node.lineno
        or flow.is_in_loop_with(put.node, taken.node)
    ):
        return False
    for child, parent in names.ancestors(taken.node):
        if isinstance(parent, ast.Try) and child in parent.finalbody:
            return True
    one, other = put_into(put.node, flow), taken_from(taken.node, flow)
    if isinstance(one, ast.Call) and isinstance(other, ast.Call) and one.args and other.args:
        return flow.same(one.args[-1], other.args[0]) or flow.same(one.args[0], other.args[0])
    if isinstance(one, ast.Subscript):
        item = other.args[0] if isinstance(other, ast.Call) and other.args else getattr(other, "slice", None)
        return flow.same(one.slice, item)
    return False


def _is_cleared(entry: ast.expr, flow: Flow) -> bool:
    parent = flow.names.parents[entry]
    return isinstance(parent, ast.Attribute) and parent.attr == "clear"


def _keeps_some(entry: ast.expr, flow: Flow) -> bool:
    """Whether a condition around the expression requires a minimum size of the entry: the entry is bounded."""
    for child, parent in flow.names.ancestors(entry):
        if isinstance(parent, ast.If | ast.While | ast.IfExp) and child is not parent.test:
            for test in ast.walk(parent.test):
                if isinstance(test, ast.Compare) and _compares_size(test, entry, flow) and not _asks_for_any(test):
                    return True
    return False


def _compares_size(test: ast.Compare, entry: ast.expr, flow: Flow) -> bool:
    """Whether a comparison has `len(entry)` on one side."""
    return any(
        isinstance(side, ast.Call)
        and flow.names.qualified(side.func) == "len"
        and any(flow.written(argument) == flow.written(entry) for argument in side.args)
        for side in (test.left, *test.comparators)
    )


def _asks_for_any(test: ast.Compare) -> bool:
    """Whether a comparison is `len(entry) > 0` in one of its spellings."""
    least = test.comparators[0]
    asked = least.value if isinstance(least, ast.Constant) else None
    if asked == 0:
        return isinstance(test.ops[0], ast.Gt | ast.NotEq)
    return asked == 1 and isinstance(test.ops[0], ast.GtE)


# -- how entries are made ----------------------------------------------------------------------------------


def made_empty(tracked: TrackedMap, flow: Flow) -> bool:
    """Whether the module makes an entry without putting an item into it: then an empty entry is meant to exist."""
    found = entries(tracked, flow)
    return _made_empty(tracked, [each for each in found if put_into(each.node, flow) is not None], flow)


def _made_empty(tracked: TrackedMap, put: list[Entry], flow: Flow) -> bool:
    for use in tracked.did(Action.STORE, Action.SETDEFAULT, Action.READ):
        if flow.is_fixed(use.key):
            continue
        touched = isinstance(flow.names.parents[use.node], ast.Expr)
        if not touched and (use.action is not Action.STORE or not is_empty(use.value)):
            continue
        if use.action is Action.STORE and is_removal(use, put, tracked, flow):
            continue
        if not any(each.runs_in(use.scope) and flow.same(each.key, use.key) for each in put):
            return True
    return False
