"""The metrics: read by the parsers of Prometheus's own client, and equal to what has happened."""

from __future__ import annotations

import random
import re
from typing import Any

import pytest
from prometheus_client.openmetrics.parser import text_string_to_metric_families as parse_open
from prometheus_client.parser import text_string_to_metric_families as parse_plain

from naught.wire.codec import encode_request
from naught_server.commands import COMMANDS
from naught_server.config import CachePolicy
from naught_server.metrics import CONTENT_TYPE, CONTENT_TYPE_OPEN, CUT_REASONS
from naught_server.rules import DEFAULT_RULES
from support.conversation import Conversation, decoded, engine_of
from support.pages import PROCESS, Pages
from support.paths import DOCS
from support.seeds import told

Samples = dict[tuple[str, tuple[tuple[str, str], ...]], float]


def samples_of(pages: Pages, *, open_metrics: bool = False) -> Samples:
    """Every sample, by name and labels."""
    accept = "application/openmetrics-text; version=1.0.0" if open_metrics else ""
    parse = parse_open if open_metrics else parse_plain
    found: Samples = {}
    for family in parse(pages.text("/metrics", accept=accept)):
        for sample in family.samples:
            its = (sample.name, tuple(sorted(sample.labels.items())))
            assert its not in found, f"{its} is there twice"
            found[its] = sample.value
    return found


def value(samples: Samples, name: str, **labels: str) -> float:
    return samples[name, tuple(sorted(labels.items()))]


class World:
    """An engine with a connection, and its pages."""

    def __init__(self, *others: CachePolicy, **policy: Any) -> None:
        self.engine = engine_of(*others, **policy)
        self.peer = Conversation(self.engine)
        self.pages = Pages(self.engine)
        self.pages.health.serve()
        self.engine.advance(self.peer.now_ms, 1_000)

    def call(self, method: str, *params: Any) -> Any:
        replies = decoded(self.peer.send(encode_request(1, method, list(params))))
        return replies[-1][2] or replies[-1][3] if replies else None

    def sweep(self) -> None:
        for _ in range(50):
            self.engine.advance(self.peer.now_ms, 4_000)

    def samples(self, *, open_metrics: bool = False) -> Samples:
        self.pages.now_ms = self.peer.now_ms
        return samples_of(self.pages, open_metrics=open_metrics)


def test_both_formats_say_the_same() -> None:
    world = World(CachePolicy("orders", max_counters=10))
    for _ in range(3):
        world.call("incr", "k", 5)
        world.call("decr", "k", 5)
        world.call("nonsense")
        world.call("incr", "", 5)
    world.sweep()
    plain, both = world.samples(), world.samples(open_metrics=True)
    assert len(plain) > 150
    for name, labels in set(plain) | set(both):
        if name != "naught_gc_collections_total":  # of this process, which may collect in between
            assert plain[name, labels] == both[name, labels]
    text = world.pages.text("/metrics", accept="application/openmetrics-text")
    assert text.endswith("# EOF\n")
    assert "# EOF" not in world.pages.text("/metrics")
    # Each family has its help and its type, before its samples.
    for body in (text, world.pages.text("/metrics")):
        described: set[str] = set()
        for line in body.splitlines():
            if line.startswith("# TYPE "):
                described.add(line.split(" ")[2])
            elif not line.startswith("#"):
                name = re.match(r"[a-z_]+", line)
                assert name is not None
                family = re.sub(r"_(bucket|sum|count|total)$", "", name[0])
                assert {name[0], family} & described, line


