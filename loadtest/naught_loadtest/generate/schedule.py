"""When each request of an open-loop run is due.

In an open loop requests are due at moments that do not depend on the answers, as for a server with many independent
callers. *constant* puts the same gap between all requests. *poisson* draws the gaps from the exponential
distribution, as they are when many independent callers send requests.

Times are nanoseconds after the start of the run. Several processes share one rate. With constant arrivals they take
turns, so that the gaps are even over all processes. With poisson arrivals each draws its own gaps, and all together
are poisson arrivals again.

Pure: no clock. The `Pacer` compares these times with the clock.
"""

from __future__ import annotations

import itertools
import random
from collections.abc import Iterator

ARRIVALS = ("constant", "poisson")
SECOND_NS = 1_000_000_000


def due_times_ns(arrival: str, rate_per_s: float, process: int, processes: int, seed: int) -> Iterator[int]:
    """The due times of process number `process` out of `processes`, in ascending order and without end.

    `rate_per_s` is the rate of all processes together.
    """
    if rate_per_s <= 0:
        raise ValueError(f"the rate must be above 0 requests per second, not {rate_per_s}")
    if arrival == "constant":
        return _constant(rate_per_s, process, processes)
    if arrival == "poisson":
        return _poisson(rate_per_s / processes, random.Random(f"{seed}:arrival:{process}"))
    raise ValueError(f"the arrival must be one of {', '.join(ARRIVALS)}, not {arrival!r}")


def _constant(rate_per_s: float, process: int, processes: int) -> Iterator[int]:
    # A product for each request, because adding up a rounded gap would add up its rounding errors too.
    for number in itertools.count(process, processes):
        yield int(number * SECOND_NS / rate_per_s)


def _poisson(rate_per_s: float, source: random.Random) -> Iterator[int]:
    rate_per_ns = rate_per_s / SECOND_NS
    due_ns = 0.0
    while True:
        due_ns += source.expovariate(rate_per_ns)
        yield int(due_ns)
