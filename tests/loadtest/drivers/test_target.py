"""Target URLs, and plans made of them."""

from __future__ import annotations

import json

import pytest

from naught_loadtest.drivers.target import Target, parse_target
from naught_loadtest.generate.plan import Plan

TARGETS = [
    Target("naught://localhost", "naught", "localhost", 6480, None, None),
    Target("naught://10.0.0.1:7000/orders", "naught", "10.0.0.1", 7000, None, "orders"),
    Target("naught://[::1]:7000", "naught", "::1", 7000, None, None),
    Target("naught+unix:///run/n.sock", "naught", "", 0, "/run/n.sock", None),
    Target("naught+unix:///run/n.sock?cache=orders", "naught", "", 0, "/run/n.sock", "orders"),
    Target("redis://h", "redis", "h", 6379, None, None),
    Target("redis-lua://h:1", "redis-lua", "h", 1, None, None),
    Target("redis-function://h", "redis-function", "h", 6379, None, None),
    Target("valkey-delifeq://h", "valkey-delifeq", "h", 6379, None, None),
    Target("redis-delex://h", "redis-delex", "h", 6379, None, None),
    Target("naught-session://h/orders", "naught-session", "h", 6480, None, "orders"),
    Target("memcached://h", "memcached", "h", 11211, None, None),
    Target("echo://h:9", "echo", "h", 9, None, None),
]


@pytest.mark.parametrize("target", TARGETS, ids=lambda target: target.url)
def test_targets(target: Target) -> None:
    assert parse_target(target.url) == target


@pytest.mark.parametrize(
    "url",
    ["", "localhost:6480", "http://h", "naughts://h", "naught://", "naught://h:99999", "redis://h/1",
     "redis://user:word@h", "naught+unix://run/n.sock", "naught+unix:///n?x=1", "echo://h", "naught://h?cache=x"],
)  # fmt: skip
def test_what_is_no_target(url: str) -> None:
    with pytest.raises(ValueError, match=r".+"):
        parse_target(url)


@pytest.mark.parametrize(
    "url", ["naught://me:hunter2@h", "redis://:hunter2@h", "naughts://me:hunter2@h", "naught+unix://a:hunter2@/n"]
)
def test_no_error_repeats_a_secret(url: str) -> None:
    with pytest.raises(ValueError, match=r".+") as refused:
        parse_target(url)
    assert "hunter2" not in str(refused.value)


def test_a_plan_survives_json() -> None:
    plan = Plan("naught://h", "p:", scenario="zipf", rate=5.5, cores=[1, 2])
    assert Plan.from_json(json.loads(json.dumps(plan.to_json()))) == plan
    assert plan.workload.keys == 10_000
    assert "5" in str(plan)


def test_connections_are_shared_out_among_the_processes() -> None:
    plan = Plan("naught://h", "p:", connections=7, processes=3)
    shares = [list(plan.connections_of(process)) for process in range(3)]
    assert shares == [[0, 3, 6], [1, 4], [2, 5]]


def test_a_churn_of_applies_has_keys_enough() -> None:
    assert Plan("naught://h", "p:", batch=1000).workload.keys == 50_000


@pytest.mark.parametrize(
    "changes",
    [
        {"pipeline": 0},
        {"target": "naught-session://h", "pipeline": 513},
        {"batch": 5000},
        {"rate": 0.0},
        {"arrival": "late"},
        {"duration_s": 0.0},
        {"warmup_s": -1.0},
        {"processes": 51},
        {"scenario": "sideways"},
        {"connections": 0},
        {"timeout_s": 0.0},
        {"keys": -1},
    ],
)
def test_what_makes_no_plan(changes: dict[str, object]) -> None:
    with pytest.raises(ValueError, match=r".+"):
        Plan.from_json({"target": "naught://h", "prefix": "p:", **changes})
