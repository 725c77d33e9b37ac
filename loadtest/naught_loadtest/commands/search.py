"""`naught-loadtest search`: the highest rate at which an objective still holds.

The load is an open loop, so a server that falls behind shows it. The rate doubles until the objective is missed.
Then the gap between the highest rate that held and the lowest that missed is halved until it is narrow enough. A
longer run confirms the rate that was found; where that fails, the rate steps down and is confirmed again.

All probes of a rate have the same length. An objective about a percentile holds where the part of the requests that
took longer is at most what it allows, and is missed where it is more, both with a confidence of 95 % (see
`measure.confidence`). While neither is sure the rate is probed again, up to three times in all. A miss is believed
only when a second probe agrees, because any machine may be disturbed for a moment. A rate that cannot be shown to
hold counts as missed. When the generator made the probes INVALID, it was the limit, and the report says that the
server may reach more.

The search ends after --within seconds. Then, and at Ctrl-C, it prints what was found until then.
"""

from __future__ import annotations

import argparse
import math
import sys
import time
from dataclasses import dataclass, field
from typing import Any, TextIO

from naught_loadtest.commands import status
from naught_loadtest.commands.outputs import add_html_argument, write_outputs
from naught_loadtest.commands.run import (
    add_load_arguments,
    add_pipeline_argument,
    objective,
    plan_of,
)
from naught_loadtest.generate.plan import NUMBER_MAX, Plan
from naught_loadtest.generate.runner import Run, RunError, new_prefix
from naught_loadtest.measure.confidence import bounds, samples_min
from naught_loadtest.measure.progress import ProgressLine
from naught_loadtest.measure.report import LABEL_WIDTH, paragraph, text_stream, wrapped, write_json
from naught_loadtest.measure.result import Result
from naught_loadtest.measure.slo import Objective, allow_errors
from naught_loadtest.processes import first_interrupt

# Longer runs, each at a lower rate, before the search gives up.
CONFIRMATIONS_MAX = 5
# Probes of one rate.
PROBES_MAX = 3
# Seconds that a search may take, unless --within says otherwise.
WITHIN_S_DEFAULT = 600.0
# What a probe takes beside its warm-up and its measured time: starting processes, comparing counters.
PROBE_EXTRA_S = 1.0

HELD = "held"
MISSED = "missed"
UNSURE = "unsure"
INVALID = "INVALID"
FAILED = "failed"


class SearchOverError(Exception):
    """The search ends here, with what it has found. The message says why."""


class Bisection:
    """The search without the runs. Its user reads `rate`, tries it, and reports the outcome with `tell`. Pure."""

    def __init__(self, start: float, most: float, precision: float, least: float = 1.0) -> None:
        # The highest rate that held, and the lowest that missed; None while there is none.
        self.held: float | None = None
        self.missed: float | None = None
        # The lowest and the highest rate that may be tried.
        self._least = least
        self._most = most
        # The gap at which the search ends, as a part of the rate.
        self._precision = precision
        # The rate to try next, in requests per second.
        self.rate = max(min(start, most), least)

    @property
    def done(self) -> bool:
        """Whether the gap is narrow enough, or there is no rate left to try."""
        if self.held is None:
            return self.missed is not None and self.missed <= self._least
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
            self.rate = max(self.rate / 4, self._least)
        elif self.missed is None:
            self.rate = min(self.rate * 2, self._most)
        else:
            self.rate = (self.held + self.missed) / 2


@dataclass(slots=True)
class Attempt:
    """One probe of a rate."""

    rate: float
    # What the probes of this rate have shown so far, this one included.
    verdict: str
    # How each objective was judged, in words.
    sentence: str
    result: Result

    @property
    def held(self) -> bool:
        return self.verdict == HELD

    def to_json(self) -> dict[str, Any]:
        return {
            "rate_per_s": round(self.rate, 1),
            "held": self.held,
            "verdict": self.verdict,
            "sentence": self.sentence,
            "throughput_per_s": round(self.result.throughput, 1),
            "response_ns": self.result.response.summary_ns(),
            "lateness_ns": self.result.lateness.summary_ns(),
            "invalid": self.result.invalid,
        }


