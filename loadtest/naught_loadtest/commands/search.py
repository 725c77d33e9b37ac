"""`naught-loadtest search`: the highest rate at which an objective still holds.

Open loop, so that a server that falls behind shows it. The rate doubles until the objective is missed, then
the gap is halved until it is narrow enough, and what was found is confirmed by a longer run; where that fails,
the rate steps down and is confirmed again. A probe that missed is repeated once before it is believed: a machine
has its moments. One that the generator itself spoiled twice counts as the generator's limit, and the report says
that the server may do more.
"""

from __future__ import annotations

import argparse
import sys
from dataclasses import dataclass
from typing import Any

from naught_loadtest.commands import status
from naught_loadtest.commands.run import (
    add_load_arguments,
    objective,
    plan_of,
)
from naught_loadtest.generate.plan import Plan
from naught_loadtest.generate.runner import Run, new_prefix
from naught_loadtest.measure.histogram import SAMPLES_BEYOND_MIN
from naught_loadtest.measure.report import milliseconds, write_json
from naught_loadtest.measure.result import Result
from naught_loadtest.measure.slo import Objective

CONFIRMATIONS_MAX = 5


class Bisection:
    """The search itself, without the runs: ask `rate` what to try, `tell` how it went. Pure."""

    def __init__(self, start: float, most: float, precision: float) -> None:
        # The highest rate that held, and the lowest that did not; None while there is none.
        self.held: float | None = None
        self.missed: float | None = None
        self._most = most
        self._precision = precision
        self.rate = min(start, most)

    @property
    def done(self) -> bool:
        """Whether the gap is narrow enough, or there is nowhere left to go."""
        if self.held is None:
            # Below one request a second there is nothing left to find.
            return self.missed is not None and self.rate < 1
        if self.missed is None:
            return self.held >= self._most
        return self.missed / self.held - 1 <= self._precision

    def tell(self, held: bool) -> None:
        """The outcome at `rate`; moves `rate` to what is to be tried next."""
        if held:
            self.held = self.rate
        else:
            self.missed = self.rate
        if self.held is None:
            self.rate /= 4
        elif self.missed is None:
            self.rate = min(self.rate * 2, self._most)
        else:
            self.rate = (self.held + self.missed) / 2


@dataclass(slots=True)
class Probe:
    """One run of the search."""

    rate: float
    held: bool
    sentence: str
    result: Result

    def to_json(self) -> dict[str, Any]:
        return {
            "rate_per_s": round(self.rate, 1),
            "held": self.held,
            "sentence": self.sentence,
            "throughput_per_s": round(self.result.throughput, 1),
            "response_ns": self.result.response.summary_ns(),
            "lateness_ns": self.result.lateness.summary_ns(),
            "invalid": self.result.invalid,
        }


def configure(parser: argparse.ArgumentParser) -> None:
    """The arguments of `search`."""
    add_load_arguments(parser)
    add = parser.add_argument
    add("--slo", type=objective, action="append", required=True, metavar="'p99<1ms'", help="what must hold")
    add("--start", type=float, default=1000.0, metavar="RATE", help="requests a second to begin with (%(default)g)")
    add("--most", type=float, default=1e7, metavar="RATE", help="never try more (%(default)g)")
    add("--precision", type=float, default=0.05, metavar="PART", help="how near to the edge (%(default)g)")
    add("--confirm", type=float, metavar="S", help="length of the confirming run (three times --duration)")
    parser.set_defaults(duration=5.0)


def execute(arguments: argparse.Namespace) -> int:
    """The whole command. Its exit status."""
    people = sys.stderr if arguments.json == "-" else sys.stdout
    plan = plan_of(arguments, rate=arguments.start)
    search = Search(plan, arguments.slo, people)
    print(f"{plan.target}: the highest rate with {', '.join(each.text for each in arguments.slo)}\n", file=people)
    bisection = Bisection(arguments.start, arguments.most, arguments.precision)
    while not bisection.done:
        bisection.tell(search.probe(bisection.rate, arguments.duration).held)
    confirmed = None
    if bisection.held is not None:
        print("\nconfirming with a longer run", file=people)
        confirm_s = arguments.confirm or 3 * arguments.duration
        confirmed = search.confirm(bisection.held, confirm_s, 1 + 2 * arguments.precision)
    print(file=people)
    print(_conclusion(confirmed, search.limited), file=people)
    if arguments.json:
        document = {
            "schema": 1,
            "kind": "search",
            "plan": plan.to_json(),
            "objectives": [each.text for each in arguments.slo],
            "probes": [probe.to_json() for probe in search.probes],
            "confirmed": confirmed.to_json() if confirmed else None,
            "generator_limited": search.limited,
        }
        write_json(document, arguments.json)
    if search.wrong:
        return status.FAILED
    return status.OK if confirmed is not None else status.OBJECTIVE_MISSED


def _conclusion(confirmed: Probe | None, limited: bool) -> str:
    if confirmed is None:
        return "no rate was found at which the objective holds"
    at_least = "at least " if limited else ""
    why = " (beyond it the generator was the limit)" if limited else ""
    return f"{at_least}{confirmed.rate:,.0f} requests/s{why}: {confirmed.sentence}"


class Search:
    """Does the probes and remembers them."""

    def __init__(self, plan: Plan, objectives: list[Objective], people: Any) -> None:
        self._plan = plan
        self._objectives = objectives
        self._people = people
        self.probes: list[Probe] = []
        # Whether a probe was spoiled by the generator twice in a row: then the server may do more.
        self.limited = False
        # Whether a verification failed: then the figures do not matter.
        self.wrong = False

    def probe(self, rate: float, duration_s: float) -> Probe:
        """One run at this rate, repeated once when it did not hold."""
        probe = self._run(rate, duration_s)
        if not probe.held:
            spoiled = bool(probe.result.invalid)
            probe = self._run(rate, duration_s)
            self.limited |= spoiled and bool(probe.result.invalid)
        return probe

    def confirm(self, rate: float, duration_s: float, step: float) -> Probe | None:
        """A longer run at this rate, stepping down while it fails."""
        for _ in range(CONFIRMATIONS_MAX):
            probe = self.probe(rate, duration_s)
            if probe.held:
                return probe
            rate /= step
        return None

    def _run(self, rate: float, duration_s: float) -> Probe:
        # Long enough that the percentiles asked for have their hundred samples beyond, with some to spare.
        percents = [each.percent for each in self._objectives if each.percent is not None]
        observations = max((SAMPLES_BEYOND_MIN * 100 / (100 - percent) for percent in percents), default=0)
        changes = {
            "prefix": new_prefix(),
            "rate": rate,
            "duration_s": max(duration_s, 1.1 * observations / rate),
        }
        result = Run(Plan.from_json({**self._plan.to_json(), **changes})).execute()
        judged = [each.judge(result.response) for each in self._objectives]
        clean = not result.failures and not result.invalid
        held = clean and all(met for met, _ in judged)
        sentence = "; ".join(sentence for _, sentence in judged)
        if result.failures:
            sentence += f"; {result.failures:,} failed"
        if result.verification is not None and not result.verification.passed:
            self.wrong = True
            sentence += "; WRONG: the counters are not what was acknowledged"
        probe = Probe(rate, held, sentence, result)
        self.probes.append(probe)
        spoiled = "".join(f"\n             INVALID: {reason}" for reason in result.invalid)
        p50 = milliseconds(result.response.percentile(50))
        print(f"{rate:>12,.0f}/s   p50 {p50:>8}   {sentence}{spoiled}", file=self._people, flush=True)
        return probe
