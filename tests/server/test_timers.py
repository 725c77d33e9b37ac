"""Timers: they fire once, in the order of time, not when cancelled; and cancelled ones are removed from the heap."""

from __future__ import annotations

from functools import partial
from random import Random

import pytest

from naught_server import timers
from naught_server.timers import Timer, Timers


def test_timers_fire_in_the_order_of_time_and_then_of_setting() -> None:
    source = Timers()
    fired: list[tuple[str, int]] = []
    for name, due_ms in [("late", 20), ("early", 10), ("second", 20), ("never", 31)]:
        source.set(due_ms, lambda now_ms, name=name: fired.append((name, now_ms)))  # type: ignore[misc]
    assert source.next_due() == 10
    assert source.fire_due(9, 100) == 0
    assert source.fire_due(10, 100) == 1
    assert source.fire_due(30, 100) == 2
    assert fired == [("early", 10), ("late", 30), ("second", 30)]
    assert (len(source), source.next_due()) == (1, 31)


def test_a_step_fires_up_to_its_limit() -> None:
    source = Timers()
    fired: list[int] = []
    for number in range(5):
        source.set(10, lambda _, number=number: fired.append(number))  # type: ignore[misc]
    assert [source.fire_due(10, 2) for _ in range(4)] == [2, 2, 1, 0]
    assert fired == [0, 1, 2, 3, 4]
    assert source.next_due() is None


def test_a_cancelled_alarm_does_not_ring_and_may_be_cancelled_again() -> None:
    source = Timers()
    fired: list[int] = []
    first = source.set(5, fired.append)
    source.set(6, fired.append)
    source.cancel(first)
    source.cancel(first)
    assert (len(source), source.next_due()) == (1, 6)
    source.fire_due(7, 10)
    assert fired == [7]
    source.cancel(first)
    assert (len(source), source.next_due()) == (0, None)


def test_an_alarm_that_rang_is_not_cancelled_any_more() -> None:
    source = Timers()
    first = source.set(5, lambda _: None)
    source.fire_due(5, 1)
    source.cancel(first)
    source.set(6, lambda _: None)
    assert len(source) == 1


def test_an_alarm_may_cancel_and_set_others_as_it_rings() -> None:
    source = Timers()
    fired: list[str] = []

    def fire(now_ms: int) -> None:
        fired.append("first")
        source.cancel(second)
        source.set(now_ms, lambda _: fired.append("third"))

    source.set(5, fire)
    second = source.set(5, lambda _: fired.append("second"))
    assert source.fire_due(5, 10) == 2
    assert fired == ["first", "third"]
    assert not len(source)


def test_the_owner_is_called_when_the_next_time_has_become_earlier() -> None:
    source = Timers()
    heard: list[int | None] = []
    source.watch(lambda: heard.append(source.next_due()))
    source.set(10, lambda _: None)
    source.set(20, lambda _: None)
    source.set(10, lambda _: None)
    first = source.set(5, lambda _: None)
    assert heard == [10, 5]
    source.cancel(first)
    source.set(7, lambda _: None)
    assert heard[2:] == [], "the owner wakes up at 5 anyway, and asks then"
    assert source.next_due() == 7
    source.set(6, lambda _: None)
    assert heard[2:] == [6]


def test_cancelled_alarms_take_no_more_room_than_the_others() -> None:
    source = Timers()
    kept = [source.set(1_000, lambda _: None) for _ in range(10)]
    for number in range(20_000):
        source.cancel(source.set(500 + number, lambda _: None))
    assert len(source) == len(kept)
    assert len(source._heap) <= timers._PRUNE_MIN + 2 * len(kept) + 1
    assert source.fire_due(10_000, 100) == len(kept)


def test_no_cancelling_takes_long() -> None:
    """Thousands of waits are cancelled together. Taking the heap apart at once would keep everybody waiting."""
    source = Timers()
    random = Random(1)
    all_timers = [source.set(random.randrange(10**6), lambda _: None) for _ in range(20_000)]
    random.shuffle(all_timers)
    size, most = _size(source), 0
    for timer in all_timers[:-10]:
        source.cancel(timer)
        most = max(most, size - _size(source))
        size = _size(source)
        assert size <= 3 * len(source) + 2 * timers._PRUNE_MIN
    assert most <= timers._MOVED_AT_ONCE
    assert source.fire_due(10**6, 100) == 10


def _size(source: Timers) -> int:
    return len(source._heap) + len(source._old)


@pytest.mark.patches
def test_whatever_is_set_and_cancelled_rings_as_a_sorted_list_would(monkeypatch: pytest.MonkeyPatch) -> None:
    monkeypatch.setattr(timers, "_PRUNE_MIN", 30)
    for seed in range(20):
        random = Random(seed)
        source = Timers()
        fired: list[int] = []
        expected: dict[int, tuple[int, Timer]] = {}
        now_ms = 0
        for number in range(3_000):
            what = random.random()
            if what < 0.6:
                due_ms = now_ms + random.randrange(200)
                expected[number] = (due_ms, source.set(due_ms, partial(_note, fired, number)))
            elif what < 0.95 and expected:
                source.cancel(expected.pop(random.choice(list(expected)))[1])
            elif what >= 0.95:
                now_ms += random.randrange(50)
                due = sorted((due_ms, each) for each, (due_ms, _) in expected.items() if due_ms <= now_ms)
                fired.clear()
                allowed = random.choice([3, 10_000])
                assert source.fire_due(now_ms, allowed) == min(allowed, len(due))
                assert fired == [each for _, each in due[:allowed]], f"seed {seed}"
                for each in fired:
                    del expected[each]
            assert len(source) == len(expected)
            assert source.next_due() == min((due_ms for due_ms, _ in expected.values()), default=None)


def _note(fired: list[int], number: int, now_ms: int) -> None:
    fired.append(number)
