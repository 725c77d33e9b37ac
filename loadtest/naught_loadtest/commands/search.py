"""`naught-loadtest search`: the highest rate at which an objective still holds.

The load is an open loop, so a server that falls behind shows it. The rate doubles until the objective is missed.
Then the gap between the highest rate that held and the lowest that missed is halved until it is narrow enough. A
longer run confirms the rate that was found; where that fails, the rate steps down and is confirmed again.

A miss is believed only when a second run at the same rate misses too, because any machine may be disturbed for a
moment. When the generator made both runs INVALID, the generator was the limit, and the report says that the server
may reach more.
"""

from __future__ import annotations

import argparse
from dataclasses import dataclass
from typing import Any, TextIO

from naught_loadtest.commands import status
from naught_loadtest.commands.outputs import add_html_argument, check_outputs, write_outputs
from naught_loadtest.commands.run import (
    add_load_arguments,
    objective,
    plan_of,
)
from naught_loadtest.generate.plan import Plan
from naught_loadtest.generate.runner import Run, new_prefix
from naught_loadtest.measure.histogram import SAMPLES_BEYOND_MIN
from naught_loadtest.measure.report import milliseconds, text_stream, write_json
from naught_loadtest.measure.result import Result
from naught_loadtest.measure.slo import Objective, allow_errors

# Longer runs, each at a lower rate, before the search gives up.
CONFIRMATIONS_MAX = 5


class Bisection:
    """The search without the runs. Its user reads `rate`, tries it, and reports the outcome with `tell`. Pure."""

    def __init__(self, start: float, most: float, precision: float) -> None:
        # The highest rate that held, and the lowest that missed; None while there is none.
        self.held: float | None = None
        self.missed: float | None = None
        # The highest rate that may be tried.
        self._most = most
        # The gap at which the search ends, as a part of the rate.
        self._precision = precision
        # The rate to try next, in requests per second.
        self.rate = min(start, most)

    @property
    def done(self) -> bool:
        """Whether the gap is narrow enough, or there is no rate left to try."""
        if self.held is None:
            # Rates below one request per second are not searched.
            return self.missed is not None and self.rate < 1
        if self.missed is None:
            return self.held >= self._most
        return self.missed / self.held - 1 <= self._precision

    def tell(self, held: bool) -> None:
        """Take in the outcome at `rate`, and set `rate` to the next one to try."""
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
class Attempt:
    """One run of the search."""

    rate: float
    # Whether all objectives were met and nothing failed.
    held: bool
    # The judgement of each objective, in words.
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
    """Add the arguments of `search`."""
    add_load_arguments(parser)
    add = parser.add_argument
    add("--slo", type=objective, action="append", required=True, metavar="'p99<1ms'", help="what must hold")
    add("--start", type=float, default=1000.0, metavar="RATE", help="first rate, requests per second (%(default)g)")
    add("--most", type=float, default=1e7, metavar="RATE", help="highest rate to try (%(default)g)")
    add("--precision", type=float, default=0.05, metavar="PART", help="gap at which the search ends (%(default)g)")
    add("--confirm", type=float, metavar="S", help="length of the confirming run (three times --duration)")
    add_html_argument(parser)
    parser.set_defaults(duration=5.0)


