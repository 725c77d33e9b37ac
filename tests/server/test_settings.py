"""Settings that change while the server runs: who wins, what a change brings about, and the tuner in an engine."""

from __future__ import annotations

import gc
import subprocess
import sys
from dataclasses import replace
from typing import Any

import pytest

from naught.errors import CacheFull, InvalidRequest
from naught_server.config import CachePolicy, ServerConfig
from naught_server.engine import Engine
from naught_server.rules import DEFAULT_RULES, Rule
from naught_server.store import Cache
from naught_server.tuner import Decision
from naught_server.waiters import Owner, ZeroWaiter

START_MS = 1_000_000


class Host:
    """An engine whose owner notes what it is told, and whose sweeper takes steps of a few entries."""

    def __init__(self, **words: Any) -> None:
        self.engine = Engine(ServerConfig(**words))
        self.collector: list[tuple[str, Any]] = []
        self.decided: list[Decision] = []
        self.engine.watch(
            on_collector=lambda name, value: self.collector.append((name, value)), on_tuned=self.decided.append
        )
        self.now_ms = START_MS

    @property
    def cache(self) -> Cache:
        return self.engine.store.cache("default")

    def sweep(self, seconds: float, entries: int = 10) -> None:
        """Let time pass, with a step of so many entries every 10 ms."""
        for _ in range(int(seconds * 100)):
            self.now_ms += 10
            self.engine.advance(self.now_ms, entries)

    def zeros(self, count: int) -> None:
        for number in range(count):
            self.cache.incr(b"zero:%d" % number, 1, None, self.now_ms)
            self.cache.decr(b"zero:%d" % number, 1, False, self.now_ms)

    def said(self) -> list[str]:
        return [f"{each.what}: {each.setting} {each.before} -> {each.after}" for each in self.decided]


def lazy(**words: Any) -> dict[str, Any]:
    return {"caches": {"default": CachePolicy("default", shards=16, eviction="lazy")}, **words}


# ---------------------------------------------------------------------------------------------- three hands


def test_an_operator_wins_over_the_tuner_and_gives_back_with_nil() -> None:
    settings = Host(sweep_budget_ms=2.0).engine.settings
    settings.tune("sweep_budget_ms", 4.0)
    assert (settings.sweep_budget_ms, settings.tuned, settings.pinned) == (4.0, {"sweep_budget_ms": 4.0}, {})
    assert settings.change("sweep_budget_ms", 1) == 1.0
    assert (settings.sweep_budget_ms, settings.tuned, settings.pinned) == (1.0, {}, {"sweep_budget_ms": 1.0})
    with pytest.raises(AssertionError):
        settings.tune("sweep_budget_ms", 4.0)
    assert settings.change("sweep_budget_ms", None) == 2.0
    settings.tune("sweep_budget_ms", 4.0)
    settings.untune("sweep_budget_ms")
    assert settings.sweep_budget_ms == 2.0


def test_rereading_wins_over_both() -> None:
    engine = Host().engine
    engine.change_setting("drain_timeout_ms", 5)
    engine.settings.tune("sweep_budget_ms", 4.0)
    reread = ServerConfig(rules={"quiet": replace(DEFAULT_RULES["quiet"], off=True)})
    assert engine.settings.changes(reread) == {"drain_timeout_ms": 10_000, "sweep_budget_ms": 1.0}
    engine.reconfigure(reread)
    assert engine.settings.as_dict() == Host().engine.settings.as_dict()
    assert set(engine.tuner.rules) == set(DEFAULT_RULES) - {"quiet"}


def test_the_tuner_takes_back_what_it_has_changed_and_nothing_else() -> None:
    settings = Host().engine.settings
    before = settings.as_dict()
    settings.change("sweep_budget_ms", 2.0)
    settings.untune("sweep_budget_ms")
    settings.untune("drain_timeout_ms")
    assert settings.value("sweep_budget_ms") == 2.0
    settings.change("sweep_budget_ms", None)
    settings.tune("sweep_budget_ms", 4.0)
    settings.untune("sweep_budget_ms")
    assert settings.as_dict() == before


