"""What a driver is: the protocol of one server, without a socket.

A driver turns steps of a workload into request bytes, and reply bytes into replies. The bytes are carried by the
generator's connections (asynchronous) and by the `Probe` (blocking, before and after a run). So the same loop drives
all servers, and a comparison compares the servers and not their clients.

Reading replies must cost little, or the generator measures itself. `ReplyCounter` has two ways:

- A regular expression matches all successful replies at the start of a chunk in one call (50 ns per reply). They are
  counted by a byte pattern with which each of them begins.
- What the expression does not match goes to `parse`, which reads it value by value: error replies, replies of many
  values, and an incomplete reply at the end of the chunk.

So no error is missed: only replies that the expression has matched completely are counted without being parsed.

Most requests get one reply. A request of two commands (a decrement, and a command that deletes the key at zero) gets
two, and a `ReplyCycle` then says which request a reply belongs to.
"""

from __future__ import annotations

import itertools
import re
from abc import ABC, abstractmethod
from bisect import bisect_right
from collections.abc import Iterable
from dataclasses import dataclass
from typing import Any, ClassVar, Protocol

from naught_loadtest.drivers.target import Target


class ProtocolFaultError(Exception):
    """The server sent bytes that are not a reply of its protocol."""


class UnsupportedError(RuntimeError):
    """The server has no command that the driver needs. The message is one sentence that names both."""


@dataclass(frozen=True, slots=True)
class Failure:
    """An error reply."""

    # The server's own name of the error. Failures are counted by it.
    kind: str
    message: str = ""


# A reply: a number, None for an absent key, a list of these, the map of `info`, text, or a Failure.
Reply = Any


def failure_in(reply: Reply) -> Failure | None:
    """The failure that a reply is or contains; None if there is none."""
    if isinstance(reply, Failure):
        return reply
    if isinstance(reply, list):
        return next((item for item in reply if isinstance(item, Failure)), None)
    return None


class Carrier(Protocol):
    """What an inspector needs of a `Probe`: to send a request and get this number of replies."""

    def ask(self, request: bytes, replies: int = 1) -> list[Reply]: ...


class Driver(ABC):
    """The protocol of one server."""

    # The name in target URLs and reports.
    name: ClassVar[str]
    # Matches any number of successful replies. It is possessive, so that its time is linear.
    fast: ClassVar[re.Pattern[bytes]]
    # Byte strings. Each reply that `fast` matches contains exactly one of them, once.
    marks: ClassVar[tuple[bytes, ...]]
    # A connection must acknowledge replies before it has received this many more. 0: the protocol has no such rule.
    acknowledge_every: ClassVar[int] = 0

    def greeting(self, target: Target) -> bytes | None:
        """What a new connection must send first. It gets one reply. None if the protocol has no such request."""
        return None

    def acknowledgement(self, received: int) -> bytes:
        """What acknowledges the first `received` replies, where `acknowledge_every` asks for it. It gets no reply."""
        return b""

    def replies_to(self, delta: int) -> int:
        """How many replies `single` with this delta gets: more than one where it is several commands."""
        return 1

    def for_probe(self) -> Driver:
        """The driver for a probe of the same server, which needs nothing that only the load needs."""
        return self

    @abstractmethod
    def single(self, number: int, key: str, delta: int) -> bytes:
        """The request that adds `delta` to a key, or reads the key if `delta` is 0.

        `number` is the request's index in its connection's cycle, for protocols that number requests.
        """

    @abstractmethod
    def single_reply(self, number: int, delta: int, value: int) -> bytes | None:
        """The right reply to `single`, in bytes; None where it is not known beforehand."""

    @abstractmethod
    def parse(self, data: bytes) -> tuple[list[Reply], int]:
        """The complete replies at the start of `data`, and how many bytes they take.

        ProtocolFaultError when the bytes cannot be a reply.
        """

    @abstractmethod
    def inspector(self, probe: Carrier) -> Inspector:
        """The inspector of the same server, which uses this probe."""


class BatchDriver(Driver):
    """The protocol of a server with a request for many counters. Other servers get a batch as single requests."""

    @abstractmethod
    def many(self, number: int, keys: list[str], deltas: list[int]) -> bytes:
        """The request that adds one delta to each of many keys."""

    @abstractmethod
    def many_reply(self, number: int, values: list[int]) -> bytes | None:
        """The right reply to `many`, in bytes; None where it is not known beforehand."""


