"""The number types that a SafeMap can count, which are those whose zero is known, and the checks of its settings."""

from __future__ import annotations

import math
import types
from collections.abc import Callable, Hashable, Iterable, Mapping
from dataclasses import dataclass
from decimal import Decimal
from fractions import Fraction
from typing import Any, NoReturn, TypeVar

from naught.errors import Underflow

K = TypeVar("K", bound=Hashable)
# The types whose zero is known. A constraint and not a bound, because it must not admit subclasses such as bool.
V = TypeVar("V", int, Fraction, Decimal, float)


@dataclass(frozen=True, slots=True)
class Kind:
    """The facts about one value type."""

    # Its zero, the value of an absent counter.
    zero: Any
    # Its one, the default amount.
    one: Any
    # Tells its finite values from NaN and the infinities. None for an exact type, which has neither: there an
    # amount is valid if it is `> 0`.
    is_finite: Callable[[Any], bool] | None
    # Above every finite value. None for an exact type.
    infinity: Any


KINDS: dict[Any, Kind] = {
    int: Kind(0, 1, None, None),
    Fraction: Kind(Fraction(0), Fraction(1), None, None),
    Decimal: Kind(Decimal(0), Decimal(1), Decimal.is_finite, Decimal("Infinity")),
    float: Kind(0.0, 1.0, math.isfinite, math.inf),
}


class Unmatched:
    """A type that no amount has. SafeMap names it as the type of amounts to accept unchecked where there is none."""


def kind_of(value_type: object) -> Kind:
    """Return the facts about a value type; TypeError, with the reason and the remedy, for any other type."""
    if isinstance(value_type, type) and value_type in KINDS:
        return KINDS[value_type]
    if isinstance(value_type, Mapping | Iterable) and not isinstance(value_type, type | types.GenericAlias):
        raise TypeError("the first argument is the type to count, the entries come second: SafeMap(int, entries)")
    name = value_type.__name__ if isinstance(value_type, type) else repr(value_type)
    raise TypeError(f"the zero of {name} cannot be known: a SafeMap counts int, Fraction, Decimal or float")


def tolerance_of(value_type: type[Any], tolerance: Any) -> float:
    """Check the tolerance of a map; return the number that a value must be above not to count as zero."""
    if value_type is not float:
        if tolerance is not None:
            raise TypeError(f"{value_type.__name__} is exact: only float has a tolerance")
        return 0
    if isinstance(tolerance, bool) or not isinstance(tolerance, float | int):
        raise TypeError(
            "float sums seldom come to exactly 0: say what counts as zero, SafeMap(float, tolerance=1e-9)"
        )
    if not 0 <= tolerance < math.inf:
        raise ValueError(f"tolerance must be finite and at least 0, not {tolerance!r}")
    return float(tolerance)


def shown(value: object, text: Callable[[object], str] = repr) -> str:
    """Return the text of a value for a message; where it cannot be made, as of a huge int, that of its type."""
    try:
        return text(value)
    except Exception:
        return object.__repr__(value)


def negated(number: Any) -> Any:
    """Return the number with the other sign, exactly; Decimal's own minus would round it."""
    return number.copy_negate() if isinstance(number, Decimal) else -number


def raise_underflow(key: object, value: object, by: object) -> NoReturn:
    """Raise Underflow for a counter that has `value`."""
    raise Underflow(f"counter {shown(key)} has {shown(value, str)} and cannot go down by {shown(by, str)}")


def raise_infinite(key: object, by: object) -> NoReturn:
    """Raise ValueError for a sum that is too large for its type, or that was rounded to zero."""
    raise ValueError(f"a counter must stay finite and above zero: {shown(key)} cannot go up by {by}") from None
