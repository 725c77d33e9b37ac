"""A run as seen from the parent process: it starts the workers, says when to begin, and merges their results.

The workers are processes of their own, started fresh and not forked, so they share nothing with the parent. All begin
at the same moment of the system's monotonic clock. Meanwhile the parent only waits, hands on the progress, and reads
the processor time of the server if it knows the server's process.

`enough` ends the measured time early, and the run still has a whole result. Any other end (an exception, a worker
that failed) ends all workers.

After the load stops the counters are compared with what was acknowledged, then the workers send their closing
decrements, and then the counters are compared again.
"""

from __future__ import annotations

import contextlib
import json
import os
import secrets
import selectors
import subprocess
import sys
import threading
import time
from collections.abc import Callable, Iterable, Iterator
from dataclasses import dataclass
from typing import Any

from naught_loadtest.drivers import driver_for
from naught_loadtest.drivers.base import BatchDriver, Inspector, ProtocolFaultError
from naught_loadtest.drivers.probe import AFTER_ANSWER_S_MAX, Probe, open_probe
from naught_loadtest.drivers.target import Target
from naught_loadtest.generate.plan import Plan
from naught_loadtest.generate.watcher import Watcher
from naught_loadtest.measure.expectation import expected, key_ranges
from naught_loadtest.measure.histogram import coarse_percentile
from naught_loadtest.measure.result import Result
from naught_loadtest.measure.slo import Objective
from naught_loadtest.measure.usage import Usage, listening_pid, steal_s
from naught_loadtest.measure.verification import Verification, clean_up, verify
from naught_loadtest.processes import environment

# From the last `ready` to the start of the load. By then every worker must have read the message with the start.
START_DELAY_S = 0.1
# How long the workers may be silent before they are connected, how long the closing decrements may take beside their
# timeout, and how long the workers may take to finish after the end of the measured time.
READY_S_MAX = 120.0
CLOSED_S_MAX = 60.0
AFTER_S_MAX = 60.0
# The parent looks at least this often whether the run is over.
POLL_S = 0.2
# What reading the counters raises.
UNREADABLE = (OSError, RuntimeError, ProtocolFaultError)
# The letters of a run's prefix. With seven of them two runs have the same one once in 78 billion.
LETTERS = "0123456789abcdefghijklmnopqrstuvwxyz"


class RunError(RuntimeError):
    """A run that could not be done. The message says why."""


@dataclass(slots=True)
class Progress:
    """The state of a run, once per second."""

    # Whole seconds since the measured time began.
    at_s: int
    # Operations and latencies of the last second.
    throughput: int
    p50_ns: int
    p99_ns: int
    # Requests that failed or timed out so far.
    failed: int
    # Counters of the run on the server; None where it does not report them, or not in time.
    live: int | None = None


def reach(target: Target) -> tuple[Probe, Inspector, str]:
    """A probe of a server that is ready for a run, its inspector, and its version. RunError when there is none."""
    with contextlib.ExitStack() as stack, _told(target):
        probe, inspector = open_probe(target)
        stack.enter_context(probe)
        inspector.prepare()
        version = inspector.version()
        stack.pop_all()
        return probe, inspector, version


@contextlib.contextmanager
def _told(target: Target) -> Iterator[None]:
    """What goes wrong inside, before the load, as a RunError."""
    try:
        yield
    except ProtocolFaultError as error:
        raise RunError(f"{target.url} does not speak {target.kind}'s protocol: {error}") from error
    except OSError as error:
        raise RunError(f"cannot reach {target.url}: {error}") from error
    except RuntimeError as error:
        raise RunError(f"{target.url} cannot be measured: {error}") from error


def new_prefix() -> str:
    """A prefix for the keys of a run: eight characters that no other run has."""
    return "".join(secrets.choice(LETTERS) for _ in range(7)) + ":"


