"""The background task that sweeps an engine: it decides when a step is due and how large it may be.

The steps are in `sweep.py`, and how many entries fit a step is computed in `pace.py`. This module has the clock and
the loop: it sleeps until a step is due, and gives the step its clock.

When memory was freed and there is no more work to do, it also asks the C library to return free memory to the system.
"""

from __future__ import annotations

import asyncio
import ctypes
import gc
import logging
import sys
from collections.abc import Callable
from typing import Any, Final

from naught_server.clock import CLOCK
from naught_server.engine import Engine
from naught_server.logs import fields

_log = logging.getLogger("naught.server")

RELEASE_EVERY_MS: Final = 1_000
"""The least time between two returns of memory, each of which walks over the whole heap."""

RELEASE_LATEST_MS: Final = 10_000
"""Memory is returned this long after the last time even while the sweeper has work, which may never end."""


class Sweeper:
    """Sweeps one engine until it is cancelled."""

    def __init__(self, engine: Engine) -> None:
        self._engine = engine
        self._released_ms = 0  # when memory was last returned to the system
        self._loop = asyncio.get_running_loop()
        # Set while it sleeps. The result is True when the time has passed, False when something is due earlier.
        self._asleep: asyncio.Future[bool] | None = None
        self._due_ms = 0  # when the sleep ends
        self._stopped_ns = CLOCK.stopped_ns  # how long the process was stopped, as far as the log says so

    async def run(self) -> None:
        """Sweep until cancelled."""
        engine = self._engine
        lag = engine.stats.loop_lag
        now_ns = CLOCK.now_ns()
        self._stopped_ns = CLOCK.stopped_ns  # before the first step nobody waits for one
        engine.start(now_ns // 1_000_000)
        engine.watch(on_earlier=self._on_earlier)
        while True:
            self._due_ms = engine.next_due(now_ns // 1_000_000)
            pause_ms = self._due_ms - now_ns // 1_000_000
            on_time = await self._sleep(pause_ms / 1000)
            woken_ns = CLOCK.now_ns()
            if CLOCK.stopped_ns > self._stopped_ns:
                self._say_stopped()
            if on_time:
                lag.add(max(0, woken_ns - now_ns - pause_ms * 1_000_000))
                now_ns = self._step(woken_ns)
            else:
                now_ns = woken_ns

    def _say_stopped(self) -> None:
        stopped_ns, self._stopped_ns = CLOCK.stopped_ns - self._stopped_ns, CLOCK.stopped_ns
        _log.warning(
            "the process was stopped: that time does not count for times to live, leases and waits",
            extra=fields(stopped_ms=stopped_ns // 1_000_000),
        )

    async def _sleep(self, seconds: float) -> bool:
        """Sleep until the time has passed (True) or something is due earlier (False)."""
        self._asleep = self._loop.create_future()
        timer = self._loop.call_later(seconds, self._wake, True)
        try:
            return await self._asleep
        finally:
            timer.cancel()
            self._asleep = None

    def _wake(self, on_time: bool) -> None:
        if self._asleep is not None and not self._asleep.done():
            self._asleep.set_result(on_time)

    def _on_earlier(self) -> None:
        due_ms = self._engine.timers.next_due()
        if due_ms is not None and due_ms < self._due_ms:
            self._wake(False)

    def _step(self, start_ns: int) -> int:
        """Take a step. Returns when it ended."""
        sweep = self._engine.sweep
        done = self._engine.advance_within(start_ns // 1_000_000, CLOCK.now_ns)
        end_ns = CLOCK.now_ns()
        if sweep.to_release:
            since_ms = end_ns // 1_000_000 - self._released_ms
            if since_ms >= (RELEASE_LATEST_MS if done else RELEASE_EVERY_MS):
                self._released_ms = end_ns // 1_000_000
                release_memory()
                sweep.released()
                released_ns, end_ns = end_ns, CLOCK.now_ns()
                _log.debug("memory returned", extra=fields(took_ms=round((end_ns - released_ns) / 1e6, 1)))
        return end_ns


def _find_malloc_trim() -> Callable[[int], int] | None:
    if not sys.platform.startswith("linux"):
        return None
    trim: Any = getattr(ctypes.CDLL(None), "malloc_trim", None)  # glibc has it, musl has not
    if trim is not None:
        trim.argtypes = [ctypes.c_size_t]
    found: Callable[[int], int] | None = trim
    return found


_malloc_trim = _find_malloc_trim()


def release_memory() -> None:
    """Return free memory to the system.

    First a full collection, which empties the interpreter's free lists: they keep whole arenas in use. It is short,
    because the server has called gc.freeze(). Then the C library returns its free pages.
    """
    gc.collect()
    if _malloc_trim is not None:
        _malloc_trim(0)
