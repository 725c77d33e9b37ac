"""Where maps live: names, attributes and entries, and which of them are the same map.

A **place** is a name of a scope, an attribute of a class, or "an entry of" a place. Attributes belong to a
family: classes of the module that inherit from one another share theirs, so what a subclass deletes counts
for its base. `other.refs`, where nothing says what `other` is, is a *loose* place; what happens there can
excuse every attribute of that name, and accuse none.

Places that hold the same map are joined (union and find): by assignment (`refs = self.refs`), by a call of
a function of this module (`tidy(self.refs)` joins the attribute and the parameter), and by iteration over
`.values()` or `.items()` of a map of maps. Order is not looked at: whatever is ever the same counts as
always the same, which errs on the side of silence.
"""

from __future__ import annotations

import ast
from collections import defaultdict
from collections.abc import Iterator
from dataclasses import dataclass
from typing import Literal, NamedTuple

from naught.lint.kinds import Kind, kind_of
from naught.lint.names import FUNCTIONS, FunctionNode, Names, Scope

MAKING_FUNCTIONS = frozenset({"__init__", "__new__", "__post_init__", "__init_subclass__", "__set_name__", "setUp"})
"""The functions that bind an attribute for the first time. An assignment anywhere else replaces the map,
and so empties it."""


class Place(NamedTuple):
    """Where a map lives; see the module docstring."""

    what: Literal["name", "attribute", "loose", "entry"]
    owner: int
    """The number of the scope or of the family; 0 for loose attributes and entries."""
    name: str
    of: Place | None = None
    """The map an entry belongs to."""


@dataclass(slots=True)
class Binding:
    """One assignment to a place."""

    place: Place
    node: ast.expr
    kind: Kind | None
    """What is assigned; None where that is not known."""
    alias: bool
    """Whether another place is assigned, which joins the two and says nothing about the kind."""


class EndlessError(RecursionError):
    """The map that an entry belongs to is an entry of that entry, at some depth."""

    def __init__(self, links: list[Place]) -> None:
        super().__init__("a map holds itself")
        self.links = links
        """The places whose links go round."""


