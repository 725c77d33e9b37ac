"""The hot path: plain requests are served from their bytes, without msgpack. Sans-IO; compiled where possible.

    at = serve(data, at, counters, out, served, requests_max)

`serve` walks over the input of a connection. For a plain `incr`, `decr` or `get` it changes the table and appends the
reply; the only object it makes is the key. A plain `apply` is checked and returned in `served`, and so is the `ack`
that a client with a session sends every few hundred replies. `serve` stops before the first request that is not plain
or not complete, and has changed nothing for it. The protocol decodes that request, serves it with all checks, and
calls `serve` again for the requests behind it.

A plain request has one of these methods with a key and an optional amount (`apply`: keys and deltas), in any encoding
that MessagePack has for them. A special property of a counter is checked only where it matters, and per key:

- an increment that creates a counter checks the bound of the cache;
- a decrement is not plain if the key has a queue of waiters, or if it evicts a counter that has a deadline, a hold or
  a waiter;
- a zero that lazy eviction has left counts as an absent counter;
- a counter that is not found may have a deadline: those that have one are in a table of their own, with the deadline
  in the same integer as the value;
- while some expired counters could not be taken out, each operation on a counter with a deadline checks it.

So a counter with a time to live, a hold or a waiter makes its own operations slower, and no others.

This file is plain Python. mypyc compiles it where there is a C compiler (`tools/compile.py`). Interpreted, it does
the same, about five times slower. It uses what mypyc makes fast: native integers (`i64`) for offsets and lengths,
local variables, no closures or generators, no try inside a loop, and no msgpack.

INCR and DECR are implemented here (`HotCounters`) and in `store.Cache`, and nowhere else. A differential test
compares the two (`tests/server/test_hot.py`).
"""

from __future__ import annotations

from typing import TYPE_CHECKING, Any, Final, final

from naught.wire.codec import encode
from naught.wire.limits import BATCH_ITEMS_MAX, KEY_BYTES_MAX, VALUE_MAX
from naught_server.expiry import DEADLINE_BITS, DEADLINE_MASK
from naught_server.fatal import FATAL
from naught_server.marks import MARK_SHIFT, MARKS

if TYPE_CHECKING:
    from mypy_extensions import i64

_TABLED: Final = 1 << 14
"""Values below this are encoded once, at import. That takes 1 MiB, and spares an encoding per reply."""

_VALUES: Final[list[bytes]] = [encode(value) for value in range(_TABLED)]

_OBJECTS: Final[list[Any]] = [*range(_TABLED)]
"""These values as objects. All counters with one of them share its object, as those up to 256 do in all of Python.
That spares a counter 32 bytes, and a change the freeing of one object and the making of another. (Of the 5.8 lines
above 4.4 are left, and 130 of 2 280 instructions went.)"""

_SHORT: Final = 1 << 7
"""Msgids below this are a byte."""

_HEADS: Final[list[bytes]] = [b"\x94\x01" + msgid + b"\xc0" for msgid in _VALUES[:_SHORT]]
"""Replies with such a msgid, up to their result."""

_LAST: Final[list[bytes]] = [bytes([byte]) + b"\xc0" for byte in range(256)]
"""The last byte of a longer msgid, and what follows up to the result."""

PLAIN_MAX: Final = 1 << 61
"""The largest value and amount that an increment adds. Their sum needs no check. (mypyc keeps this number in a
machine word, and `VALUE_MAX` in an object: to compare with that took 75 of 2 300 instructions a request.)"""

SHARD_SHIFT: Final = 47
"""A key's shard is told by 16 bits of its hash from this one on. A dict takes the lowest bits for the place of a key:
if they told the shard too, all keys of a shard would have the same, begin at few places of its dict, and be looked
for at several. (With 1 500 000 counters in 256 shards, `incr` of a random one at depth 100 read 8.3 lines of memory
that were in no cache, and reads 5.8; with 10 000 counters a request took 60 instructions more. callgrind, 8 MiB of
cache.)"""

