"""Comparing servers: the same load for each, in interleaved rounds, and ratios instead of absolute numbers.

The speed of a machine changes from minute to minute: clock frequency, other programs, caches. So a comparison goes
in rounds. Every round runs each server once and begins with another server than the round before, and only
throughputs of the same round are divided. Reports show the median of these ratios with the least and the greatest
of them.

There are two ratios. The first is of throughputs; the bars are about it. The second is of throughputs per core-second
that the *server* used. Where the generator was the limit (a generator with one thread against unpipelined Redis comes
close), the first ratio favours the slower server and the second does not.
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
    """A running server that takes part in a comparison."""

    # "naught", "echo" or one of `PEERS`.
    name: str
    # Its URL, as `--target` takes it.
    url: str
    pid: int
    version: str


@dataclass(frozen=True, slots=True)
class Setting:
    """A load that all contenders get: `depth` requests in flight on each connection, each of `batch` counters."""

    name: str
    depth: int
    batch: int = 1


@dataclass(frozen=True, slots=True)
class Spread:
    """A median, with the least and the greatest value."""

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
    """The spread of one or more values."""
    return Spread(statistics.median(values), min(values), max(values))


@contextlib.contextmanager
def started(name: str, cores: list[int], arguments: tuple[str, ...] = ()) -> Iterator[Contender]:
    """A fresh server of this name, pinned to these cores. MissingProgramError when it is not installed."""
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
            raise ValueError(f"a server is naught, echo or one of {', '.join(PEERS)}, not {name!r}")
        url = server.url.replace("redis://", "redis-lua://") if name == "redis-lua" else server.url
        yield Contender(name, url, server.pid, server.version)


@contextlib.contextmanager
def started_all(names: list[str], cores: list[int]) -> Iterator[tuple[list[Contender], list[str]]]:
    """(the servers that run, a sentence for each that is not installed)."""
    missing = []
    with contextlib.ExitStack() as stack:
        contenders = []
        for name in names:
            try:
                contenders.append(stack.enter_context(started(name, cores)))
            except MissingProgramError as error:
                missing.append(f"{name}: skipped, {error}")
        yield contenders, missing


@dataclass(slots=True)
class Table:
    """The results of all rounds."""

    # By (setting, contender), one result for each round.
    results: dict[tuple[str, str], list[Result]] = field(default_factory=dict)

    def add(self, setting: str, contender: str, result: Result) -> None:
        self.results.setdefault((setting, contender), []).append(result)

    def throughput(self, setting: str, contender: str) -> float:
        """The median of the rounds, in operations per second."""
        return statistics.median(result.throughput for result in self.results[setting, contender])

    def ratio(self, one: tuple[str, str], other: tuple[str, str]) -> Spread:
        """Throughput of `one`, a (setting, contender), divided by that of `other`, round by round."""
        pairs = zip(self.results[one], self.results[other], strict=True)
        return spread([mine.throughput / max(its.throughput, 1e-9) for mine, its in pairs])

    def core_ratio(self, one: tuple[str, str], other: tuple[str, str]) -> Spread | None:
        """The same ratio, of throughputs per core-second that the servers used. None where that is unknown."""
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
        """A sentence for each problem of a run, each once."""
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
    """One sentence for each thing that was wrong with a run. Slow is not wrong."""
    sentences = [f"{count:,} requests failed: {kind}" for kind, count in sorted(result.failed.items())]
    if result.timed_out:
        sentences.append(f"{result.timed_out:,} requests timed out")
    if result.verification is not None and not result.verification.passed:
        sentences.append("counters differ from what was acknowledged")
    return sentences


def run_rounds(
    contenders: list[Contender],
    settings: list[Setting],
    rounds: int,
    base: Plan,
    on_run: Callable[[int, Setting, Contender, Result], None] | None = None,
) -> Table:
    """Run every contender at every setting in every round. Each round begins with another contender.

    `base` is the plan without what depends on the contender and the setting. Settings with a batch are for naught and
    the echo server only, as the others have no command for many counters. `on_run` is called after each run.
    """
    table = Table()
    for number in range(rounds):
        for setting in settings:
            first = number % len(contenders)
            for contender in contenders[first:] + contenders[:first]:
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
    """A plan on the generator's cores. `run_rounds`, or `replace`, fills in its target and its prefix."""
    return Plan(target="echo://127.0.0.1:1", prefix="unset:", cores=cores.generator, **changes)
