"""A client that follows section 6 of PROTOCOL.md exactly, and the connection between it and the server.

The client counts the replies it receives and sends the count when it resumes. It sends again, in order, the requests
that were not accepted, or drops some of them. It acknowledges at random times. It compares the replies with the
`Record` of its session: the n-th reply it counts must be the n-th reply the server has made, however often the
connection broke.

A `SimulatedConnection` has bytes on their way up, bytes on their way down, and the `ServerProtocol` at the server's
end. The client may drop it while the server still takes it for open.
"""

from __future__ import annotations

from random import Random
from typing import Any

from naught.wire.codec import encode_notification, encode_request, reply_unpacker
from naught_server.protocol import ServerProtocol
from simulation.sessions.audit import OUTSIDE
from simulation.sessions.model import Record, Request
from support.cases_counters import Refused


class SimulatedConnection:
    """One connection: bytes under way in both directions, and its server's end."""

    def __init__(self, client: Client) -> None:
        self.client: Client | None = client  # None once the client has dropped it
        self.up = b""  # sent by the client, not received by the server yet
        self.down = b""  # sent by the server, not received by the client yet
        self.record: Record | None = None  # the session that the client uses on it
        self.woken = False  # the protocol asked for a turn
        self.closed = False  # closed at the server's end
        self.protocol: ServerProtocol  # set by the world, which owns the engine

    def wake(self) -> None:
        """Called by the protocol to ask for a turn."""
        self.woken = True


class Client:
    """A peer with one session after another, or with a temporary one on each connection."""

    def __init__(self, random: Random, named: bool, acknowledges: bool) -> None:
        self.random = random
        self.named = named
        self.acknowledges = acknowledges  # if it never does, the server ends its sessions
        self.connection: SimulatedConnection | None = None
        self.record: Record | None = None
        self.session_id: bytes | None = None  # None until `hello` is answered
        self.ready = False  # hello was answered, so requests may go out
        self.resumptions = 0
        self.received = 0  # replies of this session
        self.acknowledged = 0
        self.holds: dict[int, list[Any]] = {}  # granted holds: by number the items
        self._msgid = random.choice([0, 16_300, 60_000])
        self._bye = 0  # the msgid of the last bye
        self._unpacker = reply_unpacker()

    # ------------------------------------------------------------------------------------- connecting

    def connect(self, connection: SimulatedConnection, fresh: Record) -> None:
        """Begin on a new connection: resume the session, or open a new one with the record `fresh`."""
        self.connection = connection
        self._unpacker = reply_unpacker()
        if not self.named:
            self._begin(fresh)
            self.ready = True
        elif self.session_id is not None:
            assert self.record is not None
            self.ready = False
            self._outside("hello", {"session": self.session_id, "received": self.received})
        else:
            self.open(fresh)
        connection.record = self.record

    def open(self, fresh: Record) -> None:
        """Ask for a new session."""
        self._begin(fresh)
        assert self.connection is not None
        self.connection.record = fresh
        self.ready = False
        self._outside("hello", {"session": True, "lease_ms": fresh.lease_ms, "cache": fresh.cache.name})

    def _begin(self, fresh: Record) -> None:
        self.record = fresh
        self.session_id = None
        self.received = self.acknowledged = 0
        self.holds = {}

    def drop_connection(self) -> SimulatedConnection | None:
        """Drop the connection. Returns it, without a client."""
        connection, self.connection = self.connection, None
        self.ready = False
        if connection is not None:
            connection.client = None
            connection.down = b""
        if not self.named or self.session_id is None:
            self.record = None
        return connection

    # ------------------------------------------------------------------------------------- sending

    def ask(self, method: str, params: tuple[Any, ...], refusal: Refused | None = None) -> Request | None:
        """Add a request to the stream; it is sent as soon as there is a connection."""
        if self.record is None or (self.connection is None and not self.named):
            return None
        self._msgid += 1
        request = Request(self._msgid, method, params, refusal)
        self.record.add(request)
        if self.ready:
            self._send(request)
        return request

    def _send(self, request: Request) -> None:
        assert self.connection is not None
        self.connection.up += encode_request(request.msgid, request.method, request.params)

    def _outside(self, method: str, *params: Any) -> int:
        self._msgid += 1
        assert self.connection is not None
        self.connection.up += encode_request(OUTSIDE + self._msgid, method, params)
        return OUTSIDE + self._msgid

    def acknowledge(self) -> None:
        """Acknowledge the replies received, or fewer, or the same number again."""
        if not (self.ready and self.named and self.acknowledges):
            return
        if self.random.random() < 0.8:
            self.acknowledged = self.random.choice(
                [self.received, self.received, self.random.randint(self.acknowledged, self.received)]
            )
        if self.random.random() < 0.8:
            assert self.connection is not None
            self.connection.up += encode_notification("ack", (self.acknowledged,))
        else:
            self._outside("ack", self.acknowledged)

    def leave(self) -> None:
        """Send bye. From here on the client has no session on this connection."""
        if self.ready and self.named:
            self._bye = self._outside("bye")
            self.ready = False
            self.session_id = None

    def send_garbage(self) -> None:
        """Send a byte that is not MessagePack."""
        if self.ready and self.record is not None and self.connection is not None:
            self.record.garbage = True
            self.connection.up += b"\xc1"
            self.ready = False

    # ------------------------------------------------------------------------------------- replies

    def receive(self, piece: bytes) -> bool:
        """Take received bytes. Returns whether the session has ended."""
        self._unpacker.feed(piece)
        for kind, msgid, error, result in self._unpacker:
            assert kind == 1
            answer = result if error is None else Refused(error[0].decode())
            if msgid < OUTSIDE:
                self._count(msgid, answer)
            elif isinstance(answer, dict) and b"accepted" in answer:
                self._resumed(answer)
            elif isinstance(answer, dict):
                self.session_id = answer[b"session"]
                self.ready = True
                self._send_from(0)
            elif answer == Refused("no_session") or msgid == self._bye:
                return True
        return False

    def _resumed(self, answer: Any) -> None:
        assert self.record is not None
        assert answer[b"session"] == self.session_id
        assert answer[b"replies_from"] == self.received + 1
        self.resumptions += 1
        stream = self.record.stream
        accepted = answer[b"accepted"]
        assert accepted >= sum(request.answered for request in stream), "more was answered than accepted"
        # Some callers may have given up meanwhile.
        leaves = 0.3 if self.random.random() < 0.2 else 0
        stream[accepted:] = [each for each in stream[accepted:] if self.random.random() >= leaves]
        self.ready = True
        self._send_from(accepted)

    def _send_from(self, accepted: int) -> None:
        assert self.record is not None
        for request in self.record.stream[accepted:]:
            self._send(request)

    def _count(self, msgid: int, answer: Any) -> None:
        assert self.record is not None
        replies = self.record.replies
        assert self.received < len(replies), f"a reply to {msgid} that the server never made"
        its_msgid, its_answer, _ = replies[self.received]
        assert msgid == its_msgid, f"reply {self.received + 1} is to {msgid}, must be to {its_msgid}"
        request = self.record.by_msgid[msgid]
        answer = request.normalized(answer)
        assert answer == its_answer, f"{request} was answered {its_answer}, and its client received {answer}"
        self.received += 1
        if request.method == "acquire" and isinstance(answer, list) and answer[0]:
            self.holds[answer[2]] = request.params[0]
