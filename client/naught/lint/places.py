"""Aliases: the places that hold maps, and which of them hold the same map.

A **place** is a name in a scope, an attribute of a class, or "an entry of" another place. Classes of the module that
inherit from each other form a family and share their attributes, so a deletion in a subclass counts for its base
class. In `other.refs`, where the class of `other` is unknown, the attribute is a *loose* place. A deletion from a
loose place counts for every attribute of that name, and no other use of it counts at all.

Places that hold the same map are joined (union-find): by assignment (`refs = self.refs`), by a call of a function of
this module (`tidy(self.refs)` joins the attribute and the parameter), and by iteration over `.values()` or `.items()`
of a map of maps. The order of statements is ignored: places that ever hold the same map count as holding it always.
This errs towards fewer findings.
"""

from __future__ import annotations

import ast
import re
from collections import defaultdict
from collections.abc import Iterator
from dataclasses import dataclass
from typing import Literal, NamedTuple

from naught.lint.finding import words
from naught.lint.kinds import MAKERS, Kind, kind_of
from naught.lint.names import FUNCTIONS, FunctionNode, Names, Scope

MAKING_FUNCTIONS = frozenset(
    words("""
    __init__ __new__ __post_init__ __init_subclass__ __set_name__ __attrs_post_init__ __attrs_pre_init__
    model_post_init __setstate__ __init_private_attributes__ setUp setUpClass asyncSetUp setUpModule setup_method
    setup_class setup_module cog_load setup_hook startFactory startService open_spider
    """)
)
"""The functions that assign an attribute for the first time. An assignment in any other function replaces the map,
and so deletes its entries."""
MAKING_NAME = re.compile(
    r"_*(async_)?(setup|set_up|init|initiali[sz]e|configure|prepare|bootstrap|build)(_|$)|_*on_(load|setup|init)$"
)
"""Functions with such a name make a map too, if no other function assigns it: `setup`, `init_counts`."""
STARTING_NAME = re.compile(
    r"_*(async_)?(start|startup|open|load|install|begin|boot|ready|on_start|on_startup|on_ready)$"
)
"""So do these, where nothing else assigns the map, not even None."""


INSTANCE = "self"
"""The attribute that stands for the instance of a class that is a map itself."""


class Place(NamedTuple):
    """A place that can hold a map; see the docstring of the module."""

    what: Literal["name", "attribute", "loose", "entry"]
    owner: int
    """The number of the scope or of the family; 0 for loose attributes and entries."""
    name: str
    of: Place | None = None
    """The place of the map that an entry belongs to."""


@dataclass(slots=True)
class Binding:
    """One assignment to a place."""

    place: Place
    node: ast.expr
    kind: Kind | None
    """The kind of the map that is assigned; None if it is not known."""
    alias: bool
    """Whether the value is another place. That joins the two places, and says nothing about the kind."""


class EndlessError(RecursionError):
    """The joined places would make a map an entry of itself, at some depth."""

    def __init__(self, links: list[Place]) -> None:
        super().__init__("a map is an entry of itself")
        self.links = links
        """The places whose links form the circle."""