NOT_PLAIN: Final = -1
"""Returned by `HotCounters` when it has changed nothing and the careful path must do the operation."""


@final
class HotCounters:
    """The tables of one cache, for the hot path. The cache makes this object and owns the tables in it."""

    def __init__(
        self,
        tables: list[dict[bytes, int]],
        timed: list[dict[bytes, int]],
        zeros: list[int],
        watched: tuple[dict[bytes, object], dict[bytes, object], dict[bytes, object]],
        marks: list[int],
        lazy: bool,
    ) -> None:
        self.tables: list[dict[bytes, int]] = tables  # by shard
        self.timed: list[dict[bytes, int]] = timed  # by shard: the counters with a time to live
        self.zeros: list[int] = zeros  # by shard: raw entries that lazy eviction has left
        # By key: waiters for room, waiters for zero, and generations that are held.
        self.queues: dict[bytes, object] = watched[0]
        self.awaited: dict[bytes, object] = watched[1]
        self.held: dict[bytes, object] = watched[2]
        self.marks: list[int] = marks  # 1 where a key may be in one of these three (marks.py)
        self.lazy: bool = lazy  # a decrement to zero leaves the zero
        self.has_zeros: bool = lazy  # there may be zeros; a cache that was lazy has them for a while
        self.mask: i64 = len(tables) - 1
        # Set by `begin`, and valid until the careful path changes the tables:
        self.has_timed: bool = False  # there are counters with a time to live
        self.queued: bool = False  # there are waiters for room
        self.watched: bool = False  # something depends on a counter becoming absent
        self.now_ms: int = -1  # the time, if some expired counters could not be taken out; else -1
        self.creations: i64 = 0  # counters that can be created without another check of the bound
        self._evicted: i64 = 0  # evictions at zero that the cache has not counted yet

    def begin(self, timed: bool, now_ms: int) -> None:
        """Prepare for a call of `serve`: note which checks are needed per key. `now_ms` is -1 if nothing has
        expired."""
        self.has_timed = timed
        self.queued = len(self.queues) > 0
        self.watched = self.queued or len(self.awaited) > 0 or len(self.held) > 0
        self.now_ms = now_ms

    def keep_zeros(self, *, lazy: bool, has_zeros: bool) -> None:
        """The cache's policy has changed, or its last zero is gone."""
        self.lazy = lazy
        self.has_zeros = has_zeros

    def allow(self, creations: int) -> None:
        """This number of counters can be created."""
        self.creations = creations

    def spend(self, creations: int) -> None:
        """The careful path creates this number of counters."""
        self.creations -= creations

    def take_evicted(self) -> int:
        """The number of evictions since the last call."""
        evicted = self._evicted
        self._evicted = 0
        return evicted

    def incr(self, key: bytes, by: i64) -> i64:
        """Add `by`, at least 1, to a counter; the value after, or NOT_PLAIN."""
        hashed: i64 = hash(key)  # by itself: `hash(key) & mask` is one of objects, and took 200 instructions more
        shard = (hashed >> SHARD_SHIFT) & self.mask
        table = self.tables[shard]
        before: i64 = table.get(key, 0)
        if before:
            if by > PLAIN_MAX or before > PLAIN_MAX:
                return NOT_PLAIN
            after = before + by
            if after < _TABLED:
                table[key] = _OBJECTS[after]
            else:
                table[key] = after
            return after
        if self.has_timed and key in self.timed[shard]:
            return self._incr_timed(self.timed[shard], key, by)
        if self.creations <= 0:
            return NOT_PLAIN
        self.creations -= 1
        if self.has_zeros and key in table:
            self.zeros[shard] -= 1
        if by < _TABLED:
            table[key] = _OBJECTS[by]
        else:
            table[key] = by
        return by

    def decr(self, key: bytes, by: i64) -> i64:
        """Take `by`, at least 1, from a counter; the value after, or NOT_PLAIN."""
        hashed: i64 = hash(key)
        shard = (hashed >> SHARD_SHIFT) & self.mask
        table = self.tables[shard]
        before: i64 = table.get(key, 0)
        if not before:
            if self.has_timed and key in self.timed[shard]:
                return self._decr_timed(self.timed[shard], key, by)
            return 0
        # Three look-ups took 150 instructions a request each, of 2 300.
        watched = self.watched and self.marks[(hashed >> MARK_SHIFT) & (MARKS - 1)] > 0
        if watched and self.queued and key in self.queues:
            return NOT_PLAIN
        after = before - by
        if after > 0:
            if after < _TABLED:
                table[key] = _OBJECTS[after]
            else:
                table[key] = after
            return after
        if watched and (key in self.held or key in self.awaited):
            return NOT_PLAIN
        if self.lazy:
            table[key] = 0
            self.zeros[shard] += 1
        else:
            del table[key]
        self._evicted += 1
        return 0

    def get(self, key: bytes) -> i64:
        """The value, or NOT_PLAIN."""
        hashed: i64 = hash(key)
        shard = (hashed >> SHARD_SHIFT) & self.mask
        value: i64 = self.tables[shard].get(key, 0)
        if not value and self.has_timed:
            packed = self.timed[shard].get(key, 0)
            if packed:
                return NOT_PLAIN if self._is_expired(packed) else packed >> DEADLINE_BITS
        return value

    def _incr_timed(self, timed: dict[bytes, int], key: bytes, by: i64) -> i64:
        """`incr` of a counter that has a time to live."""
        packed = timed[key]
        before: i64 = packed >> DEADLINE_BITS
        if by > PLAIN_MAX or before > PLAIN_MAX or self._is_expired(packed):
            return NOT_PLAIN
        amount: int = by  # shifted, it exceeds 64 bits
        timed[key] = packed + (amount << DEADLINE_BITS)
        return before + by

    def _decr_timed(self, timed: dict[bytes, int], key: bytes, by: i64) -> i64:
        """`decr` of a counter that has a time to live."""
        packed = timed[key]
        before: i64 = packed >> DEADLINE_BITS
        if before <= by or self._is_expired(packed) or (self.queued and key in self.queues):
            return NOT_PLAIN
        amount: int = by
        timed[key] = packed - (amount << DEADLINE_BITS)
        return before - by

    def _is_expired(self, packed: int) -> bool:
        return self.now_ms >= 0 and packed & DEADLINE_MASK <= self.now_ms


