"""The scenarios with calls of their own: what is sent, and that each lie in a reply is found."""

from __future__ import annotations

from typing import Any

import msgpack  # type: ignore[import-untyped]
import pytest

from naught_loadtest.drivers import driver_for
from naught_loadtest.drivers.base import ProtocolFaultError
from naught_loadtest.drivers.naught import message_id
from naught_loadtest.drivers.naught_calls import QUOTA_LIMIT, REFUSED, TIME_TO_LIVE_MS
from naught_loadtest.generate.plan import Plan
from naught_loadtest.generate.semaphore import Holders, Permit
from naught_loadtest.generate.workload import Workload

LIMIT = 2


def permit() -> Permit:
    return Permit(Workload("semaphore", 1, 4, 1, 7).script(0), "a1b2c3d:", LIMIT, 500, Holders())


def asked(request: bytes) -> Any:
    return msgpack.unpackb(request)


def test_a_permit_is_taken_and_given_back() -> None:
    one = permit()
    assert asked(one.request()) == [0, message_id(0), "acquire", [[["a1b2c3d:00000000", 1, LIMIT]], 500]]
    assert one.take([1, message_id(0), None, [True, [1], 41]]) == ""
    assert one.holding
    assert asked(one.request()) == [0, message_id(1), "release", [41]]
    assert one.take([1, message_id(1), None, [0]]) == ""
    assert not one.holding
    assert one.take([1, message_id(2), None, [True, [2], 43]]) == ""


GRANTED = {
    "right": ([True, [LIMIT], 42], ""),
    "refused": ([False, [LIMIT], None], "not_granted"),
    "more than there are": ([True, [LIMIT + 1], 42], "wrong_value"),
    "nobody has one": ([True, [0], 42], "wrong_value"),
    "an old hold": ([True, [1], 41], "wrong_value"),
    "no hold": ([True, [1], None], "wrong_value"),
    "two values": ([True, [1, 1], 42], "wrong_value"),
    "a number": (7, "wrong_value"),
    "nothing": (None, "wrong_value"),
}


@pytest.mark.parametrize("name", GRANTED)
def test_a_grant_is_checked(name: str) -> None:
    one = permit()
    assert one.take([1, message_id(0), None, [True, [1], 41]]) == ""
    assert one.take([1, message_id(1), None, [0]]) == ""
    reply, kind = GRANTED[name]
    assert one.take([1, message_id(2), None, reply]) == kind


@pytest.mark.parametrize(
    ("reply", "kind"), [([0], ""), *((reply, "wrong_value") for reply in ([LIMIT], [-1], 0, [0, 0], [None]))]
)
def test_what_is_left_is_checked(reply: Any, kind: str) -> None:
    one = permit()
    assert one.take([1, message_id(0), None, [True, [1], 41]]) == ""
    assert one.take([1, message_id(1), None, reply]) == kind


def test_ids_and_errors_are_checked() -> None:
    assert permit().take([1, message_id(1), None, [True, [1], 41]]) == "wrong_id"
    assert permit().take([1, message_id(0), [b"busy", b"too much"], None]) == "busy"
    assert permit().take([1, message_id(0), "?", None]) == "error"
    for message in ([2, b"x", []], 7, None, [1, 2, 3]):
        with pytest.raises(ProtocolFaultError):
            permit().take(message)


def test_more_holders_than_permits_are_found() -> None:
    holders = Holders()
    workload = Workload("semaphore", 1, 4, 1, 7)
    first, second, third = (Permit(workload.script(0), "a1b2c3d:", LIMIT, 500, holders) for _ in range(3))
    assert first.take([1, message_id(0), None, [True, [1], 1]]) == ""
    assert second.take([1, message_id(0), None, [True, [2], 2]]) == ""
    assert third.take([1, message_id(0), None, [True, [1], 3]]) == "too_many_holders"
    assert asked(first.request())[2] == "release"
    second.drop()
    assert holders.any
    third.drop()
    assert not holders.any
    assert (
        Permit(workload.script(0), "a1b2c3d:", LIMIT, 500, holders).take([1, message_id(0), None, [True, [2], 4]])
        == ""
    )


def test_half_of_the_connections_wait() -> None:
    assert Workload("semaphore", 5, 50, 1, 1).permits == 5
    assert Workload("semaphore", 5, 1, 1, 1).permits == 1


@pytest.mark.parametrize("kind", ["naught", "naught-session"])
def test_a_quota_is_granted_up_to_its_limit_and_then_refused(kind: str) -> None:
    driver = driver_for(kind, "quota")
    assert asked(driver.single(0, "k", 1)) == [0, message_id(0), "try_incr", [[["k", 1, QUOTA_LIMIT]]]]
    assert driver.single(0, "k", 0) == driver.single(0, "k", 1)
    assert asked(driver.single(0, "k", -1)) == [0, message_id(0), "decr", ["k"]]
    granted = driver.single_reply(0, 1, 2)
    refused = driver.single_reply(0, 0, REFUSED + QUOTA_LIMIT)
    assert granted == msgpack.packb([1, message_id(0), None, [True, [2]]])
    assert refused == msgpack.packb([1, message_id(0), None, [False, [QUOTA_LIMIT]]])
    # A grant where there should be a refusal is another number.
    lie = msgpack.packb([1, message_id(0), None, [True, [QUOTA_LIMIT]]])
    assert driver.parse(granted + refused + lie)[0] == [2, REFUSED + QUOTA_LIMIT, QUOTA_LIMIT]


def test_a_counter_is_created_with_a_time_to_live() -> None:
    driver = driver_for("naught", "ttl")
    assert asked(driver.single(3, "k", 1)) == [0, message_id(3), "incr", ["k", 1, TIME_TO_LIVE_MS]]
    assert asked(driver.single(3, "k", -1)) == [0, message_id(3), "decr", ["k"]]
    assert driver.single_reply(3, 1, 2) == driver_for("naught").single_reply(3, 1, 2)


@pytest.mark.parametrize(
    "changes",
    [
        {"scenario": "ttl", "target": "redis://h"},
        {"scenario": "quota", "target": "memcached://h"},
        {"scenario": "semaphore", "target": "redis-lua://h"},
        {"scenario": "quota", "batch": 2},
        {"scenario": "ttl", "batch": 2},
        {"scenario": "semaphore", "rate": 5.0},
        {"scenario": "semaphore", "pipeline": 2},
    ],
)
def test_what_a_scenario_cannot_do_is_refused(changes: dict[str, Any]) -> None:
    with pytest.raises(ValueError, match="scenario"):
        Plan.from_json({"target": "naught://h", "prefix": "a1b2c3d:", **changes})
