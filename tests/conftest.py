"""What holds for every test: an id that is the same in each run. And fixtures that many of them use."""

from __future__ import annotations

import gc
import os
from collections.abc import Iterator
from pathlib import Path

import pytest

from naught_loadtest.drivers.servers import reserved_port
from support import ids, seeds


@pytest.hookimpl(tryfirst=True)  # before -m and -k leave tests out
def pytest_collection_modifyitems(items: list[pytest.Item]) -> None:
    """Refuse ids that differ from run to run."""
    found = ids.unstable(item.nodeid for item in items)
    if found:
        raise pytest.UsageError(f"an address in the id of a test, which needs ids=: {found[0]}")


@pytest.hookimpl(optionalhook=True)  # of pytest-xdist, for -n auto
def pytest_xdist_auto_num_workers() -> int:
    """One more than there are cores: a good part of its time a worker waits, for a process, a lease or a timeout."""
    usable = getattr(os, "sched_getaffinity", None)
    return (len(usable(0)) if usable else os.cpu_count() or 1) + 1


def pytest_collection_finish() -> None:
    """Hide what is for the tests alone from what they test: variables from servers, and what was collected from the
    collector, for thousands of tests are most of the heap, and many of them ask for a full collection."""
    seeds.hide_variables()
    gc.collect()
    gc.freeze()


def pytest_sessionfinish() -> None:
    """Let it be seen again: what is imported for the summary looks for references among all objects."""
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
