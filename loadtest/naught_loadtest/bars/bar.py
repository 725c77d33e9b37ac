"""A bar and its verdict, and the `Bench` that says how bars are measured.

The modules beside this one measure one group of bars each. Their functions take a `Bench` (how long to measure, on
which cores) and return `Bar` objects (what is asked, what was reached, and whether that is enough).
"""

from __future__ import annotations

import sys
from dataclasses import dataclass, field
from typing import Any

from naught_loadtest.drivers.servers import Peer
from naught_loadtest.measure.cores import Cores
from naught_loadtest.measure.result import Result
from naught_loadtest.measure.rounds import INSTALLED, Contender, Setting

PASS = "PASS"
MISSED = "MISSED"
# Measured and shown; the bar asks for nothing.
REPORTED = "-"
# Could not be measured on this machine.
SKIPPED = "SKIPPED"
# Measured, but the figure must not be believed.
INVALID = "INVALID"


@dataclass(slots=True)
class Bar:
    """One line of the report."""

    group: str
    what: str
    # What is asked, in words; empty where nothing is asked.
    asked: str
    # The figure reached, in words; where there is no figure, the reason.
    reached: str
    verdict: str
    # The figures behind it, for programs.
    figures: dict[str, Any] = field(default_factory=dict)
    # Further lines of the report.
    notes: list[str] = field(default_factory=list)
    # One sentence for each kind of failed request and for wrong counters. Any of them makes the command fail.
    wrong: list[str] = field(default_factory=list)

    def lines(self) -> list[str]:
        asked = f"   bar: {self.asked}" if self.asked else ""
        first = f"{self.verdict:<8} {self.what:<46} {self.reached}{asked}"
        return [first, *(f"{'':<9}{note}" for note in self.notes)]

    def to_json(self) -> dict[str, Any]:
        return {
            "group": self.group,
            "what": self.what,
            "asked": self.asked,
            "reached": self.reached,
            "verdict": self.verdict,
            "figures": self.figures,
            "notes": self.notes,
            "wrong": self.wrong,
        }


@dataclass(frozen=True, slots=True)
class Bench:
    """How the bars are measured."""

    cores: Cores
    # How often each measurement is repeated. Where several servers or programs are compared, each round has them all.
    rounds: int
    # Shorter runs and smaller sizes: a check that it works, not figures to quote.
    quick: bool
    seed: int
    # The Redis or Valkey that bars compare with.
    peer: Peer = INSTALLED

    def say(self, sentence: str) -> None:
        """Print progress to standard error."""
        print(f"  {sentence}", file=sys.stderr, flush=True)

    def say_result(self, number: int, setting: Setting, contender: Contender, result: Result) -> None:
        """Print what a contender reached in a round: the `say` of `run_rounds`."""
        self.say(
            f"round {number + 1}/{self.rounds}  {setting.name:<14} {contender.name:<14}"
            f" {result.throughput:>11,.0f}/s   server {result.server_share or 0:.0%}"
            f"   generator {result.generator_share:.0%}"
        )


def at_least(value: float, bar: float) -> str:
    """The verdict on a figure that should be large."""
    return PASS if value >= bar else MISSED


def at_most(value: float, bar: float) -> str:
    """The verdict on a figure that should be small."""
    return PASS if value <= bar else MISSED


def skipped(group: str, what: str, reason: str) -> Bar:
    """A bar that could not be measured on this machine."""
    return Bar(group, what, "", reason, SKIPPED)