@final
class PlainApply:
    """A plain `apply`. Its items stay encoded until each is done, so there is no object for a key that waits for a
    later portion. (With a list of keys, those of 50 connections pushed each other out of the processor's cache
    between their portions: 2.0 to 2.8 million counters a second, where this makes 3.7 to 4.2 million: `apply` of
    1 000, four in flight, turns of 250.)"""

    def __init__(self, msgid: int, data: bytes, count: int, deltas_at: int, delta: int) -> None:
        """`data`: the keys, and from `deltas_at` on a delta for each, or `delta` for all; one of the two is 0."""
        self.msgid: int = msgid
        self.count: int = count
        self.done: i64 = 0  # items
        self._data: bytes = data
        self._at: i64 = 0  # the next key
        self._delta: i64 = delta
        self._delta_at: i64 = deltas_at  # the next delta

    def run(self, counters: HotCounters, stop: int, out: list[bytes]) -> None:
        """Do the next items up to number `stop`, and append their encoded values to `out`. Ends before the first item
        that is not plain."""
        data = self._data
        end: i64 = stop
        done: i64 = self.done
        at: i64 = self._at
        delta_at: i64 = self._delta_at
        each = delta_at > 0
        by: i64 = self._delta
        size: i64
        start: i64
        value: i64
        while done < end:
            size, start = _key(data, at)
            if each:
                by, delta_at = _delta(data, delta_at)
            if by > 0:
                value = counters.incr(data[start : start + size], by)
            else:
                value = counters.decr(data[start : start + size], -by)
            if value < 0:
                break
            if value < _TABLED:
                out.append(_VALUES[value])
            else:
                out.append(encode_value(value))
            at = start + size
            done += 1
            if each:
                self._delta_at = delta_at
        self._at = at
        self.done = done

    def take(self) -> tuple[bytes, int]:
        """The key and the delta of the next item, which is done with this."""
        data = self._data
        size: i64
        start: i64
        size, start = _key(data, self._at)
        by: i64 = self._delta
        if self._delta_at > 0:
            by, self._delta_at = _delta(data, self._delta_at)
        self._at = start + size
        self.done += 1
        return data[start : start + size], by

    def next_keys(self, count: int) -> list[bytes]:
        """The keys of the next items, up to `count` of them."""
        data = self._data
        keys: list[bytes] = []
        size: i64
        start: i64
        at: i64 = self._at
        for _ in range(min(count, self.count - self.done)):
            size, start = _key(data, at)
            at = start + size
            keys.append(data[start:at])
        return keys


