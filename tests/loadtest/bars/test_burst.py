"""The verdict of the bar of the burst, of made-up rounds, and what counts as a reaction of the tuner."""

from __future__ import annotations

from dataclasses import replace

import pytest

from naught_loadtest.bars.bar import INVALID, MISSED, PASS
from naught_loadtest.bars.burst import Burst, bar, reactions
from naught_loadtest.generate.plan import Plan
from naught_loadtest.measure.result import Result


def result(response_ns: int) -> Result:
    made = Result(Plan("naught://h", "p:"), requests=1, offered=1, throughput=1.0, elapsed_s=1.0, server_share=0.5)
    made.cpu_shares.append(0.5)
    made.response.record(response_ns, 100)
    made.lateness.record(0, 100)
    made.offered = 100
    return made


def burst(settled_s: float | None, changes: int = 1, busy_ns: int = 150_000) -> Burst:
    return Burst(
        result(100_000), result(busy_ns), took_s=2.0, planned_s=2.0, peak=4.0, settled_s=settled_s, changes=changes
    )


ON, OFF = [burst(1.0), burst(1.1), burst(1.2)], [burst(3.0, 0), burst(2.0, 0), burst(4.0, 0)]


def test_the_bar_is_reached() -> None:
    assert bar(ON, OFF, 1_000_000).verdict == PASS


@pytest.mark.parametrize(
    ("on", "off"),
    [
        ([*ON[:2], burst(1.2, 0)], OFF),
        (ON, [*OFF[:2], burst(4.0, 1)]),
        (ON, [*OFF[:2], burst(1.2, 0)]),
        ([*ON[:2], burst(None)], OFF),
        ([burst(1.0, busy_ns=210_000)] * 3, OFF),
    ],
    ids=["no-reaction", "reaction-while-off", "not-sooner-in-one-round", "never-settled", "p99"],
)
def test_the_bar_is_missed(on: list[Burst], off: list[Burst]) -> None:
    assert bar(on, off, 1_000_000).verdict == MISSED


def test_a_burst_that_was_none_is_not_believed() -> None:
    assert bar([replace(each, peak=0.1) for each in ON], OFF, 1_000_000).verdict == INVALID


def test_a_reaction_is_a_larger_budget_since_the_burst_began() -> None:
    right = {b"what": b"changed", b"setting": b"sweep_budget_ms", b"dry_run": False, b"age_ms": 900}
    assert reactions([right], 1.0) == 1
    for wrong in (
        {b"age_ms": 1_100},
        {b"setting": b"gc_freeze"},
        {b"what": b"put back"},
        {b"dry_run": True},
    ):
        assert reactions([right | wrong], 1.0) == 0
