"""Arguments that are nearly right: each is an InvalidRequest that names it, and nothing is done."""

from __future__ import annotations

from collections.abc import Callable, Iterator
from typing import Any

import pytest

import naught
from naught import blocking


@pytest.fixture
def counters() -> Iterator[blocking.Client]:
    with blocking.Client("memory://") as client:
        yield client
        assert client.count() == 0, "nothing was done"


WRONG: dict[str, tuple[Callable[[Any], Any], str]] = {
    "a timeout too large for a float": (lambda client: client.incr("n", timeout=10**400), "timeout is"),
    "a wait too large for a float": (lambda client: client.acquire([("n", 1, 1)], wait=10**400), "wait is"),
    "a semaphore's": (lambda client: client.semaphore("n", 1, timeout=10**400), "timeout is"),
    "names without limits": (lambda client: client.acquire_all(["m", "n"]), "limits is a mapping"),
    "one name": (lambda client: client.acquire_all("n"), "limits is a mapping"),
    "pairs": (lambda client: client.acquire_all([("m", 1)]), "limits is a mapping"),
}


@pytest.mark.parametrize("name", WRONG)
def test_what_is_nearly_right_is_refused(counters: blocking.Client, name: str) -> None:
    call, named = WRONG[name]
    with pytest.raises(naught.InvalidRequest, match=named):
        call(counters)


@pytest.mark.parametrize("timeout", [-1, "1", float("nan"), 10**400], ids=["-1", "text", "nan", "huge"])
def test_waiting_for_a_loss_takes_a_timeout(counters: blocking.Client, timeout: Any) -> None:
    with counters.semaphore("n", 1) as permit, pytest.raises(naught.InvalidRequest, match="timeout is"):
        permit.lost.wait(timeout)
