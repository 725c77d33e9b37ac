"""What the counters must be after a run, computed from what the server acknowledged.

The replies of a connection come in order. So two numbers and a list describe what happened to its requests: how
many were sent, how many were answered, and which of the answered ones were refused. A request that succeeded was
executed. A request that was sent and never answered (a timeout, a lost connection) may have been executed or not.
So every key gets an interval of values. When all requests succeeded, which is the usual case, each interval is one
number.

A refused increment can widen the interval, because later decrements of the same script rely on it. Without it one of
them may stop at zero where it would otherwise have subtracted, and the key ends up higher, by at most the refused
amount.

Pure: no clock, no input or output.
"""

from __future__ import annotations

from dataclasses import dataclass, field
from typing import Protocol

from naught_loadtest.generate.workload import Script, Workload


@dataclass(frozen=True, slots=True)
class Account:
    """What one connection knows about its requests, which are numbered from 0 in the order sent."""

    # The number of the connection.
    connection: int
    # Requests written to the socket. The outcome of those from number `answered` on is unknown.
    sent: int
    # Requests answered, successful or not: numbers 0 to answered - 1.
    answered: int
    # Numbers of the answered requests that failed.
    failed: list[int] = field(default_factory=list)
    # How often the connection was opened anew before.
    life: int = 0
    # Closing decrements (see `generate.closing`) that were sent, and those of them that succeeded.
    closing_sent: int = 0
    closing_done: int = 0


@dataclass(slots=True)
class Expected:
    """The interval in which each key must lie. Keys are the numbers that the workload gives them."""

    # The least and the greatest sum of what was added to a key and subtracted from it. Absent keys have 0.
    low: dict[int, int] = field(default_factory=dict)
    high: dict[int, int] = field(default_factory=dict)
    # Requests whose outcome is unknown.
    unknown: int = 0
    # Requests that the server refused.
    refused: int = 0

    def add(self, key: int, low: int, high: int) -> None:
        """Add to both ends of a key's interval."""
        self.low[key] = self.low.get(key, 0) + low
        self.high[key] = self.high.get(key, 0) + high

    def bounds(self, key: int) -> tuple[int, int]:
        """The least and the greatest value that a key may have."""
        return max(0, self.low.get(key, 0)), max(0, self.high.get(key, 0))

    def left_bounds(self) -> tuple[int, int]:
        """How many counters must exist at least, and may exist at most."""
        at_least = sum(1 for value in self.low.values() if value > 0)
        at_most = sum(1 for value in self.high.values() if value > 0)
        return at_least, at_most


class HasRemaining(Protocol):
    """A script, encoded or not."""

    def remaining(self, requests: int) -> dict[int, int]: ...


def closing_steps(script: HasRemaining, answered: int) -> list[tuple[int, int]]:
    """(key, amount to subtract) that undo what a connection has added after `answered` requests."""
    return sorted(script.remaining(answered).items())


def key_ranges(workload: Workload, accounts: list[Account]) -> list[range]:
    """All keys that a run can have touched, those of connections that were opened anew included."""
    others = {workload.keys_of(account.connection, account.life) for account in accounts if account.life}
    return [workload.key_numbers, *sorted((keys for keys in others if keys), key=lambda keys: keys.start)]


def expected(workload: Workload, accounts: list[Account], flattened: bool) -> Expected:
    """The intervals after a run. `flattened` says that every step of a script was a request of its own."""
    result = Expected()
    shared: dict[int, Script] = {}
    for account in accounts:
        number = workload.script_number(account.connection)
        script = shared.get(number)
        if script is None:
            script = workload.script(account.connection, account.life)
            script = script.flattened() if flattened else script
        if not workload.owned:
            shared[number] = script
        _add(result, script, account)
    return result


def _add(result: Expected, script: Script, account: Account) -> None:
    has_decrements = min(script.deltas) < 0
    spans = list(script.requests()) if account.failed or account.sent > account.answered else []

    def steps_of(request: int) -> list[tuple[int, int]]:
        start, end = spans[request % len(spans)]
        return list(zip(script.keys[start:end], script.deltas[start:end], strict=True))

    for key, amount in script.remaining(account.answered).items():
        result.add(key, amount, amount)
    for request in account.failed:
        result.refused += 1
        steps = steps_of(request)
        for key, delta in steps:
            if len(steps) > 1:
                # Each item of a batch stands alone, and nobody kept which of them failed.
                result.add(key, min(-delta, 0), max(-delta, 0))
            elif delta > 0 and has_decrements:
                result.add(key, -delta, 0)
            else:
                result.add(key, -delta, -delta)
    for request in range(account.answered, account.sent):
        result.unknown += 1
        for key, delta in steps_of(request):
            result.add(key, min(delta, 0), max(delta, 0))
    closing = closing_steps(script, account.answered)
    for key, amount in closing[: account.closing_done]:
        result.add(key, -amount, -amount)
    for key, amount in closing[account.closing_done : account.closing_sent]:
        result.unknown += 1
        result.add(key, -amount, 0)
