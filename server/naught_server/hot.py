"""The hot path: plain requests served from the bytes they arrive in, without msgpack. Sans-IO; compiled where
possible.

    at = hot.serve(data, at, counters, out, served, requests_max)

`serve` walks over a connection's input. A plain `incr`, `decr` or `get` changes the tables and appends its reply; no
object is made for it but its key. A plain `apply` is taken apart and handed back as a `Batch`. `serve` stops before
the first byte of a request that is not plain or not whole, having changed nothing for it: the protocol decodes that
one request with every check there is, and calls `serve` again for those behind it.

Plain is a request with the methods and parameters above in any encoding that MessagePack has for them. What is
special about a counter is asked per key, where it can matter:

- an increment that creates asks the bound of the cache;
- a decrement of a key with a queue, and one that evicts a counter with a deadline, a hold or a waiter, is not plain;
- a zero that lazy eviction left is an absent counter;
- while there are expired counters that could not all be taken out, the deadline of each touched key is looked at.

So one counter with a time to live, a hold or a waiter makes its own operations slower and no others.

This file is plain Python. mypyc compiles it where a C compiler is at hand (see `build_hooks/`); interpreted, it does
the same, several times slower. For that it keeps to what mypyc makes fast: native integers (`i64`) for offsets and
lengths, local variables, no closures or generators, no try inside of a loop, and no msgpack.

INCR and DECR exist here (`HotCounters`) and in `store.Cache`, nowhere else, and a differential test holds the two
together (tests/server/test_hot.py).
"""

from __future__ import annotations

from typing import TYPE_CHECKING, Final, final

from naught.wire.codec import encode
from naught.wire.limits import BATCH_ITEMS_MAX, KEY_BYTES_MAX, VALUE_MAX

if TYPE_CHECKING:
    from mypy_extensions import i64

_TABLED: Final = 1 << 14
"""Msgids and values below this are encoded beforehand: 2 MiB, and a look-up for each instead of an encoding."""

_HEADS: Final[list[bytes]] = [b"\x94\x01" + encode(msgid) + b"\xc0" for msgid in range(_TABLED)]
_VALUES: Final[list[bytes]] = [encode(value) for value in range(_TABLED)]

NOT_PLAIN: Final = -1
"""What `HotCounters` answers where it has changed nothing: the careful path has to do it."""


@final
class HotCounters:
    """The tables of one cache, as the hot path sees them. Made by the cache, which owns everything in it."""

    def __init__(
        self,
        tables: list[dict[bytes, int]],
        deadlines: list[dict[bytes, int]],
        zeros: list[int],
        watched: tuple[dict[bytes, object], dict[bytes, object], dict[bytes, object]],
        lazy: bool,
    ) -> None:
        self.tables: list[dict[bytes, int]] = tables  # by shard
        self.deadlines: list[dict[bytes, int]] = deadlines  # by shard
        self.zeros: list[int] = zeros  # by shard: raw entries that lazy eviction has left
        # By key: the waiters for room, the waiters for zero, the generations that are held.
        self.queues: dict[bytes, object] = watched[0]
        self.awaited: dict[bytes, object] = watched[1]
        self.held: dict[bytes, object] = watched[2]
        self.lazy: bool = lazy
        self.mask: int = len(tables) - 1
        # Set by `begin`, true until the tables are changed in another way:
        self.timed: bool = False  # some counters have a deadline
        self.queued: bool = False  # there are waiters for room
        self.watched: bool = False  # something depends on a counter becoming absent
        self.now_ms: int = -1  # while expired counters could not all be taken out: the time, else -1
        self.creations: i64 = 0  # how many more counters may surely be created: a lower bound
        self._evicted: i64 = 0  # counters evicted at zero and not counted by the cache yet

    def begin(self, timed: bool, now_ms: int) -> None:
        """Note what has to be asked per key, before a call of `serve`. `now_ms` is -1 where nothing has expired."""
        self.timed = timed
        self.queued = len(self.queues) > 0
        self.watched = self.queued or len(self.awaited) > 0 or len(self.held) > 0
        self.now_ms = now_ms

    def allow(self, creations: int) -> None:
        """So many counters may be created."""
        self.creations = creations

    def spend(self, creations: int) -> None:
        """So many were created, or are about to be, by somebody else."""
        self.creations -= creations

    def take_evicted(self) -> int:
        """How many counters were evicted since the last call."""
        evicted = self._evicted
        self._evicted = 0
        return evicted

    def incr(self, key: bytes, by: i64) -> i64:
        """Add `by`, at least 1, to a counter; the value after, or NOT_PLAIN."""
        shard = hash(key) & self.mask
        table = self.tables[shard]
        before: i64 = table.get(key, 0)
        if before > 0:
            if by > VALUE_MAX - before or (self.now_ms >= 0 and self._is_expired(shard, key)):
                return NOT_PLAIN
            after = before + by
            table[key] = after
            return after
        if self.creations <= 0:
            return NOT_PLAIN
        self.creations -= 1
        if self.lazy and key in table:
            self.zeros[shard] -= 1
        table[key] = by
        return by

    def decr(self, key: bytes, by: i64) -> i64:
        """Take `by`, at least 1, from a counter; the value after, or NOT_PLAIN."""
        shard = hash(key) & self.mask
        table = self.tables[shard]
        before: i64 = table.get(key, 0)
        if before <= 0:
            return 0
        if self.now_ms >= 0 and self._is_expired(shard, key):
            return NOT_PLAIN
        if self.queued and key in self.queues:
            return NOT_PLAIN
        after = before - by
        if after > 0:
            table[key] = after
            return after
        if self.timed and key in self.deadlines[shard]:
            return NOT_PLAIN
        if self.watched and (key in self.held or key in self.awaited):
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
        shard = hash(key) & self.mask
        value: i64 = self.tables[shard].get(key, 0)
        if value > 0 and self.now_ms >= 0 and self._is_expired(shard, key):
            return NOT_PLAIN
        return value

    def _is_expired(self, shard: int, key: bytes) -> bool:
        return self.deadlines[shard].get(key, self.now_ms + 1) <= self.now_ms


