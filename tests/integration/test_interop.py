"""A third-party MessagePack-RPC client, aio-msgpack-rpc, against a server process.

It implements the MessagePack-RPC specification and has no code for naught: it sends no `hello`, its message ids count
up from 0, and its keys are strings.
"""

from __future__ import annotations

import asyncio
import os
from collections.abc import AsyncIterator, Iterator
from typing import Any

import pytest

from support.server_process import ServerProcess, server_process

try:
    import aio_msgpack_rpc
    from aio_msgpack_rpc.error import RPCResponseError
except ImportError:
    if os.environ.get("CI") == "true":
        raise
    pytest.skip("aio-msgpack-rpc is not installed", allow_module_level=True)


@pytest.fixture(scope="module")
def server(tmp_path_factory: pytest.TempPathFactory) -> Iterator[ServerProcess]:
    with server_process(tmp_path_factory.mktemp("server")) as found:
        yield found


@pytest.fixture
async def client(server: ServerProcess) -> AsyncIterator[Any]:
    server.call("clear")
    reader, writer = await asyncio.open_connection("127.0.0.1", server.port)
    third_party = aio_msgpack_rpc.Client(reader, writer, response_timeout=30)
    yield third_party
    third_party.close()
    await writer.wait_closed()


async def test_counting(client: Any) -> None:
    assert await client.call("incr", "a") == 1
    assert await client.call("incr", "a", 5) == 6
    assert await client.call("decr", "a", 2) == 4
    assert await client.call("decr", "a", 9) == 0
    assert await client.call("get", "a") == 0
    assert await client.call("count") == 0


async def test_text_and_binaries_are_the_same_key(client: Any) -> None:
    assert await client.call("incr", "grün") == 1
    assert await client.call("incr", "grün".encode()) == 2
    assert await client.call("scan", 0, 10, "gr") == [0, ["grün".encode()], [2]]
    assert await client.call("take", ["grün"]) == [2]


async def test_many_at_once(client: Any) -> None:
    keys = [f"k{number}" for number in range(100)]
    assert await client.call("apply", keys, 3) == [3] * 100
    assert await client.call("apply", ["k0", "k1", "k0", ""], [-3, 1, 1, 1]) == [
        0,
        4,
        1,
        ["invalid", "a key is 1 to 512 bytes"],
    ]
    assert await client.call("get_many", ["k0", "k1", "no"]) == [1, 4, 0]
    assert await client.call("top", 2) == [[b"k1", b"k10"], [4, 3]]
    assert await client.call("try_incr", [["k1", 2, 5], ["k2", 1, 9]]) == [False, [4, 3]]
    assert await client.call("clear") == 100


async def test_times_to_live(client: Any) -> None:
    assert await client.call("incr", "t", 1, 3_600_000) == 1
    assert 0 < await client.call("ttl", "t") <= 3_600_000
    assert await client.call("expire", "t", None) is True
    assert await client.call("ttl", "t") == -1
    assert await client.call("set", "t", 0) == 1
    assert await client.call("ttl", "t") is None


async def test_errors_are_answers(client: Any) -> None:
    for method, params, code in [
        ("no_such_method", (), "unknown_method"),
        ("incr", ("",), "invalid"),
        ("incr", ("k", True), "invalid"),
        ("incr", ("k", 1.0), "invalid"),
        ("incr", ("k" * 513,), "too_large"),
        ("decr", ("k", 1, True), "underflow"),
        ("hello", ({"cache": "none such"},), "invalid"),
    ]:
        with pytest.raises(RPCResponseError) as raised:
            await client.call(method, *params)
        assert raised.value.args[0][0] == code, (method, raised.value)
    assert await client.call("ping") == "pong"


async def test_calls_at_once_each_get_their_own_answer(client: Any) -> None:
    keys = [f"own{number % 50}" for number in range(500)]
    answers = await asyncio.gather(*(client.call("incr", key) for key in keys))
    assert answers == [number // 50 + 1 for number in range(500)]


async def test_notifications_run_and_unknown_ones_are_ignored(client: Any) -> None:
    await client.notify("incr", "n", 7)
    await client.notify("no_such_method", 1, 2)
    assert await client.call("get", "n") == 7


async def test_administration(client: Any) -> None:
    info = await client.call("info")
    assert info["server"] == "naught"
    assert info["connections"] == 1
    assert info["caches"]["default"]["counters"] == 0
    assert await client.call("config_get", "sweep_budget_ms") == 1.0
    assert await client.call("sweep") >= 0
