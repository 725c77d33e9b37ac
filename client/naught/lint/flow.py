"""Questions about one use of a map: does a condition guard it, does it decide something, is its entry used nearby.

The answers come from the shape of the code: which `if` an expression is under, whether an earlier statement leaves
the function when the key is absent. Two keys are the same if they are written the same.
"""

from __future__ import annotations

import ast
from collections.abc import Iterator

from naught.lint.keys import Keys
from naught.lint.names import COMPREHENSIONS, FUNCTIONS
from naught.lint.uses import Action, TrackedMap, Use

# Builtins whose result a loop over it takes from their argument.
ITERATING = frozenset({"list", "tuple", "set", "sorted", "reversed", "enumerate", "iter"})
# Statements that leave their block.
LEAVING = (ast.Return, ast.Raise, ast.Continue, ast.Break)


class Flow(Keys):
    """Answers the questions for one module."""

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
