"""One process of load: `python -m naught_loadtest.generate.worker`, started by the runner.

It reads and writes one JSON object per line:

    in    {"plan": ..., "process": n}   what to do, and the number of this process
    out   {"event": "ready"}            all connections are open and all requests are encoded
    in    {"start_ns": ...}             when to start, on the monotonic clock
    out   {"event": "progress", ...}    every second
    in    {"enough": true}              optional: end the measured time now
    out   {"event": "result", ...}      the figures and the account of every connection

Instead of `ready` it may write {"event": "failed", "message": ...}. When its standard input closes, the parent
process has ended, and the worker exits at once.

While it measures, the garbage collector is off: its pauses would look like pauses of the server.
"""

from __future__ import annotations

import asyncio
import contextlib
import gc
import itertools
import json
import os
import signal
import sys
import time
from collections.abc import Callable
from time import monotonic_ns
from typing import Any

from naught_loadtest.drivers import driver_for
from naught_loadtest.drivers.base import BatchDriver, Driver, Failure
from naught_loadtest.drivers.target import Target
from naught_loadtest.generate.closed_loop import ClosedLoopConnection
from naught_loadtest.generate.closing import Closing
from naught_loadtest.generate.encoding import CYCLE_REQUESTS_MIN, encode, script_for
from naught_loadtest.generate.open_loop import OpenLoopConnection, Pacer, RequestQueue
from naught_loadtest.generate.plan import Plan
from naught_loadtest.measure.cores import usable_core_count
from naught_loadtest.measure.expectation import closing_steps
from naught_loadtest.measure.series import Recorder
from naught_loadtest.measure.tally import Tally

# Progress is reported at every whole second of the measured time, so that the reports of all workers add up.
PROGRESS_NS = 1_000_000_000
CONNECT_S_MAX = 10.0

LoadConnection = ClosedLoopConnection | OpenLoopConnection


class Greeter(asyncio.Protocol):
    """The protocol of a connection before its load begins: it waits for the one reply to the driver's greeting."""

    def __init__(self, driver: Driver) -> None:
        self._driver = driver
        # What has arrived so far.
        self._data = b""
        # The reply; None if the connection was lost before it came.
        self.reply: asyncio.Future[Any] = asyncio.get_running_loop().create_future()

    def data_received(self, data: bytes) -> None:
        self._data += data
        replies, _ = self._driver.parse(self._data)
        if replies and not self.reply.done():
            self.reply.set_result(replies[0])

    def connection_lost(self, exc: Exception | None) -> None:
        if not self.reply.done():
            self.reply.set_result(None)


