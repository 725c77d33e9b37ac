"""Changes a module in one place after the other, and says which changes its tests do not notice.

    python tools/mutants.py naught_server.quotas tests/server/test_limits.py [-k WORDS]

A change is a comparison, an operator, a number, a condition, or a statement that is left out. Annotations and texts
are left as they are. Each mutant runs the tests in a process of its own, which is forked: nothing is written to the
disk. The tests must pass without a change. A mutant that survives is printed with its line; whether it changes what
the module does is for the reader to see. No figure is better than the look at each.
"""

from __future__ import annotations

import argparse
import ast
import copy
import importlib.abc
import importlib.machinery
import importlib.util
import os
import resource
import signal
import sys
from collections.abc import Iterator
from pathlib import Path
from types import ModuleType
from typing import Any, Final

CPU_S_MAX: Final = 60
"""A mutant that loops for ever is found by this: it counts as killed."""

COMPARED: Final[dict[type[ast.cmpop], list[type[ast.cmpop]]]] = {
    ast.Lt: [ast.LtE, ast.GtE],
    ast.LtE: [ast.Lt, ast.Gt],
    ast.Gt: [ast.GtE, ast.LtE],
    ast.GtE: [ast.Gt, ast.Lt],
    ast.Eq: [ast.NotEq],
    ast.NotEq: [ast.Eq],
    ast.Is: [ast.IsNot],
    ast.IsNot: [ast.Is],
    ast.In: [ast.NotIn],
    ast.NotIn: [ast.In],
}
COMPUTED: Final[dict[type[ast.operator], type[ast.operator]]] = {
    ast.Add: ast.Sub,
    ast.Sub: ast.Add,
    ast.Mult: ast.FloorDiv,
    ast.FloorDiv: ast.Mult,
    ast.Div: ast.Mult,
    ast.Mod: ast.FloorDiv,
    ast.Pow: ast.Mult,
    ast.LShift: ast.RShift,
    ast.RShift: ast.LShift,
    ast.BitAnd: ast.BitOr,
    ast.BitOr: ast.BitAnd,
    ast.BitXor: ast.BitAnd,
}


def places(tree: ast.Module) -> Iterator[tuple[ast.AST, str, Any]]:
    """Each node that is evaluated, with the name of the field to be changed, and what it becomes."""
    for node in evaluated(tree):
        match node:
            case ast.Compare(ops=ops):
                for place, op in enumerate(ops):
                    for other in COMPARED[type(op)]:
                        yield node, "ops", [*ops[:place], other(), *ops[place + 1 :]]
            case ast.BinOp(op=op) | ast.AugAssign(op=op) if type(op) in COMPUTED:
                yield node, "op", COMPUTED[type(op)]()
            case ast.BoolOp(op=op):
                yield node, "op", ast.Or() if isinstance(op, ast.And) else ast.And()
            case ast.If(test=test) | ast.IfExp(test=test) | ast.While(test=test):
                yield node, "test", ast.UnaryOp(ast.Not(), test)
            case ast.Constant(value=bool(value)):
                yield node, "value", not value
            case ast.Constant(value=int(value) | float(value)):
                yield node, "value", value + 1
                if value:
                    yield node, "value", value - 1
        for name, body in ast.iter_fields(node):
            if isinstance(body, list) and body and isinstance(body[0], ast.stmt):
                for place, statement in enumerate(body):
                    if may_go(statement):
                        yield node, name, [*body[:place], ast.Pass(), *body[place + 1 :]]


def may_go(statement: ast.stmt) -> bool:
    """Whether a statement can be left out without an error of its own: a call, or a change of something that is."""
    if isinstance(statement, ast.Expr):
        return isinstance(statement.value, ast.Call | ast.Await | ast.Yield)
    if isinstance(statement, ast.Assign):
        return all(isinstance(target, ast.Attribute | ast.Subscript) for target in statement.targets)
    return isinstance(statement, ast.AugAssign | ast.Delete | ast.Break | ast.Continue | ast.Raise)


