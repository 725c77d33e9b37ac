"""Thousands of sessions over a network that breaks, against plain queues and lists.

The seed stands in the test's name and is printed first; set NAUGHT_TEST_SEED to run another one too.
"""

from __future__ import annotations

import os
from typing import Any

import pytest

from naught_server import batch, commands, session, sweep
from naught_server import expiry as deadlines
from naught_server import protocol as protocol_module
from simulation.faults import Fault
from simulation.sessions.faults import FAULTS
from simulation.sessions.world import World

SEEDS = [1, 2, 3]
if "NAUGHT_TEST_SEED" in os.environ:
    SEEDS.append(int(os.environ["NAUGHT_TEST_SEED"]))

SHAPES: list[tuple[int, int | None]] = [(1, None), (2, 30), (4, None)]
"""Shards and max_counters: the fewer shards, the more requests meet one that is held."""


@pytest.fixture(autouse=True)
def _small_tables_and_windows(monkeypatch: pytest.MonkeyPatch) -> None:
    """Columns of a few requests, compactions of small tables, narrow windows, a wheel that goes round in no time."""
    monkeypatch.setattr(deadlines, "SLOTS", 64)
    monkeypatch.setattr(deadlines, "_MASK", 63)
    monkeypatch.setattr(deadlines, "LATER_SLOTS", 4)
    monkeypatch.setattr(deadlines, "_LATER_MASK", 3)
    for module in (batch, protocol_module, commands):
        monkeypatch.setattr(module, "PORTION_ITEMS", 16)
    monkeypatch.setattr(protocol_module, "COLUMN_MIN", 3)
    monkeypatch.setattr(commands, "SLICE_ENTRIES", 20)
    monkeypatch.setattr(sweep, "TABLE_BYTES_MIN", 600)
    monkeypatch.setattr(sweep, "BYTES_PER_ENTRY_MAX", 100)
    monkeypatch.setattr(sweep, "SETTLED_MS", 1)
    monkeypatch.setattr(session, "UNACKNOWLEDGED_MAX", 60)
    monkeypatch.setattr(session, "PARKED_MAX", 12)


@pytest.mark.parametrize("eviction", ["eager", "lazy"])
@pytest.mark.parametrize(("shards", "limit"), SHAPES)
@pytest.mark.parametrize("seed", SEEDS)
def test_sessions_are_the_models(seed: int, shards: int, limit: int | None, eviction: Any) -> None:
    print(f"NAUGHT_TEST_SEED={seed}")
    with World(seed, eviction, shards, limit) as world:
        world.run(3_000)
        # Without these the test would pass for want of trouble.
        assert len(world.audit.records) > 100
        assert world.grants > 50
        assert world.takeovers > 10
        assert world.resumptions > 10
        if shards > 1:
            assert world.stalls


@pytest.mark.parametrize("fault", FAULTS, ids=lambda fault: fault.name)
def test_a_fault_is_found(fault: Fault, monkeypatch: pytest.MonkeyPatch) -> None:
    fault.put_in(monkeypatch)
    for seed in range(1, 41):
        shards, limit = SHAPES[seed % len(SHAPES)]
        for eviction in ("eager", "lazy"):
            try:
                with World(seed, eviction, shards, limit) as world:
                    world.run(1_200)
            except Exception:
                return
    pytest.fail("nobody noticed")
