"""The plan of a run: all its settings in one object, which travels to the worker processes as JSON.

Pure: no clock, no input or output. So the caller also chooses the prefix of the run's keys (`runner.new_prefix`).
"""

from __future__ import annotations

import dataclasses
from collections.abc import Iterator
from dataclasses import dataclass, field
from typing import Any

from naught_loadtest.drivers.target import Target, parse_target
from naught_loadtest.generate.schedule import ARRIVALS, Stage, check_stages, due_times_ns, staged_due_times_ns
from naught_loadtest.generate.workload import KEYS_DEFAULT, NAUGHT_ONLY, SHARED_SCRIPTS, Workload

CONNECTIONS_DEFAULT = 50
DURATION_S_DEFAULT = 10.0
WARMUP_S_DEFAULT = 1.0
TIMEOUT_S_DEFAULT = 5.0
# More than a machine has ports for, and than the names of keys have digits for.
CONNECTIONS_MAX = 60_000
KEYS_MAX = 99_999_999
# The message ids of one pipeline must differ. This limit is far beyond any depth worth measuring.
PIPELINE_MAX = 10_000
# The server keeps 1 024 unacknowledged replies of a session, and answers `busy` beyond.
SESSION_PIPELINE_MAX = 512
# The limit of naught's server on the items of one `apply`.
BATCH_MAX = 4096
# Rates and seconds: beyond any use, and within what all arithmetic here can do.
NUMBER_MAX = 1e9
# What all requests of one pipeline of each connection may take.
ENCODED_BYTES_MAX = 1 << 31
# Bytes of a request without its counters, as an object in memory, and of each counter.
REQUEST_BYTES = 80
COUNTER_BYTES = 20