@pytest.mark.parametrize(
    ("accept", "content_type"),
    [
        ("", CONTENT_TYPE),
        ("*/*", CONTENT_TYPE),
        ("text/plain", CONTENT_TYPE),
        ("application/openmetrics-text", CONTENT_TYPE_OPEN),
        (
            (
                "application/openmetrics-text;version=1.0.0;q=0.5,application/openmetrics-text;version=0.0.1;q=0.4,"
                "text/plain;version=0.0.4;q=0.3,*/*;q=0.2"
            ),
            CONTENT_TYPE_OPEN,
        ),
        ("text/plain;q=0.9,application/openmetrics-text;q=0.5", CONTENT_TYPE),
        ("application/openmetrics-text;q=0", CONTENT_TYPE),
    ],
)
def test_the_format_is_what_the_scraper_accepts(accept: str, content_type: str) -> None:
    response = World().pages.get("/metrics", accept=accept)
    assert (response.status, response.content_type) == (200, content_type)


def test_names_have_base_units() -> None:
    for family in parse_open(World().pages.text("/metrics", accept="application/openmetrics-text")):
        assert re.fullmatch(r"(naught|process|cache)_[a-z_]+", family.name)
        assert family.documentation.endswith(".")
        assert not re.search(r"_(ms|us|kb|mb|percent|milliseconds)(_|$)", family.name)
        for sample in family.samples:
            assert sample.name.endswith("_total") == (family.type == "counter")


def test_raw_and_valid_entries_and_their_deviation() -> None:
    world = World(eviction="lazy")
    for number in range(100):
        world.call("incr", f"k{number}")
    for number in range(20):
        world.call("decr", f"k{number}")
    samples = world.samples()
    assert value(samples, "cache_map_length", cache_name="default") == 100
    assert value(samples, "cache_valid_entry_count", cache_name="default") == 80
    assert value(samples, "cache_deviation_ratio", cache_name="default") == 0.25
    world.sweep()
    samples = world.samples()
    assert value(samples, "cache_map_length", cache_name="default") == 80
    assert value(samples, "cache_deviation_ratio", cache_name="default") == 0


def test_they_agree_with_a_walk_of_the_tables_under_load() -> None:
    source = random.Random(told(11))
    world = World(eviction="lazy")
    cache = world.engine.store.caches["default"]
    for _ in range(100):
        keys = [b"k%d" % source.randrange(300) for _ in range(20)]
        world.call("apply", keys, [source.choice([-3, -1, 1, 2]) for _ in keys], source.choice([None, 5, 500]))
        world.peer.now_ms += source.choice([0, 1, 7])
        world.engine.advance(world.peer.now_ms, source.choice([1, 10, 100]))
        samples = world.samples()
        live = sum(len(cache.counters_of(shard, world.peer.now_ms, b"")) for shard in range(len(cache.tables)))
        raw = sum(map(cache.entries_of, range(len(cache.tables))))
        assert value(samples, "cache_map_length", cache_name="default") == raw
        assert value(samples, "cache_valid_entry_count", cache_name="default") == live


def test_the_room_in_the_tables() -> None:
    world = World(shards=1)
    for number in range(2_000):
        world.call("incr", f"k{number}")
    world.peer.now_ms += 2_000
    world.sweep()
    labels = {"cache_name": "default"}
    samples = world.samples()
    room = value(samples, "naught_cache_table_capacity_entries", **labels)
    assert 2_000 <= room <= 6_000
    assert value(samples, "naught_cache_table_load_ratio", **labels) == 2_000 / room
    assert value(samples, "naught_cache_sparse_tables", **labels) == 0
    for number in range(1_900):
        world.call("decr", f"k{number}")
    world.peer.now_ms += 1_000
    world.engine.advance(world.peer.now_ms, 400)
    assert value(world.samples(), "naught_cache_sparse_tables", **labels) == 1
    for _ in range(4):
        world.peer.now_ms += 2_000
        world.sweep()
    assert value(world.samples(), "naught_cache_sparse_tables", **labels) == 0, "it was rebuilt"