@final
class Served:
    """The result of one call of `serve`."""

    def __init__(self) -> None:
        self.incrs: i64 = 0
        self.decrs: i64 = 0
        self.gets: i64 = 0
        self.apply: PlainApply | None = None  # the last request, if it is an `apply`: not executed
        self.leave_apply = False  # stop before it instead; its owner decides
        self.ack: i64 = -1  # how many replies the last message acknowledges, if it does: not noted yet; else -1
        # The beginning of the last reply with a msgid that is longer than a byte, and that msgid without its last
        # byte. A client counts its msgids up, so of 256 replies 255 begin alike. To encode each took 850
        # instructions of 2 850.
        self.beginning = b""
        self.upper: i64 = -1
        self.fault: BaseException | None = None  # what `serve` has failed with; a command may be half done


def serve(data: bytes, start: int, counters: HotCounters, out: list[bytes], served: Served, requests_max: int) -> int:
    """Serve plain requests from `data[start:]`, up to `requests_max`, and append their replies to `out`.

    Returns the offset of the first request that was not served. `served` says what was done. If it has an `apply` or
    an `ack`, that is the last message before the returned offset, and is still to be done. Without memory it returns
    -1, and `served` has the fault: to raise it here would need memory (`exhausted.py`).
    """
    served.incrs = 0
    served.decrs = 0
    served.gets = 0
    served.apply = None
    served.ack = -1
    end: i64 = len(data)
    at: i64 = start  # offset of the current request
    left: i64 = requests_max
    try:
        while left > 0 and end - at >= 8:
            if data[at] != 0x94 or data[at + 1] != 0:
                served.ack, at = _ack(data, at)
                break
            pos: i64 = at + 2  # offset of the next byte
            # The msgid.
            msgid: i64 = data[pos]
            if msgid < 0x80:
                pos += 1
            elif msgid == 0xCD:  # read here and not by a call: that spares 50 of 1 930 instructions
                high: i64 = data[pos + 1]
                msgid = high * 256 + data[pos + 2]
                pos += 3
            elif msgid == 0xCE:
                high = data[pos + 1]
                high = high * 256 + data[pos + 2]
                high = high * 256 + data[pos + 3]
                msgid = high * 256 + data[pos + 4]
                pos += 5
            else:
                msgid, pos = _unsigned(data, pos)
                if msgid < 0 or msgid > 0xFFFFFFFF:
                    break
            # The method: its length, then its letters.
            method: i64 = data[pos]
            letter: i64 = data[pos + 1]
            if method == 0xA4:
                if letter == 0x69:
                    if data[pos + 2] != 0x6E or data[pos + 3] != 0x63 or data[pos + 4] != 0x72:
                        break
                elif letter == 0x64:
                    if data[pos + 2] != 0x65 or data[pos + 3] != 0x63 or data[pos + 4] != 0x72:
                        break
                else:
                    break
                pos += 5
            elif method == 0xA3 and letter == 0x67:
                if data[pos + 2] != 0x65 or data[pos + 3] != 0x74:
                    break
                pos += 4
            elif method == 0xA5 and letter == 0x61:
                if served.leave_apply:
                    break
                served.apply, pos = _apply(data, msgid, pos + 1)
                if served.apply is not None:
                    at = pos
                break
            else:
                break
            # The key.
            params: i64 = data[pos]
            if params != 0x91 and (params != 0x92 or letter == 0x67):
                break
            size: i64 = data[pos + 1]
            if size >= 0xA0 and size < 0xC0:
                size -= 0xA0
                pos += 2
            elif size == 0xD9 or size == 0xC4:
                size = data[pos + 2]
                pos += 3
            elif size == 0xDA or size == 0xC5:
                high = data[pos + 2]
                size = high * 256 + data[pos + 3]
                pos += 4
            else:
                break
            if size <= 0 or size > KEY_BYTES_MAX or pos + size > end:
                break
            key = data[pos : pos + size]
            pos += size
            # The amount.
            by: i64 = 1
            if params == 0x92:
                by = data[pos]
                if by < 0x80:
                    pos += 1
                else:
                    by, pos = _unsigned(data, pos)
                if by <= 0:
                    break
            # The change.
            value: i64
            if letter == 0x69:
                value = counters.incr(key, by)
                if value < 0:
                    break
                served.incrs += 1
            elif letter == 0x64:
                value = counters.decr(key, by)
                if value < 0:
                    break
                served.decrs += 1
            else:
                value = counters.get(key)
                if value < 0:
                    break
                served.gets += 1
            # The reply.
            if msgid < _SHORT:
                out.append(_HEADS[msgid])
            else:
                if msgid >> 8 != served.upper:
                    served.beginning = head_of(msgid)[:-2]
                    served.upper = msgid >> 8
                out.append(served.beginning)
                out.append(_LAST[msgid & 0xFF])
            if value < _TABLED:
                out.append(_VALUES[value])
            else:
                out.append(encode_value(value))
            at = pos
            left -= 1
    except IndexError:  # the last request is not complete; raised before anything is changed for it
        pass
    except FATAL as fault:
        served.fault = fault
        return -1
    return at