class Inspector(ABC):
    """What the harness asks of a server before and after a run: it prepares, checks and cleans up."""

    # Whether the server keeps a counter at zero, so that `left` counts it.
    keeps_zeros: ClassVar[bool] = True

    def __init__(self, probe: Carrier) -> None:
        # A connection that is not part of the load.
        self.probe = probe

    @abstractmethod
    def prepare(self) -> None:
        """Check that the server answers, and load what the driver needs.

        UnsupportedError when the server has no command that the driver needs.
        """

    @abstractmethod
    def version(self) -> str:
        """The server's name and version."""

    @abstractmethod
    def values(self, names: list[str]) -> list[int]:
        """The values of these keys, 0 for absent ones."""

    @abstractmethod
    def left(self, prefix: str, names: Iterable[list[str]]) -> int:
        """How many keys of the run the server has, zeros included. `names` are all keys of the run, in portions."""

    @abstractmethod
    def remove(self, names: list[str]) -> None:
        """Delete these keys and no others."""

    def statistics(self) -> dict[str, Any] | None:
        """What the server reports about itself, in the form of naught's `info`. None for other servers."""
        return None


class ReplyCycle:
    """Which request a reply belongs to, where a cycle of requests has some that get several replies.

    Requests and replies are numbered from 0 in the order sent, over all repetitions of the cycle.
    """

    __slots__ = ("_ends",)

    def __init__(self, per_request: list[int]) -> None:
        # How many replies the cycle has up to the end of each request.
        self._ends = list(itertools.accumulate(per_request))

    def request_of(self, reply: int) -> int:
        """The request that a reply belongs to. The same number says how many requests `reply` replies complete."""
        cycles, rest = divmod(reply, self._ends[-1])
        return cycles * len(self._ends) + bisect_right(self._ends, rest)

    def first_reply(self, request: int) -> int:
        """The first reply to a request."""
        cycles, index = divmod(request, len(self._ends))
        return cycles * self._ends[-1] + (self._ends[index - 1] if index else 0)


class ReplyCounter:
    """Counts the answered requests of one connection as replies arrive, and finds those that failed."""

    __slots__ = ("_cycle", "_failed", "_fast", "_marks", "_parse", "_replies", "_rest", "counted", "failures")

    def __init__(self, driver: Driver, cycle: ReplyCycle | None = None) -> None:
        self._fast = driver.fast.match
        self._marks = driver.marks
        self._parse = driver.parse
        # None where every request gets one reply.
        self._cycle = cycle
        # Replies so far, and so the number of the next one.
        self._replies = 0
        # The beginning of a reply whose end has not arrived.
        self._rest = b""
        # The request whose last reply has not arrived although an earlier one is a failure: its number and the class.
        self._failed: tuple[int, str] | None = None
        # Requests answered so far, and so the number of the next one. A request is answered with its last reply.
        self.counted = 0
        # (number of the request on this connection, class) of the failed requests that were not taken yet.
        self.failures: list[tuple[int, str]] = []

    def feed(self, data: bytes) -> int:
        """Read the next bytes. Returns how many requests they complete."""
        if self._rest:
            data = self._rest + data
            self._rest = b""
        # After a failed first reply the second one must be seen, so the chunk is parsed.
        match = self._fast(data) if self._failed is None else None
        end = match.end() if match else 0
        count = 0
        for mark in self._marks:
            count += data.count(mark, 0, end)
        if end != len(data):
            count += self._slow(data[end:], count)
        self._replies += count
        if self._cycle is not None:
            count = self._cycle.request_of(self._replies) - self.counted
        self.counted += count
        return count

    def take_failures(self) -> list[tuple[int, str]]:
        """The failures found since the last call."""
        failures, self.failures = self.failures, []
        return failures

    def skip_to(self, number: int) -> None:
        """Go on with the request of this number: the replies before it were read without this counter."""
        self.counted = number
        self._replies = number if self._cycle is None else self._cycle.first_reply(number)

    def _slow(self, data: bytes, before: int) -> int:
        """Parse bytes that follow the first `before` replies of a chunk."""
        replies, used = self._parse(data)
        self._rest = data[used:]
        for number, reply in enumerate(replies, self._replies + before):
            failure = failure_in(reply)
            if failure is not None:
                self._note(number, failure.kind)
            elif self._failed is not None:
                self._close_request(number)
        return len(replies)

    def _note(self, reply: int, kind: str) -> None:
        """A reply is a failure."""
        if self._cycle is None:
            self.failures.append((reply, kind))
            return
        # A request with two failed replies is one failed request, of the first one's class.
        if self._failed is None:
            self._failed = self._cycle.request_of(reply), kind
        self._close_request(reply)

    def _close_request(self, reply: int) -> None:
        """A reply to the request in `_failed`: if it is the last one, the request is answered and has failed."""
        assert self._cycle is not None
        assert self._failed is not None
        if self._cycle.request_of(reply + 1) > self._failed[0]:
            self.failures.append(self._failed)
            self._failed = None
