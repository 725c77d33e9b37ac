"""Which module may import which: the arrows between the packages, no circles, and a core without input and output."""

from __future__ import annotations

import ast
import functools
import subprocess
import sys
from collections.abc import Iterator
from pathlib import Path
from typing import NamedTuple

import pytest

from support.paths import ROOT

PACKAGES = {
    "naught": ROOT / "client" / "naught",
    "naught_server": ROOT / "server" / "naught_server",
    "naught_loadtest": ROOT / "loadtest" / "naught_loadtest",
    "naught_operator": ROOT / "deploy" / "operator" / "naught_operator",
}

SERVER_MAY_IMPORT = {
    "naught._compiled",
    "naught.wire",
    "naught.wire.codec",
    "naught.wire.limits",
    "naught.wire.traceparent",
    "naught.errors",
    "naught._version",
}

# The one door from the client to the server: `memory://`, a module that is imported when somebody asks for it.
MEMORY = "naught.memory"

# What only a program imports that asks for it, and which optional extra it needs.
EXTRAS = {"naught.otel": "opentelemetry", "naught.testing": "pytest"}

# A program of its own, on an optional extra. What its modules may import beside the standard library.
OPERATOR = "naught_operator"
OPERATOR_MAY_IMPORT = {
    "naught_operator.base": {"yaml"},
    "naught_operator.cluster": {"aiohttp", "kopf"},
    "naught_operator.handlers": {"kopf"},
    "naught_operator.run": {"kopf", "naught_server"},
    "naught_operator.server": {"naught"},
}

# Programs that drive other client libraries. Each is run as a process of its own; nothing imports them.
PEERS = "naught_loadtest.bars.peers."

INPUT_AND_CLOCK = {"asyncio", "socket", "uvloop", "time", "threading", "select", "selectors", "ssl", "signal"}

# Every module is without input and clock but those here: each of these is an adapter, or starts processes, or is one.
ADAPTERS = {
    "naught.aio",
    "naught.asgi",
    "naught.blocking",
    "naught.cli",
    "naught.exit",
    "naught.fork",
    "naught.green",
    "naught.memory",
    "naught.names",
    "naught.otel",
    "naught.patterns",
    "naught.safemap",
    "naught.sockets",
    "naught.testing",
    "naught.tls",
    "naught.wsgi",
    "naught_loadtest.bars.burst",
    "naught_loadtest.bars.drain",
    "naught_loadtest.bars.memory",
    "naught_loadtest.bars.neighbours",
    "naught_loadtest.bars.overload",
    "naught_loadtest.bars.peers.callers",
    "naught_loadtest.bars.pruning",
    "naught_loadtest.bars.safemap",
    "naught_loadtest.bars.victims",
    "naught_loadtest.commands.search",
    "naught_loadtest.drivers.echo_server",
    "naught_loadtest.drivers.probe",
    "naught_loadtest.drivers.servers",
    "naught_loadtest.drivers.tls",
    "naught_loadtest.generate.closed_loop",
    "naught_loadtest.generate.closing",
    "naught_loadtest.generate.open_loop",
    "naught_loadtest.generate.runner",
    "naught_loadtest.generate.semaphore",
    "naught_loadtest.generate.watcher",
    "naught_loadtest.generate.worker",
    "naught_loadtest.processes",
    "naught_loadtest.zeros.trial",
    "naught_operator.handlers",
    "naught_operator.run",
    "naught_operator.webhook",
    "naught_server.clock",
    "naught_server.connection",
    "naught_server.exhausted",
    "naught_server.http_server",
    "naught_server.listeners",
    "naught_server.logins",
    "naught_server.notify",
    "naught_server.peers",
    "naught_server.process",
    "naught_server.server",
    "naught_server.logs",
    "naught_server.sweeper",
    "naught_server.tls",
}

AT_RUN_TIME = {"msgpack", "uvloop", *PACKAGES}


class Import(NamedTuple):
    """One import of a module."""

    module: str
    at_once: bool  # it happens when the importing module is imported, not later inside a function
    for_types: bool  # it never happens at run time


def modules() -> Iterator[tuple[str, Path]]:
    for package, folder in PACKAGES.items():
        for path in sorted(folder.rglob("*.py")):
            parts = path.relative_to(folder).with_suffix("").parts
            yield ".".join([package, *(part for part in parts if part != "__init__")]), path


MODULES = dict(modules())


@functools.cache
def imports_of(name: str) -> frozenset[Import]:
    """What a module imports, wherever it does."""
    return frozenset(_imports_of(name))


def _imports_of(name: str) -> Iterator[Import]:
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
        if isinstance(node, ast.Import):
            for alias in node.names:
                yield Import(alias.name, node in at_once, node in for_types)
        elif isinstance(node, ast.ImportFrom):
            assert not node.level, f"{name} imports relatively"
            assert node.module is not None
            for alias in node.names:
                whole = f"{node.module}.{alias.name}"
                yield Import(whole if whole in MODULES else node.module, node in at_once, node in for_types)


def at_run_time(name: str) -> set[str]:
    return {found.module for found in imports_of(name) if not found.for_types}


def top(module: str) -> str:
    return module.partition(".")[0]


def is_within(name: str, names: set[str]) -> bool:
    """Whether a module is one of these, or is in a package that is."""
    return any(name == each or name.startswith(f"{each}.") for each in names)


def circles(arrows: dict[str, set[str]]) -> set[frozenset[str]]:
    """The largest sets of modules in which each reaches each other."""
    reached = {name: reachable(name, arrows) for name in arrows}
    return {
        frozenset(other for other in reached[name] if name in reached[other])
        for name in arrows
        if name in reached[name]
    }