def head_of(msgid: int) -> bytes:
    """A reply up to its result. The msgid is encoded in its shortest form."""
    if msgid < _SHORT:
        return _HEADS[msgid]
    if msgid < 0x100:
        return b"\x94\x01\xcc" + msgid.to_bytes(1, "big") + b"\xc0"
    if msgid < 0x10000:
        return b"\x94\x01\xcd" + msgid.to_bytes(2, "big") + b"\xc0"
    return b"\x94\x01\xce" + msgid.to_bytes(4, "big") + b"\xc0"


def encode_value(value: int) -> bytes:
    """A value of a counter, in its shortest encoding."""
    if value < _TABLED:
        return _VALUES[value]
    if value < 0x10000:
        return b"\xcd" + value.to_bytes(2, "big")
    if value < 0x100000000:
        return b"\xce" + value.to_bytes(4, "big")
    return b"\xcf" + value.to_bytes(8, "big")


def stored(value: int) -> Any:
    """The object that a table keeps for a value."""
    return _OBJECTS[value] if value < _TABLED else value + 0


def _unsigned(data: bytes, at: i64) -> tuple[i64, i64]:
    """Parse a non-negative integer of any width. Returns it and the offset behind it; -1 for anything else.

    Raises IndexError if the data ends before the integer does.
    """
    kind: i64 = data[at]
    if kind < 0x80:
        return kind, at + 1
    signed = kind >= 0xD0
    if signed:
        kind -= 4
    if kind < 0xCC or kind > 0xCF:
        return -1, at
    width: i64 = 1 << (kind - 0xCC)
    value: i64 = data[at + 1]
    if value >= 0x80 and (signed or width == 8):
        return -1, at  # negative, or above 2^63 - 1
    pos: i64 = at + 2
    stop: i64 = at + 1 + width
    while pos < stop:
        value = value * 256 + data[pos]
        pos += 1
    return value, pos


