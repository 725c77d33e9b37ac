"""A connection's input: one buffer with one cursor, and the next message at the cursor. Sans-IO.

    source.feed(data)
    at = hot.serve(source.data, source.at, ...)      # plain requests are served where they lie
    source.advance(at)
    message = source.next_message()                   # one message that is not plain; None until it is complete

No message is decoded before a walk over its bytes (`walk.py`) has found it within the limits, so a peer cannot make
the server spend memory or time with a few bytes:

- a *small* message, of up to `SMALL_BYTES` and `SMALL_ELEMENTS`, may be anything that MessagePack can say. Whether it
  is a request is for the protocol to see, and a wrong type in it is an error on a connection that goes on;
- a *large* message is held to the grammar of requests: the first byte that no request can have at its place ends the
  connection. An array that declares too many items, a string that declares too many bytes, or a nesting that is too
  deep is refused at its header, before anything of it has arrived.

The input of a client that is not known yet has a limit of its own, in bytes of all its messages together: what goes
beyond it ends the connection, after the messages before it.

An incomplete message is kept until the rest has arrived. The walk over a large one continues where it stopped, so
each byte is walked over once, however the input is cut.
"""

from __future__ import annotations

from typing import Any, Final

import msgpack  # type: ignore[import-untyped]

from naught.wire.codec import NOTIFICATION, REQUEST
from naught.wire.limits import MSGID_MAX, UNKNOWN_BYTES_MAX
from naught_server.bad_input import BadInput
from naught_server.fatal import FATAL
from naught_server.walk import BAD, UNFINISHED, LargeWalk, walk_small

_NO_MESSAGE: Final = "not a message of MessagePack-RPC"
_TOO_MUCH: Final = f"before a client has logged in it may send {UNKNOWN_BYTES_MAX} bytes"

_NO_BYTE: Final = b"\xc1"  # begins no message: it stands for what was dropped, so that there is always something left


class Map:
    """A map in a message: its pairs, in the order sent.

    Not a dict, which would pass for an array wherever one is unpacked: `kind, msgid, method, params = message` takes
    a dict of four keys as well as an array of four.
    """

    __slots__ = ("pairs",)

    def __init__(self, pairs: list[tuple[Any, Any]]) -> None:
        self.pairs = pairs


class Input:
    """What a connection has received and not served yet."""

    __slots__ = (
        "_guarded",
        "_left",
        "_over",
        "_passed_from",
        "_passed_in",
        "_passed_to",
        "_passer",
        "_walk",
        "at",
        "data",
        "elements",
    )

    def __init__(self, bytes_max: int | None = None) -> None:
        """`bytes_max`: how many bytes may come before `lift_limit`."""
        self.data = b""  # received bytes
        self.at = 0  # where in them the first request begins that was not served
        self._walk: LargeWalk | None = None  # the large message under way, which then is all there is
        self.elements = 0  # of the last message, where it was a large one; else 0
        self._guarded = bytes_max is not None  # not all that comes is taken
        self._left = -1 if bytes_max is None else bytes_max  # bytes that are, then; below 0 none: it has raised
        self._over = False  # more has come, and was dropped
        # For `end_of_message`: what walks over messages; the input that it has, from which offset, and up to where it
        # has come.
        self._passer: Any = None
        self._passed_in: bytes | None = None
        self._passed_from = 0
        self._passed_to = -1

    def feed(self, data: bytes) -> None:
        """Take received bytes. Copies nothing when all that came before was served."""
        if self._guarded:
            data = self._within_limit(data)
        if self._walk is not None:
            self._walk.feed(data)
        elif not self.data:  # `at` is 0
            self.data = data
        else:
            self.data = self.data[self.at :] + data
            self.at = 0

    def _within_limit(self, data: bytes) -> bytes:
        """The part of what comes that is taken."""
        if self._left < 0:
            return b""
        self._left -= len(data)
        if self._left >= 0:
            return data
        self._over = True
        return data[: self._left] + _NO_BYTE

    @property
    def is_limited(self) -> bool:
        """Whether `lift_limit` was not called yet."""
        return self._guarded

    def lift_limit(self) -> None:
        """The client is known: from now on everything is taken, unless too much has come already."""
        if self._left >= 0:
            self._guarded = False

    def advance(self, at: int) -> None:
        """The requests before this offset of `data` were served."""
        self.elements = 0
        if at == len(self.data):
            self.data = b""  # an idle connection keeps nothing of what it has received
            self.at = 0
            if self._passed_in is not None:
                self._passer = self._passed_in = None
        else:
            self.at = at

    @property
    def empty(self) -> bool:
        """Whether everything that was received was served: no part of a message is left either."""
        return self.at == len(self.data) and self._walk is None

    def is_unfinished(self) -> bool:
        """Whether what is left is a large message under way that is not whole, as far as nothing in it is refused.
        O(bytes that have come since it was asked)."""
        return self._walk is not None and not self._over and self._walk.go_on() == UNFINISHED

    @property
    def left_bytes(self) -> int:
        """How many received bytes were not served."""
        return len(self.data) - self.at + (0 if self._walk is None else len(self._walk.data))

    def pinned_bytes(self) -> int:
        """How many received bytes are kept: those that were served and not dropped yet too."""
        return len(self.data) + (0 if self._walk is None else len(self._walk.data))

    def next_message(self) -> object:
        """The message at the cursor, which passes it; None while it is not whole. O(its bytes).

        Anything that MessagePack can say may come out of a small message: whether it is a request is for the caller
        to see. Raises BadInput where the bytes are no message or over a limit; from then on there is no input.
        """
        self.elements = 0
        if self._walk is None:
            end = walk_small(self.data, self.at)
            if end >= 0:
                message = self.data[self.at : end]
                self.advance(end)
                return self._decoded(message)
            if end == UNFINISHED:
                if self._over:
                    raise self._refused("too_large", _TOO_MUCH, self.data[self.at : self.at + 8])
                if self.at:
                    self.data = self.data[self.at :]  # a few bytes; the piece they came in may have 256 000
                    self.at = 0
                return None
            if end == BAD:
                raise self._refused("invalid", _NO_MESSAGE, self.data[self.at : self.at + 8])
            self._walk = LargeWalk(self.data[self.at :])
            self.data = b""
            self.at = 0
        walk = self._walk
        end = walk.go_on()
        if end == UNFINISHED and not self._over:
            return None
        if end < 0:
            raise self._refused("invalid" if end == BAD else "too_large", walk.fault, bytes(walk.data[:8]))
        message = bytes(memoryview(walk.data)[:end])
        self.data = bytes(memoryview(walk.data)[end:])
        self._walk = None
        self.elements = walk.elements
        return self._decoded(message)

    def end_of_message(self) -> int:
        """Where the message at the cursor ends, for `advance`; -1 where it is not whole, or that is not known.

        Nothing is checked or decoded, so it costs a hundredth of what the message is to do, and is of use for one
        that is passed over. msgpack walks over the messages of one piece of input, one after another.
        """
        if self._walk is not None:
            return -1
        if self._passed_in is not self.data or self._passed_to != self.at:
            self._passer = msgpack.Unpacker(max_buffer_size=0)
            self._passer.feed(memoryview(self.data)[self.at :])
            self._passed_in = self.data
            self._passed_from = self.at
        try:
            self._passer.skip()
        except FATAL:
            raise
        except Exception:  # it is not whole, or no message: the decoder that takes it says so
            self._passed_in = None
            return -1
        self._passed_to = self._passed_from + self._passer.tell()
        return self._passed_to

    def _decoded(self, message: bytes) -> object:
        try:
            decoded: object = msgpack.unpackb(
                message, raw=True, use_list=False, strict_map_key=False, object_pairs_hook=Map
            )
        except FATAL:
            raise
        except Exception:  # a timestamp of a wrong length, and whatever else only msgpack knows
            raise self._refused("invalid", _NO_MESSAGE, message[:8]) from None
        return () if decoded is None else decoded  # nil is no request either, and None says that there is no message

    def _refused(self, code: str, why: str, head: bytes) -> BadInput:
        self._guarded = True
        self._left = -1
        self._walk = None
        self.data = b""
        self.at = 0
        if self._over:
            code, why = "too_large", _TOO_MUCH
        return BadInput(code, why, peek_msgid(head))


