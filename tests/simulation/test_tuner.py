"""The tuner on random workloads and figures: it does not oscillate, and serves none worse than without it."""

from __future__ import annotations

import os
import subprocess
import sys
from collections.abc import Iterator
from pathlib import Path
from random import Random

import pytest

from naught_server.rules import DEFAULT_RULES, METRICS
from naught_server.tuner import CHANGES_PER_HOUR_MAX, Figures, Tuner
from support.seeds import exhaustive, seeds, slow

TESTS = Path(__file__).parents[1]


NOISE_NS = 50_000
"""A workload has some thousand requests, so its p99 is the latency of the thirtieth. Where about one request in a
hundred meets a step of the sweeper, single requests decide whether that is one of them: two of the hundred workloads
have 1.24x and 1.15x of 0.11 ms, and four times as long 1.11x and 0.93x. Up to this much, more than 1.1x is noise."""


def workloads(first: int, last: int, seconds: int) -> list[tuple[int, float, float, int]]:
    """Run the workloads of these seeds, each for so long. Seed, p99 with the tuner for that without, the latter in
    nanoseconds, changes."""
    environment = {**os.environ, "PYTHONHASHSEED": "0", "NAUGHT_PURE": "1", "PYTHONPATH": str(TESTS)}
    command = [sys.executable, "-m", "simulation.tuning", str(first), str(last), str(seconds)]
    done = subprocess.run(command, env=environment, capture_output=True, text=True, check=False)
    assert done.returncode == 0, done.stderr
    print(done.stdout)
    rows = (line.split() for line in done.stdout.splitlines())
    return [(int(seed), float(ratio), float(p99_ns), int(changes)) for seed, ratio, p99_ns, changes in rows]


def check(found: list[tuple[int, float, float, int]]) -> None:
    for seed, ratio, p99_ns, changes in found:
        assert ratio <= 1.1 or (ratio - 1) * p99_ns <= NOISE_NS, f"seed {seed}"
        # Some seconds that are made to provoke it: an hour of them stays far from what the bound alone would allow.
        assert changes <= 4, f"seed {seed}"


def test_no_workload_is_served_worse_with_the_tuner() -> None:
    found = workloads(76, 77, 4)
    check(found)
    assert found[0][3], "or the tuner was not tried"


@pytest.mark.parametrize("tens", [*slow(3), *exhaustive(*(tens for tens in range(10) if tens != 3))])
def test_no_workload_of_a_hundred_is_served_worse_with_the_tuner(tens: int) -> None:
    check(workloads(10 * tens, 10 * tens + 10, 8))


def walk(random: Random) -> Iterator[dict[str, float]]:
    """Figures that wander over all thresholds, jump, and stand still. No server stands behind them that would answer
    to changes."""
    figures = dict.fromkeys(METRICS, 0.0)
    scales = {
        "deviation": 0.3,
        "stale_entries": 1e5,
        "table_bytes": 2e8,
        "table_bytes_per_entry": 130,
        "gc_pause_ms": 40,
        "gc_seconds": 0.02,
        "requests": 100,
    }
    total = {name for name, metric in METRICS.items() if metric.only_grows}
    while True:
        mood = random.choice(["still", "wander", "jump", "flap"])
        for step in range(random.randint(1, 600)):
            for name, scale in scales.items():
                if mood == "still" and name not in total:
                    continue
                drawn = random.random() * scale * (2 if mood == "jump" else 1)
                if mood == "flap":
                    drawn = scale * 2 * (step // random.choice([1, 10, 70]) % 2)
                figures[name] = figures[name] + drawn if name in total else drawn
            yield figures


@pytest.mark.parametrize("seed", seeds([1], [2, 3], range(4, 12)))
def test_no_figures_make_it_oscillate(seed: int) -> None:
    """Hours of figures that are made to: changes stay few, and most hours have fewer than the first."""
    print(f"NAUGHT_TEST_SEED={seed}")
    hours = 2 if seed > 1 else 1
    figures = walk(Random(seed))
    tuner = Tuner(DEFAULT_RULES, ["default"])
    settings = {"sweep_budget_ms": 1.0, "compaction_bytes_per_entry": 128, "gc_threshold": 700, "gc_freeze": False}
    changed: list[int] = []
    for now_ms in range(0, hours * 3_600_000, 100):
        each = next(figures)
        decision = tuner.step(Figures(each, {"default": each}), settings.__getitem__, {}, now_ms, dry_run=False)
        if decision is not None:
            settings[decision.setting] = decision.after
            changed += [now_ms] if decision.what == "changed" else []
    for first, later in zip(changed, changed[CHANGES_PER_HOUR_MAX:], strict=False):
        assert later - first >= 3_600_000
    assert len(changed) <= hours * CHANGES_PER_HOUR_MAX
    assert {setting: change.before for setting, change in tuner.changes.items()} == {
        setting: value
        for setting, value in {
            "sweep_budget_ms": 1.0,
            "compaction_bytes_per_entry": 128,
            "gc_threshold": 700,
            "gc_freeze": False,
        }.items()
        if setting in tuner.changes
    }, "whatever has happened, what comes back is what there was"