def _delta(data: bytes, at: i64) -> tuple[i64, i64]:
    """Parse a delta. Returns it and the offset behind it; 0 for anything else. Raises IndexError as `_unsigned`
    does."""
    kind: i64 = data[at]
    if kind < 0x80:
        return kind, at + 1
    if kind >= 0xE0:
        return kind - 0x100, at + 1
    value: i64 = 0
    if kind < 0xD0 or data[at + 1] < 0x80:
        value, at = _unsigned(data, at)
        return (0, at) if value < 0 else (value, at)
    if kind > 0xD3:
        return 0, at
    # A negative number is -1 minus its complement.
    width: i64 = 1 << (kind - 0xD0)
    pos: i64 = at + 1
    stop: i64 = pos + width
    while pos < stop:
        byte: i64 = data[pos]
        value = value * 256 + (0xFF - byte)
        pos += 1
    if value == VALUE_MAX:
        return 0, at  # -2^63, one beyond what a delta may be
    return -1 - value, pos


def _ack(data: bytes, at: i64) -> tuple[i64, i64]:
    """Parse the notification `ack` with a number. Returns it and the offset behind it; -1 for anything else."""
    if data[at] != 0x93 or data[at + 1] != 2 or data[at + 2] != 0xA3:
        return -1, at
    if data[at + 3] != 0x61 or data[at + 4] != 0x63 or data[at + 5] != 0x6B or data[at + 6] != 0x91:
        return -1, at
    received: i64
    pos: i64
    received, pos = _unsigned(data, at + 7)
    return (-1, at) if received < 0 else (received, pos)


def _apply(data: bytes, msgid: i64, at: i64) -> tuple[PlainApply | None, i64]:
    """Check an `apply` from the letters of its method on. Returns it and the offset behind it; None if it is not
    plain."""
    if data[at + 1] != 0x70 or data[at + 2] != 0x70 or data[at + 3] != 0x6C or data[at + 4] != 0x79:
        return None, at
    if data[at + 5] != 0x92:
        return None, at
    end: i64 = len(data)
    count: i64
    pos: i64
    count, pos = _array(data, at + 6)
    if count < 0:
        return None, at
    keys_at: i64 = pos
    size: i64
    for _ in range(count):
        size, pos = _key(data, pos)
        if size <= 0 or size > KEY_BYTES_MAX or pos + size > end:
            return None, at
        pos += size
    delta: i64
    kind: i64 = data[pos]
    if (kind >= 0x90 and kind < 0xA0) or kind == 0xDC:
        deltas_count: i64
        deltas_count, pos = _array(data, pos)
        if deltas_count != count:
            return None, at
        deltas_at: i64 = pos - keys_at
        for _ in range(count):
            delta, pos = _delta(data, pos)
            if delta == 0:
                return None, at
        return PlainApply(msgid, data[keys_at:pos], count, deltas_at, 0), pos
    delta, pos = _delta(data, pos)
    if delta == 0:
        return None, at
    return PlainApply(msgid, data[keys_at:pos], count, 0, delta), pos


def _key(data: bytes, at: i64) -> tuple[i64, i64]:
    """Parse the header of a key. Returns its length and the offset of its first byte; -1 for anything else."""
    size: i64 = data[at]
    if size >= 0xA0 and size < 0xC0:
        return size - 0xA0, at + 1
    if size == 0xD9 or size == 0xC4:
        return data[at + 1], at + 2
    if size == 0xDA or size == 0xC5:
        high: i64 = data[at + 1]
        return high * 256 + data[at + 2], at + 3
    return -1, at


def _array(data: bytes, at: i64) -> tuple[i64, i64]:
    """Parse the header of an array. Returns the number of items and the offset of the first; -1 for anything else."""
    kind: i64 = data[at]
    if kind >= 0x90 and kind < 0xA0:
        return kind - 0x90, at + 1
    if kind != 0xDC:
        return -1, at
    high: i64 = data[at + 1]
    count: i64 = high * 256 + data[at + 2]
    if count > BATCH_ITEMS_MAX:
        return -1, at
    return count, at + 3