def test_evictions_by_reason() -> None:
    world = World()
    world.call("incr", "a")
    world.call("decr", "a")
    world.call("incr", "b", 1, 5)
    world.peer.now_ms += 10
    world.call("set", "c", 5)
    world.call("set", "c", 0)
    world.call("incr", "d")
    world.call("take", ["d"])
    world.call("incr", "e")
    world.call("clear")
    world.call("hello", {"session": True})
    world.call("acquire", [["f", 1, 9]])
    world.peer.protocol.close(world.peer.now_ms)
    world.peer.now_ms += 60_000
    world.sweep()
    samples = world.samples()
    for reason in ("zero", "expired", "set", "taken", "cleared", "session"):
        name = "naught_cache_evictions_total"
        assert value(samples, name, cache_name="default", reason=reason) == 1, reason
    assert value(samples, "naught_holds_taken_back_total") == 1
    assert value(samples, "naught_sessions_ended_total", reason="lease") == 1
    assert value(samples, "naught_sessions_opened_total") == 1


def test_commands_by_method_and_outcome() -> None:
    world = World(max_counters=1)
    name = "naught_commands_total"
    world.call("incr", "a")
    world.call("incr", "b")
    world.call("get", "a")
    world.call("decr", "zz", 5, True)
    world.call("get", "")
    world.call("whatever it is called")
    world.call("another")
    samples = world.samples()
    assert value(samples, name, method="incr", outcome="ok") == 1
    assert value(samples, name, method="incr", outcome="full") == 1
    assert value(samples, name, method="get", outcome="ok") == 1
    assert value(samples, name, method="get", outcome="invalid") == 1
    assert value(samples, name, method="decr", outcome="underflow") == 1
    assert value(samples, name, method="unknown", outcome="unknown_method") == 2
    methods = {dict(labels)["method"] for sample, labels in samples if sample == name}
    assert methods <= {method.decode() for method in COMMANDS} | {"unknown"}, "a label of bounded values"


def test_a_request_that_waits_is_counted_once_when_it_is_answered() -> None:
    world = World()
    world.call("incr", "a")
    world.call("wait_zero", "a", 60_000)
    name = "naught_commands_total"
    samples = world.samples()
    assert (name, (("method", "wait_zero"), ("outcome", "ok"))) not in samples
    assert value(samples, "naught_parked_requests") == 1
    assert value(samples, "naught_parked_keys") == 1
    assert 0 < value(samples, "naught_parked_bytes") <= value(samples, "naught_parked_bytes_max")
    world.call("decr", "a")
    samples = world.samples()
    assert value(samples, name, method="wait_zero", outcome="ok") == 1
    assert value(samples, "naught_parked_requests") == 0
    world.call("incr", "b")
    world.peer.send(encode_request(2, "wait_zero", ["b", 60_000]))
    world.peer.protocol.refuse()
    assert value(world.samples(), name, method="wait_zero", outcome="shutting_down") == 1


def test_histograms_add_up() -> None:
    world = World()
    for took_ns in (300, 1_000, 1_500, 40_000_000, 20_000_000_000):
        world.engine.stats.note_turn(took_ns, 10, 20)
    samples = world.samples()
    name = "naught_turn_duration_seconds"
    assert value(samples, f"{name}_count") == 5
    assert value(samples, f"{name}_sum") == pytest.approx(20.0400028)
    bounds = {
        float(dict(labels)["le"]): count for (sample, labels), count in samples.items() if sample == f"{name}_bucket"
    }
    assert list(bounds.values()) == sorted(bounds.values()), "they are cumulative"
    assert bounds[1e-6] == 1
    assert bounds[2e-6] == 3
    assert bounds[0.065536] == 4
    assert bounds[float("inf")] == 5
    assert value(samples, "naught_received_bytes_total") == 50
    assert value(samples, "naught_sent_bytes_total") == 100


def test_what_is_not_known_is_left_out() -> None:
    world = World(CachePolicy("bounded", max_counters=7))
    names = {name for name, _ in world.samples()}
    assert "naught_memory_limit_bytes" not in names
    assert value(world.samples(), "naught_cache_max_counters", cache_name="bounded") == 7
    assert ("naught_cache_max_counters", (("cache_name", "default"),)) not in world.samples()
    world.pages.process = PROCESS.__class__(**{**PROCESS.__dict__, "memory_limit_bytes": 5, "open_fds": None})
    samples = world.samples()
    assert value(samples, "naught_memory_limit_bytes") == 5
    assert ("process_open_fds", ()) not in samples


