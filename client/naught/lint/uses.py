"""Every use of each map of a module: the references to its places, and what each of them does with the map.

A reference that is not understood is an **escape**: other code may have the map now and may delete from it, so the
rules that need "nothing deletes an entry" do not report anything about it. Passing the map to a function outside the
module, storing it in another container and choosing between two maps are escapes too.
"""

from __future__ import annotations

import ast
from dataclasses import dataclass, field, replace
from enum import Enum, auto

from naught.lint.finding import words
from naught.lint.kinds import Kind
from naught.lint.names import Names, Scope
from naught.lint.places import Place, Places, entry_of


class Action(Enum):
    """What a reference does with its map."""

    READ = auto()  # map[key]; of a gauge: labels(key)
    GET = auto()  # map.get(key, value)
    STORE = auto()  # map[key] = value
    CHANGE = auto()  # map[key] += value, or with another operator
    SETDEFAULT = auto()  # map.setdefault(key, value)
    CONTAINS = auto()  # key in map
    DELETE = auto()  # one, several or all entries are deleted, or the whole map is replaced
    UPDATE = auto()  # entries under unknown keys are added or changed
    SUBTRACT = auto()  # counter.subtract(value)
    LENGTH = auto()  # its size or truth is used; entries with a zero count
    LIST = auto()  # its entries are listed, including those with a zero
    WHOLE = auto()  # it is read as a whole, in a way that no rule needs
    RETURN = auto()  # a function returns it
    ESCAPE = auto()  # not understood


@dataclass(eq=False, slots=True)
class Use:
    """One reference to a map."""

    action: Action
    node: ast.expr
    """The expression that does it: the subscript, the call, or the reference itself."""
    scope: Scope
    """The function around it; a comprehension counts as part of its function."""
    key: ast.expr | None = None
    """The key of the entry; None for a use of the whole map."""
    value: ast.expr | None = None
    """The value that is stored, added, subtracted or given as the default."""
    operator: ast.operator | None = None
    """The operator that changes an entry: of `+=`, `-=` and so on."""


@dataclass(eq=False, slots=True)
class TrackedMap:
    """One map of the checked module, and everything that the module does with it."""

    place: Place
    """The representative of its places."""
    kind: Kind
    lasting: bool
    """Whether its zeros matter: it outlives the call that makes it, or `--locals` asks for all maps."""
    local: bool
    """Whether it ends with the call that makes it."""
    name: str
    """The name of a place of it, as the source writes it."""
    uses: list[Use] = field(default_factory=list)
    """In the order of the source."""
    above: TrackedMap | None = None
    """The map this one is an entry of."""
    filled: bool = False
    """Whether every assignment that makes it also fills it."""

    def did(self, *actions: Action) -> list[Use]:
        """Return the uses that are one of `actions`."""
        return [use for use in self.uses if use.action in actions]

    def may_lose_entries(self) -> bool:
        """Whether something deletes, or may delete, from this map or from the map that it is an entry of."""
        if self.did(Action.DELETE, Action.ESCAPE):
            return True
        return self.above is not None and self.above.may_lose_entries()


METHODS = {
    "get": Action.GET,
    "setdefault": Action.SETDEFAULT,
    "pop": Action.DELETE,
    "popitem": Action.DELETE,
    "clear": Action.DELETE,
    "__delitem__": Action.DELETE,
    "__setitem__": Action.STORE,
    "update": Action.UPDATE,
    "subtract": Action.SUBTRACT,
    "items": Action.LIST,
    "keys": Action.LIST,
    "values": Action.LIST,
    "most_common": Action.LIST,
    "elements": Action.WHOLE,
    "total": Action.WHOLE,
    "copy": Action.WHOLE,
    "move_to_end": Action.WHOLE,
    "__contains__": Action.CONTAINS,
    "__getitem__": Action.READ,
    "__len__": Action.LENGTH,
}
GAUGE_METHODS = {
    "labels": Action.READ,
    "remove": Action.DELETE,
    "remove_by_labels": Action.DELETE,
    "clear": Action.DELETE,
    "inc": Action.CHANGE,
    "dec": Action.CHANGE,
    "track_inprogress": Action.CHANGE,
    "set": Action.CHANGE,
    "set_to_current_time": Action.WHOLE,
    "set_function": Action.WHOLE,
    "time": Action.WHOLE,
}
READERS = {
    "len": Action.LENGTH,
    "bool": Action.LENGTH,
    "sorted": Action.LIST,
    "list": Action.LIST,
    "set": Action.LIST,
    "frozenset": Action.LIST,
    "tuple": Action.LIST,
    "iter": Action.LIST,
    "enumerate": Action.LIST,
    "dict": Action.LIST,
    "max": Action.LIST,
    "min": Action.LIST,
} | dict.fromkeys(
    words("""
    print repr str format sum any all isinstance type id hash zip map filter reversed
    json.dumps json.dump pprint.pprint pprint.pformat copy.copy copy.deepcopy types.MappingProxyType
    collections.Counter collections.defaultdict collections.OrderedDict collections.ChainMap
    """),
    Action.WHOLE,
)
LOGGING = frozenset({"debug", "info", "warning", "warn", "error", "exception", "critical", "log"})
MERGING = frozenset({"update", "extend", "union", "difference", "intersection", "subtract"})


