"""Tests with pytest that need no server: `memory://` is the server's engine in the process of the test.

    pytest examples/test_seats.py

Each test gets counters of its own, which are gone after it.
"""

from __future__ import annotations

import asyncio
from collections.abc import AsyncIterator

import pytest
import pytest_asyncio

import naught

pytestmark = pytest.mark.asyncio


async def book(counters: naught.Client, flight: str, seats: int) -> bool:
    """What is tested: seats of a flight are booked all or not at all, and never more than 180."""
    granted, _ = await counters.try_incr([(f"seats:{flight}", seats, 180)])
    return granted


@pytest_asyncio.fixture
async def counters() -> AsyncIterator[naught.Client]:
    """A client with an engine of its own."""
    async with naught.connect("memory://") as client:
        yield client


async def test_the_last_seats_are_booked_once(counters: naught.Client) -> None:
    assert await book(counters, "LH1", 178)
    assert not await book(counters, "LH1", 3)
    assert await book(counters, "LH1", 2)
    assert await counters.get("seats:LH1") == 180


async def test_many_at_once(counters: naught.Client) -> None:
    granted = await asyncio.gather(*(book(counters, "LH1", 1) for _ in range(200)))
    assert granted.count(True) == 180


async def test_nothing_is_left_of_a_flight_without_passengers(counters: naught.Client) -> None:
    await book(counters, "LH1", 2)
    assert await counters.decr("seats:LH1", 2) == 0
    assert await counters.count() == 0
