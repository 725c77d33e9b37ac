"""What `prune` reports: a `Removed` for each zero that was taken out.

No path is made before it is asked for. A place refers to the place of the container around it, so that the report of
a deep structure does not take memory in proportion to the square of its depth.
"""

from __future__ import annotations

from collections.abc import Collection, Iterable, Iterator
from itertools import repeat
from typing import Any

from naught.zeros.judge import Step

# Where a container is: the place of the container around it, and the kind and name of the step from there. None for
# the outermost.
Place = tuple[Any, str, Any] | None


# From this number on, a loop in C is faster than a comprehension.
MANY = 8


class Removed(tuple[Any, ...]):
    """A zero that was taken out: `path`, the steps to it in the value as it was before, and `value`, as it was.

    It compares, unpacks and prints as the pair of both. The path is put together when it is asked for.
    """

    __slots__ = ()

    # The items of the tuple are the place of the container, the kind and the name of the last step, and the value.
    # In one made by this constructor the whole path takes the place of the container, and there is no kind.

    def __new__(cls, path: tuple[Step, ...], value: Any) -> Removed:
        return tuple.__new__(cls, (path, None, None, value))

    @property
    def path(self) -> tuple[Step, ...]:
        """The steps to it in the value as it was before. Cost: their number."""
        place, kind, name, _ = tuple.__iter__(self)
        if kind is None:
            found: tuple[Step, ...] = place
            return found
        steps = [Step(kind, name)]
        while place is not None:
            place, kind, name = place
            steps.append(Step(kind, name))
        return tuple(reversed(steps))

    @property
    def value(self) -> Any:
        """The zero, as it was."""
        return tuple.__getitem__(self, 3)

    @property
    def where(self) -> str:
        """The path as Python writes it after the value: `['orders'][3].lines`, and {x} for a set's member."""
        return "".join(map(str, self.path))

    def __iter__(self) -> Iterator[Any]:
        return iter((self.path, self.value))

    def __len__(self) -> int:
        return 2

    def __getitem__(self, index: Any, /) -> Any:
        return (self.path, self.value)[index]

    def __eq__(self, other: object) -> bool:
        return (self.path, self.value) == (tuple(other) if isinstance(other, Removed) else other)

    def __ne__(self, other: object) -> bool:
        return not self == other

    def __hash__(self) -> int:
        return hash((self.path, self.value))

    def __reduce__(self) -> tuple[Any, ...]:
        return Removed, (self.path, self.value)

    def __repr__(self) -> str:
        return f"Removed(path={self.path!r}, value={self.value!r})"

    def __str__(self) -> str:
        return self.where


def removed_from(place: Place, kind: str, names: Collection[Any], values: Iterable[Any]) -> list[Removed]:
    """Return the reports of zeros that were taken out of one container, given by their names and values there.

    Where everything is zero, reports are most of the work of `prune`. So a loop over many runs in C.
    """
    new = tuple.__new__
    if len(names) < MANY:
        return [new(Removed, (place, kind, name, value)) for name, value in zip(names, values, strict=True)]
    return [*map(new, repeat(Removed), zip(repeat(place), repeat(kind), names, values, strict=False))]
