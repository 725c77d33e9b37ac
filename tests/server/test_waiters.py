"""Requests that wait for a cache's counters: the order of grants, all events that wake them, the limit of a step."""

from __future__ import annotations

from collections.abc import Callable
from typing import Any

import pytest

from naught.errors import CommandError
from naught_server.config import CachePolicy
from naught_server.store import Cache
from naught_server.sweep import ShardCompaction
from naught_server.timers import Timers
from naught_server.waiters import ANSWER_ENTRIES, GRANT_ENTRIES, AcquireWaiter, Owner, Waiter, ZeroWaiter
from support.cases_counters import FULL, Refused

NOW = 1_000


class Waits:
    """A cache, requests that wait for it, and their answers by name."""

    def __init__(self, **policy: Any) -> None:
        self.cache = Cache(CachePolicy("default", **{"shards": 1, **policy}))
        self.waiters = self.cache.waiters
        self.timers = Timers()
        self.owner = Owner()
        self.answers: dict[str, Any] = {}  # in the order they came
        self.parked: dict[str, Waiter] = {}  # by name

    def room(self, name: str, *items: tuple[bytes, int, int], wait_ms: int | None = None) -> None:
        """Let an acquire wait."""
        self._park(name, AcquireWaiter(self.waiters, wait_ms, items, lambda _: 7))

    def zero(self, name: str, key: bytes) -> None:
        """Let a wait_zero wait."""
        self._park(name, ZeroWaiter(self.waiters, None, key))

    def _park(self, name: str, waiter: Waiter) -> None:
        def answer(result: object) -> None:
            assert name not in self.answers, f"{name} was answered twice"
            self.answers[name] = Refused(result.code) if isinstance(result, CommandError) else result

        waiter.park(answer, self.owner, self.timers, NOW)
        self.parked[name] = waiter

    def settle(self, entries_max: int = 1_000) -> list[str]:
        """Act on the notes. Returns the names of the requests that were answered, in order."""
        before = len(self.answers)
        self.waiters.settle(NOW, entries_max)
        self.waiters.invariants(NOW)
        return list(self.answers)[before:]


def clear(cache: Cache) -> None:
    cache.clear(NOW)


def expire(cache: Cache) -> None:
    cache.expire_in(b"k", 1, NOW - 1)
    cache.wheel.passed_ms = NOW - 2
    cache.expire(NOW, 10)


def read_after_expiry(cache: Cache) -> None:
    cache.expire_in(b"k", 1, NOW - 1)
    cache.get(b"k", NOW)


WAYS_TO_BE_ABSENT: list[tuple[str, Callable[[Cache], object]]] = [
    ("decr", lambda cache: cache.decr(b"k", 5, False, NOW)),
    ("strict decr", lambda cache: cache.decr(b"k", 3, True, NOW)),
    ("an item of apply", lambda cache: cache.apply_item(b"k", -9, None, NOW)),
    ("set to 0", lambda cache: cache.set(b"k", 0, None, NOW)),
    ("take", lambda cache: cache.take([b"k"], NOW)),
    ("clear", clear),
    ("expiry, swept", expire),
    ("expiry, found by a read", read_after_expiry),
    ("the fast loop's decr", lambda cache: cache.on_zero(0, b"k")),
]

WAYS_TO_FALL: list[tuple[str, Callable[[Cache], object]]] = [
    ("decr", lambda cache: cache.decr(b"k", 1, False, NOW)),
    ("strict decr", lambda cache: cache.decr(b"k", 1, True, NOW)),
    ("an item of apply", lambda cache: cache.apply_item(b"k", -1, None, NOW)),
    ("set to less", lambda cache: cache.set(b"k", 2, None, NOW)),
]


@pytest.mark.parametrize("eviction", ["eager", "lazy"])
@pytest.mark.parametrize(("name", "way"), WAYS_TO_BE_ABSENT)
def test_every_way_of_becoming_absent_wakes_both_kinds(name: str, way: Any, eviction: str) -> None:
    here = Waits(eviction=eviction)
    here.cache.incr(b"k", 3, None, NOW)
    here.cache.incr(b"other", 1, None, NOW)
    here.zero("zero", b"k")
    here.room("room", (b"k", 1, 1))
    assert here.settle() == []
    way(here.cache)
    here.settle()
    assert here.answers == {"zero": True, "room": (True, [1], 7)}
    assert not here.waiters.queues.by_key
    assert not here.waiters.awaited


def test_a_waiter_whose_session_has_ended_leaves_its_queue_when_it_is_next() -> None:
    """An ended session's waiters are taken out in slices, so they may still be in their queues."""
    here = Waits()
    here.cache.incr(b"k", 1, None, NOW)
    here.room("gone", (b"k", 1, 1))
    gone, here.owner = here.owner, Owner()
    here.room("next", (b"k", 1, 1))
    here.cache.decr(b"k", 1, True, NOW)
    gone.is_gone = True
    here.settle()
    assert here.answers == {"next": (True, [1], 7)}
    assert not here.waiters.queues.by_key


