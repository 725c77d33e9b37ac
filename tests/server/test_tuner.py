"""The tuner: what it decides on which figures, and what keeps it from doing harm. Time is an argument."""

from __future__ import annotations

from collections.abc import Callable, Mapping
from dataclasses import replace
from itertools import pairwise
from random import Random
from typing import Any

import pytest

from naught_server.rules import DEFAULT_RULES, Rule
from naught_server.tuner import (
    CHANGES_PER_HOUR_MAX,
    DECISIONS_KEPT,
    HOUR_MS,
    LOOK_EVERY_MS,
    REST_MS,
    Decision,
    Figures,
    Tuner,
)

BURST = replace(DEFAULT_RULES["burst-of-zeros"], undo_after_ms=5_000)
SERVER = {
    "requests": 0.0,
    "gc_seconds": 0.0,
    "gc_pause_ms": 0.0,
    "loop_lag_ms": 0.0,
    "connections": 0.0,
    "sessions": 0.0,
}
CACHE = {
    "deviation": 0.0,
    "stale_entries": 0.0,
    "raw_entries": 0.0,
    "counters": 0.0,
    "table_bytes": 0.0,
    "table_bytes_per_entry": 0.0,
    "evictions": 0.0,
}


class Bench:
    """A tuner with settings that are only numbers, and a clock that `run` moves."""

    def __init__(self, *rules: Rule, caches: tuple[str, ...] = ("default",), dry_run: bool = False) -> None:
        self.tuner = Tuner({rule.name: rule for rule in rules}, list(caches))
        self.settings: dict[str, Any] = {
            "sweep_budget_ms": 1.0,
            "sweep_interval_ms": 10,
            "compaction_bytes_per_entry": 128,
            "gc_threshold": 700,
            "gc_freeze": False,
            **{f"caches.{cache}.eviction": "lazy" for cache in caches},
        }
        self.pinned: dict[str, Any] = {}
        self.dry_run = dry_run
        self.now_ms = 1_000_000
        self.decisions: list[Decision] = []

    def look(self, server: Mapping[str, float] | None = None, **caches: Mapping[str, float]) -> Decision | None:
        """Let the time of one look pass. Given are the figures that are not 0."""
        self.now_ms += LOOK_EVERY_MS
        names = {watch.cache for watch in self.tuner._watches if watch.cache is not None}
        figures = Figures(SERVER | dict(server or {}), {name: CACHE | dict(caches.get(name, {})) for name in names})
        decision = self.tuner.step(figures, self.settings.__getitem__, self.pinned, self.now_ms, dry_run=self.dry_run)
        if decision is not None:
            self.decisions.append(decision)
            if not decision.dry_run:
                self.settings[decision.setting] = decision.after
        return decision

    def run(self, seconds: float, deviation: float | Callable[[float], float], **server: float) -> list[str]:
        """Looks for so long; what was decided, as `what setting before -> after`."""
        first = len(self.decisions)
        began_ms = self.now_ms
        while self.now_ms < began_ms + seconds * 1000:
            at = (self.now_ms - began_ms) / 1000
            figure = deviation(at) if callable(deviation) else deviation
            self.look(server, default={"deviation": figure})
        return [self.shown(decision) for decision in self.decisions[first:]]

    @staticmethod
    def shown(decision: Decision) -> str:
        return f"{decision.what} {decision.setting} {decision.before} -> {decision.after}"


def falling(at: float) -> float:
    """A deviation that falls to a tenth in each second."""
    return float(10 * 10**-at)


def test_a_burst_is_answered_at_once_and_put_back_when_it_is_over() -> None:
    bench = Bench(BURST)
    assert bench.run(10, 0.14) == []
    assert bench.run(0.1, 0.16) == ["changed sweep_budget_ms 1.0 -> 4.0"]
    assert bench.run(3, falling) == []
    assert bench.run(1, 0.011) == [], "hysteresis: it is over at 1 %, not at 15 %"
    assert bench.run(5, 0.009) == []
    assert bench.run(0.1, 0.009) == ["put back sweep_budget_ms 4.0 -> 1.0"]
    assert bench.run(100, 0.009) == []