def evaluated(tree: ast.AST) -> Iterator[ast.AST]:
    """The nodes below one, without annotations and without `__slots__` and `__all__`."""
    for name, field in ast.iter_fields(tree):
        if name in ("annotation", "returns", "type_params"):
            continue
        for node in field if isinstance(field, list) else [field]:
            if not isinstance(node, ast.AST) or _is_listing(node):
                continue
            yield node
            yield from evaluated(node)


def _is_listing(node: ast.AST) -> bool:
    names = node.targets if isinstance(node, ast.Assign) else []
    return any(isinstance(name, ast.Name) and name.id in ("__slots__", "__all__") for name in names)


class _Mutated(importlib.abc.MetaPathFinder, importlib.abc.Loader):
    """Imports one module from a tree."""

    def __init__(self, name: str, path: Path, tree: ast.Module) -> None:
        self._name, self._path, self._tree = name, path, tree

    def find_spec(self, name: str, path: object, target: object = None) -> importlib.machinery.ModuleSpec | None:
        if name != self._name:
            return None
        return importlib.util.spec_from_file_location(name, self._path, loader=self)

    def create_module(self, spec: object) -> None:
        return None

    def exec_module(self, module: ModuleType) -> None:
        exec(compile(self._tree, str(self._path), "exec"), vars(module))


def survives(name: str, path: Path, tree: ast.Module, tests: list[str]) -> bool:
    """Whether the tests pass with the module as this tree says."""
    child = os.fork()
    if not child:
        import pytest

        resource.setrlimit(resource.RLIMIT_CPU, (CPU_S_MAX, CPU_S_MAX))
        signal.alarm(3 * CPU_S_MAX)
        nothing = os.open(os.devnull, os.O_WRONLY)
        os.dup2(nothing, 1)
        os.dup2(nothing, 2)
        sys.meta_path.insert(0, _Mutated(name, path, tree))
        os._exit(int(pytest.main(["-x", "-q", "-n", "0", "-p", "no:cacheprovider", "-m", "not slow", *tests])))
    return os.waitstatus_to_exitcode(os.waitpid(child, 0)[1]) == 0


def main() -> int:
    """Try all mutants of a module. Returns the exit status: 2 where the tests fail without a change."""
    parser = argparse.ArgumentParser(description="mutants that tests do not notice")
    parser.add_argument("module")
    parser.add_argument("tests", nargs="+")
    parser.add_argument("-k", metavar="WORDS", help="only these tests")
    given = parser.parse_args()
    os.environ["NAUGHT_PURE"] = "1"
    import pytest  # once for all

    assert pytest
    found = importlib.util.find_spec(given.module)
    assert found is not None
    assert found.origin is not None
    for loaded in [name for name in sys.modules if name.partition(".")[0].startswith("naught")]:
        del sys.modules[loaded]
    path = Path(found.origin)
    source = path.read_text(encoding="utf-8")
    tests = [*given.tests, *(["-k", given.k] if given.k else [])]
    whole = ast.parse(source)
    if not survives(given.module, path, whole, tests):
        print("the tests fail without a change")
        return 2
    survivors = 0
    changes = list(places(whole))
    for node, field, value in changes:
        before = getattr(node, field)
        setattr(node, field, value)
        tree = ast.fix_missing_locations(copy.deepcopy(whole))
        shown = ast.unparse(ast.fix_missing_locations(copy.deepcopy(node)))
        setattr(node, field, before)
        if survives(given.module, path, tree, tests):
            survivors += 1
            line = _line_of(node, before, value)
            print(f"{path.name}:{line}: {source.splitlines()[line - 1].strip()}")
            print(f"    -> {_shown(shown, ast.unparse(node))}", flush=True)
    print(f"{given.module}: of {len(changes)} mutants {survivors} survived")
    return 0


def _line_of(node: ast.AST, before: Any, value: Any) -> int:
    """The line of a node, or of the statement in it that was left out."""
    if isinstance(value, list) and value and isinstance(value[0], ast.stmt):
        left_out = next(old for old, new in zip(before, value, strict=True) if old is not new)
        return int(left_out.lineno)
    return int(getattr(node, "lineno", 1))


def _shown(after: str, before: str) -> str:
    """The first line that differs."""
    old = before.splitlines()
    return next((line.strip() for line in after.splitlines() if line not in old), after.splitlines()[0])


if __name__ == "__main__":
    sys.exit(main())
