"""Whatever a client sends, the server answers each request once at most, stays consistent, and logs no fault.

Replies and counters are the same however the bytes are cut.
"""

from __future__ import annotations

import random
import zlib

from fuzz.fuzz_wire import FAULTS, check_replies, comparable, cuts_of, outcome_of, requests_of


def one(data: bytes) -> None:
    """Try one input."""
    eviction = "lazy" if zlib.crc32(data) % 2 else "eager"
    FAULTS.found.clear()
    replies, closed, counters = outcome_of([data], eviction)
    counts, timed = requests_of(data)
    check_replies(replies, counts)
    for pieces in cuts_of(data, random.Random(zlib.crc32(data)))[:2]:
        others, also_closed, also_counters = outcome_of(pieces, eviction)
        assert (also_closed, also_counters) == (closed, counters)
        assert comparable(others, timed) == comparable(replies, timed)
    assert not FAULTS.found, FAULTS.found[0]
