"""The plugin as flake8 calls it: from the tree and the lines without flake8 being there, and by flake8 itself."""

from __future__ import annotations

import ast
import subprocess
import sys
from pathlib import Path
from textwrap import dedent
from typing import Any

from naught.lint.flake8_plugin import Plugin
from support.paths import CLIENT

SOURCE = dedent(
    """\
    from collections import Counter
    ACTIVE = Counter()
    def start(user):
        ACTIVE[user] += 1
    def stop(user):
        ACTIVE[user] -= 1  # noqa: NZ101
    """
)


def test_findings() -> None:
    """Comments are flake8's to look at, so a silenced line is reported here."""
    plugin = Plugin(ast.parse(SOURCE), SOURCE.splitlines(keepends=True), "pool.py")
    ((line, column, message, kind),) = plugin.run()
    assert (line, column) == (6, 4)
    assert message.startswith("NZ101 ")
    assert kind is Plugin


def test_name_and_version() -> None:
    assert Plugin.name == "naught-lint"
    assert Plugin.version


def test_nested_too_deeply() -> None:
    """A tree too deep for the checks is a finding too."""
    where: dict[str, Any] = {"lineno": 1, "col_offset": 0, "end_lineno": 1, "end_col_offset": 1}
    chain: ast.expr = ast.Name(id="a", ctx=ast.Load(), **where)
    for _ in range(3_000):
        chain = ast.Subscript(value=chain, slice=ast.Constant(value=0, **where), ctx=ast.Load(), **where)
    tree = ast.parse("counts = {}\ndef down(key): counts[key] -= 1\n")
    tree.body.append(ast.Expr(value=chain, **where))
    ((line, _, message, _),) = Plugin(tree, ["counts[key] -= 1\n"], "deep.py").run()
    assert line == 1
    assert message.startswith("NZ100 ")


def test_flake8_is_not_imported() -> None:
    code = "import sys, naught.lint, naught.lint.flake8_plugin; sys.exit('flake8' in sys.modules)"
    done = subprocess.run([sys.executable, "-c", code], env={"PYTHONPATH": str(CLIENT)}, check=False, timeout=60)
    assert done.returncode == 0


def flake8(folder: Path, *options: str) -> subprocess.CompletedProcess[str]:
    return subprocess.run(
        [sys.executable, "-m", "flake8", "--isolated", "--jobs=1", *options, "."],
        cwd=folder, capture_output=True, text=True, check=False, timeout=60,
    )  # fmt: skip


def test_flake8_runs_it(tmp_path: Path) -> None:
    """Found by its entry point, selected by its letters, silenced by flake8's own comments."""
    (tmp_path / "pool.py").write_text(SOURCE.replace("  # noqa: NZ101", ""))
    (tmp_path / "silenced.py").write_text(SOURCE)
    done = flake8(tmp_path, "--select", "NZ")
    assert done.stderr == ""
    assert done.returncode == 1
    (line,) = done.stdout.splitlines()
    assert line.startswith("./pool.py:6:5: NZ101 an entry of ACTIVE is counted down")
    assert flake8(tmp_path, "--select", "NZ", "--extend-ignore", "NZ101").returncode == 0


def test_flake8_leaves_out_what_is_followed_on_request(tmp_path: Path) -> None:
    asking = dedent(
        """\
        import collections
        FAILURES = collections.defaultdict(int)


        def failed(host):
            FAILURES[host] += 1


        def is_bad(host):
            return FAILURES[host] > 3
        """
    )
    (tmp_path / "asking.py").write_text(asking)
    assert flake8(tmp_path).stdout == ""
    assert " NZ103 " in flake8(tmp_path, "--select", "NZ103").stdout
