"""When each request of an open-loop run is due.

In an open loop requests are due at moments that do not depend on the answers, as for a server with many independent
callers. *constant* puts the same gap between all requests. *poisson* draws the gaps from the exponential
distribution, as they are when many independent callers send requests.

Times are nanoseconds after the start of the run. Several processes share one rate. With constant arrivals they take
turns, so that the gaps are even over all processes. With poisson arrivals each draws its own gaps, and all together
are poisson arrivals again.

A load may have *stages*, each with a rate of its own. Then a request is due when the sum of the rates so far has
reached its number, so that the gaps change with the rate and no request is left out where two stages meet.

Pure: no clock. The `Pacer` compares these times with the clock.
"""

from __future__ import annotations

import itertools
import random
import re
from collections.abc import Iterator, Sequence

ARRIVALS = ("constant", "poisson")
# (seconds, requests per second)
Stage = tuple[float, float]
STAGES_MAX = 1000
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


def staged_due_times_ns(
    arrival: str, stages: Sequence[Stage], process: int, processes: int, seed: int
) -> Iterator[int]:
    """The same for stages, whose rates are those of all processes together. The last stage has no end."""
    moment = _Moments(stages)
    if arrival == "constant":
        for number in itertools.count(process, processes):
            yield moment.of(number)
    # The time until the next request is drawn in requests of all processes, not in seconds.
    source = random.Random(f"{seed}:arrival:{process}")
    reached = 0.0
    while True:
        reached += source.expovariate(1 / processes)
        yield moment.of(reached)


class _Moments:
    """When a number of requests is reached. Must be asked in ascending order."""

    def __init__(self, stages: Sequence[Stage]) -> None:
        self._stages = stages
        # The stage that is going on, when it began, and how many requests had been due then.
        self._index = 0
        self._begin_ns = 0.0
        self._before = 0.0

    def of(self, reached: float) -> int:
        duration_s, rate_per_s = self._stages[self._index]
        while self._index + 1 < len(self._stages) and reached >= self._before + duration_s * rate_per_s:
            self._begin_ns += duration_s * SECOND_NS
            self._before += duration_s * rate_per_s
            self._index += 1
            duration_s, rate_per_s = self._stages[self._index]
        return int(self._begin_ns + (reached - self._before) * SECOND_NS / rate_per_s)


_STAGE = re.compile(r"(\d{1,9}(?:\.\d{1,9})?)\s*(s|m|h)\s*@\s*(\d{1,12}(?:\.\d{1,9})?)", re.ASCII)
_UNITS_S = {"s": 1, "m": 60, "h": 3600}


def parse_stages(text: str) -> list[Stage]:
    """Stages from their text, `10s@1000,1m@5000`. ValueError says what is wrong with it."""
    stages = []
    for part in text.split(","):
        match = _STAGE.fullmatch(part.strip())
        if match is None:
            raise ValueError(f"stages must be written like 10s@1000,1m@5000, and {part.strip()!r:.40} is no stage")
        amount, unit, rate = match.groups()
        stages.append((float(amount) * _UNITS_S[unit], float(rate)))
    check_stages(stages)
    return stages


def check_stages(stages: Sequence[Stage]) -> None:
    """ValueError says which stage cannot be."""
    if len(stages) > STAGES_MAX:
        raise ValueError(f"there may be {STAGES_MAX} stages, not {len(stages)}")
    for duration_s, rate_per_s in stages:
        if not 0 < duration_s < float("inf"):
            raise ValueError(f"a stage must take more than 0 seconds, not {duration_s}")
        if not 0 < rate_per_s < float("inf"):
            raise ValueError(f"the rate of a stage must be above 0 requests per second, not {rate_per_s}")
