"""NZ108: collections that run empty, and whose keys stay: `listeners[topic].discard(listener)`.

A set of whoever listens is a count that also knows their names, and an empty one is its zero. The rule asks for
the same certainty as the countdown does (countdown.py), and for one thing more: that an entry is seen to be made
for what is put into it. Where a program makes empty entries on purpose, as a graph does for a new node, an entry
that runs empty is nothing out of the ordinary.
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
from naught.lint.uses import Action, Map, Use

PUTTING = frozenset(words("add append appendleft extend extendleft insert update setdefault push __setitem__"))
"""Methods that put something into the entry they are called on."""
TAKING = frozenset(
    words("remove discard pop popleft popitem clear difference_update intersection_update __delitem__")
)
"""Methods that take something out of the entry they are called on, or all of it."""
COLLECTIONS = frozenset(name for name, zero in ZERO_FACTORIES.items() if zero.startswith("an empty ")) - {"str"}
DISPLAYS = (ast.List, ast.Set, ast.Dict)
LISTINGS = (ast.ListComp, ast.SetComp, ast.DictComp, ast.GeneratorExp)


@dataclass(frozen=True, slots=True)
class Entry:
    """One expression that stands for an entry of the map."""

    node: ast.expr
    scope: Scope
    key: ast.expr | None
    """None where a loop runs over all of them."""
    use: Use
    """The use of the map it comes from."""


def check(found: Map, flow: Flow) -> Iterator[Report]:
    """The findings for one map."""
    if not found.lasting or found.kind.name not in ("dict", "defaultdict") or found.may_lose_entries():
        return
    if (found.filled and found.kind.name == "dict") or flow.is_by_event(found):
        return
    entries = list(_entries(found, flow))
    put = [each for each in entries if _is_put_into(each.node, flow)]
    replaced = (use for use in found.uses if _is_taken_from(use, found, flow))
    taken = [use.node for use in replaced if not _is_filled_in(use.scope, use.key, put, flow)]
    taken += [each.node for each in entries if _runs_empty(each, put, flow)]
    if not taken or not _made_on_demand(found, put, flow) or _made_empty(found, put, flow):
        return
    if any(each.key is not None and _is_text(each.key) for each in put):
        return  # the program names its keys, these and so, as a rule, the others
    for node in taken:
        message = f"an entry of {found.name} runs empty here, and nothing deletes it then; its key stays"
        yield finding.EMPTIED, node, message


# -- what stands for an entry ------------------------------------------------------------------------------


def _entries(found: Map, flow: Flow) -> Iterator[Entry]:
    for use in found.did(Action.READ, Action.GET, Action.SETDEFAULT):
        yield Entry(use.node, use.scope, use.key, use)
        name = _named(use.node, flow)
        if name is not None and _always_names(name, use, found, flow):
            yield from (Entry(node, use.scope, use.key, use) for node in _reads_of(name, use.scope, flow))
    for use in found.did(Action.LIST):
        loop, name = _loop_name(use.node, flow)
        if loop is not None and name is not None:
            inside = (node for node in _reads_of(name, use.scope, flow) if _is_inside(node, loop, flow))
            yield from (Entry(node, use.scope, None, use) for node in inside)


def _named(value: ast.expr, flow: Flow) -> str | None:
    """The name that a value is assigned to."""
    parent = flow.names.parents[value]
    if isinstance(parent, ast.NamedExpr):
        return parent.target.id
    for target in parent.targets if isinstance(parent, ast.Assign) else ():
        if isinstance(target, ast.Name):
            return target.id
    return None


def _always_names(name: str, use: Use, found: Map, flow: Flow) -> bool:
    """Whether a name stands for this entry wherever the function binds it, or for a new collection."""
    same = {other.node for other in (use, *flow.beside(use, found, Action.READ, Action.GET, Action.SETDEFAULT))}
    for node in ast.walk(use.scope.node):
        if isinstance(node, ast.Name) and node.id == name and not isinstance(node.ctx, ast.Load):
            parent = flow.names.parents[node]
            value = parent.value if isinstance(parent, ast.Assign | ast.NamedExpr) else None
            if value is None or not (value in same or _is_collection(value, flow)):
                return False
    return True


def _reads_of(name: str, scope: Scope, flow: Flow) -> Iterator[ast.Name]:
    for node in ast.walk(scope.node):
        if not isinstance(node, ast.Name) or node.id != name or flow.names.scope_of.get(node) is not scope:
            continue
        # `entry -= {item}` binds the name, and changes the set.
        if isinstance(node.ctx, ast.Load) or isinstance(flow.names.parents[node], ast.AugAssign):
            yield node


def _loop_name(listed: ast.expr, flow: Flow) -> tuple[ast.For | None, str | None]:
    """The loop over `….values()` or `….items()`, and its name for the entry."""
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


def _runs_empty(entry: Entry, put: list[Entry], flow: Flow) -> bool:
    """Whether something is taken out of an entry that may then be empty, and that the function fills not."""
    if flow.is_fixed(entry.key) or not _is_taken_out_of(entry.node, flow) or _keeps_some(entry.node, flow):
        return False
    if entry.key is None and _is_cleared(entry.node, flow):
        return False  # all of them are emptied, and the map is kept for what comes next
    return not _is_filled_in(entry.scope, entry.key, put, flow)


def _is_filled_in(scope: Scope, key: ast.expr | None, put: list[Entry], flow: Flow) -> bool:
    """Whether something is put into the entry under this key in this function as well."""
    return any(each.scope is scope and (each.key is key or flow.same(each.key, key)) for each in put)


def _is_cleared(entry: ast.expr, flow: Flow) -> bool:
    parent = flow.names.parents[entry]
    return isinstance(parent, ast.Attribute) and parent.attr == "clear"


def _is_taken_out_of(entry: ast.expr, flow: Flow) -> bool:
    """Whether something is taken out of an entry. What is taken by a name that is written out is a field, and the
    entry a record."""
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


def _is_taken_from(use: Use, found: Map, flow: Flow) -> bool:
    """Whether an entry is replaced by what is left of it: `of[key] = [each for each in of[key] if …]`."""
    if flow.is_fixed(use.key):
        return False
    if use.action is Action.CHANGE:
        less = isinstance(use.sign, ast.Sub | ast.BitAnd)
        return less and (found.kind.zero == "an empty set" or isinstance(use.value, ast.Set))
    value = use.value
    if use.action is not Action.STORE or value is None:
        return False
    if isinstance(value, ast.Call) and len(value.args) == 1 and flow.names.qualified(value.func) in COLLECTIONS:
        value = value.args[0]
    if not isinstance(value, LISTINGS) or not value.generators[0].ifs:
        return False
    before = [each.node for each in flow.beside(use, found, Action.READ, Action.GET)]
    return any(node in before for node in ast.walk(value.generators[0].iter) if isinstance(node, ast.expr))


def _keeps_some(entry: ast.expr, flow: Flow) -> bool:
    """Whether the code asks first that there are more than some: a bound on the entry's size."""
    for child, parent in flow.names.ancestors(entry):
        if isinstance(parent, ast.If | ast.While | ast.IfExp) and child is not parent.test:
            for test in ast.walk(parent.test):
                if isinstance(test, ast.Compare) and _measures(test, entry, flow) and not _asks_for_any(test):
                    return True
    return False


