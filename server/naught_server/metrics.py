"""An engine's figures as text for Prometheus: `/metrics`. Sans-IO.

    text = exposition(snapshot, open_metrics=False)

Two formats with the same content, by what the scraper accepts: the Prometheus text format 0.0.4, and OpenMetrics 1.0,
in which a counter's family has no `_total` and the text ends with `# EOF`. Names have base units, counters end with
`_total`, and every family has its help and type.

A scrape must not be felt. It walks no table: what the tables hold is their lengths, O(shards), and what the sweeper
has measured in its own steps. Counts are kept where things happen. Labels have few values, each from a fixed list or
from the configuration; none ever has a key of a counter or a name that a client gave.
"""

from __future__ import annotations

import gc
import platform
from collections.abc import Callable, Iterable, Iterator, Mapping
from typing import Any, Final, Literal, NamedTuple

from naught._compiled import is_compiled
from naught._version import __version__
from naught_server.engine import Engine
from naught_server.process import ProcessFigures
from naught_server.stats import Durations
from naught_server.store import Cache, deviation
from naught_server.tuner import Tuner, What

CONTENT_TYPE: Final = "text/plain; version=0.0.4; charset=utf-8"
CONTENT_TYPE_OPEN: Final = "application/openmetrics-text; version=1.0.0; charset=utf-8"

Type = Literal["counter", "gauge", "histogram"]
Labels = Mapping[str, str]

_NONE: Final[Labels] = {}

# Shown from the start: a rate cannot be taken of a counter whose first value is not 0.
REFUSED_REASONS: Final = (
    "connections_max",
    "connections_per_address_max",
    "connections_per_user_max",
    "http_connections_max",
    "open_files",
)
DECISION_LABELS: Final[Mapping[What, str]] = {
    "changed": "changed",
    "kept": "kept",
    "undone: no effect": "undone",
    "put back": "put_back",
    "paused": "paused",
}
CUT_REASONS: Final = ("certificate", "gone", "protocol", "unfinished", "unknown", "unread")


class Sample(NamedTuple):
    """One line: what follows the family's name, the labels, the value."""

    suffix: str
    labels: Labels
    value: float


class Family(NamedTuple):
    """A metric: its samples under one name, with help and type. A counter's name is without `_total`."""

    name: str
    type: Type
    help: str
    samples: list[Sample]


class Snapshot(NamedTuple):
    """What the figures are made from."""

    engine: Engine
    process: ProcessFigures
    now_ms: int
    """On the engine's clock."""
    now_s: float
    """Seconds since 1970."""
    is_ready: bool
    """What /readyz says."""
    loop: str
    """The name of the event loop."""


def exposition(snapshot: Snapshot, *, open_metrics: bool) -> str:
    """All metrics as text. O(shards of all caches)."""
    lines: list[str] = []
    for family in families(snapshot):
        if not family.samples:
            continue
        counter = family.type == "counter"
        name = family.name if open_metrics or not counter else f"{family.name}_total"
        lines.append(f"# HELP {name} {family.help}")
        lines.append(f"# TYPE {name} {family.type}")
        lines += [
            f"{family.name}{suffix}{_label_text(labels)} {_number(value)}" for suffix, labels, value in family.samples
        ]
    if open_metrics:
        lines.append("# EOF")
    lines.append("")
    return "\n".join(lines)


def _label_text(labels: Labels) -> str:
    if not labels:
        return ""
    return "{" + ",".join(f'{name}="{_escaped(value)}"' for name, value in labels.items()) + "}"


def _escaped(value: str) -> str:
    return value.replace("\\", "\\\\").replace("\n", "\\n").replace('"', '\\"')


def _number(value: float) -> str:
    # repr() of a float has all its digits, as many as are needed to read the same number again.
    return str(value) if isinstance(value, int) else repr(value)


# ------------------------------------------------------------------------------------- families


def _counter(name: str, help_: str, *samples: tuple[Labels, float]) -> Family:
    return Family(name, "counter", help_, [Sample("_total", labels, value) for labels, value in samples])


