"""Which module may import which: the arrows between the packages, no circles, and a core without input and output."""

from __future__ import annotations

import ast
import functools
import subprocess
import sys
from collections.abc import Callable, Iterable, Iterator
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
    "naught.lint.files",
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
    for node, at_once, for_types in _statements(tree.body, at_once=True, for_types=False):
        if isinstance(node, ast.Import):
            for alias in node.names:
                yield Import(alias.name, at_once, for_types)
        elif isinstance(node, ast.ImportFrom):
            assert not node.level, f"{name} imports relatively"
            assert node.module is not None
            for alias in node.names:
                whole = f"{node.module}.{alias.name}"
                yield Import(whole if whole in MODULES else node.module, at_once, for_types)


def _statements(body: Iterable[ast.AST], at_once: bool, for_types: bool) -> Iterator[tuple[ast.AST, bool, bool]]:
    """These statements and all within them. An import is a statement, so nobody need look at expressions."""
    for node in body:
        yield node, at_once, for_types
        is_defining = isinstance(node, ast.FunctionDef | ast.AsyncFunctionDef | ast.ClassDef)
        is_for_types = isinstance(node, ast.If) and "TYPE_CHECKING" in ast.dump(node.test)
        for field in ("body", "orelse", "handlers", "finalbody", "cases"):
            yield from _statements(
                getattr(node, field, ()),
                at_once and not is_defining,
                for_types or (is_for_types and field == "body"),
            )


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


# Each test goes through all modules of its kind; a failure shows those that break the rule, and what they import.


def breaking(names: Iterable[str], broken_by: Callable[[str], set[str]]) -> dict[str, set[str]]:
    """The modules among these that break a rule, each with what breaks it."""
    names = list(names)
    assert names, "a rule for no module"
    return {name: found for name in names if (found := broken_by(name))}


def of(package: str) -> list[str]:
    return [name for name in MODULES if top(name) == package]


def test_the_server_knows_the_wire_and_the_errors_of_the_client_and_no_more() -> None:
    def beyond(name: str) -> set[str]:
        return {
            found for found in at_run_time(name) if top(found) in {"naught", "naught_loadtest"}
        } - SERVER_MAY_IMPORT

    assert breaking(of("naught_server"), beyond) == {}


def test_the_client_knows_neither_the_server_nor_the_harness() -> None:
    def known(name: str) -> set[str]:
        return {top(found) for found in at_run_time(name)} & {"naught_server", "naught_loadtest"}

    def opened(name: str) -> set[str]:
        return {found.module for found in imports_of(name) if found.at_once and not found.for_types} & {MEMORY}

    assert breaking(of("naught"), known) == {MEMORY: {"naught_server"}}
    assert breaking(of("naught"), opened) == {}, "the door is open before anybody came"


def test_the_harness_does_not_reach_into_the_server() -> None:
    def reached(name: str) -> set[str]:
        return {found for found in at_run_time(name) if top(found) == "naught_server"}

    assert breaking(of("naught_loadtest"), reached) == {}


def test_the_toolbox_stands_alone() -> None:
    """Lint, SafeMap and zeros are for programs without a server."""
    toolbox = {"naught.lint", "naught.safemap", "naught.zeros"}

    def beyond(name: str) -> set[str]:
        known = {found for found in at_run_time(name) if top(found) in PACKAGES}
        return {found for found in known if not is_within(found, toolbox | {"naught.errors", "naught._version"})}

    assert breaking([name for name in MODULES if is_within(name, toolbox)], beyond) == {}


def test_the_client_alone_loads_nothing_of_the_server() -> None:
    program = "import sys, naught; print(*sorted(sys.modules))"
    loaded = subprocess.run([sys.executable, "-c", program], check=True, capture_output=True, text=True)
    packages = {top(name) for name in loaded.stdout.split()}
    assert "naught" in packages
    assert not packages & {"naught_server", "naught_loadtest", OPERATOR, "kopf", "pytest", *EXTRAS.values()}
    assert not set(EXTRAS) & set(loaded.stdout.split())


def test_the_operator_is_a_program_of_its_own() -> None:
    """Few of its modules know kopf, the API or a server, and nothing but itself imports it."""

    def beyond(name: str) -> set[str]:
        return {top(found) for found in at_run_time(name)} - set(sys.stdlib_module_names) - {OPERATOR}

    assert breaking(of(OPERATOR), beyond) == OPERATOR_MAY_IMPORT
    assert (
        breaking([name for name in MODULES if top(name) != OPERATOR], lambda name: arrows()[name] & {*of(OPERATOR)})
        == {}
    )


def test_nothing_but_the_standard_library_uvloop_and_msgpack() -> None:
    def beyond(name: str) -> set[str]:
        extra = {EXTRAS[name]} if name in EXTRAS else set()
        return {top(found) for found in at_run_time(name)} - set(sys.stdlib_module_names) - AT_RUN_TIME - extra

    assert breaking([name for name in MODULES if not name.startswith(PEERS) and top(name) != OPERATOR], beyond) == {}


@pytest.mark.parametrize("name", EXTRAS)
def test_nothing_imports_what_needs_an_extra(name: str) -> None:
    assert top(EXTRAS[name]) in {top(found) for found in at_run_time(name)}
    assert not {other for other, known in arrows().items() if name in known}


def test_nothing_imports_what_drives_other_libraries() -> None:
    peers = {name for name in MODULES if name.startswith(PEERS)}
    assert peers
    assert breaking([name for name in MODULES if name not in peers], lambda name: arrows()[name] & peers) == {}


# ------------------------------------------------------------------------------------------------- the core


def with_input_and_clock(name: str) -> set[str]:
    return {top(found) for found in at_run_time(name)} & INPUT_AND_CLOCK


def test_what_is_no_adapter_has_no_loop_no_socket_and_no_clock() -> None:
    assert breaking([name for name in MODULES if not is_within(name, ADAPTERS)], with_input_and_clock) == {}


def test_each_adapter_needs_to_be_called_one() -> None:
    """A name that stays in the list when its module has no clock any more would let one in unseen."""
    adapters = breaking([name for name in MODULES if is_within(name, ADAPTERS)], with_input_and_clock)
    assert {listed for listed in ADAPTERS if not any(is_within(name, {listed}) for name in adapters)} == set()


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
