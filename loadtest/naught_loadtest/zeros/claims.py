"""The claims of an article about zeros in maps, and the verdict of the measured figures on each. Pure.

The article compares a map that keeps its zeros with a map that deletes them; naught grew from it. A claim is
*confirmed* if the figures have the claimed direction and at least half the claimed ratio (a rate: at least the
claimed rate). It is *not applicable* if Python has nothing that the claim could be about, or if it was not
measured. Otherwise it is *refuted*.
"""

from __future__ import annotations

from collections.abc import Callable
from dataclasses import dataclass

from naught_loadtest.zeros.figures import MEBIBYTE, Figures, Place
from naught_loadtest.zeros.maps import TRACKED, UNTRACKED

CONFIRMED = "confirmed"
REFUTED = "refuted"
NOT_APPLICABLE = "not applicable"

# The numbers of the article: of the map that keeps its zeros ("leaking") and of the map that deletes them ("safe").
ALLOCATIONS_LEAKING, ALLOCATIONS_SAFE = 1240, 96
PAUSE_LEAKING_NS, PAUSE_SAFE_NS = 3820, 712
GUARDED_RATE_PART = 0.97
OPERATIONS_PER_S = 795_000
STEADY_MEGABYTES = 12
# The part of a claimed ratio that confirms it. Machines and languages differ by a factor of two and more.
RATIO_PART_MIN = 0.5
# Pauses that differ by less count as the same, whatever their ratio: two collections of nothing differ by as much.
SAME_PAUSE_NS_MAX = 100_000
# Memory is steady if a key that came and went leaves fewer bytes than the smallest object takes.
STEADY_BYTES_PER_KEY_MAX = 16


@dataclass(frozen=True, slots=True)
class Verdict:
    """One claim beside what was measured."""

    claim: str
    outcome: str
    # The figures that decided, in words.
    measured: str
    # Why they decide so, in one sentence.
    reason: str


def judge(figures: Figures) -> list[Verdict]:
    """The verdicts on all claims, in the order of the report; at each number of keys where it decides."""
    return [
        _allocations(figures),
        *_at_each_size(figures, UNTRACKED, _pauses),
        *_at_each_size(figures, TRACKED, _pauses),
        _guard(figures),
        _rate(figures),
        *_at_each_size(figures, UNTRACKED, _steady),
    ]


def _at_each_size(
    figures: Figures, values: str, judge_one: Callable[[Figures, str, int | None], Verdict]
) -> list[Verdict]:
    """The verdicts on a claim at all sizes that both ways of counting were measured at."""
    sizes: list[int | None] = [*figures.sizes(values, ("kept", "eager"))]
    return [judge_one(figures, values, size) for size in sizes or [None]]


def _not_measured(claim: str) -> Verdict:
    return Verdict(
        claim, NOT_APPLICABLE, "not measured in this run", "This run did not measure what the claim is about."
    )


def _allocations(figures: Figures) -> Verdict:
    claim = f"allocations: {ALLOCATIONS_LEAKING} per operation with zeros kept, {ALLOCATIONS_SAFE} with SafeMap"
    leaking = figures.allocations.get(("kept", UNTRACKED))
    safe = figures.allocations.get(("eager", UNTRACKED))
    if leaking is None or safe is None:
        return _not_measured(claim)
    peaks = leaking["bytes_at_peak_per_operation"], safe["bytes_at_peak_per_operation"]
    left = leaking["bytes_left_per_operation"], safe["bytes_left_per_operation"]
    measured = (
        f"at its peak an operation needs {peaks[0]:.1f} bytes against {peaks[1]:.1f}, "
        f"and leaves {left[0]:.1f} against {left[1]:.1f}"
    )
    if peaks[0] >= peaks[1] * ALLOCATIONS_LEAKING / ALLOCATIONS_SAFE * RATIO_PART_MIN:
        return Verdict(claim, CONFIRMED, measured, "The table with the zeros grows, and the other does not.")
    reason = (
        "A count allocates almost nothing in either map, because small numbers exist once and the table has room; "
        "the maps differ in what an operation leaves behind, not in what it allocates."
    )
    return Verdict(claim, REFUTED, measured, reason)


