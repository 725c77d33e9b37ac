"""The same bytes to two servers, one with the short ways (column.py, lone.py) and one without: replies, counters,
statistics and sessions must be the same."""

from __future__ import annotations

from collections.abc import Callable
from typing import Any

import pytest

from naught_server import protocol as protocol_module
from support.conversation import Conversation, engine_of


class Beside:
    """Two conversations with engines of this policy."""

    def __init__(self, **policy: Any) -> None:
        self.quick = Conversation(engine_of(**policy))
        self.plain = Conversation(engine_of(**policy))
        self.short_ways = 0  # replies and columns that took one

    def send(self, *pieces: bytes) -> bytes:
        """The replies, which are the same, of servers that are the same afterwards."""
        with pytest.MonkeyPatch.context() as counting:
            for module in (protocol_module.column, protocol_module.lone):
                counting.setattr(module, "serve", self._counting(module.serve))
            quick = self.quick.send(*pieces)
        with pytest.MonkeyPatch.context() as without:
            without.setattr(protocol_module, "COLUMN_MIN", 1 << 30)
            without.setattr(protocol_module, "LONE_BYTES_MAX", -1)
            plain = self.plain.send(*pieces)
        assert quick == plain
        assert self._state(self.quick) == self._state(self.plain)
        return quick

    @property
    def over(self) -> bool:
        """Whether the connections have ended."""
        return self.quick.protocol.closing

    def check(self) -> None:
        """What always holds, does. Costs ten times what a `send` costs."""
        self.quick.engine.invariants(self.quick.now_ms)

    def advance(self, by_ms: int) -> None:
        """Let time pass for both, with what the sweeper does in it."""
        for each in (self.quick, self.plain):
            each.now_ms += by_ms

    def _counting(self, serve: Callable[..., Any]) -> Callable[..., Any]:
        def counting(*arguments: Any) -> Any:
            result = serve(*arguments)
            self.short_ways += bool(result)
            return result

        return counting

    @staticmethod
    def _state(here: Conversation) -> Any:
        engine, session = here.engine, here.protocol.session
        counts = None if session.id is None else (session.accepted, session.replied, session.kept_bytes)
        caches = engine.store.caches.values()
        return (
            [sorted((key, value) for table in cache.tables for key, value in table.items()) for cache in caches],
            [(cache.evictions, sum(cache.zeros), cache.wheel.count) for cache in caches],
            {method: count for method, count in engine.stats.commands.items() if count},
            engine.stats.errors,
            (counts, session.kept_replies()),
            (here.protocol.closing, here.protocol.idle, here.protocol.backlog),
        )