class Places:
    """The places of a module, which of them are joined, and everything that is assigned to them."""

    def __init__(self, names: Names) -> None:
        # The scopes of the module.
        self.names = names
        # Class -> the number of its family.
        self.family = _families(names)
        # The number of a family -> its classes.
        self._classes: dict[int, list[ast.ClassDef]] = defaultdict(list)
        for node, number in self.family.items():
            self._classes[number].append(node)
        # The number of a family -> the methods of its classes; None for a name that several have. Filled on demand.
        self._methods: dict[int, dict[str, FunctionNode | None]] = {}
        # Family -> the class of maps that one of its classes inherits from, and that class.
        self.made_of = {
            self.family[node]: (node, MAKERS[name])
            for node in self.family
            for base in node.bases
            if (name := names.qualified(base.value if isinstance(base, ast.Subscript) else base)) in MAKERS
            and MAKERS[name] not in ("gauge", "defaultdict")
        }
        # Place -> another place with the same map. The place of a map that has no link is its representative.
        self._links: dict[Place, Place] = {}
        # Representative -> how many places are joined with it, about: that is not changed when a link is undone.
        self._sizes: dict[Place, int] = defaultdict(lambda: 1)
        # Expression -> its place or None, because `place` is called many times for the same expression.
        self._known: dict[ast.expr, Place | None] = {}
        # Every assignment to a place, in the order of the source.
        self.bindings: list[Binding] = []
        # Every assignment of None: the place holds no map yet, or no longer.
        self.dropped: list[tuple[Place, ast.expr]] = []
        # The targets that are annotated, with their annotations.
        self.annotated: list[tuple[ast.expr, ast.expr]] = []
        # The places that are changed by `+=` and the like.
        self._changed: set[Place] = set()
        # Place -> its bindings; filled when it is first asked for.
        self._bound: dict[Place, list[Binding]] | None = None
        # Pairs of places that hold the same map.
        self._pairs: list[tuple[Place, Place]] = []
        # The place of a link -> the pair that the link was made for.
        self._made_for: dict[Place, tuple[Place, Place]] = {}
        # The pairs that are not joined, because their link would make a map an entry of itself.
        self._refused: set[tuple[Place, Place]] = set()
        # The places whose links `find` has followed so far, across its nested calls.
        self._followed: list[Place] = []
        # The entries whose map is being searched, each with the length of `_followed` when its search began.
        self._begun: dict[Place, int] = {}
        # The parameters that some call in this module passes a value to.
        self.passed: set[Place] = set()
        for assigning in names.assigning:
            self._collect(assigning)
        # The private methods that only constructors call.
        self._helpers = self._find_helpers(None)
        # The functions besides that make maps: those that `setup` and the like call, and those that begin a program.
        self._making = self._helpers | self._find_helpers(MAKING_NAME) | self._find_starting()
        # The local variables that a function keeps which outlives the call.
        self._kept = self._find_kept()
        self._join_all()

    # -- places --------------------------------------------------------------------------------------------

    def place(self, expression: ast.expr) -> Place | None:
        """Return the place that an expression refers to, whether or not it holds a map."""
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
            if self.made_of:
                family = self._instance_family(expression)
                if family in self.made_of and isinstance(owner.node, FUNCTIONS):
                    return Place("attribute", family, INSTANCE)
            return Place("name", owner.number, expression.id)
        if isinstance(expression, ast.Call):
            result = self._result(expression)
            if result is not None:
                return result
        if isinstance(expression, ast.Attribute):
            family = self._instance_family(expression.value)
            if family is not None:
                return Place("attribute", family, expression.attr)
            return None if names.qualified(expression) else Place("loose", 0, expression.attr)
        of = entry_of(expression)
        above = self.place(of) if of is not None else None
        return Place("entry", 0, "", above) if above is not None else None

    def _result(self, call: ast.Call) -> Place | None:
        """Return the place of what `super()` gives in a class that is a map itself."""
        if not self.made_of or self.names.qualified(call.func) != "super":
            return None
        scope: Scope | None = self.names.scope_of[call].function
        while scope is not None and not scope.is_class:
            scope = scope.parent
        family = self.family.get(scope.node) if scope is not None and isinstance(scope.node, ast.ClassDef) else None
        return Place("attribute", family, INSTANCE) if family in self.made_of and family is not None else None

    def _family_of(self, node: ast.AST) -> int:
        assert isinstance(node, ast.ClassDef)
        return self.family[node]

    def _instance_family(self, expression: ast.expr) -> int | None:
        """Return the family of `self`, `cls`, `type(self)`, `self.__class__`, or a class of this module."""
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
        """Return the representative of all the places joined with this one."""
        began = len(self._followed)
        try:
            return self._follow(place)
        finally:
            del self._followed[began:]

    def _follow(self, place: Place) -> Place:
        seen: dict[Place, int] = {}
        while True:
            if place.of is not None:
                place = self._with_map_found(place, place.of)
            if place in seen:
                # Joining two maps can join their entries more than once, into a circle. Any place of it will do.
                return min(list(seen)[seen[place] :], key=repr)
            following = self._links.get(place)
            if following is None:
                return place
            seen[place] = len(seen)
            self._followed.append(place)
            place = following

    def _with_map_found(self, entry: Place, of: Place) -> Place:
        """Return the entry as an entry of the representative of its map."""
        if entry in self._begun:
            raise EndlessError(self._followed[self._begun[entry] :])
        self._begun[entry] = len(self._followed)
        try:
            return entry._replace(of=self.find(of))
        finally:
            del self._begun[entry]

    def root(self, expression: ast.expr) -> Place | None:
        """Return the representative of the place that an expression refers to."""
        place = self.place(expression)
        return self.find(place) if place is not None else None

    # -- joining -------------------------------------------------------------------------------------------

    def _join_all(self) -> None:
        """Join every pair, and repeat until the representatives of maps and entries no longer change."""
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
        # The smaller one is linked to the larger one, so that no chain of links is long.
        if self._sizes[left] > self._sizes[right]:
            left, right = right, left
        self._links[left] = right
        self._sizes[right] += self._sizes[left]
        self._made_for[left] = pair
        return True

    def _refuse(self, circle: list[Place]) -> None:
        """Undo the last link of a circle, and never make it again: before it there was no circle.

        A module with many steps such as `tree = tree[key]` joins maps and entries until a map is an entry of itself.
        The search for the map of such an entry would not end.
        """
        last = max(circle, key=list(self._links).index)
        del self._links[last]
        self._refused.add(self._made_for[last])

    def _join(self, left: ast.expr, right: Place | None) -> None:
        place = self.place(left)
        if place is not None and right is not None:
            self._pairs.append((place, right))

    def _collect(self, node: ast.AST) -> None:
        """Note what a node assigns, or passes to a function."""
        if isinstance(node, ast.Assign):
            for target in node.targets:
                self._assign(target, node.value)
        elif isinstance(node, ast.AnnAssign | ast.NamedExpr):
            if isinstance(node, ast.AnnAssign):
                self.annotated.append((node.target, node.annotation))
            if node.value is not None:
                self._assign(node.target, node.value)
        elif isinstance(node, ast.AugAssign):
            if (changed := self.place(node.target)) is not None:
                self._changed.add(changed)
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
        """Note that the targets of `for key, entry in map.items()` and `for entry in map.values()` hold entries."""
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
        """Note that an unknown value is assigned to every name in a target."""
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
        """Return the arguments of a call of a function of this module, each with its parameter."""
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
        """Return the function of this module that is called, and 1 if its first parameter is `self`, otherwise 0."""
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
        """Return the only method of that name in a family; None if there are several, which may differ."""
        if family not in self._methods:
            methods: dict[str, FunctionNode | None] = {}
            for node in self._classes[family]:
                for called, definition in self.names.scopes[node].definitions.items():
                    if isinstance(definition, FUNCTIONS):
                        methods[called] = None if called in methods else definition
            self._methods[family] = methods
        return self._methods[family].get(name)

    # -- the maps in the places ----------------------------------------------------------------------------

    def is_lasting(self, place: Place) -> bool:
        """Whether a place outlives the call that makes it: an attribute or a global, or an entry of one."""
        if place.of is not None:
            return self.is_lasting(place.of)
        return place.what in ("attribute", "loose") or place.owner == 0 or place in self._kept

    # -- what is assigned to an attribute ------------------------------------------------------------------

    def _bindings_of(self, place: Place) -> list[Binding]:
        if self._bound is None:
            self._bound = defaultdict(list)
            for binding in self.bindings:
                self._bound[binding.place].append(binding)
        return self._bound.get(place, [])

    def values_of(self, attribute: ast.Attribute) -> list[ast.expr]:
        """Return all that is assigned to an attribute of a class of this module; nothing if that is not known."""
        place = self.place(attribute)
        if place is None or place.what != "attribute" or place in self._changed:
            return []
        values = []
        for binding in self._bindings_of(place):
            statement = self.names.parents[binding.node]
            if not isinstance(statement, ast.Assign | ast.AnnAssign) or statement.value is None:
                return []
            values.append(statement.value)
        return values

    def is_shared(self, place: Place) -> bool:
        """Whether an attribute belongs to the class, and not to each instance."""
        return any(self.names.scope_of[each.node].function.is_class for each in self._bindings_of(place)) or any(
            isinstance(each.node, ast.Attribute) and self.is_class_of(each.node.value)
            for each in self._bindings_of(place)
        )

    def is_class_of(self, expression: ast.expr) -> bool:
        """Whether an expression is a class of this module by its name."""
        return isinstance(expression, ast.Name) and isinstance(self.names.definition(expression), ast.ClassDef)

    def _find_kept(self) -> set[Place]:
        """Return the local variables in which a map is made, and that a nested function uses which is returned,
        stored or passed on, and so outlives the call."""
        kept = set()
        for binding in self.bindings:
            place = binding.place
            if binding.kind is None or place.what != "name" or place.owner == 0:
                continue
            assert isinstance(binding.node, ast.Name)
            home = self.names.scope_of[binding.node].function
            for name in self.names.named(binding.node.id, home):
                inner = self.names.scope_of[name].function
                if inner is not home and self.place(name) == place and self._is_handed_out(inner, home):
                    kept.add(place)
                    break
        return kept

    def _is_handed_out(self, inner: Scope, home: Scope) -> bool:
        """Whether a nested function is mentioned otherwise than in a call, or is decorated."""
        while inner.parent is not None and inner.parent.function is not home:
            inner = inner.parent.function
        if not isinstance(inner.node, FUNCTIONS):
            return False
        if inner.node.decorator_list:
            return True
        for name in self.names.named(inner.node.name, home):
            parent = self.names.parents[name]
            if not (isinstance(parent, ast.Call) and parent.func is name):
                return isinstance(parent, ast.Return | ast.Tuple | ast.Assign | ast.Dict)
        return False

    def is_making(self, node: ast.AST) -> bool:
        """Whether an assignment at `node` makes the map, and does not replace it later."""
        return self._runs_in(node, self._making, MAKING_NAME)

    def is_constructing(self, node: ast.AST) -> bool:
        """Whether a node runs when the object or the module is made, so that it can enter only the first keys."""
        return self._runs_in(node, self._helpers, None)

    def _runs_in(self, node: ast.AST, functions: set[ast.AST], names: re.Pattern[str] | None) -> bool:
        scope = self.names.scope_of[node].function
        while scope.parent is not None and not scope.is_class:
            if isinstance(scope.node, FUNCTIONS):
                name = scope.node.name
                named = name in MAKING_FUNCTIONS or (names is not None and names.match(name) is not None)
                return named or scope.node in functions
            scope = scope.parent.function
        return True

    def _find_helpers(self, names: re.Pattern[str] | None) -> set[ast.AST]:
        """Return the private methods that are mentioned only in constructors, in the whole module."""
        mentions: dict[str, set[bool]] = defaultdict(set)
        for node in self.names.referring:
            if isinstance(node, ast.Attribute) and node.attr.startswith("_"):
                function = self.names.scope_of[node].function.node
                mentions[node.attr].add(isinstance(function, FUNCTIONS) and self._runs_in(node, set(), names))
        return {
            method
            for node in self.family
            for name, method in self.names.scopes[node].definitions.items()
            if mentions.get(name) == {True}
        }

    def _find_starting(self) -> set[ast.AST]:
        """Return the functions named like `start` that are alone in assigning each place that they assign."""
        assigned: dict[Place, set[ast.AST]] = defaultdict(set)
        emptied = {place for place, node in self.dropped if not self._is_early(node)}
        for binding in self.bindings:
            if not self._is_early(binding.node):
                assigned[binding.place].add(self.names.scope_of[binding.node].function.node)
        shared: set[ast.AST] = set()
        for place, functions in assigned.items():
            if place.what != "name" and (len(functions) > 1 or place in emptied):
                shared |= functions
        return {
            function
            for function in self.names.scopes
            if isinstance(function, FUNCTIONS) and function not in shared and STARTING_NAME.match(function.name)
        }

    def _is_early(self, node: ast.AST) -> bool:
        """Whether an assignment is in the body of a class or of the module, or in a constructor."""
        function = self.names.scope_of[node].function.node
        return not isinstance(function, FUNCTIONS) or self._runs_in(node, set(), MAKING_NAME)

    def held(self) -> dict[Place, Kind]:
        """Return the representatives of the places that certainly hold a map, each with the kind of its map."""
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
        for family, (_, name) in self.made_of.items():
            kinds.setdefault(self.find(Place("attribute", family, INSTANCE)), Kind(name))
        unknown |= {self.find(place) for place in self._borrowed()}
        held = {root: kind for root, kind in kinds.items() if root not in unknown}
        self._hold_entries(held, unknown)
        return held

    def _hold_entries(self, held: dict[Place, Kind], unknown: set[Place]) -> None:
        """Add the entries of maps of maps, of the kind that the default factory makes."""
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
        """Return the parameters that no call in this module passes a value to: other code makes their maps."""
        for scope in self.names.scopes.values():
            if isinstance(scope.node, (*FUNCTIONS, ast.Lambda)):
                arguments = scope.node.args
                for argument in [*arguments.posonlyargs, *arguments.args, *arguments.kwonlyargs]:
                    place = Place("name", scope.number, argument.arg)
                    if place not in self.passed:
                        yield place

    def members(self) -> dict[Place, list[Place]]:
        """Return every representative with all the places that are joined with it."""
        members: dict[Place, list[Place]] = defaultdict(list)
        for place in {*self._links, *self._links.values()}:
            members[self.find(place)].append(place)
        return members


