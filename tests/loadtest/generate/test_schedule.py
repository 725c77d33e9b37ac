"""Due times: even or random, the same for the same seed, and right when several processes share a rate."""

from __future__ import annotations

import heapq
import itertools
import statistics

import pytest

from naught_loadtest.generate.plan import Plan, staged_rate
from naught_loadtest.generate.schedule import (
    SECOND_NS,
    STAGES_MAX,
    Stage,
    due_times_ns,
    parse_stages,
    staged_due_times_ns,
)


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


STAGES: list[Stage] = [(2.0, 100.0), (1.0, 1000.0), (3.0, 10.0)]


def by_stage(times_ns: list[int]) -> list[int]:
    """How many requests are due in each of the stages above."""
    ends_ns = [2 * SECOND_NS, 3 * SECOND_NS, 6 * SECOND_NS]
    reached = [sum(due_ns < end_ns for due_ns in times_ns) for end_ns in ends_ns]
    return [reached[0], reached[1] - reached[0], reached[2] - reached[1]]


def staged(arrival: str, processes: int = 1, seed: int = 1, count: int = 3000) -> list[int]:
    shares = (staged_due_times_ns(arrival, STAGES, process, processes, seed) for process in range(processes))
    return list(itertools.islice(heapq.merge(*shares), count))


def test_each_stage_has_its_rate() -> None:
    times = staged("constant")
    assert times == sorted(times)
    assert by_stage(times) == [200, 1000, 30]
    assert times[200] == 2 * SECOND_NS


def test_processes_take_turns_in_stages_too() -> None:
    assert staged("constant", processes=3) == staged("constant")


def test_poisson_arrivals_have_the_rates_of_the_stages() -> None:
    times = staged("poisson", processes=2, seed=5)
    assert times == sorted(times)
    assert by_stage(times) == pytest.approx([200, 1000, 30], rel=0.2)


def test_the_last_stage_goes_on() -> None:
    assert staged("constant", count=1240)[-1] > 6 * SECOND_NS


def test_the_warm_up_has_the_rate_of_the_first_stage() -> None:
    rate, duration_s = staged_rate(STAGES)
    plan = Plan("naught://h", "a1b2c3d:", stages=STAGES, rate=rate, duration_s=duration_s, warmup_s=1.0)
    times = list(itertools.islice(plan.due_times_ns(0), 1400))
    assert by_stage([due_ns - SECOND_NS for due_ns in times if due_ns >= SECOND_NS]) == [200, 1000, 30]
    assert (rate, duration_s) == (205.0, 6.0)
    assert "2 s at 100, 1 s at 1,000, 3 s at 10 requests/s due" in str(plan)
    assert Plan.from_json(plan.to_json()) == plan


def test_the_rate_of_stages_cannot_be_another() -> None:
    with pytest.raises(ValueError, match="follow from them"):
        Plan("naught://h", "a1b2c3d:", stages=STAGES, rate=7.0)


def test_stages_are_read() -> None:
    assert parse_stages("10s@1000, 1.5m@5000,1h@0.5") == [(10, 1000), (90, 5000), (3600, 0.5)]


@pytest.mark.parametrize(
    "text",
    ["", ",", "10s", "10@5", "10s@", "@5", "0s@5", "5s@0", "-1s@5", "5s@-1", "infs@5", "5s@nan", "5s@1e9", "٣s@5",
     "9" * 50 + "s@5", ",".join(["1s@1"] * (STAGES_MAX + 1))],
)  # fmt: skip
def test_what_is_no_stage(text: str) -> None:
    with pytest.raises(ValueError, match="stage"):
        parse_stages(text)
