"""A program for tests: a client of either kind that uses every pattern and then waits to be killed. Run with

    python -m support.patterns_holder KIND URL LEASE

It prints a line when it has everything: two permits of `s`; one permit of `a` and `b` together; four unfinished
pieces of work in the group `g`, of five added; three operations in flight in `f`. Not held are two references to `r`
and one use of the quota `q`.
"""

from __future__ import annotations

import asyncio
import sys

from support.two_clients import connect


async def main(kind: str, url: str, lease: float) -> None:
    async with connect(kind, url, lease=lease) as counters:
        semaphore, in_flight = counters.semaphore("s", limit=2), counters.in_flight("f")
        group, blob = counters.wait_group("g", held=True), counters.reference("r")
        await semaphore.acquire()
        several = await counters.acquire_all({"a": 1, "b": 2})
        for n in (2, 3):
            await group.add(n)
        await group.done()
        for _ in range(2):
            await blob.retain()
        await counters.quota("q", limit=1, per=60).use()
        async with semaphore, in_flight, in_flight, in_flight:
            print("holding", several.number, flush=True)
            sys.stdin.read()


if __name__ == "__main__":
    asyncio.run(main(sys.argv[1], sys.argv[2], float(sys.argv[3])))
