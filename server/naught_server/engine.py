"""One server's whole state, without its sockets: caches, sweep, settings and figures. Sans-IO.

    bytes -> Channel (channel.py) -> commands (commands.py) -> Cache (store.py) -> bytes
                 `-- Session (session.py) --'                   `-- Waiting (waiting.py)


A process has as many engines as it wants: `naught-server` runs one behind its listeners, `memory://` one behind each
name. An engine does nothing by itself: whoever owns it calls `advance()` about every 10 ms, or when
`next_due()` says.
"""

from __future__ import annotations

import logging
import secrets
from collections.abc import Callable
from typing import Any, Final

from naught._version import __version__
from naught.errors import InvalidRequest
from naught.wire.limits import SESSION_ID_BYTES
from naught_server.commands import COMMANDS
from naught_server.config import (
    DRAIN_TIMEOUT_MS_MAX,
    SESSIONS_PER_CONNECTION,
    SWEEP_BUDGET_MS_MAX,
    SWEEP_BUDGET_MS_MIN,
    SWEEP_PERIOD_MS,
    ServerConfig,
)
from naught_server.session import Sessions
from naught_server.store import Cache, Store
from naught_server.sweep import Sweep
from naught_server.timers import Alarms

log = logging.getLogger("naught.server")

SWEEP_IDLE_MS: Final = 100
"""How often it looks when there was nothing to do."""


