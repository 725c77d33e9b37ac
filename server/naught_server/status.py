"""An engine's figures as JSON for the page: `/status.json`. Sans-IO.

    feed = StatusFeed(engine)
    feed.step(now_ms)                 # every STEP_MS while somebody looks
    body = feed.body(snapshot, state, now_ms)   # at most STATUS_BYTES_MAX, made at most once in STATUS_EVERY_MS

A page that is open must cost next to nothing. So the answer is made once a second, however many pages ask, and the
largest counters and sessions are found in small steps, at a bounded rate (`ranking.py`). Sums and rates are for the
page to compute, from two answers.

The fields are described in `docs/guide/page.md`. Keys and names are shortened, and bytes that are no UTF-8 are shown
as \\xNN; what shows them must take them for text.
"""

from __future__ import annotations

import json
from collections.abc import Callable
from typing import Any, Final

from naught._compiled import is_compiled
from naught._version import __version__
from naught_server.engine import Engine
from naught_server.health import State
from naught_server.listing import live_pieces
from naught_server.metrics import Snapshot
from naught_server.ranking import Pieces, Ranking
from naught_server.session import Session
from naught_server.store import Cache, deviation

STATUS_EVERY_MS: Final = 1_000
"""How often the answer is made."""

STATUS_BYTES_MAX: Final = 64 << 10
"""The size of the answer."""

STEP_MS: Final = 50
"""How often the rankings take a step while somebody looks."""

STEP_ENTRIES: Final = 1_000
"""Counters looked at in such a step, 0.1 ms: together 0.2 % of the time. A million take 50 s, ten thousand 0.5 s. A
shard's keys are listed in one step: of a shard with a million counters that takes some milliseconds."""

STEP_SESSIONS: Final = 250
"""Sessions looked at in such a step."""

WATCHED_MS: Final = 5_000
"""How long after the last question somebody is taken to look."""

CACHES_SHOWN_MAX: Final = 16
COUNTERS_SHOWN_MAX: Final = 10
SESSIONS_SHOWN_MAX: Final = 50
TEXT_CHARACTERS_MAX: Final = 64

_COUNTERS_BYTES_MAX: Final = 16 << 10
_SESSIONS_BYTES_MAX: Final = 32 << 10
"""What the rows of counters, and of sessions, may take of the answer."""


def text_of(key: bytes) -> str:
    """A key as it is shown."""
    return _shortened(key.decode("utf-8", "backslashreplace"))


def _shortened(text: str) -> str:
    return text if len(text) <= TEXT_CHARACTERS_MAX else f"{text[: TEXT_CHARACTERS_MAX - 1]}…"