class Places:
    """The places of a module, which of them are joined, and everything that is ever assigned to them."""

    def __init__(self, names: Names) -> None:
        self.names = names
        # Class -> the number of its family.
        self.family = _families(names)
        # Place -> another of the same map; the one without is the representative.
        self._links: dict[Place, Place] = {}
        # Expression -> its place, or None; expressions are asked about many times.
        self._known: dict[ast.expr, Place | None] = {}
        # Assignments, in the order of the source.
        self.bindings: list[Binding] = []
        # Places that None is assigned to: no map yet, or no map any more.
        self.dropped: list[tuple[Place, ast.expr]] = []
        # Pairs of places that hold the same map.
        self._pairs: list[tuple[Place, Place]] = []
        # A link -> the pair it was made for; the pairs whose links would make a map an entry of itself.
        self._made_for: dict[Place, tuple[Place, Place]] = {}
        self._refused: set[tuple[Place, Place]] = set()
        # The links followed on the way to an entry's map, and how many there were when each entry was begun.
        self._followed: list[Place] = []
        self._begun: dict[Place, int] = {}
        # Parameters that some call in this module passes a place to.
        self.passed: set[Place] = set()
        for node in names.nodes:
            self._collect(node)
        # Private methods that only constructors call.
        self._helpers = self._find_helpers()
        self._join_all()

    # -- places --------------------------------------------------------------------------------------------

    def place(self, expression: ast.expr) -> Place | None:
        """The place an expression stands for, whether or not a map lives there."""
        if expression not in self._known:
            self._known[expression] = self._place(expression)
        return self._known[expression]

    def _place(self, expression: ast.expr) -> Place | None:
        names = self.names
        if isinstance(expression, ast.Name):
            owner = names.resolve(expression.id, names.scope_of[expression])
            if owner is None or expression.id in owner.imports or expression.id in owner.definitions:
                return None
            if owner.is_class:
                return Place("attribute", self._family_of(owner.node), expression.id)
            return Place("name", owner.number, expression.id)
        if isinstance(expression, ast.Attribute):
            family = self._instance_family(expression.value)
            if family is not None:
                return Place("attribute", family, expression.attr)
            return None if names.qualified(expression) else Place("loose", 0, expression.attr)
        of = entry_of(expression)
        above = self.place(of) if of is not None else None
        return Place("entry", 0, "", above) if above is not None else None

    def _family_of(self, node: ast.AST) -> int:
        assert isinstance(node, ast.ClassDef)
        return self.family[node]

    def _instance_family(self, expression: ast.expr) -> int | None:
        """The family of `self`, `cls`, `type(self)`, `self.__class__`, or the name of a class of this
        module."""
        if isinstance(expression, ast.Attribute) and expression.attr == "__class__":
            return self._instance_family(expression.value)
        if isinstance(expression, ast.Call) and self.names.qualified(expression.func) == "type":
            return self._instance_family(expression.args[0]) if expression.args else None
        if not isinstance(expression, ast.Name):
            return None
        definition = self.names.definition(expression)
        if isinstance(definition, ast.ClassDef):
            return self.family[definition]
        owner = self.names.resolve(expression.id, self.names.scope_of[expression])
        if owner is None:
            return None
        of = self.names.method_class(owner)
        return self.family[of] if of is not None and expression.id == first_argument(owner) else None

    def find(self, place: Place) -> Place:
        """The representative of all the places joined with this one."""
        began = len(self._followed)
        try:
            return self._follow(place)
        finally:
            del self._followed[began:]

    def _follow(self, place: Place) -> Place:
        seen: list[Place] = []
        while True:
            if place.of is not None:
                place = self._with_map_found(place, place.of)
            if place in seen:
                # Joining two maps can join their entries twice over, by different ways; any of them will do.
                return min(seen[seen.index(place) :], key=repr)
            following = self._links.get(place)
            if following is None:
                return place
            seen.append(place)
            self._followed.append(place)
            place = following

    def _with_map_found(self, entry: Place, of: Place) -> Place:
        """The entry, of the representative of its map."""
        if entry in self._begun:
            raise EndlessError(self._followed[self._begun[entry] :])
        self._begun[entry] = len(self._followed)
        try:
            return entry._replace(of=self.find(of))
        finally:
            del self._begun[entry]

    def root(self, expression: ast.expr) -> Place | None:
        """The representative of the place an expression stands for."""
        place = self.place(expression)
        return self.find(place) if place is not None else None

    # -- joining -------------------------------------------------------------------------------------------

    def _join_all(self) -> None:
        """Join every pair; again while that changes what entries belong to."""
        changed = True
        while changed:
            changed = False
            for pair in self._pairs:
                if pair not in self._refused:
                    try:
                        changed = self._join_pair(pair) or changed
                    except EndlessError as endless:
                        self._refuse(endless.links)
                        changed = True

    def _join_pair(self, pair: tuple[Place, Place]) -> bool:
        left, right = map(self.find, pair)
        if left == right or _inside(left, right) or _inside(right, left):
            return False
        self._links[left] = right
        self._made_for[left] = pair
        return True

    def _refuse(self, circle: list[Place]) -> None:
        """Take back the last link of a circle, for good: without it there was none.

        `tree = tree[key]` in a module full of such steps joins maps and entries until one holds itself, and
        then the search for what an entry belongs to has no end.
        """
        last = max(circle, key=list(self._links).index)
        del self._links[last]
        self._refused.add(self._made_for[last])

    def _join(self, left: ast.expr, right: Place | None) -> None:
        place = self.place(left)
        if place is not None and right is not None:
            self._pairs.append((place, right))

    def _collect(self, node: ast.AST) -> None:
        """Note what a node assigns or passes."""
        if isinstance(node, ast.Assign):
            for target in node.targets:
                self._assign(target, node.value)
        elif isinstance(node, ast.AnnAssign | ast.NamedExpr):
            if node.value is not None:
                self._assign(node.target, node.value)
        elif isinstance(node, ast.For | ast.AsyncFor | ast.comprehension):
            self._iterate(node.target, node.iter)
        elif isinstance(node, ast.withitem) and node.optional_vars is not None:
            self._unknown(node.optional_vars)
        elif isinstance(node, ast.Call):
            self._call(node)
            if isinstance(node.func, ast.Attribute) and node.func.attr == "setdefault" and len(node.args) == 2:
                self._assign(node, node.args[1])

    def _assign(self, target: ast.expr, value: ast.expr) -> None:
        if isinstance(target, ast.Tuple | ast.List):
            same = isinstance(value, ast.Tuple | ast.List) and len(value.elts) == len(target.elts)
            if same and not any(isinstance(each, ast.Starred) for each in target.elts):
                assert isinstance(value, ast.Tuple | ast.List)
                for one, its_value in zip(target.elts, value.elts, strict=True):
                    self._assign(one, its_value)
            else:
                self._unknown(target)
            return
        place = self.place(target)
        if place is None:
            return
        if isinstance(value, ast.Constant) and value.value is None:
            self.dropped.append((place, target))
            return
        kind = kind_of(value, self.names)
        source = self.place(value) if kind is None else None
        self.bindings.append(Binding(place, target, kind, source is not None))
        self._join(target, source)

    def _iterate(self, target: ast.expr, iterated: ast.expr) -> None:
        """`for key, entry in map.items()` and `for entry in map.values()` name entries of a map."""
        source = iterated
        while isinstance(source, ast.Call) and source.args and self.names.qualified(source.func) in ("list", "tuple"):
            source = source.args[0]
        if isinstance(source, ast.Call) and isinstance(source.func, ast.Attribute) and not source.args:
            above = self.place(source.func.value)
            entry = Place("entry", 0, "", above) if above is not None else None
            if source.func.attr == "values" and entry is not None:
                self._join(target, entry)
                return
            pair = isinstance(target, ast.Tuple) and len(target.elts) == 2
            if source.func.attr == "items" and entry is not None and pair:
                assert isinstance(target, ast.Tuple)
                self._unknown(target.elts[0])
                self._join(target.elts[1], entry)
                return
        self._unknown(target)

    def _unknown(self, target: ast.expr) -> None:
        """Something not known is assigned to every name in a target."""
        for node in ast.walk(target):
            if isinstance(node, ast.Name | ast.Attribute) and not isinstance(node.ctx, ast.Load):
                place = self.place(node)
                if place is not None:
                    self.bindings.append(Binding(place, node, None, False))

    def _call(self, call: ast.Call) -> None:
        """Join the places passed to a function of this module with its parameters."""
        for argument, parameter in self.parameters(call):
            place = self.place(argument)
            if place is not None:
                self._pairs.append((parameter, place))
            self.passed.add(parameter)

    def parameters(self, call: ast.Call) -> Iterator[tuple[ast.expr, Place]]:
        """The arguments of a call of a function of this module, each with the parameter it becomes."""
        function, skip = self.called(call.func)
        scope = self.names.scopes.get(function) if function is not None else None
        if function is None or scope is None:
            return
        positional = [argument.arg for argument in [*function.args.posonlyargs, *function.args.args]][skip:]
        for argument, name in zip(call.args, positional, strict=False):
            if isinstance(argument, ast.Starred):
                return
            yield argument, Place("name", scope.number, name)
        by_name = {*positional, *(argument.arg for argument in function.args.kwonlyargs)}
        for word in call.keywords:
            if word.arg in by_name:
                assert word.arg is not None
                yield word.value, Place("name", scope.number, word.arg)

    def called(self, function: ast.expr) -> tuple[FunctionNode | None, int]:
        """The function of this module that is called, and how many parameters come before the arguments."""
        if isinstance(function, ast.Name):
            definition = self.names.definition(function)
            if isinstance(definition, ast.ClassDef):
                return self._method(self.family[definition], "__init__"), 1
            return (definition, 0) if isinstance(definition, FUNCTIONS) else (None, 0)
        if isinstance(function, ast.Attribute):
            family = self._instance_family(function.value)
            method = self._method(family, function.attr) if family is not None else None
            if method is not None:
                static = any(self.names.qualified(each) == "staticmethod" for each in method.decorator_list)
                return method, 0 if static else 1
        return None, 0

    def _method(self, family: int, name: str) -> FunctionNode | None:
        """A family's only method of that name; several may do different things with what they are given."""
        found = [
            self.names.scopes[node].definitions.get(name) for node, number in self.family.items() if number == family
        ]
        methods = [method for method in found if isinstance(method, FUNCTIONS)]
        return methods[0] if len(methods) == 1 else None

    # -- what a place holds --------------------------------------------------------------------------------

    def is_lasting(self, place: Place) -> bool:
        """Whether a place outlives the call that made it: an attribute or a global, or an entry of one."""
        if place.of is not None:
            return self.is_lasting(place.of)
        return place.what in ("attribute", "loose") or place.owner == 0

    def is_making(self, node: ast.AST) -> bool:
        """Whether an assignment at `node` is where the map is made, and not where a later one replaces it."""
        scope = self.names.scope_of[node].function
        while scope.parent is not None and not scope.is_class:
            if isinstance(scope.node, FUNCTIONS):
                return scope.node.name in MAKING_FUNCTIONS or scope.node in self._helpers
            scope = scope.parent.function
        return True

    def _find_helpers(self) -> set[ast.AST]:
        """The private methods whose every mention, in the whole module, is in a constructor."""
        mentions: dict[str, set[bool]] = defaultdict(set)
        for node in self.names.nodes:
            if isinstance(node, ast.Attribute) and node.attr.startswith("_"):
                function = self.names.scope_of[node].function.node
                mentions[node.attr].add(isinstance(function, FUNCTIONS) and function.name in MAKING_FUNCTIONS)
        return {
            method
            for node in self.family
            for name, method in self.names.scopes[node].definitions.items()
            if mentions.get(name) == {True}
        }

    def held(self) -> dict[Place, Kind]:
        """Every place that certainly holds a map, by representative, and the kind of the map."""
        kinds: dict[Place, Kind] = {}
        unknown: set[Place] = set()
        for binding in self.bindings:
            root = self.find(binding.place)
            if binding.alias:
                continue
            known = kinds.get(root)
            kind = binding.kind if known is None or binding.kind is None else known.joined(binding.kind)
            if kind is None:
                unknown.add(root)
            else:
                kinds[root] = kind
        unknown |= {self.find(place) for place in self._borrowed()}
        held = {root: kind for root, kind in kinds.items() if root not in unknown}
        self._hold_entries(held, unknown)
        return held

    def _hold_entries(self, held: dict[Place, Kind], unknown: set[Place]) -> None:
        """Add the entries of maps of maps, as the factory makes them."""
        pending = list(held.items())
        while pending:
            root, kind = pending.pop()
            if kind.item is None:
                continue
            entry = self.find(Place("entry", 0, "", root))
            if entry not in unknown and entry not in held:
                held[entry] = kind.item
                pending.append((entry, kind.item))

    def _borrowed(self) -> Iterator[Place]:
        """Parameters that no call of this module gives a value: their maps come from out of reach."""
        for scope in self.names.scopes.values():
            if isinstance(scope.node, (*FUNCTIONS, ast.Lambda)):
                arguments = scope.node.args
                for argument in [*arguments.posonlyargs, *arguments.args, *arguments.kwonlyargs]:
                    place = Place("name", scope.number, argument.arg)
                    if place not in self.passed:
                        yield place

    def members(self) -> dict[Place, list[Place]]:
        """Every representative, with all the places joined in it."""
        members: dict[Place, list[Place]] = defaultdict(list)
        for place in {*self._links, *self._links.values()}:
            members[self.find(place)].append(place)
        return members


