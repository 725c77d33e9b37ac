"""What a driver is: one server's language, without a socket.

A driver turns steps of a workload into request bytes, and reply bytes into replies. It opens nothing: the
generator (asynchronous) and the `Probe` (blocking, for preparing and checking) carry the bytes. So all servers
are driven by one and the same loop, and a comparison compares the servers.

Reading replies must cost next to nothing, or the generator measures itself. `ReplyCounter` has two ways:

- A regular expression swallows every well-formed, successful reply of a chunk in one call (50 ns a reply) and
  the replies are counted by a byte pattern that starts each of them.
- Whatever it does not accept, an error reply, a reply of many values, or half a reply at the end of the
  chunk, goes to `parse`, which reads it value by value.

Errors can therefore not be missed: only what the expression matched whole is counted without a closer look.
"""

from __future__ import annotations

import re
from abc import ABC, abstractmethod
from collections.abc import Iterable
from dataclasses import dataclass
from typing import Any, ClassVar, Protocol

from naught_loadtest.drivers.target import Target


class ProtocolFaultError(Exception):
    """Bytes from the server that are no reply at all."""


@dataclass(frozen=True, slots=True)
class Failure:
    """A reply that says no. `kind` is the server's own word for it, for counting by class."""

    kind: str
    message: str = ""


# A reply: a number, None for absent, many of these, a map of `info`, or a Failure.
Reply = Any


def failure_in(reply: Reply) -> Failure | None:
    """The failure a reply is or contains."""
    if isinstance(reply, Failure):
        return reply
    if isinstance(reply, list):
        return next((item for item in reply if isinstance(item, Failure)), None)
    return None


class Carrier(Protocol):
    """What an inspector needs of a `Probe`: bytes there, so many replies back."""

    def ask(self, request: bytes, replies: int = 1) -> list[Reply]: ...


class Driver(ABC):
    """One server's language."""

    # The name in target URLs and reports.
    name: ClassVar[str]
    # A successful reply, repeated; possessive, so that it takes time in proportion.
    fast: ClassVar[re.Pattern[bytes]]
    # Byte strings of which each fast reply holds exactly one.
    marks: ClassVar[tuple[bytes, ...]]

    def greeting(self, target: Target) -> bytes | None:
        """What a new connection says first and gets one reply to; None for nothing."""
        return None

    @abstractmethod
    def single(self, number: int, key: str, delta: int) -> bytes:
        """The request that adds `delta` to a key, or reads it when that is 0.

        `number` is the request's place in its connection's cycle, for protocols that number requests.
        """

    @abstractmethod
    def single_reply(self, number: int, delta: int, value: int) -> bytes | None:
        """The bytes that answer `single` rightly; None where they are not certain."""

    @abstractmethod
    def parse(self, data: bytes) -> tuple[list[Reply], int]:
        """The whole replies at the start of `data`, and how many bytes they took.

        ProtocolFaultError when the bytes can be no reply.
        """

    @abstractmethod
    def inspector(self, probe: Carrier) -> Inspector:
        """The same server seen by whoever prepares and checks a run."""


class BatchDriver(Driver):
    """The language of a server where one request can carry many counters. To others a batch is written as single
    requests back to back."""

    @abstractmethod
    def many(self, number: int, keys: list[str], deltas: list[int]) -> bytes:
        """The request that adds to many keys at once."""

    @abstractmethod
    def many_reply(self, number: int, values: list[int]) -> bytes | None:
        """The bytes that answer `many` rightly; None where they are not certain."""


class Inspector(ABC):
    """What is done to a server before and after a run, over a link of its own."""

    # Whether a counter at zero stays in the server, and in what `left` counts.
    keeps_zeros: ClassVar[bool] = True

    def __init__(self, probe: Carrier) -> None:
        self.probe = probe

    @abstractmethod
    def prepare(self) -> None:
        """Make sure the server answers, and load what the driver needs."""

    @abstractmethod
    def version(self) -> str:
        """The server's name and version."""

    @abstractmethod
    def values(self, names: list[str]) -> list[int]:
        """The values of keys, 0 for absent ones."""

    @abstractmethod
    def left(self, prefix: str, names: Iterable[list[str]]) -> int:
        """How many keys of the run the server still keeps, zeros included. `names`: all keys, in portions."""

    @abstractmethod
    def remove(self, names: list[str]) -> None:
        """Take out these keys and no others."""

    def statistics(self) -> dict[str, Any] | None:
        """What the server tells about itself, None where it tells nothing the report uses."""
        return None


class ReplyCounter:
    """Counts the replies of one connection as they arrive, and notes which failed."""

    __slots__ = ("_fast", "_marks", "_parse", "_rest", "counted", "failures")

    def __init__(self, driver: Driver) -> None:
        self._fast = driver.fast.match
        self._marks = driver.marks
        self._parse = driver.parse
        # The beginning of a reply whose end has not arrived.
        self._rest = b""
        # Replies so far; numbers the next one. Whoever took replies past this counter moves it on.
        self.counted = 0
        # (number of the reply on this connection, class) of those that failed. Whoever reads them clears.
        self.failures: list[tuple[int, str]] = []

    def feed(self, data: bytes) -> int:
        """How many replies `data` completes."""
        if self._rest:
            data = self._rest + data
            self._rest = b""
        match = self._fast(data)
        end = match.end() if match else 0
        count = 0
        for mark in self._marks:
            count += data.count(mark, 0, end)
        if end != len(data):
            count += self._slow(data[end:], count)
        self.counted += count
        return count

    def _slow(self, data: bytes, before: int) -> int:
        replies, used = self._parse(data)
        self._rest = data[used:]
        for place, reply in enumerate(replies, self.counted + before):
            failure = failure_in(reply)
            if failure is not None:
                self.failures.append((place, failure.kind))
        return len(replies)