def test_a_decision_says_what_it_was_made_on() -> None:
    bench = Bench(BURST)
    decision = bench.look(default={"deviation": 0.2})
    assert decision is not None
    assert decision.as_dict(bench.now_ms + 7) == {
        "age_ms": 7,
        "what": "changed",
        "rule": "burst-of-zeros",
        "setting": "sweep_budget_ms",
        "before": 1.0,
        "after": 4.0,
        "metric": "deviation",
        "figure": 0.2,
        "threshold": 0.15,
        "cache": "default",
        "dry_run": False,
    }
    assert list(bench.tuner.decisions) == [decision]
    assert {key: count for key, count in bench.tuner.counts.items() if count} == {("burst-of-zeros", "changed"): 1}
    assert bench.tuner.as_dict(bench.now_ms)["changes"] == {
        "sweep_budget_ms": {"rule": "burst-of-zeros", "value": 4.0, "before": 1.0, "age_ms": 0, "on_trial": True}
    }


def test_the_last_decisions_are_kept_in_their_order() -> None:
    names = tuple(f"cache-{number}" for number in range(DECISIONS_KEPT + 5))
    rule = Rule("flood", "deviation", "eviction", above=5, until=0, to="eager", undo_after_ms=600_000)
    bench = Bench(rule, caches=names)
    for number, name in enumerate(names, 1):
        bench.look(**{name: {"deviation": 6 + number / 8}})
        assert len(bench.tuner.decisions) == min(number, DECISIONS_KEPT)
        assert list(bench.tuner.decisions) == bench.decisions[-DECISIONS_KEPT:]


def test_a_figure_that_rises_first_and_then_falls_shows_that_the_change_helps() -> None:
    """A burst goes on for a while after it was noticed."""
    bench = Bench(BURST)
    assert bench.run(8, lambda at: 0.2 + at) == ["changed sweep_budget_ms 1.0 -> 4.0"]
    assert bench.run(2, lambda at: 8 - at) == []
    assert not bench.tuner.changes["sweep_budget_ms"].on_trial


def test_a_change_without_effect_is_undone_and_its_rule_rests_longer_each_time() -> None:
    bench = Bench(BURST)
    assert bench.run(10, 0.5) == ["changed sweep_budget_ms 1.0 -> 4.0"]
    assert bench.run(0.1, 0.5) == ["undone: no effect sweep_budget_ms 4.0 -> 1.0"]
    bench.run(20 * 60, 0.5)
    changed_ms = [decision.at_ms for decision in bench.decisions if decision.what == "changed"]
    gaps = [later - earlier for earlier, later in pairwise(changed_ms)]
    assert [round(gap / REST_MS) for gap in gaps] == [1, 2, 4, 8]
    assert bench.settings["sweep_budget_ms"] == 1.0


def test_a_change_that_helps_ends_the_rests() -> None:
    bench = Bench(BURST)
    bench.run(11, 0.5)
    bench.run(REST_MS / 1000, 0.0)
    assert bench.run(0.1, 0.5) == ["changed sweep_budget_ms 1.0 -> 4.0"]
    bench.run(10, falling)
    assert bench.tuner._watches[0].history.failures == 0


def test_waves_are_not_followed_one_by_one() -> None:
    """Twenty seconds with zeros and twenty without, for hours: the change stays longer and longer."""
    bench = Bench(BURST)

    def wave(at: float) -> float:
        return falling(at % 40) if at % 40 < 20 else 0.0

    assert len(bench.run(600, wave)) <= 10
    assert bench.run(1_800, wave) == []
    assert bench.settings["sweep_budget_ms"] == 4.0


