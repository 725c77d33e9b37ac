"""The expressions whose value is an entry of a map, and what each of them does with the entry.

An entry is read (`self.listeners[topic]`), or it is the variable of a loop over the map. From there it is followed
through names (`listeners = self.listeners[topic]`), into the functions of the module that it is passed to, and out of
those that return it. A name counts only if nothing but such entries and new collections is assigned to it.
"""

from __future__ import annotations

import ast
from collections.abc import Iterator
from dataclasses import dataclass, replace

from naught.lint.finding import words
from naught.lint.flow import Flow
from naught.lint.kinds import ZERO_FACTORIES
from naught.lint.names import COMPREHENSIONS, FUNCTIONS, Scope
from naught.lint.uses import Action, TrackedMap, Use

PUTTING = frozenset(words("add append appendleft extend extendleft insert update setdefault push __setitem__"))
"""Methods that put an item into the entry they are called on."""
TAKING = frozenset(
    words("remove discard pop popleft popitem clear difference_update intersection_update __delitem__")
)
"""Methods that take one item or all items out of the entry they are called on."""
PUTTING_FUNCTIONS = frozenset(words("heapq.heappush bisect.insort bisect.insort_left bisect.insort_right"))
TAKING_FUNCTIONS = frozenset({"heapq.heappop"})
"""Functions that do the same with their first argument."""
# Classes of collections. Called without arguments, each makes an empty one.
COLLECTIONS = frozenset(name for name, zero in ZERO_FACTORIES.items() if zero.startswith("an empty ")) - {"str"}
# Literals of collections.
DISPLAYS = (ast.List, ast.Set, ast.Dict)
# How far an entry is followed through names and functions.
STEPS_MAX = 4


@dataclass(frozen=True, slots=True)
class Entry:
    """One expression whose value is an entry of the map."""

    node: ast.expr
    scope: Scope
    key: ast.expr | None
    """None for the variable of a loop over all entries."""
    use: Use
    """The use of the map that gives the entry."""
    scopes: tuple[Scope, ...] = ()
    """The functions that it was passed by or returned from."""

    def runs_in(self, scope: Scope) -> bool:
        """Whether the entry is used in a function, or in one that the function passes it to."""
        return scope is self.scope or scope in self.scopes


def entries(tracked: TrackedMap, flow: Flow) -> list[Entry]:
    """Return every expression whose value is an entry of a map."""
    found: dict[ast.expr, Entry] = {}
    read = tracked.did(Action.READ, Action.GET, Action.SETDEFAULT)
    # Each with the number of steps from the expression that reads the entry.
    pending = [(Entry(use.node, use.scope, use.key, use), 0) for use in read]
    for use in tracked.did(Action.STORE):
        # In `entry = self.of[key] = [0, value]`, or `self.of[key] = entry = []`, the name has the entry.
        name = _name_beside(use, flow)
        if name is not None and always_names(name, use, tracked, flow):
            pending += [(Entry(each, use.scope, use.key, use), 1) for each in _reads_of(name, use.scope, flow)]
    for use in tracked.did(Action.LIST):
        loop, name = _loop_name(use.node, flow)
        if loop is not None and name is not None:
            inside = (node for node in _reads_of(name, use.scope, flow) if _is_inside(node, loop, flow))
            pending += [(Entry(node, use.scope, None, use), 1) for node in inside]
    while pending:
        entry, steps = pending.pop()
        if entry.node in found:
            continue
        found[entry.node] = entry
        if steps < STEPS_MAX:
            pending += [(each, steps + 1) for each in _followed(entry, tracked, flow)]
    return sorted(found.values(), key=lambda each: (each.node.lineno, each.node.col_offset))


def _followed(entry: Entry, tracked: TrackedMap, flow: Flow) -> Iterator[Entry]:
    """Return the expressions that have the entry because of this one."""
    name = name_for(entry.node, flow)
    if name is not None and always_names(name, entry.use, tracked, flow, entry.node):
        yield from (replace(entry, node=node) for node in _reads_of(name, entry.scope, flow))
    parent = flow.names.parents[entry.node]
    call = flow.names.parents[parent] if isinstance(parent, ast.keyword) else parent
    if isinstance(call, ast.Call) and call.func is not entry.node:
        for argument, parameter in flow.uses.places.parameters(call):
            scope = flow.scope_numbered(parameter.owner) if argument is entry.node else None
            if scope is not None and not _is_assigned(parameter.name, scope, flow):
                inner = replace(entry, scope=scope, scopes=(*entry.scopes, entry.scope))
                yield from (replace(inner, node=node) for node in _reads_of(parameter.name, scope, flow))
    if isinstance(parent, ast.Return) and isinstance(entry.scope.node, FUNCTIONS):
        for call in flow.calls_of(entry.scope.node):
            key = flow.argument_for(call, entry.key, entry.scope)
            yield Entry(call, flow.names.scope_of[call].function, key, entry.use, (*entry.scopes, entry.scope))