class Run:
    """One run of a plan. `execute` does all of it."""

    def __init__(
        self,
        plan: Plan,
        *,
        server_pid: int | None = None,
        check: bool = True,
        clean: bool = True,
        objectives: Iterable[Objective] = (),
        on_progress: Callable[[Progress], None] | None = None,
        on_encoding: Callable[[int, int], None] | None = None,
    ) -> None:
        self.plan = plan
        # The server's process, if it is known and on this machine.
        self._server_pid = server_pid
        # Whether to verify the counters afterwards, and whether to delete them then.
        self._check = check
        self._clean = clean
        self._on_progress = on_progress
        # Called while requests are encoded, with the number of connections whose requests are, and that of all.
        self._on_encoding = on_encoding
        # Filled in by `execute`.
        self._result = Result(plan, objectives=list(objectives))
        # Set here when the measured time begins, for another thread that waits for it.
        self.measuring = threading.Event()
        # Another thread or a signal handler may set it to end the measured time early.
        self.enough = threading.Event()
        self._workers: list[_WorkerProcess] = []
        # The number of the progress shown last, and the sums it had.
        self._shown = 0
        self._shown_operations = 0
        self._shown_coarse: list[int] = []
        # What the system said when the measured time began: the processor time of the server and of the machine
        # below, and that moment.
        self._server_before: Usage | None = None
        self._steal_before_s: float | None = None
        self._measured_from_s = 0.0

    def execute(self) -> Result:
        """Drive the load, verify the counters, and delete them. RunError when the run cannot be done."""
        target = self.plan.parsed_target
        if self._server_pid is None:
            self._server_pid = listening_pid(target.host, target.port, target.path)
        probe, inspector, self._result.server = reach(target)
        with probe:
            with _told(target):
                before = _evictions(inspector)
            probe.allow(AFTER_ANSWER_S_MAX)
            with self._started_workers() as selector, self._watching() as watcher:
                self._drive(selector, watcher)
                self._result.verification_before = self._verify(inspector, before_closing=True)
                self._close(selector)
            try:
                self._account_evictions(before, _evictions(inspector))
            except UNREADABLE as error:
                self._note_unreadable(error)
            self._result.verification = self._verify(inspector)
            self._clean_up(inspector)
        return self._result

    def interrupt(self) -> None:
        """End the measured time now. The result says that the run was cut short. A signal handler may call this."""
        self._result.cut_short = True
        self.enough.set()

    @contextlib.contextmanager
    def _watching(self) -> Iterator[Watcher | None]:
        """What asks for the live counters, if anybody wants to see them."""
        if self._on_progress is None:
            yield None
            return
        watcher = Watcher(self.plan.parsed_target, self.plan.prefix)
        try:
            yield watcher
        finally:
            watcher.stop()

    @contextlib.contextmanager
    def _started_workers(self) -> Iterator[selectors.BaseSelector]:
        selector = selectors.DefaultSelector()
        try:
            for number in range(self.plan.processes):
                worker = _WorkerProcess()
                self._workers.append(worker)
                selector.register(worker.output, selectors.EVENT_READ, worker)
                worker.order(plan=self.plan.to_json(), process=number)
            yield selector
        finally:
            selector.close()
            for worker in self._workers:
                worker.end()

    def _drive(self, selector: selectors.BaseSelector, watcher: Watcher | None) -> None:
        """Let the workers do the load, and merge their results."""
        self._get_ready(selector)
        start_ns = time.monotonic_ns() + int(START_DELAY_S * 1e9)
        measure_s = start_ns / 1e9 + self.plan.warmup_s
        for worker in self._workers:
            worker.order(start_ns=start_ns)
        end_s = measure_s + self.plan.duration_s
        moments = [(measure_s, self._note_begin), (end_s, self._note_end)]
        for moment_s, note in moments:
            while time.monotonic() < moment_s and not self._finished() and not self.enough.is_set():
                self._listen_once(selector, min(POLL_S, moment_s - time.monotonic()))
                self._show(watcher)
            note()
        if self.enough.is_set():
            for worker in self._workers:
                worker.order(enough=True)
        self._listen(selector, self.plan.timeout_s * 3 + AFTER_S_MAX, self._finished)
        for worker in self._workers:
            assert worker.result is not None
            self._result.add(worker.result)

    def _get_ready(self, selector: selectors.BaseSelector) -> None:
        """Wait until all workers are connected. They may take long, but not be silent for long."""
        heard_s, encoded = time.monotonic(), -1
        while not all(worker.ready for worker in self._workers):
            self._listen_once(selector, POLL_S)
            if self.enough.is_set():
                raise KeyboardInterrupt
            if sum(worker.encoded for worker in self._workers) != encoded:
                heard_s, encoded = time.monotonic(), sum(worker.encoded for worker in self._workers)
                if encoded and self._on_encoding is not None:
                    self._on_encoding(encoded, self.plan.connections)
            if time.monotonic() - heard_s > READY_S_MAX:
                raise RunError(f"a load process did not answer within {READY_S_MAX:g} s")

    def _close(self, selector: selectors.BaseSelector) -> None:
        """Let the workers send the closing decrements."""
        for worker in self._workers:
            worker.order(close=True)
        limit_s = max(1.0, self.plan.timeout_s) + CLOSED_S_MAX
        self._listen(selector, limit_s, lambda: all(worker.closed is not None for worker in self._workers))
        for worker in self._workers:
            assert worker.closed is not None
            self._result.add_closing(worker.closed)

    def _finished(self) -> bool:
        return all(worker.result is not None for worker in self._workers)

    def _note_begin(self) -> None:
        self._measured_from_s = time.monotonic()
        self._result.started_at_s = time.time()
        if not self.enough.is_set():
            self.measuring.set()
        self._server_before = Usage.now(self._server_pid) if self._server_pid is not None else None
        self._steal_before_s = steal_s()

    def _note_end(self) -> None:
        """Note what the server and the machine below have used of the measured time."""
        measured_s = max(time.monotonic() - self._measured_from_s, 1e-9)
        if self._server_pid is not None and self._server_before is not None:
            used = Usage.now(self._server_pid) - self._server_before
            if used.cpu_s is not None:
                self._result.server_share = used.cpu_s / measured_s
            if used.wait_s is not None:
                self._result.server_wait_share = used.wait_s / measured_s
        now_s = steal_s()
        if now_s is not None and self._steal_before_s is not None:
            self._result.steal_share = (now_s - self._steal_before_s) / measured_s / (os.cpu_count() or 1)

    def _listen(self, selector: selectors.BaseSelector, seconds: float, until: Callable[[], bool]) -> None:
        """Read what the workers send until the condition holds. RunError after this many seconds."""
        limit_s = time.monotonic() + seconds
        while not until():
            if time.monotonic() > limit_s:
                raise RunError(f"a load process did not answer within {seconds:g} s")
            self._listen_once(selector, POLL_S)

    def _listen_once(self, selector: selectors.BaseSelector, seconds: float) -> None:
        for key, _ in selector.select(max(0.0, seconds)):
            worker: _WorkerProcess = key.data
            data = os.read(key.fd, 1 << 20)
            if data:
                worker.receive(data)
            elif worker.closed is None:
                raise RunError(f"a load process ended early, with status {worker.process.wait()}")
            else:
                selector.unregister(key.fileobj)

    def _show(self, watcher: Watcher | None) -> None:
        """Report a progress, once every worker has reported the same second."""
        number = min(worker.number for worker in self._workers)
        if self._on_progress is None or number <= self._shown:
            return
        operations = sum(worker.operations for worker in self._workers)
        coarse = _added([worker.coarse for worker in self._workers])
        of_last_second = _added([coarse, [-count for count in self._shown_coarse]])
        self._on_progress(
            Progress(
                at_s=number,
                throughput=(operations - self._shown_operations) // (number - self._shown),
                p50_ns=coarse_percentile(of_last_second, 50),
                p99_ns=coarse_percentile(of_last_second, 99),
                failed=sum(worker.failed for worker in self._workers),
                live=watcher.live if watcher is not None else None,
            )
        )
        self._shown, self._shown_operations, self._shown_coarse = number, operations, coarse

    def _account_evictions(self, before: dict[str, int] | None, after: dict[str, int] | None) -> None:
        if before is not None and after is not None:
            changes = {reason: count - before.get(reason, 0) for reason, count in after.items()}
            self._result.evictions = {reason: count for reason, count in changes.items() if count}

    def _note_unreadable(self, error: Exception) -> None:
        self._result.not_verified = f"the server could not be read after the run: {error}"

    def _verify(self, inspector: Inspector, *, before_closing: bool = False) -> Verification | None:
        """Compare the counters with what was acknowledged. None where that is not asked for, or cannot be done."""
        plan, result = self.plan, self._result
        kind = plan.parsed_target.kind
        if not self._check or kind == "echo" or result.not_verified:
            return None
        if before_closing and not plan.workload.up_and_down:
            return None
        if result.failures_dropped:
            result.not_verified = "more requests failed than the harness keeps numbers of"
            return None
        bounds = expected(
            plan.workload, result.accounts, not isinstance(driver_for(kind, plan.scenario), BatchDriver)
        )
        try:
            ranges = key_ranges(plan.workload, result.accounts)
            # The closing decrements are not in the sums of the values.
            summed = result.levels_known and before_closing == plan.workload.up_and_down
            return verify(inspector, ranges, plan.prefix, bounds, result.levels if summed else None)
        except UNREADABLE as error:
            self._note_unreadable(error)
            return None

    def _clean_up(self, inspector: Inspector) -> None:
        """Delete the counters of the run. Where the server cannot be read, that was said already."""
        if self._clean and self.plan.parsed_target.kind != "echo":
            with contextlib.suppress(*UNREADABLE):
                clean_up(inspector, key_ranges(self.plan.workload, self._result.accounts), self.plan.prefix)


