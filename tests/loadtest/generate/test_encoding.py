"""What is encoded before a run: bounded by items and bytes, and shared between connections."""

from __future__ import annotations

import asyncio
from typing import Any

import pytest

from naught_loadtest.drivers import driver_for
from naught_loadtest.generate.encoding import encode
from naught_loadtest.generate.plan import ENCODED_BYTES_MAX, Plan
from naught_loadtest.generate.worker import CYCLE_BYTES_ALL, CYCLE_REQUESTS_ALL, Worker
from naught_loadtest.generate.workload import SCENARIOS, SHARED_SCRIPTS, Script, Workload
from support.seeds import exhaustive, slow

SHARING = ("inflight", "hotkey", "incr")
"""Scenarios in which connections share keys, beside `zipf`."""


def encoded(**changes: Any) -> Worker:
    plan = Plan.from_json({"target": "naught://h", "prefix": "a1b2c3d:", **changes})
    loop = asyncio.new_event_loop()
    try:
        worker = Worker(plan, 0, loop)
        worker.encode(lambda event, **fields: None)
    finally:
        loop.close()
    return worker


@pytest.mark.parametrize(
    "changes",
    [
        {"batch": 1000, "connections": 50},
        pytest.param({"batch": 4096, "connections": 8, "scenario": "zipf"}, marks=pytest.mark.slow),
        pytest.param({"connections": 1000}, marks=pytest.mark.slow),
        {"connections": 2000, "scenario": "hotkey"},
        *exhaustive({"connections": 5000, "scenario": "mixed"}),
        pytest.param({"connections": 5000, "scenario": "zipf", "batch": 100}, marks=pytest.mark.slow),
    ],
    ids=str,
)
def test_what_a_process_encodes_is_bounded(changes: dict[str, Any]) -> None:
    """Before, 50 connections with batches of 1 000 encoded fifty million items, which took minutes."""
    worker = encoded(**changes)
    scripts = {id(lane.connection.script): lane.connection.script for lane in worker._lanes}
    requests = sum(script.length for script in scripts.values())
    size = sum(len(request) for script in scripts.values() for request in script.requests)
    # Each script is there at least once, however many connections there are.
    once = sum(script.script_length for script in scripts.values())
    assert requests <= CYCLE_REQUESTS_ALL + 2 * once
    assert size <= CYCLE_BYTES_ALL + sum(
        len(script.requests[0]) * script.script_length * 2 for script in scripts.values()
    )
    assert len(worker._lanes) == changes["connections"]


@pytest.mark.parametrize("scenario", ["zipf", *slow(*(name for name in SCENARIOS if name in SHARING))])
def test_connections_that_share_keys_share_scripts(scenario: str) -> None:
    worker = encoded(scenario=scenario, connections=40)
    assert len({id(lane.connection.script) for lane in worker._lanes}) == SHARED_SCRIPTS


def test_the_ids_of_one_pipeline_differ_however_large_its_requests_are() -> None:
    driver = driver_for("naught")
    script = Workload("churn", keys=1000, connections=1, batch=1000, seed=1).script(0)
    made = encode(driver, script, "a1b2c3d:", 1024, bytes_max=1, pipeline=50)
    assert 50 <= made.length < 60
    assert len({request[:7] for request in made.requests}) == made.length


@pytest.mark.parametrize("repeats", [1, 3])
def test_a_repeated_script_is_encoded_as_if_it_were_written_out(repeats: int) -> None:
    driver = driver_for("naught")
    script = Workload("mixed", keys=20, connections=2, batch=3, seed=1).script(0)
    requests = len(script.sizes)
    made = encode(driver, script, "p:", requests * repeats)
    assert script.values is not None
    written = Script(script.keys * repeats, script.deltas * repeats, script.values * repeats, script.sizes * repeats)
    whole = encode(driver, written, "p:", 1)
    assert made.requests == whole.requests
    assert made.replies == whole.replies
    assert made.ids_of(requests - 3, 7) == whole.ids_of(requests - 3, 7)


def test_more_than_fits_into_memory_is_refused_before_anything_is_encoded() -> None:
    with pytest.raises(ValueError, match=rf"need 76\.\d GiB.*; {ENCODED_BYTES_MAX >> 30} are allowed"):
        Plan("naught://h", "p:", pipeline=10_000, batch=4096, connections=100)
