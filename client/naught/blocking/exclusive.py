"""`exclusive`: a decorator for methods of `Link` that run under its lock, completely or not at all.

An exception from outside, of a signal handler, may strike anywhere in them, and then nothing that is known of the
session can be trusted. So whoever is inside says so, and what else than an error of the client's own ends that leaves
the books of the link to be mended (`Link._mend`): at once, or, where that is interrupted too, by whoever comes next.
"""

from __future__ import annotations

from collections.abc import Callable
from functools import wraps
from typing import TYPE_CHECKING, Any, Concatenate, Final, ParamSpec, TypeVar, cast

from naught.blocking.wires import from_outside
from naught.errors import NaughtError

if TYPE_CHECKING:
    from naught.blocking.link import Link

P = ParamSpec("P")
T = TypeVar("T")

INSIDE: Final = object()
"""In `Link._inside` while somebody is."""


def exclusive(method: Callable[Concatenate[Link, P], T]) -> Callable[Concatenate[Link, P], T]:
    """Under the link's lock, whole or not at all: what fails in the middle ends the session. Then those are let
    through whom that has answered."""
    return _exclusive(method, lets_through=True)


def exclusive_and_shut(method: Callable[Concatenate[Link, P], T]) -> Callable[Concatenate[Link, P], T]:
    """The same, but they are not let through yet: whoever calls has something to write before they run."""
    return _exclusive(method, lets_through=False)


def _exclusive(method: Callable[Concatenate[Link, P], T], *, lets_through: bool) -> Callable[Concatenate[Link, P], T]:
    @wraps(method)
    def run(self: Link, *args: Any) -> T:
        try:
            with self._lock:
                if self._inside is not None:
                    self._find_out()
                self._inside = INSIDE
                try:
                    result = method(self, *args)  # type: ignore[call-arg]
                except BaseException as error:
                    # Broken until it is known not to be: an interrupt may strike here, too.
                    self._inside = error
                    if isinstance(error, NaughtError) and from_outside(error) is None:
                        self._inside = None
                    else:
                        self._mend()
                    raise
                self._inside = None
                return result
        finally:
            if lets_through and self.gathering.opening:
                self.gathering.open_gates()

    return cast("Callable[Concatenate[Link, P], T]", run)
