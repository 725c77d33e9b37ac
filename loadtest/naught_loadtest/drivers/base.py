"""What a driver is: the protocol of one server, without a socket.

A driver turns steps of a workload into request bytes, and reply bytes into replies. The bytes are carried by the
generator's connections (asynchronous) and by the `Probe` (blocking, before and after a run). So the same loop drives
all servers, and a comparison compares the servers and not their clients.

Reading replies must cost little, or the generator measures itself. So a driver knows three things about replies:
the right reply to a request as bytes, where the values are known beforehand; a regular expression that matches all
successful replies at the start of a chunk in one call (50 ns per reply), which are then counted by a byte pattern
with which each of them begins; and `parse`, which reads replies value by value. `generate.replies` uses them in this
order.

A reply must also be the one to its request. Where a protocol numbers requests, `id_of` says which number a reply must
have. Where a protocol does not, the order is all there is.

Most requests get one reply. A request of two commands (a decrement, and a command that deletes the key at zero) gets
two, and a `ReplyCycle` then says which request a reply belongs to.
"""

from __future__ import annotations

import itertools
import re
from abc import ABC, abstractmethod
from bisect import bisect_right
from collections.abc import Iterable, Sequence
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


def whole_numbers(values: Reply, count: int, of: str) -> list[int]:
    """`values` if they are `count` whole numbers, None counting as 0. ProtocolFaultError otherwise."""
    if not isinstance(values, list) or len(values) != count:
        raise ProtocolFaultError(f"{of}: {count} values were expected, not {values!r:.80}")
    numbers = [0 if value is None else value for value in values]
    for number in numbers:
        if type(number) is not int:
            raise ProtocolFaultError(f"{of}: a whole number was expected, not {number!r:.80}")
    return numbers


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
    # What a read of an absent key answers.
    absent: ClassVar[int | None] = None
    # Whether a decrement stops at zero. Otherwise it goes below.
    stops_at_zero: ClassVar[bool] = True
    # Whether the reply to a request is the request itself.
    echoes: ClassVar[bool] = False
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

    def right_replies(self, delta: int, value: int) -> list[Reply]:
        """What `parse` must make of the replies to `single`, if the value afterwards is `value`."""
        return [value]

    def id_of(self, number: int) -> int | None:
        """The id that the reply to the request with this number must have. None if replies have no ids."""
        return None

    def ids_are(self, data: bytes, end: int, ids: bytes) -> bool:
        """Whether the replies in data[:end], all matched by `fast`, have these ids: the lower two bytes of each."""
        return True

    def values_in(self, data: bytes, end: int, count: int) -> Sequence[int] | None:
        """The values in the replies data[:end], `count` in number and all matched by `fast`. None if not offered."""
        return None

    def renumbered(self, message: bytes, number: int) -> bytes:
        """A request or its right reply as it is for a request with this number."""
        return message

    def parse_with_ids(self, data: bytes) -> tuple[list[tuple[int | None, Reply]], int]:
        """Like `parse`, with the id of each reply."""
        replies, used = self.parse(data)
        return [(None, reply) for reply in replies], used

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

    def live(self, prefix: str) -> int | None:
        """How many counters of the run the server has now. None where asking would be a load of its own."""
        return None

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
