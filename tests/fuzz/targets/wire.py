"""Any bytes are messages, the beginning of one, or one error, the same however they are cut; they pin at most 1 MiB.

Where plain msgpack decodes them too, it decodes the same.
"""

from __future__ import annotations

import random
import zlib

from fuzz.fuzz_wire import cuts_of, decode, reference


def one(data: bytes) -> None:
    """Try one input."""
    expected = decode([data])
    for pieces in cuts_of(data, random.Random(zlib.crc32(data))):
        assert decode(pieces) == expected
    messages, _ = reference(data)
    assert expected[0] == messages[: len(expected[0])]
