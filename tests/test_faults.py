"""The page of faults names tests that exist, and leaves none of its folder out."""

from __future__ import annotations

import ast
import re
from pathlib import Path

from support.paths import ROOT

PAGE = (ROOT / "docs" / "faults.md").read_text(encoding="utf-8")
ROWS = [line for line in PAGE.splitlines() if line.startswith("| ")][2:]
NAMED = re.findall(r"`([\w/]+\.py)::(\w+)`", PAGE)


def names_of(path: Path) -> set[str]:
    tree = ast.parse(path.read_text(encoding="utf-8"))
    functions = (ast.FunctionDef, ast.AsyncFunctionDef)
    return {node.name for node in tree.body if isinstance(node, functions) and node.name.startswith("test_")}


def test_each_row_names_a_test_that_exists() -> None:
    assert len(ROWS) > 20
    for row in ROWS:
        assert re.search(r"`[\w/]+\.py::\w+`", row), row
    for path, name in NAMED:
        assert name in names_of(ROOT / "tests" / path), f"{path} has no {name}"


def test_each_test_of_the_folder_is_named() -> None:
    for path in sorted((ROOT / "tests" / "integration" / "faults").glob("test_*.py")):
        where = f"integration/faults/{path.name}"
        unnamed = names_of(path) - {name for named, name in NAMED if named == where} - {"test_the_library_is_there"}
        assert not unnamed, f"{where}: {unnamed} in no row of docs/faults.md"
