"""Where the value of an expression comes from: assignments, loops, and the arguments of calls, in one module.

The answers come from the shape of the code. Two expressions are the same if they are written the same.
"""

from __future__ import annotations

import ast
from collections import defaultdict
from collections.abc import Iterator

from naught.lint.names import COMPREHENSIONS, FUNCTIONS, Names, Scope
from naught.lint.uses import TrackedMap, Uses

# Builtins that return one of the items of their argument.
PICKING = frozenset({"max", "min", "next"})


class Sources:
    """Answers the questions for one module."""

    def __init__(self, uses: Uses) -> None:
        # The maps of the module and what it does with them.
        self.uses = uses
        # The scopes of the module.
        self.names: Names = uses.names
        # Expression -> its text, without its position.
        self._written: dict[ast.AST, str] = {}
        # The scopes by number, and the calls of each function; both are filled when they are first asked for.
        self._numbered: dict[int, Scope] = {}
        self._calls: dict[ast.AST, list[ast.Call]] | None = None
        # Parameter -> what the calls in this module pass for it; filled when it is first asked for.
        self._passed: dict[tuple[int, str], list[ast.expr]] | None = None

    def written(self, node: ast.AST) -> str:
        """Return a text of an expression; keys with the same text are the same."""
        if node not in self._written:
            self._written[node] = ast.dump(node)
        return self._written[node]

    def same(self, left: ast.AST | None, right: ast.AST | None) -> bool:
        """Whether two keys are written the same."""
        return left is not None and right is not None and self.written(left) == self.written(right)

    def only_value(self, name: ast.Name) -> ast.expr | None:
        """Return the value of a name that its function assigns exactly once: `cls = node.__class__`."""
        named = self.names.named(name.id, self.names.scope_of[name].function)
        bound = [node for node in named if not isinstance(node.ctx, ast.Load)]
        values = self.assigned(name)
        return values[0] if len(bound) == len(values) == 1 else None

    # -- calls ---------------------------------------------------------------------------------------------

    def scope_numbered(self, number: int) -> Scope | None:
        """Return the scope with this number, if it is one of a function."""
        if not self._numbered:
            self._numbered.update((scope.number, scope) for scope in self.names.scopes.values())
        scope = self._numbered.get(number)
        return scope if scope is not None and isinstance(scope.node, FUNCTIONS) else None

    def calls_of(self, function: ast.AST) -> list[ast.Call]:
        """Return the calls of a function in this module."""
        if self._calls is None:
            self._calls = defaultdict(list)
            for call in self.names.calls:
                called = self.uses.places.called(call.func)[0]
                if called is not None:
                    self._calls[called].append(call)
        return self._calls.get(function, [])

    def argument_for(self, call: ast.Call, key: ast.expr | None, scope: Scope) -> ast.expr | None:
        """Return what a call passes for a parameter; the key itself if it is no parameter."""
        if isinstance(key, ast.Name):
            for argument, parameter in self.uses.places.parameters(call):
                if parameter.owner == scope.number and parameter.name == key.id:
                    return argument
        return key

    def passed_for(self, name: ast.Name) -> list[ast.expr]:
        """Return what the calls in this module pass for a parameter; nothing for any other name."""
        if self._passed is None:
            self._passed = defaultdict(list)
            for call in self.names.calls:
                for argument, parameter in self.uses.places.parameters(call):
                    self._passed[parameter.owner, parameter.name].append(argument)
        owner = self.names.resolve(name.id, self.names.scope_of[name])
        return self._passed.get((owner.number, name.id), []) if owner is not None else []

    # -- loops ---------------------------------------------------------------------------------------------

    def loops(self, node: ast.expr) -> Iterator[ast.expr]:
        """Return the iterables of the loops around a node whose variables it uses, directly or through a name that
        is assigned from one."""
        named = [each for each in ast.walk(node) if isinstance(each, ast.Name)]
        wanted = {each.id for each in named}
        for value in filter(None, map(self.only_value, named)):
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
        only = self.only_value(key) if isinstance(key, ast.Name) else None
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
