"""What a run is to do, complete enough to be sent to another process as JSON.

Pure: no clock, no input or output. The prefix of a run's keys comes from whoever makes the plan.
"""

from __future__ import annotations

import dataclasses
from dataclasses import dataclass, field
from typing import Any

from naught_loadtest.drivers.target import Target, parse_target
from naught_loadtest.generate.schedule import ARRIVALS
from naught_loadtest.generate.workload import KEYS_DEFAULT, Workload

CONNECTIONS_DEFAULT = 50
DURATION_S_DEFAULT = 10.0
WARMUP_S_DEFAULT = 1.0
TIMEOUT_S_DEFAULT = 5.0
# A pipeline needs message ids that do not repeat within it; far beyond anything worth measuring.
PIPELINE_MAX = 10_000
# The server's own limit on the items of one apply.
BATCH_MAX = 4096


@dataclass(frozen=True, slots=True)
class Plan:
    """One run."""

    target: str
    # Begins every key of the run, so that what it made can be told from what was there before.
    prefix: str
    scenario: str = "churn"
    connections: int = CONNECTIONS_DEFAULT
    # Requests a connection keeps in flight (closed loop), or has in flight at most (open loop).
    pipeline: int = 1
    # Counters a request carries; above 1 the requests are `apply`.
    batch: int = 1
    # Open loop: requests a second of all processes together. None is the closed loop.
    rate: float | None = None
    arrival: str = "constant"
    duration_s: float = DURATION_S_DEFAULT
    # Before the duration; it counts for the verification, not for the figures.
    warmup_s: float = WARMUP_S_DEFAULT
    processes: int = 1
    # Counters that exist at most; 0 takes the scenario's own number.
    keys: int = 0
    seed: int = 1
    # A request answered later than this has timed out.
    timeout_s: float = TIMEOUT_S_DEFAULT
    # CPU cores the workers are held to; empty lets the system choose.
    cores: list[int] = field(default_factory=list)

    def __post_init__(self) -> None:
        parse_target(self.target)
        checks = (
            (1 <= self.pipeline <= PIPELINE_MAX, f"a pipeline has 1 to {PIPELINE_MAX} requests"),
            (1 <= self.batch <= BATCH_MAX, f"a batch has 1 to {BATCH_MAX} counters"),
            (self.rate is None or self.rate > 0, "a rate is above 0 requests a second"),
            (self.arrival in ARRIVALS, f"arrival is one of {', '.join(ARRIVALS)}"),
            (self.duration_s > 0, "a duration is above 0 seconds"),
            (self.warmup_s >= 0, "a warm-up has 0 seconds or more"),
            (self.timeout_s > 0, "a timeout is above 0 seconds"),
            (self.keys >= 0, "keys are at least 1"),
            (1 <= self.processes <= self.connections, "there is at least one connection for each process"),
        )
        for holds, sentence in checks:
            if not holds:
                raise ValueError(sentence)
        self.workload  # noqa: B018 - raises for what is wrong with the scenario

    @property
    def parsed_target(self) -> Target:
        return parse_target(self.target)

    @property
    def workload(self) -> Workload:
        keys = self.keys or max(KEYS_DEFAULT.get(self.scenario, 1), self._keys_for_batch())
        return Workload(self.scenario, keys, self.connections, self.batch, self.seed)

    def _keys_for_batch(self) -> int:
        # A churn of applies wants as many keys of its own on each connection as one apply carries.
        return self.batch * self.connections if self.scenario == "churn" else 1

    @property
    def open_loop(self) -> bool:
        return self.rate is not None

    def connections_of(self, process: int) -> range:
        """The numbers of the connections that one worker drives."""
        return range(process, self.connections, self.processes)

    def to_json(self) -> dict[str, Any]:
        return dataclasses.asdict(self)

    @classmethod
    def from_json(cls, document: dict[str, Any]) -> Plan:
        return cls(**document)

    def __str__(self) -> str:
        """One line for people."""
        workload = self.workload
        how = f"closed loop, pipeline {self.pipeline}"
        if self.rate is not None:
            depth = f" of at most {self.pipeline} in flight" if self.pipeline > 1 else ""
            how = f"open loop{depth}, {self.rate:,.0f} requests/s due, {self.arrival} arrivals"
        batch = f", {self.batch} counters a request" if self.batch > 1 else ""
        return (
            f"{self.scenario} on {workload.keys:,} keys, {self.connections} connections, {how}{batch}, "
            f"{self.processes} process{'es' if self.processes > 1 else ''}, seed {self.seed}"
        )