@final
class Plain:
    """A plain `apply`, taken apart."""

    def __init__(self, msgid: int, keys: list[bytes], deltas: list[int], delta: int) -> None:
        self.msgid: int = msgid
        self.keys: list[bytes] = keys
        self.deltas: list[int] = deltas  # one for each key; empty where there is one for all
        self.delta: int = delta  # for all keys; 0 where there is one for each


@final
class Served:
    """What one call of `serve` did."""

    def __init__(self) -> None:
        self.incrs: i64 = 0
        self.decrs: i64 = 0
        self.gets: i64 = 0
        self.apply: Plain | None = None  # the request at which it stopped, and which it has passed


def serve(data: bytes, start: int, counters: HotCounters, out: list[bytes], served: Served, requests_max: int) -> int:
    """Serve plain requests from `data[start:]`, up to `requests_max`. Their replies are appended to `out`.

    Returns where the first request begins that was not served. `served` says what was done; where it has an `apply`,
    that request is the last before the returned offset, and its items are still to be done.
    """
    served.incrs = 0
    served.decrs = 0
    served.gets = 0
    served.apply = None
    end: i64 = len(data)
    at: i64 = start  # where the request at hand begins
    left: i64 = requests_max
    try:
        while left > 0 and end - at >= 9:
            if data[at] != 0x94 or data[at + 1] != 0:
                break
            pos: i64 = at + 2  # of the next byte to read
            # The msgid.
            msgid: i64 = data[pos]
            if msgid < 0x80:
                pos += 1
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
                high: i64 = data[pos + 2]
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
            if msgid < _TABLED:
                out.append(_HEADS[msgid])
            else:
                out.append(head_of(msgid))
            if value < _TABLED:
                out.append(_VALUES[value])
            else:
                out.append(encode_value(value))
            at = pos
            left -= 1
    except IndexError:  # the request at hand ends beyond the data; raised before anything is changed for it
        pass
    return at


def head_of(msgid: int) -> bytes:
    """A reply up to its result, as the shortest encoding of the msgid has it."""
    if msgid < _TABLED:
        return _HEADS[msgid]
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


def _unsigned(data: bytes, at: i64) -> tuple[i64, i64]:
    """An integer of 0 or more at an offset, in whatever width, and where it ends. -1 for anything else.

    Raises IndexError where the data ends before it.
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
    """A delta at an offset, and where it ends; 0 for anything that is none. Raises IndexError as `_unsigned` does."""
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
    # A negative number: what its complement counts down from -1.
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


def _apply(data: bytes, msgid: i64, at: i64) -> tuple[Plain | None, i64]:
    """The `apply` whose method's letters begin at an offset, and where it ends; None where it is not plain."""
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
    keys: list[bytes] = []
    for _ in range(count):
        size: i64 = data[pos]
        if size >= 0xA0 and size < 0xC0:
            size -= 0xA0
            pos += 1
        elif size == 0xD9 or size == 0xC4:
            size = data[pos + 1]
            pos += 2
        elif size == 0xDA or size == 0xC5:
            high: i64 = data[pos + 1]
            size = high * 256 + data[pos + 2]
            pos += 3
        else:
            return None, at
        if size <= 0 or size > KEY_BYTES_MAX or pos + size > end:
            return None, at
        keys.append(data[pos : pos + size])
        pos += size
    deltas: list[int] = []
    delta: i64
    kind: i64 = data[pos]
    if (kind >= 0x90 and kind < 0xA0) or kind == 0xDC:
        deltas_count: i64
        deltas_count, pos = _array(data, pos)
        if deltas_count != count:
            return None, at
        for _ in range(count):
            delta, pos = _delta(data, pos)
            if delta == 0:
                return None, at
            deltas.append(delta)
        return Plain(msgid, keys, deltas, 0), pos
    delta, pos = _delta(data, pos)
    if delta == 0:
        return None, at
    return Plain(msgid, keys, deltas, delta), pos


def _array(data: bytes, at: i64) -> tuple[i64, i64]:
    """How many items an array at an offset declares, and where the first begins; -1 for none, or too many."""
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


def apply_items(
    counters: HotCounters, keys: list[bytes], deltas: list[int], delta: int, start: int, stop: int, out: list[bytes]
) -> int:
    """Do items `start` to `stop` of an `apply`, their encoded values after appended to `out`, up to the first that is
    not plain. Returns its index, or `stop`.
    """
    index: i64 = start
    end: i64 = stop
    by: i64 = delta
    each = by == 0
    value: i64
    while index < end:
        key = keys[index]
        if each:
            by = deltas[index]
        if by > 0:
            value = counters.incr(key, by)
        else:
            value = counters.decr(key, -by)
        if value < 0:
            break
        if value < _TABLED:
            out.append(_VALUES[value])
        else:
            out.append(encode_value(value))
        index += 1
    return index
