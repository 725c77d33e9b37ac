"""What to do about the live settings of a server: what to set, what to give back, whether the budget is raised. Pure.

A server knows who has set each of its settings (`info`, `tuner.pinned`). What `config_set` has set stays, and its
tuner leaves it alone; a file that is read again, or `config_set` with nil, gives it back. So a setting of the
resource has to have its value *and* be pinned. One that the resource names no more is given back, and so is a raised
budget in the end, unless the resource or somebody by hand had set it.

A server that says nothing of pins is taken to pin everything: what it had before is put back as a value.
"""

from __future__ import annotations

from collections.abc import Collection, Mapping
from dataclasses import dataclass, replace
from datetime import datetime
from typing import Any

from naught_operator.names import RAISED_UNTIL
from naught_operator.raising import SETTING, Raised, budget, from_status, read
from naught_operator.settings import Difference, asked_for, live_differences, same
from naught_operator.spec import Resource, Spec


@dataclass(frozen=True)
class Plan:
    """What to do."""

    wanted: Mapping[str, Any]
    """The settings that are kept at a value, with it."""
    to_set: tuple[Difference, ...]
    """The settings in `wanted` that are to be set now."""
    once: Mapping[str, Any]
    """Settings that are set now and then left alone."""
    give_back: tuple[str, ...]
    """Settings that are given back to the server's file and its tuner."""
    raised: Raised | None
    """The raise that holds now."""
    ended: bool
    """A raise has ended and is to be forgotten."""


def pins_of(info: Mapping[str, Any]) -> Collection[str] | None:
    """The settings that `config_set` has set; None where the server does not say."""
    tuner = info.get("tuner")
    return None if tuner is None else list(tuner["pinned"])


def plan(
    resource: Resource, spec: Spec, live: Mapping[str, Any], pinned: Collection[str] | None, now: datetime
) -> Plan:
    """What to do for a server with these live settings."""
    kept: Mapping[str, Any] = resource.status.get("settings", {})
    wanted = {name: value for name, value in asked_for(spec).items() if name in live}
    raised = _raised(resource, live, pinned, now)
    before = from_status(resource.status)
    ended = before is not None and raised is None
    once: dict[str, Any] = {}
    if raised is not None:
        wanted[SETTING] = budget(spec.on_deviation, float(wanted.get(SETTING, raised.before)))
    elif before is not None and before.by_hand and SETTING in live and SETTING not in wanted:
        once[SETTING] = before.before
    return Plan(
        wanted=wanted,
        to_set=tuple(live_differences(wanted, live, pinned)),
        once=once,
        give_back=tuple(
            name
            for name in kept
            if name in live and name not in wanted and name not in once and (pinned is None or name in pinned)
        ),
        raised=raised,
        ended=ended,
    )


def _raised(
    resource: Resource, live: Mapping[str, Any], pinned: Collection[str] | None, now: datetime
) -> Raised | None:
    """The raise that holds now: one that has begun, with its new end, or one that begins."""
    until = read(resource.annotations.get(RAISED_UNTIL))
    if SETTING not in live or until is None or until <= now:
        return None
    before = from_status(resource.status)
    if before is not None:
        return replace(before, until=until)
    # What the operator itself keeps at a value was not set by hand.
    by_hand = SETTING not in resource.status.get("settings", {}) and (pinned is None or SETTING in pinned)
    return Raised(float(live[SETTING]), by_hand, now, until)


def drifts(differences: Collection[Difference], kept: Mapping[str, Any], live: Mapping[str, Any]) -> list[Difference]:
    """The differences that were a drift and are repaired: the setting had been read back with the wanted value, had
    another one now without the resource's doing, and has the wanted one again."""
    return [
        each
        for each in differences
        if each.name in kept
        and same(kept[each.name], each.wanted)
        and not same(each.found, each.wanted)
        and same(live.get(each.name), each.wanted)
    ]
