"""The sweeper's allowance: it follows the measured price of an entry, a slow step passes, a backlog gets more time.

Time is simulated: an entry costs what the test says, so what is shown here does not depend on the machine.
"""

from __future__ import annotations

from collections.abc import Callable
from random import Random

import pytest

from naught_server import pace, sweep
from naught_server.config import CachePolicy, ServerConfig
from naught_server.engine import SWEEP_IDLE_MS, Engine
from naught_server.limits import SWEEP_PERIOD_MS
from naught_server.pace import ENTRIES_MAX, ENTRY_NS_AT_START, Pace, Price, rhythm
from naught_server.store import Cache

START_MS = 1_000_000
BACKLOG_EVERY_MS = 4  # a step in so many, with a backlog
MS = 1_000_000  # in nanoseconds
IDLE_MS = SWEEP_IDLE_MS  # a sweeper without work looks for some this often

# ---------------------------------------------------------------------------------------- the price of an entry


@pytest.mark.parametrize(
    ("turns", "entry_ns"),
    [
        ([], ENTRY_NS_AT_START),
        ([(1_000, 300_000)], 300),
        ([(1_000, 300_000), (1_000, 500_000)], 500),  # dearer: at once
        ([(1_000, 500_000), (1_000, 300_000)], 500),
        ([(1_000, 500_000), *[(1_000, 300_000)] * 2], 300),  # cheaper: when most of the last turns were
        ([*[(1_000, 300_000)] * 4, (1_000, 30_000_000)], 30_000),  # a slow turn
        (
            [*[(1_000, 300_000)] * 4, (1_000, 30_000_000), (16, 60_000)],
            3_750,
        ),  # the next is small, and dear by itself
        ([*[(1_000, 300_000)] * 4, (1_000, 30_000_000), (16, 4_800)], 300),  # the slow one is forgotten
        ([*[(1_000, 300_000)] * 3, *[(1_000, 600_000)] * 9], 600),
        ([(1_000, 300_000), (0, 5_000_000)], 300),  # no work: no price
        ([(1_000, 300_000), (3, 9_000)], 300),  # it cost mostly its beginning
        ([(1_000, 300_000), (3, 9_000_000)], 3_000_000),  # three very dear ones
        ([(1_000, 0)], 0.001),
    ],
)
def test_the_price(turns: list[tuple[int, int]], entry_ns: float) -> None:
    price = Price()
    for entries, took_ns in turns:
        price.note(entries, took_ns)
    assert price.entry_ns == pytest.approx(entry_ns)


@pytest.mark.parametrize(
    ("entry_ns", "time_ns", "entries"),
    [(1_000, 500_000, 500), (300, 500_000, 1_666), (30_000, 500_000, 16), (10**9, 500_000, 1), (1_000, -5, 1)],
)
def test_the_allowance(entry_ns: int, time_ns: int, entries: int) -> None:
    price = Price()
    price.note(1_000, 1_000 * entry_ns)
    assert price.entries_in(time_ns) == entries


def test_the_allowance_has_a_bound() -> None:
    price = Price()
    price.note(1_000, 0)
    assert price.entries_in(MS) == ENTRIES_MAX


def test_jobs_have_prices_of_their_own_and_share_the_time() -> None:
    shared = Pace(2)
    shared.begin(1 * MS)
    assert shared.allowance(0) == 500
    shared.note(0, 500, 100_000)
    assert shared.entry_ns(0) == 200
    assert shared.entry_ns(1) == ENTRY_NS_AT_START
    assert shared.allowance(1) == 450
    assert shared.allowance(0) == 2_250
    shared.note(0, 2_250, 800_000)
    assert not shared.has_time
    shared.note(1, 100, 400_000)
    assert shared.allowance(0) == 1, "the step is over its time: no job is left out for it"