class _WorkerProcess:
    """A worker as its parent sees it: its process, and the latest it has reported. See `generate.worker`."""

    def __init__(self) -> None:
        self.process = subprocess.Popen(
            [sys.executable, "-m", "naught_loadtest.generate.worker"],
            stdin=subprocess.PIPE,
            stdout=subprocess.PIPE,
            bufsize=0,
            env=environment(),
        )
        assert self.process.stdin is not None
        assert self.process.stdout is not None
        self._input = self.process.stdin
        # For a selector, which says when to read from it.
        self.output = self.process.stdout
        os.set_blocking(self.output.fileno(), False)
        # The beginning of a line whose end has not arrived.
        self._rest = b""
        # Whether the worker is connected and waits for the start.
        self.ready = False
        # The latest progress: the second of the measured time, and its sums since the measured time began.
        self.number = 0
        self.operations = 0
        self.failed = 0
        self.coarse: list[int] = []
        # How many of its connections have their requests.
        self.encoded = 0
        # Its result, and what it says after the closing decrements; None before they have come.
        self.result: dict[str, Any] | None = None
        self.closed: dict[str, Any] | None = None

    def order(self, **fields: Any) -> None:
        """Send it an object. If the process has ended, nothing happens here: reading from it reports that."""
        with contextlib.suppress(BrokenPipeError):
            self._input.write(json.dumps(fields).encode() + b"\n")

    def receive(self, data: bytes) -> None:
        """Take in what it has written."""
        *lines, self._rest = (self._rest + data).split(b"\n")
        for line in lines:
            self._take(json.loads(line))

    def _take(self, message: dict[str, Any]) -> None:
        event = message.pop("event")
        if event == "ready":
            self.ready = True
        elif event == "progress":
            self.number = message["number"]
            self.operations, self.failed = message["operations"], message["failed"]
            self.coarse = message["coarse"]
        elif event == "encoding":
            self.encoded = message["done"]
        elif event == "result":
            self.result = message
        elif event == "closed":
            self.closed = message
        elif event == "failed":
            raise RunError(message["message"])

    def end(self) -> None:
        """End the process. One that has not reported all is killed if it does not exit at once."""
        # The end of its input tells the process to exit.
        self._input.close()
        try:
            self.process.wait(2 if self.closed is not None else 0.2)
        except subprocess.TimeoutExpired:
            self.process.kill()
            self.process.wait()
        self.output.close()


def _added(lists: list[list[int]]) -> list[int]:
    """The sum of lists of different lengths, item by item."""
    longest = max((len(counts) for counts in lists), default=0)
    return [sum(counts[index] for counts in lists if index < len(counts)) for index in range(longest)]


def _evictions(inspector: Inspector) -> dict[str, int] | None:
    """The server's evictions so far by reason, all caches together. None where it does not report them."""
    caches = (inspector.statistics() or {}).get("caches")
    if not isinstance(caches, dict):
        return None
    total: dict[str, int] = {}
    for cache in caches.values():
        for reason, count in cache.get("evictions", {}).items():
            total[reason] = total.get(reason, 0) + count
    return total
