"""tools/compile.py, as far as it needs no compiler: what is compiled from what, and when it is done again."""

from __future__ import annotations

import importlib.util
import json
import os
import subprocess
import sys
import tomllib
from pathlib import Path
from typing import Any

import pytest

from naught import _compiled
from support.paths import ROOT

TOOL = ROOT / "tools" / "compile.py"


def load_tool() -> Any:
    spec = importlib.util.spec_from_file_location("naught_compile", TOOL)
    assert spec is not None
    assert spec.loader is not None
    tool = importlib.util.module_from_spec(spec)
    sys.modules[spec.name] = tool
    spec.loader.exec_module(tool)
    return tool


tool = load_tool()
SERVER, CLIENT = tool.GROUPS


@pytest.mark.parametrize("group", tool.GROUPS, ids=lambda group: group.package)
def test_each_module_is_there_once(group: Any) -> None:
    assert sorted(set(group.modules)) == list(group.modules)
    for source in group.sources():
        assert (ROOT / group.root / source).is_file()


def test_a_group_is_made_from_all_that_its_modules_import() -> None:
    found = tool.sources_of(SERVER)
    assert {f"naught_server.{name}" for name in SERVER.modules} <= set(found)
    # Their constants are in the compiled code, and these modules themselves are not compiled.
    assert {"naught.wire.limits", "naught_server.config", "naught_server.limits"} <= set(found)
    assert "naught_server.server" not in found
    assert found["naught.wire.limits"] == ROOT / "client" / "naught" / "wire" / "limits.py"
    assert not [name for name in tool.sources_of(CLIENT) if name.startswith("naught_server")]


def put_in_place(target: Path, made: Path) -> None:
    """What stands for a compiled group, in a tree like this one."""
    record = tool.record_of(SERVER)
    made.mkdir()
    for name in record["files"]:
        (made / f"{name}{_compiled.SUFFIX}").write_text(name)
    tool.put_in_place(SERVER, made, SERVER.folder(target), record)


def test_what_is_up_to_date_is_not_compiled_again(tmp_path: Path) -> None:
    assert SERVER in tool.stale_groups(tmp_path)
    put_in_place(tmp_path, tmp_path / "made")
    assert tool.stale_groups(tmp_path) == [CLIENT]


@pytest.mark.parametrize("how", ["a source", "a compiler", "one is missing", "one is left over", "no record"])
def test_what_is_not_up_to_date_is_compiled_again(tmp_path: Path, how: str) -> None:
    put_in_place(tmp_path, tmp_path / "made")
    folder = SERVER.folder(tmp_path)
    file = folder / _compiled.RECORD_FILE
    record = json.loads(file.read_text())
    if how == "a source":
        record["sources"]["naught_server.hot"] = _compiled.hash_of(TOOL)
    elif how == "a compiler":
        record["compiled_by"] = "mypyc 0.1"
    elif how == "one is missing":
        (folder / f"hot{_compiled.SUFFIX}").unlink()
    elif how == "one is left over":
        (folder / f"cold{_compiled.SUFFIX}").touch()
    file.write_text(json.dumps(record))
    if how == "no record":
        file.unlink()
    assert SERVER in tool.stale_groups(tmp_path)


def test_what_was_there_before_is_replaced_whole(tmp_path: Path) -> None:
    folder = SERVER.folder(tmp_path)
    folder.mkdir(parents=True)
    others = folder / "hot.cpython-39-another-machine.so"
    for left in (folder / f"cold{_compiled.SUFFIX}", folder / "hot.so", others):
        left.write_text("old")
    put_in_place(tmp_path, tmp_path / "made")
    files = {path.name for path in folder.iterdir()}
    compiled = {f"{name}{_compiled.SUFFIX}" for name in (*SERVER.modules, SERVER.library)}
    assert files == {*compiled, _compiled.RECORD_FILE, others.name}
    assert (folder / f"hot{_compiled.SUFFIX}").read_text() == "hot"


def run_tool(**environment: str) -> tuple[int, str]:
    done = subprocess.run(
        [sys.executable, TOOL, "--can"],
        env={**os.environ, "NAUGHT_PURE": "", **environment},
        capture_output=True,
        text=True,
        check=False,
    )
    assert not done.stderr
    return done.returncode, done.stdout


def test_without_a_compiler_that_is_said_in_one_line() -> None:
    status, said = run_tool(CC="no-such-compiler -pthread")
    assert status == tool.NOT_COMPILED_STATUS
    assert said == "naught runs interpreted: there is no C compiler (no-such-compiler) to compile it with\n"


def test_by_the_variable_nothing_is_compiled() -> None:
    status, said = run_tool(NAUGHT_PURE="1")
    assert status == tool.NOT_COMPILED_STATUS
    assert said == "naught runs interpreted: NAUGHT_PURE is set\n"


def test_a_failure_to_compile_says_what_the_compiler_says(tmp_path: Path) -> None:
    group = SERVER._replace(package="no_such_package")
    with pytest.raises(tool.CompileError, match=r"^no_such_package could not be compiled:") as caught:
        tool.build_group(group, tmp_path / "build")
    assert "invalid choice: 'no_such_package'" in str(caught.value)


def test_what_it_needs_is_what_make_installs() -> None:
    groups = tomllib.loads((ROOT / "pyproject.toml").read_text())["dependency-groups"]
    assert tool.requirements() == groups["compile"]
    assert {requirement.partition(">")[0] for requirement in tool.requirements()} == {"mypy", "setuptools"}
