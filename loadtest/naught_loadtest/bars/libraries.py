"""Client libraries beside each other: what the bars of the client have in common.

Each library runs in a process of its own, from a script in `loadtest/peers` of the checkout (an installed package
has none, as nothing here may import another library), held to the generator's cores, its server to the other. Every
round has each library once for each number of callers and begins with another library; only what was measured in
the same round is divided.
"""

from __future__ import annotations

import json
import statistics
import subprocess
import sys
from dataclasses import dataclass, field
from pathlib import Path

from naught_loadtest.bars.bar import INVALID, REPORTED, Bar, Bench, at_least, skipped
from naught_loadtest.drivers.servers import MissingProgramError
from naught_loadtest.generate.runner import RunError
from naught_loadtest.measure.cores import held_to
from naught_loadtest.measure.rounds import spread, started_all
from naught_loadtest.processes import environment

PEERS_FOLDER = Path(__file__).resolve().parent / "peers"
# What a script's exit status is where its library is not installed.
NOT_INSTALLED_STATUS = 77
# A script measures for a few seconds; one that takes so long hangs.
SCRIPT_S_MAX = 60.0


@dataclass(frozen=True, slots=True)
class Library:
    """A client library and how it is driven."""

    script: str
    # The server it is for, as `started` knows it.
    server: str
    # How people call it.
    name: str


@dataclass(frozen=True, slots=True)
class Pairing:
    """Naught's library beside another one, with so many callers at the same time."""

    callers: int
    # The callers in words: "8 threads".
    callers_named: str
    peer: Library
    # At least how many times the peer's calls a second; None where nothing is asked.
    bar: float | None


# A library, and how many call at the same time.
Case = tuple[Library, int]


@dataclass(slots=True)
class _Found:
    """What all rounds gave."""

    # Calls a second, one figure for each round.
    rates: dict[Case, list[float]] = field(default_factory=dict)
    # What stood in the way; it is not tried again.
    trouble: dict[Case, MissingProgramError | RunError] = field(default_factory=dict)


def compare(bench: Bench, group: str, naught: Library, pairings: list[Pairing]) -> list[Bar]:
    """A bar for each of the pairings."""
    what = f"{group} calls"
    if not PEERS_FOLDER.is_dir():
        return [skipped(group, what, "needs the checkout: there is no loadtest/peers folder here")]
    libraries = list(dict.fromkeys([naught, *(pairing.peer for pairing in pairings)]))
    callers = list(dict.fromkeys(pairing.callers for pairing in pairings))
    servers = list(dict.fromkeys(library.server for library in libraries))
    with started_all(servers, bench.cores.server) as (contenders, missing):
        if missing:
            return [skipped(group, what, missing[0])]
        urls = {contender.name: contender.url for contender in contenders}
        found = _run_rounds(bench, libraries, callers, urls)
    return [_bar(group, naught, pairing, found) for pairing in pairings]


def _run_rounds(bench: Bench, libraries: list[Library], callers: list[int], urls: dict[str, str]) -> _Found:
    found = _Found()
    for number in range(bench.rounds):
        turn = number % len(libraries)
        for count in callers:
            for library in libraries[turn:] + libraries[:turn]:
                case = library, count
                if case in found.trouble:
                    continue
                try:
                    rate = run_script(library.script, urls[library.server], count, bench)
                except (MissingProgramError, RunError) as error:
                    found.trouble[case] = error
                    said = str(error)
                else:
                    found.rates.setdefault(case, []).append(rate)
                    said = f"{rate:>11,.0f} calls/s"
                bench.say(f"round {number + 1}/{bench.rounds}  {library.name:<18} {count:>3} at a time  {said}")
    return found


def run_script(script: str, url: str, callers: int, bench: Bench) -> float:
    """Calls a second. MissingProgramError when its library is not installed, RunError when it fails."""
    words = [sys.executable, str(PEERS_FOLDER / script), url, str(callers), "1" if bench.quick else "3"]
    with held_to(bench.cores.generator):
        try:
            done = subprocess.run(
                words, capture_output=True, text=True, check=False, timeout=SCRIPT_S_MAX, env=environment()
            )
        except subprocess.TimeoutExpired as error:
            raise RunError(f"{script} had not ended after {SCRIPT_S_MAX:g} s") from error
    if done.returncode:
        # The traceback of a group of exceptions stands in a frame.
        lines = [line.strip(" |+-") for line in done.stderr.splitlines()]
        said = next(filter(None, reversed(lines)), f"{script} ended with status {done.returncode}")
        raise MissingProgramError(said) if done.returncode == NOT_INSTALLED_STATUS else RunError(said)
    rate: float = json.loads(done.stdout)["calls_per_s"]
    return rate


def _bar(group: str, naught: Library, pairing: Pairing, found: _Found) -> Bar:
    peer = pairing.peer
    what = f"calls of {pairing.callers_named} against {peer.name}"
    asked = "" if pairing.bar is None else f"at least {pairing.bar:g}x"
    cases = (naught, pairing.callers), (peer, pairing.callers)
    for case in cases:
        error = found.trouble.get(case)
        if isinstance(error, RunError):
            reason = f"{case[0].name} failed: {error}"
            return Bar(group, what, asked, reason, INVALID, wrong=[reason])
        if error is not None:
            return skipped(group, what, str(error))
    mine, its = (found.rates[case] for case in cases)
    ratio = spread([one / other for one, other in zip(mine, its, strict=True)])
    return Bar(
        group,
        what,
        asked,
        str(ratio),
        REPORTED if pairing.bar is None else at_least(ratio.median, pairing.bar),
        {"ratio": ratio.to_json(), "naught_calls_per_s": mine, "peer_calls_per_s": its},
        [f"naught {statistics.median(mine):,.0f} calls/s, {peer.name} {statistics.median(its):,.0f}"],
    )
