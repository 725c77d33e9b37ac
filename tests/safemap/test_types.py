"""mypy --strict refuses exactly the lines marked in tests/safemap/typed_program.py, and so does the class itself."""

from __future__ import annotations

import ast
import importlib.util
import os
import re
import subprocess
import sys
from pathlib import Path
from typing import Any

import pytest

from support.each import for_each
from support.paths import ROOT

EXAMPLES = ROOT / "tests" / "safemap" / "typed_program.py"
SOURCE = EXAMPLES.read_text()
REFUSED = {number for number, line in enumerate(SOURCE.splitlines(), 1) if "# refused" in line}
AT_RUN_TIME = [
    (number, line.partition("  #")[0].strip())
    for number, line in enumerate(SOURCE.splitlines(), 1)
    if line.endswith(("# refused, and at run time", "# raises at run time alone"))
]


def test_the_examples_refuse_something() -> None:
    assert len(REFUSED) > 30
    assert len(AT_RUN_TIME) > 30


@pytest.mark.slow
def test_mypy_refuses_exactly_the_marked_lines(mypy_cache: Path) -> None:
    if importlib.util.find_spec("mypy") is None:
        if os.environ.get("CI") == "true":
            pytest.fail("mypy must be installed in CI")
        pytest.skip("mypy is not installed")
    done = subprocess.run(
        [
            *(sys.executable, "-m", "mypy", "--strict", "--no-error-summary", "--no-pretty"),
            *("--hide-error-context", "--no-warn-unreachable"),
            *("--cache-dir", str(mypy_cache), "--config-file", str(ROOT / "pyproject.toml"), str(EXAMPLES)),
        ],
        cwd=ROOT,
        capture_output=True,
        text=True,
        timeout=300,
        check=False,
    )
    errors: dict[int, str] = {}
    for line in done.stdout.splitlines():
        found = re.fullmatch(r"(.*?):(\d+): error: (.*)", line)
        if found:
            assert Path(ROOT, found[1]) == EXAMPLES, line
            errors.setdefault(int(found[2]), found[3])
    assert done.returncode == 1, done.stdout + done.stderr
    assert {n: errors[n] for n in errors.keys() - REFUSED} == {}, "accepted lines that mypy refuses"
    assert sorted(REFUSED - errors.keys()) == [], "refused lines that mypy accepts"


@for_each(("number", "statement"), AT_RUN_TIME)
def test_run_time_refuses_the_same(number: int, statement: str) -> None:
    tree = ast.parse(SOURCE)
    imports = ast.Module([node for node in tree.body if isinstance(node, ast.ImportFrom)], [])
    names: dict[str, Any] = {}
    exec(compile(imports, str(EXAMPLES), "exec"), names)
    with pytest.raises(TypeError):
        exec(compile("\n" * (number - 1) + statement, str(EXAMPLES), "exec"), names)


def test_the_accepted_examples_are_accepted_at_run_time() -> None:
    """The subscripts and constructions of the accepted examples, run one by one."""
    from decimal import Decimal
    from fractions import Fraction

    from naught.safemap import SafeMap

    SafeMap[str, int]().close()
    SafeMap[str, int](int, policy="deferred", shard_count=4, clean_after_s=0.5).close()
    assert SafeMap[str, Fraction](Fraction).value_type is Fraction
    assert SafeMap[str, Decimal](value_type=Decimal).value_type is Decimal
    assert SafeMap[str, float](float, tolerance=1e-9).value_type is float
