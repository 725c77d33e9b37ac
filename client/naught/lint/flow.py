"""Questions about one place in a module: which keys are fixed, what is asked before, what is stored beside.

These look at the shape of one function: which `if` a node stands under, what the statements before it rule
out, which loop gives a name its values. Two keys are the same when they are written the same.
"""

from __future__ import annotations

import ast
import re
from collections.abc import Iterator

from naught.lint.finding import words
from naught.lint.names import COMPREHENSIONS, FUNCTIONS, Names, all_arguments
from naught.lint.places import first_argument
from naught.lint.uses import Action, Map, Use, Uses

# Names of things that have few values, whatever program they stand in.
FEW_VALUES = frozenset(
    words("""
    status state kind type level phase mode category severity priority color colour direction side method
    flag sign parity weekday month hour minute outcome stage role action operation op tier format
    event hook signal cls klass class scope namespace protocol attr attribute field property
    language lang locale encoding codec dialect algorithm transport backend driver section assistant
    platform arch architecture
    """)
)
# What a class is called that stands for a few values, by the last of the words in its name: `SensorKind`.
FEW_INSTANCES = frozenset(words("Type Kind Status Mode Level Phase Severity Priority Enum Language Locale"))
LAST_WORD = re.compile(r"[A-Z][a-z]*$")
# Words that stand between what a map holds and what its keys are: `jobs_by_state`.
BETWEEN = ("by", "per", "for")
# How maps are called whose keys are names of events.
BY_EVENT = re.compile(r"(event|signal|hook)s?_?(handler|listener|callback|observer|subscriber|receiver)s?$|hooks$")
# The same, where the keys are called names as well.
CALLED = re.compile(
    r"(handler|listener|callback|observer|subscriber|receiver|responder|func|function|processor|event)s?$"
)
# Builtins that hand on what they are given to a loop.
LOOKING = frozenset({"list", "tuple", "set", "sorted", "reversed", "enumerate", "iter"})
# Functions that have few results in one process.
FEW_RESULTS = frozenset({"type", "bool", "os.getpid"})
# Builtins that give one of what they are given.
PICKING = frozenset({"max", "min", "next"})
LEAVING = (ast.Return, ast.Raise, ast.Continue, ast.Break)
ENUMS = frozenset({"enum.Enum", "enum.IntEnum", "enum.StrEnum", "enum.Flag", "enum.IntFlag"})


