"""The pytest plugin, as a program that uses naught has it: pytest in a process of its own, with the entry point."""

from __future__ import annotations

import subprocess
import sys
from importlib.metadata import entry_points
from pathlib import Path

import pytest

from support.surroundings import without_settings

WITHOUT = ["-p", "no:cacheprovider", "-p", "no:cloudcoil"]
"""Plugins that these tests do without; the second needs what is not installed here."""

PROGRAM = """
import naught
import pytest
from naught import blocking

async def use_up(quota):
    return [await quota.use() for _ in range(3)]

async def test_the_clock_can_be_moved(naught_memory):
    async with naught.connect(naught_memory.url) as counters, naught.connect(naught_memory.url) as others:
        quota = counters.quota("q", limit=2, per=3600)
        assert await use_up(quota) == [True, True, False]
        naught_memory.advance(3599)
        assert not await quota.use()
        naught_memory.advance(1)
        assert await others.count() == 0
        assert await quota.use()
        assert not await counters.throttle("t", 1, 60_000, 1, 0) is None
        await counters.throttle("t", 1, 60_000)
        assert not await others.throttle("t", 1, 60_000)
        naught_memory.advance(60)
        assert await others.throttle("t", 1, 60_000)

async def test_who_waits_wakes_when_the_time_has_passed(naught_memory):
    import asyncio

    async with naught.connect(naught_memory.url) as counters:
        await counters.incr("n", ttl_ms=3_600_000)
        waiting = asyncio.ensure_future(counters.wait_zero("n"))
        await counters.ping()
        naught_memory.advance(3600)
        assert await asyncio.wait_for(waiting, 20) is True

def test_threads_share_it(naught_memory):
    with blocking.Client(naught_memory.url) as counters:
        assert counters.incr("n", ttl_ms=1_000) == 1
        naught_memory.advance(1)
        assert counters.get("n") == 0
    for wrong in (-1, True, "1", float("nan"), float("inf")):
        with pytest.raises(ValueError, match="seconds must be a finite number of at least 0"):
            naught_memory.advance(wrong)

@pytest.mark.parametrize("number", range(2))
async def test_each_test_has_its_own(naught_memory, number):
    async with naught.connect(naught_memory.url) as counters:
        assert await counters.incr("n") == 1

@pytest.mark.parametrize("number", range(2))
async def test_a_real_server_begins_empty(naught_server, number, monkeypatch):
    monkeypatch.setenv("NAUGHT_URL", naught_server.url)
    async with naught.connect() as counters:
        assert await counters.incr("n") == 1
        assert (await counters.info())["connections"] >= 1
    assert "listening" in naught_server.log()
"""


@pytest.mark.parametrize("plugin", ["entry point", pytest.param("-p", marks=pytest.mark.slow)])
def test_its_fixtures_serve_a_program(plugin: str, tmp_path: Path) -> None:
    if plugin == "entry point":
        if not [each for each in entry_points(group="pytest11") if each.value == "naught.testing"]:
            pytest.skip("naught was installed before it had this entry point: `make clean` and begin anew")
        chosen = []
    else:
        chosen = ["-p", "no:naught", "-p", "naught.testing"]
    (tmp_path / "test_program.py").write_text(PROGRAM)
    (tmp_path / "pytest.ini").write_text(
        "[pytest]\nasyncio_mode = auto\nasyncio_default_fixture_loop_scope = function\nfilterwarnings = error\n"
    )
    ended = subprocess.run(
        [sys.executable, "-m", "pytest", "-q", *WITHOUT, "-n", "0", *chosen, str(tmp_path)],
        capture_output=True,
        text=True,
        env=without_settings(),
        cwd=tmp_path,
        timeout=100,
        check=False,
    )
    assert ended.returncode == 0, ended.stdout + ended.stderr
    assert "7 passed" in ended.stdout


def test_without_pytest_its_module_is_imported() -> None:
    """pytest is no part of what naught needs: only what pytest calls imports it."""
    program = "import sys; sys.modules['pytest'] = None; from naught.testing import MemoryServer; print('imported')"
    ended = subprocess.run([sys.executable, "-c", program], capture_output=True, text=True, check=False)
    assert (ended.returncode, ended.stdout) == (0, "imported\n"), ended.stderr
