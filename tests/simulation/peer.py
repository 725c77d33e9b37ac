"""A peer of a `Channel`, with no socket between: calls in, replies out. For tests of commands and turns."""

from __future__ import annotations

from typing import Any

from naught.wire.codec import encode_notification, encode_request, reply_unpacker
from naught_server.config import CachePolicy, ServerConfig
from naught_server.engine import Engine
from naught_server.protocol import ServerProtocol
from support.cases_counters import Refused


def engine_of(**policy: Any) -> Engine:
    """An engine whose default cache has this policy."""
    return Engine(ServerConfig(caches={"default": CachePolicy("default", **policy)}))


class Peer:
    """One conversation at a clock of its own; the test moves `now_ms`."""

    def __init__(self, engine: Engine, now_ms: int = 1_000_000) -> None:
        self.engine = engine
        self.now_ms = now_ms
        self.woken = 0  # how often the session asked for a turn
        self.protocol = ServerProtocol(engine, self._wake)
        self.replies: dict[int, Any] = {}  # by msgid: a result or a Refused, as they came
        self._unpacker = reply_unpacker()
        self._msgid = 0

    def _wake(self) -> None:
        self.woken += 1

    def send(self, method: str, *params: Any) -> int:
        """Give the session a request and the one turn that comes with it; the msgid."""
        msgid = self._msgid = self._msgid + 1
        self.take(self.protocol.receive(encode_request(msgid, method, params), self.now_ms))
        return msgid

    def notify(self, method: str, *params: Any) -> None:
        """Give the session a notification."""
        self.take(self.protocol.receive(encode_notification(method, params), self.now_ms))

    def turn(self) -> list[int]:
        """One more turn; the msgids that were answered."""
        return self.take(self.protocol.turn(self.now_ms))

    def take(self, data: bytes) -> list[int]:
        """Read replies; the msgids they are for."""
        self._unpacker.feed(data)
        answered = []
        for kind, msgid, error, result in self._unpacker:
            assert kind == 1
            assert msgid not in self.replies, f"two replies to request {msgid}"
            self.replies[msgid] = Refused(error[0].decode()) if error is not None else result
            answered.append(msgid)
        return answered

    def call(self, method: str, *params: Any) -> Any:
        """A request and its reply, however many turns it takes."""
        msgid = self.send(method, *params)
        while msgid not in self.replies:
            assert self.protocol.wants_turn, f"no reply to {method} and no wish for a turn"
            self.turn()
        return self.replies[msgid]
