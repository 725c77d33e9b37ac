"""What the article claims of zeros in maps, and what the figures measured here say to it. Pure.

A claim is *confirmed* if what was measured has the claimed direction and at least half the claimed ratio (a rate:
at least the claimed rate), *not applicable* if Python has nothing that the claim could be about or it was not
measured, and *refuted* otherwise.
"""

from __future__ import annotations

from dataclasses import dataclass

from naught_loadtest.zeros.maps import TRACKED, UNTRACKED
from naught_loadtest.zeros.table import MEBIBYTE, Figures, Place

CONFIRMED = "confirmed"
REFUTED = "refuted"
NOT_APPLICABLE = "not applicable"

ALLOCATIONS_LEAKING, ALLOCATIONS_SAFE = 1240, 96
PAUSE_LEAKING_NS, PAUSE_SAFE_NS = 3820, 712
GUARDED_RATE_PART = 0.97
OPERATIONS_PER_S = 795_000
STEADY_MEGABYTES = 12
# The part of the claimed ratio that is enough: machines and languages differ, a factor of two is not the point.
RATIO_PART_MIN = 0.5
# Pauses that differ by less are the same, whatever their ratio: so much do two looks at nothing at all differ.
SAME_PAUSE_NS_MAX = 100_000
# Memory is steady if a key that came and went leaves less behind than any object takes.
STEADY_BYTES_PER_KEY_MAX = 16


@dataclass(frozen=True, slots=True)
class Verdict:
    """One claim beside what was measured."""

    claim: str
    outcome: str
    # The figures it rests on.
    measured: str
    # One sentence.
    reason: str


def judge(figures: Figures) -> list[Verdict]:
    """All the claims, in the order in which they are told."""
    return [
        _allocations(figures),
        _pauses(figures, UNTRACKED),
        _pauses(figures, TRACKED),
        _guard(figures),
        _rate(figures),
        _steady(figures),
    ]


def _not_measured(claim: str) -> Verdict:
    return Verdict(claim, NOT_APPLICABLE, "not measured in this run", "The run left out what the claim is about.")


def _allocations(figures: Figures) -> Verdict:
    claim = f"allocations: {ALLOCATIONS_LEAKING} an operation with zeros kept, {ALLOCATIONS_SAFE} with SafeMap"
    leaking = figures.allocations.get(("kept", UNTRACKED))
    safe = figures.allocations.get(("eager", UNTRACKED))
    if leaking is None or safe is None:
        return _not_measured(claim)
    peaks = leaking["bytes_at_peak_per_operation"], safe["bytes_at_peak_per_operation"]
    left = leaking["bytes_left_per_operation"], safe["bytes_left_per_operation"]
    measured = (
        f"at its highest an operation needs {peaks[0]:.1f} bytes against {peaks[1]:.1f}, "
        f"and leaves {left[0]:.1f} against {left[1]:.1f}"
    )
    holds = peaks[0] >= peaks[1] * ALLOCATIONS_LEAKING / ALLOCATIONS_SAFE * RATIO_PART_MIN
    if holds:
        return Verdict(claim, CONFIRMED, measured, "The table with the zeros grows, and the other does not.")
    reason = (
        "A count allocates next to nothing in either map, since small numbers exist once and the table has room; "
        "what differs is not what an operation allocates but what it leaves behind."
    )
    return Verdict(claim, REFUTED, measured, reason)


def _pauses(figures: Figures, values: str) -> Verdict:
    what = "values that are not tracked" if values == UNTRACKED else "values that are tracked"
    claim = f"collector pauses: {PAUSE_LEAKING_NS} ns with zeros kept, {PAUSE_SAFE_NS} with SafeMap ({what})"
    size = figures.largest(values, ("kept", "eager"))
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
        reason = (
            f"The collector walks over every zero that stayed: {ratio:.1f} times the pause, and growing with them."
        )
        return Verdict(claim, CONFIRMED, measured, reason)
    if same and values == UNTRACKED:
        reason = (
            "CPython frees by counting references, and its collector does not look at numbers and strings, "
            "nor into a dict of them, however many zeros it holds."
        )
        return Verdict(claim, NOT_APPLICABLE, measured, reason)
    return Verdict(claim, REFUTED, measured, f"The pause with zeros kept is {ratio:.1f} times the other.")


