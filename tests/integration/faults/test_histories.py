"""What concurrent clients are answered while connections are cut and the server is killed is that of single counters.

Every answer is recorded, and a judge looks for an order that explains all of them (`support/linearizability.py`).
"""

from __future__ import annotations

import asyncio
import contextlib
import random
import time
from pathlib import Path

import pytest

import naught
from support.histories import History
from support.linearizability import UNKNOWN
from support.proxy import Proxy
from support.seeds import seeds
from support.server_process import ServerProcess

GUARD_S = 60.0
KEYS = [f"shared:{number}" for number in range(4)]
CALLERS = 6
CALLS = 60

pytestmark = pytest.mark.slow


@pytest.mark.parametrize("killed", [False, True], ids=["cut", "cut and killed"])
@pytest.mark.parametrize("seed", seeds([1, 2]))
def test_recorded_answers_are_those_of_single_counters_over_cuts_and_killed_servers(
    tmp_path: Path, own_port: int, seed: int, killed: bool
) -> None:
    print(f"NAUGHT_TEST_SEED={seed}")
    history = History()
    servers = [ServerProcess(tmp_path, "--port", str(own_port))]

    async def work(client: naught.Client, who: str) -> None:
        draw = random.Random(f"{seed} {who}")
        for _ in range(CALLS):
            await history.call(client, draw, draw.choice(KEYS), who)
            if draw.random() < 0.2:
                await asyncio.sleep(draw.random() / 100)

    async def kill() -> None:
        loop = asyncio.get_running_loop()
        for _ in range(2):
            await asyncio.sleep(0.05)  # of load
            called = time.monotonic()
            servers[-1].kill()
            history.crash(KEYS, called)
            (tmp_path / "ports.json").unlink()
            start = lambda: ServerProcess(tmp_path, "--port", str(own_port))  # noqa: E731
            servers.append(await loop.run_in_executor(None, start))

    async def scenario() -> None:
        async with asyncio.timeout(GUARD_S), contextlib.AsyncExitStack() as stack:
            proxy = await stack.enter_async_context(Proxy(own_port, seed, bytes_max=2_000))
            clients = [
                await stack.enter_async_context(
                    naught.connect(proxy.url, timeout=GUARD_S, random=random.Random(seed * 10 + number))
                )
                for number in range(3)
            ]
            for client in clients:
                client._connection._backoff.BOUND_MAX = 0.005  # type: ignore[misc]
            work_ = [work(client, f"{number}/{at}") for number, client in enumerate(clients) for at in range(CALLERS)]
            await asyncio.gather(*work_, *([kill()] if killed else []))
            assert proxy.cuts > 5
            proxy.calm()

    try:
        asyncio.run(scenario())
        servers[-1].stop()
    finally:
        for server in servers:
            server.kill()
    assert history.explain() == {}
    answered = [each for each in history.operations if each.answer is not UNKNOWN and each.method != "crash"]
    assert len(answered) > CALLS * CALLERS * 2
    # The judge would have found a fault: one answer is made wrong.
    place = next(
        at for at, each in enumerate(history.operations) if each.method == "get" and each.answer is not UNKNOWN
    )
    spoiled = history.operations[place]
    history.operations[place] = type(spoiled)(
        spoiled.key, "get", None, spoiled.called, spoiled.answered, 10_000, spoiled.who
    )
    assert spoiled.key in history.explain()
