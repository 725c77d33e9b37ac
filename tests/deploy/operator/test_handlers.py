"""What kopf is given: its handlers, called as kopf calls them."""

from __future__ import annotations

import asyncio
from typing import Any

import kopf
import pytest

from naught_operator import handlers


class Looked:
    """Counts looks."""

    def __init__(self) -> None:
        self.count = 0

    async def look(self, body: Any, namespace: str, name: str) -> None:
        self.count += 1


async def test_a_timer_that_runs_on_when_the_operator_has_ended_ends() -> None:
    """kopf starts it again for a change that it still handles as it ends, and would wait five seconds for it."""
    registry = kopf.OperatorRegistry()
    looks: Any = Looked()

    async def nothing(*_: Any) -> None:
        pass

    handlers.register(
        registry,
        looks=looks,
        lost_with=nothing,
        login=lambda: kopf.ConnectionInfo(server="http://127.0.0.1"),
        start=nothing,
        stop=nothing,
        interval_s=1.0,
    )
    timer: Any
    (timer,) = registry._spawning.get_all_handlers()
    ended: Any = next(each for each in registry._activities.get_all_handlers() if "ended" in each.id)
    resource: Any = {"body": {}, "namespace": "counters", "name": "orders"}
    await timer.fn(**resource)
    assert looks.count == 1
    await ended.fn()
    with pytest.raises(asyncio.CancelledError):
        await timer.fn(**resource)
    assert looks.count == 1
