"""What a module does with each of its maps: every reference to a map's place, and what happens there.

A reference that is not understood is an **escape**: somebody else has the map now and may delete from it,
so the checks that rest on "nothing deletes" fall silent. So does handing it to a function out of reach,
storing it in another container, or choosing between two maps.
"""

from __future__ import annotations

import ast
from dataclasses import dataclass, field
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
    CHANGE = auto()  # map[key] += value, and the other signs
    SETDEFAULT = auto()  # map.setdefault(key, value)
    CONTAINS = auto()  # key in map
    DELETE = auto()  # an entry, several or all go, or the whole map is replaced
    UPDATE = auto()  # entries are added or changed, keys unknown
    SUBTRACT = auto()  # counter.subtract(value)
    LENGTH = auto()  # its size or truth, where entries of zero count
    LIST = auto()  # its entries are listed, those of zero included
    WHOLE = auto()  # it is read in a way that says nothing
    RETURN = auto()  # a function gives it away
    ESCAPE = auto()  # not understood


@dataclass(eq=False, slots=True)
class Use:
    """One reference to a map."""

    action: Action
    node: ast.expr
    """The expression that acts: the subscript, the call, or the reference itself."""
    scope: Scope
    """Where it stands; comprehensions count as their function."""
    key: ast.expr | None = None
    value: ast.expr | None = None
    """What is stored, added, taken away or given as the default."""
    sign: ast.operator | None = None
    """How an entry is changed."""