def _gauge(name: str, help_: str, *samples: tuple[Labels, float]) -> Family:
    return Family(name, "gauge", help_, [Sample("", labels, value) for labels, value in samples])


def _histogram(name: str, help_: str, durations: Durations) -> Family:
    """Durations, with bounds at powers of two from 1 us to 8.4 s."""
    samples: list[Sample] = []
    below = 0
    for index, count in enumerate(durations.buckets[:-1]):
        below += count
        samples.append(Sample("_bucket", {"le": repr((1 << index) / 1_000_000)}, below))
    total = below + durations.buckets[-1]
    samples.append(Sample("_bucket", {"le": "+Inf"}, total))
    samples.append(Sample("_sum", _NONE, durations.total_ns / 1e9))
    samples.append(Sample("_count", _NONE, total))
    return Family(name, "histogram", help_, samples)


def _by(label: str, counts: Mapping[Any, int]) -> Iterator[tuple[Labels, float]]:
    """A sample for each value of a label."""
    return (({label: value}, count) for value, count in counts.items())


def families(snapshot: Snapshot) -> Iterator[Family]:
    """All metrics, in the order they are shown."""
    yield from _of_caches(snapshot)
    yield from _of_commands(snapshot)
    yield from _of_connections(snapshot)
    yield from _of_sessions(snapshot)
    yield from _of_upkeep(snapshot)
    yield from _of_process(snapshot)


def _of_caches(snapshot: Snapshot) -> Iterator[Family]:
    caches = list(snapshot.engine.store.caches.values())
    named: list[tuple[Labels, Cache]] = [({"cache_name": cache.policy.name}, cache) for cache in caches]
    live = [cache.live_count(snapshot.now_ms)[0] for cache in caches]  # which takes expired counters out
    raw = [cache.raw_entries() for cache in caches]

    def each(values: Iterable[float]) -> list[tuple[Labels, float]]:
        return [(labels, value) for (labels, _), value in zip(named, values, strict=True)]

    yield _gauge(
        "cache_map_length", "Raw entries of a cache: its tables hold so many, lazy zeros included.", *each(raw)
    )
    yield _gauge(
        "cache_valid_entry_count", "Counters of a cache that exist: raw entries that are valid.", *each(live)
    )
    yield _gauge(
        "cache_deviation_ratio",
        "Raw entries above valid ones, for a valid one: (raw - valid) / valid.",
        *each(deviation(entries, counters) for entries, counters in zip(raw, live, strict=True)),
    )
    yield from _of_tables(caches, each)
    yield _gauge(
        "naught_cache_deadlines", "Counters with a time to live.", *each(cache.wheel.count for cache in caches)
    )
    bounded = [(labels, cache.policy.max_counters) for labels, cache in named]
    yield _gauge(
        "naught_cache_max_counters",
        "The most counters a cache may have, where that is bounded.",
        *((labels, bound) for labels, bound in bounded if bound is not None),
    )
    yield _counter(
        "naught_cache_evictions",
        "Counters taken out, by reason.",
        *(({**labels, "reason": r}, count) for labels, cache in named for r, count in cache.evictions.items()),
    )
    yield _gauge(
        "naught_sweeper_backlog_entries",
        "Entries that are no counters any more and are not removed yet, by kind; as last measured.",
        *(
            ({**labels, "kind": kind}, count)
            for labels, cache in named
            for kind, count in cache.backlog(snapshot.now_ms).items()
        ),
    )


def _of_tables(
    caches: list[Cache], each: Callable[[Iterable[float]], list[tuple[Labels, float]]]
) -> Iterator[Family]:
    """`each`: a value of each cache, with its labels."""
    yield _gauge(
        "naught_cache_table_bytes",
        "Memory of a cache's tables, without keys and values, as last measured.",
        *each(cache.table_bytes for cache in caches),
    )
    yield _gauge(
        "naught_cache_table_capacity_entries",
        "Entries that a cache's tables have room for, as last measured.",
        *each(cache.table_capacity for cache in caches),
    )
    yield _gauge(
        "naught_cache_table_load_ratio",
        "Entries of a cache's tables for each that they have room for: the average load factor.",
        *each(cache.load for cache in caches),
    )
    yield _gauge(
        "naught_cache_sparse_tables",
        "Tables above 1 KiB with entries / capacity below 0.4, as last measured.",
        *each(cache.sparse_tables for cache in caches),
    )
    yield _gauge("naught_cache_shards", "Tables of a cache.", *each(len(cache.tables) for cache in caches))