@pytest.mark.parametrize(
    ("budget_ms", "interval_ms", "behind", "every_ms", "step_ms"),
    [
        (1.0, 10, False, 10, 1.0),
        (1.0, 10, True, 4, 1.0),  # a quarter of the time
        (0.1, 10, False, 10, 0.1),
        (0.1, 10, True, 4, 1.0),
        (4.0, 10, False, 2, 0.8),  # four tenths of the time, and no step is longer
        (4.0, 10, True, 2, 0.8),
        (10.0, 10, False, 1, 1.0),  # all of it
        (10.0, 4, False, 1, 1.0),
        (1.0, 4, False, 4, 1.0),
        (1.0, 1_000, False, 1_000, 1.0),
        (10.0, 1_000, False, 100, 1.0),
        (1.0, 1_000, True, 4, 1.0),
    ],
)
def test_how_often_and_how_long(
    budget_ms: float, interval_ms: int, behind: bool, every_ms: int, step_ms: float
) -> None:
    period_ms, step_ns = rhythm(budget_ms, interval_ms, behind=behind)
    assert (period_ms, step_ns) == (every_ms, pytest.approx(step_ms * MS))


# ---------------------------------------------------------------------------------------- with an engine


class Machine:
    """An engine whose sweeper runs at its times. An entry costs `entry_ns`, a turn of a job 1 us."""

    def __init__(self, policy: CachePolicy | None = None, entry_ns: int = 1_000) -> None:
        caches = {"default": policy or CachePolicy("default", shards=16)}
        self.engine = Engine(ServerConfig(caches=caches, tuner="off"))
        self.cache: Cache = self.engine.store.cache("default")
        self.entry_ns = entry_ns
        self.now_ms = START_MS
        self.slow_ns = 0  # what the next turns of jobs cost more
        self.largest = 0  # entries of the largest step
        self.longest_ns = 0  # the longest step
        self.busy_ns = 0  # the time that steps have taken
        self._clock_ns = 0
        self._visited = self._popped = 0
        self.engine.advance_within(self.now_ms, self._clock)

    def _clock(self) -> int:
        visited = self.cache.wheel.visited
        self._clock_ns += 1_000 + (visited - self._visited) * self.entry_ns
        if visited > self._visited:
            self._clock_ns += self.slow_ns
            self.slow_ns = 0
        self._visited = visited
        return self._clock_ns

    def run_until(self, stop_ms: int, each_ms: Callable[[int], None] = lambda now_ms: None) -> None:
        """Let time pass. Steps are taken when they are due."""
        while self.now_ms < stop_ms:
            self.now_ms += 1
            each_ms(self.now_ms)
            if self.engine.next_due(self.now_ms) <= self.now_ms:
                before_ns = self._clock_ns
                done = self.engine.advance_within(self.now_ms, self._clock)
                self.busy_ns += self._clock_ns - before_ns
                self.longest_ns = max(self.longest_ns, self._clock_ns - before_ns)
                self.largest = max(self.largest, done)

    def stale(self) -> int:
        """Expired counters that are still there."""
        return self.cache.wheel.due(self.now_ms, 10**9)


@pytest.mark.parametrize(
    ("per_ms", "ttl_ms", "entry_ns"), [(100, 50, 1_000), (10, 50, 10_000), (10, 1_000, 10_000), (20, 300, 10_000)]
)
def test_at_this_rate_of_expiring_counters_nothing_piles_up(per_ms: int, ttl_ms: int, entry_ns: int) -> None:
    """100 000 counters a second at 1 us each are a tenth of the time, the whole budget, and so are 10 000 at 10 us
    each. 20 000 of these are twice that."""
    machine = Machine(entry_ns=entry_ns)
    number = 0

    def create(now_ms: int) -> None:
        nonlocal number
        for _ in range(per_ms):
            number += 1
            machine.cache.incr(b"%d" % number, 1, ttl_ms, now_ms)

    stale: list[int] = []
    for part in range(10):
        machine.run_until(START_MS + ttl_ms + 60 * (part + 1), create)
        stale.append(machine.stale())
        if part == 3:
            machine.longest_ns = 0  # the first step knew no price yet
    live = per_ms * ttl_ms
    bound = max(live * 0.2, per_ms * 2 * SWEEP_PERIOD_MS)
    # At first the sweeper is idle for 100 ms. What has piled up by then goes, too.
    assert max(stale[6:]) <= bound, stale
    assert machine.cache.raw_entries() <= live + bound
    assert machine.longest_ns <= 1.1 * MS, "no step is longer for it"


