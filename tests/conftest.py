"""What is asked of every test: an id that is the same in each run.

pytest-xdist needs it, for its workers collect apart from each other, and so do people who run a failed test again.
"""

from __future__ import annotations

import re
from collections.abc import Iterator
from pathlib import Path

import pytest

from naught_loadtest.processes import reserved_port

ADDRESS = re.compile(r"\b0x[0-9a-f]{6,}\b")
"""The address of an object, which stands in the default text of most."""


@pytest.hookimpl(tryfirst=True)  # before -m and -k leave tests out
def pytest_collection_modifyitems(items: list[pytest.Item]) -> None:
    """Refuse ids that have the address of an object in them."""
    unstable = [item.nodeid for item in items if ADDRESS.search(item.nodeid)]
    if unstable:
        raise pytest.UsageError(f"an address in the id of a test, which needs ids=: {unstable[0]}")


@pytest.fixture
def own_port() -> Iterator[int]:
    """A loopback port that nobody else is given, for a server that ends and comes back."""
    with reserved_port() as port:
        yield port


@pytest.fixture
def mypy_cache(request: pytest.FixtureRequest) -> Path:
    """Where this test's mypy keeps what it has found: from run to run, and apart from every other mypy."""
    cache = request.config.cache
    assert cache is not None
    return cache.mkdir(f"mypy-{request.node.name}")