def _of_commands(snapshot: Snapshot) -> Iterator[Family]:
    stats = snapshot.engine.stats
    outcomes = [({"method": method, "outcome": "ok"}, count) for method, count in stats.commands.items()]
    outcomes += [({"method": m, "outcome": code}, count) for (m, code), count in stats.errors_by_method.items()]
    yield _counter(
        "naught_commands",
        "Requests by method and outcome: ok, or the code of the error. An apply is one request.",
        *outcomes,
    )
    yield _histogram(
        "naught_turn_duration_seconds",
        "Turns of connections, from received bytes to the replies. Of small ones about one in eight is timed.",
        stats.turns,
    )


def _of_connections(snapshot: Snapshot) -> Iterator[Family]:
    stats = snapshot.engine.stats
    yield _gauge("naught_connections", "Open connections.", (_NONE, stats.connections))
    yield _counter("naught_connections_accepted", "Connections accepted.", (_NONE, stats.connections_accepted))
    yield _counter(
        "naught_connections_refused",
        "Connections refused, by the limit that was reached.",
        *_by("reason", dict.fromkeys(REFUSED_REASONS, 0) | stats.refused_by_reason),
    )
    yield _counter(
        "naught_connections_cut",
        "Connections ended by the server, by reason.",
        *_by("reason", dict.fromkeys(CUT_REASONS, 0) | stats.connections_cut),
    )
    yield _counter(
        "naught_logins",
        "Log-ins by outcome; busy: too many were being checked.",
        *_by("outcome", snapshot.engine.access.as_dict()),
    )
    yield _counter(
        "naught_tls_handshakes",
        "Handshakes of TLS on the port of the counters, by outcome.",
        *_by("outcome", stats.handshakes),
    )
    yield _counter("naught_received_bytes", "Bytes received from clients.", (_NONE, stats.received_bytes))
    yield _counter("naught_sent_bytes", "Bytes of replies handed to the system.", (_NONE, stats.sent_bytes))


def _of_sessions(snapshot: Snapshot) -> Iterator[Family]:
    sessions = snapshot.engine.sessions
    yield _gauge("naught_sessions", "Open sessions.", (_NONE, len(sessions)))
    yield _gauge("naught_sessions_connected", "Sessions that have a connection.", (_NONE, sessions.connected))
    yield _counter("naught_sessions_opened", "Sessions opened.", (_NONE, sessions.opened))
    yield _counter("naught_sessions_ended", "Sessions ended, by reason.", *_by("reason", sessions.ended))
    yield _gauge("naught_holds", "Holds of all sessions.", (_NONE, sessions.holds))
    yield _gauge(
        "naught_held_amounts", "Amounts in all holds, one for each counter of each.", (_NONE, sessions.held_amounts)
    )
    yield _counter(
        "naught_holds_taken_back",
        "Holds that the server took back: of clients that were gone, and of sessions that it ended.",
        (_NONE, sessions.holds_taken_back),
    )
    yield _counter(
        "naught_held_amounts_taken_back",
        "Amounts of counters that the server took back, in these holds.",
        (_NONE, sessions.held_amounts_taken_back),
    )
    yield _gauge("naught_parked_requests", "Requests that wait.", (_NONE, sessions.parked))
    yield _gauge("naught_parked_keys", "Keys that those wait for.", (_NONE, sessions.parked_keys))
    yield _gauge("naught_parked_bytes", "Memory reserved for requests that wait.", (_NONE, sessions.parked_bytes))
    yield _gauge("naught_parked_bytes_max", "The bound of that.", (_NONE, snapshot.engine.config.parked_bytes_max))


