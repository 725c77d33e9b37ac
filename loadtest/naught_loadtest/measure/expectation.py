"""What the counters must be after a run, from what was acknowledged.

A connection's replies come in order, so what happened to its requests is told by two numbers and a list:
how many were sent, how many were answered, and which of the answered ones were refused. What was answered
well happened; what was sent and never answered (a timeout, a lost connection) may or may not have. So every
key gets an interval, and where all was answered well, which is the usual case, the interval is one number.

Why a refused increment can widen the interval: later decrements of the same script count on it. With it
missing they may stop at zero where otherwise they would have taken one off, and leave the key up to that
much higher.

Pure: no clock, no input or output.
"""

from __future__ import annotations

from dataclasses import dataclass, field

from naught_loadtest.generate.workload import Script, Workload


@dataclass(frozen=True, slots=True)
class Account:
    """What one connection knows of its requests, numbered from 0 in the order sent."""

    connection: int
    # Requests handed to the socket; those from `answered` on have an unknown outcome.
    sent: int
    # Replies that came, good or bad: requests 0 to answered - 1.
    answered: int
    # Numbers of answered requests that failed.
    failed: list[int] = field(default_factory=list)
    # Decrements sent after the run to take off what the connection still had up, and those answered well.
    closing_sent: int = 0
    closing_done: int = 0


@dataclass(slots=True)
class Expected:
    """The interval every touched key must lie in. Keys are numbers of the workload."""

    low: dict[int, int] = field(default_factory=dict)
    high: dict[int, int] = field(default_factory=dict)
    # Requests whose outcome nobody knows; 0 means every interval is one number.
    unknown: int = 0
    # Requests that were refused.
    refused: int = 0

    def add(self, key: int, low: int, high: int) -> None:
        """Widen or move the interval of a key."""
        self.low[key] = self.low.get(key, 0) + low
        self.high[key] = self.high.get(key, 0) + high

    def bounds(self, key: int) -> tuple[int, int]:
        """The least and the most a key may be."""
        return max(0, self.low.get(key, 0)), max(0, self.high.get(key, 0))

    def left_bounds(self) -> tuple[int, int]:
        """How many counters may be left, at least and at most."""
        at_least = sum(1 for value in self.low.values() if value > 0)
        at_most = sum(1 for value in self.high.values() if value > 0)
        return at_least, at_most


def closing_steps(script: Script, answered: int) -> list[tuple[int, int]]:
    """(key, amount to take off) that bring a connection's share to zero after so many requests."""
    return sorted(script.remaining(answered).items())


def expected(workload: Workload, accounts: list[Account], flattened: bool) -> Expected:
    """The intervals after a run. `flattened`: every step was a request of its own."""
    result = Expected()
    for account in accounts:
        script = workload.script(account.connection)
        _add(result, script.flattened() if flattened else script, account)
    return result


def _add(result: Expected, script: Script, account: Account) -> None:
    has_decrements = min(script.deltas) < 0
    for key, amount in script.remaining(account.answered).items():
        result.add(key, amount, amount)
    for request in account.failed:
        result.refused += 1
        for key, delta in script.request_steps(request):
            if delta > 0 and has_decrements:
                result.add(key, -delta, 0)
            else:
                result.add(key, -delta, -delta)
    for request in range(account.answered, account.sent):
        result.unknown += 1
        for key, delta in script.request_steps(request):
            result.add(key, min(delta, 0), max(delta, 0))
    closing = closing_steps(script, account.answered)
    for key, amount in closing[: account.closing_done]:
        result.add(key, -amount, -amount)
    for key, amount in closing[account.closing_done : account.closing_sent]:
        result.unknown += 1
        result.add(key, -amount, 0)
