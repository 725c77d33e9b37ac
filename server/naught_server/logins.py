"""Computes the hashes of log-ins beside the event loop: one thread, one hash at a time.

    access.watch(start_check=checks.start)

A hash takes tens of milliseconds and no lock of the interpreter, so the loop goes on meanwhile. After one that was
wrong the thread rests three times as long as it took. So a flood of wrong secrets takes at most a quarter of a core,
and the memory of one hash. How many may wait, and how long those of an address wait before, is decided in
`access.py`.
"""

from __future__ import annotations

import asyncio
import logging
from collections import deque
from concurrent.futures import ThreadPoolExecutor
from typing import Final

from naught_server.access import Access, Check
from naught_server.clock import CLOCK
from naught_server.logs import LOGGER_NAME

_log = logging.getLogger(LOGGER_NAME)

REST_SHARE: Final = 3
"""How long the thread rests after a wrong secret, in times that it took."""


class LoginChecks:
    """The hashes that one server computes."""

    def __init__(self, access: Access) -> None:
        self._access = access
        self._loop = asyncio.get_running_loop()
        self._pool: ThreadPoolExecutor | None = None  # made for the first hash
        self._queue: deque[Check] = deque()  # those whose turn has come
        self._busy = False  # one is computed, or the thread rests
        self._closed = False

    def start(self, check: Check) -> None:
        """Compute it, after its delay, and tell `Access`."""
        if check.delay_ms:
            self._loop.call_later(check.delay_ms / 1000, self._enqueue, check)
        else:
            self._enqueue(check)

    def close(self) -> None:
        """Compute no more."""
        self._closed = True
        self._queue.clear()
        if self._pool is not None:
            self._pool.shutdown(wait=False, cancel_futures=True)

    def _enqueue(self, check: Check) -> None:
        self._queue.append(check)
        self._go_on()

    def _go_on(self) -> None:
        while self._queue and not (self._busy or self._closed):
            check = self._queue.popleft()
            if not check.dropped:
                self._compute(check)

    def _compute(self, check: Check) -> None:
        if self._pool is None:
            self._pool = ThreadPoolExecutor(1, "logins")
        self._busy = True
        began_ns = CLOCK.now_ns()
        running = self._loop.run_in_executor(self._pool, check.run)
        running.add_done_callback(lambda done: self._finish(check, done, began_ns))

    def _finish(self, check: Check, done: asyncio.Future[None], began_ns: int) -> None:
        if done.cancelled() or self._closed:
            return
        fault = done.exception()
        if fault is not None:  # there was no memory; it counts as wrong
            _log.error("a secret could not be checked", exc_info=fault)
        now_ns = CLOCK.now_ns()
        self._access.finish(check, now_ns // 1_000_000)
        if check.found is None:
            self._loop.call_later(REST_SHARE * (now_ns - began_ns) / 1e9, self._rested)
        else:
            self._rested()

    def _rested(self) -> None:
        self._busy = False
        self._go_on()
