"""How sure it is that a percentile lies below a limit, from a number of samples.

`p99 < 2 ms` says that at most one request in a hundred takes 2 ms or longer. In a run of n requests k of them did.
The true part of such requests lies, with a confidence of 95 % on each side, between the bounds of Clopper and
Pearson, which are exact for requests that are independent of one another. Those of a run are not quite: slow ones
come together. So the bounds are somewhat too narrow, and a rate that was found is measured again in a longer run.

Pure: no clock, no input or output.
"""

from __future__ import annotations

import math
from collections.abc import Callable

# The confidence on each side.
CONFIDENCE = 0.95
# Steps of the bisection that inverts the distribution: more than a float has bits.
STEPS = 60


def bounds(count: int, total: int, confidence: float = CONFIDENCE) -> tuple[float, float]:
    """The least and the greatest part that is compatible with `count` out of `total`."""
    if not total:
        return 0.0, 1.0
    low = 0.0 if not count else _inverse(lambda part: 1 - _at_most(count - 1, total, part) < 1 - confidence)
    high = 1.0 if count == total else _inverse(lambda part: _at_most(count, total, part) > 1 - confidence)
    return low, high


def samples_min(part: float, confidence: float = CONFIDENCE) -> int:
    """How many samples it takes at least to show that no more than this part is slow: none of them may be."""
    return math.ceil(math.log(1 - confidence) / math.log1p(-part))


def _inverse(below: Callable[[float], bool]) -> float:
    """The part at which `below` turns from true to false."""
    low, high = 0.0, 1.0
    for _ in range(STEPS):
        middle = (low + high) / 2
        if below(middle):
            low = middle
        else:
            high = middle
    return (low + high) / 2


def _at_most(count: int, total: int, part: float) -> float:
    """The probability of at most `count` out of `total`, where each has the probability `part`."""
    if part <= 0:
        return 1.0
    if part >= 1:
        return 1.0 if count >= total else 0.0
    mean, deviation = total * part, math.sqrt(total * part * (1 - part))
    if abs(count - mean) > 40 * deviation + 40:
        return 1.0 if count > mean else 0.0
    # The terms around the largest of those asked for, from their logarithms: they neither overflow nor vanish.
    top = min(count, int(mean))
    term = math.exp(
        math.lgamma(total + 1)
        - math.lgamma(top + 1)
        - math.lgamma(total - top + 1)
        + top * math.log(part)
        + (total - top) * math.log1p(-part)
    )
    odds = part / (1 - part)
    sum_of_terms, each = term, term
    for number in range(top, 0, -1):
        each *= number / (total - number + 1) / odds
        sum_of_terms += each
        if each < term * 1e-18:
            break
    each = term
    for number in range(top + 1, count + 1):
        each *= (total - number + 1) / number * odds
        sum_of_terms += each
        if each < term * 1e-18:
            break
    return min(1.0, sum_of_terms)
