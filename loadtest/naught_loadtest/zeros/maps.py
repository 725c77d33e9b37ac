"""The ways of counting that `naught-loadtest zeros` compares, behind one interface.

Each takes a batch of keys at a time, so the interface costs one await per batch, the same for all. The loops over a
batch are written out in each class: a function call for every key would be most of what is measured.

    kept        A dict. A value that reaches zero stays, with its key: the leak.
    deleted     A dict. The code that takes a value to zero deletes its key. There is no lock: a program with several
                threads would have to add one.
    eager       naught.SafeMap, which evicts in the decrement.
    deferred    naught.SafeMap, which flags zeros and has a background thread evict them.
    memory      The server's engine in this process, naught.connect("memory://"). Each batch is one `apply`, so this
                includes the wire's encoding and decoding, but no socket.

The values are whole numbers, which CPython's collector does not track (`int`), or Fractions, which it tracks, one
object per counter (`tracked`). Fraction is the only tracked type whose zero SafeMap recognises. The engine has whole
numbers only.
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
# A slow `apply` is no error here: a full collection of ten million counters takes seconds.
CALL_S_MAX = 60.0
SCAN_PAGE = 4_096


class Counters(Protocol):
    """One way of counting."""

    # Whether memory is given back some time after the zeros went, by work in the background.
    settles: bool

    async def up(self, keys: list[str], amounts: list[Any]) -> None:
        """Add its amount to each key."""

    async def down(self, keys: list[str], amounts: list[Any]) -> None:
        """Take its amount from each key, which leaves zero or more."""

    async def live(self) -> int:
        """Iterate once over every key and value above zero. Returns how many there are."""

    async def close(self) -> None:
        """End the work in the background."""


class _Kept:
    """A dict whose zeros stay."""

    settles = False

    def __init__(self) -> None:
        # A value for every key that was ever counted.
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
        for _key, value in self.table.items():  # noqa: PERF102 - a program that lists live counters wants their keys
            if value:
                found += 1
        return found

    async def close(self) -> None:
        pass


class _Deleted(_Kept):
    """A dict whose keys are deleted at zero by the code that counts."""

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
        self.map: SafeMap[str, Any] = (
            SafeMap(int, policy=policy) if values == UNTRACKED else SafeMap(Fraction, policy=policy)
        )
        # Only the deferred policy has a background thread.
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


class _Engine:
    """The server's engine in this process."""

    settles = True

    def __init__(self, client: naught.Client[str]) -> None:
        # Connected to memory://; `close` closes it.
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
    return _Engine(await naught.connect("memory://", timeout=CALL_S_MAX))


# How each way of counting is opened, in the order of the tables.
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


def supports(variant: str, values: str) -> bool:
    """Whether this way of counting supports this kind of value."""
    return variant != "memory" or values == UNTRACKED


async def open_counters(variant: str, values: str) -> Counters:
    """One way of counting, without any counter yet."""
    return await VARIANTS[variant](values)


def amounts_for(values: str, count: int) -> list[Any]:
    """`count` ones of this kind of value. Those that the collector tracks are objects of their own."""
    return [1] * count if values == UNTRACKED else [Fraction(1) for _ in range(count)]
