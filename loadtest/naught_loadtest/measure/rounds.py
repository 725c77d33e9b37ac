"""Comparing servers fairly: the same load for each, in turns, and ratios instead of absolute numbers.

A machine has moods: its clock, its neighbours, its caches. So a comparison goes in rounds, each server once a
round and each round beginning with another one, and only what was measured in the same round is divided. What is
printed is the median of these ratios with the least and the greatest of them.

Two ratios are kept. The one of throughputs is what the bars are about. Beside it stands the one of throughput
for each core-second the *server* used: where the generator was the limit (a single-threaded generator against
Redis, unpipelined, comes close), the first flatters the slower server and the second does not.
"""

from __future__ import annotations

import contextlib
import statistics
from collections.abc import Callable, Iterator
from dataclasses import dataclass, field, replace
from typing import Any

from naught_loadtest.drivers.servers import (
    MissingProgramError,
    Server,
    echo_server,
    memcached_server,
    naught_server,
    redis_server,
)
from naught_loadtest.generate.plan import Plan
from naught_loadtest.generate.runner import Run, new_prefix
from naught_loadtest.measure.cores import Cores
from naught_loadtest.measure.result import Result

PEERS = ("redis", "redis-lua", "memcached")


@dataclass(frozen=True, slots=True)
class Contender:
    """A running server and how it is driven."""

    name: str
    url: str
    pid: int
    version: str


@dataclass(frozen=True, slots=True)
class Setting:
    """One load all contenders get: `depth` requests in flight on each connection, of `batch` counters each."""

    name: str
    depth: int
    batch: int = 1


@dataclass(frozen=True, slots=True)
class Spread:
    """A median with its least and greatest."""

    median: float
    low: float
    high: float

    def __str__(self) -> str:
        return f"{self.median:.2f}x ({self.low:.2f}-{self.high:.2f})"

    def to_json(self) -> dict[str, float]:
        return {
            "median": round(self.median, 4),
            "low": round(self.low, 4),
            "high": round(self.high, 4),
        }


def spread(values: list[float]) -> Spread:
    """Of at least one value."""
    return Spread(statistics.median(values), min(values), max(values))


@contextlib.contextmanager
def started(name: str, cores: list[int], arguments: tuple[str, ...] = ()) -> Iterator[Contender]:
    """A server of this kind, fresh, held to these cores. MissingProgramError when it is not installed."""
    with contextlib.ExitStack() as stack:
        server: Server
        if name == "naught":
            server = stack.enter_context(naught_server(cores, arguments))
        elif name in ("redis", "redis-lua"):
            server = stack.enter_context(redis_server(cores))
        elif name == "memcached":
            server = stack.enter_context(memcached_server(cores))
        elif name == "echo":
            server = stack.enter_context(echo_server(cores))
        else:
            raise ValueError(f"a peer is one of {', '.join(PEERS)}, not {name!r}")
        url = server.url.replace("redis://", "redis-lua://") if name == "redis-lua" else server.url
        yield Contender(name, url, server.pid, server.version)


@contextlib.contextmanager
def started_all(names: list[str], cores: list[int]) -> Iterator[tuple[list[Contender], list[str]]]:
    """(those that run, a sentence for each that is not installed)."""
    missing = []
    with contextlib.ExitStack() as stack:
        running = []
        for name in names:
            try:
                running.append(stack.enter_context(started(name, cores)))
            except MissingProgramError as error:
                missing.append(f"{name}: skipped, {error}")
        yield running, missing


@dataclass(slots=True)
class Table:
    """The results of all rounds: (setting, contender) to one result for each round."""

    results: dict[tuple[str, str], list[Result]] = field(default_factory=dict)

    def add(self, setting: str, contender: str, result: Result) -> None:
        self.results.setdefault((setting, contender), []).append(result)

    def throughput(self, setting: str, contender: str) -> float:
        """The median, in operations a second."""
        return statistics.median(result.throughput for result in self.results[setting, contender])

    def ratio(self, one: tuple[str, str], other: tuple[str, str]) -> Spread:
        """Throughput of (setting, contender) `one` divided by that of `other`, round by round."""
        pairs = zip(self.results[one], self.results[other], strict=True)
        return spread([mine.throughput / max(its.throughput, 1e-9) for mine, its in pairs])

    def core_ratio(self, one: tuple[str, str], other: tuple[str, str]) -> Spread | None:
        """The same for each core-second the servers used; None where that is unknown."""
        ratios = []
        for mine, its in zip(self.results[one], self.results[other], strict=True):
            if not mine.server_share or not its.server_share:
                return None
            ratios.append(mine.throughput / mine.server_share / (its.throughput / its.server_share))
        return spread(ratios)

    def limited(self, setting: str, contender: str) -> bool:
        """Whether the generator was the limit in most of the rounds."""
        results = self.results[setting, contender]
        return 2 * sum(bool(result.invalid) for result in results) > len(results)

    def failures(self) -> list[str]:
        """A sentence for each run that went wrong."""
        return [
            f"{contender}, {setting}: {sentence}"
            for (setting, contender), results in self.results.items()
            for sentence in dict.fromkeys(problem for result in results for problem in problems(result))
        ]

    def to_json(self) -> list[dict[str, Any]]:
        """One object for each setting and contender."""
        return [
            {
                "setting": setting,
                "contender": contender,
                "throughput_per_s": [round(result.throughput, 1) for result in results],
                "server_share": [result.server_share for result in results],
                "generator_share": [round(result.generator_share, 4) for result in results],
                "invalid": [result.invalid for result in results],
            }
            for (setting, contender), results in self.results.items()
        ]


def problems(result: Result) -> list[str]:
    """What was wrong with a run, beside being slow."""
    found = [f"{count:,} requests failed: {kind}" for kind, count in sorted(result.failed.items())]
    if result.timed_out:
        found.append(f"{result.timed_out:,} requests timed out")
    if result.verification is not None and not result.verification.passed:
        found.append("the counters are not what was acknowledged")
    return found


def run_rounds(
    contenders: list[Contender],
    settings: list[Setting],
    rounds: int,
    base: Plan,
    on_run: Callable[[int, Setting, Contender, Result], None] | None = None,
) -> Table:
    """Every setting, every round, every contender: the order of the contenders turns with each round.

    `base` has everything that does not depend on the setting. Settings with a batch are only for naught.
    """
    table = Table()
    for number in range(rounds):
        for setting in settings:
            turn = number % len(contenders)
            for contender in contenders[turn:] + contenders[:turn]:
                if setting.batch > 1 and contender.name not in ("naught", "echo"):
                    continue
                plan = replace(
                    base, target=contender.url, prefix=new_prefix(), pipeline=setting.depth, batch=setting.batch
                )
                result = Run(plan, server_pid=contender.pid).execute()
                table.add(setting.name, contender.name, result)
                if on_run is not None:
                    on_run(number, setting, contender, result)
    return table


def base_plan(cores: Cores, **changes: Any) -> Plan:
    """A plan to be filled in by the rounds."""
    return Plan(target="echo://127.0.0.1:1", prefix="unset:", cores=cores.generator, **changes)
