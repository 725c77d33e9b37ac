"""The ways of counting that `naught-loadtest zeros` compares, behind one interface.

Each takes a batch of keys at a time, so that what the interface costs (one await a batch) is the same for all
and small. The loops over a batch are written out in each: a call for every key would be most of what is
measured.

    kept        a dict. A value that comes to zero stays, with its key: the leak.
    deleted     a dict. Whoever brings a value to zero deletes its key. No lock: a program of several threads
                would have to add one.
    eager       naught.SafeMap, which evicts in the decrement.
    deferred    naught.SafeMap, which flags zeros and has a thread evict them.
    memory      the server's engine in this process: naught.connect("memory://"), one `apply` a batch, so with
                the wire's encoding and decoding, but without a socket.

The values are whole numbers, at which CPython's collector does not look (`int`), or Fractions, which it tracks,
one object a counter (`tracked`): the only such type whose zero SafeMap knows. The engine has whole numbers only.
"""

from __future__ import annotations

from collections.abc import Awaitable, Callable
from fractions import Fraction
from typing import Any, Protocol

import naught
from naught.safemap import Policy, SafeMap

UNTRACKED = "int"
TRACKED = "tracked"
VALUES = (UNTRACKED, TRACKED)
# One `apply` may be late without being wrong: a full collection of ten million counters takes seconds.
CALL_S_MAX = 60.0
SCAN_PAGE = 4_096


class Counters(Protocol):
    """One way of counting."""

    # Whether memory comes back some time after the zeros: there is somebody in the background to wait for.
    settles: bool

    async def up(self, keys: list[str], amounts: list[Any]) -> None:
        """Add to each key its amount."""

    async def down(self, keys: list[str], amounts: list[Any]) -> None:
        """Take from each key its amount, which leaves zero or more."""

    async def live(self) -> int:
        """Go once over every key and value above zero; answer how many there were."""

    async def close(self) -> None:
        """End what runs in the background."""


class _Kept:
    """A dict whose zeros stay."""

    settles = False

    def __init__(self) -> None:
        # A number for every key that ever counted.
        self.table: dict[str, Any] = {}

    async def up(self, keys: list[str], amounts: list[Any]) -> None:
        table = self.table
        for key, amount in zip(keys, amounts, strict=True):
            if key in table:
                table[key] += amount
            else:
                table[key] = amount

    async def down(self, keys: list[str], amounts: list[Any]) -> None:
        table = self.table
        for key, amount in zip(keys, amounts, strict=True):
            table[key] -= amount

    async def live(self) -> int:
        found = 0
        for _key, value in self.table.items():  # noqa: PERF102 - whoever asks what lives wants the keys
            if value:
                found += 1
        return found

    async def close(self) -> None:
        pass


class _Deleted(_Kept):
    """A dict whose user deletes at zero."""

    async def down(self, keys: list[str], amounts: list[Any]) -> None:
        table = self.table
        for key, amount in zip(keys, amounts, strict=True):
            value = table[key] - amount
            if value > 0:
                table[key] = value
            else:
                del table[key]

    async def live(self) -> int:
        found = 0
        for _key, _value in self.table.items():
            found += 1
        return found


class _Safe:
    """A SafeMap."""

    def __init__(self, policy: Policy, values: str) -> None:
        # What is measured.
        self.map: SafeMap[str, Any] = (
            SafeMap(int, policy=policy) if values == UNTRACKED else SafeMap(Fraction, policy=policy)
        )
        self.settles = policy == "deferred"

    async def up(self, keys: list[str], amounts: list[Any]) -> None:
        incr = self.map.incr
        for key, amount in zip(keys, amounts, strict=True):
            incr(key, amount)

    async def down(self, keys: list[str], amounts: list[Any]) -> None:
        decr = self.map.decr
        for key, amount in zip(keys, amounts, strict=True):
            decr(key, amount)

    async def live(self) -> int:
        found = 0
        for _key, _value in self.map.items():
            found += 1
        return found

    async def close(self) -> None:
        self.map.close()


class _Memory:
    """The server's engine."""

    settles = True

    def __init__(self, client: naught.Client[str]) -> None:
        # Connected, and closed here.
        self.client = client

    async def up(self, keys: list[str], amounts: list[Any]) -> None:
        await self.client.apply(keys, amounts)

    async def down(self, keys: list[str], amounts: list[Any]) -> None:
        await self.client.apply(keys, [-amount for amount in amounts])

    async def live(self) -> int:
        found = 0
        async for _key, _value in self.client.scan_iter(count=SCAN_PAGE):
            found += 1
        return found

    async def close(self) -> None:
        await self.client.close()


async def _kept(values: str) -> Counters:
    return _Kept()


async def _deleted(values: str) -> Counters:
    return _Deleted()


async def _eager(values: str) -> Counters:
    return _Safe("eager", values)


async def _deferred(values: str) -> Counters:
    return _Safe("deferred", values)


async def _memory(values: str) -> Counters:
    return _Memory(await naught.connect("memory://", timeout=CALL_S_MAX))


# In the order of the tables.
VARIANTS: dict[str, Callable[[str], Awaitable[Counters]]] = {
    "kept": _kept,
    "deleted": _deleted,
    "eager": _eager,
    "deferred": _deferred,
    "memory": _memory,
}
TITLES = {
    "kept": "dict, zeros kept",
    "deleted": "dict, deleted at zero",
    "eager": "SafeMap, eager",
    "deferred": "SafeMap, deferred",
    "memory": "memory:// (apply)",
}


def counts(variant: str, values: str) -> bool:
    """Whether this way of counting has such values."""
    return variant != "memory" or values == UNTRACKED


async def open_counters(variant: str, values: str) -> Counters:
    """An empty one."""
    return await VARIANTS[variant](values)


def amounts_for(values: str, count: int) -> list[Any]:
    """`count` ones, each an object of its own where the collector tracks them."""
    return [1] * count if values == UNTRACKED else [Fraction(1) for _ in range(count)]
