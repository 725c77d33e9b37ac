"""What a server did between two results of `info`."""

from __future__ import annotations

import copy
from typing import Any

import pytest

from naught.cli.figures import Durations, durations_between, figures_between
from support.infos import info_of, later


def test_rates_are_of_the_time_between() -> None:
    before = info_of(commands={"incr": 10}, errors={"full": 1})
    after = later(before, seconds=2)
    after["commands"] |= {"incr": 30, "decr": 5}
    after["errors"] |= {"full": 5}
    after["caches"]["default"]["evictions"] |= {"zero": 8, "taken": 2}
    after["sweeper"] |= {"steps": 200, "entries": 1_000}
    figures = figures_between(before, after)
    assert figures is not None
    assert figures.commands == {"incr": 10.0, "decr": 2.5}
    assert figures.commands_per_s == 12.5
    assert (figures.errors_per_s, figures.evicted_per_s) == (2.0, 5.0)
    assert figures.evicted["default"]["zero"] == 4.0
    assert (figures.sweeper_steps, figures.swept) == (100.0, 500.0)


@pytest.mark.parametrize(
    ("caches", "deviation"),
    [
        ({"a": (10, 10)}, 0.0),
        ({"a": (10, 12)}, 0.2),
        ({"a": (10, 10), "b": (10, 30)}, 1.0),
        ({"a": (0, 0)}, 0.0),
        ({"a": (0, 7)}, 7.0),
    ],
    ids=["none", "some", "of-both", "empty", "zeros-alone"],
)
def test_the_deviation_is_of_all_caches_together(caches: dict[str, tuple[int, int]], deviation: float) -> None:
    before = info_of(caches=caches)
    figures = figures_between(before, later(before))
    assert figures is not None
    assert figures.deviation == deviation
    assert figures.counters == sum(counters for counters, _ in caches.values())


def test_nothing_can_be_told_of_one_result_or_over_a_new_start() -> None:
    info = info_of()
    assert figures_between(None, info) is None
    assert figures_between(info, copy.deepcopy(info)) is None
    assert figures_between(later(info), info) is None


def histogram(**buckets: int) -> dict[str, Any]:
    """Bucket 7 is `b7`."""
    found = [0] * 25
    for name, count in buckets.items():
        found[int(name[1:])] = count
    return {"histogram": found}


@pytest.mark.parametrize(
    ("before", "after", "durations"),
    [
        ({}, {}, Durations(0, 0, 0)),
        ({"b3": 5}, {"b3": 5}, Durations(0, 0, 0)),
        ({}, {"b0": 1}, Durations(1, 1, 1)),
        ({}, {"b3": 99, "b7": 1}, Durations(8, 8, 128)),
        ({}, {"b3": 98, "b7": 2}, Durations(8, 128, 128)),
        ({"b10": 1_000}, {"b10": 1_000, "b4": 1, "b5": 1}, Durations(16, 32, 32)),
        ({}, {"b24": 1}, Durations(1 << 24, 1 << 24, 1 << 24)),
    ],
    ids=["none", "none-since", "one", "p99-in-the-lower", "p99-in-the-upper", "the-old-do-not-count", "last-bucket"],
)
def test_percentiles_are_upper_ends_of_buckets(
    before: dict[str, int], after: dict[str, int], durations: Durations
) -> None:
    assert durations_between(histogram(**before), histogram(**after)) == durations


def test_turns() -> None:
    before = info_of()
    after = later(before)
    before["turns"], after["turns"] = histogram(), histogram(b4=1)
    figures = figures_between(before, after)
    assert figures is not None
    assert figures.turns == Durations(16, 16, 16)
