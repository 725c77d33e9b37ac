"""The bar of the server in use: the load of an empty server, on a server whose cache is in use by others as well.

An empty server can take shortcuts that no real one can take. In this bar the cache also holds a thousand counters
with a time to live, a hundred holds and ten requests that wait for room, it has a `max_counters`, and every
connection of the load has a session on. None of the load's own counters has a time to live, a hold or a waiter, so
the load should hardly notice. The two servers are measured in interleaved rounds at each pipeline depth.
"""

from __future__ import annotations

import contextlib
from collections.abc import Iterator
from typing import Any

from naught_loadtest.bars.bar import INVALID, Bar, Bench, at_least
from naught_loadtest.drivers.base import failure_in
from naught_loadtest.drivers.naught import NaughtDriver, request
from naught_loadtest.drivers.probe import Probe
from naught_loadtest.drivers.servers import configured
from naught_loadtest.drivers.target import parse_target
from naught_loadtest.measure.rounds import (
    Contender,
    Setting,
    Table,
    base_plan,
    microseconds,
    run_rounds,
    started,
)

GROUP = "in-use"
SETTINGS = [Setting("depth 1", 1), Setting("depth 16", 16), Setting("depth 100", 100)]
LEAST = 0.9
EMPTY, IN_USE = "naught", "naught in use"
TIMED_COUNTERS = 1000
# Longer than any measurement.
TIME_TO_LIVE_MS = 86_400_000
HOLDS = 100
WAITERS = 10
MAX_COUNTERS = 1_000_000


class OccupantError(RuntimeError):
    """The server is not in use in the way that the bar says."""


class Occupant:
    """A client that uses the cache: it holds, waits, and has created counters with a time to live.

    Closing it ends its connection, and with it the session, the holds and the waits.
    """

    def __init__(self, url: str) -> None:
        self._url = url
        self._probe = Probe(parse_target(url), NaughtDriver())

    def occupy(self) -> None:
        """Use the cache. OccupantError when the server does not let it."""
        self._ask("hello", {"session": True})
        self._ask("apply", [f"in-use:timed:{number:05d}" for number in range(TIMED_COUNTERS)], 1, TIME_TO_LIVE_MS)
        for number in range(HOLDS):
            granted, _, _ = self._ask("acquire", [[f"in-use:held:{number:03d}", 1, 1]])
            if not granted:
                raise OccupantError(f"hold {number} was not granted")
        # These counters are at their limit, so each of these requests waits until the connection is closed.
        for number in range(WAITERS):
            items = [[f"in-use:held:{number:03d}", 1, 1]]
            self._probe.send(request("acquire", items, None, msgid=number + 1))
        self._check()

    def _ask(self, method: str, *params: Any) -> Any:
        reply = self._probe.ask(request(method, *params))[0]
        failure = failure_in(reply)
        if failure is not None:
            raise OccupantError(f"{method}: the server answers {failure.kind}: {failure.message}")
        return reply

    def _check(self) -> None:
        """Compare with what the server says of itself. The waiting requests have reached it by then."""
        info = self._ask("info")
        cache, sessions = info[b"caches"][b"default"], info[b"sessions"]
        found = {
            "counters with a time to live": cache[b"deadlines"],
            "holds": sessions[b"holds"],
            "waiters": sessions[b"parked"],
            "max_counters": cache[b"max_counters"],
        }
        asked = dict(zip(found, (TIMED_COUNTERS, HOLDS, WAITERS, MAX_COUNTERS), strict=True))
        if found != asked:
            raise OccupantError(f"the server at {self._url} has {found} instead of {asked}")

    def close(self) -> None:
        self._probe.close()


def measure(bench: Bench) -> list[Bar]:
    """A bar for each pipeline depth."""
    base = base_plan(bench.cores, duration_s=1.0 if bench.quick else 3.0, warmup_s=0.3, seed=bench.seed)

    try:
        with started("naught", bench.cores.server) as empty, in_use(bench) as used:
            table = run_rounds([empty, used], SETTINGS, bench.rounds, base, bench.say_result)
    except OccupantError as error:
        return [Bar(GROUP, "in use against empty", f"at least {LEAST:g}x", str(error), INVALID, wrong=[str(error)])]
    return [bar(table, setting.name) for setting in SETTINGS]


@contextlib.contextmanager
def in_use(bench: Bench) -> Iterator[Contender]:
    """A server in use, as a contender whose URL makes the load open sessions."""
    text = f"[caches.default]\nmax_counters = {MAX_COUNTERS}\n"
    with (
        configured(text) as arguments,
        started("naught", bench.cores.server, arguments) as server,
        contextlib.closing(Occupant(server.url)) as occupant,
    ):
        occupant.occupy()
        url = server.url.replace("naught://", "naught-session://")
        yield Contender(IN_USE, url, server.pid, server.version)


def bar(table: Table, setting: str) -> Bar:
    """The bar of one depth."""
    mine, its = (setting, IN_USE), (setting, EMPTY)
    ratio = table.ratio(mine, its)
    limited = [name for _, name in (mine, its) if table.limited(setting, name)]
    failures = table.failures()
    notes = [
        f"{name:<14} {table.throughput(setting, name):>11,.0f}/s,"
        f" CPU {microseconds(table.cpu_us(setting, name))} an operation"
        for name in (IN_USE, EMPTY)
    ]
    if limited:
        notes.append(f"the generator was the limit of {' and of '.join(limited)}")
    return Bar(
        GROUP,
        f"{setting}, in use against empty",
        f"at least {LEAST:g}x",
        str(ratio),
        INVALID if failures or limited else at_least(ratio.median, LEAST),
        {
            "ratio": ratio.to_json(),
            "in_use_per_s": round(table.throughput(*mine), 1),
            "empty_per_s": round(table.throughput(*its), 1),
            "in_use_cpu_us": table.cpu_us(*mine),
            "empty_cpu_us": table.cpu_us(*its),
        },
        notes + failures,
        failures,
    )