def _guard(figures: Figures) -> Verdict:
    claim = f"SafeMap reaches {GUARDED_RATE_PART:.0%} of the unguarded map's rate"
    if not figures.guard:
        return _not_measured(claim)
    eager = {name: ratio for name, ratio in figures.guard.items() if name.startswith("eager/")}
    least = min(eager, key=lambda name: eager[name])
    measured = f"eager, least of its workloads: {eager[least]:.1%} ({least.partition('/')[2]})"
    size = figures.largest(UNTRACKED, ("kept", "eager"))
    if size is not None:
        safe, bare = (
            figures.median(Place(variant, UNTRACKED, size), "operations_per_s") or 0.0
            for variant in ("eager", "kept")
        )
        measured += f"; of a bare dict's inlined counting, without locks or checks, {safe / max(1.0, bare):.0%}"
    if eager[least] >= GUARDED_RATE_PART:
        reason = (
            "Against the same map without its eviction branch the guard is all but free; "
            "what a bare dict is faster by is the method call and the lock, not the guard."
        )
        return Verdict(claim, CONFIRMED, measured, reason)
    held = eager.get("eager/held", 0.0)
    if held >= GUARDED_RATE_PART:
        reason = (
            f"Where counters stay above zero it holds ({held:.1%}), but deleting a key and making it again "
            "costs more than writing to one that stayed."
        )
        return Verdict(claim, REFUTED, measured, reason)
    return Verdict(claim, REFUTED, measured, "The same map without its eviction branch is faster by more than that.")


def _rate(figures: Figures) -> Verdict:
    claim = f"{OPERATIONS_PER_S:,} operations a second"
    sizes = sorted({place.keys for place in figures.work if place.variant == "eager" and place.values == UNTRACKED})
    if not sizes:
        return _not_measured(claim)
    rates = {size: figures.median(Place("eager", UNTRACKED, size), "operations_per_s") or 0.0 for size in sizes}
    slowest = min(rates, key=lambda size: rates[size])
    measured = f"SafeMap, eager: {rates[slowest]:,.0f} at its slowest, with {slowest:,} keys"
    if rates[slowest] >= OPERATIONS_PER_S:
        return Verdict(claim, CONFIRMED, measured, "One thread of Python does as much at every size measured.")
    return Verdict(
        claim, REFUTED, measured, "A method call and a lock in Python cost more than that leaves room for."
    )


def _steady(figures: Figures) -> Verdict:
    claim = f"memory steady at {STEADY_MEGABYTES} MB"
    size = figures.largest(UNTRACKED, ("kept", "eager"))
    if size is None:
        return _not_measured(claim)
    grown = {}
    for variant in ("kept", "eager"):
        place = Place(variant, UNTRACKED, size)
        grown[variant] = (figures.median(place, "churn_growth_bytes") or 0.0) / max(
            1.0, figures.median(place, "churn_keys") or 0.0
        )
    place = Place("eager", UNTRACKED, size)
    empty, kept = (figures.median(place, name) or 0.0 for name in ("empty_bytes", "kept_bytes"))
    measured = (
        f"{size:,} keys, 1 % alive: a key that came and went left {grown['kept']:.0f} bytes with zeros kept, "
        f"{grown['eager']:.0f} with SafeMap, at {kept / MEBIBYTE:.1f} MiB above the empty process's "
        f"{empty / MEBIBYTE:.1f}"
    )
    if grown["eager"] >= STEADY_BYTES_PER_KEY_MAX:
        return Verdict(claim, REFUTED, measured, "Memory still grows with the keys that pass through.")
    if empty + kept <= STEADY_MEGABYTES * 1e6:
        return Verdict(claim, CONFIRMED, measured, "It stays where it was, and below the claimed level.")
    reason = (
        "Steady it is, but not at that level: Python itself takes more before the first key, "
        "and the rest depends on what lives and lived."
    )
    return Verdict(claim, REFUTED, measured, reason)
