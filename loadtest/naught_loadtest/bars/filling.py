"""Putting a million counters into a server, and taking them out again: for the bars of memory.

Blocking and plain; what is measured here is the server's memory and its other callers' latency, not this. Keys
have sixteen bytes, as in all bars.
"""

from __future__ import annotations

import itertools
import random
from collections.abc import Iterator

from naught_loadtest.drivers.base import failure_in
from naught_loadtest.drivers.naught import request
from naught_loadtest.drivers.probe import Probe
from naught_loadtest.drivers.redis import RedisDriver
from naught_loadtest.generate.workload import key_name

PORTION = 4000
# Values of the counters that are to be too large for Python's ready-made small integers.
LARGE = range(1 << 20, 1 << 30)
DRAIN_PORTION = 1000


class Filler:
    """Adds counters of one prefix to a server."""

    def __init__(self, probe: Probe, prefix: str, *, large: bool = False, ttl_ms: int | None = None) -> None:
        self._probe = probe
        self._prefix = prefix
        self._large = large
        self._ttl_ms = ttl_ms
        self._source = random.Random(prefix)
        # How many there are by now.
        self.filled = 0

    def fill_to(self, count: int) -> None:
        """Add counters until there are `count`, in the order of their numbers."""
        while self.filled < count:
            end = min(count, self.filled + PORTION)
            names = [key_name(self._prefix, number) for number in range(self.filled, end)]
            # Values differ one from another, as those of real counters do: one shared object would flatter.
            deltas = self._source.sample(LARGE, len(names)) if self._large else 1
            params = [names, deltas] if self._ttl_ms is None else [names, deltas, self._ttl_ms]
            _check(self._probe.ask(request("apply", *params)))
            self.filled = end


class RedisFiller:
    """The same for Redis, by pipelined INCRBY."""

    def __init__(self, probe: Probe, prefix: str) -> None:
        self._probe = probe
        self._prefix = prefix
        self._driver = RedisDriver()
        self.filled = 0

    def fill_to(self, count: int) -> None:
        while self.filled < count:
            end = min(count, self.filled + PORTION)
            names = (key_name(self._prefix, number) for number in range(self.filled, end))
            requests = b"".join(self._driver.single(0, name, 1) for name in names)
            _check(self._probe.ask(requests, end - self.filled))
            self.filled = end


def drain_requests(prefix: str, count: int, keep_every: int = 0) -> Iterator[tuple[bytes, int]]:
    """(request, counters) that take counters with the value 1 to zero, a thousand an `apply`.

    With `keep_every`, each counter whose number is a multiple of it stays.
    """
    numbers = (number for number in range(count) if not keep_every or number % keep_every)
    while True:
        names = [key_name(prefix, number) for number in itertools.islice(numbers, DRAIN_PORTION)]
        if not names:
            return
        yield request("apply", names, -1), len(names)


def drain(probe: Probe, prefix: str, count: int, keep_every: int = 0) -> None:
    """All of it, as fast as it goes."""
    for message, _ in drain_requests(prefix, count, keep_every):
        _check(probe.ask(message))


def _check(replies: list[object]) -> None:
    for reply in replies:
        failure = failure_in(reply)
        if failure is not None:
            raise RuntimeError(f"the server answers {failure.kind}: {failure.message}")