class StatusFeed:
    """Makes the answers of one engine."""

    def __init__(self, engine: Engine) -> None:
        self._engine = engine
        caches = list(engine.store.caches.values())[:CACHES_SHOWN_MAX]
        self._now_ms = 0  # of the step under way
        self._counters = [(cache, Ranking(self._walk_over(cache), COUNTERS_SHOWN_MAX)) for cache in caches]
        self._sessions: Ranking[Session] = Ranking(self._walk_over_sessions, SESSIONS_SHOWN_MAX)
        self._body = b""  # the last answer
        self._made_ms: int | None = None  # when it was made
        self._asked_ms: int | None = None  # when somebody last asked

    def is_watched(self, now_ms: int) -> bool:
        """Whether somebody looks."""
        return self._asked_ms is not None and now_ms - self._asked_ms < WATCHED_MS

    def step(self, now_ms: int) -> None:
        """Go on finding the largest counters and the sessions with the most holds."""
        self._now_ms = now_ms
        share = max(1, STEP_ENTRIES // len(self._counters))
        for _, ranking in self._counters:
            ranking.step(now_ms, share, STATUS_EVERY_MS)
        self._sessions.step(now_ms, STEP_SESSIONS, STATUS_EVERY_MS)

    def rest(self) -> None:
        """Nobody looks any more: forget what was found, and the walks under way, which keep keys and sessions."""
        for _, ranking in self._counters:
            ranking.stop()
        self._sessions.stop()

    def _walk_over(self, cache: Cache) -> Callable[[int], Pieces[bytes]]:
        def walk(entries_max: int) -> Pieces[bytes]:
            for piece in live_pieces(cache, b"", entries_max, lambda: self._now_ms):
                yield [(value, key) for key, value in piece]

        return walk

    def _walk_over_sessions(self, entries_max: int) -> Pieces[Session]:
        sessions = list(self._engine.sessions)
        for begin in range(0, len(sessions), entries_max):
            # Those with the most holds first, then those that wait for the most.
            yield [
                ((len(session.holds) << 32) + session.parked_items, session)
                for session in sessions[begin : begin + entries_max]
            ]

    # ---------------------------------------------------------------------------------------- the answer

    def body(self, snapshot: Callable[[], Snapshot], state: State, now_ms: int) -> bytes:
        """The answer, as it was made at most STATUS_EVERY_MS ago. Takes a snapshot only to make it."""
        self._asked_ms = now_ms
        if self._made_ms is None or now_ms - self._made_ms >= STATUS_EVERY_MS:
            self._made_ms = now_ms
            self._body = _json(self._answer(snapshot(), state))
        return self._body

    def _answer(self, snapshot: Snapshot, state: State) -> dict[str, Any]:
        engine, process, now_ms = snapshot.engine, snapshot.process, snapshot.now_ms
        stats, sweep = engine.stats, engine.sweep
        return {
            "version": __version__,
            "pid": process.pid,
            "time_s": snapshot.now_s,
            "uptime_s": engine.uptime_ms(now_ms) / 1000,
            "state": state,
            "compiled": is_compiled("naught_server"),
            "loop": snapshot.loop,
            "totals": {
                "commands": stats.commands_total(),
                "errors": sum(stats.errors.values()),
                "by_method": dict(stats.commands),
                "received_bytes": stats.received_bytes,
                "sent_bytes": stats.sent_bytes,
                "connections": stats.connections,
                "connections_accepted": stats.connections_accepted,
                "log_lines_dropped": stats.log_lines_dropped(),
            },
            "turns": stats.turns.as_dict(),
            "gc_pauses": stats.collections.as_dict(),
            "loop_lag": stats.loop_lag.as_dict(),
            "memory": {
                "resident_bytes": process.resident_bytes,
                "table_bytes": sum(cache.table_bytes for cache in engine.store.caches.values()),
                "limit_bytes": process.memory_limit_bytes,
            },
            "sweeper": {
                "steps": sweep.steps,
                "entries": sweep.entries_done,
                "seconds": sweep.worked_ns / 1e9,
                "behind": engine.is_behind,
                "last_step_age_s": engine.since_step_ms(now_ms, whole=True) / 1000,
                "failures": sweep.failures,
                "budget": engine.settings.sweep_share,
            },
            "tuner": {"mode": engine.settings.tuner, **engine.tuner.as_dict(now_ms)},
            "caches": self._caches(now_ms),
            "caches_left_out": len(engine.store.caches) - len(self._counters),
            "sessions": self._sessions_and_figures(now_ms),
        }

    def _caches(self, now_ms: int) -> list[dict[str, Any]]:
        room = _Room(_COUNTERS_BYTES_MAX)
        return [_cache(cache, now_ms) | {"top": _top(ranking, now_ms, room)} for cache, ranking in self._counters]

    def _sessions_and_figures(self, now_ms: int) -> dict[str, Any]:
        sessions = self._engine.sessions
        room = _Room(_SESSIONS_BYTES_MAX)
        # A session may have ended since it was found.
        listed = (session for _, session in self._sessions.found or () if sessions.get(session.number) is session)
        return {
            "open": len(sessions),
            "connected": sessions.connected,
            "opened": sessions.opened,
            "holds": sessions.holds,
            "parked": sessions.parked,
            "parked_keys": sessions.parked_keys,
            "listed": [row for session in listed if room.takes(row := _session(session, now_ms))],
        }


class _Room:
    """How many bytes of the answer are left for rows."""

    def __init__(self, size: int) -> None:
        self._left = size

    def takes(self, row: object) -> bool:
        """Whether the row fits too."""
        self._left -= len(_json(row)) + 2
        return self._left >= 0


def _json(value: object) -> bytes:
    return json.dumps(value, ensure_ascii=False, separators=(",", ":")).encode("utf-8", "backslashreplace")


def _cache(cache: Cache, now_ms: int) -> dict[str, Any]:
    counters, exact = cache.live_count(now_ms)
    raw_entries = cache.raw_entries()
    return {
        "name": cache.policy.name,
        "eviction": cache.policy.eviction,
        "counters": counters,
        "counters_exact": exact,
        "raw_entries": raw_entries,
        "deviation": deviation(raw_entries, counters),
        "table_bytes": cache.table_bytes,
        "capacity": cache.table_capacity,
        "load": cache.load,
        "max_counters": cache.policy.max_counters,
        "deadlines": cache.wheel.count,
        "evictions": dict(cache.evictions),
        "backlog": cache.backlog(now_ms),
    }


def _top(ranking: Ranking[bytes], now_ms: int, room: _Room) -> dict[str, Any] | None:
    if ranking.found is None:
        return None
    rows = ([text_of(key), value] for value, key in ranking.found)
    return {"age_s": (now_ms - ranking.found_ms) / 1000, "counters": [row for row in rows if room.takes(row)]}


def _session(session: Session, now_ms: int) -> dict[str, Any]:
    row = session.as_dict(now_ms)
    return {
        "number": session.number,
        "name": _shortened(session.name),
        "address": session.address,
        "connected": session.outlet is not None,
        "age_s": (now_ms - session.opened_ms) / 1000,
        "commands": session.accepted,
        "holds": len(session.holds),
        "held": [[text_of(key), amount] for key, amount in row["held"]],
        "waits": [
            {"for": what, "keys": [text_of(key) for key in keys], "since_s": (now_ms - since_ms) / 1000}
            for what, keys, since_ms in session.waits(_WAITS_SHOWN_MAX)
        ],
    }


_WAITS_SHOWN_MAX: Final = 5