def entry_of(expression: ast.expr) -> ast.expr | None:
    """Return the map `m` of an expression `m[k]`, `m.get(k)`, `m.setdefault(k, …)` or `m.labels(…)`."""
    if isinstance(expression, ast.Subscript):
        return expression.value
    method = expression.func if isinstance(expression, ast.Call) else None
    if isinstance(method, ast.Attribute) and method.attr in ("get", "setdefault", "labels"):
        return method.value
    return None


def first_argument(scope: Scope) -> str | None:
    """Return the name of a method's first parameter, which is its instance or class."""
    node = scope.node
    if not isinstance(node, FUNCTIONS):
        return None
    if any(isinstance(each, ast.Name) and each.id == "staticmethod" for each in node.decorator_list):
        return None
    arguments = [*node.args.posonlyargs, *node.args.args]
    return arguments[0].arg if arguments else None


def _inside(entry: Place, place: Place) -> bool:
    """Whether `entry` is an entry of `place`, at some depth. Such places are never joined."""
    above = entry.of
    while above is not None:
        if above == place:
            return True
        above = above.of
    return False


def _families(names: Names) -> dict[ast.ClassDef, int]:
    """Number the classes; classes that inherit from each other share a number."""
    classes = [scope.node for scope in names.scopes.values() if isinstance(scope.node, ast.ClassDef)]
    family = {node: names.scopes[node].number for node in classes}
    for node in classes:
        for base in node.bases:
            definition = names.definition(base) if isinstance(base, ast.Name) else None
            if isinstance(definition, ast.ClassDef) and definition is not node:
                old, new = family[node], family[definition]
                family = {each: new if number == old else number for each, number in family.items()}
    return family
