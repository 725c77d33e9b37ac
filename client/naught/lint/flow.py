"""Questions about one expression: is its key one of a few, does a condition guard it, is its entry used nearby.

The answers come from the shape of the code: which `if` an expression is under, whether an earlier statement leaves
the function when the key is absent, which loop gives a name its values. Two keys are the same if they are written the
same.
"""

from __future__ import annotations

import ast
import re
from collections.abc import Iterator

from naught.lint.finding import words
from naught.lint.names import COMPREHENSIONS, FUNCTIONS, Names, all_arguments
from naught.lint.places import first_argument
from naught.lint.uses import Action, TrackedMap, Use, Uses

# Names of things that have few values in any program.
FEW_VALUES = frozenset(
    words("""
    status state kind type level phase mode category severity priority color colour direction side method
    flag sign parity weekday month hour minute outcome stage role action operation op tier format
    event hook signal cls klass class scope namespace protocol attr attribute field property
    language lang locale encoding codec dialect algorithm transport backend driver section assistant
    platform arch architecture
    """)
)
# The last word in the name of a class that has few values: `SensorKind`.
FEW_INSTANCES = frozenset(words("Type Kind Status Mode Level Phase Severity Priority Enum Language Locale"))
LAST_WORD = re.compile(r"[A-Z][a-z]*$")
# Words between the name of the values and the name of the keys in a map's name: `jobs_by_state`.
BETWEEN = ("by", "per", "for")
# The names of maps whose keys are names of events.
BY_EVENT = re.compile(r"(event|signal|hook)s?_?(handler|listener|callback|observer|subscriber|receiver)s?$|hooks$")
# The names of maps whose keys are names of events if the keys are called names as well.
BY_EVENT_NAME = re.compile(
    r"(handler|listener|callback|observer|subscriber|receiver|responder|func|function|processor|event)s?$"
)
# Builtins whose result a loop over it takes from their argument.
ITERATING = frozenset({"list", "tuple", "set", "sorted", "reversed", "enumerate", "iter"})
# Functions that have few results in one process.
FEW_RESULTS = frozenset({"type", "bool", "os.getpid"})
# Builtins that return one of the items of their argument.
PICKING = frozenset({"max", "min", "next"})
# Statements that leave their block.
LEAVING = (ast.Return, ast.Raise, ast.Continue, ast.Break)
ENUMS = frozenset({"enum.Enum", "enum.IntEnum", "enum.StrEnum", "enum.Flag", "enum.IntFlag"})


