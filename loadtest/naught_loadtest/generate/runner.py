"""A run as seen from the parent process: it starts the workers, says when to begin, and merges their results.

The workers are processes of their own, started fresh and not forked, so they share nothing with the parent. All begin
at the same moment of the system's monotonic clock. Meanwhile the parent only waits, hands on the progress, and reads
the processor time of the server if it knows the server's process.

Whatever ends a run early (Ctrl-C, a worker that failed) ends all its workers.
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
from collections.abc import Callable, Iterator
from dataclasses import dataclass
from typing import Any

from naught_loadtest.drivers import driver_for
from naught_loadtest.drivers.base import BatchDriver, Inspector
from naught_loadtest.drivers.probe import open_probe
from naught_loadtest.generate.plan import Plan
from naught_loadtest.measure.expectation import expected
from naught_loadtest.measure.histogram import coarse_percentile
from naught_loadtest.measure.result import Result
from naught_loadtest.measure.usage import cpu_s
from naught_loadtest.measure.verification import clean_up, verify
from naught_loadtest.processes import environment

# From the last `ready` to the start of the load. By then every worker must have read the message with the start.
START_DELAY_S = 0.1
# How long the workers may take to connect, and to finish after the end of the measured time.
READY_S_MAX = 120.0
AFTER_S_MAX = 60.0
# The parent looks at least this often whether the run is over.
POLL_S = 0.2
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
    # Counters on the server; None where it does not report them.
    live: int | None = None


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
        on_progress: Callable[[Progress], None] | None = None,
    ) -> None:
        self.plan = plan
        # The server's process, if it is known and on this machine.
        self._server_pid = server_pid
        # Whether to verify the counters afterwards, and whether to delete them then.
        self._check = check
        self._clean = clean
        self._on_progress = on_progress
        # Filled in by `execute`.
        self._result = Result(plan)
        # Set here when the measured time begins, for another thread that waits for it.
        self.measuring = threading.Event()
        # Another thread may set it to end the measured time early.
        self.enough = threading.Event()
        self._workers: list[_WorkerProcess] = []
        # The number of the progress shown last, and the sums it had.
        self._shown = 0
        self._shown_operations = 0
        self._shown_coarse: list[int] = []
        # Whether asking for the server's statistics has failed. It is not asked again then.
        self._no_statistics = False
        # The server's processor time when the measured time began, and that moment.
        self._server_cpu_s: float | None = None
        self._measured_from_s = 0.0

    def execute(self) -> Result:
        """Drive the load, verify the counters, and delete them. RunError when the run cannot be done."""
        try:
            probe, inspector = open_probe(self.plan.parsed_target)
        except (OSError, RuntimeError) as error:
            raise RunError(f"cannot reach {self.plan.target}: {error}") from error
        with probe:
            try:
                inspector.prepare()
                self._result.server = inspector.version()
                before = _evictions(inspector)
            except OSError as error:
                raise RunError(f"the connection to {self.plan.target} failed before the run: {error}") from error
            except RuntimeError as error:
                raise RunError(f"{self.plan.target} cannot be measured: {error}") from error
            with self._started_workers() as selector:
                self._drive(selector, inspector)
            try:
                self._account_evictions(before, _evictions(inspector))
                self._verify(inspector)
            except OSError as error:
                self._result.not_verified = f"the server could not be read after the run: {error}"
        return self._result

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

    def _drive(self, selector: selectors.BaseSelector, inspector: Inspector) -> None:
        self._listen(selector, READY_S_MAX, lambda: all(worker.ready for worker in self._workers))
        start_ns = time.monotonic_ns() + int(START_DELAY_S * 1e9)
        measure_s = start_ns / 1e9 + self.plan.warmup_s
        for worker in self._workers:
            worker.order(start_ns=start_ns)
        end_s = measure_s + self.plan.duration_s
        moments = [(measure_s, self._note_server_begin), (end_s, self._note_server_end)]
        for moment_s, note in moments:
            while time.monotonic() < moment_s and not self._finished() and not self._ends_early():
                self._listen_once(selector, min(POLL_S, moment_s - time.monotonic()))
                self._show(inspector)
            note()
        if self._ends_early():
            for worker in self._workers:
                worker.order(enough=True)
        self._listen(selector, self.plan.timeout_s * 3 + AFTER_S_MAX, self._finished)
        for worker in self._workers:
            assert worker.result is not None
            self._result.add(worker.result)

    def _finished(self) -> bool:
        return all(worker.result is not None for worker in self._workers)

    def _ends_early(self) -> bool:
        return self.measuring.is_set() and self.enough.is_set()

    def _note_server_begin(self) -> None:
        self._measured_from_s = time.monotonic()
        self._result.started_at_s = time.time()
        self.measuring.set()
        self._server_cpu_s = cpu_s(self._server_pid) if self._server_pid is not None else None

    def _note_server_end(self) -> None:
        now = cpu_s(self._server_pid) if self._server_pid is not None else None
        if now is not None and self._server_cpu_s is not None:
            measured_s = max(time.monotonic() - self._measured_from_s, 1e-9)
            self._result.server_share = (now - self._server_cpu_s) / measured_s

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
            elif worker.result is None:
                raise RunError(f"a load process ended early, with status {worker.process.wait()}")
            else:
                selector.unregister(key.fileobj)

    def _show(self, inspector: Inspector) -> None:
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
                live=self._live(inspector),
            )
        )
        self._shown, self._shown_operations, self._shown_coarse = number, operations, coarse

    def _live(self, inspector: Inspector) -> int | None:
        """Counters on the server. None where it does not report them, or cannot be asked any more."""
        if self._no_statistics:
            return None
        try:
            caches = (inspector.statistics() or {}).get("caches")
        except OSError:
            self._no_statistics = True
            return None
        return sum(cache["counters"] for cache in caches.values()) if isinstance(caches, dict) else None

    def _account_evictions(self, before: dict[str, int] | None, after: dict[str, int] | None) -> None:
        if before is not None and after is not None:
            changes = {reason: count - before.get(reason, 0) for reason, count in after.items()}
            self._result.evictions = {reason: count for reason, count in changes.items() if count}

    def _verify(self, inspector: Inspector) -> None:
        plan, result = self.plan, self._result
        if plan.parsed_target.kind == "echo":
            return
        if self._check:
            if result.failures_dropped:
                result.not_verified = "more requests failed than the harness keeps numbers of"
            else:
                flattened = not isinstance(driver_for(plan.parsed_target.kind), BatchDriver)
                bounds = expected(plan.workload, result.accounts, flattened)
                result.verification = verify(inspector, plan.workload, plan.prefix, bounds)
        if self._clean:
            clean_up(inspector, plan.workload, plan.prefix)


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
        # Whether it is connected and waits for the start.
        self.ready = False
        # The latest progress: the second of the measured time, and its sums since the measured time began.
        self.number = 0
        self.operations = 0
        self.failed = 0
        self.coarse: list[int] = []
        # Its result; None before it has come.
        self.result: dict[str, Any] | None = None

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
        elif event == "result":
            self.result = message
        elif event == "failed":
            raise RunError(message["message"])

    def end(self) -> None:
        """End the process. One that has not sent its result is killed if it does not exit at once."""
        # The end of its input tells the process to exit.
        self._input.close()
        try:
            self.process.wait(2 if self.result is not None else 0.2)
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