def name_for(value: ast.expr, flow: Flow) -> str | None:
    """Return the name that a value is assigned to."""
    parent = flow.names.parents[value]
    if isinstance(parent, ast.NamedExpr):
        return parent.target.id
    for target in parent.targets if isinstance(parent, ast.Assign) else ():
        if isinstance(target, ast.Name):
            return target.id
    return None


def _name_beside(store: Use, flow: Flow) -> str | None:
    """Return the name that gets the same new value as an entry, or whose value is stored as the entry."""
    statement = flow.names.parents[store.node]
    if isinstance(store.value, ast.Name):
        return store.value.id
    for target in statement.targets if isinstance(statement, ast.Assign) else ():
        if isinstance(target, ast.Name):
            return target.id
    return None


def always_names(name: str, use: Use, tracked: TrackedMap, flow: Flow, given: ast.expr | None = None) -> bool:
    """Whether every assignment to a name in the function gives it this entry, a new collection, or what is stored as
    the entry. `given`: another expression for the entry."""
    beside = flow.beside(use, tracked, Action.READ, Action.GET, Action.SETDEFAULT)
    same: set[ast.expr | None] = {use.node, given, *(other.node for other in beside)}
    stores = [each for each in (use, *flow.beside(use, tracked, Action.STORE)) if each.action is Action.STORE]
    stored = any(isinstance(store.value, ast.Name) and store.value.id == name for store in stores)
    scope = flow.names.scope_of[given].function if given is not None else use.scope
    for node in flow.names.named(name, scope):
        if not isinstance(node.ctx, ast.Load) and flow.names.scope_of[node].function is scope:
            parent = flow.names.parents[node]
            if isinstance(parent, ast.AugAssign):
                continue
            value = parent.value if isinstance(parent, ast.Assign | ast.NamedExpr) else None
            if value is None or not (
                value in same
                or is_collection(value, flow)
                or any(value is store.value for store in stores)
                or (stored and isinstance(value, ast.Call))
            ):
                return False
    return True


def _is_assigned(name: str, scope: Scope, flow: Flow) -> bool:
    return any(
        isinstance(node.ctx, ast.Store) and not isinstance(flow.names.parents[node], ast.AugAssign)
        for node in flow.names.named(name, scope)
    )


def _reads_of(name: str, scope: Scope, flow: Flow) -> Iterator[ast.Name]:
    for node in flow.names.named(name, scope):
        if flow.names.resolve(name, flow.names.scope_of[node]) is not scope:
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


# -- what is done with an entry ----------------------------------------------------------------------------


def put_into(entry: ast.expr, flow: Flow) -> ast.AST | None:
    """Return the expression or statement that puts an item into an entry; None if it does not."""
    parent = flow.names.parents[entry]
    if isinstance(parent, ast.Attribute):
        return flow.names.parents[parent] if parent.attr in PUTTING else None
    if isinstance(parent, ast.Subscript) and parent.value is entry:
        return parent if isinstance(parent.ctx, ast.Store) and not _is_whole(parent.slice) else None
    if isinstance(parent, ast.Call):
        first = bool(parent.args) and parent.args[0] is entry
        return parent if first and flow.names.qualified(parent.func) in PUTTING_FUNCTIONS else None
    if isinstance(parent, ast.AugAssign) and parent.target is entry:
        return parent if isinstance(parent.op, ast.Add | ast.BitOr) else None
    return None


def taken_from(entry: ast.expr, flow: Flow) -> ast.AST | None:
    """Return the expression or statement that takes an item out of an entry; None if it does not.

    An item with a literal string as its key is the field of a record, and does not count.
    """
    parent = flow.names.parents[entry]
    if isinstance(parent, ast.Attribute):
        call = flow.names.parents[parent]
        if parent.attr not in TAKING or not isinstance(call, ast.Call) or call.func is not parent:
            return None
        return None if call.args and is_text(call.args[0]) else call
    if isinstance(parent, ast.Subscript) and parent.value is entry:
        if isinstance(parent.ctx, ast.Store) and _is_whole(parent.slice):
            statement = flow.names.parents[parent]
            value = statement.value if isinstance(statement, ast.Assign) else None
            filtered = isinstance(value, COMPREHENSIONS) and bool(value.generators[0].ifs)
            return statement if value is not None and (filtered or is_empty(value)) else None
        return parent if isinstance(parent.ctx, ast.Del) and not is_text(parent.slice) else None
    if isinstance(parent, ast.Call):
        first = bool(parent.args) and parent.args[0] is entry
        return parent if first and flow.names.qualified(parent.func) in TAKING_FUNCTIONS else None
    if isinstance(parent, ast.AugAssign) and parent.target is entry:
        return parent if isinstance(parent.op, ast.Sub | ast.BitAnd) else None
    return None


def _is_whole(index: ast.expr) -> bool:
    """Whether an index is `[:]`."""
    return isinstance(index, ast.Slice) and index.lower is None and index.upper is None


def is_text(node: ast.expr) -> bool:
    return isinstance(node, ast.Constant) and isinstance(node.value, str)


