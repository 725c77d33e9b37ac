"""What the asyncio client can do the blocking one can, under the same name and with the same parameters."""

from __future__ import annotations

import inspect
import re
from collections.abc import Iterator
from typing import Any

import pytest

import naught
from naught import blocking, patterns

LIFECYCLE = {"aclose"}
"""What has to do with the event loop."""

TWINS: list[tuple[type, type]] = [
    (naught.Client, blocking.Client),
    (patterns.Permit, blocking.Permit),
    (patterns.Lost, blocking.Lost),
    (patterns.Semaphore, blocking.Semaphore),
    (patterns.WaitGroup, blocking.WaitGroup),
    (patterns.Reference, blocking.Reference),
    (patterns.InFlight, blocking.InFlight),
    (patterns.Quota, blocking.Quota),
]

SPECIAL = {"__aenter__": "__enter__", "__aexit__": "__exit__", "__call__": "__call__", "__bool__": "__bool__"}
"""And `__await__`, which nothing has whose methods wait."""

# What differs, and why: `lost` is waited for with a time, as a thread cannot be cancelled; what is decorated is a
# function, and no coroutine function.
OWN_PARAMETERS = {(blocking.Lost, "wait"), (blocking.Semaphore, "__call__")}


def public(of: type) -> list[str]:
    """Methods, properties and fields for everybody."""
    return sorted(name for name in dir(of) if not name.startswith("_"))


def methods() -> Iterator[Any]:
    for theirs, ours in TWINS:
        own = vars(theirs)
        special = [name for name in SPECIAL if name in own]
        for name in [*public(theirs), *special]:
            if name not in LIFECYCLE and inspect.isfunction(getattr(theirs, name)):
                yield pytest.param(theirs, ours, name, id=f"{theirs.__name__}.{name}")


@pytest.mark.parametrize(("theirs", "ours"), TWINS, ids=lambda each: f"{each.__module__}.{each.__name__}")
def test_nothing_is_missing_and_nothing_is_more(theirs: type, ours: type) -> None:
    assert set(public(theirs)) - LIFECYCLE == set(public(ours))


@pytest.mark.parametrize(("theirs", "ours", "name"), list(methods()))
def test_a_method_has_the_same_parameters_and_tells_what_it_returns(theirs: type, ours: type, name: str) -> None:
    method, twin = getattr(theirs, name), getattr(ours, SPECIAL.get(name, name))
    assert not inspect.iscoroutinefunction(twin)
    assert not inspect.isasyncgenfunction(twin)
    expected, found = inspect.signature(method), inspect.signature(twin)
    if (ours, name) not in OWN_PARAMETERS:
        assert list(found.parameters.values()) == list(expected.parameters.values())
        assert found.return_annotation == awaited(expected.return_annotation)
    if not name.startswith("_"):
        assert inspect.getdoc(twin), "it says what it does"


def awaited(told: str) -> str:
    """What is told of a result, once it was awaited."""
    told = re.sub(r"^Future\[(.*)\]$", r"\1", told)
    return re.sub(r"^Async(Iterator|Generator)", r"\1", told)


def test_both_are_connected_with_the_same_options() -> None:
    expected = list(inspect.signature(naught.connect).parameters.values())
    assert list(inspect.signature(blocking.Client).parameters.values()) == expected


def test_a_signature_says_what_is_returned_and_not_what_would_be_awaited() -> None:
    assert str(inspect.signature(blocking.Client.incr)).endswith("-> 'int'")
    assert inspect.signature(blocking.Client.incr).return_annotation == "int"
    assert inspect.signature(blocking.Client.scan_iter).return_annotation == "Iterator[tuple[KeyT, int]]"


def test_all_that_is_exported_has_a_twin() -> None:
    assert {ours.__name__ for _, ours in TWINS} == set(blocking.__all__)
