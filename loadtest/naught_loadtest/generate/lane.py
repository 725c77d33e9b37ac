"""A connection's script as bytes: encoded once, before the clock starts.

In a closed loop a connection sends *blocks*: the requests of one pipeline, joined. Where the script knows
what each step must answer, and the driver knows how the server writes it, a block also has its reply, and
receiving it is one comparison of bytes that checks every value in it.

Pure: no clock, no input or output.
"""

from __future__ import annotations

import itertools
from dataclasses import dataclass

from naught_loadtest.drivers.base import BatchDriver, Driver
from naught_loadtest.generate.workload import Script, key_name

# Blocks shorter than this are repeated until a cycle has as many requests; a message id then comes again
# only after that many others.
CYCLE_REQUESTS_MIN = 1024


@dataclass(frozen=True, slots=True)
class Block:
    """What is written at once in a closed loop."""

    # The requests, joined.
    request: bytes
    # What the server must answer, joined, or None where it cannot be known beforehand.
    reply: bytes | None
    # Replies that are due.
    requests: int
    # Counters the requests change or read: more than `requests` where batches travel.
    operations: int


@dataclass(frozen=True, slots=True)
class Lane:
    """One connection's requests, in the order sent, to be repeated."""

    requests: list[bytes]
    # The right replies, None for the whole lane where one of them is uncertain.
    replies: list[bytes] | None
    # Operations of each request.
    operations: list[int]

    def blocks(self, depth: int) -> list[Block]:
        """The cycle cut into pipelines of `depth` requests; the last one may be shorter."""
        result = []
        for start in range(0, len(self.requests), depth):
            end = min(start + depth, len(self.requests))
            reply = None if self.replies is None else b"".join(self.replies[start:end])
            request = b"".join(self.requests[start:end])
            result.append(Block(request, reply, end - start, sum(self.operations[start:end])))
        return result


def encode(driver: Driver, script: Script, prefix: str, requests_min: int = CYCLE_REQUESTS_MIN) -> Lane:
    """The script as this driver's requests, its cycle repeated until there are `requests_min`."""
    repeats = max(1, -(-requests_min // len(script.sizes)))
    requests: list[bytes] = []
    replies: list[bytes | None] = []
    numbers = itertools.count()
    spans = list(script.requests())
    for _ in range(repeats):
        for start, end in spans:
            number = next(numbers)
            values = script.values[start:end] if script.values is not None else None
            if end - start == 1:
                delta = script.deltas[start]
                requests.append(driver.single(number, key_name(prefix, script.keys[start]), delta))
                replies.append(None if values is None else driver.single_reply(number, delta, values[0]))
            else:
                assert isinstance(driver, BatchDriver), "`script_for` leaves others no batches"
                names = [key_name(prefix, key) for key in script.keys[start:end]]
                requests.append(driver.many(number, names, script.deltas[start:end]))
                replies.append(None if values is None else driver.many_reply(number, values))
    certain = [reply for reply in replies if reply is not None]
    return Lane(
        requests,
        certain if len(certain) == len(replies) else None,
        script.sizes * repeats,
    )


def script_for(driver: Driver, script: Script) -> Script:
    """The script as this driver can send it: step by step where it has no command for many."""
    return script if isinstance(driver, BatchDriver) else script.flattened()
