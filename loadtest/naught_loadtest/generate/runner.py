"""A run from the outside: workers started, told when to begin, listened to, and their results put together.

The workers are processes of their own, started fresh and never forked, so they share nothing with the caller.
All begin at the same moment of the system's monotonic clock. The parent meanwhile only waits, hands on the
progress, and reads the processor time of the server if it knows its process.

Whatever ends a run early (Ctrl-C, a worker that died) ends all its workers.
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
from dataclasses import dataclass, field
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

# From the last `ready` to the start: every worker must have read the order by then.
START_DELAY_S = 0.1
# What a worker may take beyond the run itself to connect, and to drain and close down.
READY_S_MAX = 120.0
AFTER_S_MAX = 60.0
# The letters of a run's prefix; seven of them make two runs alike once in billions.
LETTERS = "0123456789abcdefghijklmnopqrstuvwxyz"


class RunError(RuntimeError):
    """A run that could not be done; the message says why."""


@dataclass(slots=True)
class Progress:
    """How far a run is, for a live line."""

    # Whole seconds since the measurement began.
    at_s: int
    # Operations and latency of the last second.
    throughput: int
    p50_ns: int
    p99_ns: int
    # Failures so far.
    failed: int
    # Live counters of the server, where it tells.
    live: int | None = None


@dataclass(slots=True)
class _Worker:
    process: subprocess.Popen[bytes]
    # Bytes of an unfinished line.
    rest: bytes = b""
    ready: bool = False
    answer: dict[str, Any] | None = None
    # The latest progress: its number, and what it said.
    number: int = 0
    operations: int = 0
    failed: int = 0
    coarse: list[int] = field(default_factory=list)


def new_prefix() -> str:
    """The beginning of a run's keys, eight characters, unlike any other run's."""
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
        self._server_pid = server_pid
        # Verify afterwards, and take out what the run left.
        self._check = check
        self._clean = clean
        self._on_progress = on_progress
        self._result = Result(plan)
        # Set when the measurement begins, for who does something else beside it.
        self.measuring = threading.Event()
        # To be set by who knows before the planned time that the measurement has gone on for long enough.
        self.enough = threading.Event()
        self._workers: list[_Worker] = []
        # For the live line: the number and the sums of the progress it last showed.
        self._shown = 0
        self._shown_operations = 0
        self._shown_coarse: list[int] = []
        # Whether asking the server during the run failed: then it is not asked again.
        self._silent = False
        # Server processor time at the beginning of the measurement, and when that was.
        self._server_cpu_s: float | None = None
        self._measured_from_s = 0.0

    def execute(self) -> Result:
        """Drive the load, check the answer, clean up. RunError when it cannot be done."""
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
                raise RunError(f"{self.plan.target} broke off before the run: {error}") from error
            with self._started_workers() as selector:
                self._drive(selector, inspector)
            try:
                self._account_evictions(before, _evictions(inspector))
                self._verify(inspector)
            except OSError as error:
                self._result.not_verified = f"the server could not be asked after the run: {error}"
        return self._result

    @contextlib.contextmanager
    def _started_workers(self) -> Iterator[selectors.BaseSelector]:
        selector = selectors.DefaultSelector()
        try:
            for number in range(self.plan.processes):
                worker = _Worker(_start_worker())
                self._workers.append(worker)
                assert worker.process.stdout is not None
                os.set_blocking(worker.process.stdout.fileno(), False)
                selector.register(worker.process.stdout, selectors.EVENT_READ, worker)
                _order(worker, plan=self.plan.to_json(), process=number)
            yield selector
        finally:
            selector.close()
            for worker in self._workers:
                _end_worker(worker)

    def _drive(self, selector: selectors.BaseSelector, inspector: Inspector) -> None:
        self._listen(selector, READY_S_MAX, lambda: all(worker.ready for worker in self._workers))
        start_ns = time.monotonic_ns() + int(START_DELAY_S * 1e9)
        measure_s = start_ns / 1e9 + self.plan.warmup_s
        for worker in self._workers:
            _order(worker, start_ns=start_ns)
        end_s = measure_s + self.plan.duration_s
        moments = [(measure_s, self._note_server_begin), (end_s, self._note_server_end)]
        for moment_s, note in moments:
            while time.monotonic() < moment_s and not self._finished() and not self._told_enough():
                self._listen_once(selector, min(0.2, moment_s - time.monotonic()))
                self._show(inspector)
            note()
        if self._told_enough():
            for worker in self._workers:
                _order(worker, enough=True)
        self._listen(selector, self.plan.timeout_s * 3 + AFTER_S_MAX, self._finished)
        for worker in self._workers:
            assert worker.answer is not None
            self._result.add(worker.answer)

    def _finished(self) -> bool:
        return all(worker.answer is not None for worker in self._workers)

    def _told_enough(self) -> bool:
        return self.measuring.is_set() and self.enough.is_set()

    def _note_server_begin(self) -> None:
        self._measured_from_s = time.monotonic()
        self.measuring.set()
        self._server_cpu_s = cpu_s(self._server_pid) if self._server_pid is not None else None

    def _note_server_end(self) -> None:
        now = cpu_s(self._server_pid) if self._server_pid is not None else None
        if now is not None and self._server_cpu_s is not None:
            measured_s = max(time.monotonic() - self._measured_from_s, 1e-9)
            self._result.server_share = (now - self._server_cpu_s) / measured_s

    def _listen(self, selector: selectors.BaseSelector, seconds: float, until: Callable[[], bool]) -> None:
        limit_s = time.monotonic() + seconds
        while not until():
            if time.monotonic() > limit_s:
                raise RunError(f"a load process was silent for {seconds:g} s")
            self._listen_once(selector, 0.2)

    def _listen_once(self, selector: selectors.BaseSelector, seconds: float) -> None:
        for key, _ in selector.select(max(0.0, seconds)):
            worker: _Worker = key.data
            data = os.read(key.fd, 1 << 20)
            if not data:
                if worker.answer is None:
                    raise RunError(f"a load process ended early, with status {worker.process.wait()}")
                selector.unregister(key.fileobj)
                continue
            *lines, worker.rest = (worker.rest + data).split(b"\n")
            for line in lines:
                _take(worker, json.loads(line))

    def _show(self, inspector: Inspector) -> None:
        """A progress, once every worker has told of the same second."""
        number = min(worker.number for worker in self._workers)
        if self._on_progress is None or number <= self._shown:
            return
        operations = sum(worker.operations for worker in self._workers)
        coarse = _added([worker.coarse for worker in self._workers])
        fresh = _added([coarse, [-count for count in self._shown_coarse]])
        self._on_progress(
            Progress(
                at_s=number,
                throughput=(operations - self._shown_operations) // (number - self._shown),
                p50_ns=coarse_percentile(fresh, 50),
                p99_ns=coarse_percentile(fresh, 99),
                failed=sum(worker.failed for worker in self._workers),
                live=self._live(inspector),
            )
        )
        self._shown, self._shown_operations, self._shown_coarse = number, operations, coarse

    def _live(self, inspector: Inspector) -> int | None:
        """Counters alive on the server; None where it does not tell, or not any more."""
        if self._silent:
            return None
        try:
            caches = (inspector.statistics() or {}).get("caches")
        except OSError:
            self._silent = True
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
                result.not_verified = "so many requests failed that not all of them were remembered"
            else:
                flattened = not isinstance(driver_for(plan.parsed_target.kind), BatchDriver)
                bounds = expected(plan.workload, result.accounts, flattened)
                result.verification = verify(inspector, plan.workload, plan.prefix, bounds)
        if self._clean:
            clean_up(inspector, plan.workload, plan.prefix)


def _start_worker() -> subprocess.Popen[bytes]:
    return subprocess.Popen(
        [sys.executable, "-m", "naught_loadtest.generate.worker"],
        stdin=subprocess.PIPE,
        stdout=subprocess.PIPE,
        bufsize=0,
        env=environment(),
    )


def _end_worker(worker: _Worker) -> None:
    process = worker.process
    assert process.stdin is not None
    assert process.stdout is not None
    # The end of its input tells it to leave.
    process.stdin.close()
    try:
        process.wait(2 if worker.answer is not None else 0.2)
    except subprocess.TimeoutExpired:
        process.kill()
        process.wait()
    process.stdout.close()


def _order(worker: _Worker, **fields: Any) -> None:
    assert worker.process.stdin is not None
    with contextlib.suppress(BrokenPipeError):  # its end is noticed where it is listened to
        worker.process.stdin.write(json.dumps(fields).encode() + b"\n")


def _take(worker: _Worker, message: dict[str, Any]) -> None:
    event = message.pop("event")
    if event == "ready":
        worker.ready = True
    elif event == "progress":
        worker.number = message["number"]
        worker.operations, worker.failed = message["operations"], message["failed"]
        worker.coarse = message["coarse"]
    elif event == "result":
        worker.answer = message
    elif event == "failed":
        raise RunError(message["message"])


def _added(lists: list[list[int]]) -> list[int]:
    longest = max((len(counts) for counts in lists), default=0)
    return [sum(counts[place] for counts in lists if place < len(counts)) for place in range(longest)]


def _evictions(inspector: Inspector) -> dict[str, int] | None:
    caches = (inspector.statistics() or {}).get("caches")
    if not isinstance(caches, dict):
        return None
    total: dict[str, int] = {}
    for cache in caches.values():
        for reason, count in cache.get("evictions", {}).items():
            total[reason] = total.get(reason, 0) + count
    return total