def reachable(name: str, arrows: dict[str, set[str]]) -> set[str]:
    found: set[str] = set()
    rest = [name]
    while rest:
        for following in arrows[rest.pop()]:
            if following not in found:
                found.add(following)
                rest.append(following)
    return found


@functools.cache
def arrows() -> dict[str, set[str]]:
    """The modules that each module imports. Not at import: every worker of the tests would read all sources."""
    return {
        name: {found.module for found in imports_of(name) if found.module in MODULES and found.module != name}
        for name in MODULES
    }


# ------------------------------------------------------------------------------------------------- the packages


@pytest.mark.parametrize("name", [name for name in MODULES if top(name) == "naught_server"])
def test_the_server_knows_the_wire_and_the_errors_of_the_client_and_no_more(name: str) -> None:
    known = {found for found in at_run_time(name) if top(found) in {"naught", "naught_loadtest"}}
    assert known <= SERVER_MAY_IMPORT


@pytest.mark.parametrize("name", [name for name in MODULES if top(name) == "naught"])
def test_the_client_knows_neither_the_server_nor_the_harness(name: str) -> None:
    known = {top(found) for found in at_run_time(name)} & {"naught_server", "naught_loadtest"}
    assert known == ({"naught_server"} if name == MEMORY else set())
    opened = {found.module for found in imports_of(name) if found.at_once and not found.for_types}
    assert MEMORY not in opened, "the door is open before anybody came"


@pytest.mark.parametrize("name", [name for name in MODULES if top(name) == "naught_loadtest"])
def test_the_harness_does_not_reach_into_the_server(name: str) -> None:
    assert not {found for found in at_run_time(name) if top(found) == "naught_server"}


@pytest.mark.parametrize(
    "name", [name for name in MODULES if is_within(name, {"naught.lint", "naught.safemap", "naught.zeros"})]
)
def test_the_toolbox_stands_alone(name: str) -> None:
    """Lint, SafeMap and zeros are for programs without a server."""
    known = {found for found in at_run_time(name) if top(found) in PACKAGES}
    assert all(
        is_within(found, {"naught.lint", "naught.safemap", "naught.zeros", "naught.errors", "naught._version"})
        for found in known
    )


def test_the_client_alone_loads_nothing_of_the_server() -> None:
    program = "import sys, naught; print(*sorted(sys.modules))"
    loaded = subprocess.run([sys.executable, "-c", program], check=True, capture_output=True, text=True)
    packages = {top(name) for name in loaded.stdout.split()}
    assert "naught" in packages
    assert not packages & {"naught_server", "naught_loadtest", OPERATOR, "kopf", "pytest", *EXTRAS.values()}
    assert not set(EXTRAS) & set(loaded.stdout.split())


@pytest.mark.parametrize("name", [name for name in MODULES if top(name) == OPERATOR])
def test_the_operator_is_a_program_of_its_own(name: str) -> None:
    """Few of its modules know kopf, the API or a server, and nothing but itself imports it."""
    beyond = {top(found) for found in at_run_time(name)} - set(sys.stdlib_module_names) - {OPERATOR}
    assert beyond == OPERATOR_MAY_IMPORT.get(name, set())
    assert all(top(other) == OPERATOR for other, known in arrows().items() if name in known)


@pytest.mark.parametrize("name", [name for name in MODULES if not name.startswith(PEERS) and top(name) != OPERATOR])
def test_nothing_but_the_standard_library_uvloop_and_msgpack(name: str) -> None:
    extra = {EXTRAS[name]} if name in EXTRAS else set()
    assert {top(found) for found in at_run_time(name)} <= set(sys.stdlib_module_names) | AT_RUN_TIME | extra


@pytest.mark.parametrize("name", EXTRAS)
def test_nothing_imports_what_needs_an_extra(name: str) -> None:
    assert top(EXTRAS[name]) in {top(found) for found in at_run_time(name)}
    assert not {other for other, known in arrows().items() if name in known}


@pytest.mark.parametrize("name", [name for name in MODULES if name.startswith(PEERS)])
def test_nothing_imports_what_drives_other_libraries(name: str) -> None:
    assert not {other for other, known in arrows().items() if name in known and not other.startswith(PEERS)}


# ------------------------------------------------------------------------------------------------- the core


@pytest.mark.parametrize("name", [name for name in MODULES if not is_within(name, ADAPTERS)])
def test_what_is_no_adapter_has_no_loop_no_socket_and_no_clock(name: str) -> None:
    assert not {top(found) for found in at_run_time(name)} & INPUT_AND_CLOCK


@pytest.mark.parametrize("name", sorted(ADAPTERS))
def test_each_adapter_needs_to_be_called_one(name: str) -> None:
    """A name that stays in the list when its module has no clock any more would let one in unseen."""
    within = [module for module in MODULES if is_within(module, {name})]
    assert within, "there is no such module"
    assert any({top(found) for found in at_run_time(module)} & INPUT_AND_CLOCK for module in within)


# ------------------------------------------------------------------------------------------------- circles


def test_there_are_no_circles() -> None:
    """At run time or for types: what needs its owner back gets a small protocol class or a callable."""
    assert circles(arrows()) == set()


def test_circles_are_found() -> None:
    assert circles({"a": {"b"}, "b": {"c"}, "c": {"b"}, "d": set()}) == {frozenset("bc")}


def test_the_scan_sees_what_it_forbids() -> None:
    """A scan that finds nothing proves nothing: these are known to be there."""
    assert Import("asyncio", at_once=True, for_types=False) in imports_of("naught_server.connection")
    assert Import("naught.wire.codec", at_once=True, for_types=False) in imports_of("naught_server.protocol")
    assert any(found.for_types for found in imports_of("naught.aio.connection"))
    assert set(PACKAGES) == {top(name) for name in MODULES}