def test_there_are_no_more_changes_in_an_hour_than_the_bound() -> None:
    """One cache after the other is flooded. The pause is said once, and ends when the first change is an hour ago."""
    names = tuple(f"cache-{number}" for number in range(CHANGES_PER_HOUR_MAX + 2))
    bench = Bench(
        Rule("flood", "deviation", "eviction", above=5, until=0, to="eager", undo_after_ms=600_000), caches=names
    )
    for name in names[:CHANGES_PER_HOUR_MAX]:
        decision = bench.look(**{name: {"deviation": 6}})
        assert decision is not None
        assert (decision.what, decision.cache) == ("changed", name)
    last = {names[-2]: {"deviation": 6}}
    decision = bench.look(**last)
    assert decision is not None
    assert decision.what == "paused"
    while bench.now_ms < bench.decisions[0].at_ms + HOUR_MS - LOOK_EVERY_MS:
        decision = bench.look(**last)
        assert decision is None or decision.what == "put back"
        if decision is None and bench.now_ms + 61_000 < bench.decisions[0].at_ms + HOUR_MS:
            bench.now_ms += 60_000
    while (decision := bench.look(**last)) is None or decision.what == "put back":
        assert bench.now_ms < bench.decisions[0].at_ms + HOUR_MS + 10 * LOOK_EVERY_MS
    assert (decision.what, decision.cache) == ("changed", names[-2])


def test_one_change_at_a_time() -> None:
    second = replace(BURST, name="second", set="sweep_interval_ms", times=0.5, limit=4)
    bench = Bench(BURST, second)
    assert bench.run(9, 0.5) == ["changed sweep_budget_ms 1.0 -> 4.0"]
    assert bench.run(0.2, 0.4) == ["changed sweep_interval_ms 10 -> 5"], "the first one has helped"


def test_steps_go_on_to_the_limit_while_each_helps() -> None:
    rule = replace(BURST, times=2.0, limit=5.0)
    bench = Bench(rule)
    decided = bench.run(5, lambda at: 10 * 0.5**at)
    assert decided == [f"changed sweep_budget_ms {step}" for step in ("1.0 -> 2.0", "2.0 -> 4.0", "4.0 -> 5.0")]
    assert bench.run(60, 0.0) == ["put back sweep_budget_ms 5.0 -> 1.0"]


def test_a_value_beyond_the_limit_is_left_alone() -> None:
    bench = Bench(BURST)
    bench.settings["sweep_budget_ms"] = 8.0
    assert bench.run(60, 0.5) == []


def test_a_sweeper_that_is_off_stays_off() -> None:
    bench = Bench(BURST, replace(BURST, name="to", times=None, limit=None, to=4.0))
    bench.settings["sweep_budget_ms"] = 0.0
    assert bench.run(60, 0.5) == []


def test_what_an_operator_has_set_is_left_alone() -> None:
    bench = Bench(BURST)
    bench.pinned["sweep_budget_ms"] = 1.0
    assert bench.run(60, 0.5) == []
    del bench.pinned["sweep_budget_ms"]
    assert bench.run(1, falling) == ["changed sweep_budget_ms 1.0 -> 4.0"]
    bench.pinned["sweep_budget_ms"] = 2.0
    bench.tuner.forget("sweep_budget_ms")
    assert bench.run(60, 0.0) == [], "and nothing is put back"


def test_a_dry_run_changes_nothing_and_does_not_repeat_itself() -> None:
    bench = Bench(BURST, dry_run=True)
    assert bench.run(60, 0.5) == ["changed sweep_budget_ms 1.0 -> 4.0"]
    assert bench.settings["sweep_budget_ms"] == 1.0
    assert bench.run(60, 0.0) == ["put back sweep_budget_ms 4.0 -> 1.0"]
    assert all(decision.dry_run for decision in bench.decisions)


