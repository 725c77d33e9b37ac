"""When each request of an open-loop run is due.

In an open loop requests are due at moments that do not depend on the answers, as they are for a server
with many independent callers. *constant* puts the same gap between any two; *poisson* draws the gaps from
the exponential distribution, which is what many callers who know nothing of one another add up to.

Times are nanoseconds after the start of the run. Several processes share one rate: with constant arrivals
they take turns, so that together they keep the even gap; with poisson each draws its own, and the sum is
poisson again.

Pure: the clock is whoever compares these times with it.
"""

from __future__ import annotations

import itertools
import random
from collections.abc import Iterator

ARRIVALS = ("constant", "poisson")
SECOND_NS = 1_000_000_000


def due_times_ns(arrival: str, rate_per_s: float, process: int, processes: int, seed: int) -> Iterator[int]:
    """The endless, growing sequence of due times of one process out of `processes`.

    `rate_per_s` is that of all processes together and above 0.
    """
    if rate_per_s <= 0:
        raise ValueError(f"a rate is above 0 requests a second, not {rate_per_s}")
    if arrival == "constant":
        return _constant(rate_per_s, process, processes)
    if arrival == "poisson":
        return _poisson(rate_per_s / processes, random.Random(f"{seed}:arrival:{process}"))
    raise ValueError(f"arrival is one of {', '.join(ARRIVALS)}, not {arrival!r}")


def _constant(rate_per_s: float, process: int, processes: int) -> Iterator[int]:
    # Multiplied out each time: adding up a rounded gap would drift by the rounding times the requests.
    for number in itertools.count(process, processes):
        yield int(number * SECOND_NS / rate_per_s)


def _poisson(rate_per_s: float, source: random.Random) -> Iterator[int]:
    rate_per_ns = rate_per_s / SECOND_NS
    due_ns = 0.0
    while True:
        due_ns += source.expovariate(rate_per_ns)
        yield int(due_ns)