class Worker:
    """The share of one process in a run. Its methods are called in the order `encode`, `connect`, `run`."""

    def __init__(self, plan: Plan, process: int, loop: asyncio.AbstractEventLoop) -> None:
        self._plan = plan
        # The number of this process in the run.
        self._process = process
        self._loop = loop
        self._driver = driver_for(plan.parsed_target.kind)
        # Counts for the figures; all connections share it.
        self._tally = Tally(timeout_ns=int(plan.timeout_s * 1e9))
        self._connections: list[LoadConnection] = []
        # Numbers of the connections that were stopped and are answered, or are lost.
        self._idle: set[int] = set()
        # Resolves when all connections are in `_idle`.
        self._all_idle: asyncio.Future[None] = loop.create_future()
        # Open loop: the requests that wait for a connection, and the pacer, which is None before `run`.
        self._queue = RequestQueue()
        self._pacer: Pacer | None = None

    def _on_idle(self, number: int) -> None:
        self._idle.add(number)
        if len(self._idle) == len(self._connections) and not self._all_idle.done():
            self._all_idle.set_result(None)

    def encode(self) -> None:
        """Make all connections and encode all their requests, before anything is measured."""
        plan = self._plan
        # Message ids repeat with the cycle, and must not repeat within a pipeline.
        cycle_min = max(CYCLE_REQUESTS_MIN, plan.pipeline)
        # A server without a command for many counters gets each batch as single requests.
        depth = plan.pipeline if isinstance(self._driver, BatchDriver) else plan.pipeline * plan.batch
        for number in plan.connections_of(self._process):
            script = script_for(self._driver, plan.workload.script(number))
            encoded = encode(self._driver, script, plan.prefix, cycle_min)
            if plan.open_loop:
                self._connections.append(
                    OpenLoopConnection(
                        number,
                        self._driver,
                        encoded,
                        depth=plan.pipeline,
                        queue=self._queue,
                        tally=self._tally,
                        on_idle=self._on_idle,
                    )
                )
            else:
                self._connections.append(
                    ClosedLoopConnection(
                        number, self._driver, encoded, depth=depth, tally=self._tally, on_idle=self._on_idle
                    )
                )

    async def connect(self) -> list[asyncio.Transport]:
        """Open the transports of all connections."""
        target = self._plan.parsed_target
        async with asyncio.timeout(CONNECT_S_MAX):
            return [await connect(self._loop, target, self._driver) for _ in self._connections]

    async def run(
        self,
        transports: list[asyncio.Transport],
        start_ns: int,
        enough: asyncio.Future[Any],
        say: Callable[..., None],
    ) -> None:
        """Drive the load through its three parts (see `measure.tally`) and report the result.

        When `enough` resolves, the measured time ends early.
        """
        plan = self._plan
        measure_ns = start_ns + int(plan.warmup_s * 1e9)
        end_ns = measure_ns + int(plan.duration_s * 1e9)
        await self._until(start_ns)
        if plan.open_loop:
            self._start_open(transports, start_ns, measure_ns, end_ns)
        else:
            for connection, transport in zip(self._connections, transports, strict=True):
                connection.start(transport)
        await self._until(measure_ns)
        # In an open loop each request's due time decides whether it is in the figures.
        if not plan.open_loop:
            self._tally.start_measuring()
        cpu_s, begin_ns = time.process_time(), monotonic_ns()
        recorder = Recorder(self._tally, begin_ns, plan.duration_s)
        progress = asyncio.create_task(self._progress(measure_ns, recorder, say))
        await self._until(end_ns, enough)
        early = enough.done()
        if early and self._pacer is not None:
            self._pacer.end_by(monotonic_ns())
        elapsed_s, cpu_s = (monotonic_ns() - begin_ns) / 1e9, time.process_time() - cpu_s
        measured = self._tally.to_json()
        recorder.close(monotonic_ns())
        await self._settle()
        recorder.settle(latencies=plan.open_loop)
        progress.cancel()
        measured_s = elapsed_s if early else plan.duration_s
        if plan.open_loop:
            # Only now is every request accounted for. But operations count only if done within the measured time.
            measured = {**self._tally.to_json(), "operations": measured["operations"]}
        # Requests that failed after the measured time are reported too: none is dropped silently.
        measured["failed"] = dict(self._tally.failed)
        closings = await self._close(transports)
        say(
            "result",
            tally=measured,
            series=recorder.to_json(),
            elapsed_s=elapsed_s,
            cpu_share=cpu_s / elapsed_s,
            busy_share=self._pacer.busy_ns / (measured_s * 1e9) if self._pacer is not None else None,
            accounts=[
                self._account(connection, closing)
                for connection, closing in zip(self._connections, closings, strict=True)
            ],
        )

    def _start_open(self, transports: list[asyncio.Transport], start_ns: int, measure_ns: int, end_ns: int) -> None:
        plan = self._plan
        assert plan.rate is not None
        connections = [each for each in self._connections if isinstance(each, OpenLoopConnection)]
        for connection, transport in zip(connections, transports, strict=True):
            connection.start(transport)
        self._pacer = Pacer(
            self._loop,
            connections,
            self._queue,
            plan.due_times_ns(self._process),
            rate_per_s=plan.rate / plan.processes,
            tally=self._tally,
            spin=may_spin(plan),
        )
        self._pacer.start(start_ns, measure_ns, end_ns)

    async def _until(self, moment_ns: int, *others: asyncio.Future[Any]) -> None:
        """Wait for a moment of the run. It ends early when all connections are lost or one of the others resolves."""
        wait_s = (moment_ns - monotonic_ns()) / 1e9
        if wait_s > 0:
            await asyncio.wait([self._all_idle, *others], timeout=wait_s, return_when=asyncio.FIRST_COMPLETED)

    async def _settle(self) -> None:
        """After the measured time: first let waiting requests be sent, then let requests in flight be answered.

        Each of the two may take as long as the timeout of a request. What is not done then is given up.
        """
        if self._pacer is not None:
            await self._pacer.done
        for connection in self._connections:
            connection.stop()
        await asyncio.wait([self._all_idle], timeout=self._plan.timeout_s)
        if self._pacer is not None and not self._all_idle.done():
            self._pacer.give_up(monotonic_ns())
            await asyncio.wait([self._all_idle], timeout=self._plan.timeout_s)
        now_ns = monotonic_ns()
        for connection in self._connections:
            in_flight = connection.sent - connection.answered
            if in_flight and not connection.lost:
                self._tally.fail("no_answer", in_flight)
                if isinstance(connection, OpenLoopConnection):
                    connection.give_up(now_ns)

    async def _close(self, transports: list[asyncio.Transport]) -> list[Closing | None]:
        """Send the closing decrements of each connection, then close all connections.

        A connection with unanswered requests gets none (None), as it is unknown what it has added.
        """
        plan = self._plan
        closings: list[Closing | None] = []
        for connection, transport in zip(self._connections, transports, strict=True):
            settled = not connection.lost and connection.sent == connection.answered
            if not plan.workload.up_and_down or not settled:
                closings.append(None)
                continue
            script = script_for(self._driver, plan.workload.script(connection.number))
            steps = closing_steps(script, connection.answered)
            closing = Closing(self._driver, steps, plan.prefix, connection.answered)
            closing.start(transport)
            closings.append(closing)
        waiting = [closing.finished for closing in closings if closing is not None]
        if waiting:
            await asyncio.wait(waiting, timeout=max(plan.timeout_s, 1.0))
        for transport in transports:
            transport.abort()
        return closings

    def _account(self, connection: LoadConnection, closing: Closing | None) -> dict[str, Any]:
        """The fields of `measure.expectation.Account`, and whether failures were dropped."""
        return {
            "connection": connection.number,
            "sent": connection.sent,
            "answered": connection.answered,
            "failed": connection.failed,
            "failures_dropped": connection.failures_dropped,
            "closing_sent": closing.sent if closing else 0,
            "closing_done": closing.done if closing else 0,
        }

    async def _progress(self, measure_ns: int, recorder: Recorder, say: Callable[..., None]) -> None:
        for number in itertools.count(1):
            await asyncio.sleep((measure_ns + number * PROGRESS_NS - monotonic_ns()) / 1e9)
            recorder.look(monotonic_ns())
            tally = self._tally
            failed = sum(tally.failed.values()) + tally.timed_out
            coarse = tally.response.coarse()
            say("progress", number=number, operations=tally.operations, failed=failed, coarse=coarse)