@dataclass(frozen=True, slots=True)
class Plan:
    """The settings of one run. ValueError says which of them is wrong."""

    # The server's URL, see `drivers.target`.
    target: str
    # Every key of the run begins with it, so that the run's counters can be told from those of others.
    prefix: str
    # Which counters change, and how, see `generate.workload`.
    scenario: str = "churn"
    # Connections of all processes together.
    connections: int = CONNECTIONS_DEFAULT
    # Requests that a connection keeps in flight (closed loop), or has in flight at most (open loop).
    pipeline: int = 1
    # Counters in each request. Above 1 the requests are `apply`.
    batch: int = 1
    # Open loop: requests per second of all processes together. None for a closed loop.
    rate: float | None = None
    # Open loop: (seconds, requests per second) of each stage, one after another. Then `rate` is their mean, and
    # `duration_s` their sum. Empty where the rate stays as it is.
    stages: list[Stage] = field(default_factory=list)
    # Open loop: the gaps between requests, see `generate.schedule`.
    arrival: str = "constant"
    # The measured time.
    duration_s: float = DURATION_S_DEFAULT
    # Load before the measured time: it is verified, but it is not in the figures.
    warmup_s: float = WARMUP_S_DEFAULT
    processes: int = 1
    # Counters that exist at most at a time; 0 for the scenario's own number.
    keys: int = 0
    seed: int = 1
    # A request answered later than this has timed out.
    timeout_s: float = TIMEOUT_S_DEFAULT
    # The cores on which the workers run; empty lets the system choose.
    cores: list[int] = field(default_factory=list)

    def __post_init__(self) -> None:
        kind = parse_target(self.target).kind
        in_session = kind == "naught-session"
        for_others = self.scenario not in NAUGHT_ONLY
        queues = self.scenario == "semaphore"
        pipeline_max = SESSION_PIPELINE_MAX if in_session else PIPELINE_MAX
        checks = (
            (
                1 <= self.connections <= CONNECTIONS_MAX,
                f"there must be 1 to {CONNECTIONS_MAX} connections, not {self.connections}",
            ),
            (1 <= self.pipeline <= pipeline_max, f"the pipeline must be 1 to {pipeline_max}, not {self.pipeline}"),
            (1 <= self.batch <= BATCH_MAX, f"the batch must be 1 to {BATCH_MAX} counters, not {self.batch}"),
            (self.rate is None or self.rate > 0, f"the rate must be above 0 requests per second, not {self.rate}"),
            (self.arrival in ARRIVALS, f"the arrival must be one of {', '.join(ARRIVALS)}, not {self.arrival!r}"),
            (self.duration_s > 0, f"the duration must be above 0 seconds, not {self.duration_s}"),
            (self.warmup_s >= 0, f"the warm-up must be 0 seconds or more, not {self.warmup_s}"),
            (self.timeout_s > 0, f"the timeout must be above 0 seconds, not {self.timeout_s}"),
            (
                0 <= self.keys <= KEYS_MAX,
                f"keys must be 0 (the scenario's own number) to {KEYS_MAX}, not {self.keys}",
            ),
            (
                for_others or kind in ("naught", "naught-session"),
                f"the scenario {self.scenario} is for naught only, not for {kind}",
            ),
            (for_others or self.batch == 1, f"a request of the scenario {self.scenario} is about one counter"),
            (
                not queues or (self.rate is None and self.pipeline == 1),
                "the scenario semaphore is a closed loop with one request in flight on each connection",
            ),
            (
                1 <= self.processes <= self.connections,
                f"processes must be 1 to the number of connections ({self.connections}), not {self.processes}",
            ),
        )
        for name in ("rate", "duration_s", "warmup_s", "timeout_s"):
            value = getattr(self, name)
            if value is not None and not value <= NUMBER_MAX:
                named = name.removesuffix("_s")
                raise ValueError(f"the {named} must be a number up to {NUMBER_MAX:g}, not {value}")
        for holds, sentence in checks:
            if not holds:
                raise ValueError(sentence)
        check_stages(self.stages)
        if self.stages and (self.rate, self.duration_s) != staged_rate(self.stages):
            raise ValueError("the rate and the duration of stages follow from them, and must not be given")
        self.workload  # noqa: B018 - raises ValueError for a wrong scenario
        if self._encoded_bytes > ENCODED_BYTES_MAX:
            needed, allowed = self._encoded_bytes / 2**30, ENCODED_BYTES_MAX / 2**30
            raise ValueError(
                f"{self.connections} connections with {self.pipeline} requests of {self.batch} counters in flight on"
                f" each need {needed:.1f} GiB of memory for the requests; {allowed:g} are allowed"
            )

    @property
    def _encoded_bytes(self) -> int:
        """About how many bytes the pipelines of all connections take."""
        workload = self.workload
        scripts = self.connections if workload.owned else min(self.connections, SHARED_SCRIPTS * self.processes)
        return scripts * self.pipeline * (REQUEST_BYTES + self.batch * COUNTER_BYTES)

    @property
    def parsed_target(self) -> Target:
        return parse_target(self.target)

    @property
    def workload(self) -> Workload:
        keys = self.keys or max(KEYS_DEFAULT.get(self.scenario, 1), self._keys_for_batch())
        return Workload(self.scenario, keys, self.connections, self.batch, self.seed)

    def _keys_for_batch(self) -> int:
        # In a churn of applies each connection needs as many keys of its own as one apply carries.
        return self.batch * self.connections if self.scenario == "churn" else 1

    def due_times_ns(self, process: int) -> Iterator[int]:
        """Open loop: when each request of a worker process is due, from the start of the warm-up."""
        assert self.rate is not None
        if not self.stages:
            return due_times_ns(self.arrival, self.rate, process, self.processes, self.seed)
        # The warm-up has the rate of the first stage.
        stages = [(self.warmup_s, self.stages[0][1]), *self.stages] if self.warmup_s else self.stages
        return staged_due_times_ns(self.arrival, stages, process, self.processes, self.seed)

    @property
    def open_loop(self) -> bool:
        return self.rate is not None

    def connections_of(self, process: int) -> range:
        """The numbers of the connections of one worker process."""
        return range(process, self.connections, self.processes)

    def to_json(self) -> dict[str, Any]:
        return {**dataclasses.asdict(self), "stages": [list(stage) for stage in self.stages]}

    @classmethod
    def from_json(cls, document: dict[str, Any]) -> Plan:
        return cls(**{**document, "stages": [tuple(stage) for stage in document.get("stages") or []]})

    def __str__(self) -> str:
        """The plan in words, for the report."""
        workload = self.workload
        how = f"closed loop, pipeline {self.pipeline}"
        if self.rate is not None:
            depth = f" of at most {self.pipeline} in flight" if self.pipeline > 1 else ""
            due = ", ".join(f"{duration_s:g} s at {rate:,.0f}" for duration_s, rate in self.stages)
            how = f"open loop{depth}, {due or f'{self.rate:,.0f}'} requests/s due, {self.arrival} arrivals"
        batch = f", {self.batch} counters per request" if self.batch > 1 else ""
        return (
            f"{self.scenario} on {workload.keys:,} keys, {self.connections} connections, {how}{batch}, "
            f"{self.processes} process{'es' if self.processes > 1 else ''}, seed {self.seed}"
        )


def staged_rate(stages: list[Stage]) -> tuple[float, float]:
    """(mean rate, seconds) of stages, as a plan with them has it."""
    duration_s = sum(duration_s for duration_s, _ in stages)
    return sum(duration_s * rate for duration_s, rate in stages) / duration_s, duration_s
