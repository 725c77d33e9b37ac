"""Bytes of a client to messages, a slice of input at a time, at a bounded cost whatever the bytes are. Sans-IO.

msgpack's `Unpacker` is the fastest thing there
is in Python, but it allocates a container when it has seen the container's *header*: nested headers that each
declare 8 192 elements pin 44 MiB from a few kilobytes of input. Under a cap of 16 elements they pin 0.2 MiB, and
`Unpacker.skip()`, which only walks over the bytes, pins 0.04. Hence two lanes:

- the narrow lane decodes a slice of input at once and accepts no container above 16 elements. All requests for a
  single counter fit, and they are the ones whose cost per message matters;
- the wide lane is for wider containers and longer messages: `skip()` finds where each message ends, and only then is
  the message decoded. All its elements are there by then, so what it allocates is bounded by bytes that really
  arrived. The extra pass costs a twentieth of what decoding and applying a batch costs.

A decoder that has raised is never fed again.
"""

from __future__ import annotations

from itertools import islice
from typing import Any, ClassVar, Final

import msgpack  # type: ignore[import-untyped]

from naught.errors import ProtocolError
from naught.wire.codec import Message
from naught.wire.limits import BATCH_ITEMS_MAX, MESSAGE_BYTES_MAX, PARAMS_MAX, STRING_BYTES_MAX

SLICE_BYTES: Final = 8 << 10
"""Input decoded at a time. The shortest request that touches a counter has 10 bytes, so a slice holds fewer than
1 000 of them and the server's turn limit needs no count per request."""

NARROW_ITEMS_MAX: Final = 16
"""The widest container of the narrow lane: 0.2 MiB pinned at worst (msgpack's stack has 1 024 levels)."""

assert SLICE_BYTES < STRING_BYTES_MAX
assert PARAMS_MAX + 1 <= NARROW_ITEMS_MAX < BATCH_ITEMS_MAX


def without_first(messages: bytes, count: int) -> bytes:
    """Encoded messages without the first `count` of them. O(bytes); for what was encoded here."""
    walker = msgpack.Unpacker(max_buffer_size=0)
    walker.feed(messages)
    for _ in range(count):
        walker.skip()
    return messages[walker.tell() :]


class Map:
    """A map in a message: its pairs, in the order sent.

    Not a dict, which would pass for an array wherever one is unpacked: `kind, msgid, method, params = message`
    takes a dict of four keys as gladly as an array of four.
    """

    __slots__ = ("pairs",)

    def __init__(self, pairs: list[tuple[Any, Any]]) -> None:
        self.pairs = pairs


def _narrow_unpacker() -> Any:
    # Tuples: they are freed and reused without the collector's help. And no subclass, to keep something with it:
    # iterating over one costs a look-up and a call for each message, 0.1 us.
    return msgpack.Unpacker(
        raw=True,
        use_list=False,
        strict_map_key=False,
        object_pairs_hook=Map,
        max_array_len=NARROW_ITEMS_MAX,
        max_map_len=NARROW_ITEMS_MAX,
        max_buffer_size=4 * SLICE_BYTES,
        read_size=4 * SLICE_BYTES,
    )


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
    width = {0xCC: 1, 0xCD: 2, 0xCE: 4}.get(first)
    if width is None or len(head) < 3 + width:
        return None
    return int.from_bytes(head[3 : 3 + width], "big")


_WIDE_SLICES: Final = 8
"""Batches seldom come alone, and changing lanes costs 5 us: this many slices of short messages end the wide lane."""


def _refuse_map(pairs: object) -> Map:
    raise ValueError("a map in a long message")


def _unpack_whole(data: bytes | bytearray) -> Any:
    """A message of which every byte is there. No request that is long has maps: a MiB of empty ones would cost
    160 ms and 83 MiB where a MiB of anything else costs a third of that at most."""
    hook = _refuse_map if len(data) > SLICE_BYTES else Map
    return msgpack.unpackb(data, raw=True, use_list=False, strict_map_key=False, object_pairs_hook=hook)


_NO_MESSAGE: Final = "not a message of MessagePack-RPC"


class BadInput(ProtocolError):
    """What a peer sent cannot be a message within the limits. `msgid` is the request at fault, where known."""

    def __init__(self, code: str, message: str, msgid: int | None) -> None:
        super().__init__(message)
        self.code = code
        self.msgid = msgid


