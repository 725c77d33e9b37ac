"""Target URLs, and plans made of them."""

from __future__ import annotations

import json
import os

import pytest

from naught.credentials import Credentials
from naught.url import TlsFiles
from naught_loadtest.drivers.naught import NaughtSessionDriver, hello_words
from naught_loadtest.drivers.target import Target, default_target, parse_target, without_its_secret
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
    Target("naughts://h", "naught", "h", 6480, None, None, None, TlsFiles()),
    Target("naughts://h:1/c?ca=a&cert=b&key=k", "naught", "h", 1, None, "c", None, TlsFiles("a", "b", "k")),
    Target("naughts-session://h", "naught-session", "h", 6480, None, None, None, TlsFiles()),
    Target("memcached://h", "memcached", "h", 11211, None, None),
    Target("echo://h:9", "echo", "h", 9, None, None),
]


@pytest.mark.parametrize("target", TARGETS, ids=lambda target: target.url)
def test_targets(target: Target) -> None:
    assert parse_target(target.url) == target


@pytest.mark.parametrize(
    "url",
    ["", "localhost:6480", "http://h", "naught://", "naught://h:99999", "redis://h/1", "redis://user:word@h",
     "naught+unix://run/n.sock", "naught+unix:///n?x=1", "echo://h", "naught://h?cache=x", "naught://h?ca=f",
     "naughts://h?key=f", "naught://h?timeout=2", "naughts://h?name=x", "memory://", "naught://me@h"],
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


@pytest.mark.parametrize(
    ("url", "left"),
    [
        ("naught://me:hunter2@h", "naught://me@h"),
        ("naughts://me:hunter%402@h:1/c?ca=f", "naughts://me@h:1/c?ca=f"),
        ("naught-session://me:hunter2@h", "naught-session://me@h"),
        ("naughts-session://m%3Ae:hunter2@[::1]:7", "naughts-session://m%3Ae@[::1]:7"),
        ("naught+unix://me:hunter2@/n.sock?cache=c", "naught+unix://me@/n.sock?cache=c"),
    ],
)
def test_a_secret_leaves_the_url_and_is_found_again(monkeypatch: pytest.MonkeyPatch, url: str, left: str) -> None:
    monkeypatch.setenv("NAUGHT_SECRET", "another")
    assert without_its_secret(url) == left
    target = parse_target(left)
    assert target.url == left
    assert target.credentials is not None
    assert target.credentials.secret() == ("hunter@2" if "%40" in url else "hunter2")
    assert "hunter" not in repr(target)


@pytest.mark.parametrize("url", ["naught://h", "naught://me@h", "naughts://h/c", "redis://h", "", "redis://:word@h"])
def test_a_url_without_a_secret_stays(monkeypatch: pytest.MonkeyPatch, url: str) -> None:
    monkeypatch.setenv("NAUGHT_SECRET", "hunter2")
    assert without_its_secret(url) == url
    assert os.environ["NAUGHT_SECRET"] == "hunter2"


def test_the_environment_says_who_logs_in_as_it_does_for_the_clients(monkeypatch: pytest.MonkeyPatch) -> None:
    monkeypatch.setenv("NAUGHT_USER", "orders")
    monkeypatch.setenv("NAUGHT_SECRET", "hunter2")
    assert parse_target("naught://h").credentials == Credentials("orders", "hunter2")
    assert parse_target("naught://me@h").credentials == Credentials("me", "hunter2")
    assert parse_target("redis://h").credentials is None
    assert hello_words(parse_target("naught://h/c")) == {"cache": "c", "user": b"orders", "secret": b"hunter2"}
    session = NaughtSessionDriver().greeting(parse_target("naught-session://me@h"))
    assert session is not None
    assert b"me" in session
    assert b"hunter2" in session


def test_the_server_of_the_environment_keeps_what_a_load_can_use(monkeypatch: pytest.MonkeyPatch) -> None:
    monkeypatch.setenv("NAUGHT_URL", "naughts://me@h/c?timeout=2&ca=a&cert=b&name=x&key=k")
    assert default_target() == "naughts://me@h/c?ca=a&cert=b&key=k"


def test_a_plan_has_no_secret() -> None:
    with pytest.raises(ValueError, match="taken out of its URL") as refused:
        Plan("naught://me:hunter2@h", "p:")
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
