"""Histograms as text, in the format that all HdrHistogram libraries read: V2, compressed, base64.

The layout of our buckets is HdrHistogram's own for 1 to 2**43 - 1 at three significant digits (see `histogram`), so
the counts are written as they are and any HdrHistogram library decodes them to the same counts. A text of two
hundred different latencies takes about half a kilobyte.

What is encoded, all numbers big endian:

    outside   int32 cookie, int32 length, then the inside compressed by zlib
    inside    int32 cookie, int32 length of the counts, int32 0, int32 digits, int64 lowest, int64 highest,
              double 1.0, then the counts, each a zigzag LEB128 number; a negative one stands for as many empty
              buckets

Pure: no clock, no input or output.
"""

from __future__ import annotations

import base64
import binascii
import struct
import zlib
from collections.abc import Mapping

from naught_loadtest.measure.histogram import BUCKETS, VALUE_NS_MAX

INSIDE_COOKIE = 0x1C849303 | 0x10
OUTSIDE_COOKIE = 0x1C849304 | 0x10
DIGITS = 3
LOWEST = 1
_INSIDE = struct.Struct(">iiiiqqd")
_OUTSIDE = struct.Struct(">ii")
# More than the counts of every bucket can take. A text that says more is not decompressed further.
INSIDE_BYTES_MAX = _INSIDE.size + 9 * BUCKETS


def encode(counts: Mapping[int, int]) -> str:
    """The text of a histogram: `counts` has the count of each bucket that has one."""
    body = bytearray()
    following = 0
    for bucket in sorted(counts):
        count = counts[bucket]
        if count <= 0:
            continue
        if bucket > following:
            _append(body, following - bucket)
        _append(body, count)
        following = bucket + 1
    inside = _INSIDE.pack(INSIDE_COOKIE, len(body), 0, DIGITS, LOWEST, VALUE_NS_MAX, 1.0) + body
    packed = zlib.compress(inside)
    return base64.b64encode(_OUTSIDE.pack(OUTSIDE_COOKIE, len(packed)) + packed).decode("ascii")


def decode(text: str) -> dict[int, int]:
    """The counts of a text by bucket, without empty buckets. ValueError when it is not such a text."""
    try:
        outside = base64.b64decode(text, validate=True)
        cookie, length = _OUTSIDE.unpack_from(outside)
        if cookie != OUTSIDE_COOKIE or len(outside) != _OUTSIDE.size + length:
            raise ValueError("it is not a compressed histogram of version 2")
        inside = zlib.decompressobj().decompress(outside[_OUTSIDE.size :], INSIDE_BYTES_MAX)
        cookie, length, offset, digits, lowest, highest, ratio = _INSIDE.unpack_from(inside)
    except (binascii.Error, struct.error, zlib.error) as error:
        raise ValueError(f"it is not a histogram: {error}") from None
    if (cookie, offset, digits, lowest, ratio) != (INSIDE_COOKIE, 0, DIGITS, LOWEST, 1.0) or highest > VALUE_NS_MAX:
        raise ValueError("it is a histogram of another layout than three digits from 1 ns on")
    if len(inside) != _INSIDE.size + length:
        raise ValueError("its counts are cut short")
    return _counts(inside[_INSIDE.size :])


def _counts(body: bytes) -> dict[int, int]:
    counts: dict[int, int] = {}
    bucket = place = 0
    while place < len(body):
        value, place = _read(body, place)
        if value < 0:
            bucket -= value
            continue
        if bucket >= BUCKETS:
            raise ValueError("it has more buckets than the layout")
        if value:
            counts[bucket] = value
        bucket += 1
    return counts


def _append(body: bytearray, value: int) -> None:
    """Append a number of 63 bits and its sign: seven bits a byte, and the ninth byte has eight."""
    rest = value << 1 if value >= 0 else (-value << 1) - 1
    for _ in range(8):
        if rest < 0x80:
            break
        body.append(rest & 0x7F | 0x80)
        rest >>= 7
    body.append(rest)


def _read(body: bytes, place: int) -> tuple[int, int]:
    """(the number at this place, the place behind it)."""
    rest = 0
    for number in range(9):
        if place >= len(body):
            raise ValueError("its last count is cut short")
        byte = body[place]
        place += 1
        if number == 8:
            rest |= byte << 56
            break
        rest |= (byte & 0x7F) << 7 * number
        if byte < 0x80:
            break
    return (rest >> 1) ^ -(rest & 1), place