class Flow:
    """The answers for one module."""

    def __init__(self, uses: Uses) -> None:
        self.uses = uses
        self.names: Names = uses.names
        # Expression -> how it is written, without its position.
        self._written: dict[ast.AST, str] = {}

    # -- keys ----------------------------------------------------------------------------------------------

    def written(self, node: ast.AST) -> str:
        """How an expression is written: two of the same text mean the same key."""
        if node not in self._written:
            self._written[node] = ast.dump(node)
        return self._written[node]

    def same(self, left: ast.AST | None, right: ast.AST | None) -> bool:
        """Whether two keys are written the same."""
        return left is not None and right is not None and self.written(left) == self.written(right)

    def is_fixed(self, key: ast.expr | None) -> bool:
        """Whether a key is one of few that the program itself names, so that its entries cannot pile up."""
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

    def has_few_keys(self, found: Map) -> bool:
        """Whether a map's name says that its keys are few: `jobs_by_state`."""
        return any(
            has_few_values(found.name.rpartition(f"_{word}_")[2]) for word in BETWEEN if f"_{word}_" in found.name
        )

    def is_by_event(self, found: Map) -> bool:
        """Whether a map holds whoever listens by the event they listen for: `event_handlers`, `listeners[name]`.

        A program names its events; topics come from whoever publishes.
        """
        if BY_EVENT.search(found.name) is not None:
            return True
        return CALLED.search(found.name) is not None and any(_is_name(use.key) for use in found.uses)

    def _has_few_values(self, name: ast.Name) -> bool:
        """Whether a name runs over what the source lists, or is annotated as an enumeration or a bool."""
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
        # A name is not followed to another name: two may be assigned from each other. Nor to the name of what may
        # be a function, of which a program is given any number.
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
        """What a name stands for where it is bound once, by an assignment: `cls = node.__class__`."""
        function = self.names.scope_of[name].function.node
        bound = [
            node
            for node in ast.walk(function)
            if isinstance(node, ast.Name) and node.id == name.id and not isinstance(node.ctx, ast.Load)
        ]
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
        """Whether a key is made of what a public function is given, and of nothing the program has kept."""
        function = self.names.scope_of[key].function
        node, around = function.node, function.parent
        if not isinstance(node, FUNCTIONS) or around is None or isinstance(around.node, (*FUNCTIONS, ast.Lambda)):
            return False
        if node.name.startswith("_") and not node.name.endswith("__"):
            return False
        own = first_argument(function) if around.is_class else None
        given = {argument.arg for argument in all_arguments(node.args)} - {own}
        pending, seen, found = [key], set(), False
        while pending:
            for each in ast.walk(pending.pop()):
                if not isinstance(each, ast.Name) or each.id in seen:
                    continue
                seen.add(each.id)
                if each.id == own:
                    return False
                found = found or each.id in given
                pending += self.assigned(each)
                pending += list(self.loops(each))
        return found

    # -- loops ---------------------------------------------------------------------------------------------

    def loops(self, node: ast.expr) -> Iterator[ast.expr]:
        """What the loops around a node run over, if they bind a name in it, or one that such a name is assigned
        from."""
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

    def runs_over(self, node: ast.expr, found: Map) -> bool:
        """Whether a key comes from the map itself: from a loop over it, its keys or its items.

        Also from a name assigned from those, or from a function of the module that returns them; or a name that
        is the largest of them, or the first.
        """
        sources = [source for iterated in self.loops(node) for source in self._sources(iterated)]
        key = node.slice if isinstance(node, ast.Subscript) else None
        only = self._only_value(key) if isinstance(key, ast.Name) else None
        if isinstance(only, ast.Call) and only.args and self.names.qualified(only.func) in PICKING:
            sources.append(only.args[0])
        return any(
            isinstance(each, ast.expr) and self.uses.map(each) is found
            for source in sources
            for each in ast.walk(source)
        )

    def _sources(self, iterated: ast.expr) -> Iterator[ast.AST]:
        """An iterable, and where its value comes from: the assignments to the names in it, what the functions
        it calls return."""
        yield iterated
        for node in ast.walk(iterated):
            if isinstance(node, ast.Name):
                yield from self.assigned(node)
            function = self.uses.places.called(node.func)[0] if isinstance(node, ast.Call) else None
            if function is not None:
                yield from (each for each in ast.walk(function) if isinstance(each, ast.Return))

    def assigned(self, name: ast.Name) -> list[ast.expr]:
        """Everything that is assigned to a name in the function that reads it."""
        return [
            node.value
            for node in ast.walk(self.names.scope_of[name].function.node)
            if isinstance(node, ast.Assign)
            and any(isinstance(target, ast.Name) and target.id == name.id for target in node.targets)
        ]

    def is_in_loop_with(self, node: ast.AST, other: ast.AST) -> bool:
        """Whether one loop of one function holds both nodes."""
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
        """Whether an expression is what a loop runs over, itself or through its items, sorted, numbered and
        so on."""
        for child, parent in self.names.ancestors(node):
            match parent:
                case ast.For(iter=iterated) | ast.AsyncFor(iter=iterated) | ast.comprehension(iter=iterated):
                    return iterated is child
                case ast.Call(func=function) if function is not child:
                    if self.names.qualified(function) not in LOOKING:
                        return False
                case ast.Attribute(attr="items" | "keys" | "values" | "copy") | ast.Call():
                    continue
                case _:
                    return False
        return False

    def is_guarded(self, node: ast.expr, key: ast.expr, found: Map) -> bool:
        """Whether the code that leads to a node has made sure that the key is in the map."""
        for child, parent in self.names.ancestors(node):
            match parent:
                case ast.If(test=test, body=body, orelse=orelse) if child is not test:
                    if self._means(test, key, found, child in body):
                        return True
                    if child not in body and child not in orelse:
                        continue
                case ast.IfExp(test=test, body=body) if child is not test:
                    if self._means(test, key, found, child is body):
                        return True
                case ast.While(test=test, body=body) if child in body:
                    if self._means(test, key, found, True):
                        return True
                case ast.BoolOp(op=op, values=values):
                    before = values[: next(i for i, value in enumerate(values) if value is child)]
                    if any(self._means(value, key, found, isinstance(op, ast.And)) for value in before):
                        return True
                case ast.comprehension(ifs=ifs) if child in ifs:
                    before = ifs[: next(i for i, value in enumerate(ifs) if value is child)]
                    if any(self._means(value, key, found, True) for value in before):
                        return True
            if isinstance(parent, COMPREHENSIONS):
                tests = [test for generator in parent.generators for test in generator.ifs]
                if not isinstance(child, ast.comprehension) and any(
                    self._means(test, key, found, True) for test in tests
                ):
                    return True
            if isinstance(child, ast.stmt) and self._ruled_out_before(child, parent, key, found):
                return True
        return False

    def _ruled_out_before(self, statement: ast.stmt, parent: ast.AST, key: ast.expr, found: Map) -> bool:
        """Whether an earlier statement of the same block leaves, or fails, when the key is not there."""
        for block in blocks(parent):
            if statement in block:
                for earlier in block[: block.index(statement)]:
                    if isinstance(earlier, ast.Assert) and self._means(earlier.test, key, found, True):
                        return True
                    leaves = isinstance(earlier, ast.If) and isinstance(earlier.body[-1], LEAVING)
                    if leaves and isinstance(earlier, ast.If) and self._means(earlier.test, key, found, False):
                        return True
        return False

    def _means(self, test: ast.expr, key: ast.expr, found: Map, outcome: bool) -> bool:
        """Whether `test` having this outcome shows that the key is in the map."""
        match test:
            case ast.UnaryOp(op=ast.Not(), operand=operand):
                return self._means(operand, key, found, not outcome)
            case ast.BoolOp(op=ast.And(), values=values):
                return outcome and any(self._means(value, key, found, True) for value in values)
            case ast.BoolOp(op=ast.Or(), values=values):
                return not outcome and any(self._means(value, key, found, False) for value in values)
            case ast.Compare(left=left, ops=[ast.In() | ast.NotIn() as op], comparators=[right]):
                if isinstance(right, ast.Call) and isinstance(right.func, ast.Attribute):
                    right = right.func.value if right.func.attr == "keys" else right
                return isinstance(op, ast.In) is outcome and self.same(left, key) and self.uses.map(right) is found
            case ast.Name():
                values = self.assigned(test)
                return len(values) == 1 and self._means(values[0], key, found, outcome)
            case ast.Call(func=ast.Attribute(attr="get", value=of), args=[asked, *_]):
                return outcome and self.same(asked, key) and self.uses.map(of) is found
        return False

    # -- beside --------------------------------------------------------------------------------------------

    def beside(self, use: Use, found: Map, *actions: Action) -> list[Use]:
        """The other uses of the same entry in the same function, or in the functions it is nested in."""
        around = [use.scope]
        while around[-1].parent is not None and not around[-1].is_class:
            around.append(around[-1].parent)
        inner = [scope for scope in around if scope is use.scope or isinstance(scope.node, FUNCTIONS)]
        return [
            other
            for other in found.did(*actions)
            if other is not use and other.scope in inner and self.same(other.key, use.key)
        ]


def blocks(node: ast.AST) -> Iterator[list[ast.stmt]]:
    """The blocks of statements a node holds."""
    for name in ("body", "orelse", "finalbody"):
        block = getattr(node, name, None)
        if isinstance(block, list):
            yield block


def has_few_values(name: str) -> bool:
    """Whether what a name stands for has few values, by its last word: `status`, `job_status`."""
    return name.lower().rpartition("_")[2] in FEW_VALUES


def _is_name(key: ast.expr | None) -> bool:
    """Whether a key is called a name: `name`, `event_name`, `signal.name`."""
    called = key.attr if isinstance(key, ast.Attribute) else key.id if isinstance(key, ast.Name) else ""
    return called.rstrip("_").rpartition("_")[2] == "name"


def _is_constant(name: str) -> bool:
    return name.isupper() and len(name) > 1
