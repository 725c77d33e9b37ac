"""Thousands of random commands, with expiry, sweeps, compactions and closing connections, compared with a plain dict.

A failing seed is printed first; set NAUGHT_TEST_SEED to run another one too, and NAUGHT_TEST_SEEDS to run as many
from there on.
"""

from __future__ import annotations

import itertools
from typing import Any

import pytest

from naught_server import commands, sweep
from naught_server import expiry as deadlines
from simulation import planted
from simulation.faults import FAULTS, Fault
from simulation.world import World
from support.seeds import from_environment, seeds, slow
from support.sizes import shrink

SHAPES: list[tuple[int, int | None]] = [(1, None), (2, 120), (8, None), (8, 200), (256, None)]
"""Shards and max_counters: with fewer shards, more commands touch a shard that is held."""

ROOMS = [(*shape, eviction) for shape, eviction in zip(SHAPES, itertools.cycle(("eager", "lazy")), strict=False)]
OTHERS = [(*shape, eviction) for shape, eviction in zip(SHAPES, itertools.cycle(("lazy", "eager")), strict=False)]


@pytest.fixture(autouse=True)
def _small_tables_and_laps(monkeypatch: pytest.MonkeyPatch) -> None:
    """Compactions of small tables, a wheel with a lap of a quarter of a second."""
    shrink(monkeypatch, deadlines, SLOTS=64, _MASK=63, LATER_SLOTS=4, _LATER_MASK=3)
    shrink(monkeypatch, commands, SLICE_ENTRIES=20)
    shrink(monkeypatch, sweep, TABLE_BYTES_MIN=600, SETTLED_MS=1)
    shrink(monkeypatch, sweep, SMALL_SHARD_ENTRIES=6)  # so that most shards are worked on in slices


@pytest.mark.parametrize(("shards", "limit", "eviction"), [*ROOMS, *slow(*OTHERS)])
@pytest.mark.parametrize("seed", seeds([1], [3], [4, 5]))
def test_every_answer_is_the_models(seed: int, shards: int, limit: int | None, eviction: Any) -> None:
    for further in range(seed, seed + 1_000, 100):
        print(f"NAUGHT_TEST_SEED={further}")
        world = World(further, eviction, shards, limit)
        world.run(800)
        assert world.answered > 1_000
        if shards > 8 or further in from_environment() or (world.held_steps and world.stalls):
            return
        # Nothing has waited for a shard in this one.
    raise AssertionError("no world has tested held shards")


FOUND_LATE: dict[str, planted.World] = {
    "a cache that becomes eager forgets its zeros": (8, "lazy", 200),
    "a closed connection keeps its lock": (47, "lazy", 100),
    "a compaction does not subtract its zeros": (10, "lazy", 25),
    "a compaction takes a shard that is held": (10, "lazy", 25),
    "a connection keeps its lock": (5, "lazy", 25),
    "a grain is skipped with its deadlines": (26, "lazy", 25),
    "a hot read does not find what has a deadline": (7, "lazy", 25),
    "a later deadline is put into the near wheel": (13, "eager", 25),
    "a lock's queue is forgotten": (10, "lazy", 25),
    "a new counter leaves a zero behind": (5, "lazy", 25),
    "a poured deadline is not counted": (44, "eager", 25),
    "a read does not see expiry": (27, "lazy", 25),
    "a scan forgets where it was": (12, "lazy", 25),
    "a scan goes on after the wrong key": (12, "lazy", 25),
    "a waiter that left is granted": (47, "lazy", 100),
    "clear forgets the zeros": (14, "lazy", 25),
    "clear leaves the deadlines": (6, "lazy", 25),
    "due deadlines of a grain are not counted": (12, "lazy", 50),
    "due deadlines of a millisecond are not counted": (18, "lazy", 25),
    "equal values in the top have any order": (74, "eager", 50),
    "expired counters do not make room": (76, "lazy", 50),
    "expiry comes a millisecond late": (77, "lazy", 100),
    "one more than max_counters": (11, "lazy", 25),
    "requests do not look at locks": (5, "lazy", 25),
    "strict refuses to decrement by the whole value": (25, "lazy", 25),
    "the hot path does not hear of a new policy": (3, "eager", 200),
    "the hot path does not look at locks": (5, "lazy", 25),
    "the hot path does not look for expired ones": (9, "eager", 25),
    "the hot path ignores max_counters": (11, "eager", 25),
    "the hot path ignores overflow": (34, "lazy", 25),
    "the hot path ignores overflow of what has a deadline": (21, "eager", 25),
    "the top of one slice only": (21, "eager", 25),
    "the wheel drops deadlines of later laps": (7, "lazy", 25),
    "throttle forgets a part of a millisecond": (30, "lazy", 25),
    "throttle grants one too many": (37, "lazy", 25),
    "throttle leaves an earlier deadline": (15, "lazy", 25),
    "try_incr judges items alone": (22, "eager", 25),
}
"""Worlds that find early what the first few find late or not at all."""


def run(world_of: planted.World) -> None:
    seed, eviction, steps = world_of
    shards, limit = SHAPES[seed % len(SHAPES)]
    World(seed, eviction, shards, limit).run(steps)


@pytest.mark.patches
@pytest.mark.parametrize("fault", [pytest.param(fault, id=fault.name) for fault in FAULTS])
def test_a_fault_is_found(fault: Fault, monkeypatch: pytest.MonkeyPatch) -> None:
    fault.put_in(monkeypatch)
    longer = itertools.product(range(1, 61), ("eager", "lazy"), [600])
    planted.find(fault.name, FOUND_LATE, longer, run)


def test_a_fault_that_no_world_finds_is_told() -> None:
    with pytest.raises(pytest.fail.Exception, match="no world has found"):
        planted.find("none", {}, [(9, "eager", 1)], lambda world: None)


@pytest.mark.slow
def test_the_worlds_that_find_faults_find_none_where_there_is_none() -> None:
    for world in {*planted.FIRST, *FOUND_LATE.values()}:
        run(world)
