"""The deadline wheels compared with a plain dict, over many laps."""

from __future__ import annotations

from random import Random
from typing import Any

import pytest

from naught_server import expiry as deadlines
from naught_server.expiry import DeadlineWheel
from support.seeds import from_environment, seeds

START_MS = 1_000_000
GRAIN_MS = 1 << deadlines.GRAIN_BITS
LAP_MS = deadlines.LATER_SLOTS * GRAIN_MS
GRAIN_BEGINS_MS = START_MS + GRAIN_MS - START_MS % GRAIN_MS


class Owned:
    """A wheel and the deadlines of its keys, which its owner remembers."""

    def __init__(self) -> None:
        self.deadlines: dict[bytes, int] = {}
        self._wheel = DeadlineWheel(self.deadlines.__getitem__)

    def __getattr__(self, name: str) -> Any:
        return getattr(self._wheel, name)

    def add(self, key: bytes, deadline_ms: int, now_ms: int) -> None:
        self.deadlines[key] = deadline_ms
        self._wheel.add(key, deadline_ms, now_ms)

    def discard(self, key: bytes) -> None:
        self._wheel.discard(key, self.deadlines.pop(key))


class Model:
    """A wheel and a dict that must agree."""

    def __init__(self, seed: int) -> None:
        self.random = Random(seed)
        self.wheel = Owned()
        self.deadlines = self.wheel.deadlines
        self.now_ms = START_MS
        self.interrupted = 0  # discards and replacements while a grain was being poured

    def add(self, ttls_ms: list[int]) -> None:
        key = b"%d" % self.random.randrange(400)
        self.discard(key)
        deadline_ms = self.now_ms + self.random.choice(ttls_ms)
        self.wheel.add(key, deadline_ms, self.now_ms)

    def discard(self, key: bytes) -> None:
        if key in self.deadlines:
            self.interrupted += bool(self.wheel._kept)
            self.wheel.discard(key)

    def replace(self) -> None:
        if self.deadlines:
            key = self.random.choice(list(self.deadlines))
            self.interrupted += bool(self.wheel._kept)
            copy = bytes(memoryview(key))
            self.wheel.replace(copy, self.deadlines[key])
            if len(key) > 1:
                assert any(found is copy for found in self.wheel.all_keys())

    def take(self, entries_max: int) -> None:
        due = {key for key, deadline_ms in self.deadlines.items() if deadline_ms <= self.now_ms}
        assert self.wheel.due(self.now_ms, len(due) + 1) == len(due)
        assert self.wheel.due(self.now_ms, 1) >= bool(due)
        taken, finished = self.wheel.take_due(self.now_ms, entries_max)
        assert len(taken) <= entries_max
        for key in taken:
            assert self.deadlines.pop(key) <= self.now_ms, "taken too early"
            due.discard(key)
        assert not (finished and due), "finished, and some deadlines are still due"

    def check(self) -> None:
        self.wheel.invariants(self.deadlines.keys())
        assert self.wheel.count == len(self.deadlines)


