"""An event loop whose time passes only when nothing is left to do: then it jumps to the next timer.

monkeypatch.setattr(connection_module, "_clock_ns", ...)   # code with a clock of its own
with asyncio.Runner(loop_factory=JumpingLoop) as runner: ...
"""

from __future__ import annotations

import asyncio
import selectors
from typing import Any


class _JumpingSelector(selectors.DefaultSelector):  # type: ignore[misc,valid-type]
    """Waits for no file: the time until the timeout is added to `now_s`."""

    def __init__(self) -> None:
        super().__init__()
        self.now_s = 1_000.0

    def select(self, timeout: float | None = None) -> list[tuple[selectors.SelectorKey, int]]:
        ready: list[Any] = super().select(0)
        if not ready:
            assert timeout is not None, "nothing will ever happen"
            self.now_s += timeout
        return ready


class JumpingLoop(asyncio.SelectorEventLoop):
    """See the module."""

    def __init__(self) -> None:
        self.clock = _JumpingSelector()
        super().__init__(self.clock)

    def time(self) -> float:
        """Seconds on its own clock."""
        return self.clock.now_s

    def time_ns(self) -> int:
        """The same in nanoseconds, as time.monotonic_ns would say it."""
        return round(self.clock.now_s * 1_000_000_000)
