"""The sweeper's budget while an alert says that stale entries pile up. Pure: alerts and the time in, decisions out.

A firing alert raises the budget for a bounded time, and each further one makes it last that long again from then on:
it ends `seconds` after the last. The end is an annotation of the resource, so that it outlives the operator, and
whichever operator leads then puts the budget back.

A resolved alert changes nothing. The deviation has fallen *because* the budget is raised, and often before the
sweeper is through; ending at once would let the alert fire again, and the two would go on in turns. What it costs to
go on is bounded by the time.

What was found before is kept in the status before the budget is raised. In the end the budget is the resource's,
where it names one. Else, where somebody had set it by hand, it is that again. Else it is given back to the server's
file and its tuner. A sweeper that is off (0) stays off: that was a decision, and an alert does not overrule it.
"""

from __future__ import annotations

from collections.abc import Mapping
from dataclasses import dataclass
from datetime import UTC, datetime, timedelta
from typing import Any, Final

from naught_operator.spec import Raise

SETTING: Final = "sweep_budget_ms"
"""The setting that is raised."""


@dataclass(frozen=True)
class Raised:
    """A raise as the status has it: what was found before, and until when it lasts."""

    before: float
    by_hand: bool
    """Whether that had been set by `config_set`, and was neither the file's nor the tuner's."""
    since: datetime
    until: datetime


def written(moment: datetime) -> str:
    """A time as annotations and status have it: RFC 3339 in UTC, to the millisecond."""
    return moment.astimezone(UTC).isoformat(timespec="milliseconds").replace("+00:00", "Z")


def read(text: Any) -> datetime | None:
    """The time that a text names; None for a text that names none."""
    if not isinstance(text, str):
        return None
    try:
        moment = datetime.fromisoformat(text)
    except ValueError:
        return None
    return moment if moment.tzinfo is not None else None


def extended(until: datetime | None, now: datetime, seconds: int) -> datetime:
    """Until when the budget is raised after a further alert. Never shorter than it was."""
    end = now + timedelta(seconds=seconds)
    return end if until is None else max(until, end)


def as_status(raised: Raised, budget_ms: float) -> dict[str, Any]:
    """`status.raised`."""
    return {
        "sweepBudgetMs": budget_ms,
        "before": raised.before,
        "byHand": raised.by_hand,
        "since": written(raised.since),
        "until": written(raised.until),
    }


def from_status(status: Mapping[str, Any]) -> Raised | None:
    """The raise in a status; None without one."""
    found = status.get("raised")
    if not isinstance(found, Mapping):
        return None
    since, until, before = read(found.get("since")), read(found.get("until")), found.get("before")
    if since is None or until is None or not isinstance(before, int | float):
        return None
    return Raised(float(before), bool(found.get("byHand", True)), since, until)


def budget(asked: Raise, usual_ms: float) -> float:
    """The budget while it is raised. Never less than the usual one, and 0 stays 0."""
    return max(asked.budget_ms, usual_ms) if usual_ms else 0.0
