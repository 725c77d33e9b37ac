"""A peer of a `ServerProtocol` that sends bytes, cut in any way, and gets replies as bytes. No socket, no clock."""

from __future__ import annotations

import itertools
import random
from collections.abc import Iterable
from typing import Any

import msgpack  # type: ignore[import-untyped]

from naught_server.access import User
from naught_server.config import CachePolicy, ServerConfig
from naught_server.engine import Engine
from naught_server.protocol import ServerProtocol

NOW_MS = 1_000_000


def engine_of(*others: CachePolicy, users: Iterable[User] = (), **policy: Any) -> Engine:
    """An engine with a default cache of this policy, these other caches, and these users."""
    policies = [CachePolicy("default", **policy), *others]
    numbers = itertools.count(1)
    return Engine(
        ServerConfig(caches={each.name: each for each in policies}, users={each.name: each for each in users}),
        new_session_id=lambda: b"session number%2d" % next(numbers),
    )


class Conversation:
    """One connection. Each piece of bytes is given to the protocol, with all the turns it needs."""

    def __init__(
        self, engine: Engine | None = None, *, careful: bool = False, address: str | None = None, peer: str = ""
    ) -> None:
        self._address = address
        self._peer = peer
        self.engine = engine or engine_of()
        self.now_ms = NOW_MS
        self._careful = careful
        self.protocol = self._connect()

    def reconnect(self) -> None:
        """Break the connection, and begin another one."""
        self.protocol.close(self.now_ms)
        self.protocol = self._connect()

    def _connect(self) -> ServerProtocol:
        return ServerProtocol(
            self.engine, lambda: None, careful=self._careful, address=self._address, peer=self._peer
        )

    @property
    def closing(self) -> bool:
        """Whether the server closes the connection."""
        return self.protocol.closing

    def send(self, *pieces: bytes) -> bytes:
        """The replies to these pieces. Pieces after a close are not sent."""
        replies = b""
        for piece in pieces:
            if self.protocol.closing:
                break
            replies += self.protocol.receive(piece, self.now_ms)
            while self.protocol.wants_turn:
                replies += self.protocol.turn(self.now_ms)
        return replies


def cut(data: bytes, places: Iterable[int]) -> list[bytes]:
    """The pieces between these places; none of them empty."""
    edges = [0, *sorted({place for place in places if 0 < place < len(data)}), len(data)]
    return [data[begin:end] for begin, end in itertools.pairwise(edges) if begin < end]


def byte_by_byte(data: bytes) -> list[bytes]:
    """Pieces of one byte."""
    return cut(data, range(len(data)))


def random_cuts(data: bytes, source: random.Random) -> list[bytes]:
    """Some pieces, many of them short."""
    count = source.randint(1, max(1, min(40, len(data) // 2)))
    return cut(data, (source.randrange(len(data) + 1) for _ in range(count)))


def split_messages(data: bytes) -> list[bytes]:
    """The messages of a stream, each as its bytes. Raises AssertionError when the last is incomplete."""
    walker = msgpack.Unpacker(max_buffer_size=0)
    walker.feed(data)
    ends = [0]
    while ends[-1] < len(data):
        try:
            walker.skip()
        except msgpack.OutOfData:
            raise AssertionError(f"{data[ends[-1] :][:40]!r} is no whole message") from None
        ends.append(walker.tell())
    return [data[begin:end] for begin, end in itertools.pairwise(ends)]


def decoded(data: bytes) -> list[Any]:
    """The messages of a stream: strings and binaries as bytes, arrays as lists."""
    return [msgpack.unpackb(each, raw=True, strict_map_key=False) for each in split_messages(data)]
