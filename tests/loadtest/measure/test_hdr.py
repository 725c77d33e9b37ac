"""The text of a histogram: what is decoded is what was encoded, and HdrHistogram's own library reads the same."""

from __future__ import annotations

import base64
import random
import struct
import zlib

import pytest
from hdrh.histogram import HdrHistogram  # type: ignore[import-untyped]

from naught_loadtest.measure import hdr
from naught_loadtest.measure.histogram import BUCKETS, VALUE_NS_MAX, Histogram

SEED = 19


def filled(values: list[int]) -> tuple[Histogram, dict[int, int]]:
    histogram = Histogram()
    for value in values:
        histogram.record(value)
    return histogram, {bucket: count for bucket, count in enumerate(histogram.counts) if count}


def latencies(source: random.Random) -> list[int]:
    return [int(source.lognormvariate(13, 1.5)) for _ in range(5_000)]


VALUES = {
    "nothing": [],
    "one": [1_234_567],
    "zero": [0, 0, 1],
    "the ends": [0, 1, 2047, 2048, VALUE_NS_MAX],
    "latencies": latencies(random.Random(SEED)),
}


@pytest.mark.parametrize("name", VALUES)
def test_what_is_decoded_is_what_was_encoded(name: str) -> None:
    _, counts = filled(VALUES[name])
    assert hdr.decode(hdr.encode(counts)) == counts


def test_counts_of_any_size_are_kept() -> None:
    counts = {7 * shift: (1 << shift) + 5 for shift in range(1, 62)}
    assert hdr.decode(hdr.encode(counts)) == counts


@pytest.mark.parametrize("name", ["one", "the ends", "latencies"])
def test_hdrhistogram_reads_the_same_counts_and_percentiles(name: str) -> None:
    histogram, counts = filled(VALUES[name])
    theirs = HdrHistogram.decode(hdr.encode(counts))
    assert theirs.get_total_count() == histogram.total
    for percent in (0.1, 50, 90, 99, 99.9, 100):
        # Ours is never more than the largest value; theirs is the highest value of its bucket.
        assert min(theirs.get_value_at_percentile(percent), histogram.max_ns) == histogram.percentile(percent)


@pytest.mark.parametrize("name", ["one", "the ends", "latencies"])
def test_what_hdrhistogram_writes_is_read(name: str) -> None:
    theirs = HdrHistogram(1, VALUE_NS_MAX, 3)
    for value in VALUES[name]:
        theirs.record_value(value)
    _, counts = filled(VALUES[name])
    assert hdr.decode(theirs.encode().decode()) == counts


def outside(inside: bytes) -> str:
    packed = zlib.compress(inside)
    return base64.b64encode(struct.pack(">ii", hdr.OUTSIDE_COOKIE, len(packed)) + packed).decode()


def inside(body: bytes, *, cookie: int = hdr.INSIDE_COOKIE, digits: int = 3, length: int | None = None) -> bytes:
    size = len(body) if length is None else length
    return struct.pack(">iiiiqqd", cookie, size, 0, digits, 1, VALUE_NS_MAX, 1.0) + body


WRONG = {
    "empty": "",
    "no base64": "latency: 7 ms!",
    "too short": base64.b64encode(b"abc").decode(),
    "another cookie": base64.b64encode(b"\0" * 40).decode(),
    "no zlib": base64.b64encode(struct.pack(">ii", hdr.OUTSIDE_COOKIE, 4) + b"abcd").decode(),
    "another layout": outside(inside(b"\x02", digits=2)),
    "another version": outside(inside(b"\x02", cookie=hdr.INSIDE_COOKIE + 1)),
    "cut": outside(inside(b"\x02", length=9)),
    "cut in a number": outside(inside(b"\x80")),
    "too many buckets": outside(inside(b"\x02" * (BUCKETS + 1))),
    "a bomb": outside(b"\0" * 50_000_000),
}


@pytest.mark.parametrize("name", WRONG)
def test_what_is_no_histogram_is_refused(name: str) -> None:
    with pytest.raises(ValueError, match=r"\bit\b|\bits\b"):
        hdr.decode(WRONG[name])