def _pauses(figures: Figures, values: str, size: int | None) -> Verdict:
    what = "values that are not tracked" if values == UNTRACKED else "values that are tracked"
    claim = f"collector pauses: {PAUSE_LEAKING_NS} ns with zeros kept, {PAUSE_SAFE_NS} with SafeMap ({what})"
    if size is None:
        return _not_measured(claim)
    places = Place("kept", values, size), Place("eager", values, size)
    leaking, safe = (figures.median(place, "full_collection_ns") or 0.0 for place in places)
    means = [figures.median(place, "pause_mean_ns") or 0.0 for place in places]
    measured = (
        f"{size:,} keys, 1 % alive: a full collection takes {leaking / 1e6:.2f} ms against {safe / 1e6:.2f}; "
        f"the mean pause of the run was {means[0] / 1e3:.1f} us against {means[1] / 1e3:.1f}"
    )
    ratio = leaking / max(1.0, safe)
    same = abs(leaking - safe) < SAME_PAUSE_NS_MAX
    if not same and ratio >= PAUSE_LEAKING_NS / PAUSE_SAFE_NS * RATIO_PART_MIN:
        reason = f"The collector visits every zero that stayed: {ratio:.1f} times the pause, and growing with them."
        return Verdict(claim, CONFIRMED, measured, reason)
    if same and values == UNTRACKED:
        reason = (
            "CPython frees by counting references, and its collector visits neither numbers and strings "
            "nor a dict of them, however many zeros it holds."
        )
        return Verdict(claim, NOT_APPLICABLE, measured, reason)
    return Verdict(claim, REFUTED, measured, f"The pause with zeros kept is {ratio:.1f} times the other.")


def _guard(figures: Figures) -> Verdict:
    claim = f"SafeMap reaches {GUARDED_RATE_PART:.0%} of the unguarded map's rate"
    if not figures.guard:
        return _not_measured(claim)
    parts = []
    least = {}
    for keys, ratios in figures.guard.items():
        eager = {name.partition("/")[2]: ratio for name, ratio in ratios.items() if name.startswith("eager/")}
        workload = min(eager, key=lambda name: eager[name])
        least[keys] = eager[workload]
        parts.append(f"{keys:,} keys {eager[workload]:.1%} ({workload})")
    measured = f"eager, beside a dict and a lock of ten lines, the least of its workloads: {', '.join(parts)}"
    if min(least.values()) >= GUARDED_RATE_PART:
        reason = "Eviction and checks cost no more than what a cheaper way to take the lock saves."
        return Verdict(claim, CONFIRMED, measured, reason)
    if max(least.values()) >= GUARDED_RATE_PART:
        sizes = ", ".join(f"{keys:,}" for keys, ratio in least.items() if ratio < GUARDED_RATE_PART)
        return Verdict(claim, REFUTED, measured, f"It holds at some sizes, but not with {sizes} keys.")
    return Verdict(claim, REFUTED, measured, "Eviction and checks cost more than the claim allows at every size.")


def _rate(figures: Figures) -> Verdict:
    claim = f"{OPERATIONS_PER_S:,} operations per second"
    sizes = sorted({place.keys for place in figures.work if place.variant == "eager" and place.values == UNTRACKED})
    if not sizes:
        return _not_measured(claim)
    rates = {size: figures.median(Place("eager", UNTRACKED, size), "operations_per_s") or 0.0 for size in sizes}
    by_size = ", ".join(f"{rate:,.0f} with {size:,} keys" for size, rate in rates.items())
    measured = f"SafeMap, eager: {by_size}"
    reached = [size for size, rate in rates.items() if rate >= OPERATIONS_PER_S]
    if len(reached) == len(rates):
        reason = "One thread of Python reaches the claimed rate at every size measured."
        return Verdict(claim, CONFIRMED, measured, reason)
    reason = (
        f"A method call and a lock in Python cost more time than this rate leaves at {len(rates) - len(reached)} "
    )
    return Verdict(claim, REFUTED, measured, f"{reason}of {len(rates)} sizes.")


def _steady(figures: Figures, values: str, size: int | None) -> Verdict:
    claim = f"memory steady at {STEADY_MEGABYTES} MB"
    if size is None:
        return _not_measured(claim)
    grown = {}
    for variant in ("kept", "eager"):
        place = Place(variant, values, size)
        grown[variant] = (figures.median(place, "churn_growth_bytes") or 0.0) / max(
            1.0, figures.median(place, "churn_keys") or 0.0
        )
    place = Place("eager", values, size)
    empty, kept = (figures.median(place, name) or 0.0 for name in ("empty_bytes", "kept_bytes"))
    measured = (
        f"{size:,} keys, 1 % alive: a key that came and went left {grown['kept']:.0f} bytes with zeros kept, "
        f"{grown['eager']:.0f} with SafeMap, which has {kept / MEBIBYTE:.1f} MiB above the "
        f"{empty / MEBIBYTE:.1f} MiB of the empty process"
    )
    if grown["eager"] >= STEADY_BYTES_PER_KEY_MAX:
        return Verdict(claim, REFUTED, measured, "Memory grows with the number of keys that come and go.")
    if empty + kept <= STEADY_MEGABYTES * 1e6:
        return Verdict(claim, CONFIRMED, measured, "It stays the same, below the claimed level.")
    reason = (
        "It is steady, but not at that level: Python itself takes more before the first key, "
        "and the rest depends on how many counters live and how many lived before."
    )
    return Verdict(claim, REFUTED, measured, reason)
