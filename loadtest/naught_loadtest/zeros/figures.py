"""The figures of all trials, found again by way of counting, kind of value and number of keys. Pure."""

from __future__ import annotations

import statistics
from collections.abc import Iterable
from dataclasses import dataclass, field
from typing import Any

MEBIBYTE = 2**20


@dataclass(frozen=True, slots=True)
class Place:
    """What one row of the comparison is about."""

    # A way of counting, as `zeros.maps` names it.
    variant: str
    # A kind of value, as `zeros.maps` names it.
    values: str
    # How many keys.
    keys: int


@dataclass(slots=True)
class Figures:
    """Everything that was measured."""

    # For each place its rounds, as `zeros.trial` reports them.
    work: dict[Place, list[dict[str, Any]]] = field(default_factory=dict)
    # By (variant, values), as `zeros.trial` reports them.
    allocations: dict[tuple[str, str], dict[str, Any]] = field(default_factory=dict)
    # SafeMap's rate divided by that of a dict and a lock, by number of keys and then "policy/workload".
    guard: dict[int, dict[str, float]] = field(default_factory=dict)
    # A sentence for each size that was not measured.
    skipped: list[str] = field(default_factory=list)

    def add(self, place: Place, one_round: dict[str, Any]) -> None:
        """Keep the figures of one round."""
        self.work.setdefault(place, []).append(one_round)

    def each(self, place: Place, name: str) -> list[float]:
        """One figure in all rounds."""
        return [float(one_round[name]) for one_round in self.work.get(place, [])]

    def median(self, place: Place, name: str) -> float | None:
        """The median of one figure; None if it was not measured."""
        values = self.each(place, name)
        return statistics.median(values) if values else None

    def sizes(self, values: str, variants: Iterable[str]) -> list[int]:
        """The numbers of keys at which all of these variants were measured, in ascending order."""
        sizes = [
            {place.keys for place in self.work if place.variant == variant and place.values == values}
            for variant in variants
        ]
        return sorted(set.intersection(*sizes)) if sizes else []
