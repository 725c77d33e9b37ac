"""`Windows`: which requests of a session are in flight, and which of their replies were acknowledged. Sans-IO.

A server keeps each reply of a session until the client acknowledges it (PROTOCOL.md, sections 5 and 6). It refuses a
client whose unacknowledged replies exceed its limits. So the client limits itself:

- At most `UNACKNOWLEDGED_MAX` messages are unanswered or unacknowledged, and the replies to those in flight may have
  at most `REPLIES_BYTES_MAX` together.
- Messages that may wait at the server (`acquire` with a wait, `wait_zero`) have limits of their own, `PARKED_MAX` and
  `PARKED_REPLIES_BYTES_MAX`. They count there until their replies are acknowledged.
- Urgent messages (the `cancel` and `release` requests that the session makes itself) may exceed the first two limits,
  up to twice their values.

`Windows` owns the msgids, the messages in flight and the counts of both streams, and is the only class that assigns
`Message.msgid` and `Message.number`. A client with hooks has `ObservedWindows` instead. The session (`session.py`)
decides which message is sent next, and whether a message that was not answered is sent again or fails.
"""

from __future__ import annotations

from typing import TYPE_CHECKING, Final

from naught.core import calls
from naught.wire.codec import encode_notification
from naught.wire.limits import PARKED_MAX, REPLY_BYTES_MAX, UNACKNOWLEDGED_BYTES_MAX, UNACKNOWLEDGED_MAX

if TYPE_CHECKING:
    from naught.core.messages import Message

REPLIES_BYTES_MAX: Final = 2 << 20
PARKED_REPLIES_BYTES_MAX: Final = 1280 << 10
"""Bytes that the replies to messages in flight may have together: to messages that the server answers immediately,
and to messages that may wait. The server keeps up to 4 MiB per session. The rest is for replies that are not
acknowledged yet, and for the replies to urgent messages."""

ACKNOWLEDGE_EVERY: Final = 256
ACKNOWLEDGE_BYTES: Final = 64 << 10
"""Received replies, and bytes of them, after which the client sends an acknowledgement. Often enough that the window
never blocks a client, and seldom enough that it costs nothing (20 bytes in 256 messages)."""

HELLO_MSGID: Final = 0
"""The msgid of `hello`. No other request has it: when a session is resumed, requests in flight keep their msgids."""

assert UNACKNOWLEDGED_MAX < 1 << 14, "servers may keep small msgids encoded"
assert ACKNOWLEDGE_EVERY * 2 < UNACKNOWLEDGED_MAX
assert PARKED_MAX * (calls.WAIT_REPLY_BYTES + 3 * 9) <= PARKED_REPLIES_BYTES_MAX, "for up to three counters each"
assert (
    REPLIES_BYTES_MAX + PARKED_REPLIES_BYTES_MAX + ACKNOWLEDGE_BYTES + 2 * REPLY_BYTES_MAX < UNACKNOWLEDGED_BYTES_MAX
)


