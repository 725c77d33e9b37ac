"""A bar: what is asked, what was reached, and whether that is enough.

The measurements of `bars` are spread over the modules beside this one, a group of bars each. They get a
`Bench`, which says how long to measure and on which cores, and give back bars.
"""

from __future__ import annotations

import sys
from dataclasses import dataclass, field
from typing import Any

from naught_loadtest.measure.cores import Cores

PASS = "PASS"
MISSED = "MISSED"
# Measured and shown, with nothing asked.
REPORTED = "-"
SKIPPED = "SKIPPED"
INVALID = "INVALID"


@dataclass(slots=True)
class Bar:
    """One line of the result."""

    group: str
    what: str
    # What is asked, in words; empty where nothing is.
    asked: str
    # The figure reached, in words.
    reached: str
    verdict: str
    # Everything a program may want to know of it.
    figures: dict[str, Any] = field(default_factory=dict)
    # More to say, each a line of its own.
    notes: list[str] = field(default_factory=list)
    # Requests that failed and counters that are not what was acknowledged, a sentence each: this bench has failed.
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
    """How a bench is run."""

    cores: Cores
    rounds: int
    # Shorter runs and smaller sizes: to see that it works, not to quote.
    quick: bool
    seed: int

    def say(self, sentence: str) -> None:
        """Progress, on standard error."""
        print(f"  {sentence}", file=sys.stderr, flush=True)


def at_least(value: float, bar: float) -> str:
    """The verdict on a figure that should be large."""
    return PASS if value >= bar else MISSED


def at_most(value: float, bar: float) -> str:
    """The verdict on a figure that should be small."""
    return PASS if value <= bar else MISSED


def skipped(group: str, what: str, reason: str) -> Bar:
    """A bar that could not be measured here."""
    return Bar(group, what, "", reason, SKIPPED)