class Flow:
    """Answers the questions for one module."""

    def __init__(self, uses: Uses) -> None:
        # The maps of the module and what it does with them.
        self.uses = uses
        # The scopes of the module.
        self.names: Names = uses.names
        # Expression -> its text, without its position.
        self._written: dict[ast.AST, str] = {}

    # -- keys ----------------------------------------------------------------------------------------------

    def written(self, node: ast.AST) -> str:
        """Return a text of an expression; keys with the same text are the same."""
        if node not in self._written:
            self._written[node] = ast.dump(node)
        return self._written[node]

    def same(self, left: ast.AST | None, right: ast.AST | None) -> bool:
        """Whether two keys are written the same."""
        return left is not None and right is not None and self.written(left) == self.written(right)

    def is_fixed(self, key: ast.expr | None) -> bool:
        """Whether a key is one of a few that the program itself names, so that its entries cannot pile up."""
        if key is None:
            return False
        match key:
            case ast.Constant() | ast.Compare() | ast.Slice():
                return True
            case ast.UnaryOp():
                return isinstance(key.op, ast.Not) or self.is_fixed(key.operand)
            case ast.BinOp(op=ast.Mod(), right=ast.Constant()):
                return True
            case ast.Tuple(elts=parts):
                return all(self.is_fixed(part) for part in parts)
            case ast.IfExp(body=one, orelse=other):
                return self.is_fixed(one) and self.is_fixed(other)
            case ast.Attribute(attr="__class__" | "__name__" | "__qualname__" | "__module__"):
                return True
            case ast.Attribute(attr=name, value=ast.Name(id=owner)):
                return _is_constant(name) or has_few_values(name) or (name.isupper() and owner[:1].isupper())
            case ast.Attribute(attr=name):
                return _is_constant(name) or has_few_values(name)
            case ast.Call(func=function):
                return self.names.qualified(function) in FEW_RESULTS
            case ast.Name(id=name):
                return _is_constant(name) or has_few_values(name) or self._has_few_values(key)
        return False

    def has_few_keys(self, tracked: TrackedMap) -> bool:
        """Whether the map's name says that it has few keys: `jobs_by_state`."""
        return any(
            has_few_values(tracked.name.rpartition(f"_{word}_")[2]) for word in BETWEEN if f"_{word}_" in tracked.name
        )

    def is_by_event(self, tracked: TrackedMap) -> bool:
        """Whether the map has listeners by the name of their event: `event_handlers`, `listeners[name]`.

        A program names its events itself, so they are few. Topics, in contrast, come from the publishers.
        """
        if BY_EVENT.search(tracked.name) is not None:
            return True
        return BY_EVENT_NAME.search(tracked.name) is not None and any(_is_name(use.key) for use in tracked.uses)

    def _has_few_values(self, name: ast.Name) -> bool:
        """Whether a name is the variable of a loop over literals, or is annotated as an enumeration or bool."""
        for loop in self.loops(name):
            if isinstance(loop, ast.Tuple | ast.List | ast.Set):
                return all(self.is_fixed(each) for each in loop.elts)
            if isinstance(loop, ast.Call) and self.names.qualified(loop.func) == "range":
                return all(isinstance(argument, ast.Constant) for argument in loop.args)
            if isinstance(loop, ast.Name) and (_is_constant(loop.id) or self._is_enumeration(loop)):
                return True
        owner = self.names.resolve(name.id, self.names.scope_of[name])
        if owner is None:
            return False
        # A name is not followed to another name, because two names may be assigned from each other. For the value
        # `f.__name__`, `f` decides: a program may be given any number of functions, but has few classes.
        value = self._only_value(name)
        if isinstance(value, ast.Attribute) and value.attr in ("__name__", "__qualname__"):
            value = value.value
        if isinstance(value, ast.Attribute | ast.Call) and self.is_fixed(value):
            return True
        if name.id in owner.definitions or name.id in owner.imports:
            return True
        if isinstance(owner.node, FUNCTIONS):
            arguments = owner.node.args
            for argument in [*arguments.posonlyargs, *arguments.args, *arguments.kwonlyargs]:
                if argument.arg == name.id and argument.annotation is not None:
                    return self._is_enumeration(argument.annotation)
        return False

    def _only_value(self, name: ast.Name) -> ast.expr | None:
        """Return the value of a name that its function assigns exactly once: `cls = node.__class__`."""
        named = self.names.named(name.id, self.names.scope_of[name].function)
        bound = [node for node in named if not isinstance(node.ctx, ast.Load)]
        values = self.assigned(name)
        return values[0] if len(bound) == len(values) == 1 else None

    def _is_enumeration(self, annotation: ast.expr) -> bool:
        if isinstance(annotation, ast.Subscript):
            of = self.names.qualified(annotation.value) or ""
            return of == "type" or of.endswith((".Literal", ".Type"))
        called = annotation.attr if isinstance(annotation, ast.Attribute) else getattr(annotation, "id", "")
        last = LAST_WORD.search(called)
        if last is not None and last.group() in FEW_INSTANCES:
            return True
        if isinstance(annotation, ast.Name):
            definition = self.names.definition(annotation)
            if isinstance(definition, ast.ClassDef):
                return any(self.names.qualified(base) in ENUMS for base in definition.bases)
        return self.names.qualified(annotation) in ("bool", "type")

    def comes_from_outside(self, key: ast.expr) -> bool:
        """Whether a key is made only from arguments of a public function, and not from the program's state."""
        function = self.names.scope_of[key].function
        node, around = function.node, function.parent
        if not isinstance(node, FUNCTIONS) or around is None or isinstance(around.node, (*FUNCTIONS, ast.Lambda)):
            return False
        if node.name.startswith("_") and not node.name.endswith("__"):
            return False
        own = first_argument(function) if around.is_class else None
        given = {argument.arg for argument in all_arguments(node.args)} - {own}
        pending, seen, from_given = [key], set(), False
        while pending:
            for each in ast.walk(pending.pop()):
                if not isinstance(each, ast.Name) or each.id in seen:
                    continue
                seen.add(each.id)
                if each.id == own:
                    return False
                from_given = from_given or each.id in given
                pending += self.assigned(each)
                pending += list(self.loops(each))
        return from_given

    # -- loops ---------------------------------------------------------------------------------------------

    def loops(self, node: ast.expr) -> Iterator[ast.expr]:
        """Return the iterables of the loops around a node whose variables it uses, directly or through a name that
        is assigned from one."""
        named = [each for each in ast.walk(node) if isinstance(each, ast.Name)]
        wanted = {each.id for each in named}
        for value in filter(None, map(self._only_value, named)):
            wanted |= {each.id for each in ast.walk(value) if isinstance(each, ast.Name)}
        for _, parent in self.names.ancestors(node):
            if isinstance(parent, ast.For | ast.AsyncFor):
                generators: list[ast.For | ast.AsyncFor | ast.comprehension] = [parent]
            elif isinstance(parent, COMPREHENSIONS):
                generators = list(parent.generators)
            else:
                continue
            for generator in generators:
                if any(isinstance(each, ast.Name) and each.id in wanted for each in ast.walk(generator.target)):
                    yield generator.iter

    def runs_over(self, node: ast.expr, tracked: TrackedMap) -> bool:
        """Whether a key comes from the map itself: from a loop over the map, its keys or its items.

        The loop may also run over a name that these are assigned to, or over the result of a function of the module
        that returns them. Or the key may be their maximum, minimum or next.
        """
        sources = [source for iterated in self.loops(node) for source in self._sources(iterated)]
        key = node.slice if isinstance(node, ast.Subscript) else None
        only = self._only_value(key) if isinstance(key, ast.Name) else None
        if isinstance(only, ast.Call) and only.args and self.names.qualified(only.func) in PICKING:
            sources.append(only.args[0])
        return any(
            isinstance(each, ast.expr) and self.uses.map(each) is tracked
            for source in sources
            for each in ast.walk(source)
        )

    def _sources(self, iterated: ast.expr) -> Iterator[ast.AST]:
        """Return an iterable and the sources of its value: assignments to the names in it, and the return statements
        of the functions that it calls."""
        yield iterated
        for node in ast.walk(iterated):
            if isinstance(node, ast.Name):
                yield from self.assigned(node)
            function = self.uses.places.called(node.func)[0] if isinstance(node, ast.Call) else None
            if function is not None:
                yield from (each for each in ast.walk(function) if isinstance(each, ast.Return))

    def assigned(self, name: ast.Name) -> list[ast.expr]:
        """Return every value that is assigned to a name in the function that reads it."""
        named = self.names.named(name.id, self.names.scope_of[name].function)
        return [
            parent.value
            for node in named
            if isinstance(node.ctx, ast.Store)
            and isinstance(parent := self.names.parents.get(node), ast.Assign | ast.NamedExpr)
        ]

    def is_in_loop_with(self, node: ast.AST, other: ast.AST) -> bool:
        """Whether both nodes are inside the same loop."""
        around = {parent for _, parent in self.names.ancestors(node) if isinstance(parent, ast.For | ast.While)}
        return any(parent in around for _, parent in self.names.ancestors(other))

    # -- conditions ----------------------------------------------------------------------------------------

    def is_condition(self, node: ast.expr) -> bool:
        """Whether an expression is read to decide something: in a test, or as an operand of a comparison."""
        for child, parent in self.names.ancestors(node):
            match parent:
                case ast.Compare() | ast.Assert():
                    return True
                case ast.If(test=test) | ast.While(test=test) | ast.IfExp(test=test) if test is child:
                    return True
                case ast.UnaryOp(op=ast.Not()):
                    return True
                case ast.BoolOp(values=values) if child is not values[-1]:
                    return True
                case ast.comprehension(ifs=ifs) if child in ifs:
                    return True
                case ast.stmt() | ast.Lambda():
                    return False
        return False

    def is_looped_over(self, node: ast.expr) -> bool:
        """Whether a loop runs over an expression: over itself, its items, its sorted or numbered items, and so on."""
        for child, parent in self.names.ancestors(node):
            match parent:
                case ast.For(iter=iterated) | ast.AsyncFor(iter=iterated) | ast.comprehension(iter=iterated):
                    return iterated is child
                case ast.Call(func=function) if function is not child:
                    if self.names.qualified(function) not in ITERATING:
                        return False
                case ast.Attribute(attr="items" | "keys" | "values" | "copy") | ast.Call():
                    continue
                case _:
                    return False
        return False

    def is_guarded(self, node: ast.expr, key: ast.expr, tracked: TrackedMap) -> bool:
        """Whether the conditions on the way to a node make sure that the key is in the map."""
        for child, parent in self.names.ancestors(node):
            match parent:
                case ast.If(test=test, body=body, orelse=orelse) if child is not test:
                    if self._means(test, key, tracked, child in body):
                        return True
                    if child not in body and child not in orelse:
                        continue
                case ast.IfExp(test=test, body=body) if child is not test:
                    if self._means(test, key, tracked, child is body):
                        return True
                case ast.While(test=test, body=body) if child in body:
                    if self._means(test, key, tracked, True):
                        return True
                case ast.BoolOp(op=op, values=values):
                    before = values[: next(i for i, value in enumerate(values) if value is child)]
                    if any(self._means(value, key, tracked, isinstance(op, ast.And)) for value in before):
                        return True
                case ast.comprehension(ifs=ifs) if child in ifs:
                    before = ifs[: next(i for i, value in enumerate(ifs) if value is child)]
                    if any(self._means(value, key, tracked, True) for value in before):
                        return True
            if isinstance(parent, COMPREHENSIONS):
                tests = [test for generator in parent.generators for test in generator.ifs]
                if not isinstance(child, ast.comprehension) and any(
                    self._means(test, key, tracked, True) for test in tests
                ):
                    return True
            if isinstance(child, ast.stmt) and self._ruled_out_before(child, parent, key, tracked):
                return True
        return False

    def _ruled_out_before(self, statement: ast.stmt, parent: ast.AST, key: ast.expr, tracked: TrackedMap) -> bool:
        """Whether an earlier statement of the same block leaves the block, or raises, if the key is absent."""
        for block in blocks(parent):
            if statement in block:
                for earlier in block[: block.index(statement)]:
                    if isinstance(earlier, ast.Assert) and self._means(earlier.test, key, tracked, True):
                        return True
                    leaves = isinstance(earlier, ast.If) and isinstance(earlier.body[-1], LEAVING)
                    if leaves and isinstance(earlier, ast.If) and self._means(earlier.test, key, tracked, False):
                        return True
        return False

    def _means(self, test: ast.expr, key: ast.expr, tracked: TrackedMap, outcome: bool) -> bool:
        """Whether the key must be in the map if `test` has this outcome."""
        match test:
            case ast.UnaryOp(op=ast.Not(), operand=operand):
                return self._means(operand, key, tracked, not outcome)
            case ast.BoolOp(op=ast.And(), values=values):
                return outcome and any(self._means(value, key, tracked, True) for value in values)
            case ast.BoolOp(op=ast.Or(), values=values):
                return not outcome and any(self._means(value, key, tracked, False) for value in values)
            case ast.Compare(left=left, ops=[ast.In() | ast.NotIn() as op], comparators=[right]):
                if isinstance(right, ast.Call) and isinstance(right.func, ast.Attribute):
                    right = right.func.value if right.func.attr == "keys" else right
                return isinstance(op, ast.In) is outcome and self.same(left, key) and self.uses.map(right) is tracked
            case ast.Name():
                values = self.assigned(test)
                return len(values) == 1 and self._means(values[0], key, tracked, outcome)
            case ast.Call(func=ast.Attribute(attr="get", value=of), args=[asked, *_]):
                return outcome and self.same(asked, key) and self.uses.map(of) is tracked
        return False

    # -- other uses of the same entry ----------------------------------------------------------------------

    def beside(self, use: Use, tracked: TrackedMap, *actions: Action) -> list[Use]:
        """Return the other uses of the same entry in the same function, or in the functions around it."""
        around = [use.scope]
        while around[-1].parent is not None and not around[-1].is_class:
            around.append(around[-1].parent)
        inner = [scope for scope in around if scope is use.scope or isinstance(scope.node, FUNCTIONS)]
        return [
            other
            for other in tracked.did(*actions)
            if other is not use and other.scope in inner and self.same(other.key, use.key)
        ]


def blocks(node: ast.AST) -> Iterator[list[ast.stmt]]:
    """Return the blocks of statements in a node."""
    for name in ("body", "orelse", "finalbody"):
        block = getattr(node, name, None)
        if isinstance(block, list):
            yield block


def has_few_values(name: str) -> bool:
    """Whether the last word of a name says that it has few values: `status`, `job_status`."""
    return name.lower().rpartition("_")[2] in FEW_VALUES


def _is_name(key: ast.expr | None) -> bool:
    """Whether the last word of a key is "name": `name`, `event_name`, `signal.name`."""
    called = key.attr if isinstance(key, ast.Attribute) else key.id if isinstance(key, ast.Name) else ""
    return called.rstrip("_").rpartition("_")[2] == "name"


def _is_constant(name: str) -> bool:
    return name.isupper() and len(name) > 1