def parts_of(message: object) -> tuple[int | None, bytes, tuple[Any, ...]]:
    """Msgid, method and parameters of a decoded request, or of a notification, whose msgid is None. Raises BadInput
    for anything else."""
    msgid: Any = None
    if isinstance(message, tuple):
        if len(message) == 4 and message[0].__class__ is int and message[0] == REQUEST:
            _, msgid, method, params = message
            if msgid.__class__ is not int or not 0 <= msgid <= MSGID_MAX:
                raise BadInput("invalid", f"a msgid is an integer from 0 to {MSGID_MAX}", None)
            if method.__class__ is bytes and params.__class__ is tuple:
                return msgid, method, params
        elif len(message) == 3 and message[0].__class__ is int and message[0] == NOTIFICATION:
            _, method, params = message
            if method.__class__ is bytes and params.__class__ is tuple:
                return None, method, params
    raise BadInput("invalid", "a request is [0, msgid, method, params] with a string and an array", msgid)


_MSGID_BYTES: Final = {b"\xcc": 1, b"\xcd": 2, b"\xce": 4}
"""How many bytes a msgid has, by the one before it."""


def peek_msgid(head: bytes) -> int | None:
    """The msgid of a request that cannot be decoded whole, from its first bytes; None where there is none.

    >>> peek_msgid(bytes([0x94, 0x00, 0x07]) + b"anything")
    7
    """
    if head[:2] != b"\x94\x00" or len(head) < 3:
        return None
    first = head[2]
    if first < 0x80:
        return first
    width = _MSGID_BYTES.get(head[2:3])
    if width is None or len(head) < 3 + width:
        return None
    return int.from_bytes(head[3 : 3 + width], "big")


def peek_method(head: bytes) -> bytes:
    """The method of a request, from its first bytes; empty where it is no request with a short name.

    >>> peek_method(bytes([0x94, 0x00, 0x07, 0xA4]) + b"incr and more")
    b'incr'
    """
    if head[:2] != b"\x94\x00":
        return b""
    at = 3 + _MSGID_BYTES.get(head[2:3], 0)
    kind = head[at : at + 1]
    if b"\xa0" <= kind < b"\xc0":
        return head[at + 1 : at + 1 + (kind[0] & 0x1F)]
    if kind in (b"\xd9", b"\xc4"):
        size = int.from_bytes(head[at + 1 : at + 2], "big")  # 0 where the head ends here
        return head[at + 2 : at + 2 + size]
    return b""


def without_first(messages: bytes, count: int) -> bytes:
    """Encoded messages without the first `count` of them. O(bytes); for what was encoded here."""
    walker = msgpack.Unpacker(max_buffer_size=0)
    walker.feed(messages)
    for _ in range(count):
        walker.skip()
    return messages[walker.tell() :]
