"""A client of a `ServerProtocol` without a socket: calls in, replies out. For tests of commands and turns."""

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
    """One connection with its own clock; the test changes `now_ms`."""

    def __init__(self, engine: Engine, now_ms: int = 1_000_000) -> None:
        self.engine = engine
        self.now_ms = now_ms
        self.woken = 0  # how often the protocol asked for a turn
        self.protocol = ServerProtocol(engine, self._wake)
        self.replies: dict[int, Any] = {}  # by msgid: a result or a Refused, as they came
        self._unpacker = reply_unpacker()
        self._msgid = 0

    def _wake(self) -> None:
        self.woken += 1

    def send(self, method: str, *params: Any) -> int:
        """Send a request, which runs one turn. Returns its msgid."""
        msgid = self._msgid = self._msgid + 1
        self.take(self.protocol.receive(encode_request(msgid, method, params), self.now_ms))
        return msgid

    def notify(self, method: str, *params: Any) -> None:
        """Send a notification, which runs one turn."""
        self.take(self.protocol.receive(encode_notification(method, params), self.now_ms))

    def turn(self) -> list[int]:
        """Run one more turn. Returns the msgids that were answered."""
        return self.take(self.protocol.turn(self.now_ms))

    def take(self, data: bytes) -> list[int]:
        """Read replies. Returns their msgids."""
        self._unpacker.feed(data)
        answered = []
        for kind, msgid, error, result in self._unpacker:
            assert kind == 1
            assert msgid not in self.replies, f"two replies to request {msgid}"
            self.replies[msgid] = Refused(error[0].decode()) if error is not None else result
            answered.append(msgid)
        return answered

    def call(self, method: str, *params: Any) -> Any:
        """Send a request and run turns until it is answered. Returns the result or a Refused."""
        msgid = self.send(method, *params)
        while msgid not in self.replies:
            assert self.protocol.wants_turn, f"no reply to {method}, and no turn is due"
            self.turn()
        return self.replies[msgid]
