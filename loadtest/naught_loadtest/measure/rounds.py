"""Comparing servers: the same load for each, in interleaved rounds, and ratios instead of absolute numbers.

The speed of a machine changes from minute to minute: clock frequency, other programs, caches. So a comparison goes
in rounds. Every round runs each server once and begins with another server than the round before, and only
throughputs of the same round are divided. Reports show the median of these ratios with the least and the greatest
of them.

Redis and Valkey can delete a counter at zero in several ways (`EVICTING_WAYS`), and which of them is the fastest
depends on the server and the load. So all that the server supports are measured, and naught is compared with the
best.

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

from naught_loadtest.drivers.base import Inspector, ProtocolFaultError, UnsupportedError
from naught_loadtest.drivers.probe import open_probe
from naught_loadtest.drivers.redis import RedisInspector
from naught_loadtest.drivers.servers import (
    MissingProgramError,
    Peer,
    Server,
    echo_server,
    memcached_server,
    naught_server,
    redis_server,
)
from naught_loadtest.drivers.target import parse_target
from naught_loadtest.generate.plan import Plan
from naught_loadtest.generate.runner import Run, RunError, new_prefix
from naught_loadtest.measure.cores import Cores
from naught_loadtest.measure.histogram import merged
from naught_loadtest.measure.result import Result
from naught_loadtest.measure.series import histogram_document
from naught_loadtest.measure.usage import LOOPBACK, process_name

# The ways in which Redis or Valkey can delete a counter at zero.
EVICTING_WAYS = ("redis-lua", "redis-function", "valkey-delifeq", "redis-delex")
# All ways to count with Redis or Valkey. They are contenders of their own and share one server.
REDIS_WAYS = ("redis", *EVICTING_WAYS)
PEERS = (*REDIS_WAYS, "memcached")
# The peer unless another one is asked for: the Redis or Valkey that is installed.
INSTALLED = Peer()
# How long the ceiling of the generator is measured at most, in each round.
ECHO_S = 1.0


@dataclass(frozen=True, slots=True)
class Contender:
    """A running server that takes part in a comparison."""

    # "naught", "echo" or one of `PEERS`.
    name: str
    # Its URL, as `--target` takes it.
    url: str
    # Its process; None where it is not known, as on another machine.
    pid: int | None
    version: str

    @property
    def local_pid(self) -> int:
        """The process of a server that was started here."""
        assert self.pid is not None
        return self.pid


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
def started(
    name: str, cores: list[int], arguments: tuple[str, ...] = (), peer: Peer = INSTALLED
) -> Iterator[Contender]:
    """A fresh server of this name, pinned to these cores, with these arguments if it is naught.

    For a way of Redis it is the server that `peer` says. MissingProgramError when it is not installed,
    UnsupportedError when it lacks a command that this way needs.
    """
    with contextlib.ExitStack() as stack:
        if name in REDIS_WAYS:
            yield contender_of(stack.enter_context(_peer_running(peer, cores)), name)
            return
        server: Server
        if name == "naught":
            server = stack.enter_context(naught_server(cores, arguments))
        elif name == "memcached":
            server = stack.enter_context(memcached_server(cores))
        elif name == "echo":
            server = stack.enter_context(echo_server(cores))
        else:
            raise ValueError(f"a server is naught, echo or one of {', '.join(PEERS)}, not {name!r}")
        yield Contender(name, server.url, server.pid, server.version)


@contextlib.contextmanager
def started_all(
    names: list[str], cores: list[int], peer: Peer = INSTALLED
) -> Iterator[tuple[list[Contender], list[str]]]:
    """(the servers that run, a sentence for each that is not installed or lacks a command).

    All ways of Redis share one server. Only one contender gets load at a time.
    """
    missing = []
    with contextlib.ExitStack() as stack:
        contenders = []
        shared: Contender | None = None
        for name in names:
            try:
                if name not in REDIS_WAYS:
                    contenders.append(stack.enter_context(started(name, cores)))
                    continue
                if shared is None:
                    shared = stack.enter_context(_peer_running(peer, cores))
                contenders.append(contender_of(shared, name))
            except (MissingProgramError, UnsupportedError) as error:
                missing.append(f"{name}: skipped, {error}")
        yield contenders, missing


@contextlib.contextmanager
def _peer_running(peer: Peer, cores: list[int]) -> Iterator[Contender]:
    """The server that `peer` says, as the contender "redis": started, or running already."""
    if peer.url is not None:
        yield _running_peer(peer.url)
        return
    with redis_server(list(peer.cores) or cores, peer.binary, peer.arguments) as server:
        yield Contender("redis", server.url, server.pid, server.version)


def _running_peer(url: str) -> Contender:
    """The server of Redis that answers at this URL. RunError when none does."""
    try:
        probe, inspector = open_probe(parse_target(url))
        with probe:
            inspector.prepare()
            return Contender("redis", url, _pid_of(url, inspector), inspector.version())
    except (OSError, RuntimeError, ProtocolFaultError) as error:
        raise RunError(f"the peer at {url} does not answer as Redis does: {error}") from error


def _pid_of(url: str, inspector: Inspector) -> int | None:
    """The process of a server of Redis that was not started here. None where it is not on this machine."""
    if parse_target(url).host not in LOOPBACK or not isinstance(inspector, RedisInspector):
        return None
    pid = inspector.process_id()
    # A server in a container or behind a forwarded port names a process that is another one here, or none.
    name = process_name(pid) if pid is not None else ""
    return pid if name.startswith(("redis", "valkey")) else None


def contender_of(server: Contender, name: str) -> Contender:
    """The running server of Redis, driven in the way of this name. UnsupportedError when it cannot be."""
    url = f"{name}://{server.url.partition('://')[2]}"
    probe, inspector = open_probe(parse_target(url))
    with probe:
        inspector.prepare()
    return Contender(name, url, server.pid, server.version)


@dataclass(slots=True)
class Table:
    """The results of all rounds."""

    # By (setting, contender), one result for each round.
    results: dict[tuple[str, str], list[Result]] = field(default_factory=dict)
    # Rounds that were finished, and why there were no more; empty where there were to be no more.
    rounds: int = 0
    cut_short: str = ""
    # The results of the echo server, where it was measured in every round.
    ceiling: Table | None = None

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

    def cpu_us(self, setting: str, contender: str) -> float | None:
        """The median of the server's processor time for one operation, in microseconds. None where it is unknown."""
        return cpu_us_median(self.results[setting, contender])

    def best(self, setting: str, contenders: list[str]) -> str:
        """The contender with the greatest throughput at a setting."""
        return max(contenders, key=lambda contender: self.throughput(setting, contender))

    def limited(self, setting: str, contender: str) -> bool:
        """Whether most of the rounds are INVALID, because of the generator or the machine."""
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
                "server_cpu_us_per_operation": [result.server_cpu_us for result in results],
                "generator_share": [round(result.generator_share, 4) for result in results],
                "invalid": [result.invalid for result in results],
                "response": histogram_document(merged(result.response for result in results)),
            }
            for (setting, contender), results in self.results.items()
        ]


