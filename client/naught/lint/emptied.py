"""The rule on collections that become empty while their keys stay, NZ108: `listeners[topic].discard(listener)`.

A set of listeners is a count that also knows what it counts, and the empty set is its zero. The rule needs the same
certainty as those of `countdown`. In addition, the module must show that it makes an entry when it has an item to put
into it. If a program makes empty entries on purpose, as a graph does for a new node, an empty entry is expected.
"""

from __future__ import annotations

import ast
from collections.abc import Iterator
from dataclasses import dataclass

from naught.lint import finding
from naught.lint.countdown import Report
from naught.lint.finding import words
from naught.lint.flow import Flow
from naught.lint.kinds import ZERO_FACTORIES
from naught.lint.names import Scope
from naught.lint.uses import Action, TrackedMap, Use

PUTTING = frozenset(words("add append appendleft extend extendleft insert update setdefault push __setitem__"))
"""Methods that put an item into the entry they are called on."""
TAKING = frozenset(
    words("remove discard pop popleft popitem clear difference_update intersection_update __delitem__")
)
"""Methods that take one item or all items out of the entry they are called on."""
# Classes of collections. Called without arguments, each makes an empty one.
COLLECTIONS = frozenset(name for name, zero in ZERO_FACTORIES.items() if zero.startswith("an empty ")) - {"str"}
# Literals of collections.
DISPLAYS = (ast.List, ast.Set, ast.Dict)
# Comprehensions.
LISTINGS = (ast.ListComp, ast.SetComp, ast.DictComp, ast.GeneratorExp)


@dataclass(frozen=True, slots=True)
class Entry:
    """One expression whose value is an entry of the map."""

    node: ast.expr
    scope: Scope
    key: ast.expr | None
    """None for the variable of a loop over all entries."""
    use: Use
    """The use of the map that gives the entry."""


def check(tracked: TrackedMap, flow: Flow) -> Iterator[Report]:
    """Return the findings for one map."""
    if not tracked.lasting or tracked.kind.name not in ("dict", "defaultdict") or tracked.may_lose_entries():
        return
    if (tracked.filled and tracked.kind.name == "dict") or flow.is_by_event(tracked):
        return
    entries = list(_entries(tracked, flow))
    put = [each for each in entries if _is_put_into(each.node, flow)]
    replaced = (use for use in tracked.uses if _is_taken_from(use, tracked, flow))
    taken = [use.node for use in replaced if not _is_filled_in(use.scope, use.key, put, flow)]
    taken += [each.node for each in entries if _may_become_empty(each, put, flow)]
    if not taken or not _made_on_demand(tracked, put, flow) or _made_empty(tracked, put, flow):
        return
    if any(each.key is not None and _is_text(each.key) for each in put):
        return  # the program names some keys itself, and so most probably all of them
    for node in taken:
        message = f"an entry of {tracked.name} can become empty here, and nothing deletes an empty one; its key stays"
        yield finding.EMPTIED, node, message


# -- expressions for an entry ------------------------------------------------------------------------------


def _entries(tracked: TrackedMap, flow: Flow) -> Iterator[Entry]:
    for use in tracked.did(Action.READ, Action.GET, Action.SETDEFAULT):
        yield Entry(use.node, use.scope, use.key, use)
        name = _name_for(use.node, flow)
        if name is not None and _always_names(name, use, tracked, flow):
            yield from (Entry(node, use.scope, use.key, use) for node in _reads_of(name, use.scope, flow))
    for use in tracked.did(Action.LIST):
        loop, name = _loop_name(use.node, flow)
        if loop is not None and name is not None:
            inside = (node for node in _reads_of(name, use.scope, flow) if _is_inside(node, loop, flow))
            yield from (Entry(node, use.scope, None, use) for node in inside)


def _name_for(value: ast.expr, flow: Flow) -> str | None:
    """Return the name that a value is assigned to."""
    parent = flow.names.parents[value]
    if isinstance(parent, ast.NamedExpr):
        return parent.target.id
    for target in parent.targets if isinstance(parent, ast.Assign) else ():
        if isinstance(target, ast.Name):
            return target.id
    return None