def _of_upkeep(snapshot: Snapshot) -> Iterator[Family]:
    engine = snapshot.engine
    sweep, stats = engine.sweep, engine.stats
    yield _counter("naught_sweeper_steps", "Steps of the sweeper.", (_NONE, sweep.steps))
    yield _counter("naught_sweeper_entries", "Entries the sweeper has worked on.", (_NONE, sweep.entries_done))
    yield _counter("naught_sweeper_seconds", "Time the sweeper has worked.", (_NONE, sweep.worked_ns / 1e9))
    yield _counter("naught_sweeper_failures", "Jobs of the sweeper that have raised.", (_NONE, sweep.failures))
    yield _gauge(
        "naught_sweeper_last_step_timestamp_seconds",
        "When the sweeper took its last step, in seconds since 1970; turned off, its last one before that.",
        (_NONE, snapshot.now_s - engine.since_step_ms(snapshot.now_ms, whole=True) / 1000),
    )
    yield _gauge("naught_sweeper_behind", "1 while the sweeper has a backlog.", (_NONE, int(engine.is_behind)))
    yield _gauge(
        "naught_sweeper_budget_ratio",
        "The part of the time that the sweeper may take, without what a backlog earns it.",
        (_NONE, engine.settings.sweep_share),
    )
    yield from _of_tuner(engine.tuner)
    yield _histogram("naught_gc_pause_seconds", "Pauses of Python's garbage collector.", stats.collections)
    yield _counter(
        "naught_gc_collections",
        "Collections of Python's garbage collector, by generation.",
        *(({"generation": str(index)}, each["collections"]) for index, each in enumerate(gc.get_stats())),
    )
    yield _histogram("naught_loop_lag_seconds", "How late the event loop has run the sweeper.", stats.loop_lag)
    yield _counter("naught_log_lines_dropped", "Log lines that were dropped.", (_NONE, stats.log_lines_dropped()))


def _of_tuner(tuner: Tuner) -> Iterator[Family]:
    changing = {change.watch.rule.name for change in tuner.changes.values()}
    yield _counter(
        "naught_tuner_decisions",
        "Decisions of the tuner, by rule; in a dry run too.",
        *(
            ({"rule": rule, "decision": word}, tuner.counts.get((rule, what), 0))
            for rule in tuner.rules
            for what, word in DECISION_LABELS.items()
        ),
    )
    yield _gauge(
        "naught_tuner_active",
        "1 while a change of this rule is not put back.",
        *(({"rule": rule}, int(rule in changing)) for rule in tuner.rules),
    )


def _of_process(snapshot: Snapshot) -> Iterator[Family]:
    process = snapshot.process
    yield _gauge("naught_ready", "1 while /readyz answers 200.", (_NONE, int(snapshot.is_ready)))
    yield _gauge(
        "naught_memory_limit_bytes",
        "The most memory the server may have: its control group's limit, or its address space's.",
        *_known(process.memory_limit_bytes),
    )
    labels = {
        "version": __version__,
        "python": platform.python_version(),
        "loop": snapshot.loop,
        "compiled": "true" if is_compiled("naught_server") else "false",
    }
    yield _gauge("naught_build_info", "What runs: always 1.", (labels, 1))
    yield _gauge("process_resident_memory_bytes", "Resident memory.", *_known(process.resident_bytes))
    yield _gauge("process_virtual_memory_bytes", "Virtual memory.", *_known(process.virtual_bytes))
    yield _counter("process_cpu_seconds", "CPU time, in user and kernel mode.", (_NONE, process.cpu_s))
    yield _gauge("process_open_fds", "Open file descriptors.", *_known(process.open_fds))
    yield _gauge("process_max_fds", "The most file descriptors there may be.", *_known(process.max_fds))
    yield _gauge(
        "process_start_time_seconds",
        "When the process started, in seconds since 1970.",
        (_NONE, process.start_time_s),
    )


def _known(value: float | None) -> list[tuple[Labels, float]]:
    """A sample, or none where the value is not known."""
    return [] if value is None else [(_NONE, value)]
