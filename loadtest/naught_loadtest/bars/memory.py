"""The bars of memory: what a counter costs, and how much memory is given back when counters go.

*Cost*: a fresh server is filled in steps, and its resident memory is read after each. The worst step from 700 000 to
1 450 000 counters counts: tables double in size, and directly after doubling they are half empty.

*Given back*: a million counters are created and drained. Ten seconds later, with nothing forced, the bar reads which
part of their memory the server still has. It does so once with no counter left, and once with one in a hundred left,
scattered over all tables.
"""

from __future__ import annotations

import contextlib
import time
from collections.abc import Iterator

from naught_loadtest.bars.bar import REPORTED, Bar, Bench, at_most
from naught_loadtest.bars.filling import Filler, drain
from naught_loadtest.drivers.probe import Probe, open_probe
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
        ("values above 256, with a time to live", True, TIME_TO_LIVE_MS, None),
    )
    return [_cost(bench, *case) for case in cases]


@contextlib.contextmanager
def _fresh_server(bench: Bench) -> Iterator[tuple[Contender, Probe]]:
    """A naught server that has no counters yet, and a connection to it."""
    with started("naught", bench.cores.server) as server:
        probe, _ = open_probe(parse_target(server.url))
        with probe:
            yield server, probe


def _cost(bench: Bench, name: str, large: bool, ttl_ms: int | None, bar: float | None) -> Bar:
    steps: dict[int, float] = {}
    with _fresh_server(bench) as (server, probe):
        empty = resident_bytes(server.pid)
        filler = Filler(probe, new_prefix(), large=large, ttl_ms=ttl_ms)
        for count in range(FIRST, LAST + 1, QUICK_STEP if bench.quick else STEP):
            filler.fill_to(count)
            steps[count] = (resident_bytes(server.pid) - empty) / count
    worst = max(steps, key=lambda count: steps[count])
    bench.say(f"{name}: worst {steps[worst]:.1f} bytes at {worst:,}")
    return Bar(
        GROUP,
        f"bytes per counter, 16-byte keys, {name}",
        f"at most {bar:g}" if bar else "",
        f"{steps[worst]:.1f} at worst",
        at_most(steps[worst], bar) if bar else REPORTED,
        {"bytes_per_counter": {str(count): round(value, 2) for count, value in steps.items()}},
        [f"worst at {worst:,} counters; least {min(steps.values()):.1f}; from {FIRST:,} to {LAST:,} counters"],
    )


def measure_after(bench: Bench) -> list[Bar]:
    """The part of the counters' memory that the server still has ten seconds after a drain."""
    return [
        _after(bench, "none left", 0, NONE_LEFT_PART_MAX),
        _after(bench, f"1 in {KEEP_EVERY} left, scattered", KEEP_EVERY, SCATTERED_PART_MAX),
    ]


def _after(bench: Bench, name: str, keep_every: int, bar: float) -> Bar:
    count = DRAINED // 5 if bench.quick else DRAINED
    prefix = new_prefix()
    with _fresh_server(bench) as (server, probe):
        empty = resident_bytes(server.pid)
        Filler(probe, prefix).fill_to(count)
        full = resident_bytes(server.pid)
        drain(probe, prefix, count, keep_every)
        time.sleep(AFTER_S)
        after = resident_bytes(server.pid)
    part = (after - empty) / (full - empty)
    bench.say(f"{name}: {part:.1%} of the memory not given back")
    return Bar(
        GROUP_AFTER,
        f"memory {AFTER_S:g} s after {count:,} counters went, {name}",
        f"at most {bar:.0%}",
        f"{part:.1%}",
        at_most(part, bar),
        {"empty_bytes": empty, "full_bytes": full, "after_bytes": after},
        [f"empty {empty / 2**20:.1f} MiB, full {full / 2**20:.1f} MiB, after the drain {after / 2**20:.1f} MiB"],
    )
