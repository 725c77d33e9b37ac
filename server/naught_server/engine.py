"""One server's whole state, without its sockets: caches, sessions, sweep, settings and figures. Sans-IO.

    bytes -> ServerProtocol (protocol.py) -> commands (commands.py) -> Cache (store.py) -> bytes
                 `-- Session (session.py) --'                           `-- Waiters (waiters.py)

A process can have any number of engines: `naught-server` runs one behind its listeners, `memory://` one for each
name. An engine does nothing by itself. Its owner calls `advance()` (the client for `memory://`) or `advance_within()`
(the sweeper's task) at the time that `next_due()` says, about every 10 ms.
"""

from __future__ import annotations

import logging
import secrets
from array import array
from collections.abc import Callable, Mapping
from dataclasses import replace
from typing import Any, Final, NamedTuple

from naught._compiled import is_compiled
from naught._version import __version__
from naught.wire.limits import SERVER_TAG_BYTES, SESSION_ID_BYTES
from naught_server.access import Access
from naught_server.config import ServerConfig
from naught_server.fatal import FATAL
from naught_server.holds import TakenBack
from naught_server.limits import SWEEP_DUTIES_MS, SWEEP_INTERVAL_MS_MAX, SWEEP_PERIOD_MS
from naught_server.overload import Overload
from naught_server.pace import rhythm
from naught_server.quotas import Quotas
from naught_server.rules import DEVIATION_ENTRIES_MIN, TABLES_BYTES_MIN, effective
from naught_server.session import EndReason, Session
from naught_server.sessions import OnTakenBack, Sessions
from naught_server.settings import SWEEPER_OFF, Settings
from naught_server.stats import Stats
from naught_server.store import SHARDS_PER_ENTRY, Cache, Store, deviation
from naught_server.sweep import Sweep
from naught_server.timers import Timers
from naught_server.tuner import Decision, Figures, Tuner

log = logging.getLogger("naught.server")

SWEEP_IDLE_MS: Final = 100
"""How often the sweeper looks for work when there was none."""

COLLECTION_ENTRIES: Final = 50_000
"""A collection of all objects: 25 ms and more. Prices are in the entries of commands.py."""

RULES_ENTRIES: Final = 20
"""Beginning anew with the tuner's rules, for each cache."""

# About what these have in memory, to notice when much of it is gone.
CONNECTION_BYTES: Final = 16 << 10
TLS_BYTES: Final = 256 << 10
"""Of each connection too, where there is TLS."""
SESSION_BYTES: Final = 4 << 10
TIMER_BYTES: Final = 1 << 10
"""A wait, mostly."""
WATCHED_KEY_BYTES: Final = 400
"""A key that is held or waited for, with its hold or its place in a queue."""


def _random_ids() -> Callable[[], bytes]:
    """Makes the ids of one engine's sessions: they begin alike, and the rest cannot be guessed."""
    tag = secrets.token_bytes(SERVER_TAG_BYTES)
    return lambda: tag + secrets.token_bytes(SESSION_ID_BYTES - SERVER_TAG_BYTES)


class Audit(NamedTuple):
    """Who did what."""

    event: str
    user: str | None
    """None on a server without users."""
    session: int | None
    name: str
    """What the client calls itself."""
    address: str
    details: Mapping[str, object]


