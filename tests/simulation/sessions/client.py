"""A client that keeps to section 6 of PROTOCOL.md to the letter, and the network between it and the server.

The client counts the replies it receives and says so when it resumes; it sends again, in order, what was not
accepted, or leaves some of that; it acknowledges when it likes. What it hears it holds against the `Record` of its
session: the n-th reply it counts must be the n-th the server made, whatever was cut in between.

A `Link` is one connection: bytes on their way up, bytes on their way down, and the channel at the far end. The client
may give it up while the server still takes it for open.
"""

from __future__ import annotations

from random import Random
from typing import Any

from naught.wire.codec import encode_notification, encode_request, reply_unpacker
from naught_server.protocol import ServerProtocol
from simulation.sessions.audit import OUTSIDE
from simulation.sessions.model import Record, Request
from support.cases_counters import Refused


class Link:
    """One connection."""

    def __init__(self, client: Client) -> None:
        self.client: Client | None = client  # None once it has given the link up
        self.up = b""
        self.down = b""
        self.record: Record | None = None  # the session the client means to have on it
        self.woken = False  # the channel asked for a turn
        self.closed = False  # at the server's end
        self.protocol: ServerProtocol  # set by the world, which owns the engine

    def wake(self) -> None:
        """For the channel."""
        self.woken = True


class Client:
    """A peer with one session after the other, or with none."""

    def __init__(self, random: Random, named: bool, acknowledges: bool) -> None:
        self.random = random
        self.named = named
        self.acknowledges = acknowledges  # else it never does, and the server ends its sessions
        self.link: Link | None = None
        self.record: Record | None = None
        self.session_id: bytes | None = None  # None while it was not told
        self.ready = False  # hello was answered, so requests may go out
        self.resumptions = 0
        self.received = 0  # replies of this session
        self.acknowledged = 0
        self.holds: dict[int, list[Any]] = {}  # what it was granted: by number the items
        self._msgid = random.choice([0, 16_300, 60_000])
        self._bye = 0  # the msgid of the last bye
        self._unpacker = reply_unpacker()

    # ------------------------------------------------------------------------------------- connecting

    def connect(self, link: Link, fresh: Record) -> None:
        """Begin on a new link: resume the session it has, or open one, for which `fresh` is the record."""
        self.link = link
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
        link.record = self.record

    def open(self, fresh: Record) -> None:
        """Ask for a new session."""
        self._begin(fresh)
        assert self.link is not None
        self.link.record = fresh
        self.ready = False
        self._outside("hello", {"session": True, "lease_ms": fresh.lease_ms, "cache": fresh.cache.name})

    def _begin(self, fresh: Record) -> None:
        self.record = fresh
        self.session_id = None
        self.received = self.acknowledged = 0
        self.holds = {}

    def give_up(self) -> Link | None:
        """Take the link for broken; the link, which has lost its client."""
        link, self.link = self.link, None
        self.ready = False
        if link is not None:
            link.client = None
            link.down = b""
        if not self.named or self.session_id is None:
            self.record = None
        return link

    # ------------------------------------------------------------------------------------- sending

    def ask(self, method: str, params: tuple[Any, ...], refusal: Refused | None = None) -> Request | None:
        """Put a request in the stream; it goes out as soon as there is a connection for it."""
        if self.record is None or (self.link is None and not self.named):
            return None
        self._msgid += 1
        request = Request(self._msgid, method, params, refusal)
        self.record.add(request)
        if self.ready:
            self._send(request)
        return request

    def _send(self, request: Request) -> None:
        assert self.link is not None
        self.link.up += encode_request(request.msgid, request.method, request.params)

    def _outside(self, method: str, *params: Any) -> int:
        self._msgid += 1
        assert self.link is not None
        self.link.up += encode_request(OUTSIDE + self._msgid, method, params)
        return OUTSIDE + self._msgid

    def acknowledge(self) -> None:
        """Say how many replies there are, or were a while ago, or say it again."""
        if not (self.ready and self.named and self.acknowledges):
            return
        if self.random.random() < 0.8:
            self.acknowledged = self.random.choice(
                [self.received, self.received, self.random.randint(self.acknowledged, self.received)]
            )
        if self.random.random() < 0.8:
            assert self.link is not None
            self.link.up += encode_notification("ack", (self.acknowledged,))
        else:
            self._outside("ack", self.acknowledged)

    def leave(self) -> None:
        """Say bye. From here on the session is nothing to this client, and the connection without one."""
        if self.ready and self.named:
            self._bye = self._outside("bye")
            self.ready = False
            self.session_id = None

    def talk_garbage(self) -> None:
        """Send what is no message."""
        if self.ready and self.record is not None and self.link is not None:
            self.record.garbage = True
            self.link.up += b"\xc1"
            self.ready = False

    # ------------------------------------------------------------------------------------- hearing

    def hear(self, piece: bytes) -> bool:
        """Take in what arrived; whether that was the end of the session."""
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
        # Somebody who asked may have gone meanwhile.
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
        assert msgid == its_msgid, f"reply {self.received + 1} is for {msgid}, and was for {its_msgid}"
        request = self.record.by_msgid[msgid]
        answer = request.heard(answer)
        assert answer == its_answer, f"{request} was answered {its_answer}, and its client hears {answer}"
        self.received += 1
        if request.method == "acquire" and isinstance(answer, list) and answer[0]:
            self.holds[answer[2]] = request.params[0]
