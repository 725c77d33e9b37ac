"""Thousands of sessions over connections that break, compared with plain queues and lists.

The seed stands in the test's name and is printed first; set NAUGHT_TEST_SEED to run another one too, and
NAUGHT_TEST_SEEDS to run as many from there on.
"""

from __future__ import annotations

import itertools
from typing import Any

import pytest

from naught_server import commands, session, sweep
from naught_server import expiry as deadlines
from naught_server import protocol as protocol_module
from simulation.faults import Fault
from simulation.sessions.faults import FAULTS
from simulation.sessions.world import World
from support.seeds import from_environment, seeds, slow
from support.sizes import shrink

SHAPES: list[tuple[int, int | None]] = [(1, None), (2, 30), (4, None)]
"""Shards and max_counters: with fewer shards, more requests touch a shard that is held."""

ROOMS = [(*shape, eviction) for shape, eviction in zip(SHAPES, itertools.cycle(("eager", "lazy")), strict=False)]
OTHERS = [(*shape, eviction) for shape, eviction in zip(SHAPES, itertools.cycle(("lazy", "eager")), strict=False)]

pytestmark = pytest.mark.patches  # the audit wraps methods, which compiled callers would pass by


@pytest.fixture(autouse=True)
def _small_tables_and_windows(monkeypatch: pytest.MonkeyPatch) -> None:
    """Turns of a few items, compactions of small tables, narrow windows, a wheel with short laps."""
    shrink(monkeypatch, deadlines, SLOTS=64, _MASK=63, LATER_SLOTS=4, _LATER_MASK=3)
    shrink(monkeypatch, protocol_module, TURN_ITEMS_MAX=48, REQUEST_ENTRIES=1, SLICE_PRICE=8, PORTION_ITEMS_MIN=16)
    shrink(monkeypatch, commands, TURN_ITEMS_MAX=48, SLOTS=64, LATER_SLOTS=4, SLICE_ENTRIES=20)
    shrink(monkeypatch, sweep, TABLE_BYTES_MIN=600, SETTLED_MS=1)
    shrink(monkeypatch, sweep, SMALL_SHARD_ENTRIES=6)  # so that most shards are worked on in slices
    shrink(monkeypatch, session, UNACKNOWLEDGED_MAX=60, PARKED_MAX=12)


@pytest.mark.parametrize(("shards", "limit", "eviction"), [*ROOMS, *slow(*OTHERS)])
@pytest.mark.parametrize("seed", seeds([1], [2], [4]))
def test_sessions_are_the_models(seed: int, shards: int, limit: int | None, eviction: Any) -> None:
    print(f"NAUGHT_TEST_SEED={seed}")
    with World(seed, eviction, shards, limit) as world:
        world.run(3_000)
        if seed in from_environment():
            return
        # Otherwise the test has not tested what it is for.
        assert len(world.audit.records) > 100
        assert world.grants > 50
        assert world.takeovers > 10
        assert world.resumptions > 10
        assert world.expelled > 5
        if shards > 1:
            assert world.stalls


FOUND_LATE: dict[str, tuple[int, str]] = {
    "a batch is lost with its connection": (6, "eager"),
    "a counter that has expired meanwhile is not absent": (13, "lazy"),
    "a decrement wakes no waiter": (2, "eager"),
    "a grant does not look at shards": (15, "lazy"),
    "a grant postponed for a shard is forgotten": (6, "lazy"),
    "a hold can be released by another session": (31, "eager"),
    "a part gives back the whole": (3, "eager"),
    "a part of a hold is still held": (16, "eager"),
    "a portion does not look at shards": (4, "lazy"),
    "a release in parts gives back twice": (4, "eager"),
    "a session that has ended is forgotten": (5, "eager"),
    "clear wakes no wait for zero": (6, "lazy"),
    "holds outlive clear": (6, "eager"),
    "later requests do not wait for a batch": (9, "lazy"),
    "more is released than is held": (3, "eager"),
    "replies not sent yet are lost with the connection": (5, "eager"),
    "the end of a session does not look at shards": (34, "eager"),
    "the end of a wait wakes no waiter": (5, "eager"),
}
"""Worlds that find early what the first few find late or not at all. Each is tried before those, to save time;
nothing depends on it. Where such a world was not the first one, the test prints what belongs here:
`pytest -rP -k a_fault_is_found`."""

FEW = 4


FOUND_SLOWLY = {
    "replies before an ack are not kept",
    "the end of a wait wakes no waiter",
    "the end of a session does not look at shards",
    "a grant does not look at shards",
    "a portion does not look at shards",
    "set to a smaller value wakes no waiter",
    "a hold can be released by another session",
}
"""Faults that take seconds to be found."""


@pytest.mark.parametrize(
    "fault",
    [
        pytest.param(fault, id=fault.name, marks=[pytest.mark.slow] if fault.name in FOUND_SLOWLY else [])
        for fault in FAULTS
    ],
)
def test_a_fault_is_found(fault: Fault, monkeypatch: pytest.MonkeyPatch) -> None:
    fault.put_in(monkeypatch)
    worlds = list(itertools.product(range(1, 41), ("eager", "lazy")))
    if fault.name in FOUND_LATE:
        worlds.insert(0, FOUND_LATE[fault.name])
    for number, (seed, eviction) in enumerate(worlds):
        shards, limit = SHAPES[seed % len(SHAPES)]
        try:
            with World(seed, eviction, shards, limit) as world:
                world.run(1_200)
        except Exception:
            if number >= FEW:
                print(f'    "{fault.name}": ({seed}, "{eviction}"),')
            return
    pytest.fail("nobody noticed")