def test_a_rate_is_the_growth_in_a_window() -> None:
    rule = DEFAULT_RULES["growth-of-tables"]
    bench = Bench(rule)
    for step in range(20):
        assert bench.look(default={"table_bytes": 19e6 * step}) is None, "190 MB/s"
    decided = [bench.look(default={"table_bytes": 19e6 * 20 + 21e6 * step}) for step in range(20)]
    assert [(each.figure, each.metric) for each in decided if each is not None] == [
        (pytest.approx(210e6), "table_bytes/s")
    ]
    for _ in range(60):
        bench.look(default={"table_bytes": 1e9})
    assert bench.decisions[-1].what == "put back"


def test_a_rule_below_acts_on_little_and_helps_upwards() -> None:
    rule = Rule("few", "counters", "compaction_bytes_per_entry", below=10, until=20, to=64, check_ms=1_000)
    bench = Bench(rule)
    assert bench.look(default={"counters": 10}) is None
    assert bench.look(default={"counters": 9}) is not None
    for _ in range(9):
        assert bench.look(default={"counters": 9}) is None
    decision = bench.look(default={"counters": 9})
    assert decision is not None
    assert decision.what == "undone: no effect"


def test_a_rule_must_have_been_met_for_its_time() -> None:
    bench = Bench(replace(BURST, for_ms=1_000))
    assert bench.run(0.9, 0.5) == []
    assert bench.run(0.1, 0.1) == [], "and it begins anew"
    assert bench.run(1, 0.5) == []
    assert bench.run(0.1, 0.5) == ["changed sweep_budget_ms 1.0 -> 4.0"]


def test_quiet_is_when_there_are_few_requests() -> None:
    bench = Bench(DEFAULT_RULES["quiet"])
    requests = 0.0

    def run(seconds: float, rate: float, figure: float) -> list[str]:
        nonlocal requests
        decided = []
        for _ in range(int(seconds * 10)):
            requests += rate / 10
            decision = bench.look({"requests": requests}, default={"table_bytes_per_entry": figure})
            decided += [bench.shown(decision)] if decision is not None else []
        return decided

    assert run(30, 102, 100) == []
    assert run(10.2, 98, 100) == []
    assert run(1, 98, 100) == ["changed compaction_bytes_per_entry 128 -> 64"]
    assert run(1, 0, 50) == []
    assert run(10, 0, 50) == ["put back compaction_bytes_per_entry 64 -> 128"], "there is nothing left to give back"
    assert run(11, 0, 100) == ["changed compaction_bytes_per_entry 128 -> 64"]
    run(1, 0, 80)
    assert run(60, 500, 80) == ["put back compaction_bytes_per_entry 64 -> 128"], "the requests are back"


def test_requests_at_random_times_are_quiet_too() -> None:
    bench = Bench(DEFAULT_RULES["quiet"])
    random = Random(1)
    requests = 0.0
    for _ in range(600):
        requests += sum(random.random() < 0.05 for _ in range(100))  # fifty a second
        bench.look({"requests": requests}, default={"table_bytes_per_entry": 100})
    assert "changed" in [each.what for each in bench.decisions]


def test_a_server_that_has_just_started_is_not_quiet_when_it_is_busy() -> None:
    bench = Bench(replace(BURST, requests_below=100))
    assert bench.look() is None
    assert bench.look({"requests": 1_000.0}, default={"deviation": 0.5}) is None


def test_each_cache_is_watched_and_the_eviction_of_that_cache_is_set() -> None:
    rule = Rule("flood", "deviation", "eviction", above=5, until=0, to="eager")
    bench = Bench(rule, caches=("one", "two"))
    decision = bench.look(two={"deviation": 6})
    assert decision is not None
    assert (decision.setting, decision.cache) == ("caches.two.eviction", "two")
    bench = Bench(replace(rule, cache="one"), caches=("one", "two"))
    assert bench.look(two={"deviation": 6}) is None
    assert bench.look(one={"deviation": 6}) is not None


