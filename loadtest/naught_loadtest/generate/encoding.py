"""A connection's script as bytes, encoded once, before anything is measured.

In a closed loop a connection sends *blocks*: the requests of one pipeline, joined. Where the script knows the value
that each step must answer, and the driver knows how the server encodes it, a block also has its whole reply.
Receiving the reply is then one comparison of bytes, which checks every value in it.

Pure: no clock, no input or output.
"""

from __future__ import annotations

import itertools
from collections.abc import Iterator
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


class EncodedScript:
    """One connection's requests, in the order sent. After the last one comes the first one again.

    Connections that share a script share this object: nothing here changes.
    """

    def __init__(
        self,
        driver: Driver,
        script: Script,
        requests: list[bytes],
        replies: list[bytes | None] | None,
        cycle: ReplyCycle | None,
    ) -> None:
        self.requests = requests
        # The right reply to each request, None where its bytes are not known beforehand. None for the whole script
        # if no value is known.
        self.replies = replies
        # How many counters each request changes or reads.
        self.operations = script.sizes * (len(requests) // len(script.sizes))
        # Which request a reply belongs to; None where each request gets one reply.
        self.cycle = cycle
        # Requests in a cycle, and in the script itself, which the cycle may have several times.
        self.length = len(requests)
        self.script_length = len(script.sizes)
        self._script = script
        # Where the steps of each request of the script begin, and the end of the last.
        self._starts = [0, *itertools.accumulate(script.sizes)]
        self.step_count = len(script.keys)
        # Whether one connection owns the keys and so knows all values.
        self.known = replies is not None or (script.owned and script.values is None)
        # The lower two bytes of the ids of a whole cycle.
        numbers = [driver.id_of(number) for number in range(self.length)]
        self._ids = b"".join(((number or 0) & 0xFFFF).to_bytes(2, "big") for number in numbers)
        # By pipeline depth.
        self._blocks: dict[int, list[Block]] = {}

    def acknowledge_every(self, driver: Driver) -> int:
        """After how many replies the next acknowledgement is due: sooner where replies are long. 0 for never."""
        return driver.acknowledge_every and max(1, driver.acknowledge_every // max(self.operations))

    def ids_of(self, request: int, count: int) -> bytes:
        """The lower two bytes of the ids of `count` requests from this number on."""
        start = request % self.length
        if start + count <= self.length:
            return self._ids[2 * start : 2 * (start + count)]
        return (self._ids[2 * start :] + self._ids * (count // self.length + 1))[: 2 * count]

    def steps(self, request: int) -> list[tuple[int, int]]:
        """The steps (key, delta) of the request with this number, over all cycles."""
        start, end = self._span(request)
        return list(zip(self._script.keys[start:end], self._script.deltas[start:end], strict=True))

    @property
    def all_steps(self) -> Iterator[tuple[int, int]]:
        """The steps (key, delta) of the script."""
        return zip(self._script.keys, self._script.deltas, strict=True)

    def first_step(self, request: int) -> int:
        """The index of the first step of a request."""
        return self._span(request)[0]

    def tail(self, requests: int, most: int) -> int:
        """How many more requests, up to `most`, leave the most on the counters after this many."""
        left = sum(self._script.remaining(requests).values())
        best, tail = left, 0
        for number in range(1, most + 1):
            left += sum(delta for _, delta in self.steps(requests + number - 1))
            if left > best:
                best, tail = left, number
        return tail

    def values(self, request: int) -> list[int] | None:
        """The values that these steps must answer. None where the script does not know them."""
        start, end = self._span(request)
        return None if self._script.values is None else self._script.values[start:end]

    def remaining(self, requests: int) -> dict[int, int]:
        """The sum of the deltas on each key after this many requests, without keys whose sum is 0."""
        return self._script.remaining(requests)

    def _span(self, request: int) -> tuple[int, int]:
        index = request % self.script_length
        return self._starts[index], self._starts[index + 1]

    def blocks(self, depth: int) -> list[Block]:
        """The cycle cut into pipelines of `depth` requests. The last one may be shorter."""
        if depth not in self._blocks:
            self._blocks[depth] = list(self._cut(depth))
        return self._blocks[depth]

    def _cut(self, depth: int) -> Iterator[Block]:
        for start in range(0, self.length, depth):
            end = min(start + depth, self.length)
            replies = (
                [] if self.replies is None else [reply for reply in self.replies[start:end] if reply is not None]
            )
            reply = b"".join(replies) if len(replies) == end - start else None
            yield Block(b"".join(self.requests[start:end]), reply, end - start, sum(self.operations[start:end]))


def encode(
    driver: Driver,
    script: Script,
    prefix: str,
    requests_min: int = CYCLE_REQUESTS_MIN,
    *,
    bytes_max: int | None = None,
    pipeline: int = 1,
) -> EncodedScript:
    """The script as requests of this driver, its cycle repeated until there are at least `requests_min`.

    It is repeated less often where it would become longer than `bytes_max`, but not below one `pipeline`, in which
    no message id may come twice.
    """
    once: list[tuple[bytes, bytes | None]] = []
    counts: list[int] = []
    names = {key: key_name(prefix, key) for key in set(script.keys)}
    for number, (start, end) in enumerate(script.requests()):
        keys = [names[key] for key in script.keys[start:end]]
        deltas = script.deltas[start:end]
        values = script.values[start:end] if script.values is not None else None
        once.append(_encode_one(driver, number, keys, deltas, values))
        counts.append(driver.replies_to(deltas[0]) if len(keys) == 1 else 1)
    repeats = max(1, -(-requests_min // len(once)))
    if bytes_max is not None:
        repeats = min(repeats, bytes_max // sum(len(request) for request, _ in once))
        repeats = max(repeats, -(-pipeline // len(once)))
    requests = [request for request, _ in once]
    replies = [reply for _, reply in once]
    for turn in range(1, repeats):
        first = turn * len(once)
        requests += [driver.renumbered(request, first + number) for number, (request, _) in enumerate(once)]
        replies += [reply and driver.renumbered(reply, first + number) for number, (_, reply) in enumerate(once)]
    if driver.echoes:
        replies = list(requests)
    known = driver.echoes or script.values is not None
    cycle = ReplyCycle(counts * repeats) if max(counts) > 1 else None
    return EncodedScript(driver, script, requests, replies if known else None, cycle)


def _encode_one(
    driver: Driver, number: int, keys: list[str], deltas: list[int], values: list[int] | None
) -> tuple[bytes, bytes | None]:
    """One request, and the right reply to it; None where that is not known beforehand."""
    if len(keys) == 1:
        reply = None if values is None else driver.single_reply(number, deltas[0], values[0])
        return driver.single(number, keys[0], deltas[0]), reply
    assert isinstance(driver, BatchDriver), "`script_for` flattens scripts for other drivers"
    return driver.many(number, keys, deltas), None if values is None else driver.many_reply(number, values)


def script_for(driver: Driver, script: Script) -> Script:
    """The script as this driver can send it: only a `BatchDriver` has requests of several steps."""
    return script if isinstance(driver, BatchDriver) else script.flattened()
