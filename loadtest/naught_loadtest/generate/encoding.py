"""A connection's script as bytes, encoded once, before anything is measured.

In a closed loop a connection sends *blocks*: the requests of one pipeline, joined. Where the script knows the value
that each step must answer, and the driver knows how the server encodes it, a block also has its whole reply.
Receiving the reply is then one comparison of bytes, which checks every value in it.

Pure: no clock, no input or output.
"""

from __future__ import annotations

import itertools
from dataclasses import dataclass

from naught_loadtest.drivers.base import BatchDriver, Driver, ReplyCycle
from naught_loadtest.generate.workload import Script, key_name

# A shorter script is repeated until its cycle has this many requests, so that a message id comes again only after
# that many others.
CYCLE_REQUESTS_MIN = 1024


@dataclass(frozen=True, slots=True)
class Block:
    """The requests that a closed loop writes at once."""

    # The requests, joined.
    request: bytes
    # The right replies, joined; None where they are not known beforehand.
    reply: bytes | None
    # How many requests are answered by these replies.
    requests: int
    # How many counters the requests change or read: more than `requests` if they carry batches.
    operations: int


@dataclass(frozen=True, slots=True)
class EncodedScript:
    """One connection's requests, in the order sent. After the last one comes the first one again."""

    requests: list[bytes]
    # The right reply to each request; None for the whole script if one of them is not known beforehand.
    replies: list[bytes] | None
    # How many counters each request changes or reads.
    operations: list[int]
    # Which request a reply belongs to; None where each request gets one reply.
    cycle: ReplyCycle | None = None

    def acknowledge_every(self, driver: Driver) -> int:
        """After how many replies the next acknowledgement is due: sooner where replies are long. 0 for never."""
        return driver.acknowledge_every and max(1, driver.acknowledge_every // max(self.operations))

    def blocks(self, depth: int) -> list[Block]:
        """The cycle cut into pipelines of `depth` requests. The last one may be shorter."""
        result = []
        for start in range(0, len(self.requests), depth):
            end = min(start + depth, len(self.requests))
            reply = None if self.replies is None else b"".join(self.replies[start:end])
            request = b"".join(self.requests[start:end])
            result.append(Block(request, reply, end - start, sum(self.operations[start:end])))
        return result


def encode(driver: Driver, script: Script, prefix: str, requests_min: int = CYCLE_REQUESTS_MIN) -> EncodedScript:
    """The script as requests of this driver, its cycle repeated until there are at least `requests_min`."""
    repeats = max(1, -(-requests_min // len(script.sizes)))
    requests: list[bytes] = []
    replies: list[bytes | None] = []
    reply_counts: list[int] = []
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
                reply_counts.append(driver.replies_to(delta))
            else:
                assert isinstance(driver, BatchDriver), "`script_for` flattens scripts for other drivers"
                names = [key_name(prefix, key) for key in script.keys[start:end]]
                requests.append(driver.many(number, names, script.deltas[start:end]))
                replies.append(None if values is None else driver.many_reply(number, values))
                reply_counts.append(1)
    known = [reply for reply in replies if reply is not None]
    return EncodedScript(
        requests,
        known if len(known) == len(replies) else None,
        script.sizes * repeats,
        ReplyCycle(reply_counts) if max(reply_counts) > 1 else None,
    )


def script_for(driver: Driver, script: Script) -> Script:
    """The script as this driver can send it: only a `BatchDriver` has requests of several steps."""
    return script if isinstance(driver, BatchDriver) else script.flattened()