def test_a_change_is_kept_for_another_cache_that_is_met() -> None:
    """And not put back and made again a tenth of a second later."""
    bench = Bench(BURST, caches=("one", "two"))
    assert bench.look(one={"deviation": 0.5}) is not None
    for _ in range(50):
        assert bench.look(two={"deviation": 0.5}) is None
    decision = bench.look(two={"deviation": 0.5})
    assert decision is not None
    assert (bench.shown(decision), decision.cache) == ("kept sweep_budget_ms 4.0 -> 4.0", "two")
    for _ in range(99):
        assert bench.look(two={"deviation": 0.5}) is None
    decision = bench.look(two={"deviation": 0.5})
    assert decision is not None
    assert bench.shown(decision) == "undone: no effect sweep_budget_ms 4.0 -> 1.0", "it is on trial for that one"


def test_a_change_that_another_cache_wants_waits_for_the_trial_of_a_third() -> None:
    """One change at a time is on trial, so it is neither kept nor put back until that one is decided."""
    lag = Rule("lag", metric="loop_lag_ms", above=100, set="gc_threshold", to=5_000, check_ms=8_000)
    bench = Bench(BURST, lag, caches=("one", "two"))
    for deviation in (0.5, 0.2, 0.05):
        bench.look(one={"deviation": deviation})
    bench.look({"loop_lag_ms": 500.0}, one={"deviation": 0.05})
    assert [bench.shown(each) for each in bench.decisions] == [
        "changed sweep_budget_ms 1.0 -> 4.0",
        "changed gc_threshold 700 -> 5000",
    ]
    while len(bench.decisions) < 4:
        assert bench.now_ms < 1_100_000
        bench.look({"loop_lag_ms": 500.0}, two={"deviation": 0.5})
    assert [bench.shown(each) for each in bench.decisions[2:]] == [
        "undone: no effect gc_threshold 5000 -> 700",
        "kept sweep_budget_ms 4.0 -> 4.0",
    ]


def test_a_change_is_not_kept_for_a_rule_that_would_set_something_else() -> None:
    lower = replace(BURST, name="lower", limit=2.0, times=2.0)
    bench = Bench(BURST, lower, caches=("one", "two"))
    bench.tuner._watches = [each for each in bench.tuner._watches if (each.rule, each.cache) != (BURST, "two")]
    bench.look(one={"deviation": 0.5})
    for _ in range(60):
        bench.look(two={"deviation": 0.5})
    assert [bench.shown(each) for each in bench.decisions[1:]] == [
        "put back sweep_budget_ms 4.0 -> 1.0",
        "changed sweep_budget_ms 1.0 -> 2.0",
    ]


def test_a_cache_that_no_change_helps_does_not_keep_the_rule_from_another() -> None:
    bench = Bench(BURST, caches=("one", "two"))
    for _ in range(110):
        bench.look(one={"deviation": 0.5})
    assert bench.decisions[-1].what == "undone: no effect"
    decision = bench.look(one={"deviation": 0.5}, two={"deviation": 0.5})
    assert decision is not None
    assert (decision.what, decision.cache) == ("changed", "two")


def test_a_small_factor_makes_steps_of_a_whole_number_too() -> None:
    bench = Bench(replace(BURST, set="sweep_interval_ms", times=1.05, limit=12))
    assert bench.run(0.1, 0.5) == ["changed sweep_interval_ms 10 -> 11"]
    assert type(bench.settings["sweep_interval_ms"]) is int


def test_new_rules_begin_anew() -> None:
    bench = Bench(BURST)
    bench.run(1, falling)
    bench.tuner.take({})
    bench.settings["sweep_budget_ms"] = 1.0  # the owner has put it back
    assert bench.tuner.changes == {}
    assert bench.look() is None
    assert bench.tuner.differences({}) == list(DEFAULT_RULES), "all default rules would come back"


def test_when_the_next_look_is_due() -> None:
    bench = Bench(BURST)
    assert bench.tuner.is_due(0)
    bench.look()
    assert not bench.tuner.is_due(bench.now_ms + LOOK_EVERY_MS - 1)
    assert bench.tuner.is_due(bench.now_ms + LOOK_EVERY_MS)