class Decoder:
    """Cuts a peer's bytes into messages, a slice of input at a time.

        decoder.feed(data)
        while decoder.unread:
            for message in decoder.messages(): ...

    `messages()` raises `BadInput` once everything before the bad bytes has been given; the decoder is dead then.

    Costs 0.5 us a slice above msgpack's own cost per message. Keeps at most one unfinished message, and what was
    fed and not yet read.
    """

    __slots__ = (
        "_expected",
        "_fault",
        "_input",
        "_long",
        "_offset",
        "_rest",
        "_scanner",
        "_scanner_fed",
        "_surplus",
        "_wide_slices",
        "unread",
    )

    _idle: ClassVar[list[Any]] = []
    """Unpackers with nothing inside. One serves all connections of a process, so an idle connection keeps none."""

    def __init__(self) -> None:
        self._input = b""  # what was fed, from _offset on not yet read; empty when all of it was read
        self._offset = 0
        self.unread = False  # whether `messages()` has anything to look at
        self._rest = b""  # narrow lane: the bytes of the unfinished message, which are not in _input any more
        # Wide lane: the same. A bytearray takes more bytes without being copied: a MiB that drips in would else be
        # copied for each of its bytes.
        self._long = bytearray()
        # What is raised once the messages before it have been given. Not an exception, which would keep with its
        # traceback whoever called when it was raised.
        self._fault: tuple[str, str, int | None] | None = None
        # How many messages the last slice had. Asking msgpack for one too many costs 0.75 us (an exception with
        # a traceback), asking after each whether it was the last 0.04 us; steady clients send the same again.
        self._expected = 1
        self._surplus = 0  # by how many the last slice had more
        self._scanner: Any = None  # wide lane: walks over the bytes; None in the narrow lane
        self._scanner_fed = 0  # wide lane: how many bytes the scanner has been given
        self._wide_slices = 0  # wide lane: how many more slices to stay in it

    def feed(self, data: bytes) -> None:
        """Take in what arrived. Copies nothing when all that came before has been read."""
        if self._input:
            self._input = self._input[self._offset :] + data
            self._offset = 0
        else:
            self._input = data
        self.unread = True

    @property
    def between(self) -> bool:
        """Whether the last byte read ended a message, and no long ones are on their way."""
        return not self._rest and self._scanner is None

    def pinned_bytes(self) -> int:
        """How much undecoded input is kept."""
        return len(self._input) - self._offset + len(self._rest) + len(self._long)

    def messages(self) -> list[Message]:
        """The messages that end in the next slice of input; empty where none does, or where all was read.

        Anything msgpack can say may come out: whether it is a request is for the caller to see.
        """
        if self._fault is not None:
            raise BadInput(*self._fault)
        piece = self._input
        # With what is left of the slice before, no more than a slice: whatever the narrow lane decodes is within
        # one, so how a message was cut never tells which limits it meets.
        room = SLICE_BYTES - len(self._rest)
        if len(piece) - self._offset > room:
            start = self._offset
            self._offset = start + room
            piece = piece[start : self._offset]
        else:
            if self._offset:
                piece = piece[self._offset :]
                self._offset = 0
            self._input = b""
            self.unread = False
        if self._scanner is not None:
            return self._wide(piece)
        if self._rest:
            return self._narrow_after_cut(piece)
        return self._narrow(piece)

    def _narrow(self, piece: bytes) -> list[Message]:
        try:
            unpacker = self._idle.pop()  # not asked before: another thread's decoder may take the last one
        except IndexError:
            unpacker = _narrow_unpacker()
        fed = unpacker.tell() + len(piece)  # nothing is left inside of it: it stands at the end of what it was fed
        unpacker.feed(piece)
        try:
            if self._expected == 1:
                batch = [unpacker.unpack()]
            else:
                batch = list(islice(unpacker, self._expected))
            surplus = -self._expected
            if len(batch) + surplus < 0:
                # Fewer than expected, and msgpack does not tell whether it stands at the end of a message.
                self._expected = len(batch) or 1
                return self._narrow_again(piece)
            while unpacker.tell() != fed:
                batch.append(unpacker.unpack())
        except Exception:  # cut inside a message, too wide, or no msgpack at all
            return self._narrow_again(piece)
        surplus += len(batch)
        if surplus or self._surplus:
            # Slowly, and not for one slice alone, which may have an acknowledgement before what is always the same:
            # expecting too many is the dearer mistake.
            self._expected += (min(surplus, self._surplus) + 7) >> 3
            self._surplus = surplus
        self._idle.append(unpacker)
        return batch

    def _narrow_after_cut(self, piece: bytes) -> list[Message]:
        kept, self._rest = self._rest, b""
        batch = self._narrow(kept + piece)
        if not batch and self._rest and self._scanner is None:
            # Two pieces and not one message: a long one, or a peer that drips. Reading it from its start
            # with every piece would let such a peer have 8 KiB read for each byte it sends.
            rest, self._rest = self._rest, b""
            return self._widen(rest)
        return batch

    def _narrow_again(self, piece: bytes) -> list[Message]:
        """A slice did not decode to its end: take what is whole, keep or hand over the rest."""
        unpacker = _narrow_unpacker()
        unpacker.feed(piece)
        batch: list[Message] = []
        boundary = 0
        try:
            while True:
                batch.append(unpacker.unpack())
                boundary = unpacker.tell()
        except msgpack.OutOfData:
            if len(piece) - boundary < SLICE_BYTES:
                self._rest = piece[boundary:]
                return batch
        except Exception:  # too wide for this lane, or bad; the wide lane knows which
            pass
        return batch + self._widen(piece[boundary:])

    def _widen(self, rest: bytes) -> list[Message]:
        # skip() keeps nothing but the string that is still arriving, which _wide bounds.
        self._scanner = msgpack.Unpacker(max_buffer_size=MESSAGE_BYTES_MAX, read_size=2 * SLICE_BYTES)
        self._scanner_fed = 0
        self._wide_slices = _WIDE_SLICES
        return self._wide(rest)

    def _wide(self, piece: bytes) -> list[Message]:
        # A string that is too long is noticed at the same byte however it is cut: when as many have arrived as a
        # string may have, and it is still incomplete. So a piece that reaches over that byte is scanned in two.
        room = STRING_BYTES_MAX - (self._scanner_fed - self._scanner.tell())
        if len(piece) <= room:
            return self._scan(piece)
        batch = self._scan(piece[:room])
        if self._fault is None:
            # The first part may have ended the wide lane.
            batch += (self._narrow if self._scanner is None else self._scan)(piece[room:])
        return batch

    def _scan(self, piece: bytes) -> list[Message]:
        scanner = self._scanner
        data = self._long
        base = self._scanner_fed - len(data)  # the scanner's position where `data` begins
        data += piece
        scanner.feed(piece)
        self._scanner_fed += len(piece)
        batch: list[Message] = []
        begin = 0
        fault = ""
        try:
            while True:
                scanner.skip()
                end = scanner.tell() - base
                if end - begin > MESSAGE_BYTES_MAX:
                    break
                batch.append(_unpack_whole(data[begin:end]))
                begin = end
        except msgpack.OutOfData:
            end = len(data)
            if self._scanner_fed - scanner.tell() >= STRING_BYTES_MAX:
                fault = f"a string has at most {STRING_BYTES_MAX} bytes"
        except Exception:
            # The scanner stands before the byte that cannot be; beyond the limit it would not have been looked at.
            end = scanner.tell() - base
            fault = _NO_MESSAGE
        if end - begin > MESSAGE_BYTES_MAX:
            fault = f"a message has at most {MESSAGE_BYTES_MAX} bytes"
        if fault:
            code = "invalid" if fault is _NO_MESSAGE else "too_large"
            self._fault = (code, fault, peek_msgid(bytes(data[begin : begin + 8])))
            self._long = bytearray()
            self.unread = True  # for who asks to be told of it
            return batch
        del data[:begin]
        self._choose_lane(len(batch), begin)
        return batch

    def _choose_lane(self, messages: int, size: int) -> None:
        """Stay in the wide lane while messages are long; leave it, between two, after some slices of short ones."""
        if messages * 128 < size:
            self._wide_slices = _WIDE_SLICES
        elif self._wide_slices:
            self._wide_slices -= 1
        elif not self._long:
            self._scanner = None