def test_a_backlog_takes_a_quarter_of_the_time_and_no_more() -> None:
    machine = Machine()
    count = 40_000
    for number in range(count):
        machine.cache.incr(b"%d" % number, 1, IDLE_MS, START_MS)
    machine.run_until(START_MS + IDLE_MS - 1)
    machine.busy_ns = 0
    machine.run_until(START_MS + IDLE_MS - 1 + 100)
    assert machine.busy_ns <= 27 * MS, "in 100 ms"
    assert 20_000 <= count - machine.stale() <= 27_000
    machine.run_until(START_MS + 400)
    assert machine.stale() == 0
    machine.run_until(START_MS + 600)
    assert machine.engine.next_due(machine.now_ms) > machine.now_ms + BACKLOG_EVERY_MS


def test_less_than_a_tenth_stale_has_the_budget() -> None:
    machine = Machine()
    for number in range(50_000):
        machine.cache.incr(b"%d" % number, 1, IDLE_MS if number < 4_000 else None, START_MS)
    machine.run_until(START_MS + IDLE_MS - 1)
    machine.busy_ns = 0
    machine.run_until(START_MS + IDLE_MS - 1 + 30)
    assert machine.busy_ns <= 3.3 * MS
    assert 2_000 <= 4_000 - machine.stale() <= 3_100


def test_one_slow_step_does_not_make_the_next_ones_small() -> None:
    """A step that takes a hundred times as long as usual is forgotten after a few turns."""
    machine = Machine()
    for number in range(20_000):
        machine.cache.incr(b"%d" % number, 1, 10, START_MS)
    machine.run_until(START_MS + IDLE_MS + 30)
    machine.slow_ns = 100 * MS
    done: list[int] = []
    for _ in range(6):
        before = machine.stale()
        machine.run_until(machine.now_ms + BACKLOG_EVERY_MS)
        done.append(before - machine.stale())
    assert done[0] >= 400, "the slow step"
    assert done[1] >= 500
    assert min(done[2:]) >= 800


def test_dear_entries_make_the_very_next_step_small() -> None:
    machine = Machine()
    for number in range(50_000):
        machine.cache.incr(b"%d" % number, 1, 10, START_MS)
    machine.run_until(START_MS + IDLE_MS + 40)
    machine.entry_ns = 50_000
    machine.run_until(machine.now_ms + BACKLOG_EVERY_MS)
    machine.busy_ns = 0
    machine.run_until(machine.now_ms + 10 * BACKLOG_EVERY_MS)
    assert machine.busy_ns <= 11 * MS, "ten steps of 1 ms"


def test_after_a_quiet_time_the_allowance_is_not_small() -> None:
    """Steps of a few entries say nothing about the price of many."""
    machine = Machine(entry_ns=300)
    for number in range(200):
        machine.cache.incr(b"few:%d" % number, 1, 1 + number * 5, START_MS)
    machine.run_until(START_MS + 1_100)
    for number in range(20_000):
        machine.cache.incr(b"%d" % number, 1, 5, machine.now_ms)
    machine.largest = 0
    machine.run_until(machine.now_ms + 30)
    assert machine.largest >= 1_500


@pytest.mark.parametrize(
    ("make", "behind"),
    [
        (lambda cache: None, False),
        (lambda cache: [cache.incr(b"%d" % number, 1, None, START_MS) for number in range(100)], False),
        (lambda cache: [cache.incr(b"%d" % number, 1, 1, START_MS) for number in range(5_000)], True),
        (lambda cache: [cache.incr(b"%d" % number, 1, 60_000, START_MS) for number in range(5_000)], False),
    ],
)
def test_expired_counters_that_are_left_are_a_backlog(make: Callable[[Cache], object], behind: bool) -> None:
    engine = Engine(ServerConfig(caches={"default": CachePolicy("default", shards=1)}))
    make(engine.store.cache("default"))
    engine.advance(START_MS + 2, 20)
    assert engine.sweep.is_behind(START_MS + 2) is behind
    assert engine.next_due(START_MS + 2) - (START_MS + 2) <= (BACKLOG_EVERY_MS if behind else 100)