class Engine:
    """The caches of one server and everything about them. Owned by one adapter, used by all its connections."""

    def __init__(
        self,
        config: ServerConfig | None = None,
        *,
        new_session_id: Callable[[], bytes] | None = None,
        first_hold: int = 1,
    ) -> None:
        """`first_hold` is the number of the first hold; numbers only grow from there. `new_session_id` returns 16
        bytes that cannot be guessed; with a seeded source the engine is deterministic."""
        self.config = config = config or ServerConfig()
        self.store = Store(config.caches.values())
        self.stats = Stats()
        self.settings = Settings(config, self._setting_changed)
        self.tuner = Tuner(effective(config.rules), list(config.caches))
        self.access: Final = Access(config.users)
        self.timers = Timers()
        self.overload = Overload()
        self.quotas = Quotas(config.limits_of_address, config.limits_of_user)
        self.sessions = Sessions(
            self.store,
            self.timers,
            self.stats,
            new_id=_random_ids() if new_session_id is None else new_session_id,
            first_hold=first_hold,
            sessions_max=config.sessions_max,
            of_address_max=config.sessions_of_address_max,
            parked_bytes_max=config.parked_bytes_max,
            on_taken_back=self._taken_back,
        )
        self.sweep = Sweep(self.store, self.timers, self.sessions, self._sweep_failed)
        self.sweep.compact_above(config.compaction_bytes_per_entry)
        self.started_ms: int | None = None  # when the first `now_ms` came in; uptime counts from there
        self._on_tables_replaced: Callable[[], None] | None = None  # see `watch`
        self._on_taken_back: OnTakenBack | None = None  # the same
        self._on_collector: Callable[[str, Any], None] | None = None  # the same
        self._on_tuned: Callable[[Decision], None] | None = None  # the same
        self._on_audit: Callable[[Audit], None] | None = None  # the same
        self._lag_seen = array(
            "q", (0, 0)
        )  # at the tuner's last look: how often the loop's lag was measured, and the sum
        self._swept_ms = 0  # when advance() was last called
        self._swept_whole_ms = 0  # the same, while the sweeper was not off
        self._sweep_idle = False  # the last advance() found nothing to do
        self._longest_ms = SWEEP_INTERVAL_MS_MAX  # until the next step, whatever the interval is
        self._behind = False  # the sweeper has a backlog, and takes more of the time

    def _sweep_failed(self, job: str, fault: Exception) -> None:
        log.error("a job of the sweeper failed: %s", job, exc_info=fault)

    def watch(
        self,
        *,
        on_earlier: Callable[[], None] | None = None,
        on_tables_replaced: Callable[[], None] | None = None,
        on_taken_back: OnTakenBack | None = None,
        on_collector: Callable[[str, Any], None] | None = None,
        on_tuned: Callable[[Decision], None] | None = None,
        on_audit: Callable[[Audit], None] | None = None,
    ) -> None:
        """Have the owner called back: `on_earlier` when `next_due` has become earlier, `on_tables_replaced` when
        there are new tables, which the owner may want to hide from the garbage collector, `on_taken_back` when the
        holds of a client that is gone were taken back, which the owner may want to log, `on_collector` when
        `gc_threshold` or `gc_freeze` has another value, `on_tuned` when the tuner has decided something, and
        `on_audit` when a client has done what an operator may be asked about later."""
        if on_earlier is not None:
            self.timers.watch(on_earlier)
        if on_tables_replaced is not None:
            self._on_tables_replaced = on_tables_replaced
        if on_taken_back is not None:
            self._on_taken_back = on_taken_back
        if on_collector is not None:
            self._on_collector = on_collector
        if on_tuned is not None:
            self._on_tuned = on_tuned
        if on_audit is not None:
            self._on_audit = on_audit

    def tables_replaced(self) -> None:
        """A cache has new tables."""
        if self._on_tables_replaced is not None:
            self._on_tables_replaced()

    def audit(self, audit: Audit) -> None:
        """A client has done something that its operator may be asked about later."""
        if self._on_audit is not None:
            self._on_audit(audit)

    def _taken_back(self, session: Session, reason: EndReason, taken: TakenBack) -> None:
        if self._on_taken_back is not None:
            self._on_taken_back(session, reason, taken)

    def start(self, now_ms: int) -> None:
        """The time at which the server starts. Later calls do nothing."""
        if self.started_ms is None:
            self.started_ms = now_ms
            if self.settings.sweeper_off:
                log.warning(SWEEPER_OFF)

    def advance(self, now_ms: int, entries_max: int, *, asked: bool = False) -> int:
        """One bounded step of upkeep; entries worked on. About 0.3 us an entry. With `asked` all jobs have a turn
        even while the sweeper is off."""
        self.start(now_ms)
        off = self.settings.sweeper_off and not asked
        return self._advanced(now_ms, self.sweep.advance(now_ms, entries_max, off=off), off=off)

    def advance_within(self, now_ms: int, clock_ns: Callable[[], int]) -> int:
        """One step of upkeep that takes about the time `sweep_budget_ms` allows; entries worked on. `clock_ns` is
        asked after each job, to learn what its entries cost."""
        self.start(now_ms)
        off = self.settings.sweeper_off
        _, budget_ns = self._rhythm()
        return self._advanced(now_ms, self.sweep.advance_within(now_ms, budget_ns, clock_ns, off=off), off=off)

    def _advanced(self, now_ms: int, done: int, *, off: bool) -> int:
        """A step is over. Decides when the next one is due. Returns `done`."""
        self._swept_ms = now_ms
        if not off:
            self._swept_whole_ms = now_ms
        self._behind = self.sweep.is_behind(now_ms, off=self.settings.sweeper_off)
        # When a counter with a waiter expires, the sweeper has to notice soon.
        mortal = [cache for cache in self.store.caches.values() if cache.wheel.count]
        awaited = any(cache.waiters.watched for cache in mortal)
        self._sweep_idle = not done and not awaited
        if awaited or self.sessions.unfinished:
            self._longest_ms = SWEEP_PERIOD_MS  # clients may wait for what this step does
        elif mortal or len(self.sessions):
            self._longest_ms = SWEEP_IDLE_MS  # and may soon
        else:
            self._longest_ms = SWEEP_INTERVAL_MS_MAX
        self.sweep.note_memory(self._memory_estimate())
        if self.tuner.is_due(now_ms) and self.settings.tuner != "off":
            self._try_to_tune(now_ms)
        return done

    def _try_to_tune(self, now_ms: int) -> None:
        try:
            self._tune(now_ms)
        except FATAL:
            raise
        except Exception as fault:  # as for a job: the sweeper goes on
            self.sweep.count_failure("tuner", fault)

    def _rhythm(self) -> tuple[int, float]:
        """How often the sweeper takes a step, in milliseconds, and how long one takes, in nanoseconds."""
        settings = self.settings
        budget_ms = SWEEP_DUTIES_MS if settings.sweeper_off else settings.sweep_budget_ms
        return rhythm(budget_ms, settings.sweep_interval_ms, self._longest_ms, behind=self._behind)

    def _memory_estimate(self) -> int:
        """About how many bytes there are that are in no table. Only its changes matter. O(caches)."""
        watched = sum(
            len(waiters.queues.by_key) + len(waiters.awaited) + len(waiters.generations)
            for waiters in (cache.waiters for cache in self.store.caches.values())
        )
        return (
            self.stats.connections * (CONNECTION_BYTES + (TLS_BYTES if self.config.tls_certificate else 0))
            + (len(self.sessions) + self.sessions.unfinished) * SESSION_BYTES
            + len(self.timers) * TIMER_BYTES
            + watched * WATCHED_KEY_BYTES
        )

    # -- settings and the tuner

    def change_setting(self, name: str, value: object) -> Any:
        """An operator sets a setting, or gives it back with nil; what holds now. Raises InvalidRequest."""
        result = self.settings.change(name, value)
        self.tuner.forget(name)
        return result

    def price_of_setting(self, name: str) -> int:
        """What changing a setting costs, in entries of work."""
        if name == "gc_freeze":
            return COLLECTION_ENTRIES
        if name == "tuner":
            return RULES_ENTRIES * len(self.store.caches)
        if name.startswith("caches."):
            return len(self.store.caches[name.split(".", 1)[1].rpartition(".")[0]].tables) // SHARDS_PER_ENTRY
        return 0

    def reconfigure(self, config: ServerConfig) -> None:
        """The configuration was reread: take its live settings, rules and users, whatever operators and tuner had
        set."""
        self.settings.take_from(config)
        self.tuner.take(effective(config.rules))
        self.access.take(config.users)

    def _setting_changed(self, name: str, value: Any) -> None:
        """Have a new value take effect."""
        if name == "compaction_bytes_per_entry":
            self.sweep.compact_above(value)
        elif name == "tuner":
            self._stop_tuning()
        elif name.startswith("caches."):
            cache_name, _, key = name.removeprefix("caches.").rpartition(".")
            cache = self.store.caches[cache_name]
            cache.change_policy(replace(cache.policy, **{key: value}))
        elif name.startswith("gc_") and self._on_collector is not None:
            self._on_collector(name, value)
            # Taking `gc_freeze` back is itself a long collection. A rule that answers long ones must not answer this.
            self.stats.take_longest_collection_ns()

    def _stop_tuning(self) -> None:
        """The tuner has another mode: what it has changed is put back, and it begins anew."""
        for setting in self.settings.tuned:
            self.settings.untune(setting)
            log.info(
                "the tuner has another mode, so %s is put back: it is %s now", setting, self.settings.value(setting)
            )
        self.tuner.take(self.tuner.rules)

    def _tune(self, now_ms: int) -> None:
        """Show the tuner the figures, and do what it decides."""
        settings = self.settings
        dry_run = settings.tuner == "dry-run"
        decision = self.tuner.step(self._figures(now_ms), settings.value, settings.pinned, now_ms, dry_run=dry_run)
        if decision is None:
            return
        if decision.what == "changed" and not dry_run:
            settings.tune(decision.setting, decision.after)
        elif decision.what in ("undone: no effect", "put back"):
            settings.untune(decision.setting)
        if self._on_tuned is not None:
            self._on_tuned(decision)

    def _figures(self, now_ms: int) -> Figures:
        """What the tuner's rules compare. Walks nothing: what tables hold is as the sweeper last measured it."""
        stats = self.stats
        lag = stats.loop_lag
        count, total_ns = lag.count - self._lag_seen[0], lag.total_ns - self._lag_seen[1]
        self._lag_seen[0], self._lag_seen[1] = lag.count, lag.total_ns
        server = {
            "requests": stats.commands_total(),
            "gc_seconds": stats.collections.total_ns / 1e9,
            "gc_pause_ms": stats.take_longest_collection_ns() / 1e6,
            "loop_lag_ms": total_ns / count / 1e6 if count else 0.0,
            "connections": stats.connections,
            "sessions": len(self.sessions),
        }
        caches = {name: self._figures_of(cache, now_ms) for name, cache in self.store.caches.items()}
        return Figures(server, caches)

    @staticmethod
    def _figures_of(cache: Cache, now_ms: int) -> dict[str, float]:
        entries = cache.entries_measured
        stale = min(entries, cache.zeros_measured + cache.wheel.due_estimate(now_ms))
        live = entries - stale
        return {
            "deviation": deviation(entries, live) if stale > DEVIATION_ENTRIES_MIN else 0.0,
            "stale_entries": stale,
            "raw_entries": entries,
            "counters": live,
            "table_bytes": cache.table_bytes,
            "table_bytes_per_entry": cache.table_bytes / max(1, entries)
            if cache.table_bytes >= TABLES_BYTES_MIN
            else 0.0,
            "evictions": sum(cache.evictions.values()),
        }

    @property
    def latest_ms(self) -> int:
        """About now: the time of the sweeper's last step."""
        return self._swept_ms

    def uptime_ms(self, now_ms: int) -> int:
        """How long the server has run."""
        return now_ms - (self.started_ms if self.started_ms is not None else now_ms)

    @property
    def is_behind(self) -> bool:
        """Whether the sweeper had a backlog after its last step."""
        return self._behind

    def since_step_ms(self, now_ms: int, *, whole: bool = False) -> int:
        """How long ago the sweeper took its last step; before the first one, how long ago the server has started.
        `whole`: the last step while it was not off."""
        since_ms = (self._swept_whole_ms if whole else self._swept_ms) or self.started_ms
        return 0 if since_ms is None else max(0, now_ms - since_ms)

    def next_due(self, now_ms: int) -> int:
        """When to call `advance` next, in milliseconds on the clock of `now_ms`. It may become earlier: see
        `watch`."""
        if self.sweep.urgent:
            return now_ms
        pause_ms, _ = self._rhythm()
        if self._sweep_idle and not self._behind:
            pause_ms = max(pause_ms, SWEEP_IDLE_MS)
        due_ms = self._swept_ms + pause_ms
        timer_ms = self.timers.next_due()
        return max(now_ms, due_ms if timer_ms is None else min(due_ms, timer_ms))

    def info(self, now_ms: int) -> dict[str, Any]:
        """The answer of `info`. Takes out some expired counters first, so that counts are right."""
        stats = self.stats
        sweep = self.sweep
        return {
            "server": "naught",
            "version": __version__,
            "compiled": is_compiled("naught_server"),
            "uptime_ms": self.uptime_ms(now_ms),
            "connections": stats.connections,
            "connections_accepted": stats.connections_accepted,
            "connections_refused": stats.connections_refused,
            "requests_refused": self.overload.refused,
            "connections_cut": dict(stats.connections_cut),
            "commands": {name: count for name, count in stats.commands.items() if count},
            "errors": dict(stats.errors),
            "caches": {name: self._cache_as_dict(cache, now_ms) for name, cache in self.store.caches.items()},
            "sessions": self.sessions.totals(),
            "sweeper": {
                "off": self.settings.sweeper_off,
                "steps": sweep.steps,
                "entries": sweep.entries_done,
                "failures": sweep.failures,
                "table_bytes_freed": sweep.table_bytes_freed,
            },
            "tuner": {
                "mode": self.settings.tuner,
                "pinned": self.settings.pinned,
                **self.tuner.as_dict(now_ms),
            },
            "turns": stats.turns.as_dict(),
            "gc_pauses": stats.collections.as_dict(),
            "loop_lag": stats.loop_lag.as_dict(),
            "log_lines_dropped": stats.log_lines_dropped(),
            "logins": self.access.as_dict(),
            "handshakes": dict(stats.handshakes),
        }

    @staticmethod
    def _cache_as_dict(cache: Cache, now_ms: int) -> dict[str, Any]:
        counters, exact = cache.live_count(now_ms)
        raw_entries = cache.raw_entries()
        return {
            "counters": counters,
            "counters_exact": exact,
            "raw_entries": raw_entries,
            "table_bytes": cache.table_bytes,
            "deviation": deviation(raw_entries, counters),
            "evictions": dict(cache.evictions),
            "deadlines": cache.wheel.count,
            "shards": cache.policy.shards,
            "eviction": cache.policy.eviction,
            "max_counters": cache.policy.max_counters,
        }

    def invariants(self, now_ms: int) -> None:
        """Raise AssertionError, naming what is wrong, unless caches, sessions and holds are consistent."""
        self.store.invariants(now_ms)
        self.sessions.invariants()