@pytest.mark.parametrize(
    ("slots", "later"),
    [
        *(pytest.param(*sizes, marks=pytest.mark.patches) for sizes in ((64, 1), (64, 4), (256, 2))),
        (deadlines.SLOTS, deadlines.LATER_SLOTS),
    ],
)
@pytest.mark.parametrize("seed", seeds([1], [2, 3, 4]))
def test_the_wheel_is_a_sorted_list(seed: int, slots: int, later: int, monkeypatch: pytest.MonkeyPatch) -> None:
    print(f"NAUGHT_TEST_SEED={seed}")
    monkeypatch.setattr(deadlines, "SLOTS", slots)
    monkeypatch.setattr(deadlines, "_MASK", slots - 1)
    monkeypatch.setattr(deadlines, "LATER_SLOTS", later)
    monkeypatch.setattr(deadlines, "_LATER_MASK", later - 1)
    model = Model(seed)
    random = model.random
    small = later < deadlines.LATER_SLOTS
    lap = later * GRAIN_MS
    ttls = [1, 2, 3, 50, GRAIN_MS, slots - 1, slots, slots + 1, 2 * slots]
    ttls += [lap - 1, lap, lap + 1, lap + 3, 2 * lap, 5 * lap + 3]
    for step in range(3_000 if small else 600):
        what = random.random()
        if what < 0.45:
            model.add(ttls)
        elif what < 0.55:
            model.discard(b"%d" % random.randrange(400))
        elif what < 0.65:
            model.replace()
        elif what < 0.9:
            model.take(random.choice([1, 1, 2, 5, 50, 100_000]))
        else:
            model.now_ms += random.choice([0, 1, 1, 2, 7, 60, slots, slots + 1, lap - 1, lap, lap + 1, 10 * lap])
        if small or not step % 100:
            model.check()
    assert model.interrupted or not small or seed in from_environment()
    while not model.wheel.take_due(model.now_ms, 10)[1]:
        pass
    model.now_ms += 6 * lap + 2 * slots
    taken, finished = model.wheel.take_due(model.now_ms, 1_000_000)
    assert finished
    assert model.wheel.count == 0
    assert all(model.deadlines[key] <= model.now_ms for key in taken)


def test_a_deadline_comes_in_its_millisecond_and_not_before() -> None:
    wheel = Owned()
    wheel.add(b"k", START_MS + 5, START_MS)
    assert wheel.take_due(START_MS + 4, 100) == ([], True)
    assert wheel.take_due(START_MS + 5, 100) == ([b"k"], True)


def test_a_wheel_without_deadlines_passes_over_any_time_at_once() -> None:
    wheel = Owned()
    assert wheel.take_due(START_MS + 10**9, 1) == ([], True)
    assert wheel.passed_ms == START_MS + 10**9
    wheel.add(b"k", START_MS + 10**9 + 5, START_MS + 10**9)
    assert wheel.take_due(START_MS + 10**9 + 4, 100) == ([], True)
    assert wheel.take_due(START_MS + 10**9 + 5, 100) == ([b"k"], True)


