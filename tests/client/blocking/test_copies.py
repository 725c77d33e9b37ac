"""Clients for threads and their patterns: pickled as what they are, and not copied."""

from __future__ import annotations

import copy
import pickle
from collections.abc import Callable, Iterator
from random import Random
from typing import Any

import pytest

from naught import blocking

URL = "memory://test_copies"


@pytest.fixture
def counters() -> Iterator[blocking.Client]:
    with blocking.Client(URL) as client:
        yield client


@pytest.mark.parametrize("copied", [copy.copy, copy.deepcopy])
def test_a_client_is_not_copied(counters: blocking.Client, copied: Callable[[Any], Any]) -> None:
    with pytest.raises(TypeError, match="a client is not copied: share it"):
        copied(counters)
    assert counters.incr("a") == 1, "it is open still"
    counters.decr("a")


@pytest.mark.parametrize("hide", [copy.copy, copy.deepcopy, pickle.dumps])
def test_a_permit_is_neither_copied_nor_pickled(counters: blocking.Client, hide: Callable[[Any], Any]) -> None:
    with counters.semaphore("n", 1) as permit, pytest.raises(TypeError, match="a permit is neither"):
        hide(permit)
    assert counters.get("n") == 0


def test_a_pickled_client_connects_anew_with_its_options(counters: blocking.Client) -> None:
    options = {"timeout": 2.5, "lease": 5.0, "name": "one", "decode_keys": False, "random": Random(7)}
    with (
        blocking.Client(URL, **options) as client,  # type: ignore[call-overload]
        client.semaphore("n", 3),
        pickle.loads(pickle.dumps(client)) as other,
    ):
        assert other.held() == {}, "it has a session of its own"
        assert (other._inner._timeout, other._address) == (2.5, client._address)
        with other.semaphore("n", 3):
            assert other.top(1) == [(b"n", 2)]
            assert [each.name for each in counters.holders("n")] == ["one", "one"]


MADE: dict[str, Callable[[blocking.Client], Any]] = {
    "semaphore": lambda client: client.semaphore("n", limit=4),
    "wait group": lambda client: client.wait_group("n", held=True),
    "reference": lambda client: client.reference(b"n"),
    "in flight": lambda client: client.in_flight("n"),
    "quota": lambda client: client.quota("n", 5, per=1.5),
}


@pytest.mark.parametrize("name", MADE)
def test_a_pattern_is_pickled_as_its_client_and_its_arguments(counters: blocking.Client, name: str) -> None:
    pattern = MADE[name](counters)
    other = pickle.loads(pickle.dumps(pattern))
    assert (type(other), other.name, repr(other)) == (type(pattern), pattern.name, repr(pattern))
    client = other._made_by[1][0]
    assert client is not counters
    client.close()
    shared = copy.copy(pattern)
    assert shared._made_by[1][0] is counters, "a copy of a pattern has the same client"


def test_patterns_that_are_pickled_together_share_a_client(counters: blocking.Client) -> None:
    gpu, uploads, client = pickle.loads(
        pickle.dumps((counters.semaphore("gpu", 1), counters.in_flight("uploads"), counters))
    )
    with client, gpu, uploads:
        assert gpu._made_by[1][0] is client is uploads._made_by[1][0]
        assert counters.get_many(["gpu", "uploads"]) == [1, 1]


def test_an_unpickled_wait_group_holds_nothing_of_the_other(counters: blocking.Client) -> None:
    group = counters.wait_group("n", held=True)
    group.add(2)
    other = pickle.loads(pickle.dumps(group))
    other.add(1)
    assert (group.done(2), other.done(1)) == (1, 0)
    other._made_by[1][0].close()