@pytest.mark.parametrize(("name", "way"), WAYS_TO_FALL)
def test_every_way_of_falling_makes_room(name: str, way: Any) -> None:
    here = Waits()
    here.cache.incr(b"k", 3, None, NOW)
    here.room("room", (b"k", 1, 3))
    way(here.cache)
    here.settle()
    assert here.answers == {"room": (True, [3], 7)}


@pytest.mark.parametrize(("name", "way"), WAYS_TO_BE_ABSENT)
def test_a_life_ends_when_its_counter_is_absent(name: str, way: Any) -> None:
    here = Waits()
    here.cache.incr(b"k", 3, None, NOW)
    here.waiters.generations[b"k"] = life = type("Held", (), {"holds": 1})()
    way(here.cache)
    here.cache.incr(b"k", 1, None, NOW)
    assert here.waiters.generations.get(b"k") is not life


def test_first_come_is_first_served_and_small_ones_do_not_slip_past() -> None:
    here = Waits()
    here.cache.incr(b"k", 5, None, NOW)
    here.room("large", (b"k", 4, 5))
    for name in ("a", "b", "c"):
        here.room(name, (b"k", 1, 5))
    here.cache.decr(b"k", 3, False, NOW)
    assert here.settle() == [], "the first does not fit, and no other overtakes it"
    here.cache.decr(b"k", 1, False, NOW)
    assert here.settle() == ["large"]
    here.cache.decr(b"k", 2, False, NOW)
    assert here.settle() == ["a", "b"]


def test_who_needs_several_waits_until_it_is_first_in_all_queues() -> None:
    here = Waits()
    here.cache.set(b"x", 1, None, NOW)
    here.cache.set(b"y", 1, None, NOW)
    here.room("x", (b"x", 1, 1))
    here.room("both", (b"x", 1, 2), (b"y", 1, 2))
    here.room("y", (b"y", 1, 2))
    assert here.settle() == []
    here.cache.set(b"y", 0, None, NOW)
    assert here.settle() == [], "`both` is not the first for x, and y came after it"
    here.cache.set(b"x", 0, None, NOW)
    assert here.settle() == ["x", "both", "y"]
    assert here.answers["both"] == (True, [2, 1], 7)


def test_a_key_named_twice_stands_once_in_its_queue() -> None:
    here = Waits()
    here.cache.incr(b"k", 2, None, NOW)
    here.room("twice", (b"k", 1, 3), (b"k", 1, 2))
    assert len(here.waiters.queues.of(b"k")) == 1
    here.cache.decr(b"k", 1, False, NOW)
    assert here.settle() == []
    here.cache.decr(b"k", 1, False, NOW)
    here.settle()
    assert here.answers == {"twice": (True, [2, 2], 7)}


def test_when_the_first_leaves_the_next_is_looked_at() -> None:
    here = Waits()
    here.cache.incr(b"k", 3, None, NOW)
    here.room("large", (b"k", 3, 3))
    here.room("small", (b"k", 1, 4))
    here.parked["large"].end(NOW)
    assert here.answers == {"large": (False, [3], None), "small": (True, [4], 7)}
    here.waiters.invariants(NOW)


def test_when_another_leaves_nothing_changes() -> None:
    here = Waits()
    here.cache.incr(b"k", 3, None, NOW)
    for name in ("a", "b", "c"):
        here.room(name, (b"k", 1, 3))
    here.parked["b"].end(NOW)
    here.parked["b"].end(NOW)
    assert not here.waiters.unsettled
    here.cache.decr(b"k", 2, False, NOW)
    assert here.settle() == ["a", "c"]


def test_a_full_cache_ends_the_wait_and_the_next_is_looked_at() -> None:
    here = Waits(max_counters=2)
    here.cache.incr(b"x", 1, None, NOW)
    here.cache.incr(b"y", 1, None, NOW)
    here.room("creates", (b"x", 1, 1), (b"z", 1, 1))
    here.room("does not", (b"x", 1, 2))
    here.cache.set(b"x", 0, None, NOW)
    assert here.settle() == ["creates", "does not"]
    assert here.answers == {"creates": FULL, "does not": (True, [1], 7)}
    assert here.cache.peek([b"x", b"y", b"z"], NOW) == [1, 1, 0]


