"""Which module may import which: the arrows of the layers, and what the sans-IO core must do without."""

from __future__ import annotations

import ast
import functools
import subprocess
import sys
from collections.abc import Iterator
from pathlib import Path

import pytest

ROOT = Path(__file__).resolve().parents[2]
PACKAGES = {
    "naught": ROOT / "client" / "naught",
    "naught_server": ROOT / "server" / "naught_server",
    "naught_loadtest": ROOT / "loadtest" / "naught_loadtest",
}

SERVER_MAY_IMPORT = {"naught.wire", "naught.errors", "naught._version"}

# The one door from the client to the server: `memory://`, a module that is imported when somebody asks for it.
MEMORY = "naught.memory"

INPUT_AND_CLOCK = {"asyncio", "socket", "uvloop", "time", "threading", "select", "selectors", "ssl", "signal"}
NO_INPUT_NO_CLOCK = [
    "naught.wire",
    "naught.errors",
    "naught.backoff",
    "naught.holds",
    "naught.messages",
    "naught.session",
    "naught.windows",
    "naught.stat",
    "naught.options",
    "naught.commands",
    "naught.calls",
    "naught.url",
    "naught_server.store",
    "naught_server.locks",
    "naught_server.deadlines",
    "naught_server.sweep",
    "naught_server.engine",
    "naught_server.commands",
    "naught_server.alarms",
    "naught_server.channel",
    "naught_server.session",
    "naught_server.waiting",
    "naught_server.batch",
    "naught_loadtest.workload",
    "naught_loadtest.schedule",
    "naught_loadtest.histogram",
]

AT_RUN_TIME = {"msgpack", "uvloop", *PACKAGES}


def modules() -> Iterator[tuple[str, Path]]:
    for package, folder in PACKAGES.items():
        for path in sorted(folder.rglob("*.py")):
            parts = path.relative_to(folder).with_suffix("").parts
            yield ".".join([package, *(part for part in parts if part != "__init__")]), path


MODULES = dict(modules())


@functools.cache
def imports_of(name: str) -> frozenset[tuple[str, bool]]:
    """What a module imports, and whether that happens when it is itself imported."""
    return frozenset(found_imports(name))


def found_imports(name: str) -> Iterator[tuple[str, bool]]:
    tree = ast.parse(MODULES[name].read_text(encoding="utf-8"))
    for_types = {
        inner
        for node in ast.walk(tree)
        if isinstance(node, ast.If) and "TYPE_CHECKING" in ast.dump(node.test)
        for inner in ast.walk(node)
    }
    defining = (ast.FunctionDef, ast.AsyncFunctionDef, ast.ClassDef)
    at_once = {inner for node in tree.body if not isinstance(node, defining) for inner in ast.walk(node)}
    for node in ast.walk(tree):
        if node in for_types:
            continue
        if isinstance(node, ast.Import):
            for alias in node.names:
                yield alias.name, node in at_once
        elif isinstance(node, ast.ImportFrom):
            assert not node.level, f"{name} imports relatively"
            assert node.module is not None
            for alias in node.names:
                whole = f"{node.module}.{alias.name}"
                yield whole if whole in MODULES else node.module, node in at_once


def top(module: str) -> str:
    return module.partition(".")[0]


@pytest.mark.parametrize("name", [name for name in MODULES if top(name) == "naught_server"])
def test_the_server_knows_the_wire_and_the_errors_of_the_client_and_no_more(name: str) -> None:
    known = {found for found, _ in imports_of(name) if top(found) in {"naught", "naught_loadtest"}}
    assert known <= SERVER_MAY_IMPORT


@pytest.mark.parametrize("name", [name for name in MODULES if top(name) == "naught"])
def test_the_client_knows_neither_the_server_nor_the_harness(name: str) -> None:
    known = {top(found) for found, _ in imports_of(name)} & {"naught_server", "naught_loadtest"}
    assert known == ({"naught_server"} if name == MEMORY else set())
    assert (MEMORY, True) not in imports_of(name), "the door is open before anybody came"


def test_the_client_alone_loads_nothing_of_the_server() -> None:
    program = "import sys, naught; print(*sorted(sys.modules))"
    loaded = subprocess.run([sys.executable, "-c", program], check=True, capture_output=True, text=True)
    packages = {top(name) for name in loaded.stdout.split()}
    assert "naught" in packages
    assert not packages & {"naught_server", "naught_loadtest", "pytest"}


@pytest.mark.parametrize("name", [name for name in MODULES if top(name) == "naught_loadtest"])
def test_the_harness_does_not_reach_into_the_server(name: str) -> None:
    assert not {found for found, _ in imports_of(name) if top(found) == "naught_server"}


@pytest.mark.parametrize("name", NO_INPUT_NO_CLOCK)
def test_the_core_has_no_loop_no_socket_and_no_clock(name: str) -> None:
    assert not {top(found) for found, _ in imports_of(name)} & INPUT_AND_CLOCK


@pytest.mark.parametrize("name", MODULES)
def test_nothing_but_the_standard_library_uvloop_and_msgpack(name: str) -> None:
    known = {top(found) for found, _ in imports_of(name)}
    assert known <= set(sys.stdlib_module_names) | AT_RUN_TIME


def test_the_scan_sees_what_it_forbids() -> None:
    """A scan that finds nothing proves nothing: these are known to be there."""
    assert ("asyncio", True) in imports_of("naught_server.connection")
    assert ("naught.wire", True) in imports_of("naught_server.channel")
    assert {"naught", "naught_server", "naught_loadtest"} == {top(name) for name in MODULES}
