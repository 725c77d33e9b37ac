"""A client is not copied. Clients and patterns are pickled as what they are, and connect anew."""

from __future__ import annotations

import copy
import pickle
from typing import Any

import pytest

import naught
from naught.core.hooks import ObservedCall

URL = "memory://test_copies"


def hook(call: ObservedCall) -> None:
    """A function of a module is pickled by its name."""


async def test_a_copy_is_refused_and_the_original_goes_on() -> None:
    async with naught.connect(URL) as client:
        for copied in (copy.copy, copy.deepcopy):
            with pytest.raises(TypeError, match="a client is not copied"):
                copied(client)
        with pytest.raises(TypeError, match="a client is not copied"):
            copy.deepcopy(client.semaphore("gpu", limit=1))
        async with client.semaphore("gpu", limit=1) as permit:
            for copied in (copy.copy, copy.deepcopy, pickle.dumps):
                with pytest.raises(TypeError, match="a permit belongs to one client"):
                    copied(permit)
            assert await copy.copy(client.semaphore("gpu", limit=1)).value() == 1, "a pattern has no state"
        assert await client.get("gpu") == 0


@pytest.mark.parametrize("lazy", [False, True])
async def test_a_client_is_its_url_and_its_options(lazy: bool) -> None:
    options: dict[str, Any] = {"timeout": 3.0, "lease": 7.0, "name": "web-3", "on_call_start": hook}
    client = naught.connect(URL, lazy=True, **options) if lazy else await naught.connect(URL, **options)
    again = pickle.loads(pickle.dumps(client))
    assert type(again) is naught.Client
    assert again is not client
    assert again._options == client._options._replace(lazy=True)
    assert await again.incr("n") == 1
    assert await client.decr("n") == 0
    mine, other = sorted(each["session"] for each in await client.sessions() if each["name"] == "web-3")
    assert mine != other, "it has a session of its own"
    for each in (client, again):
        await each.close()


@pytest.mark.parametrize("decode_keys", [False, True])
async def test_keys_come_back_as_from_the_original(decode_keys: bool) -> None:
    client: Any = naught.connect(URL, decode_keys=decode_keys, lazy=True)
    async with pickle.loads(pickle.dumps(client)) as again:
        await again.incr("n")
        assert await again.top(1) == [("n" if decode_keys else b"n", 1)]
        await again.clear()


async def test_patterns_are_pickled_with_their_client() -> None:
    counters = naught.connect(URL, lazy=True)
    semaphore = counters.semaphore("gpu", limit=2, timeout=0.5, unreachable="open")
    patterns: list[Any] = [
        semaphore,
        counters.wait_group("g", held=True),
        counters.reference("r"),
        counters.in_flight("f", timeout=3),
        counters.quota("q", limit=2, per=60, unreachable="open"),
    ]
    again = pickle.loads(pickle.dumps(patterns))
    assert [repr(each) for each in again] == [repr(each) for each in patterns]
    assert len({id(each._client) for each in again}) == 1, "they share one client, as before"
    assert (again[0].limit, again[0]._timeout, again[0]._unreachable) == (2, 0.5, "open")
    assert (again[1]._held, again[3]._timeout, again[4]._unreachable, again[4]._per_ms) == (True, 3.0, "open", 60_000)
    async with again[0]:
        assert await semaphore.value() == 1
    for client in (counters, again[0]._client):
        await client.close()


@pytest.mark.parametrize("connect", [naught.connect, naught.blocking.Client])
def test_an_engine_of_its_own_is_not_pickled(connect: Any) -> None:
    with pytest.raises(TypeError, match="memory://NAME is shared"):
        pickle.dumps(connect("memory://", lazy=True))
