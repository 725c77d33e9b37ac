"""The background task that keeps an engine swept: it turns milliseconds into entries, and gives memory back.

The steps themselves are in `sweep.py` and count entries, not time, so that they can be replayed. Here is the
clock: at most `sweep_budget_ms` of work in any 10 ms, learnt from how long the last steps took. When everything
is at rest again after memory was freed, the C library is asked to return what it keeps.
"""

from __future__ import annotations

import asyncio
import ctypes
import gc
import logging
import sys
import time
from collections.abc import Callable
from typing import Any, Final

from naught_server.engine import Engine

_log = logging.getLogger("naught.server")

ENTRIES_MIN: Final = 64
"""A step that does less than this is mostly its own cost."""

ENTRIES_MAX: Final = 50_000
"""What a step could do in 10 ms on a fast machine."""

RELEASE_EVERY_MS: Final = 1_000
"""Returning memory walks over the heap; not more often than this."""


class Sweeper:
    """Sweeps one engine until cancelled. It owns how much a step may do."""

    def __init__(self, engine: Engine) -> None:
        self._engine = engine
        self._entries = 1_000  # what the next step may do; follows what steps turn out to cost
        self._released_ms = 0  # when memory was last given back
        self._loop = asyncio.get_running_loop()
        self._asleep: asyncio.Future[bool] | None = None  # while it sleeps: done, with whether it slept its time
        self._due_ms = 0  # until when it sleeps

    async def run(self) -> None:
        """Sweep, and never end by itself."""
        engine = self._engine
        lag = engine.stats.loop_lag
        now_ns = time.monotonic_ns()
        engine.start(now_ns // 1_000_000)
        engine.watch(on_earlier=self._on_earlier)
        while True:
            self._due_ms = engine.next_due(now_ns // 1_000_000)
            pause_ms = self._due_ms - now_ns // 1_000_000
            on_time = await self._sleep(pause_ms / 1000)
            woken_ns = time.monotonic_ns()
            if on_time:
                lag.add(max(0, woken_ns - now_ns - pause_ms * 1_000_000))
                now_ns = self._step(woken_ns)
            else:
                now_ns = woken_ns

    async def _sleep(self, seconds: float) -> bool:
        """Sleep; whether for so long. Something that is due earlier ends it."""
        self._asleep = self._loop.create_future()
        timer = self._loop.call_later(seconds, self._rouse, True)
        try:
            return await self._asleep
        finally:
            timer.cancel()
            self._asleep = None

    def _rouse(self, on_time: bool) -> None:
        if self._asleep is not None and not self._asleep.done():
            self._asleep.set_result(on_time)

    def _on_earlier(self) -> None:
        due_ms = self._engine.timers.next_due()
        if due_ms is not None and due_ms < self._due_ms:
            self._rouse(False)

    def _step(self, start_ns: int) -> int:
        engine = self._engine
        done = engine.advance(start_ns // 1_000_000, self._entries)
        end_ns = time.monotonic_ns()
        budget_ns = engine.settings.sweep_budget_ms * 1_000_000
        took_ns = end_ns - start_ns
        if took_ns > budget_ns:
            self._entries = max(ENTRIES_MIN, int(self._entries * budget_ns / took_ns))
        elif done * 2 > self._entries:
            self._entries = min(ENTRIES_MAX, self._entries + self._entries // 8)
        if engine.sweep.to_release and not done and end_ns // 1_000_000 - self._released_ms >= RELEASE_EVERY_MS:
            engine.sweep.to_release = False
            self._released_ms = end_ns // 1_000_000
            release_memory()
            end_ns = time.monotonic_ns()
            _log.debug("memory returned in %.1f ms", (end_ns - start_ns - took_ns) / 1e6)
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
    """Give free memory back to the system: empty the interpreter's free lists, which pin whole arenas (a full
    collection does that, and after gc.freeze() it has next to nothing to look at), then ask the C library."""
    gc.collect()
    if _malloc_trim is not None:
        _malloc_trim(0)
