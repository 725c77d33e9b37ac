"""How much of a session's requests may be in flight, and what of the replies the server is told has come. Sans-IO.

A server keeps the replies of a session until they are acknowledged (PROTOCOL.md, sections 5 and 6), and refuses a
client that asks for more than it will keep. So at most `UNACKNOWLEDGED_MAX` messages are unanswered or not
acknowledged, and what their replies may have at most `REPLIES_BYTES_MAX`. Messages that may wait at the server count
apart until they are acknowledged; what gives something back passes both, up to a bound of its own.

The session (`session.py`) decides which message goes next and what becomes of it; `Windows` owns the msgids, what
travels under them, and the counts of both streams.
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
"""What the replies to messages in flight may have together: to those that are answered at once, and to as many as may
wait. The server keeps up to 4 MiB: the rest is for what it keeps that was acknowledged in part, and for what gives
something back."""

ACKNOWLEDGE_EVERY: Final = 256
ACKNOWLEDGE_BYTES: Final = 64 << 10
"""Replies, and bytes of them, after which they are acknowledged: often enough that the window is never in the way,
and seldom enough that it costs nothing (20 bytes in 256 messages)."""

HELLO_MSGID: Final = 0
"""Never another request's: those in flight keep theirs over a resumption."""

assert UNACKNOWLEDGED_MAX < 1 << 14, "servers may keep small msgids encoded"
assert ACKNOWLEDGE_EVERY * 2 < UNACKNOWLEDGED_MAX
assert PARKED_MAX * (calls.WAIT_REPLY_BYTES + 3 * 9) <= PARKED_REPLIES_BYTES_MAX, "for up to three counters each"
assert (
    REPLIES_BYTES_MAX + PARKED_REPLIES_BYTES_MAX + ACKNOWLEDGE_BYTES + 2 * REPLY_BYTES_MAX < UNACKNOWLEDGED_BYTES_MAX
)


class Windows:
    """See the module. Belongs to a session."""

    def __init__(self) -> None:
        self.in_flight: dict[int, Message] = {}  # by msgid, in the order sent; abandoned ones too
        self.sent = 0  # requests, ever in the session at the server
        self.received = 0  # replies, likewise
        self.acknowledged = 0  # of those, what the server was told of
        self.much_unacknowledged = False  # so much of the others that it is to be told
        self.parked_unacknowledged = 0  # how many of the others came to messages that may have waited
        self._unacknowledged_bytes = 0  # of the others
        self._parked = 0  # how many in flight may wait at the server
        self._reply_bytes = 0  # what the replies to the others in flight may have together
        self._parked_reply_bytes = 0  # and to those
        # Free msgids below _msgid_next. Lately used ones first, so ids stay small: short on the wire, and within
        # what a server keeps encoded.
        self._msgids: list[int] = []
        self._msgid_next = HELLO_MSGID + 1

    # What goes.

    @property
    def unanswered(self) -> int:
        """Messages in flight, but for those that may wait at the server."""
        return len(self.in_flight) - self._parked

    def has_room(self, message: Message) -> bool:
        """Whether the windows let one more in flight."""
        if message.parks:
            return self._parked + self.parked_unacknowledged < PARKED_MAX and (
                not self._parked or self._parked_reply_bytes + message.reply_bytes <= PARKED_REPLIES_BYTES_MAX
            )
        unacknowledged = len(self.in_flight) - self._parked + self.received - self.acknowledged
        return unacknowledged < UNACKNOWLEDGED_MAX and (
            not self._reply_bytes or self._reply_bytes + message.reply_bytes <= REPLIES_BYTES_MAX
        )

    def may_pass(self, message: Message) -> bool:
        """Whether one more may pass the windows. A server executes what gives something back at any time, but ends a
        session whose client goes on twice as far as its windows without acknowledging: thousands may give up in one
        turn."""
        unacknowledged = len(self.in_flight) - self._parked + self.received - self.acknowledged
        return unacknowledged < 2 * UNACKNOWLEDGED_MAX and (
            not self._reply_bytes or self._reply_bytes + message.reply_bytes <= 2 * REPLIES_BYTES_MAX
        )

    def launch(self, message: Message) -> bytes:
        """It goes, and this is what is to be written; nothing where nobody waits for it any more."""
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
        message.sent = True
        message.msgid = msgid
        message.number = self.sent
        self.in_flight[msgid] = message
        if message.parks:
            self._parked += 1
            self._parked_reply_bytes += message.reply_bytes
        else:
            self._reply_bytes += message.reply_bytes
        return data

    # What comes.

    def land(self, message: Message, *, kept: bool) -> None:
        """It is in flight no more, and its msgid is free. `kept`: its reply has come, which the server keeps until
        that is acknowledged."""
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

    def read(self, size: int) -> None:
        """So many bytes were, and the replies that end in them have landed."""
        self._unacknowledged_bytes += size
        unacknowledged = self.received - self.acknowledged
        if unacknowledged >= ACKNOWLEDGE_EVERY or (
            unacknowledged and self._unacknowledged_bytes >= ACKNOWLEDGE_BYTES
        ):
            self.much_unacknowledged = True

    def acknowledge(self) -> bytes:
        """The server is told of all that has come, by this or by `hello`."""
        self.acknowledged = self.received
        self._unacknowledged_bytes = self.parked_unacknowledged = 0
        self.much_unacknowledged = False
        return encode_notification("ack", (self.received,))

    # The session at the server.

    def begin(self) -> None:
        """There is another one, which counts from its start."""
        self.sent = self.received = 0
        self.acknowledge()

    def retract(self, accepted: int) -> list[Message]:
        """The server has accepted so many requests: what it has not is in flight no more."""
        lost = [message for message in self.in_flight.values() if message.number > accepted]
        for message in lost:
            self.land(message, kept=False)
        self.sent = accepted
        return lost

    def lose(self) -> list[Message]:
        """There is none any more, and this is what was in flight."""
        lost = list(self.in_flight.values())
        for message in lost:
            message.msgid = -1
        self.in_flight.clear()
        self._parked = self._reply_bytes = self._parked_reply_bytes = 0
        self._msgids.clear()
        self._msgid_next = HELLO_MSGID + 1
        return lost