@dataclass(slots=True)
class Evidence:
    """What several probes of one rate say about the objectives. Pure."""

    objectives: list[Objective]
    # Samples so far, and for each objective how many of them took longer than it allows.
    samples: int = 0
    slower: list[int] = field(default_factory=list)
    # The latest probe, for objectives that are not about latency.
    _latest: Result | None = None

    def add(self, result: Result) -> None:
        """Take in one more probe."""
        found = [
            0 if each.limit_ns is None else result.response.slower(each.limit_ns, or_equal=each.strict)
            for each in self.objectives
        ]
        self.slower = [sum(pair) for pair in zip(self.slower or [0] * len(found), found, strict=True)]
        self.samples += result.response.total
        self._latest = result

    def judge(self) -> tuple[str, str]:
        """(held, missed or unsure; a sentence about each objective)."""
        verdicts, sentences = [], []
        for each, slower in zip(self.objectives, self.slower, strict=True):
            verdict, sentence = self._judge(each, slower)
            verdicts.append(verdict)
            sentences.append(f"{each.text}: {sentence}")
        worst = next((verdict for verdict in (MISSED, UNSURE) if verdict in verdicts), HELD)
        return worst, "; ".join(sentences)

    def _judge(self, each: Objective, slower: int) -> tuple[str, str]:
        if not self.samples or self._latest is None:
            return UNSURE, "nothing was measured"
        if each.limit_ns is None:
            met, sentence = each.judge(self._latest)
            return HELD if met else MISSED, sentence.removeprefix(f"{each.text}: ")
        if each.percent is None:
            return MISSED if slower else HELD, f"{slower:,} of {self.samples:,} took longer"
        low, high = bounds(slower, self.samples)
        allowed = 1 - each.percent / 100
        part = f"{slower / self.samples:.3%} took longer"
        if high <= allowed + 1e-12:
            return HELD, f"{part}, surely at most {high:.3%}"
        if low > allowed:
            return MISSED, f"{part}, surely at least {low:.3%}"
        return UNSURE, f"{part}, surely {low:.3%} to {high:.3%}"


def configure(parser: argparse.ArgumentParser) -> None:
    """Add the arguments of `search`."""
    add_load_arguments(parser)
    add_pipeline_argument(parser)
    add = parser.add_argument
    add("--slo", type=objective, action="append", required=True, metavar="'p99<1ms'", help="what must hold")
    add("--start", type=float, default=1000.0, metavar="RATE", help="first rate, requests per second (%(default)g)")
    add("--most", type=float, default=1e7, metavar="RATE", help="highest rate to try (%(default)g)")
    add("--precision", type=float, default=0.05, metavar="PART", help="gap at which the search ends (%(default)g)")
    add("--within", type=float, default=WITHIN_S_DEFAULT, metavar="S", help="end after this time (%(default)g)")
    add("--confirm", type=float, metavar="S", help="length of the confirming run (three times --duration)")
    add_html_argument(parser)
    parser.set_defaults(duration=5.0)


def check_arguments(arguments: argparse.Namespace) -> None:
    """ValueError for a number that makes no sense."""
    for name in ("start", "most", "within", "confirm", "precision"):
        value = getattr(arguments, name)
        if value is not None and not 0 < value <= NUMBER_MAX:
            raise ValueError(f"--{name} must be above 0 and up to {NUMBER_MAX:g}, not {value}")


def least_rate(objectives: list[Objective], duration_s: float) -> float:
    """The lowest rate at which all probes together have enough requests to show that the objectives hold."""
    parts = [1 - each.percent / 100 for each in objectives if each.percent is not None]
    samples = max((samples_min(part) for part in parts), default=1)
    return max(1.0, math.ceil(samples / (PROBES_MAX * duration_s)))


def execute(arguments: argparse.Namespace) -> int:
    """Run the whole command. Returns the exit status."""
    check_arguments(arguments)
    out = text_stream(arguments.json)
    plan = plan_of(arguments, rate=arguments.start, pipeline=arguments.pipeline)
    if any(each.kind == "rate" for each in arguments.slo):
        raise ValueError("an objective about the rate does not go with a search, which looks for the rate")
    search = Search(plan, arguments.slo, out, time.monotonic() + arguments.within)
    asked = ", ".join(each.text for each in arguments.slo)
    print(paragraph(f"{plan.target}: the highest rate with {asked}, within {arguments.within:g} s"), file=out)
    least = least_rate(arguments.slo, plan.duration_s)
    if least > 1:
        probes = f"{PROBES_MAX} probes of {plan.duration_s:g} s"
        print(paragraph(f"below {least:,.0f}/s {probes} have too few requests to judge {asked}"), file=out)
    print(file=out, flush=True)
    bisection = Bisection(arguments.start, arguments.most, arguments.precision, least)
    confirmed, ended = None, ""
    try:
        while not bisection.done:
            bisection.tell(search.try_rate(bisection.rate, plan.duration_s).held)
        if bisection.held is not None:
            print("\nconfirming with a longer run", file=out, flush=True)
            confirm_s = arguments.confirm or 3 * plan.duration_s
            confirmed = search.confirm(bisection.held, confirm_s, 1 + 2 * arguments.precision)
    except SearchOverError as over:
        ended = str(over)
    except KeyboardInterrupt:
        search.interrupted, ended = True, "it was interrupted"
    conclusion = _conclusion(confirmed, bisection.held, search.limited, ended)
    if search.spoiled:
        conclusion = f"nothing is known about the server: every probe was INVALID{f', and {ended}' if ended else ''}"
    print(f"\n{paragraph(conclusion)}", file=out)
    document = {
        "schema": 1,
        "kind": "search",
        "plan": plan.to_json(),
        "objectives": [each.text for each in arguments.slo],
        "probes": [attempt.to_json() for attempt in search.attempts],
        "held_rate_per_s": bisection.held,
        "confirmed": confirmed.to_json() if confirmed else None,
        "generator_limited": search.limited,
        "ended": ended,
    }
    if arguments.json:
        write_json(document, arguments.json)
    write_outputs(arguments, document)
    if search.wrong or search.failed:
        return status.FAILED
    if search.interrupted:
        return status.INTERRUPTED
    if search.spoiled:
        return status.INVALID
    return status.OK if confirmed is not None or (ended and bisection.held) else status.OBJECTIVE_MISSED


