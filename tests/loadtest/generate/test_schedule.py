"""Due times: even or random, the same for the same seed, and right when several processes share a rate."""

from __future__ import annotations

import heapq
import itertools
import statistics

import pytest

from naught_loadtest.generate.schedule import due_times_ns


def first(count: int, *arguments: object) -> list[int]:
    return list(itertools.islice(due_times_ns(*arguments), count))  # type: ignore[arg-type]


def test_constant_arrivals_do_not_drift() -> None:
    times = first(300_001, "constant", 30_000.0, 0, 1, 1)
    assert times[0] == 0
    assert times[-1] == 10_000_000_000
    assert {after - before for before, after in itertools.pairwise(times)} <= {33_333, 33_334}


def test_processes_take_turns_on_constant_arrivals() -> None:
    shared = heapq.merge(*(first(100, "constant", 1000.0, process, 3, 1) for process in range(3)))
    assert list(shared) == first(300, "constant", 1000.0, 0, 1, 1)


def test_poisson_arrivals_have_the_rate_and_the_spread_of_the_exponential() -> None:
    times = first(50_000, "poisson", 1000.0, 0, 1, 7)
    gaps = [after - before for before, after in itertools.pairwise(times)]
    assert statistics.mean(gaps) == pytest.approx(1_000_000, rel=0.02)
    assert statistics.stdev(gaps) == pytest.approx(1_000_000, rel=0.03)
    assert times == sorted(times)


def test_poisson_processes_add_up_to_the_rate_and_differ() -> None:
    parts = [first(10_000, "poisson", 1000.0, process, 2, 7) for process in range(2)]
    assert parts[0] != parts[1]
    assert parts[0][-1] == pytest.approx(20_000_000_000, rel=0.05)


def test_the_seed_decides() -> None:
    assert first(100, "poisson", 50.0, 0, 1, 3) == first(100, "poisson", 50.0, 0, 1, 3)
    assert first(100, "poisson", 50.0, 0, 1, 3) != first(100, "poisson", 50.0, 0, 1, 4)


@pytest.mark.parametrize(("arrival", "rate"), [("constant", 0.0), ("poisson", -1.0), ("regular", 5.0)])
def test_what_makes_no_sense_is_refused(arrival: str, rate: float) -> None:
    with pytest.raises(ValueError, match=r"rate|arrival"):
        due_times_ns(arrival, rate, 0, 1, 1)
