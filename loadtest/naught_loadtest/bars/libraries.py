"""Client libraries compared with each other: what the bars `client` and `threads` have in common.

Each library is driven by a program of its own, a module of `bars.peers`, in a process of its own. These processes run
on the generator's cores, the servers on the other one. Every round runs each library once for each number of callers
and begins with another library than the round before. Only rates of the same round are divided.
"""

from __future__ import annotations

import json
import statistics
import subprocess
import sys
from dataclasses import dataclass, field

from naught_loadtest.bars.bar import INVALID, Bar, Bench, at_least, skipped
from naught_loadtest.bars.peers import NOT_INSTALLED_STATUS, key_of
from naught_loadtest.drivers.probe import open_probe
from naught_loadtest.drivers.servers import MissingProgramError
from naught_loadtest.drivers.target import parse_target
from naught_loadtest.generate.runner import RunError
from naught_loadtest.measure.cores import pinned_to
from naught_loadtest.measure.rounds import Contender, spread, started_all
from naught_loadtest.measure.usage import cpu_s
from naught_loadtest.processes import environment

# The package of the programs.
PEERS = "naught_loadtest.bars.peers"
# A program measures for a few seconds. One that has not ended after this time hangs.
PROGRAM_S_MAX = 60.0


@dataclass(frozen=True, slots=True)
class Library:
    """A client library and how it is driven."""

    # The module of `PEERS` that drives it.
    program: str
    # The server it talks to, by the name that `started_all` knows.
    server: str
    # Its name in reports.
    name: str


@dataclass(frozen=True, slots=True)
class Pairing:
    """naught's library and another one, compared at one number of callers."""

    # How many tasks or threads call at the same time.
    callers: int
    # The callers in words: "8 threads".
    callers_named: str
    peer: Library
    # The least ratio of naught's calls per second to the peer's.
    bar: float


# A library, and how many callers it has.
Case = tuple[Library, int]


@dataclass(frozen=True, slots=True)
class Pace:
    """What a program of `PEERS` reached."""

    calls_per_s: float
    # Processor time of the whole process for one call, in microseconds.
    cpu_us: float
    # Processor time of the server for one call, in microseconds; None where it is unknown.
    server_cpu_us: float | None = None


@dataclass(slots=True)
class _Outcome:
    """What all rounds gave."""

    # One for each round.
    paces: dict[Case, list[Pace]] = field(default_factory=dict)
    # Why a case could not be measured. It is not tried again.
    errors: dict[Case, MissingProgramError | RunError] = field(default_factory=dict)


def compare(bench: Bench, group: str, naught: Library, pairings: list[Pairing]) -> list[Bar]:
    """One bar for each of the pairings."""
    libraries = list(dict.fromkeys([naught, *(pairing.peer for pairing in pairings)]))
    # By number of callers the libraries that are compared at it.
    cases = {pairing.callers: [naught] for pairing in pairings}
    for pairing in pairings:
        cases[pairing.callers].append(pairing.peer)
    servers = list(dict.fromkeys(library.server for library in libraries))
    with started_all(servers, bench.cores.server, bench.peer) as (contenders, missing):
        if missing:
            return [skipped(group, f"{group} calls", missing[0])]
        outcome = _run_rounds(bench, cases, {contender.name: contender for contender in contenders})
        if bench.peer.url is not None:
            # A server that was not started here keeps nothing of the run.
            probe, inspector = open_probe(parse_target(bench.peer.url))
            with probe:
                inspector.remove([key_of(number) for number in range(max(cases))])
    return [_bar(group, naught, pairing, outcome) for pairing in pairings]