def test_a_grant_waits_for_a_shard_with_work_and_delays_no_other() -> None:
    here = Waits(shards=2)
    keys = [b"%d" % number for number in range(50)]
    here_key = next(key for key in keys if here.cache.shard_of(key) == 0)
    there_key = next(key for key in keys if here.cache.shard_of(key) == 1)
    for key in (here_key, there_key):
        here.cache.incr(key, 1, None, NOW)
        here.room(key.decode(), (key, 1, 1))
    here.cache.set(here_key, 0, None, NOW)
    here.cache.set(there_key, 0, None, NOW)
    work = ShardCompaction.begin(here.cache, 0)
    assert work is not None
    assert here.settle() == [there_key.decode()]
    assert here.waiters.unsettled
    while not work.step(10)[1]:
        pass
    assert here.settle() == [here_key.decode()]
    assert here.cache.peek([here_key, there_key], NOW) == [1, 1]


def test_a_step_answers_at_most_so_many_and_the_rest_stays_noted() -> None:
    here = Waits()
    here.cache.incr(b"k", 1, None, NOW)
    for number in range(10):
        here.zero(str(number), b"k")
    here.cache.decr(b"k", 1, False, NOW)
    assert here.settle(4 * ANSWER_ENTRIES) == ["0", "1", "2", "3"]
    assert here.settle(4 * ANSWER_ENTRIES) == ["4", "5", "6", "7"]
    # A wait that was woken and is not answered yet stays woken, even if the counter exists again.
    here.cache.incr(b"k", 1, None, NOW)
    here.parked["9"].end(NOW)
    assert here.answers["9"] is True
    assert list(here.answers)[8:] == ["9", "8"], "the end of a wait settles too"
    assert not here.waiters.unsettled


def test_a_grant_that_costs_more_than_is_left_is_put_off_unless_it_is_the_first() -> None:
    here = Waits()
    for key in (b"a", b"b", b"c"):
        here.cache.incr(key, 1, None, NOW)
        here.room(key.decode(), (key, 1, 1))
    here.cache.clear(NOW)
    assert here.settle(1) == ["a"]
    assert here.waiters.unsettled
    assert here.settle(2 * (ANSWER_ENTRIES + GRANT_ENTRIES) + 1) == ["b"], "the two looks cost something too"
    assert here.settle(1) == ["c"]
    assert not here.waiters.unsettled
    assert here.cache.peek([b"a", b"b", b"c"], NOW) == [1, 1, 1]


def test_decrements_of_a_batch_wake_item_by_item() -> None:
    here = Waits()
    here.cache.incr(b"k", 1, None, NOW)
    here.room("first", (b"k", 1, 1))
    here.room("second", (b"k", 1, 1))
    results = [here.cache.apply_item(b"k", -1, None, NOW) for _ in range(2)]
    assert results == [0, 0]
    assert here.answers == {"first": (True, [1], 7), "second": (True, [1], 7)}


def test_a_waiter_for_many_keys_is_not_looked_at_for_each_of_them(monkeypatch: pytest.MonkeyPatch) -> None:
    here = Waits()
    keys = [b"%d" % number for number in range(1_000)]
    for key in keys:
        here.cache.incr(key, 2, None, NOW)
    here.room("all", *[(key, 1, 2) for key in keys])
    looks = 0

    def peek(self: Cache, wanted: Any, now_ms: int) -> list[int]:
        nonlocal looks
        looks += len(wanted)
        return original(self, wanted, now_ms)

    original = Cache.peek
    monkeypatch.setattr(Cache, "peek", peek)
    for key in [*keys[:0:-1], *keys[:1]]:
        here.cache.apply_item(key, -1, None, NOW)
    assert here.answers["all"][0] is True
    assert looks < 3 * len(keys)


def test_who_was_kept_back_by_one_key_is_looked_at_for_the_next() -> None:
    here = Waits()
    for key in (b"x", b"y", b"z"):
        here.cache.incr(key, 1, None, NOW)
    here.room("first for y", (b"y", 1, 1))
    here.room("all", (b"x", 1, 1), (b"y", 1, 2), (b"z", 1, 1))
    for key, answered in [(b"z", []), (b"x", []), (b"y", ["first for y", "all"])]:
        here.cache.set(key, 0, None, NOW)
        assert here.settle() == answered
    # A waiter that was found to fit may not fit any more when it is granted.
    here.cache.set(b"x", 1, None, NOW)
    here.cache.set(b"y", 1, None, NOW)
    here.room("both", (b"x", 1, 1), (b"y", 1, 1))
    here.cache.set(b"x", 0, None, NOW)
    assert here.settle() == []
    here.cache.set(b"x", 1, None, NOW)
    here.cache.set(b"y", 0, None, NOW)
    assert here.settle() == []
    here.cache.set(b"x", 0, None, NOW)
    assert here.settle() == ["both"]


def test_no_notes_without_waiters() -> None:
    here = Waits()
    here.cache.incr(b"k", 3, None, NOW)
    here.cache.decr(b"k", 1, False, NOW)
    here.cache.decr(b"k", 2, False, NOW)
    here.cache.clear(NOW)
    assert not here.waiters.unsettled
    assert not here.waiters.watched