def execute(arguments: argparse.Namespace) -> int:
    """Run the whole command. Returns the exit status."""
    out = text_stream(arguments.json)
    plan = plan_of(arguments, rate=arguments.start)
    check_outputs(arguments)
    if any(each.kind == "rate" for each in arguments.slo):
        raise ValueError("an objective about the rate does not go with a search, which looks for the rate")
    search = Search(plan, arguments.slo, out)
    print(f"{plan.target}: the highest rate with {', '.join(each.text for each in arguments.slo)}\n", file=out)
    bisection = Bisection(arguments.start, arguments.most, arguments.precision)
    while not bisection.done:
        bisection.tell(search.try_rate(bisection.rate, arguments.duration).held)
    confirmed = None
    if bisection.held is not None:
        print("\nconfirming with a longer run", file=out)
        confirm_s = arguments.confirm or 3 * arguments.duration
        confirmed = search.confirm(bisection.held, confirm_s, 1 + 2 * arguments.precision)
    print(file=out)
    print(_conclusion(confirmed, search.limited), file=out)
    document = {
        "schema": 1,
        "kind": "search",
        "plan": plan.to_json(),
        "objectives": [each.text for each in arguments.slo],
        "probes": [attempt.to_json() for attempt in search.attempts],
        "confirmed": confirmed.to_json() if confirmed else None,
        "generator_limited": search.limited,
    }
    if arguments.json:
        write_json(document, arguments.json)
    write_outputs(arguments, document)
    if search.wrong:
        return status.FAILED
    return status.OK if confirmed is not None else status.OBJECTIVE_MISSED


def _conclusion(confirmed: Attempt | None, limited: bool) -> str:
    if confirmed is None:
        return "no rate was found at which the objective holds"
    at_least = "at least " if limited else ""
    why = " (above this rate the generator was the limit)" if limited else ""
    return f"{at_least}{confirmed.rate:,.0f} requests/s{why}: {confirmed.sentence}"


class Search:
    """Does the runs of a search and keeps their results."""

    def __init__(self, plan: Plan, objectives: list[Objective], out: TextIO) -> None:
        self._plan = plan
        self._objectives = objectives
        # Gets one line for each run.
        self._out = out
        # All runs, in order.
        self.attempts: list[Attempt] = []
        # Whether the generator made both runs at one rate INVALID. Then the server may reach more.
        self.limited = False
        # Whether a verification failed. Then the command fails, whatever rate was found.
        self.wrong = False

    def try_rate(self, rate: float, duration_s: float) -> Attempt:
        """One run at this rate, repeated once if the objective was missed."""
        attempt = self._run(rate, duration_s)
        if not attempt.held:
            first_invalid = bool(attempt.result.invalid)
            attempt = self._run(rate, duration_s)
            self.limited |= first_invalid and bool(attempt.result.invalid)
        return attempt

    def confirm(self, rate: float, duration_s: float, step: float) -> Attempt | None:
        """A longer run at this rate. While it misses, the rate is divided by `step`. None if all runs missed."""
        for _ in range(CONFIRMATIONS_MAX):
            attempt = self.try_rate(rate, duration_s)
            if attempt.held:
                return attempt
            rate /= step
        return None

    def _run(self, rate: float, duration_s: float) -> Attempt:
        # Long enough that every percentile asked for has its hundred samples beyond it, and a tenth longer.
        percents = [each.percent for each in self._objectives if each.percent is not None]
        samples = max((SAMPLES_BEYOND_MIN * 100 / (100 - percent) for percent in percents), default=0)
        changes = {
            "prefix": new_prefix(),
            "rate": rate,
            "duration_s": max(duration_s, 1.1 * samples / rate),
        }
        result = Run(Plan.from_json({**self._plan.to_json(), **changes})).execute()
        judged = [each.judge(result) for each in self._objectives]
        clean = (not result.failures or allow_errors(self._objectives)) and not result.invalid
        held = clean and all(met for met, _ in judged)
        sentence = "; ".join(sentence for _, sentence in judged)
        if result.failures:
            sentence += f"; {result.failures:,} failed"
        if result.verification is not None and not result.verification.passed:
            self.wrong = True
            sentence += "; WRONG: counters differ from what was acknowledged"
        attempt = Attempt(rate, held, sentence, result)
        self.attempts.append(attempt)
        invalid = "".join(f"\n             INVALID: {reason}" for reason in result.invalid)
        p50 = milliseconds(result.response.percentile(50))
        print(f"{rate:>12,.0f}/s   p50 {p50:>8}   {sentence}{invalid}", file=self._out, flush=True)
        return attempt
