"""The bars of memory: what a counter costs, and how much memory is given back when counters go.

*Cost*: a fresh server is filled in steps, and its resident memory is read after each. The worst step from 700 000 to
1 450 000 counters counts: tables double in size, and directly after doubling they are half empty.

*Given back*: a million counters are created and drained. Ten seconds later, with nothing forced, the bar reads which
part of their memory the server still has. It does so with no counter left, and with one in a hundred left, scattered
over all tables; each with eager and with lazy eviction.

Each round has a fresh server, and the median of the rounds counts.
"""

from __future__ import annotations

import contextlib
import dataclasses
import statistics
import time
from collections.abc import Iterator
from dataclasses import dataclass

from naught_loadtest.bars.bar import Bar, Bench, at_most
from naught_loadtest.bars.filling import Filler, drain
from naught_loadtest.drivers.probe import Probe, open_probe
from naught_loadtest.drivers.servers import configured
from naught_loadtest.drivers.target import parse_target
from naught_loadtest.generate.runner import new_prefix
from naught_loadtest.measure.rounds import Contender, started
from naught_loadtest.measure.usage import resident_bytes

GROUP = "memory"
GROUP_AFTER = "memory-after"
FIRST = 700_000
LAST = 1_450_000
STEP = 50_000
QUICK_STEP = 250_000
SMALL_BYTES_MAX = 125.0
LARGE_BYTES_MAX = 155.0
TIMED_BYTES_MAX = 240.0
TIME_TO_LIVE_MS = 3_600_000

DRAINED = 1_000_000
AFTER_S = 10.0
KEEP_EVERY = 100
NONE_LEFT_PART_MAX = 0.05
SCATTERED_PART_MAX = 0.10


def measure(bench: Bench) -> list[Bar]:
    """Bytes per counter: with small values, with large values, and with a time to live."""
    cases = (
        ("values to 256", False, None, SMALL_BYTES_MAX),
        ("values above 256", True, None, LARGE_BYTES_MAX),
        ("values above 256, with a time to live", True, TIME_TO_LIVE_MS, TIMED_BYTES_MAX),
    )
    return [_cost(bench, *case) for case in cases]


@contextlib.contextmanager
def _fresh_server(bench: Bench, eviction: str = "eager") -> Iterator[tuple[Contender, Probe]]:
    """A naught server that has no counters yet, and a connection to it."""
    with (
        configured(f'[caches.default]\neviction = "{eviction}"\n') as arguments,
        started("naught", bench.cores.server, arguments) as server,
    ):
        probe, _ = open_probe(parse_target(server.url))
        with probe:
            yield server, probe


def _cost(bench: Bench, name: str, large: bool, ttl_ms: int | None, bar: float) -> Bar:
    rounds = [_steps(bench, large, ttl_ms) for _ in range(bench.rounds)]
    worst = [max(steps.values()) for steps in rounds]
    median = statistics.median(worst)
    bench.say(f"{name}: at worst {median:.1f} bytes")
    at = max(rounds[0], key=lambda count: rounds[0][count])
    return Bar(
        GROUP,
        f"bytes per counter, 16-byte keys, {name}",
        f"at most {bar:g}",
        f"{median:.1f} at worst ({min(worst):.1f}-{max(worst):.1f})",
        at_most(median, bar),
        {"bytes_per_counter": [{str(count): round(value, 2) for count, value in steps.items()} for steps in rounds]},
        [f"from {FIRST:,} to {LAST:,} counters; first round: worst at {at:,}, best {min(rounds[0].values()):.1f}"],
    )


def _steps(bench: Bench, large: bool, ttl_ms: int | None) -> dict[int, float]:
    """Bytes per counter by number of counters, of one fresh server."""
    steps: dict[int, float] = {}
    with _fresh_server(bench) as (server, probe):
        empty = resident_bytes(server.local_pid)
        filler = Filler(probe, new_prefix(), large=large, ttl_ms=ttl_ms)
        for count in range(FIRST, LAST + 1, QUICK_STEP if bench.quick else STEP):
            filler.fill_to(count)
            steps[count] = (resident_bytes(server.local_pid) - empty) / count
    return steps


def measure_after(bench: Bench) -> list[Bar]:
    """The part of the counters' memory that the server still has ten seconds after a drain."""
    return [
        _after(bench, name, keep_every, eviction, bar)
        for eviction in ("eager", "lazy")
        for name, keep_every, bar in (
            ("none left", 0, NONE_LEFT_PART_MAX),
            (f"1 in {KEEP_EVERY} left", KEEP_EVERY, SCATTERED_PART_MAX),
        )
    ]


@dataclass(frozen=True, slots=True)
class Levels:
    """Resident memory of one server: without counters, with all of them, and some time after most have gone."""

    empty_bytes: int
    full_bytes: int
    after_bytes: int

    @property
    def part_left(self) -> float:
        return (self.after_bytes - self.empty_bytes) / (self.full_bytes - self.empty_bytes)


def _after(bench: Bench, name: str, keep_every: int, eviction: str, bar: float) -> Bar:
    count = DRAINED // 5 if bench.quick else DRAINED
    rounds = [_levels(bench, count, keep_every, eviction) for _ in range(bench.rounds)]
    parts = [levels.part_left for levels in rounds]
    median = statistics.median(parts)
    bench.say(f"{eviction}, {name}: {median:.1%} of the memory not given back")
    empty, full, after = (_mib(size_bytes) for size_bytes in dataclasses.astuple(rounds[0]))
    return Bar(
        GROUP_AFTER,
        f"memory {AFTER_S:g} s after {count:,} went, {eviction}, {name}",
        f"at most {bar:.0%}",
        f"{median:.1%} ({min(parts):.1%}-{max(parts):.1%})",
        at_most(median, bar),
        {"rounds": [dataclasses.asdict(levels) for levels in rounds]},
        [f"first round: empty {empty}, full {full}, after the drain {after}"],
    )


def _mib(size_bytes: int) -> str:
    return f"{size_bytes / 2**20:.1f} MiB"


def _levels(bench: Bench, count: int, keep_every: int, eviction: str) -> Levels:
    prefix = new_prefix()
    with _fresh_server(bench, eviction) as (server, probe):
        empty = resident_bytes(server.local_pid)
        Filler(probe, prefix).fill_to(count)
        full = resident_bytes(server.local_pid)
        drain(probe, prefix, count, keep_every)
        time.sleep(AFTER_S)
        return Levels(empty, full, resident_bytes(server.local_pid))