class Windows:
    """The messages in flight and the counts of one session; see the module. Belongs to a `ClientSession`."""

    def __init__(self) -> None:
        self.in_flight: dict[int, Message] = {}  # by msgid, in the order sent; includes abandoned messages
        self.sent = 0  # requests sent since the server opened the session
        self.received = 0  # replies received since then
        self.acknowledged = 0  # of `received`: how many were acknowledged
        self.must_acknowledge = False  # ACKNOWLEDGE_EVERY or ACKNOWLEDGE_BYTES is reached
        self.parked_unacknowledged = 0  # unacknowledged replies to messages that may have waited
        self._unacknowledged_bytes = 0  # bytes received since the last acknowledgement
        self._parked = 0  # messages in flight that may wait at the server
        self._reply_bytes = 0  # upper bound of the replies to the other messages in flight, together
        self._parked_reply_bytes = 0  # upper bound of the replies to the `_parked` ones, together
        # Free msgids below `_msgid_next`, the most recently freed last. It is used first, so msgids stay small:
        # short on the wire, and within the range that a server keeps encoded.
        self._msgids: list[int] = []
        self._msgid_next = HELLO_MSGID + 1  # the lowest msgid that was never used

    # Sending.

    @property
    def unanswered(self) -> int:
        """Messages in flight, except those that may wait at the server."""
        return len(self.in_flight) - self._parked

    def has_room(self, message: Message) -> bool:
        """Whether the limits let this message be sent."""
        if message.parks:
            return self._parked + self.parked_unacknowledged < PARKED_MAX and (
                not self._parked or self._parked_reply_bytes + message.reply_bytes <= PARKED_REPLIES_BYTES_MAX
            )
        unacknowledged = len(self.in_flight) - self._parked + self.received - self.acknowledged
        return unacknowledged < UNACKNOWLEDGED_MAX and (
            not self._reply_bytes or self._reply_bytes + message.reply_bytes <= REPLIES_BYTES_MAX
        )

    def has_room_for_urgent(self, message: Message) -> bool:
        """Whether an urgent message may be sent now.

        Beyond the limits the server still executes `cancel` and `release`, but it ends a session that reaches twice
        the limits without acknowledging. Thousands of callers may give up in the same turn, so urgent messages need a
        limit as well.
        """
        unacknowledged = len(self.in_flight) - self._parked + self.received - self.acknowledged
        return unacknowledged < 2 * UNACKNOWLEDGED_MAX and (
            not self._reply_bytes or self._reply_bytes + message.reply_bytes <= 2 * REPLIES_BYTES_MAX
        )

    def register(self, message: Message) -> bytes:
        """Put the message in flight under a free msgid. Returns its bytes, which must be written next.

        Returns b"", with nothing changed here, when no caller waits for the message any more.
        """
        msgids = self._msgids
        msgid = msgids[-1] if msgids else self._msgid_next
        data = message.encode(msgid)
        if not data:
            return b""
        if msgids:
            msgids.pop()
        else:
            self._msgid_next += 1
        self.sent += 1
        message.msgid = msgid
        message.number = self.sent
        self.in_flight[msgid] = message
        if message.parks:
            self._parked += 1
            self._parked_reply_bytes += message.reply_bytes
        else:
            self._reply_bytes += message.reply_bytes
        return data

    # Receiving.

    def complete(self, message: Message, *, kept: bool) -> None:
        """Take the message out of flight and free its msgid.

        `kept`: its reply has come, and the server keeps that reply until it is acknowledged.
        """
        del self.in_flight[message.msgid]
        self._msgids.append(message.msgid)
        message.msgid = -1
        if kept:
            self.received += 1
        if message.parks:
            self._parked -= 1
            self._parked_reply_bytes -= message.reply_bytes
            if kept:
                self.parked_unacknowledged += 1
        else:
            self._reply_bytes -= message.reply_bytes

    def count_reply_bytes(self, size: int) -> None:
        """`size` bytes were received, and `complete` was called for every reply that ends in them."""
        self._unacknowledged_bytes += size
        unacknowledged = self.received - self.acknowledged
        if unacknowledged >= ACKNOWLEDGE_EVERY or (
            unacknowledged and self._unacknowledged_bytes >= ACKNOWLEDGE_BYTES
        ):
            self.must_acknowledge = True

    def acknowledge(self) -> bytes:
        """Count every received reply as acknowledged. Returns the `ack` that tells the server.

        The caller writes it, except where `hello` has told the server the same number.
        """
        self.acknowledged = self.received
        self._unacknowledged_bytes = self.parked_unacknowledged = 0
        self.must_acknowledge = False
        return encode_notification("ack", (self.received,))

    # The connection.

    def begin_connection(self) -> None:
        """There is a new connection. Called before anything is sent on it."""

    # The session at the server.

    def begin_session(self) -> None:
        """The server has opened another session, whose counts start at zero."""
        self.sent = self.received = 0
        self.acknowledge()

    def take_unaccepted(self, accepted: int) -> list[Message]:
        """The session was resumed, and the server has accepted its first `accepted` requests.

        Takes the later ones out of flight and returns them, in the order sent.
        """
        unaccepted = [message for message in self.in_flight.values() if message.number > accepted]
        for message in unaccepted:
            self.complete(message, kept=False)
        self.sent = accepted
        return unaccepted

    def reset(self) -> list[Message]:
        """The session at the server is gone. Frees every msgid and returns the messages that were in flight."""
        messages = list(self.in_flight.values())
        for message in messages:
            message.msgid = -1
        self.in_flight.clear()
        self._parked = self._reply_bytes = self._parked_reply_bytes = 0
        self._msgids.clear()
        self._msgid_next = HELLO_MSGID + 1
        return messages


class ObservedWindows(Windows):
    """The same for a client with hooks (`hooks.py`): its waiters may have `observed`, the call that they belong to.

    It tells these calls when their message is sent again. And it tells the server to which trace the next message
    belongs, where that is another one than before: one `trace` for as many messages as have the same.
    """

    def __init__(self) -> None:
        super().__init__()
        self._traceparent: str | None = None  # what the server was told on this connection

    def begin_connection(self) -> None:
        self._traceparent = None

    def register(self, message: Message) -> bytes:
        sent_before = message.number > 0
        data = super().register(message)
        if not data:
            return data
        traceparent = None
        for waiter in message.waiters:
            call = getattr(waiter, "observed", None)
            if call is None:
                continue
            if sent_before:
                call.note_sent_again()
            if traceparent is None:
                traceparent = call.traceparent
        if traceparent == self._traceparent:
            return data
        self._traceparent = traceparent
        return encode_notification("trace", (traceparent,)) + data
