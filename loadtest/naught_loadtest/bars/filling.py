"""Filling a server with counters and draining it again, for the bars of memory, growth and the drain.

The code is blocking and simple: it is not measured itself. The bars measure the server's memory, or the latency of
other clients meanwhile. Keys have sixteen bytes, as in all bars.
"""

from __future__ import annotations

import itertools
import random
from collections.abc import Iterator

from naught_loadtest.drivers.base import Inspector, failure_in
from naught_loadtest.drivers.naught import request
from naught_loadtest.drivers.probe import Probe
from naught_loadtest.drivers.redis import RedisDriver
from naught_loadtest.generate.workload import key_name

# Counters created by one request (naught) or one pipeline (Redis).
PORTION = 4000
# Values above 256, for which Python has no object made in advance, so each value takes memory of its own.
LARGE = range(1 << 20, 1 << 30)
# Counters decremented by one request.
DRAIN_PORTION = 1000


class Filler:
    """Creates counters of one prefix on a naught server."""

    def __init__(self, probe: Probe, prefix: str, *, large: bool = False, ttl_ms: int | None = None) -> None:
        self._probe = probe
        self._prefix = prefix
        # Whether values come from `LARGE`; otherwise each is 1.
        self._large = large
        # The counters' time to live; None for no limit.
        self._ttl_ms = ttl_ms
        # Draws the large values.
        self._source = random.Random(prefix)
        # How many counters exist now.
        self.filled = 0

    def fill_to(self, count: int) -> None:
        """Create counters until there are `count`, in the order of their numbers."""
        while self.filled < count:
            end = min(count, self.filled + PORTION)
            names = [key_name(self._prefix, number) for number in range(self.filled, end)]
            # All values differ, as those of real counters do. One shared object would make memory look smaller.
            deltas = self._source.sample(LARGE, len(names)) if self._large else 1
            params = [names, deltas] if self._ttl_ms is None else [names, deltas, self._ttl_ms]
            _check(self._probe.ask(request("apply", *params)))
            self.filled = end


class RedisFiller:
    """Creates counters of one prefix on a Redis server, by pipelined INCR."""

    def __init__(self, probe: Probe, prefix: str) -> None:
        self._probe = probe
        self._prefix = prefix
        self._driver = RedisDriver()
        # How many counters exist now.
        self.filled = 0

    def fill_to(self, count: int) -> None:
        """Create counters until there are `count`, in the order of their numbers."""
        while self.filled < count:
            end = min(count, self.filled + PORTION)
            names = (key_name(self._prefix, number) for number in range(self.filled, end))
            requests = b"".join(self._driver.single(0, name, 1) for name in names)
            _check(self._probe.ask(requests, end - self.filled))
            self.filled = end

    def remove(self, inspector: Inspector) -> None:
        """Delete all these counters by an inspector of the same server."""
        for start in range(0, self.filled, PORTION):
            end = min(self.filled, start + PORTION)
            inspector.remove([key_name(self._prefix, number) for number in range(start, end)])
        self.filled = 0


def drain_requests(prefix: str, count: int, keep_every: int = 0) -> Iterator[tuple[bytes, int]]:
    """Pairs (request, counters) that take counters with the value 1 to zero, up to a thousand with each `apply`.

    With `keep_every`, each counter whose number is a multiple of it stays.
    """
    numbers = (number for number in range(count) if not keep_every or number % keep_every)
    while True:
        names = [key_name(prefix, number) for number in itertools.islice(numbers, DRAIN_PORTION)]
        if not names:
            return
        yield request("apply", names, -1), len(names)


def drain(probe: Probe, prefix: str, count: int, keep_every: int = 0) -> None:
    """Send all of `drain_requests`, each as soon as the one before is answered."""
    for message, _ in drain_requests(prefix, count, keep_every):
        _check(probe.ask(message))


def _check(replies: list[object]) -> None:
    for reply in replies:
        failure = failure_in(reply)
        if failure is not None:
            raise RuntimeError(f"the server answers {failure.kind}: {failure.message}")