def cpu_us_median(results: list[Result]) -> float | None:
    """The median of the servers' processor time for one operation, in microseconds. None where it is unknown."""
    values = [value for result in results if (value := result.server_cpu_us) is not None]
    return statistics.median(values) if values else None


def microseconds(value_us: float | None) -> str:
    """Processor time for one operation, in words; "-" for None."""
    return "-" if value_us is None else f"{value_us:.2f} us"


def problems(result: Result) -> list[str]:
    """One sentence for each thing that was wrong with a run. Slow is not wrong."""
    sentences = [f"{count:,} requests failed: {kind}" for kind, count in sorted(result.failed.items())]
    if result.timed_out:
        sentences.append(f"{result.timed_out:,} requests timed out")
    outside = {**result.failed_outside, **{f"lost: {why}": count for why, count in result.connections_lost.items()}}
    sentences += [f"{count:,} outside of the measured time or connections: {kind}" for kind, count in outside.items()]
    if result.wrong:
        sentences.append("counters differ from what was acknowledged")
    return sentences


def run_rounds(
    contenders: list[Contender],
    settings: list[Setting],
    rounds: int,
    base: Plan,
    on_run: Callable[[int, Setting, Contender, Result], None] | None = None,
    *,
    echo: Contender | None = None,
    keep: bool = False,
) -> Table:
    """Run every contender at every setting in every round. Each round begins with another contender.

    `base` is the plan without what depends on the contender and the setting. Settings with a batch are for naught and
    the echo server only, as the others have no command for many counters. `on_run` is called after each run. With an
    echo server the ceiling of the generator is measured in every round, and each result is held against it.

    With `keep`, Ctrl-C or a run that fails ends the rounds, and those that were finished are returned; unless there
    is none.
    """
    table = Table(ceiling=Table())
    try:
        for number in range(rounds):
            finished: list[tuple[Setting, Contender, Result]] = []
            for setting, contender in _order(contenders, settings, number, echo):
                result = _run(contender, setting, base)
                finished.append((setting, contender, result))
                if on_run is not None and contender is not echo:
                    on_run(number, setting, contender, result)
            _add_round(table, finished, echo)
    except (KeyboardInterrupt, RunError) as error:
        if not keep or not table.rounds:
            raise
        table.cut_short = str(error) or "it was interrupted"
    return table


def _order(
    contenders: list[Contender], settings: list[Setting], number: int, echo: Contender | None
) -> Iterator[tuple[Setting, Contender]]:
    """What is run in a round, in this order."""
    for setting in settings:
        if echo is not None:
            yield setting, echo
        first = number % len(contenders)
        for contender in contenders[first:] + contenders[:first]:
            if setting.batch == 1 or contender.name in ("naught", "echo"):
                yield setting, contender


def _add_round(table: Table, finished: list[tuple[Setting, Contender, Result]], echo: Contender | None) -> None:
    """Add a whole round to the table."""
    assert table.ceiling is not None
    ceiling: Result | None = None
    for setting, contender, result in finished:
        if contender is echo:
            ceiling = result
            table.ceiling.add(setting.name, contender.name, result)
            continue
        if ceiling is not None:
            result.judge_by_ceiling([ceiling])
        table.add(setting.name, contender.name, result)
    table.rounds += 1


def _run(contender: Contender, setting: Setting, base: Plan) -> Result:
    """One run. Against an echo server it is shorter."""
    if contender.name == "echo":
        base = replace(base, duration_s=min(base.duration_s, ECHO_S))
    plan = replace(base, target=contender.url, prefix=new_prefix(), pipeline=setting.depth, batch=setting.batch)
    return Run(plan, server_pid=contender.pid).execute()


def base_plan(cores: Cores, **changes: Any) -> Plan:
    """A plan on the generator's cores. `run_rounds`, or `replace`, fills in its target and its prefix."""
    return Plan(target="echo://127.0.0.1:1", prefix="unset:", cores=cores.generator, **changes)
