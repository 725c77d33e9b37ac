"""Whether an object of the API is as the operator wants it, though the API has added defaults to it. Pure.

An object is right when everything that is wanted is in it; what else is in it came from the API or from others, and
is not the operator's matter. The API leaves out what is empty. Lists must have the same length and are compared place
by place. Quantities are compared by what they mean: the API writes `1000m` as `1`.

What is wanted no more would stay unseen by that (a limit that was taken out of the resource), so each object also has
a digest of what was written, in an annotation.
"""

from __future__ import annotations

import hashlib
import json
import re
from collections.abc import Mapping
from decimal import Decimal
from typing import Any, Final

_QUANTITY: Final = re.compile(
    r"([+-]?[0-9]+(?:\.[0-9]*)?)(m|k|M|G|T|P|E|Ki|Mi|Gi|Ti|Pi|Ei|[eE][+-]?[0-9]{1,3})?", re.ASCII
)
_FACTORS: Final[dict[str | None, Decimal]] = {
    None: Decimal(1),
    "m": Decimal("0.001"),
    **{unit: Decimal(1000) ** power for power, unit in enumerate("kMGTPE", 1)},
    **{f"{unit}i": Decimal(1024) ** power for power, unit in enumerate("KMGTPE", 1)},
}


def digest(value: Any) -> str:
    """A short text that differs when the value does."""
    return hashlib.sha256(json.dumps(value, sort_keys=True).encode()).hexdigest()[:16]


def has(found: Any, wanted: Any) -> bool:
    """Whether all that is wanted is in what was found."""
    if isinstance(wanted, Mapping):
        return isinstance(found, Mapping) and all(
            has(found[key], value) if key in found else value in ({}, [], "", None) for key, value in wanted.items()
        )
    if isinstance(wanted, list):
        return isinstance(found, list) and len(found) == len(wanted) and all(map(has, found, wanted))
    if found == wanted and isinstance(found, bool) == isinstance(wanted, bool):
        return True
    one, other = quantity(found), quantity(wanted)
    return one is not None and one == other


def quantity(value: Any) -> Decimal | None:
    """The number that a quantity of Kubernetes means (`250m`, `64Mi`); None for what is none."""
    if isinstance(value, bool) or not isinstance(value, str | int | float):
        return None
    matched = _QUANTITY.fullmatch(str(value))
    if matched is None:
        return None
    number, unit = matched.groups()
    factor = _FACTORS.get(unit)
    return Decimal(number) * factor if factor is not None else Decimal(f"{number}{unit}")


def merge_patch(old: Any, new: Any) -> Any:
    """The merge patch (RFC 7386) that makes `old` into `new`; an empty one where they are equal."""
    if not isinstance(old, Mapping) or not isinstance(new, Mapping):
        return new
    patch: dict[str, Any] = {key: None for key in old if key not in new}
    for key, value in new.items():
        if key not in old:
            patch[key] = value
        elif old[key] != value:
            patch[key] = merge_patch(old[key], value)
    return patch