class Uses:
    """All the maps of a module."""

    def __init__(self, names: Names, *, with_locals: bool = False) -> None:
        # The scopes of the module.
        self.names = names
        # The places that hold maps.
        self.places = Places(names)
        # The keys that belong to the same object as their map: `self.calls[self.host]`. It has few of them.
        self.own_keys: set[ast.expr] = set()
        held = self.places.held()
        # Representative -> map, in the order in which the source first makes them.
        self.maps: dict[Place, TrackedMap] = {}
        if not held:
            return
        members = self.places.members()
        filled = self._filled()
        for root, kind in held.items():
            joined = [root, *members.get(root, ())]
            local = not any(self.places.is_lasting(place) for place in joined)
            lasting = with_locals or not local
            self.maps[root] = TrackedMap(root, kind, lasting, local, _name_of(joined), filled=root in filled)
        for root, tracked in self.maps.items():
            tracked.above = self.maps.get(self.places.find(root.of)) if root.of is not None else None
        # The uses of loose places; `_add_loose_deletions` adds them to the attributes of that name.
        self._loose: list[tuple[Place, Use]] = []
        self._collect(members)
        self._collect_replacements()
        self._add_loose_deletions(members)
        self._note_own_keys(members)

    def _filled(self) -> set[Place]:
        """Return the representatives of the places whose maps are all made with entries."""
        filled: dict[Place, bool] = {}
        for binding in self.places.bindings:
            if binding.kind is not None:
                root = self.places.find(binding.place)
                filled[root] = filled.get(root, True) and binding.kind.filled
        return {root for root, always in filled.items() if always}

    def key_annotations(self, tracked: TrackedMap) -> list[ast.expr]:
        """Return the annotations of the keys of a map: `str` of `dict[str, int]`."""
        found = []
        for target, annotation in self.places.annotated:
            place = self.places.place(target)
            if place is None or self.places.find(place) != tracked.place or not isinstance(annotation, ast.Subscript):
                continue
            if isinstance(annotation.slice, ast.Tuple) and annotation.slice.elts:
                found.append(annotation.slice.elts[0])
            elif (self.names.qualified(annotation.value) or "").endswith("Counter"):
                found.append(annotation.slice)
        return found

    def map(self, expression: ast.expr) -> TrackedMap | None:
        """Return the map in the place that an expression refers to."""
        root = self.places.root(expression) if self.maps else None
        return self.maps.get(root) if root is not None else None

    # -- collecting ----------------------------------------------------------------------------------------

    def _collect(self, members: dict[Place, list[Place]]) -> None:
        loose = {root for root, joined in members.items() if any(map(_is_loose, joined))}
        for node in self.names.referring:
            root = self.places.root(node)
            if root is None:
                continue
            tracked = self.maps.get(root)
            if tracked is not None:
                use = self._classify(node, gauge=tracked.kind.name == "gauge")
                tracked.uses += self._parts(use)
            elif root in loose or _is_loose(root):
                self._loose.append((root, self._classify(node, gauge=False)))

    def _collect_replacements(self) -> None:
        """Note a deletion for each map that is assigned again outside the functions that make it, and so loses all
        its entries. It also loses them if the place that it is an entry of is assigned, whether or not that holds a
        map that is known."""
        replaced: dict[Place, ast.expr] = {}
        assigned = [(binding.place, binding.node) for binding in self.places.bindings]
        for place, node in assigned + self.places.dropped:
            # An assignment to a local variable replaces nothing.
            is_local = place.what == "name" and place.owner != 0
            if (
                place.of is None
                and not is_local
                and self.places.is_lasting(place)
                and not self.places.is_making(node)
            ):
                replaced.setdefault(self.places.find(place), node)
        for root, tracked in self.maps.items():
            outer: Place | None = root
            while outer is not None:
                outer = self.places.find(outer)
                if outer in replaced:
                    node = replaced[outer]
                    tracked.uses.append(Use(Action.DELETE, node, self.names.scope_of[node].function))
                outer = outer.of

    def _add_loose_deletions(self, members: dict[Place, list[Place]]) -> None:
        """Add the deletions from loose places to every map in an attribute of that name: it may be the same map."""
        deletions: dict[Place, list[Use]] = {}
        for root, use in self._loose:
            if use.action in (Action.DELETE, Action.ESCAPE):
                deletions.setdefault(root, []).append(use)
        if not deletions:
            return
        for root, tracked in self.maps.items():
            loosened = {_loosened(place) for place in (root, *members.get(root, ()))}
            for other in {self.places.find(place) for place in loosened} - {root}:
                tracked.uses += deletions.get(other, ())

    def _note_own_keys(self, members: dict[Place, list[Place]]) -> None:
        """Note the keys that are attributes of the object that the map belongs to: it has one at a time."""
        for root, tracked in self.maps.items():
            joined = (root, *members.get(root, ()))
            owners = {each.owner for each in joined if each.what == "attribute" and not self.places.is_shared(each)}
            for use in tracked.uses if owners else ():
                key = self.places.place(use.key) if isinstance(use.key, ast.Attribute) else None
                if key is not None and key.what == "attribute" and key.owner in owners:
                    assert use.key is not None
                    self.own_keys.add(use.key)

    # -- one reference -------------------------------------------------------------------------------------

    def _classify(self, node: ast.expr, *, gauge: bool) -> Use:
        parent = self.names.parents[node]
        scope = self.names.scope_of[node].function
        if isinstance(parent, ast.Subscript) and parent.value is node:
            return self._subscript(parent, scope)
        if isinstance(parent, ast.Attribute):
            return self._method(parent, scope, GAUGE_METHODS if gauge else METHODS)
        if isinstance(parent, ast.Compare):
            return self._compared(node, parent, scope)
        if isinstance(parent, ast.Call | ast.keyword):
            return Use(self._passed(node), node, scope)
        return Use(self._plain(node, parent), node, scope)

    def _subscript(self, subscript: ast.Subscript, scope: Scope) -> Use:
        if isinstance(subscript.ctx, ast.Del):
            return Use(Action.DELETE, subscript, scope, subscript.slice)
        if isinstance(subscript.ctx, ast.Load):
            return Use(Action.READ, subscript, scope, subscript.slice)
        statement = self.names.parents[subscript]
        if isinstance(statement, ast.AugAssign):
            return Use(Action.CHANGE, subscript, scope, subscript.slice, statement.value, statement.op)
        value = statement.value if isinstance(statement, ast.Assign | ast.AnnAssign) else None
        if isinstance(statement, ast.Tuple | ast.List):
            value = self._unpacked(subscript, statement)
        return Use(Action.STORE, subscript, scope, subscript.slice, value)

    def _unpacked(self, target: ast.expr, targets: ast.Tuple | ast.List) -> ast.expr | None:
        """Return the value for one target of `one, other = 1, 2`."""
        statement = self.names.parents[targets]
        value = statement.value if isinstance(statement, ast.Assign) else None
        if not isinstance(value, ast.Tuple | ast.List) or len(value.elts) != len(targets.elts):
            return None
        starred = any(isinstance(each, ast.Starred) for each in (*targets.elts, *value.elts))
        return None if starred else value.elts[targets.elts.index(target)]

    def _parts(self, use: Use) -> list[Use]:
        """Return one use for each entry of `map.update({key: value})` and `map |= {key: value}`, else the use."""
        value = use.value
        if use.action is Action.UPDATE and value is None:
            statement = self.names.parents[use.node]
            value = statement.value if isinstance(statement, ast.AugAssign) else None
        if use.action is not Action.UPDATE or not isinstance(value, ast.Dict) or None in value.keys:
            return [use]
        return [
            replace(use, action=Action.STORE, key=key, value=of)
            for key, of in zip(value.keys, value.values, strict=True)
        ]

    def _method(self, attribute: ast.Attribute, scope: Scope, methods: dict[str, Action]) -> Use:
        call = self.names.parents[attribute]
        action = methods.get(attribute.attr, Action.ESCAPE)
        if not isinstance(call, ast.Call) or call.func is not attribute:
            # `key=counts.get` only reads, but `drop = counts.pop` may delete later.
            return Use(Action.WHOLE if action is Action.GET else Action.ESCAPE, attribute, scope)
        if any(isinstance(argument, ast.Starred) for argument in call.args):
            return Use(action if action is not Action.GET else Action.WHOLE, call, scope)
        arguments = call.args
        key = arguments[0] if arguments else None
        value = arguments[1] if len(arguments) > 1 else None
        if action in (Action.UPDATE, Action.SUBTRACT, Action.CHANGE):
            key, value = None, key
        return Use(action, call, scope, key, value)

    def _compared(self, node: ast.expr, compare: ast.Compare, scope: Scope) -> Use:
        contains = len(compare.ops) == 1 and isinstance(compare.ops[0], ast.In | ast.NotIn)
        if contains and compare.comparators[0] is node:
            return Use(Action.CONTAINS, compare, scope, compare.left)
        return Use(Action.WHOLE, node, scope)

    def _passed(self, node: ast.expr) -> Action:
        """Return what a call does with a map that is its argument."""
        call = self.names.parents[node]
        if isinstance(call, ast.keyword):
            if call.arg is None:
                return Action.WHOLE  # **counts makes a new map
            call = self.names.parents[call]
        if not isinstance(call, ast.Call):
            return Action.ESCAPE
        if call.func is node:
            return Action.ESCAPE
        reader = READERS.get(self.names.qualified(call.func) or "")
        if reader is not None:
            return reader
        if isinstance(call.func, ast.Attribute):
            if call.func.attr in LOGGING or call.func.attr in MERGING:
                return Action.WHOLE
            if call.func.attr in ("get", "setdefault") and entry_of(call) is not None and node in call.args[1:]:
                return Action.ESCAPE
        known = any(argument is node for argument, _ in self.places.parameters(call))
        return Action.WHOLE if known else Action.ESCAPE

    def _plain(self, node: ast.expr, parent: ast.AST) -> Action:
        """Return what is done with a map that is neither subscripted, called, compared nor passed."""
        if not isinstance(getattr(node, "ctx", ast.Load()), ast.Load):
            if isinstance(parent, ast.AugAssign):
                # A Counter drops values that are not positive in `+=`, `-=`, `|=` and `&=`; a dict has only `|=`.
                return Action.DELETE if isinstance(parent.op, ast.Add | ast.Sub | ast.BitAnd) else Action.UPDATE
            return Action.DELETE if isinstance(parent, ast.Delete) else Action.WHOLE
        match parent:
            case ast.For(iter=it) | ast.AsyncFor(iter=it) | ast.comprehension(iter=it) if it is node:
                return Action.LIST
            case ast.If() | ast.While() | ast.Assert() | ast.UnaryOp(op=ast.Not()):
                return Action.LENGTH
            case ast.BoolOp() if self._is_tested(parent):
                return Action.LENGTH
            case ast.IfExp(test=test) if test is node:
                return Action.LENGTH
            case ast.Return() | ast.Yield() | ast.Lambda():
                return Action.RETURN
            case ast.Assign(value=value) | ast.AnnAssign(value=value) | ast.NamedExpr(value=value) if value is node:
                targets = parent.targets if isinstance(parent, ast.Assign) else [parent.target]
                return Action.WHOLE if all(self.places.place(target) for target in targets) else Action.ESCAPE
            case ast.Expr() | ast.FormattedValue() | ast.BinOp() | ast.UnaryOp() | ast.Starred():
                return Action.WHOLE
            case ast.Dict(keys=keys) if None in keys:
                return Action.WHOLE
        return Action.ESCAPE

    def _is_tested(self, node: ast.AST) -> bool:
        """Whether only the truth of an expression is used."""
        parent = self.names.parents[node]
        if isinstance(parent, ast.BoolOp):
            return self._is_tested(parent)
        if isinstance(parent, ast.comprehension):
            return node in parent.ifs
        return isinstance(parent, ast.If | ast.While | ast.Assert) or (
            isinstance(parent, ast.UnaryOp) and isinstance(parent.op, ast.Not)
        )


def entry_read(expression: ast.expr, tracked: TrackedMap, uses: Uses) -> ast.expr | None:
    """Return the key under which an expression reads an entry of a map; None if it reads none."""
    above = entry_of(expression)
    if above is None or uses.map(above) is not tracked:
        return None
    if isinstance(expression, ast.Subscript):
        return expression.slice
    return expression.args[0] if isinstance(expression, ast.Call) and expression.args else None


def _name_of(places: list[Place]) -> str:
    """Return the name to report for a map in several places: an attribute if there is one, otherwise a variable."""

    def rank(place: Place) -> tuple[bool, bool, str]:
        return place.what == "entry", place.what == "name", place.name

    best = min(places, key=rank)
    if best.of is not None:
        return f"{_name_of([best.of])}[…]"
    return f"self.{best.name}" if best.what == "attribute" else best.name


def _is_loose(place: Place) -> bool:
    return _is_loose(place.of) if place.of is not None else place.what == "loose"


def _loosened(place: Place) -> Place:
    """Return the same place as a loose one, where the class of an attribute is not known."""
    if place.of is not None:
        return place._replace(of=_loosened(place.of))
    return Place("loose", 0, place.name) if place.what == "attribute" else place