def test_a_cache_that_the_file_no_longer_has_keeps_its_settings() -> None:
    caches = {name: CachePolicy(name, eviction="lazy", max_counters=7) for name in ("default", "old")}
    engine = Host(caches=caches).engine
    engine.change_setting("caches.old.max_counters", 9)
    reread = ServerConfig(caches={"default": CachePolicy("default", max_counters=8)})
    assert "caches.old.max_counters" not in engine.settings.changes(reread)
    engine.reconfigure(reread)
    assert engine.settings.value("caches.default.max_counters") == 8
    assert engine.settings.value("caches.old.max_counters") == 7, "what operators had set is gone"
    assert engine.settings.value("caches.old.eviction") == "lazy"
    assert engine.store.cache("old").policy == caches["old"]


def test_a_wrong_value_changes_nothing() -> None:
    settings = Host().engine.settings
    before = settings.as_dict()
    for name, value, text in [
        ("sweep_interval_ms", 3, "sweep_interval_ms must be a whole number from 4 to 1000, not 3"),
        ("sweep_interval_ms", 10.0, "sweep_interval_ms must be a whole number from 4 to 1000, not 10.0"),
        ("gc_freeze", "yes", "gc_freeze must be true or false, not 'yes'"),
        ("tuner", b"\xff", "tuner must be off, dry-run or on, not '\ufffd'"),
        ("caches.default.eviction", "never", "caches.default.eviction must be eager or lazy, not 'never'"),
        (
            "caches.default.max_counters",
            -1,
            "caches.default.max_counters must be a whole number from 1 to 1099511627776, or 0 for no bound, not -1",
        ),
    ]:
        with pytest.raises(InvalidRequest) as caught:
            settings.change(name, value)
        assert str(caught.value) == text
    assert settings.as_dict() == before
    assert settings.pinned == {}


def test_no_setting_of_this_name_lists_those_there_are_and_no_cache() -> None:
    """There may be 128 caches, and an error is a sentence."""
    with pytest.raises(InvalidRequest) as caught:
        Host().engine.settings.value("nonsense" * 100)
    text = str(caught.value)
    assert text.startswith("there is no setting named 'nonsensenonsense")
    assert text.endswith(", tuner, gc_freeze, caches.NAME.eviction, caches.NAME.max_counters")
    assert len(text) < 400


# ---------------------------------------------------------------------------------------------- what they bring about


def test_the_collector_is_the_owners() -> None:
    host = Host()
    host.engine.change_setting("gc_threshold", 5_000)
    host.engine.change_setting("gc_freeze", True)
    host.engine.change_setting("gc_freeze", True)
    host.engine.change_setting("gc_freeze", None)
    assert host.collector == [("gc_threshold", 5_000), ("gc_freeze", True), ("gc_freeze", False)]


def test_an_eager_cache_becomes_lazy_and_eager_again() -> None:
    host = Host(tuner="off")
    host.zeros(10)
    assert host.cache.raw_entries() == 0
    host.engine.change_setting("caches.default.eviction", "lazy")
    host.zeros(10)
    assert (host.cache.raw_entries(), host.cache.live_count(host.now_ms)) == (10, (0, True))
    host.engine.change_setting("caches.default.eviction", "eager")
    host.cache.incr(b"zero:0", 1, None, host.now_ms)
    host.zeros(20)
    assert sum(host.cache.zeros) == 9 - 9, "each zero was used again and then deleted"
    host.cache.incr(b"other", 1, None, host.now_ms)
    host.cache.invariants(host.now_ms)
    host.sweep(1)
    assert not host.cache.has_zeros
    assert not host.cache.hot.has_zeros


def test_what_a_lazy_cache_has_left_is_swept_when_it_is_eager() -> None:
    host = Host(**lazy(tuner="off"))
    host.zeros(300)
    host.engine.change_setting("caches.default.eviction", "eager")
    assert host.cache.raw_entries() == 300
    host.sweep(10)
    assert host.cache.raw_entries() == 0
    assert not host.cache.has_zeros