def _measures(test: ast.Compare, entry: ast.expr, flow: Flow) -> bool:
    return any(
        isinstance(side, ast.Call)
        and flow.names.qualified(side.func) == "len"
        and any(flow.written(argument) == flow.written(entry) for argument in side.args)
        for side in (test.left, *test.comparators)
    )


def _asks_for_any(test: ast.Compare) -> bool:
    """Whether it is `len(entry) > 0`, in one of its spellings."""
    least = test.comparators[0]
    asked = least.value if isinstance(least, ast.Constant) else None
    if asked == 0:
        return isinstance(test.ops[0], ast.Gt | ast.NotEq)
    return asked == 1 and isinstance(test.ops[0], ast.GtE)


# -- how entries come about --------------------------------------------------------------------------------


def _made_on_demand(found: Map, put: list[Entry], flow: Flow) -> bool:
    """Whether an entry is seen to be made for what is put into it, under a key that is not fixed."""
    inserts = found.kind.name == "defaultdict" and found.kind.zero.startswith("an empty ")
    for each in put:
        if flow.is_fixed(each.key) or each.key is None or flow.uses.places.is_making(each.node):
            continue
        beside = flow.beside(each.use, found, Action.STORE, Action.SETDEFAULT)
        made = any(_is_collection(other.value, flow) for other in beside)
        if inserts or made or (each.use.action is Action.SETDEFAULT and _is_collection(each.use.value, flow)):
            return True
    for use in found.did(Action.STORE):
        first = isinstance(use.value, DISPLAYS) and not _is_empty(use.value)
        if first and not flow.is_fixed(use.key) and not flow.uses.places.is_making(use.node):
            return True
    return False


def made_empty(found: Map, flow: Flow) -> bool:
    """Whether an entry is made that nothing is put into at once: here an empty one means something."""
    return _made_empty(found, [each for each in _entries(found, flow) if _is_put_into(each.node, flow)], flow)


def _made_empty(found: Map, put: list[Entry], flow: Flow) -> bool:
    filled = [(each.scope, each.key) for each in put]
    for use in found.did(Action.STORE, Action.SETDEFAULT, Action.READ):
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
    """Whether an expression is an empty display, or a call without arguments as a collection's class is
    called."""
    if isinstance(value, ast.Dict):
        return not value.keys
    if isinstance(value, ast.List | ast.Set):
        return not value.elts
    return isinstance(value, ast.Call) and not value.args and not value.keywords
