"""Networks that fail without a word: half-open connections, cut one way, packets lost, doubled, delayed and
reordered.

Client and server are on two machines (`support/network.py`), between which a relay passes packets on, or not.
"""

from __future__ import annotations

import asyncio
import os
from collections.abc import Callable, Coroutine, Iterator
from pathlib import Path
from typing import Any

import pytest

import naught
from support.network import Network, network, why_not
from support.seeds import exhaustive
from support.server_process import SERVER, ServerProcess

GUARD_S = 60.0
BOTH = ("to the server", "to the client")
REASON = why_not()

pytestmark = [
    pytest.mark.slow,
    # In CI a test that cannot run fails: .ci/run installs what it needs.
    pytest.mark.skipif(REASON is not None and "CI" not in os.environ, reason=REASON or ""),
]


@pytest.fixture
def net() -> Iterator[Network]:
    with network() as found:
        yield found


@pytest.fixture
def server(net: Network, tmp_path: Path) -> Iterator[ServerProcess]:
    found = ServerProcess(tmp_path, "--host", net.address, "--insecure", command=[*net.prefix, *SERVER])
    try:
        yield found
        found.stop()
    finally:
        found.kill()


def run(scenario: Callable[[], Coroutine[Any, Any, None]]) -> None:
    async def guarded() -> None:
        async with asyncio.timeout(GUARD_S):
            await scenario()

    asyncio.run(guarded())


def test_a_half_open_connection_is_found_and_its_holds_come_back_once(net: Network, server: ServerProcess) -> None:
    url = f"naught://{net.address}:{server.port}"

    def next_in_the_queue() -> int:
        """Another client, which the server can reach, waits for the permit. Returns the number of its hold."""

        async def wait() -> int:
            async with naught.connect(url, timeout=GUARD_S) as client:
                permit = await client.semaphore("s", limit=1).acquire()
                assert await client.get("s") == 1
                number = permit.number
                await permit.release()
                return number

        return asyncio.run(wait())

    async def scenario() -> None:
        async with naught.connect(url, lease=0.5, timeout=GUARD_S) as client:
            permit = await client.semaphore("s", limit=1).acquire()
            await client.incr("a")
            net.cut(*BOTH)
            assert await asyncio.to_thread(net.run_there, next_in_the_queue) > permit.number
            net.mend()
            assert await client.get("s") == 0, "it came back once"
            assert permit.lost
            with pytest.raises(naught.NotHeld):
                await permit.release()
            assert await client.get("a") == 1
            info = await client.info()
            assert info["connections_cut"]["gone"] + info["sessions"]["ended"]["lease"] >= 1

    net.run_here(lambda: run(scenario))


@pytest.mark.parametrize("way", BOTH)
def test_over_a_network_cut_one_way_and_mended_nothing_is_lost_or_doubled(
    net: Network, server: ServerProcess, way: str
) -> None:
    async def scenario() -> None:
        url = f"naught://{net.address}:{server.port}"
        async with naught.connect(url, lease=GUARD_S, timeout=GUARD_S) as client:
            permit = await client.semaphore("s", limit=1).acquire()
            before = net.counts["cut"]
            net.cut(way)
            calls = [asyncio.ensure_future(client.incr("a")) for _ in range(50)]
            while net.counts["cut"] < before + 3:  # noqa: ASYNC110 - so many packets were lost
                await asyncio.sleep(0.01)
            net.mend()
            assert sorted(await asyncio.gather(*calls)) == list(range(1, 51))
            assert not permit.lost
            await permit.release()
            assert await client.get_many(["a", "s"]) == [50, 0]

    net.run_here(lambda: run(scenario))


@pytest.mark.parametrize("seed", [1, *exhaustive(2)])
def test_over_packets_lost_doubled_delayed_and_reordered_nothing_is_doubled_and_holds_come_back_once(
    net: Network, server: ServerProcess, seed: int
) -> None:
    async def scenario() -> None:
        url = f"naught://{net.address}:{server.port}"
        async with naught.connect(url, timeout=GUARD_S) as one, naught.connect(url, timeout=GUARD_S) as two:
            net.disturb(seed)

            async def work(client: naught.Client, number: int) -> None:
                for turn in range(1, 11):
                    assert await client.incr(f"own:{number}") == turn
                    async with client.semaphore("s", limit=2):
                        await client.incr("all")

            await asyncio.gather(*(work(client, number) for number, client in enumerate([one, two] * 5)))
            counts = dict(net.counts)
            net.mend()
            assert min(counts[what] for what in ("lost", "doubled", "delayed")) > 0, counts
            assert await one.get_many(["all", "s"]) == [100, 0]
            assert await one.count("own:") == 10

    net.run_here(lambda: run(scenario))