def test_lazy_zeros_are_a_backlog_above_a_tenth() -> None:
    engine = Engine(ServerConfig(caches={"default": CachePolicy("default", shards=1, eviction="lazy")}))
    cache = engine.store.cache("default")
    for number in range(10_000):
        cache.incr(b"%d" % number, 1, None, START_MS)
    for number in range(900):
        cache.decr(b"%d" % number, 1, False, START_MS)
    engine.advance(START_MS, 1)
    assert not engine.sweep.is_behind(START_MS)
    for number in range(900, 2_000):
        cache.decr(b"%d" % number, 1, False, START_MS)
    engine.advance(START_MS, 1)
    assert engine.sweep.is_behind(START_MS)
    while cache.raw_entries() > 8_000:
        engine.advance(START_MS, 1_000)
    engine.advance(START_MS, 1_000)
    assert not engine.sweep.is_behind(START_MS)


def test_cleared_tables_are_a_backlog_until_they_are_freed() -> None:
    engine = Engine(ServerConfig(caches={"default": CachePolicy("default", shards=16)}))
    cache = engine.store.cache("default")
    for number in range(5_000):
        cache.incr(b"%d" % number, 1, None, START_MS)
    cache.clear(START_MS)
    engine.advance(START_MS, 100)
    assert engine.sweep.is_behind(START_MS)
    while cache.cleared_tables:
        engine.advance(START_MS, 1_000)
    engine.advance(START_MS, 1_000)
    assert not engine.sweep.is_behind(START_MS)


@pytest.mark.parametrize("seed", [1, 2, 3])
def test_the_estimate_of_expired_counters(seed: int) -> None:
    """It is right to a third where deadlines are spread evenly, near and far, however far the sweeper is behind."""
    random = Random(seed)
    engine = Engine(ServerConfig(caches={"default": CachePolicy("default", shards=1)}))
    cache = engine.store.cache("default")
    for number in range(20_000):
        cache.incr(b"%d" % number, 1, random.randint(1, 20_000), START_MS)
    wheel = cache.wheel
    assert wheel.due_estimate(START_MS) == 0
    for behind_ms in (200, 2_000, 20_000):
        due = wheel.due(START_MS + behind_ms, 10**9)
        assert due * 2 / 3 <= wheel.due_estimate(START_MS + behind_ms) <= due * 4 / 3 + 20
    cache.expire(START_MS + 20_000, 10**9)
    assert wheel.due_estimate(START_MS + 20_000) == 0


@pytest.mark.patches
def test_a_step_has_no_more_turns_than_its_bound(monkeypatch: pytest.MonkeyPatch) -> None:
    """On a clock that stands still, with more work than the turns do."""
    done = []
    for turns in (1, pace.TURNS_MAX):
        monkeypatch.setattr(sweep, "TURNS_MAX", turns)
        engine = Engine(ServerConfig(caches={"default": CachePolicy("default", shards=1)}))
        cache = engine.store.cache("default")
        for number in range(2_000):
            cache.incr(b"%d" % number, 1, 5, START_MS)
        done.append(engine.advance_within(START_MS + 5, lambda: 0))
        assert cache.evictions["expired"] == done[-1] == engine.sweep.entries_done
    assert 0 < done[0] < done[1] == 2_000


def test_a_step_ends_after_a_few_turns_of_each_job() -> None:
    """Also on a clock that stands still."""
    engine = Engine(ServerConfig(caches={"default": CachePolicy("default", shards=1)}))
    cache = engine.store.cache("default")
    for number in range(50_000):
        cache.incr(b"%d" % number, 1, 5, START_MS)
    assert 0 < engine.advance_within(START_MS + 5, lambda: 0) <= 50_000
    assert pace.TURNS_MAX == 8
