"""A run of the load-test harness whose only worker is in this process: no process is started."""

from __future__ import annotations

import asyncio
import time
from typing import Any

from naught_loadtest.drivers import driver_for
from naught_loadtest.drivers.base import BatchDriver
from naught_loadtest.drivers.probe import open_probe
from naught_loadtest.generate.plan import Plan
from naught_loadtest.generate.worker import Worker
from naught_loadtest.measure.expectation import expected, key_ranges
from naught_loadtest.measure.result import Result
from naught_loadtest.measure.verification import Verification, verify

# From the call to the first request.
DELAY_NS = 5_000_000


async def run_in_process(plan: Plan) -> Result:
    """What `Run.execute` does, with the worker in this process. The server must be in another thread."""
    result = Result(plan)
    loop = asyncio.get_running_loop()
    said: dict[str, dict[str, Any]] = {}

    def say(event: str, **fields: Any) -> None:
        said[event] = fields

    probe, inspector = open_probe(plan.parsed_target)
    with probe:

        def compare(summed: bool) -> Verification:
            flattened = not isinstance(driver_for(plan.parsed_target.kind, plan.scenario), BatchDriver)
            bounds = expected(plan.workload, result.accounts, flattened)
            levels = result.levels if summed and result.levels_known else None
            return verify(inspector, key_ranges(plan.workload, result.accounts), plan.prefix, bounds, levels)

        worker = Worker(plan, 0, loop)
        worker.encode(say)
        transports = await worker.connect()
        await worker.run(transports, time.monotonic_ns() + DELAY_NS, loop.create_future(), say)
        result.add(said["result"])
        if plan.workload.up_and_down:
            result.verification_before = compare(summed=True)
        await worker.close(say)
        result.add_closing(said["closed"])
        result.verification = compare(summed=not plan.workload.up_and_down)
    return result