def _always_names(name: str, use: Use, tracked: TrackedMap, flow: Flow) -> bool:
    """Whether every assignment to a name in the function gives it this entry or a new collection."""
    same = {other.node for other in (use, *flow.beside(use, tracked, Action.READ, Action.GET, Action.SETDEFAULT))}
    for node in flow.names.named(name, use.scope):
        if not isinstance(node.ctx, ast.Load):
            parent = flow.names.parents[node]
            value = parent.value if isinstance(parent, ast.Assign | ast.NamedExpr) else None
            if value is None or not (value in same or _is_collection(value, flow)):
                return False
    return True


def _reads_of(name: str, scope: Scope, flow: Flow) -> Iterator[ast.Name]:
    for node in flow.names.named(name, scope):
        if flow.names.scope_of[node].function is not scope:
            continue
        # `entry -= {item}` assigns to the name, but also changes the set.
        if isinstance(node.ctx, ast.Load) or isinstance(flow.names.parents[node], ast.AugAssign):
            yield node


def _loop_name(listed: ast.expr, flow: Flow) -> tuple[ast.For | None, str | None]:
    """Return the loop over `….values()` or `….items()`, and its variable for the entry."""
    if not isinstance(listed, ast.Call) or not isinstance(listed.func, ast.Attribute):
        return None, None
    loop = flow.names.parents[listed]
    while isinstance(loop, ast.Call) and flow.names.qualified(loop.func) in ("list", "tuple"):
        loop = flow.names.parents[loop]
    if not isinstance(loop, ast.For):
        return None, None
    target = loop.target
    if listed.func.attr == "items" and isinstance(target, ast.Tuple) and len(target.elts) == 2:
        target = target.elts[1]
    elif listed.func.attr != "values":
        return None, None
    return loop, target.id if isinstance(target, ast.Name) else None


def _is_inside(node: ast.AST, loop: ast.For, flow: Flow) -> bool:
    return any(parent is loop for _, parent in flow.names.ancestors(node))


# -- putting in and taking out -----------------------------------------------------------------------------


def _is_put_into(entry: ast.expr, flow: Flow) -> bool:
    parent = flow.names.parents[entry]
    if isinstance(parent, ast.Attribute):
        return parent.attr in PUTTING
    if isinstance(parent, ast.Subscript) and parent.value is entry:
        return isinstance(parent.ctx, ast.Store)
    return isinstance(parent, ast.AugAssign) and parent.target is entry and isinstance(parent.op, ast.Add | ast.BitOr)


def _may_become_empty(entry: Entry, put: list[Entry], flow: Flow) -> bool:
    """Whether an item is taken out of an entry that may then be empty, and that the function does not fill."""
    if flow.is_fixed(entry.key) or not _is_taken_out_of(entry.node, flow) or _keeps_some(entry.node, flow):
        return False
    if entry.key is None and _is_cleared(entry.node, flow):
        return False  # all entries are emptied, and the map is kept for new items
    return not _is_filled_in(entry.scope, entry.key, put, flow)


def _is_filled_in(scope: Scope, key: ast.expr | None, put: list[Entry], flow: Flow) -> bool:
    """Whether this function also puts an item into the entry under this key."""
    return any(each.scope is scope and (each.key is key or flow.same(each.key, key)) for each in put)


def _is_cleared(entry: ast.expr, flow: Flow) -> bool:
    parent = flow.names.parents[entry]
    return isinstance(parent, ast.Attribute) and parent.attr == "clear"