def entry_of(expression: ast.expr) -> ast.expr | None:
    """The map an expression takes an entry of: `m[k]`, `m.get(k)`, `m.setdefault(k, …)`, `m.labels(…)`."""
    if isinstance(expression, ast.Subscript):
        return expression.value
    method = expression.func if isinstance(expression, ast.Call) else None
    if isinstance(method, ast.Attribute) and method.attr in ("get", "setdefault", "labels"):
        return method.value
    return None


def first_argument(scope: Scope) -> str | None:
    """The name a method gives its instance or class."""
    node = scope.node
    if not isinstance(node, FUNCTIONS):
        return None
    if any(isinstance(each, ast.Name) and each.id == "staticmethod" for each in node.decorator_list):
        return None
    arguments = [*node.args.posonlyargs, *node.args.args]
    return arguments[0].arg if arguments else None


def _inside(entry: Place, place: Place) -> bool:
    """Whether `entry` is an entry, at some depth, of `place`: such places are never joined."""
    above = entry.of
    while above is not None:
        if above == place:
            return True
        above = above.of
    return False


def _families(names: Names) -> dict[ast.ClassDef, int]:
    """Number the classes so that those that inherit from one another share a number."""
    classes = [scope.node for scope in names.scopes.values() if isinstance(scope.node, ast.ClassDef)]
    family = {node: names.scopes[node].number for node in classes}
    for node in classes:
        for base in node.bases:
            definition = names.definition(base) if isinstance(base, ast.Name) else None
            if isinstance(definition, ast.ClassDef) and definition is not node:
                old, new = family[node], family[definition]
                family = {each: new if number == old else number for each, number in family.items()}
    return family
