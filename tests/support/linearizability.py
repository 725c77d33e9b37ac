"""Judges recorded histories of concurrent calls: is there an order of single steps that explains every answer?

A history is a list of `Operation`s on counters. Each has an interval: from the moment it was called to the moment its
answer came. It is *linearizable* when every operation can be given one moment within its interval such that, executed
one after another at these moments, a single counter gives exactly the answers that were recorded.

Operations on different counters do not constrain each other (linearizability is local), so each key is judged alone.
An operation whose outcome is unknown (`OutcomeUnknown`, a timeout, a caller that was killed) may have happened at any
moment of its interval, or never. Where a server was killed its counters are gone: a `crash` is an operation that sets
the counter to 0, of nobody, which certainly happened.

The search is Wing and Gong's with the memo of Lowe: it tries the operations that may come next, and remembers which
sets of done operations with which value have led nowhere.
"""

from __future__ import annotations

from collections.abc import Iterable
from dataclasses import dataclass
from typing import Any, Final

UNKNOWN: Final = object()
"""The answer of an operation whose outcome is unknown."""

FOREVER: Final = float("inf")

VALUE_MAX: Final = 2**63 - 1


@dataclass(frozen=True)
class Operation:
    """A call and its answer."""

    key: str
    method: str
    """incr, decr, get, set, take, try_incr or crash."""
    argument: Any
    """The amount, the value that is set, or (amount, limit) for try_incr; None for get, take and crash."""
    called: float
    answered: float
    """When the answer came. Where the outcome is unknown: from when on it can no longer happen, or `FOREVER`."""
    answer: Any = UNKNOWN
    who: str = ""

    def __str__(self) -> str:
        answer = "unknown" if self.answer is UNKNOWN else self.answer
        return f"[{self.called:.6f} {self.answered:.6f}] {self.who} {self.method}({self.argument}) -> {answer}"


def step(operation: Operation, value: int) -> tuple[Any, int]:
    """What the counter answers at this value, and its value then."""
    argument = operation.argument
    match operation.method:
        case "incr":
            return value + argument, value + argument
        case "decr":
            return max(0, value - argument), max(0, value - argument)
        case "get":
            return value, value
        case "set":
            return value, argument
        case "take":
            return value, 0
        case "try_incr":
            amount, limit = argument
            granted = value + amount <= limit
            after = value + amount if granted else value
            return (granted, after), after
        case "crash":
            return None, 0
    raise ValueError(f"no such method: {operation.method}")


def explain(history: Iterable[Operation]) -> dict[str, str]:
    """By key, what is wrong: the operations that no order explains. Empty for a history that is linearizable."""
    by_key: dict[str, list[Operation]] = {}
    for operation in history:
        by_key.setdefault(operation.key, []).append(operation)
    return {key: fault for key, found in by_key.items() if (fault := _judge(found)) is not None}


def _judge(operations: list[Operation]) -> str | None:
    """Search for an order of the operations on one counter. None where there is one."""
    ordered = sorted(operations, key=lambda each: each.called)
    count = len(ordered)
    all_done = (1 << count) - 1
    optional = sum(1 << at for at, each in enumerate(ordered) if each.answer is UNKNOWN and each.method != "crash")
    tried: set[tuple[int, int]] = set()
    # Each state: the operations that are done (or left out), and the value. Depth first, without recursion.
    stack = [(0, 0)]
    furthest = (0, 0)
    while stack:
        done, value = stack.pop()
        if done | optional == all_done:
            return None
        if (done, value) in tried:
            continue
        tried.add((done, value))
        if (done & ~optional).bit_count() > (furthest[0] & ~optional).bit_count():
            furthest = (done, value)
        stack.extend(_next(ordered, optional, done, value))
    done, value = furthest
    left = [str(each) for at, each in enumerate(ordered) if not done >> at & 1][:8]
    return f"{done.bit_count()} of {count} operations lead to {value}; then none of these fits:\n  " + "\n  ".join(
        left
    )


def _next(ordered: list[Operation], optional: int, done: int, value: int) -> list[tuple[int, int]]:
    """The states that one more operation leads to: one that was called before any that is left was answered. Those
    that need not have happened do not hold it back; if its call came after their ends, they are left out."""
    found: list[tuple[int, int]] = []
    first = (~done & (done + 1)).bit_length() - 1  # the first that is not done
    ends = FOREVER
    over: list[tuple[float, int]] = []  # of those that may be left out: their ends
    for at in range(first, len(ordered)):
        if not done >> at & 1:
            if ordered[at].called > ends:
                break
            if optional >> at & 1:
                over.append((ordered[at].answered, 1 << at))
            else:
                ends = min(ends, ordered[at].answered)
    for at in range(first, len(ordered)):
        operation = ordered[at]
        if operation.called > ends:
            break
        if done >> at & 1:
            continue
        answer, after = step(operation, value)
        if operation.answer is UNKNOWN or answer == operation.answer or operation.method == "crash":
            left_out = sum(bit for end, bit in over if end < operation.called)
            found.append((done | 1 << at | left_out, after))
    found.reverse()  # the earliest first
    return found
