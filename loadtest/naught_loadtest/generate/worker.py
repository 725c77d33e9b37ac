"""One process of load: `python -m naught_loadtest.generate.worker`, started by the runner.

It reads and writes one JSON object per line:

    in    {"plan": ..., "process": n}   what to do, and the number of this process
    out   {"event": "encoding", ...}    optional, repeated: how far it is with encoding the requests
    out   {"event": "ready"}            all connections are open and all requests are encoded
    in    {"start_ns": ...}             when to start, on the monotonic clock
    out   {"event": "progress", ...}    every second
    in    {"enough": true}              optional: end the measured time now
    out   {"event": "result", ...}      the figures and the account of every connection
    in    {"close": true}               the counters were compared: send the closing decrements
    out   {"event": "closed", ...}      which of them were answered

Instead of `ready` it may write {"event": "failed", "message": ...}. When its standard input closes, the parent
process has ended, and the worker exits at once.

A connection that is lost is opened anew after a pause, and its requests in flight have failed.

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
from dataclasses import dataclass, field
from time import monotonic_ns
from typing import Any

from naught_loadtest.drivers import driver_for
from naught_loadtest.drivers.base import BatchDriver, Driver, Failure, ProtocolFaultError
from naught_loadtest.drivers.target import Target
from naught_loadtest.drivers.tls import context_of
from naught_loadtest.generate.closed_loop import ClosedLoopConnection
from naught_loadtest.generate.closing import Closing, Tail
from naught_loadtest.generate.encoding import CYCLE_REQUESTS_MIN, EncodedScript, encode, script_for
from naught_loadtest.generate.open_loop import LoopTurn, OpenLoopConnection, Pacer, RequestQueue
from naught_loadtest.generate.plan import Plan
from naught_loadtest.generate.replies import ACKNOWLEDGED
from naught_loadtest.generate.semaphore import Holders, Permit, SemaphoreConnection
from naught_loadtest.generate.value_sums import ValueSums
from naught_loadtest.generate.workload import SHARED_SCRIPTS
from naught_loadtest.measure.cores import usable_core_count
from naught_loadtest.measure.expectation import closing_steps
from naught_loadtest.measure.series import Recorder
from naught_loadtest.measure.tally import Tally
from naught_loadtest.measure.usage import Usage

# Progress is reported at every whole second of the measured time, so that the reports of all workers add up.
PROGRESS_NS = 1_000_000_000
CONNECT_S_MAX = 10.0

LoadConnection = ClosedLoopConnection | OpenLoopConnection | SemaphoreConnection

# A lost connection is opened anew after this time. The time doubles up to the greatest for a connection that is lost
# again soon.
BACKOFF_S_MIN = 0.01
BACKOFF_S_MAX = 1.0
# A connection that lived for this time was not lost soon.
SOON_S = 1.0
# Connections that are opened at the same time.
OPENING = 64
# What the encoded requests of one process may be: requests beyond those of one pipeline, and bytes.
CYCLE_REQUESTS_ALL = 1 << 18
CYCLE_BYTES_ALL = 1 << 28
# Pause between two reports on the encoding.
ENCODING_REPORT_S = 0.5


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
        try:
            replies, _ = self._driver.parse(self._data)
        except ProtocolFaultError as error:
            replies = [Failure("protocol_fault", str(error))]
        if replies and not self.reply.done():
            self.reply.set_result(replies[0])

    def connection_lost(self, exc: Exception | None) -> None:
        if not self.reply.done():
            self.reply.set_result(None)


@dataclass(slots=True)
class Lane:
    """One of the run's connections, over all its lives."""

    number: int
    # The connection now; a lost one until the next is open.
    connection: LoadConnection
    # What became of the lives before: the fields of `measure.expectation.Account`, and whether failures were dropped.
    accounts: list[dict[str, Any]] = field(default_factory=list)
    # What it sent after the load; None before.
    tail: Tail | None = None
    # When the connection was opened last, and the pause before it is opened again.
    opened_s: float = 0.0
    backoff_s: float = BACKOFF_S_MIN


