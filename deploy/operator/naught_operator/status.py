"""What the status of a resource says: its conditions, and one line that sums them up. Pure.

    Ready                 the server answers, runs from the current template, and has its live settings
    LiveSettingsApplied   every setting of the resource that can change live was read back with its value
    RolledOut             the pod was made from the current template, with the current settings

A condition's time changes only when its status does, as tools expect it.
"""

from __future__ import annotations

from collections.abc import Mapping, Sequence
from dataclasses import dataclass
from typing import Any, Literal

from naught_operator.names import READY


@dataclass(frozen=True)
class Condition:
    """One condition, without its times."""

    type: str
    status: Literal["True", "False", "Unknown"]
    reason: str
    message: str = ""


def merged(
    old: Sequence[Mapping[str, Any]], conditions: Sequence[Condition], generation: int, now: str
) -> list[dict[str, Any]]:
    """The conditions of the new status. One that has the status it had keeps its time; one that nothing is said of
    stays as it is."""
    before = {condition.get("type"): condition for condition in old}
    said = {condition.type for condition in conditions}
    kept = [dict(condition) for condition in old if condition.get("type") not in said]
    return kept + [_as_dict(condition, before.get(condition.type, {}), generation, now) for condition in conditions]


def _as_dict(condition: Condition, before: Mapping[str, Any], generation: int, now: str) -> dict[str, Any]:
    same = before.get("status") == condition.status
    return {
        "type": condition.type,
        "status": condition.status,
        "reason": condition.reason,
        "message": condition.message,
        "lastTransitionTime": before.get("lastTransitionTime", now) if same else now,
        "observedGeneration": generation,
    }


def ready(conditions: Sequence[Condition]) -> Condition:
    """The condition that sums up the others: the first that is not true."""
    for condition in conditions:
        if condition.status != "True":
            return Condition(READY, condition.status, condition.reason, condition.message)
    return Condition(READY, "True", "Running", "the server runs as the resource asks")
