"""Thousands of sessions over connections that break, compared with plain queues and lists.

The seed stands in the test's name and is printed first; set NAUGHT_TEST_SEED to run another one too, and
NAUGHT_TEST_SEEDS to run as many from there on.
"""

from __future__ import annotations

import itertools
from typing import Any

import pytest

from naught_server import batch, commands, session, sweep
from naught_server import expiry as deadlines
from naught_server import protocol as protocol_module
from simulation import planted
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
    shrink(monkeypatch, protocol_module, TURN_ITEMS_MAX=48, REQUEST_ENTRIES=1, SLICE_PRICE=8)
    # In the model all who can be answered are answered in the same step. What a turn leaves to the sweeper has a test
    # of its own (`test_who_asks_for_little_is_not_charged_for_the_waiters_of_others`).
    shrink(monkeypatch, protocol_module, SETTLED_BEFORE=100_000)
    shrink(monkeypatch, batch, PORTION_ITEMS_MIN=16)
    shrink(monkeypatch, commands, SLOTS=64, LATER_SLOTS=4, SLICE_ENTRIES=20)
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
        assert len(world.audit.records) > 90
        assert world.grants > 50
        assert world.takeovers > 10
        assert world.resumptions > 10
        assert world.expelled > 3
        if shards > 1:
            assert world.stalls


FOUND_LATE: dict[str, planted.World] = {
    "a batch is lost with its connection": (28, "lazy", 25),
    "a batch wakes at its end": (50, "lazy", 25),
    "a cancelled timer fires": (21, "eager", 25),
    "a counter that has expired meanwhile is not absent": (1, "lazy", 1200),
    "a decrement wakes no waiter": (23, "lazy", 25),
    "a generation ends with its first hold": (54, "lazy", 25),
    "a grant does not look at shards": (3, "lazy", 800),
    "a grant postponed for a shard is forgotten": (6, "eager", 400),
    "a hold can be released by another session": (45, "eager", 25),
    "a hold that is over is counted": (7, "lazy", 25),
    "a lazy zero wakes no waiter": (12, "eager", 25),
    "a part gives back the whole": (17, "eager", 50),
    "a part of a hold is still held": (19, "eager", 400),
    "a portion does not look at shards": (28, "lazy", 50),
    "a release goes to a newer generation": (6, "eager", 50),
    "a release goes to any generation": (15, "lazy", 25),
    "a release in parts gives back twice": (1, "eager", 50),
    "a resumption says the wrong reply": (5, "lazy", 25),
    "a session holds only its last hold": (23, "eager", 25),
    "a session holds what it has given back": (7, "lazy", 25),
    "a session that has ended is forgotten": (29, "eager", 200),
    "a session that has ended stays in the queues": (31, "eager", 50),
    "a takeover leaves the old connection": (5, "eager", 25),
    "a wait for room makes no mark": (20, "eager", 25),
    "a wait for zero makes no mark": (35, "eager", 50),
    "a wait that has ended stays in its queue": (8, "eager", 25),
    "acknowledged replies of waits still count": (13, "lazy", 50),
    "acquire overtakes": (6, "eager", 25),
    "an acknowledgement is not noted": (38, "eager", 25),
    "an end does not count as a lost connection": (39, "eager", 25),
    "being first in one queue is enough": (26, "eager", 25),
    "clear wakes no wait for zero": (29, "lazy", 25),
    "clear wakes no waiter": (11, "lazy", 25),
    "expiry wakes no waiter": (12, "lazy", 25),
    "giving back the holds of ended sessions wakes no waiter": (44, "eager", 50),
    "holds outlive clear": (29, "eager", 25),
    "kept replies are dropped too early": (28, "lazy", 25),
    "later requests do not wait for a batch": (16, "lazy", 100),
    "marks of one table are lost": (7, "lazy", 400),
    "more is released than is held": (37, "lazy", 200),
    "one reply too many is kept": (16, "eager", 200),
    "replies are sent again that were received": (57, "eager", 50),
    "replies before an ack are not kept": (22, "eager", 50),
    "replies not sent yet are lost with a takeover": (44, "eager", 50),
    "replies not sent yet are lost with the connection": (37, "eager", 100),
    "replies of waits count as others do": (11, "eager", 25),
    "set to a smaller value wakes no waiter": (12, "lazy", 50),
    "the blocking key is not looked for again": (26, "lazy", 25),
    "the end of a session does not look at shards": (124, "lazy", 200),
    "the end of a session gives back twice": (60, "eager", 25),
    "the end of a wait wakes no waiter": (13, "eager", 800),
    "the hot path ignores waiters for room": (20, "lazy", 25),
    "the hot path ignores waiters for zero": (35, "lazy", 50),
    "the hot path leaves a deadline": (11, "lazy", 25),
    "the last waiter is granted": (11, "eager", 25),
    "the lease runs on after a resumption": (21, "eager", 25),
    "the next waiter is not looked at": (6, "eager", 25),
    "the reply of a wait is not sent": (7, "eager", 25),
    "the second waiter is granted": (11, "lazy", 25),
    "the wrong blocking key is remembered": (26, "eager", 25),
    "try_incr overtakes": (16, "lazy", 25),
    "waiters of expired counters are overtaken": (25, "eager", 50),
    "waiting requests are lost with the connection": (26, "lazy", 50),
}
"""Worlds that find early what the first few find late or not at all."""


def run(world_of: planted.World) -> None:
    seed, eviction, steps = world_of
    shards, limit = SHAPES[seed % len(SHAPES)]
    with World(seed, eviction, shards, limit) as world:
        world.run(steps)


@pytest.mark.parametrize("fault", [pytest.param(fault, id=fault.name) for fault in FAULTS])
def test_a_fault_is_found(fault: Fault, monkeypatch: pytest.MonkeyPatch) -> None:
    fault.put_in(monkeypatch)
    longer = itertools.product(range(1, 41), ("eager", "lazy"), [1_200])
    planted.find(fault.name, FOUND_LATE, longer, run)


@pytest.mark.slow
def test_the_worlds_that_find_faults_find_none_where_there_is_none() -> None:
    for world in {*planted.FIRST, *FOUND_LATE.values()}:
        run(world)