@pytest.mark.parametrize("ahead_ms", [deadlines.SLOTS, deadlines.SLOTS + 1, LAP_MS, LAP_MS + 1, 3_600_000])
@pytest.mark.parametrize("start_ms", [GRAIN_BEGINS_MS - 1, GRAIN_BEGINS_MS, GRAIN_BEGINS_MS + 1])
def test_what_lies_far_ahead_comes_in_its_millisecond_too(start_ms: int, ahead_ms: int) -> None:
    wheel = Owned()
    wheel.add(b"k", start_ms + ahead_ms, start_ms)
    for now_ms in (start_ms, start_ms + ahead_ms // 2, start_ms + ahead_ms - 1):
        assert wheel.due(now_ms, 1) == 0
        assert wheel.take_due(now_ms, 1_000_000) == ([], True)
    assert wheel.due(start_ms + ahead_ms, 2) == 1
    assert wheel.take_due(start_ms + ahead_ms, 100) == ([b"k"], True)
    assert wheel.count == 0


def test_counters_that_live_for_long_are_left_alone() -> None:
    """Deadlines are visited once for each lap of the later wheel, and twice at their end, for any steps of time."""
    wheel = Owned()
    hour_ms = 3_600_000
    count = 5_000
    for number in range(count):
        wheel.add(b"%d" % number, START_MS + hour_ms + number, START_MS)
    now_ms = START_MS
    while now_ms < START_MS + hour_ms - 1:
        now_ms = min(now_ms + 997, START_MS + hour_ms - 1)
        assert wheel.take_due(now_ms, 1_000_000) == ([], True)
        if now_ms < START_MS + hour_ms % LAP_MS - GRAIN_MS:
            assert wheel.visited == 0
    assert wheel.visited <= count * (hour_ms // LAP_MS)
    taken, finished = wheel.take_due(now_ms + count, 1_000_000)
    assert (len(taken), finished) == (count, True)
    assert wheel.visited <= count * (hour_ms // LAP_MS + 2)


def test_short_lives_do_not_disturb_long_ones() -> None:
    """Only due deadlines are visited, although others share their slots of the near wheel."""
    wheel = Owned()
    for number in range(5_000):
        wheel.add(b"long %d" % number, START_MS + 600_000 + number, START_MS)
    for now_ms in range(START_MS, START_MS + 300_000, 50):
        wheel.add(b"short %d" % now_ms, now_ms + 100, now_ms)
        wheel.take_due(now_ms, 1_000)
    assert wheel.visited <= 6_000


def test_a_long_pause_is_one_round_and_not_all_the_laps() -> None:
    wheel = Owned()
    wheel.add(b"k", START_MS + 10**9, START_MS)
    taken, finished = wheel.take_due(START_MS + 10**9, 10_000)
    assert (taken, finished) == ([b"k"], True)


def test_what_a_long_pause_left_behind_can_still_be_replaced_and_discarded() -> None:
    """After a long pause one round over the wheel suffices, and finds deadlines of all the time that has passed."""
    wheel = Owned()
    keys = [b"key %d" % number for number in range(30)]
    for number, key in enumerate(keys):
        wheel.add(key, START_MS + LAP_MS + number * LAP_MS // 40, START_MS)
    now_ms = START_MS + 10 * LAP_MS
    taken, finished = wheel.take_due(now_ms, 1)
    while not taken:
        taken, finished = wheel.take_due(now_ms, 1)
    assert not finished
    left = wheel.all_keys()
    assert wheel.due(now_ms, 100) == len(left) == 29
    for key in left:
        wheel.replace(bytes(memoryview(key)), wheel.deadlines[key])
    assert wheel.due(now_ms, 100) == 29
    left.discard(keys[10])
    wheel.discard(keys[10])
    assert wheel.due(now_ms, 100) == 28
    assert sorted(wheel.take_due(now_ms, 1_000_000)[0]) == sorted(left)


@pytest.mark.parametrize("entries_max", [1, 7, 100])
def test_a_step_is_bounded_by_what_it_looks_at(entries_max: int) -> None:
    """Visiting a deadline of a later lap counts as work too, and a step may end among them."""
    wheel = Owned()
    for number in range(1_000):
        wheel.add(b"%d" % number, GRAIN_BEGINS_MS + 10 + LAP_MS * (1 + number % 2), START_MS)
    steps = 0
    finished = False
    while not finished:
        before = len(wheel._kept)
        taken, finished = wheel.take_due(GRAIN_BEGINS_MS + 10, entries_max)
        assert taken == []
        assert finished or len(wheel._kept) - before <= entries_max
        steps += 1
    assert steps >= 1_000 // entries_max
    assert wheel.count == 1_000


def test_empty_slots_cost_something_too() -> None:
    wheel = Owned()
    wheel.add(b"k", START_MS + 60_000, START_MS)
    steps = 1
    while not wheel.take_due(START_MS + 60_000, 10)[1]:
        steps += 1
    assert steps >= 60_000 // (10 * deadlines._EMPTY_SLOTS_PER_ENTRY)


def test_discarding_what_a_visit_has_set_aside() -> None:
    wheel = Owned()
    later_ms = GRAIN_BEGINS_MS + 10 + LAP_MS
    for number in range(10):
        wheel.add(b"%d" % number, later_ms, START_MS)
    assert wheel.take_due(GRAIN_BEGINS_MS + 10, 5) == ([], False)
    assert len(wheel._kept) == 5
    for number in range(10):
        wheel.discard(b"%d" % number)
    assert wheel.count == 0
    assert wheel.all_keys() == set()
    wheel.add(b"new", GRAIN_BEGINS_MS + 11, GRAIN_BEGINS_MS + 10)
    assert wheel.take_due(GRAIN_BEGINS_MS + 11, 5) == ([b"new"], True)


def test_swapping_out_in_the_middle_of_a_visit_takes_everything() -> None:
    wheel = Owned()
    for number in range(10):
        wheel.add(b"%d" % number, GRAIN_BEGINS_MS + 10 + LAP_MS, START_MS)
    wheel.take_due(GRAIN_BEGINS_MS + 10, 5)
    assert len(wheel._kept) == 5
    full = wheel.clear()
    assert sum(map(len, full)) == 10
    assert wheel.all_keys() == set()
    assert wheel.count == 0
    wheel.add(b"0", GRAIN_BEGINS_MS + 11, GRAIN_BEGINS_MS + 10)
    assert wheel.take_due(GRAIN_BEGINS_MS + 11, 5) == ([b"0"], True)


def sizes(wheel: Owned) -> set[int | None]:
    """Of all slots: None where there is no dict."""
    slots = [*wheel._near, *wheel._later]
    return {None if slot is None else slot.__sizeof__() for slot in slots}


EMPTY = {{}.__sizeof__()} if deadlines._ALL_DICTS_ARE_TRACKED else {None}


@pytest.mark.parametrize("ahead_ms", [10, 10 * GRAIN_MS, deadlines.SLOTS + 10, LAP_MS + 5_000, 3 * LAP_MS])
@pytest.mark.parametrize("end", ["due", "discarded", "cleared"])
def test_what_slots_held_is_given_back(end: str, ahead_ms: int) -> None:
    """Also the empty dicts, which would become as many as there are slots."""
    wheel = Owned()
    assert sizes(wheel) == EMPTY
    for number in range(2_000):
        wheel.add(b"%d" % number, START_MS + ahead_ms + number % 9, START_MS)
    assert sizes(wheel) != EMPTY
    if end == "due":
        taken, now_ms = 0, START_MS
        while taken < 2_000:
            now_ms += max(1, ahead_ms // 7)
            done = False
            while not done:
                due, done = wheel.take_due(now_ms, 300)
                taken += len(due)
    elif end == "discarded":
        wheel.take_due(START_MS + ahead_ms - 5, 700)  # some are in the middle of being poured
        for number in range(2_000):
            wheel.discard(b"%d" % number)
    else:
        wheel.clear()
    assert wheel.count == 0
    wheel.add(b"another", START_MS + 10 * LAP_MS, START_MS + 9 * LAP_MS)
    wheel.discard(b"another")
    assert sizes(wheel) == EMPTY


@pytest.mark.parametrize("ahead_ms", [10, 10 * deadlines.SLOTS], ids=["near", "later"])
def test_of_many_deadlines_in_one_slot_the_few_that_are_left_keep_little_memory(ahead_ms: int) -> None:
    """Counters that are made together expire together, and most may be evicted long before."""
    wheel = Owned()
    for number in range(100_000):
        wheel.add(b"%d" % number, START_MS + ahead_ms, START_MS)
    (slot,) = (each for slots in (wheel._near, wheel._later) for each in slots if each)
    full = slot.__sizeof__()
    for number in range(99_900):
        wheel.discard(b"%d" % number)
        if not number % 10_000:
            assert wheel.count == len(slot)
    assert slot.__sizeof__() < full // 50
    wheel.invariants(wheel.deadlines.keys())
    taken, _ = wheel.take_due(START_MS + ahead_ms, 1_000_000)
    assert sorted(taken) == sorted(b"%d" % number for number in range(99_900, 100_000))


def test_discarding_what_is_not_there_is_an_error() -> None:
    wheel = Owned()
    wheel.add(b"k", START_MS + 5, START_MS)
    wheel.deadlines[b"l"] = START_MS + 5
    with pytest.raises(KeyError):
        wheel.discard(b"l")


def test_a_key_in_a_wrong_slot_is_noticed() -> None:
    for ahead_ms in (10, 10 * deadlines.SLOTS):
        wheel = Owned()
        wheel.add(b"k", START_MS + ahead_ms, START_MS)
        wheel.invariants(wheel.deadlines.keys())
        wheel.deadlines[b"k"] += GRAIN_MS
        with pytest.raises(AssertionError):
            wheel.invariants(wheel.deadlines.keys())