def _run_rounds(bench: Bench, cases: dict[int, list[Library]], running: dict[str, Contender]) -> _Outcome:
    outcome = _Outcome()
    for number in range(bench.rounds):
        for count, libraries in cases.items():
            first = number % len(libraries)
            for library in libraries[first:] + libraries[:first]:
                case = library, count
                if case in outcome.errors:
                    continue
                try:
                    pace = run_program(library.program, running[library.server], count, bench)
                except (MissingProgramError, RunError) as error:
                    outcome.errors[case] = error
                    result = str(error)
                else:
                    outcome.paces.setdefault(case, []).append(pace)
                    result = f"{pace.calls_per_s:>11,.0f} calls/s"
                bench.say(f"round {number + 1}/{bench.rounds}  {library.name:<18} {count:>3} at a time  {result}")
    return outcome


def run_program(program: str, server: Contender, callers: int, bench: Bench) -> Pace:
    """What a program of `PEERS` reached.

    MissingProgramError when its library is not installed, RunError when it fails or hangs.
    """
    command = [sys.executable, "-m", f"{PEERS}.{program}", server.url, str(callers), "1" if bench.quick else "3"]
    before_s = _cpu_s(server)
    with pinned_to(bench.cores.generator):
        try:
            done = subprocess.run(
                command, capture_output=True, text=True, check=False, timeout=PROGRAM_S_MAX, env=environment()
            )
        except subprocess.TimeoutExpired as error:
            raise RunError(f"{program} did not end within {PROGRAM_S_MAX:g} s") from error
    if done.returncode:
        # The last line of the traceback names the error. Tracebacks of exception groups are drawn in a frame.
        lines = [line.strip(" |+-") for line in done.stderr.splitlines()]
        reason = next(filter(None, reversed(lines)), f"{program} ended with status {done.returncode}")
        raise MissingProgramError(reason) if done.returncode == NOT_INSTALLED_STATUS else RunError(reason)
    said = json.loads(done.stdout)
    after_s = _cpu_s(server)
    known = before_s is not None and after_s is not None and said["calls"]
    server_us = (after_s - before_s) / said["calls"] * 1e6 if known else None  # type: ignore[operator]
    return Pace(said["calls_per_s"], said["cpu_us_per_call"], server_us)


def _cpu_s(server: Contender) -> float | None:
    return cpu_s(server.pid) if server.pid is not None else None


def _bar(group: str, naught: Library, pairing: Pairing, outcome: _Outcome) -> Bar:
    peer = pairing.peer
    what = f"calls of {pairing.callers_named} against {peer.name}"
    asked = f"at least {pairing.bar:g}x"
    cases = (naught, pairing.callers), (peer, pairing.callers)
    for case in cases:
        error = outcome.errors.get(case)
        if isinstance(error, RunError):
            reason = f"{case[0].name} failed: {error}"
            return Bar(group, what, asked, reason, INVALID, wrong=[reason])
        if error is not None:
            return skipped(group, what, str(error))
    mine, its = (outcome.paces[case] for case in cases)
    ratio = spread([one.calls_per_s / other.calls_per_s for one, other in zip(mine, its, strict=True)])
    return Bar(
        group,
        what,
        asked,
        str(ratio),
        at_least(ratio.median, pairing.bar),
        {
            "ratio": ratio.to_json(),
            "naught_calls_per_s": [pace.calls_per_s for pace in mine],
            "peer_calls_per_s": [pace.calls_per_s for pace in its],
            "naught_cpu_us_per_call": [pace.cpu_us for pace in mine],
            "peer_cpu_us_per_call": [pace.cpu_us for pace in its],
            "naught_server_cpu_us_per_call": [pace.server_cpu_us for pace in mine],
            "peer_server_cpu_us_per_call": [pace.server_cpu_us for pace in its],
        },
        [_described(naught.name, mine), _described(peer.name, its)],
    )


def _described(name: str, paces: list[Pace]) -> str:
    rate = statistics.median(pace.calls_per_s for pace in paces)
    cpu_us = statistics.median(pace.cpu_us for pace in paces)
    known = [pace.server_cpu_us for pace in paces if pace.server_cpu_us is not None]
    server = f", {statistics.median(known):.2f} us in the server" if known else ""
    return f"{name:<17} {rate:>11,.0f} calls/s, CPU {cpu_us:.2f} us a call in the client's process{server}"