def test_a_new_bound_refuses_new_counters_and_keeps_the_old() -> None:
    host = Host()
    for number in range(5):
        host.cache.incr(b"%d" % number, 1, None, host.now_ms)
    host.engine.change_setting("caches.default.max_counters", 3)
    with pytest.raises(CacheFull, match="max_counters = 3"):
        host.cache.incr(b"new", 1, None, host.now_ms)
    assert host.cache.incr(b"0", 1, None, host.now_ms) == 2
    host.engine.change_setting("caches.default.max_counters", 6)
    host.cache.incr(b"new", 1, None, host.now_ms)
    with pytest.raises(CacheFull, match="max_counters = 6"):
        host.cache.incr(b"newer", 1, None, host.now_ms)
    assert host.engine.change_setting("caches.default.max_counters", 0) is None
    host.cache.incr(b"newer", 1, None, host.now_ms)


def test_a_lower_threshold_compacts_more() -> None:
    def table_bytes(threshold: int) -> int:
        host = Host(caches={"default": CachePolicy("default", shards=1)}, tuner="off")
        for number in range(1_000):
            host.cache.incr(b"%d" % number, 1, None, host.now_ms)
        for number in range(600):
            host.cache.decr(b"%d" % number, 1, False, host.now_ms)
        host.engine.change_setting("compaction_bytes_per_entry", threshold)
        host.sweep(5, entries=1_000)
        return host.cache.measure(0)

    assert table_bytes(64) < table_bytes(128)


# ------------------------------------------------------------------------------------------ the tuner in an engine


def test_a_burst_of_zeros_from_the_first_to_the_last() -> None:
    host = Host(**lazy())
    for number in range(2_000):
        host.cache.incr(b"live:%d" % number, 1, None, host.now_ms)
    host.zeros(5_000)
    host.sweep(0.3)
    assert host.said() == ["changed: sweep_budget_ms 1.0 -> 4.0"]
    assert host.engine.settings.sweep_budget_ms == 4.0
    info = host.engine.info(host.now_ms)["tuner"]
    assert info["changes"]["sweep_budget_ms"]["value"] == 4.0
    assert info["decisions"][-1]["figure"] > 0.15
    host.sweep(9, entries=100)
    assert host.said()[1:] == ["put back: sweep_budget_ms 4.0 -> 1.0"]
    assert host.engine.settings.sweep_budget_ms == 1.0
    assert host.engine.info(host.now_ms)["tuner"]["changes"] == {}


def test_a_few_zeros_are_no_burst() -> None:
    host = Host(**lazy())
    host.zeros(1_000)
    host.sweep(0.3, entries=1)
    assert host.said() == []


@pytest.mark.parametrize("mode", ["off", "dry-run"])
def test_a_tuner_that_is_not_on_changes_nothing(mode: str) -> None:
    host = Host(**lazy(tuner=mode))
    host.zeros(5_000)
    host.sweep(0.3)
    assert host.engine.settings.sweep_budget_ms == 1.0
    assert host.said() == ([] if mode == "off" else ["changed: sweep_budget_ms 1.0 -> 4.0"])
    assert all(each.dry_run for each in host.decided)


def test_turning_it_off_puts_everything_back_at_once(caplog: pytest.LogCaptureFixture) -> None:
    caplog.set_level("INFO", "naught.server")
    host = Host(**lazy())
    host.zeros(5_000)
    host.sweep(0.3)
    host.engine.change_setting("tuner", "off")
    assert host.engine.settings.sweep_budget_ms == 1.0
    assert host.engine.tuner.changes == {}
    assert caplog.messages == ["the tuner has another mode, so sweep_budget_ms is put back: it is 1.0 now"]
    host.sweep(1)
    assert len(host.said()) == 1


def test_config_set_during_a_change_is_the_end_of_it(caplog: pytest.LogCaptureFixture) -> None:
    caplog.set_level("INFO", "naught.server")
    host = Host(**lazy())
    host.zeros(5_000)
    host.sweep(0.3)
    host.engine.change_setting("sweep_budget_ms", 2)
    assert caplog.messages == ["config_set of sweep_budget_ms ends the tuner's change of it: it is 2.0 now"]
    host.sweep(20, entries=100)
    assert host.engine.settings.sweep_budget_ms == 2.0
    assert len(host.said()) == 1
    assert host.engine.info(host.now_ms)["tuner"]["pinned"] == {"sweep_budget_ms": 2.0}