async def connect(loop: asyncio.AbstractEventLoop, target: Target, driver: Driver) -> asyncio.Transport:
    """Connect to the target. If the driver has a greeting, send it and wait for a successful reply."""
    transport: asyncio.Transport
    if target.path is not None:
        transport, greeter = await loop.create_unix_connection(lambda: Greeter(driver), target.path)
    else:
        transport, greeter = await loop.create_connection(lambda: Greeter(driver), target.host, target.port)
    greeting = driver.greeting(target)
    if greeting is not None:
        transport.write(greeting)
        reply = await greeter.reply
        if reply is None:
            raise ConnectionError("the server closed the connection")
        if isinstance(reply, Failure):
            raise ConnectionError(f"the server answers {reply.kind}: {reply.message}")
    return transport


def may_spin(plan: Plan) -> bool:
    """Whether each worker can have a core to itself.

    If the plan names no cores for the workers, one core is left to the server.
    """
    if plan.cores:
        return plan.processes <= len(plan.cores)
    return plan.processes < usable_core_count()


def _say(event: str, **fields: Any) -> None:
    sys.stdout.write(json.dumps({"event": event, **fields}) + "\n")
    sys.stdout.flush()


class Orders:
    """The objects that the parent process sends, read while the loop runs. At their end the worker exits."""

    def __init__(self, loop: asyncio.AbstractEventLoop) -> None:
        # Complete lines not taken yet.
        self._lines: asyncio.Queue[bytes] = asyncio.Queue()
        # The beginning of a line whose end has not arrived.
        self._rest = b""
        loop.add_reader(0, self._read)

    def _read(self) -> None:
        data = os.read(0, 1 << 16)
        if not data:
            os._exit(1)
        *lines, self._rest = (self._rest + data).split(b"\n")
        for line in lines:
            self._lines.put_nowait(line)

    async def next(self) -> dict[str, Any]:
        """The next object."""
        order: dict[str, Any] = json.loads(await self._lines.get())
        return order


async def _main() -> None:
    loop = asyncio.get_running_loop()
    orders = Orders(loop)
    order = await orders.next()
    plan = Plan.from_json(order["plan"])
    if plan.cores and hasattr(os, "sched_setaffinity"):
        os.sched_setaffinity(0, plan.cores)
    worker = Worker(plan, order["process"], loop)
    worker.encode()
    try:
        transports = await worker.connect()
    except (OSError, TimeoutError) as error:
        _say("failed", message=f"cannot connect to {plan.target}: {str(error) or 'no answer'}")
        return
    gc.collect()
    gc.freeze()
    gc.disable()
    _say("ready")
    start = await orders.next()
    enough = asyncio.create_task(orders.next())
    await worker.run(transports, start["start_ns"], enough, _say)
    enough.cancel()


def main() -> None:
    with contextlib.suppress(ImportError, OSError, ValueError):
        # Most systems allow a process fewer files than ten thousand connections need, unless it raises its limit.
        import resource

        hard = resource.getrlimit(resource.RLIMIT_NOFILE)[1]
        resource.setrlimit(resource.RLIMIT_NOFILE, (hard, hard))
    # Ctrl-C reaches all processes of the terminal. The parent decides what it means and ends the workers.
    signal.signal(signal.SIGINT, signal.SIG_IGN)
    try:
        import uvloop
    except ImportError:
        asyncio.run(_main())
    else:
        uvloop.run(_main())


if __name__ == "__main__":
    main()