def test_the_sweeper_and_the_process() -> None:
    world = World()
    world.peer.now_ms += 5_000
    samples = world.samples()
    now_s = 1_800_000_000 + world.peer.now_ms / 1000
    assert value(samples, "naught_sweeper_last_step_timestamp_seconds") == pytest.approx(now_s - 5)
    assert value(samples, "naught_sweeper_steps_total") == 1
    assert value(samples, "naught_sweeper_behind") == 0
    assert value(samples, "process_resident_memory_bytes") == 50 << 20
    assert value(samples, "process_start_time_seconds") == 1_700_000_000.25
    assert value(samples, "naught_ready") == 1
    world.pages.health.drain()
    assert value(world.samples(), "naught_ready") == 0
    info = [dict(labels) for name, labels in samples if name == "naught_build_info"]
    assert [set(labels) for labels in info] == [{"version", "python", "loop", "compiled"}]


def test_what_the_tuner_does() -> None:
    world = World()
    samples = world.samples()
    assert value(samples, "naught_sweeper_budget_ratio") == pytest.approx(0.1)
    for rule in DEFAULT_RULES:
        assert value(samples, "naught_tuner_active", rule=rule) == 0
        for decision in ("changed", "undone", "put_back", "paused"):
            assert value(samples, "naught_tuner_decisions_total", rule=rule, decision=decision) == 0
    cache = world.engine.store.cache("default")
    cache.note_measured(1 << 16, 10_000, 5_000)
    world.engine._tune(world.peer.now_ms)
    samples = world.samples()
    assert value(samples, "naught_sweeper_budget_ratio") == pytest.approx(0.4)
    assert value(samples, "naught_tuner_active", rule="burst-of-zeros") == 1
    assert value(samples, "naught_tuner_decisions_total", rule="burst-of-zeros", decision="changed") == 1


def test_no_label_has_a_key_or_what_a_client_calls_itself() -> None:
    world = World()
    world.call("hello", {"session": True, "name": "a secret name"})
    world.call("incr", "a secret key")
    world.call("acquire", [["a secret key", 1, 5]])
    world.call("a secret method")
    assert "secret" not in world.pages.text("/metrics")


def test_a_scrape_walks_no_table(monkeypatch: pytest.MonkeyPatch) -> None:
    """The text of many counters is made from the same calls as that of none."""
    world = World(eviction="lazy")
    cache = world.engine.store.caches["default"]
    for number in range(3_000):
        world.call("incr", f"k{number}")

    class Untouchable(dict[bytes, int]):
        def __iter__(self) -> Any:
            raise AssertionError("a scrape walks a table")

        keys = values = items = __iter__

    for shard, table in enumerate(cache.tables):
        cache.tables[shard] = Untouchable(table)
    assert value(world.samples(), "cache_map_length", cache_name="default") == 3_000


def test_why_connections_are_cut_is_counted_as_the_documentation_says() -> None:
    world = World()
    assert world.peer.send(b"\xc1") == b""
    assert world.peer.closing
    samples = world.samples()
    assert value(samples, "naught_connections_cut_total", reason="protocol") == 1
    guide = (DOCS / "guide/watching.md").read_text()
    line = re.search(r"^\| `naught_connections_cut_total` .*$", guide, re.MULTILINE)
    assert line is not None
    in_guide = re.findall(r"`(\w+)`", line[0].partition("by `reason`:")[2])
    section = (DOCS / "runbook.md").read_text().partition("## NaughtConnectionsCut")[2].partition("\n## ")[0]
    in_runbook = re.findall(r"^\| `(\w+)` \|", section, re.MULTILINE)
    assert sorted(in_guide) == sorted(in_runbook) == sorted(CUT_REASONS)