def test_a_rule_changes_the_eviction_of_the_cache_it_is_met_for() -> None:
    rules = {"flood": Rule("flood", "deviation", "eviction", above=2, until=0, to="eager", undo_after_ms=1_000)}
    off = {name: replace(rule, off=True) for name, rule in DEFAULT_RULES.items()}
    caches = {name: CachePolicy(name, shards=4, eviction="lazy") for name in ("default", "other")}
    host = Host(caches=caches, rules=rules | off)
    host.zeros(3_000)
    host.sweep(0.3)
    assert host.said() == ["changed: caches.default.eviction lazy -> eager"]
    assert host.cache.policy.eviction == "eager"
    assert host.engine.store.cache("other").policy.eviction == "lazy"
    host.sweep(10, entries=100)
    assert host.said()[1:] == ["put back: caches.default.eviction eager -> lazy"]
    assert host.cache.policy.eviction == "lazy"
    host.cache.invariants(host.now_ms)


def test_the_end_of_a_freeze_is_no_reason_for_the_next() -> None:
    """It is a whole collection, and may take as long as the one that began it."""
    rule = replace(DEFAULT_RULES["freeze-after-burst"], undo_after_ms=1_000)
    host = Host(rules={rule.name: rule})

    def collect(name: str, value: Any) -> None:
        if name == "gc_freeze" and not value:
            host.engine.stats.note_collection(50_000_000)

    host.engine.watch(on_collector=collect)
    host.sweep(1)
    host.engine.stats.note_collection(50_000_000)
    host.sweep(5)
    assert host.said() == ["changed: gc_freeze False -> True", "put back: gc_freeze True -> False"]


def test_the_part_of_the_time_is_never_more_than_all_of_it() -> None:
    settings = Host(sweep_budget_ms=10.0, sweep_interval_ms=4).engine.settings
    assert settings.sweep_share == 1.0
    settings.change("sweep_interval_ms", 100)
    assert settings.sweep_share == 0.1


def test_a_client_that_waits_for_an_expiry_does_not_wait_for_a_long_interval() -> None:
    host = Host(sweep_interval_ms=1_000)
    cache, now_ms = host.cache, host.now_ms
    host.engine.advance(now_ms, 10)
    assert host.engine.next_due(now_ms) == now_ms + 1_000
    cache.incr(b"mortal", 1, 500, now_ms)
    host.engine.advance(now_ms, 10)
    assert host.engine.next_due(now_ms) == now_ms + 100, "somebody may begin to wait for it"
    answers: list[object] = []
    ZeroWaiter(cache.waiters, None, b"mortal").park(answers.append, Owner(), host.engine.timers, now_ms)
    host.engine.advance(now_ms, 10)
    assert host.engine.next_due(now_ms) == now_ms + 10
    host.engine.advance(now_ms + 500, 1_000)
    assert answers


def test_an_engine_in_process_has_a_tuner_too_and_no_collector() -> None:
    """What `memory://` runs: it must not touch the collector of a program that is not a server."""
    before = gc.get_threshold(), gc.get_freeze_count()
    engine = Engine(ServerConfig())
    assert engine.change_setting("gc_threshold", 5_000) == 5_000
    assert engine.change_setting("gc_freeze", True) is True
    assert (gc.get_threshold(), gc.get_freeze_count()) == before


@pytest.mark.parametrize("threshold", [0, 50_000_000])
def test_an_engine_works_in_a_program_with_any_collector(threshold: int) -> None:
    code = f"import gc; gc.set_threshold({threshold})\nfrom naught_server.engine import Engine; Engine()"
    done = subprocess.run([sys.executable, "-c", code], capture_output=True, text=True, check=False)
    assert done.returncode == 0, done.stderr


@pytest.mark.patches
def test_a_tuner_that_fails_is_counted_and_the_sweeper_goes_on(monkeypatch: pytest.MonkeyPatch) -> None:
    host = Host(**lazy())
    host.zeros(2_000)

    def fail(*_: Any, **__: Any) -> None:
        raise RuntimeError("a fault")

    monkeypatch.setattr(host.engine.tuner, "step", fail)
    host.sweep(10, entries=100)
    assert host.cache.raw_entries() == 0
    assert host.engine.sweep.failures > 0
