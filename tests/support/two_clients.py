"""One test for both clients: written against the asyncio client, and against what stands for the blocking one.

    async with connect("blocking", url) as counters:      # or "asyncio"
        async with counters.semaphore("gpu", limit=1) as permit: ...
        await permit.lost.wait()

`Threaded` gives whatever belongs to a blocking client the shape of its asyncio twin: what waits is a coroutine
function, `async with` is `with`. Every task has a thread of its own, so a test of many tasks is one of many threads;
and a task that is cancelled leaves its thread waiting, for nobody cancels a thread.
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
"""The methods that wait for nothing, and are no coroutine functions with the asyncio client either."""


class Threads:
    """A thread for every task that calls, until the task ends."""

    def __init__(self) -> None:
        self._of_task: dict[asyncio.Task[Any], ThreadPoolExecutor] = {}

    async def call(self, function: Callable[..., Any], *args: Any, **kwargs: Any) -> Any:
        """What the function returns, on the thread of this task."""
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
    """A blocking client, or what it has given out, with the methods of the asyncio one."""

    def __init__(self, inner: Any, threads: Threads) -> None:
        self._inner = inner
        self._threads = threads

    def __getattr__(self, name: str) -> Any:
        found = getattr(self._inner, name)
        if not callable(found):
            return self._outside(found)
        if name in MAKES_A_PATTERN:
            return lambda *args, **kwargs: self._outside(found(*args, **kwargs))
        return partial(self._call, found)

    async def _call(self, function: Callable[..., Any], *args: Any, **kwargs: Any) -> Any:
        return self._outside(await self._threads.call(function, *args, **kwargs))

    def _outside(self, found: Any) -> Any:
        """What naught.blocking gave out, as its twin; anything else as it is."""
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
    """A client of this kind, closed in the end."""
    if kind == "asyncio":
        async with naught.connect(url, **options) as client:
            yield client
        return
    threads = Threads()
    async with Threaded(await threads.call(blocking.Client, url, **options), threads) as client:
        yield client