class Durations:
    """How often something took time, how long in all and at most, and how it was spread. Nanoseconds."""

    __slots__ = ("buckets", "count", "max_ns", "total_ns")

    BUCKETS: Final = 25
    """The last one is of what took longer than 8 s."""

    def __init__(self) -> None:
        self.count = 0
        self.total_ns = 0
        self.max_ns = 0
        self.buckets = [0] * self.BUCKETS  # the i-th counts what took less than 2^i us, and no less than half of that

    def add(self, duration_ns: int) -> None:
        """Count one."""
        self.count += 1
        self.total_ns += duration_ns
        self.max_ns = max(self.max_ns, duration_ns)
        self.buckets[min((duration_ns // 1000).bit_length(), self.BUCKETS - 1)] += 1

    def words(self) -> dict[str, Any]:
        """For `info`."""
        return {
            "count": self.count,
            "total_us": self.total_ns // 1000,
            "max_us": self.max_ns // 1000,
            "histogram": self.buckets,
        }


class Stats:
    """What is counted for the operator. The adapters add to it what only they can see."""

    __slots__ = (
        "collections",
        "commands",
        "connections",
        "connections_accepted",
        "connections_refused",
        "errors",
        "loop_lag",
    )

    def __init__(self) -> None:
        # Requests executed, by method. All names are there, so the hot path only adds.
        self.commands: dict[str, int] = {method.decode(): 0 for method in COMMANDS}
        self.errors: dict[str, int] = {}  # error replies, by code; the items of a batch are not counted
        self.connections = 0  # open now
        self.connections_accepted = 0
        self.connections_refused = 0  # over the limit, or no descriptor left
        self.collections = Durations()  # pauses of Python's garbage collector
        self.loop_lag = Durations()  # how late the loop ran the sweeper

    def commands_total(self) -> int:
        """Requests executed since the start."""
        return sum(self.commands.values())

    def error(self, code: str) -> None:
        """Count an error reply."""
        self.errors[code] = self.errors.get(code, 0) + 1

    def gc_pause(self, duration_ns: int) -> None:
        """Note a pause of the garbage collector."""
        self.collections.add(duration_ns)


class Settings:
    """What can be changed while the server runs, with `config_set`."""

    def __init__(self, config: ServerConfig) -> None:
        self.sweep_budget_ms: float = config.sweep_budget_ms  # the sweeper's work in any 10 ms
        self.drain_timeout_ms: int = config.drain_timeout_ms  # how long a stop waits for peers
        self.log_level: str = config.log_level

    def words(self) -> dict[str, Any]:
        """All settings by name."""
        return dict(vars(self))

    def change(self, name: str, value: object) -> object:
        """Set one; the value it has then. Raises InvalidRequest that says what is allowed."""
        if name == "sweep_budget_ms":
            low, high = SWEEP_BUDGET_MS_MIN, SWEEP_BUDGET_MS_MAX
            if not (type(value) is int or type(value) is float) or not low <= value <= high:
                raise InvalidRequest(f"sweep_budget_ms is a number from {low} to {high}")
            self.sweep_budget_ms = float(value)
        elif name == "drain_timeout_ms":
            if type(value) is not int or not 0 <= value <= DRAIN_TIMEOUT_MS_MAX:
                raise InvalidRequest(f"drain_timeout_ms is an integer from 0 to {DRAIN_TIMEOUT_MS_MAX}")
            self.drain_timeout_ms = value
        elif name == "log_level":
            level = value.decode("utf-8", "replace").lower() if isinstance(value, bytes) else None
            if level not in {"debug", "info", "warning", "error"}:
                raise InvalidRequest("log_level is debug, info, warning or error")
            self.log_level = level
            logging.getLogger("naught").setLevel(level.upper())
        else:
            raise InvalidRequest(f"there is no setting named {name[:64]!r}; there are: {', '.join(self.words())}")
        result: object = self.words()[name]
        return result


def _random_id() -> bytes:
    return secrets.token_bytes(SESSION_ID_BYTES)


class Engine:
    """Caches and what keeps them well. Owned by one adapter, used by all its sessions."""

    def __init__(
        self,
        config: ServerConfig | None = None,
        *,
        new_session_id: Callable[[], bytes] = _random_id,
        first_hold: int = 1,
    ) -> None:
        """`first_hold` is the number of the first hold; numbers only grow from there. `new_session_id` gives 16 bytes
        that nobody guesses; a seeded source makes the engine repeat itself."""
        self.config = config = config or ServerConfig()
        self.store = Store(config.caches.values())
        self.stats = Stats()
        self.settings = Settings(config)
        self.alarms = Alarms()
        self.sessions = Sessions(self, new_session_id, first_hold, SESSIONS_PER_CONNECTION * config.connections_max)
        self.sweep = Sweep(self.store, self.alarms, self.sessions, self._sweep_failed)
        self.started_ms: int | None = None  # when the first `now_ms` came in; uptime counts from there
        # Called after `clear`, where the adapter has to tell the collector about the new tables.
        self.tables_replaced: Callable[[], None] = lambda: None
        self._swept_ms = 0  # when advance() was last called
        self._sweep_idle = False  # the last advance() found nothing to do

    def _sweep_failed(self, job: str, fault: Exception) -> None:
        log.error("a job of the sweeper failed: %s", job, exc_info=fault)

    def start(self, now_ms: int) -> None:
        """Say what time it is, once."""
        if self.started_ms is None:
            self.started_ms = now_ms

    def advance(self, now_ms: int, entries_max: int) -> int:
        """One bounded step of upkeep; entries worked on. About 0.3 us an entry."""
        self.start(now_ms)
        self._swept_ms = now_ms
        done = self.sweep.advance(now_ms, entries_max)
        # A counter somebody waits for is to be found expired soon after it has.
        self._sweep_idle = not done and not any(
            cache.wheel.count and cache.waiting.watched for cache in self.store.caches.values()
        )
        return done

    def next_due(self, now_ms: int) -> int:
        """When `advance` wants to be called next; a time in milliseconds on the clock of `now_ms`. It may become
        earlier, and then `alarms.sooner` is called."""
        if self.sweep.urgent:
            return now_ms
        due_ms = self._swept_ms + (SWEEP_IDLE_MS if self._sweep_idle else SWEEP_PERIOD_MS)
        alarm_ms = self.alarms.next_due()
        return max(now_ms, due_ms if alarm_ms is None else min(due_ms, alarm_ms))

    def info(self, now_ms: int) -> dict[str, Any]:
        """What `info` answers: figures by fixed words. Takes out some of what has expired, so counts are right."""
        stats = self.stats
        sweep = self.sweep
        return {
            "server": "naught",
            "version": __version__,
            "uptime_ms": now_ms - (self.started_ms if self.started_ms is not None else now_ms),
            "connections": stats.connections,
            "connections_accepted": stats.connections_accepted,
            "connections_refused": stats.connections_refused,
            "commands": {name: count for name, count in stats.commands.items() if count},
            "errors": dict(stats.errors),
            "caches": {name: self._cache_words(cache, now_ms) for name, cache in self.store.caches.items()},
            "sessions": self.sessions.totals(),
            "sweeper": {
                "steps": sweep.steps,
                "entries": sweep.entries_done,
                "failures": sweep.failures,
                "table_bytes_freed": sweep.table_bytes_freed,
            },
            "gc_pauses": stats.collections.words(),
            "loop_lag": stats.loop_lag.words(),
        }

    @staticmethod
    def _cache_words(cache: Cache, now_ms: int) -> dict[str, Any]:
        counters, _ = cache.live(now_ms)
        raw_entries = cache.raw_entries()
        return {
            "counters": counters,
            "raw_entries": raw_entries,
            "table_bytes": cache.table_bytes,
            "deviation": (raw_entries - counters) / counters if counters else float(raw_entries),
            "evictions": dict(cache.evictions),
            "deadlines": cache.wheel.count,
            "shards": cache.policy.shards,
            "eviction": cache.policy.eviction,
            "max_counters": cache.policy.max_counters,
        }

    def invariants(self, now_ms: int) -> None:
        """Raise AssertionError, naming what is wrong, unless caches, sessions and holds are as they must be."""
        self.store.invariants(now_ms)
        self.sessions.invariants(now_ms)
