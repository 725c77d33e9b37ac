"""What holds for every test: how the product runs, and an id that is the same in each run. And fixtures that many of
them use.

The tests run the product's sources. With `NAUGHT_PURE=0` they run its compiled modules, without the tests that are
marked `patches`; a run that would not be compiled ends at once.
"""

from __future__ import annotations

import gc
import os
from collections.abc import Generator, Iterator
from pathlib import Path

import pytest

from support import ids, seeds

os.environ.setdefault("NAUGHT_PURE", "1")  # of this process and all that the tests start, before naught is imported

from naught import _compiled
from naught_loadtest.drivers.servers import reserved_port


def pytest_configure(config: pytest.Config) -> None:
    """Refuse to take an interpreted run for a compiled one."""
    import naught_server

    for package in ("naught", naught_server.__name__):
        if not (_compiled.is_pure() or _compiled.is_compiled(package)):
            raise pytest.UsageError(f"{package} is not compiled: `make compile`, or unset {_compiled.PURE_VARIABLE}")


@pytest.hookimpl(wrapper=True)
def pytest_collection() -> Generator[None, object, object]:
    """Collect tests without the collector: it would look through thousands of objects again and again, all in use."""
    gc.disable()
    try:
        return (yield)
    finally:
        gc.enable()


@pytest.hookimpl(tryfirst=True)  # before -m and -k leave tests out
def pytest_collection_modifyitems(config: pytest.Config, items: list[pytest.Item]) -> None:
    """Refuse ids that differ from run to run. Leave out the tests that compiled modules cannot be put to."""
    found = ids.unstable(item.nodeid for item in items)
    if found:
        raise pytest.UsageError(f"an address in the id of a test, which needs ids=: {found[0]}")
    if not _compiled.is_pure():
        left_out = [item for item in items if item.get_closest_marker("patches")]
        config.hook.pytest_deselected(items=left_out)
        items[:] = [item for item in items if not item.get_closest_marker("patches")]


@pytest.hookimpl(optionalhook=True)  # of pytest-xdist, for -n auto
def pytest_xdist_auto_num_workers() -> int:
    """One more than there are cores: a good part of its time a worker waits, for a process, a lease or a timeout."""
    usable = getattr(os, "sched_getaffinity", None)
    return (len(usable(0)) if usable else os.cpu_count() or 1) + 1


def pytest_collection_finish() -> None:
    """Hide what is for the tests alone from what they test: variables from servers, and what was collected from the
    collector, for thousands of tests are most of the heap, and many of them ask for a full collection. Without a
    collection before: it looks through all of them once more, and finds next to nothing."""
    seeds.hide_variables()
    gc.freeze()


def pytest_sessionfinish(session: pytest.Session) -> None:
    """Let it be seen again: what is imported for the summary looks for references among all objects. A worker of
    pytest-xdist has no summary, and would collect all of it several times at its end. Their controller has
    run no test, and has a report of each, which would be collected as often."""
    if session.config.pluginmanager.hasplugin("dsession"):
        gc.freeze()
    elif not hasattr(session.config, "workerinput"):
        gc.unfreeze()


@pytest.fixture
def own_port() -> Iterator[int]:
    """A loopback port that nobody else is given, for a server that ends and comes back."""
    with reserved_port() as port:
        yield port


@pytest.fixture
def mypy_cache(request: pytest.FixtureRequest, tmp_path: Path) -> Path:
    """Where this test's mypy keeps what it has found: from run to run, and apart from every other mypy."""
    cache: pytest.Cache | None = getattr(request.config, "cache", None)
    return cache.mkdir(f"mypy-{request.node.name}") if cache is not None else tmp_path / "cache"
