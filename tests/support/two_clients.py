"""Runs the same test with both clients: it is written for the asyncio client, and a wrapper adapts the blocking one.

    async with connect("blocking", url) as counters:      # or "asyncio"
        async with counters.semaphore("gpu", limit=1) as permit: ...
        await permit.lost.wait()

`Threaded` wraps a blocking client and every object that it returns. Methods that block become coroutine functions,
and `with` becomes `async with`. Each task calls in a thread of its own, so a test with many tasks is a test with many
threads. A task that is cancelled leaves its thread blocked, because a thread cannot be cancelled.
"""

from __future__ import annotations

import asyncio
import contextlib
from collections.abc import AsyncIterator, Callable
from concurrent.futures import ThreadPoolExecutor
from functools import partial
from types import TracebackType
from typing import Any

import naught
from naught import blocking

KINDS = ("asyncio", "blocking")

MAKES_A_PATTERN = {"semaphore", "wait_group", "reference", "in_flight", "quota"}
"""Methods that do not block; they are no coroutine functions of the asyncio client either."""


class Threads:
    """One thread per task, from its first call until the task ends."""

    def __init__(self) -> None:
        self._of_task: dict[asyncio.Task[Any], ThreadPoolExecutor] = {}

    async def call(self, function: Callable[..., Any], *args: Any, **kwargs: Any) -> Any:
        """Call the function in the thread of the current task. Returns its result."""
        task = asyncio.current_task()
        assert task is not None
        executor = self._of_task.get(task)
        if executor is None:
            executor = self._of_task[task] = ThreadPoolExecutor(1)
            task.add_done_callback(self._end)
        return await asyncio.get_running_loop().run_in_executor(executor, partial(function, *args, **kwargs))

    def _end(self, task: asyncio.Task[Any]) -> None:
        self._of_task.pop(task).shutdown(wait=False)


class Threaded:
    """A blocking client, or an object that it has returned, with the methods of its asyncio counterpart."""

    def __init__(self, inner: Any, threads: Threads) -> None:
        self._inner = inner
        self._threads = threads

    def __getattr__(self, name: str) -> Any:
        found = getattr(self._inner, name)
        if not callable(found):
            return self._wrapped(found)
        if name in MAKES_A_PATTERN:
            return lambda *args, **kwargs: self._wrapped(found(*args, **kwargs))
        return partial(self._call, found)

    async def _call(self, function: Callable[..., Any], *args: Any, **kwargs: Any) -> Any:
        return self._wrapped(await self._threads.call(function, *args, **kwargs))

    def _wrapped(self, found: Any) -> Any:
        """Wrap objects of naught.blocking. Returns others unchanged."""
        return Threaded(found, self._threads) if type(found).__module__.startswith("naught.blocking") else found

    async def scan_iter(self, **options: Any) -> AsyncIterator[Any]:
        counters = self._inner.scan_iter(**options)
        while (counter := await self._call(next, counters, None)) is not None:
            yield counter

    async def __aenter__(self) -> Any:
        return await self._call(self._inner.__enter__)

    async def __aexit__(
        self, kind: type[BaseException] | None, error: BaseException | None, trace: TracebackType | None
    ) -> Any:
        return await self._call(self._inner.__exit__, kind, error, trace)

    def __bool__(self) -> bool:
        return bool(self._inner)

    def __repr__(self) -> str:
        return repr(self._inner)


@contextlib.asynccontextmanager
async def connect(kind: str, url: str, **options: Any) -> AsyncIterator[Any]:
    """A client of this kind, "asyncio" or "blocking", which is closed at the end."""
    if kind == "asyncio":
        async with naught.connect(url, **options) as client:
            yield client
        return
    threads = Threads()
    async with Threaded(await threads.call(blocking.Client, url, **options), threads) as client:
        yield client