def _is_taken_out_of(entry: ast.expr, flow: Flow) -> bool:
    """Whether an item is taken out of an entry. An item with a literal string as its key is the field of a record."""
    parent = flow.names.parents[entry]
    if isinstance(parent, ast.Attribute):
        call = flow.names.parents[parent]
        if parent.attr not in TAKING or not isinstance(call, ast.Call) or call.func is not parent:
            return False
        return not (call.args and _is_text(call.args[0]))
    if isinstance(parent, ast.Subscript) and parent.value is entry:
        return isinstance(parent.ctx, ast.Del) and not _is_text(parent.slice)
    return (
        isinstance(parent, ast.AugAssign) and parent.target is entry and isinstance(parent.op, ast.Sub | ast.BitAnd)
    )


def _is_text(node: ast.expr) -> bool:
    return isinstance(node, ast.Constant) and isinstance(node.value, str)


def _is_taken_from(use: Use, tracked: TrackedMap, flow: Flow) -> bool:
    """Whether an entry is replaced by a part of itself: `of[key] = [each for each in of[key] if …]`."""
    if flow.is_fixed(use.key):
        return False
    if use.action is Action.CHANGE:
        less = isinstance(use.operator, ast.Sub | ast.BitAnd)
        return less and (tracked.kind.zero == "an empty set" or isinstance(use.value, ast.Set))
    value = use.value
    if use.action is not Action.STORE or value is None:
        return False
    if isinstance(value, ast.Call) and len(value.args) == 1 and flow.names.qualified(value.func) in COLLECTIONS:
        value = value.args[0]
    if not isinstance(value, LISTINGS) or not value.generators[0].ifs:
        return False
    before = [each.node for each in flow.beside(use, tracked, Action.READ, Action.GET)]
    return any(node in before for node in ast.walk(value.generators[0].iter) if isinstance(node, ast.expr))


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


def _made_on_demand(tracked: TrackedMap, put: list[Entry], flow: Flow) -> bool:
    """Whether the module makes an entry when it has an item to put into it, under a key that is not fixed."""
    inserts = tracked.kind.name == "defaultdict" and tracked.kind.zero.startswith("an empty ")
    for each in put:
        if flow.is_fixed(each.key) or each.key is None or flow.uses.places.is_making(each.node):
            continue
        beside = flow.beside(each.use, tracked, Action.STORE, Action.SETDEFAULT)
        made = any(_is_collection(other.value, flow) for other in beside)
        if inserts or made or (each.use.action is Action.SETDEFAULT and _is_collection(each.use.value, flow)):
            return True
    for use in tracked.did(Action.STORE):
        first = isinstance(use.value, DISPLAYS) and not _is_empty(use.value)
        if first and not flow.is_fixed(use.key) and not flow.uses.places.is_making(use.node):
            return True
    return False


def made_empty(tracked: TrackedMap, flow: Flow) -> bool:
    """Whether the module makes an entry without putting an item into it: then an empty entry is meant to exist."""
    return _made_empty(tracked, [each for each in _entries(tracked, flow) if _is_put_into(each.node, flow)], flow)


def _made_empty(tracked: TrackedMap, put: list[Entry], flow: Flow) -> bool:
    filled = [(each.scope, each.key) for each in put]
    for use in tracked.did(Action.STORE, Action.SETDEFAULT, Action.READ):
        if flow.is_fixed(use.key):
            continue
        touched = isinstance(flow.names.parents[use.node], ast.Expr)
        if not touched and (use.action is not Action.STORE or not _is_empty(use.value)):
            continue
        if not any(scope is use.scope and flow.same(key, use.key) for scope, key in filled):
            return True
    return False


def _is_collection(value: ast.expr | None, flow: Flow) -> bool:
    """Whether an expression makes a new collection."""
    if isinstance(value, ast.Call):
        return flow.names.qualified(value.func) in COLLECTIONS
    return isinstance(value, DISPLAYS)


def _is_empty(value: ast.expr | None) -> bool:
    """Whether an expression is an empty display, or a call without arguments, which makes an empty collection."""
    if isinstance(value, ast.Dict):
        return not value.keys
    if isinstance(value, ast.List | ast.Set):
        return not value.elts
    return isinstance(value, ast.Call) and not value.args and not value.keywords