def is_collection(value: ast.expr | None, flow: Flow) -> bool:
    """Whether an expression makes a new collection."""
    if isinstance(value, ast.Call):
        return flow.names.qualified(value.func) in COLLECTIONS
    return isinstance(value, (*DISPLAYS, *COMPREHENSIONS))


def is_set(value: ast.expr | None, flow: Flow) -> bool:
    """Whether an expression makes a new set."""
    if isinstance(value, ast.Call):
        return flow.names.qualified(value.func) in ("set", "frozenset")
    return isinstance(value, ast.Set | ast.SetComp)


def has_sets(tracked: TrackedMap, flow: Flow) -> bool:
    """Whether the entries of a map are sets, so that `-` takes items out of them."""
    begun = tracked.did(Action.STORE, Action.SETDEFAULT)
    return tracked.kind.zero == "an empty set" or any(is_set(use.value, flow) for use in begun)


def is_empty(value: ast.expr | None) -> bool:
    """Whether an expression is an empty display, or a call without arguments, which makes an empty
    collection."""
    if isinstance(value, ast.Dict):
        return not value.keys
    if isinstance(value, ast.List | ast.Set | ast.Tuple):
        return not value.elts
    return isinstance(value, ast.Call) and not value.args and all(word.arg == "maxlen" for word in value.keywords)


# -- how entries are made ----------------------------------------------------------------------------------


def made_on_demand(tracked: TrackedMap, put: list[Entry], flow: Flow) -> bool:
    """Whether the module makes an entry when it has an item to put into it, under a key that is not fixed."""
    inserts = tracked.kind.name == "defaultdict" and tracked.kind.zero.startswith("an empty ")
    for each in put:
        if flow.is_fixed(each.key) or each.key is None or flow.uses.places.is_constructing(each.node):
            continue
        beside = flow.beside(each.use, tracked, Action.STORE, Action.SETDEFAULT)
        made = any(is_collection(other.value, flow) for other in (each.use, *beside))
        stored = any(flow.same(other.value, each.node) for other in (each.use, *beside))
        if inserts or made or stored:
            return True
    for use in tracked.did(Action.STORE, Action.CHANGE):
        if flow.is_fixed(use.key) or flow.uses.places.is_constructing(use.node):
            continue
        if use.action is Action.CHANGE and inserts and isinstance(use.operator, ast.Add | ast.BitOr):
            return True
        if use.action is Action.STORE and _is_begun_with_items(use, tracked, flow):
            return True
    return False


def _is_begun_with_items(use: Use, tracked: TrackedMap, flow: Flow) -> bool:
    """Whether a new collection with items is stored: a display, a comprehension, `set(items)`, or the old one and
    some more."""
    value = use.value
    if isinstance(value, ast.BinOp) and isinstance(value.op, ast.Add | ast.BitOr):
        return _has_empty_default(value.left, use, tracked, flow)
    if value is None or not is_collection(value, flow) or is_empty(value):
        return False
    return part_of_itself(use, tracked, flow) is None


def _has_empty_default(value: ast.expr, use: Use, tracked: TrackedMap, flow: Flow) -> bool:
    """Whether an expression is the same entry, or an empty collection if there is none: `of.get(key, set())`."""
    for other in flow.beside(use, tracked, Action.GET, Action.READ):
        if other.node is value:
            empty = is_empty(other.value) and (isinstance(other.value, ast.Tuple) or is_collection(other.value, flow))
            return empty or tracked.kind.zero.startswith("an empty ")
    return False


def part_of_itself(use: Use, tracked: TrackedMap, flow: Flow) -> list[ast.expr] | None:
    """Return the conditions under which items stay, if what is stored in an entry is some of the items in it.

    `of[key] = [each for each in of[key] if …]`, `list(filter(…, of[key]))`, `of[key] - {item}`.
    """
    value = use.value
    if use.action is not Action.STORE or value is None:
        return None
    if isinstance(value, ast.Name):
        value = flow.only_value(value) or value
    if isinstance(value, ast.Call) and value.args and flow.names.qualified(value.func) in COLLECTIONS:
        value = value.args[0]
    if isinstance(value, COMPREHENSIONS):
        source, tests = value.generators[0].iter, value.generators[0].ifs
    elif isinstance(value, ast.Call) and len(value.args) == 2 and flow.names.qualified(value.func) == "filter":
        source, tests = value.args[1], value.args[:1]
    elif (
        isinstance(value, ast.BinOp)
        and isinstance(value.op, ast.Sub)
        and (is_collection(value.right, flow) or has_sets(tracked, flow))
    ):
        source, tests = value.left, [value.right]
    else:
        return None
    before = [each.node for each in flow.beside(use, tracked, Action.READ, Action.GET)]
    iterated = [source, *(flow.assigned(source) if isinstance(source, ast.Name) else ())]
    own = any(node in before for each in iterated for node in ast.walk(each) if isinstance(node, ast.expr))
    return tests if own and tests else None
