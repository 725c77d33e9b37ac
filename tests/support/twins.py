"""The same bytes to two servers, one with the hot path and one without: they must stay the same.

The two are compared after each piece: the replies byte by byte, then counters, deadlines, waiters, holds, sessions
and statistics.
"""

from __future__ import annotations

from collections.abc import Sized
from typing import Any

from naught_server.decoder import without_first
from naught_server.session import Session
from naught_server.store import Cache
from naught_server.waiters import Waiter
from support.conversation import Conversation, engine_of


class Twins:
    """Two conversations with engines of the same policy."""

    def __init__(self, **policy: Any) -> None:
        self.hot = Conversation(engine_of(**policy))
        self.careful = Conversation(engine_of(**policy), careful=True)
        self.served_hot = 0  # requests that the hot path has served

    @property
    def both(self) -> tuple[Conversation, Conversation]:
        """The two conversations."""
        return self.hot, self.careful

    def send(self, *pieces: bytes) -> bytes:
        """The replies, which are the same, of servers that are the same afterwards."""
        replies = b""
        for piece in pieces:
            found, expected = (each.send(piece) for each in self.both)
            assert found == expected, f"{piece!r}: the hot path answers {found!r}, the careful one {expected!r}"
            replies += found
        self.compare()
        return replies

    def advance(self, by_ms: int, entries_max: int) -> None:
        """Let time pass for both, and the sweeper take a step."""
        for each in self.both:
            each.now_ms += by_ms
            each.engine.advance(each.now_ms, entries_max)
        self.compare()

    def reconnect(self) -> None:
        """Both connections break, and others begin."""
        for each in self.both:
            each.reconnect()

    def compare(self) -> None:
        """Raise AssertionError where the two differ."""
        found, expected = (state_of(each) for each in self.both)
        for name, value in expected.items():
            assert found[name] == value, f"{name}: {found[name]!r} with the hot path, {value!r} without"

    def check(self) -> None:
        """Raise AssertionError where something that always holds does not."""
        for each in self.both:
            each.engine.invariants(each.now_ms)


def state_of(here: Conversation) -> dict[str, Any]:
    """All that can be told of a server and of the session of its connection."""
    engine, session, protocol = here.engine, here.protocol.session, here.protocol
    named = session.id is not None
    return {
        "caches": {name: _cache_state(cache) for name, cache in engine.store.caches.items()},
        "commands": {method: count for method, count in engine.stats.commands.items() if count},
        "errors": dict(engine.stats.errors),
        "counts": (session.accepted, session.replied, session.acknowledged, session.long_bytes) if named else None,
        "kept": _unacknowledged(session),
        "parked": sorted(session.parked),
        "sessions": engine.sessions.totals(),
        "connection": (protocol.closing, protocol.idle, protocol.backlog),
    }


def _unacknowledged(session: Session) -> bytes:
    """The replies that would be sent again. In which pieces they are kept depends on the turns, which differ."""
    return without_first(session.kept_replies(), session.acknowledged - session._kept_after)


def _in_line(queue: Waiter | Sized) -> int:
    """How many wait for a key: one alone stands there without a queue."""
    return 1 if isinstance(queue, Waiter) else len(queue)


def _cache_state(cache: Cache) -> dict[str, Any]:
    """A cache by keys: in which shard a key is depends on the hash, which is the same for both."""
    return {
        "raw": sorted(item for table in cache.tables for item in table.items()),
        "timed": sorted(item for table in cache.timed for item in table.items()),
        "zeros": list(cache.zeros),
        "evictions": dict(cache.evictions),
        "queues": {key: _in_line(queue) for key, queue in cache.waiters.queues.by_key.items()},
        "awaited": {key: len(waiters) for key, waiters in cache.waiters.awaited.items()},
        "held": {key: generation.holds for key, generation in cache.waiters.generations.items()},
    }
