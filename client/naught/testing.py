"""A pytest plugin for programs that use naught. pytest finds it by itself where naught is installed.

    async def test_the_quota_comes_back(naught_memory):
        async with naught.connect(naught_memory.url) as counters:
            quota = counters.quota("calls:ann", limit=1, per=3600)
            assert await quota.use()
            assert not await quota.use()
            naught_memory.advance(3600)
            assert await quota.use()

    naught_memory    an engine in this process, for this test alone, and its clock, which the test can move
    naught_server    a real server, a process of its own on a free port of the loopback interface, for the whole run

Both have a `url`, which clients of both kinds connect to. Code under test that reads its URL from the environment is
given it by `monkeypatch.setenv("NAUGHT_URL", naught_memory.url)`.

pytest is imported when pytest loads the plugin, and not before: without it this module is imported, and the two
classes work.
"""

from __future__ import annotations

import json
import math
import subprocess
import sys
import tempfile
import time
import uuid
from collections.abc import Iterator
from pathlib import Path
from types import ModuleType
from typing import Any, Final

from naught.errors import InvalidRequest

START_S: Final = 20.0
"""Seconds that a server may take to start or to stop, on a machine that is busy with other tests."""


class MemoryServer:
    """What the fixture `naught_memory` gives: an engine of one test, and its clock."""

    def __init__(self) -> None:
        self._name: Final = f"pytest-{uuid.uuid4().hex}"
        self.url: Final = f"memory://{self._name}"
        """For `naught.connect` and `naught.blocking.Client`; as many clients as the test wants share the engine."""

    def advance(self, seconds: float) -> None:
        """Let this time pass for the engine at once: counters expire, and waits and leases end.

        The clock also goes on by itself. The timeouts of clients are on their own clock, which is not moved.
        """
        if isinstance(seconds, bool) or not isinstance(seconds, int | float) or not 0 <= seconds < math.inf:
            raise InvalidRequest(f"seconds must be a finite number of at least 0, not {seconds!r}")
        from naught.memory import find_host

        find_host(self._name).move_clock(round(seconds * 1000))

    def close(self) -> None:
        """Forget the engine."""
        from naught.memory import drop_host

        drop_host(self._name)


class RealServer:
    """What the fixture `naught_server` gives: a process."""

    def __init__(self, folder: Path) -> None:
        ports_file = folder / "ports.json"
        self._log: Final = (folder / "log").open("w+b")
        arguments = ["--host", "127.0.0.1", "--port", "0", "--http-port", "off", "--ports-file", str(ports_file)]
        self._process: Final = subprocess.Popen(
            [sys.executable, "-m", "naught_server", *arguments],
            stdin=subprocess.DEVNULL,
            stdout=self._log,
            stderr=self._log,
        )
        try:
            self.port: Final[int] = self._wait_for(ports_file)["tcp"]["port"]
        except BaseException:
            self.close()
            raise
        self.url: Final = f"naught://127.0.0.1:{self.port}"
        """For `naught.connect` and `naught.blocking.Client`."""

    def _wait_for(self, ports_file: Path) -> dict[str, Any]:
        end = time.monotonic() + START_S
        while not ports_file.exists():
            if self._process.poll() is not None or time.monotonic() > end:
                raise RuntimeError(f"the server did not start:\n{self.log()}")
            time.sleep(0.01)
        ports: dict[str, Any] = json.loads(ports_file.read_text())
        return ports

    def log(self) -> str:
        """What the server has written to its log."""
        self._log.seek(0)
        return self._log.read().decode(errors="replace")

    def close(self) -> None:
        """Stop the server."""
        self._process.terminate()
        try:
            self._process.wait(START_S)
        except subprocess.TimeoutExpired:
            self._process.kill()
            self._process.wait()
        finally:
            self._log.close()


def pytest_configure(config: Any) -> None:
    """pytest has loaded the plugin: give it the fixtures."""
    config.pluginmanager.register(_fixtures(), "naught fixtures")


def _fixtures() -> ModuleType:
    """A module that has the fixtures."""
    import pytest

    @pytest.fixture
    def naught_memory() -> Iterator[MemoryServer]:
        """An engine in this process, for this test alone: its `url`, and `advance(seconds)` for its clock."""
        server = MemoryServer()
        yield server
        server.close()

    @pytest.fixture(scope="session")
    def _naught_server_process() -> Iterator[RealServer]:
        with tempfile.TemporaryDirectory() as folder:
            server = RealServer(Path(folder))
            yield server
            server.close()

    @pytest.fixture
    def naught_server(_naught_server_process: RealServer) -> RealServer:
        """A real server on the loopback interface, empty at the start of the test: its `url` and `port`."""
        from naught.blocking import Client

        with Client(_naught_server_process.url, connect_timeout=START_S) as counters:
            counters.clear(timeout=START_S)
        return _naught_server_process

    # pytest looks for fixtures in a module, or in a class of which each test has an instance.
    found = ModuleType("naught fixtures")
    for fixture in (naught_memory, _naught_server_process, naught_server):
        setattr(found, fixture.__name__, fixture)
    return found
