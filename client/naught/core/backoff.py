"""How long to wait before the next attempt to connect. Sans-IO: the pauses are drawn here and slept elsewhere."""

from __future__ import annotations

from random import Random
from typing import Final


class Backoff:
    """How long to wait before the next attempt to connect: exponential with full jitter.

    Full jitter, a uniform draw from zero to the bound, spreads a thousand clients of a restarted server best; the
    bound doubles with every attempt that failed.
    """

    BASE: Final = 0.02
    """Seconds. A restarted process is back in tenths of a second."""

    BOUND_MAX: Final = 1.0
    """Seconds. The default deadline of a call: a longer pause would outlive every call that waits for it."""

    def __init__(self, random: Random | None = None) -> None:
        self._random = random if random is not None else Random()
        self._failures = 0  # attempts since a server last did something for us

    def next_delay(self) -> float:
        """Seconds to wait before the next attempt, which is expected to fail until `reset`."""
        bound = min(self.BOUND_MAX, self.BASE * 2 ** min(self._failures, 16))
        self._failures += 1
        return self._random.uniform(0.0, bound)

    def reset(self) -> None:
        """A server answered."""
        self._failures = 0