@dataclass(eq=False, slots=True)
class Map:
    """One map of the module and everything that is done with it."""

    place: Place
    kind: Kind
    lasting: bool
    """Whether its zeros matter: it outlives the call that makes it, or maps that do not are asked for."""
    local: bool
    """Whether it ends with the call that makes it."""
    name: str
    """As the source writes it."""
    uses: list[Use] = field(default_factory=list)
    """In the order of the source."""
    above: Map | None = None
    """The map this one is an entry of."""
    filled: bool = False
    """Whether every assignment that makes it also fills it."""

    def did(self, *actions: Action) -> list[Use]:
        """The uses that are one of `actions`."""
        return [use for use in self.uses if use.action in actions]

    def may_lose_entries(self) -> bool:
        """Whether anything in reach deletes from this map, or from the map it is an entry of, or might."""
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
    "set": Action.WHOLE,
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
        self.names = names
        self.places = Places(names)
        held = self.places.held()
        # Representative -> map, in the order in which the source first makes them.
        self.maps: dict[Place, Map] = {}
        if not held:
            return
        members = self.places.members()
        for root, kind in held.items():
            joined = [root, *members.get(root, ())]
            local = not any(self.places.is_lasting(place) for place in joined)
            lasting = with_locals or not local
            self.maps[root] = Map(root, kind, lasting, local, _called(joined), filled=self._is_filled(root))
        for root, found in self.maps.items():
            found.above = self.maps.get(self.places.find(root.of)) if root.of is not None else None
        # What loose places lose; it is given to the attributes of that name afterwards.
        self._loose: list[tuple[Place, Use]] = []
        self._collect(members)
        self._replacements()
        self._excuse(members)

    def _is_filled(self, root: Place) -> bool:
        made = [b for b in self.places.bindings if b.kind is not None and self.places.find(b.place) == root]
        return bool(made) and all(binding.kind is not None and binding.kind.filled for binding in made)

    def map(self, expression: ast.expr) -> Map | None:
        """The map that lives where an expression says."""
        root = self.places.root(expression) if self.maps else None
        return self.maps.get(root) if root is not None else None

    # -- collecting ----------------------------------------------------------------------------------------

    def _collect(self, members: dict[Place, list[Place]]) -> None:
        loose = {root for root, joined in members.items() if any(map(_is_loose, joined))}
        for node in self.names.nodes:
            if not isinstance(node, ast.Name | ast.Attribute | ast.Subscript | ast.Call):
                continue
            root = self.places.root(node)
            if root is None:
                continue
            found = self.maps.get(root)
            if found is not None:
                use = self._classify(node, gauge=found.kind.name == "gauge")
                found.uses.append(use)
            elif root in loose or _is_loose(root):
                self._loose.append((root, self._classify(node, gauge=False)))

    def _replacements(self) -> None:
        """What is assigned anew outside the function that makes it loses all its entries: a lasting map, or what
        such a map is an entry of, which need not be a map that is known."""
        replaced: dict[Place, ast.expr] = {}
        assigned = [(binding.place, binding.node) for binding in self.places.bindings]
        for place, node in assigned + self.places.dropped:
            # A local alias that is bound in a method replaces nothing.
            if place.of is None and self.places.is_lasting(place) and not self.places.is_making(node):
                replaced.setdefault(self.places.find(place), node)
        for root, found in self.maps.items():
            outer: Place | None = root
            while outer is not None:
                outer = self.places.find(outer)
                if outer in replaced:
                    node = replaced[outer]
                    found.uses.append(Use(Action.DELETE, node, self.names.scope_of[node].function))
                outer = outer.of

    def _excuse(self, members: dict[Place, list[Place]]) -> None:
        """What loose places lose, every attribute of that name may lose."""
        taken = [
            (place, use)
            for root, use in self._loose
            for place in (root, *members.get(root, ()))
            if use.action in (Action.DELETE, Action.ESCAPE)
        ]
        for root, found in self.maps.items():
            loose = {_loosened(place) for place in (root, *members.get(root, ()))}
            found.uses += [use for place, use in taken if place in loose]

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
        return Use(Action.STORE, subscript, scope, subscript.slice, value)

    def _method(self, attribute: ast.Attribute, scope: Scope, methods: dict[str, Action]) -> Use:
        call = self.names.parents[attribute]
        action = methods.get(attribute.attr, Action.ESCAPE)
        if not isinstance(call, ast.Call) or call.func is not attribute:
            # `key=counts.get` reads; `drop = counts.pop` is a way to delete.
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
        """What becomes of a map that is an argument."""
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
        """What becomes of a map that is neither subscripted, called, compared nor passed."""
        if not isinstance(getattr(node, "ctx", ast.Load()), ast.Load):
            if isinstance(parent, ast.AugAssign):
                # Counters drop what is not positive in `+=`, `-=`, `|=` and `&=`; dicts have only `|=`.
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
        """Whether an expression's truth is all that is asked of it."""
        parent = self.names.parents[node]
        if isinstance(parent, ast.BoolOp):
            return self._is_tested(parent)
        if isinstance(parent, ast.comprehension):
            return node in parent.ifs
        return isinstance(parent, ast.If | ast.While | ast.Assert) or (
            isinstance(parent, ast.UnaryOp) and isinstance(parent.op, ast.Not)
        )


def entry_read(expression: ast.expr, found: Map, uses: Uses) -> ast.expr | None:
    """The key under which an expression reads an entry of a map; None where it does not."""
    above = entry_of(expression)
    if above is None or uses.map(above) is not found:
        return None
    if isinstance(expression, ast.Subscript):
        return expression.slice
    return expression.args[0] if isinstance(expression, ast.Call) and expression.args else None


def _called(places: list[Place]) -> str:
    """The plainest name for a map that has several: an attribute's before a global's before a local's."""

    def rank(place: Place) -> tuple[bool, bool, str]:
        return place.what == "entry", place.what == "name", place.name

    best = min(places, key=rank)
    if best.of is not None:
        return f"{_called([best.of])}[…]"
    return f"self.{best.name}" if best.what == "attribute" else best.name


def _is_loose(place: Place) -> bool:
    return _is_loose(place.of) if place.of is not None else place.what == "loose"


def _loosened(place: Place) -> Place:
    """The same place with nothing known about whose attribute it is."""
    if place.of is not None:
        return place._replace(of=_loosened(place.of))
    return Place("loose", 0, place.name) if place.what == "attribute" else place