class Worker:
    """The share of one process in a run. Its methods are called in the order `encode`, `connect`, `run`, `close`."""

    def __init__(self, plan: Plan, process: int, loop: asyncio.AbstractEventLoop) -> None:
        self._plan = plan
        # The number of this process in the run.
        self._process = process
        self._loop = loop
        self._driver = driver_for(plan.parsed_target.kind, plan.scenario)
        # Counts for the figures; all connections share it.
        self._tally = Tally(timeout_ns=int(plan.timeout_s * 1e9))
        self._lanes: list[Lane] = []
        # Who holds a permit, in the scenario `semaphore`.
        self._holders = Holders()
        # Scripts that several connections share, encoded, by their number.
        self._shared: dict[int, EncodedScript] = {}
        # For each of them the sums of the values that were answered.
        self._sums: dict[int, ValueSums] = {}
        # Resolves when the connections were stopped and all their requests are answered.
        self._all_idle: asyncio.Future[None] = loop.create_future()
        # Open loop: the requests that wait for a connection, the turns of the loop, and the pacer, which is None
        # before `run`.
        self._queue = RequestQueue()
        self._turn = LoopTurn(loop)
        self._pacer: Pacer | None = None
        # The connections that are being opened anew. None once no more are to be opened.
        self._opening: set[asyncio.Task[None]] | None = set()
        # Open loop: requests due from this moment on are in the figures.
        self._measure_from_ns = 0

    def _on_idle(self) -> None:
        if not self._tally.in_flight and not self._queue.waiting and not self._all_idle.done():
            self._all_idle.set_result(None)

    def encode(self, say: Callable[..., None]) -> None:
        """Make all connections and encode all their requests, before anything is measured."""
        numbers = self._plan.connections_of(self._process)
        said_s = time.monotonic()
        for done, number in enumerate(numbers):
            self._lanes.append(Lane(number, self._new_connection(number, 0)))
            if time.monotonic() - said_s > ENCODING_REPORT_S:
                said_s = time.monotonic()
                say("encoding", done=done + 1, of=len(numbers))

    def _encoded(self, number: int, life: int) -> EncodedScript:
        workload = self._plan.workload
        shared = workload.script_number(number)
        if not workload.owned and shared in self._shared:
            return self._shared[shared]
        script = script_for(self._driver, workload.script(number, life))
        share = len(self._plan.connections_of(self._process))
        if not workload.owned:
            share = min(share, SHARED_SCRIPTS)
        # Message ids repeat with the cycle, and must not repeat within a pipeline.
        wanted = max(self._depth, min(CYCLE_REQUESTS_MIN, CYCLE_REQUESTS_ALL // share))
        encoded = encode(
            self._driver,
            script,
            self._plan.prefix,
            wanted,
            bytes_max=CYCLE_BYTES_ALL // share,
            pipeline=self._depth,
        )
        if not workload.owned:
            self._shared[shared] = encoded
            self._sums[shared] = ValueSums(encoded)
        return encoded

    @property
    def _depth(self) -> int:
        """Requests in flight on each connection. Without a command for many counters a batch is single requests."""
        plan = self._plan
        flattened = not plan.open_loop and not isinstance(self._driver, BatchDriver)
        return plan.pipeline * plan.batch if flattened else plan.pipeline

    def _new_connection(self, number: int, life: int) -> LoadConnection:
        if self._plan.scenario == "semaphore":
            return self._semaphore(number, life)
        encoded = self._encoded(number, life)
        if not self._plan.open_loop:
            return ClosedLoopConnection(
                number,
                self._driver,
                encoded,
                depth=self._depth,
                tally=self._tally,
                on_idle=self._on_idle,
                on_lost=self._on_lost,
                life=life,
                sums=self._sums.get(self._plan.workload.script_number(number)),
            )
        return OpenLoopConnection(
            number,
            self._driver,
            encoded,
            depth=self._depth,
            queue=self._queue,
            turn=self._turn,
            tally=self._tally,
            on_idle=self._on_idle,
            on_lost=self._on_lost,
            life=life,
            sums=self._sums.get(self._plan.workload.script_number(number)),
            measure_from_ns=self._measure_from_ns,
        )

    def _semaphore(self, number: int, life: int) -> SemaphoreConnection:
        workload = self._plan.workload
        wait_ms = int(self._plan.timeout_s * 1000)
        permit = Permit(workload.script(number, life), self._plan.prefix, workload.permits, wait_ms, self._holders)
        return SemaphoreConnection(
            number,
            self._driver,
            permit,
            tally=self._tally,
            on_idle=self._on_idle,
            on_lost=self._on_lost,
            life=life,
        )

    async def connect(self) -> list[asyncio.Transport]:
        """Open the transports of all connections."""
        target = self._plan.parsed_target
        transports: list[asyncio.Transport] = []
        while len(transports) < len(self._lanes):
            count = min(OPENING, len(self._lanes) - len(transports))
            opening = [connect(self._loop, target, self._driver) for _ in range(count)]
            async with asyncio.timeout(CONNECT_S_MAX):
                transports += await asyncio.gather(*opening)
        return transports

    def _on_lost(self, connection: LoadConnection) -> None:
        """A connection has ended. Open it anew, unless the run is over."""
        if connection.stopping:
            self._on_idle()
        if self._opening is not None:
            lane = self._lanes[connection.number // self._plan.processes]
            task = self._loop.create_task(self._reopen(lane))
            self._opening.add(task)
            task.add_done_callback(self._opening.discard)

    async def _reopen(self, lane: Lane) -> None:
        """Give a lane its next connection, however often that takes."""
        if time.monotonic() - lane.opened_s > SOON_S:
            lane.backoff_s = BACKOFF_S_MIN
        connection = self._new_connection(lane.number, lane.connection.life + 1)
        while True:
            await asyncio.sleep(lane.backoff_s)
            lane.backoff_s = min(2 * lane.backoff_s, BACKOFF_S_MAX)
            try:
                async with asyncio.timeout(CONNECT_S_MAX):
                    transport = await connect(self._loop, self._plan.parsed_target, self._driver)
            except (OSError, TimeoutError):
                continue
            break
        lane.accounts.append(account_of(lane.connection))
        lane.opened_s = time.monotonic()
        lane.connection = connection
        self._tally.reconnected()
        connection.start(transport)

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
        await self._until(start_ns, enough)
        self._start(transports, start_ns, measure_ns, end_ns)
        await self._until(measure_ns, enough)
        # In an open loop each request's due time decides whether it is in the figures.
        if plan.open_loop:
            self._tally.receiving.clear()
        else:
            self._tally.start_measuring()
        usage = Usage.now(os.getpid())
        # In an open loop requests are due from this moment on, even if this process comes late.
        begin_ns = measure_ns if plan.open_loop else monotonic_ns()
        if not plan.open_loop:
            # Thousands of connections take their time to begin. The measured time is the time asked for all the same.
            end_ns = max(end_ns, begin_ns + int(plan.duration_s * 1e9))
        recorder = Recorder(self._tally, begin_ns, plan.duration_s)
        progress = asyncio.create_task(self._progress(measure_ns, recorder, say))
        await self._until(end_ns, enough)
        early = enough.done()
        if early and self._pacer is not None:
            self._pacer.end_by(monotonic_ns())
        elapsed_s, used = (monotonic_ns() - begin_ns) / 1e9, Usage.now(os.getpid()) - usage
        operations = self._tally.operations
        recorder.close(monotonic_ns())
        await self._settle()
        recorder.settle(latencies=True)
        progress.cancel()
        await self._send_tails()
        elapsed_s = max(elapsed_s, 1e-9)
        busy_s = self._pacer.busy_ns / 1e9 if self._pacer is not None else None
        say(
            "result",
            # Only now is every request accounted for. But operations count only if done within the measured time.
            tally={**self._tally.to_json(), "operations": operations},
            series=recorder.to_json(),
            elapsed_s=elapsed_s,
            cpu_share=(used.cpu_s or 0.0) / elapsed_s,
            wait_share=None if used.wait_s is None else used.wait_s / elapsed_s,
            busy_share=None if busy_s is None else busy_s / elapsed_s,
            accounts=[account for lane in self._lanes for account in self._accounts_of(lane)],
            levels=self._levels(),
        )

    def _start(self, transports: list[asyncio.Transport], start_ns: int, measure_ns: int, end_ns: int) -> None:
        plan = self._plan
        self._measure_from_ns = measure_ns
        for lane, transport in zip(self._lanes, transports, strict=True):
            lane.opened_s = time.monotonic()
            if isinstance(lane.connection, OpenLoopConnection):
                lane.connection.measure_from(measure_ns)
            lane.connection.start(transport)
        if plan.rate is None:
            return
        self._pacer = Pacer(
            self._loop,
            self._queue,
            self._turn,
            plan.due_times_ns(self._process),
            rate_per_s=plan.rate / plan.processes,
            tally=self._tally,
            spin=may_spin(plan),
        )
        self._pacer.start(start_ns, measure_ns, end_ns)

    async def _until(self, moment_ns: int, enough: asyncio.Future[Any]) -> None:
        """Wait for a moment of the run. It comes early when `enough` resolves."""
        wait_s = (moment_ns - monotonic_ns()) / 1e9
        if wait_s > 0:
            await asyncio.wait([enough], timeout=wait_s)

    async def _settle(self) -> None:
        """After the measured time: first let waiting requests be sent, then let requests in flight be answered.

        Each of the two may take as long as the timeout of a request. What is not done then is given up.
        """
        if self._pacer is not None:
            await self._pacer.done
        for lane in self._lanes:
            lane.connection.stop()
        self._on_idle()
        await asyncio.wait([self._all_idle], timeout=self._plan.timeout_s)
        if self._pacer is not None and not self._all_idle.done():
            self._pacer.give_up(monotonic_ns())
            self._on_idle()
            await asyncio.wait([self._all_idle], timeout=self._plan.timeout_s)
        opening, self._opening = self._opening or set(), None
        for task in opening:
            task.cancel()
        now_ns = monotonic_ns()
        for lane in self._lanes:
            lane.connection.give_up(now_ns)

    async def _send_tails(self) -> None:
        """Let the connections of an up-and-down workload go on to where they have added the most."""
        if not self._plan.workload.up_and_down:
            return
        for lane in self._lanes:
            connection = lane.connection
            if isinstance(connection, SemaphoreConnection):
                # It has given back what it held.
                continue
            settled = not connection.lost and connection.sent == connection.answered
            if settled and connection.transport is not None:
                lane.tail = Tail(connection.script, connection.reader, self._driver)
                lane.tail.start(connection.transport)
        waiting = [lane.tail.finished for lane in self._lanes if lane.tail is not None]
        if waiting:
            await asyncio.wait(waiting, timeout=max(self._plan.timeout_s, 1.0))
        for lane in self._lanes:
            if lane.tail is not None:
                for _, kind in lane.tail.failed:
                    self._tally.failed_after(kind)
                if lane.tail.ended:
                    self._tally.connection_ended(lane.tail.ended)

    def _accounts_of(self, lane: Lane) -> list[dict[str, Any]]:
        """The fields of `measure.expectation.Account` for each life, and whether failures were dropped."""
        account = account_of(lane.connection)
        if lane.tail is not None:
            account["sent"] += lane.tail.sent
            account["failed"] += [number for number, kind in lane.tail.failed if kind not in ACKNOWLEDGED]
        return [*lane.accounts, account]

    def _levels(self) -> list[list[int]] | None:
        """What `value_sums.level` of each shared counter must be, as far as this process knows: [keys, levels].

        None where it does not know: keys that connections own are compared one by one, and a request whose values
        are not known spoils the sums.
        """
        if not self._sums:
            return None
        accounts = [account for lane in self._lanes for account in self._accounts_of(lane)]
        whole = all(account["sent"] == account["answered"] and not account["failed"] for account in accounts)
        if not whole or any(sums.spoiled for sums in self._sums.values()):
            return None
        levels: dict[int, int] = {}
        for sums in self._sums.values():
            for key, level in sums.by_key().items():
                levels[key] = levels.get(key, 0) + level
        return [list(levels), list(levels.values())]

    async def close(self, say: Callable[..., None]) -> None:
        """Send the closing decrements of each connection, then close all connections, and report.

        A connection with unanswered requests gets none, as it is unknown what it has added.
        """
        closings = {lane.number: self._closing_of(lane) for lane in self._lanes}
        waiting = [closing.finished for closing in closings.values() if closing is not None]
        if waiting:
            await asyncio.wait(waiting, timeout=max(self._plan.timeout_s, 1.0))
        for lane in self._lanes:
            if lane.connection.transport is not None:
                lane.connection.transport.abort()
        say(
            "closed",
            connections_lost=self._tally.connections_lost,
            closings=[
                {
                    "connection": lane.number,
                    "life": lane.connection.life,
                    "sent": closing.sent,
                    "done": closing.done,
                    "failed": closing.failed,
                }
                for lane in self._lanes
                if (closing := closings[lane.number]) is not None
            ],
        )

    def _closing_of(self, lane: Lane) -> Closing | None:
        """The closing decrements of a lane's connection, under way. None where there must not be any."""
        plan, connection = self._plan, lane.connection
        if lane.tail is None or not lane.tail.settled or connection.transport is None:
            return None
        assert not isinstance(connection, SemaphoreConnection), "it has no tail"
        closing = Closing(
            self._driver,
            closing_steps(connection.script, connection.answered),
            plan.prefix,
            connection.answered,
            owned=plan.workload.owned and not connection.failed and not lane.tail.failed,
        )
        closing.start(connection.transport)
        return closing

    async def _progress(self, measure_ns: int, recorder: Recorder, say: Callable[..., None]) -> None:
        for number in itertools.count(1):
            await asyncio.sleep((measure_ns + number * PROGRESS_NS - monotonic_ns()) / 1e9)
            recorder.look(monotonic_ns())
            tally = self._tally
            failed = sum(tally.failed.values()) + tally.timed_out
            coarse = tally.response.coarse()
            say("progress", number=number, operations=tally.operations, failed=failed, coarse=coarse)


def account_of(connection: LoadConnection) -> dict[str, Any]:
    """The fields of `measure.expectation.Account`, and whether failures were dropped."""
    return {
        "connection": connection.number,
        "life": connection.life,
        "sent": connection.sent,
        "answered": connection.answered,
        "failed": connection.failed,
        "failures_dropped": connection.failures_dropped,
    }


async def connect(loop: asyncio.AbstractEventLoop, target: Target, driver: Driver) -> asyncio.Transport:
    """Connect to the target. If the driver has a greeting, send it and wait for a successful reply."""
    transport: asyncio.Transport
    if target.path is not None:
        transport, greeter = await loop.create_unix_connection(lambda: Greeter(driver), target.path)
    else:
        transport, greeter = await loop.create_connection(
            lambda: Greeter(driver), target.host, target.port, ssl=context_of(target)
        )
    try:
        greeting = driver.greeting(target)
        if greeting is not None:
            transport.write(greeting)
            reply = await greeter.reply
            if reply is None:
                raise ConnectionError("the server closed the connection")
            if isinstance(reply, Failure):
                raise ConnectionError(f"the server answers {reply.kind}: {reply.message}")
    except BaseException:
        transport.abort()
        raise
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
    worker.encode(_say)
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
    # Meanwhile the parent compares the counters with what was acknowledged.
    order = await enough
    while not order.get("close"):
        order = await orders.next()
    await worker.close(_say)


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
