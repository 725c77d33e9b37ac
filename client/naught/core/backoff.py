"""How long to wait before the next attempt to connect. Sans-IO: this module draws the pause, the caller sleeps."""

from __future__ import annotations

from random import Random
from typing import Final


class Backoff:
    """Exponential backoff with full jitter.

    The bound of the pause doubles with every failed attempt. Each pause is drawn uniformly between zero and the bound
    (full jitter), which spreads the reconnects of a thousand clients after a server restart best.
    """

    BASE: Final = 0.02
    """Seconds: the bound of the first pause. A restarted server process is back within tenths of a second."""

    BOUND_MAX: Final = 1.0
    """Seconds. The default timeout of a call: after a longer pause, every call that waits for it has timed out."""

    def __init__(self, random: Random | None = None, *, base: float = BASE, bound_max: float = BOUND_MAX) -> None:
        self._base: Final = base
        self._bound_max: Final = bound_max
        self._random = random if random is not None else Random()
        self._failures = 0  # failed attempts since `reset`

    def next_delay(self) -> float:
        """Seconds to wait before the next attempt. Counts that attempt as failed until `reset` is called."""
        bound = min(self._bound_max, self._base * 2 ** min(self._failures, 16))
        self._failures += 1
        return self._random.uniform(0.0, bound)

    def reset(self) -> None:
        """Start again from the shortest pause: a server has executed a request."""
        self._failures = 0