def told_invalid(reasons: list[str]) -> str:
    """The first of the reasons, and how many more there are."""
    more = f" (and {len(reasons) - 1} more)" if len(reasons) > 1 else ""
    return f"{reasons[0]}{more}"


def _conclusion(confirmed: Attempt | None, held: float | None, limited: bool, ended: str) -> str:
    why = " (above this rate the generator was the limit)" if limited else ""
    if confirmed is not None:
        return f"{'at least ' if limited else ''}{confirmed.rate:,.0f} requests/s{why}: {confirmed.sentence}"
    if ended and held is not None:
        return f"at least {held:,.0f} requests/s, which held in a probe; no longer run confirmed it: {ended}"
    found = "no rate was found at which the objective holds"
    return f"{found}: {ended}" if ended else found


class Search:
    """Does the probes of a search and keeps their results."""

    def __init__(self, plan: Plan, objectives: list[Objective], out: TextIO, until_s: float) -> None:
        self._plan = plan
        self._objectives = objectives
        # Gets one line for each probe.
        self._out = out
        # When the search must be over, on the monotonic clock.
        self._until_s = until_s
        # All probes, in order.
        self.attempts: list[Attempt] = []
        # Whether all probes of one rate were INVALID. Then the server may reach more.
        self.limited = False
        # Whether a verification failed, and whether a run could not be done. Then the command fails, whatever rate
        # was found.
        self.wrong = False
        self.failed = False
        # Whether somebody pressed Ctrl-C.
        self.interrupted = False

    @property
    def spoiled(self) -> bool:
        """Whether there were probes, and the generator or the machine made every one INVALID."""
        return bool(self.attempts) and all(attempt.verdict == INVALID for attempt in self.attempts)

    def try_rate(self, rate: float, duration_s: float) -> Attempt:
        """Probe a rate until it is sure whether the objectives hold, or `PROBES_MAX` times."""
        evidence = Evidence(self._objectives)
        verdicts: list[str] = []
        while True:
            attempt = self._probe(rate, duration_s, evidence)
            verdicts.append(attempt.verdict)
            if attempt.held:
                return attempt
            agreed = attempt.verdict != UNSURE and verdicts.count(attempt.verdict) == 2
            if agreed or len(verdicts) == PROBES_MAX:
                self.limited |= set(verdicts) == {INVALID}
                return attempt

    def confirm(self, rate: float, duration_s: float, step: float) -> Attempt | None:
        """A longer run at this rate. While it misses, the rate is divided by `step`. None if all runs missed."""
        for _ in range(CONFIRMATIONS_MAX):
            attempt = self.try_rate(rate, duration_s)
            if attempt.held:
                return attempt
            rate /= step
        return None

    def _probe(self, rate: float, duration_s: float, evidence: Evidence) -> Attempt:
        if time.monotonic() + self._plan.warmup_s + duration_s + PROBE_EXTRA_S > self._until_s:
            raise SearchOverError("the time was over (--within)")
        result = self._run(rate, duration_s)
        if result.cut_short:
            self.interrupted = True
            raise SearchOverError("it was interrupted")
        failures = 0 if allow_errors(self._objectives) else result.failures + result.other_failures
        if not failures and not result.invalid:
            evidence.add(result)
            verdict, sentence = evidence.judge()
        else:
            verdict = FAILED if failures else INVALID
            sentence = f"{failures:,} requests failed" if failures else told_invalid(result.invalid)
        if result.wrong or result.lies:
            self.wrong = True
            verdict, sentence = FAILED, f"{sentence}; WRONG: counters differ from what was acknowledged"
        attempt = Attempt(rate, verdict, sentence, result)
        self.attempts.append(attempt)
        label = f"{rate:>{LABEL_WIDTH - 4},.0f}/s"
        for line in wrapped(label, f"{verdict:<8} {sentence}"):
            print(line, file=self._out)
        self._out.flush()
        return attempt

    def _run(self, rate: float, duration_s: float) -> Result:
        changes = {"prefix": new_prefix(), "rate": rate, "duration_s": duration_s}
        line = ProgressLine(sys.stderr)
        run = Run(
            Plan.from_json({**self._plan.to_json(), **changes}),
            objectives=self._objectives,
            on_progress=line.show,
            on_encoding=line.encoding,
        )
        try:
            with first_interrupt(run.interrupt):
                return run.execute()
        except RunError as error:
            if not self.attempts:
                raise
            self.failed = True
            raise SearchOverError(str(error)) from error
        finally:
            line.end()
