"""What a resource may ask for."""

from __future__ import annotations

from typing import Any

import pytest

from naught_operator.spec import Raise, SpecError, read_resource, read_spec


def access(ops: Any = None, **other: Any) -> dict[str, Any]:
    """An access whose operator is `ops`."""
    users = {"ops": ops or {"role": "admin", "secretKey": "ops"}, "web": {"role": "write", "secretKey": "web"}}
    return {"secretName": "naught-access", "users": users, "operator": {"user": "ops"}, **other}


def test_the_operator_is_one_of_the_users() -> None:
    found = read_spec({"access": access()}).access
    assert found is not None
    assert (found.secret, found.operator, found.operator_key, sorted(found.users)) == (
        "naught-access",
        "ops",
        "ops",
        ["ops", "web"],
    )
    another = read_spec({"access": access(operator={"user": "ops", "secretKey": "plain"})}).access
    assert another is not None
    assert another.operator_key == "plain"


def test_a_resource_that_says_nothing_has_the_defaults() -> None:
    spec = read_spec({})
    assert (spec.image, spec.port, spec.http_port) == (None, 6480, 6481)
    assert (spec.settings, spec.caches, spec.rules, spec.resources) == ({}, {}, {}, {})
    assert spec.on_deviation == Raise(5.0, 600)
    assert spec.access is None


def test_what_is_said_is_kept() -> None:
    rule = {"metric": "deviation", "above": 0.5}
    spec = read_spec(
        {
            "replicas": 1,
            "image": "naught:1",
            "port": 1,
            "httpPort": 2,
            "settings": {"log_level": "debug", "sweep_budget_ms": 0.5, "insecure": True},
            "caches": {"a.b": {"shards": 4, "eviction": "lazy"}},
            "rules": {"r": rule},
            "resources": {"limits": {"memory": "1Gi"}},
            "onDeviation": {"sweepBudgetMs": 8, "seconds": 60},
        }
    )
    assert spec.settings == {"log_level": "debug", "sweep_budget_ms": 0.5, "insecure": True}
    assert spec.caches == {"a.b": {"shards": 4, "eviction": "lazy"}}
    assert spec.rules == {"r": rule}
    assert spec.on_deviation == Raise(8.0, 60)


@pytest.mark.parametrize(
    ("spec", "message"),
    [
        ({"replicas": 2}, "spec.replicas must be 1, not 2: counters are in one process"),
        ({"port": 0}, "spec.port must be a whole number from 1 to 65535, not 0"),
        ({"port": True}, "spec.port must be a whole number from 1 to 65535, not True"),
        ({"port": 6481}, "spec.port and spec.httpPort must differ, both are 6481"),
        ({"image": ""}, "spec.image must be the name of an image, not ''"),
        ({"settings": []}, "spec.settings must be an object, not []"),
        ({"settings": {"port": 1}}, "spec.settings.port cannot be set: it is spec.port"),
        (
            {"settings": {"watch_config": False}},
            "spec.settings.watch_config cannot be set: the operator relies on it",
        ),
        ({"settings": {"A": 1}}, "spec.settings has the key 'A', which is not the name of a setting"),
        ({"settings": {"a": None}}, "spec.settings.a must be a text, a number, true or false, not None"),
        ({"settings": {"a": [1] * 99}}, f"true or false, not {repr([1] * 99)[:77]}..."),
        ({"caches": {"-": {}}}, "spec.caches has the key '-', which is not the name of a cache"),
        ({"caches": {"a": 1}}, "spec.caches.a must be an object, not 1"),
        ({"caches": {"a": {"shards": {}}}}, "spec.caches.a.shards must be a text, a number, true or false, not {}"),
        ({"rules": {"a": 1}}, "spec.rules.a must be an object, not 1"),
        ({"onDeviation": {"sweepBudgetMs": 0}}, "sweepBudgetMs must be a number from 0.1 to 10, not 0"),
        ({"settings": {"users": "a"}}, "spec.settings.users cannot be set: they are spec.access.users"),
        ({"access": 1}, "spec.access must be an object, not 1"),
        ({"access": access(secretName="")}, "spec.access.secretName must be a name in Kubernetes, not ''"),
        ({"access": access(secretName="A")}, "spec.access.secretName must be a name in Kubernetes, not 'A'"),
        ({"access": access(users={})}, "spec.access.operator.user must be one of spec.access.users, not 'ops'"),
        ({"access": access(operator={})}, "spec.access.operator.user must be one of spec.access.users, not None"),
        ({"access": access(operator={"user": "ops", "secretKey": "a/b"})}, "operator.secretKey must be a name"),
        ({"access": access(ops={"secretKey": "k"})}, "spec.access.users.ops.role must be read, write or admin"),
        ({"access": access(ops={"role": 1, "secretKey": "k"})}, "spec.access.users.ops is the operator"),
        ({"access": access(ops={"role": "admin"})}, "spec.access.users.ops.secretKey must be a name in Kubernetes"),
        ({"access": access(ops={"role": "write", "secretKey": "k"})}, "it must have the role admin"),
        ({"access": access(ops={"role": "admin", "secretKey": "k", "caches": ["a"]})}, "no caches and no prefixes"),
        ({"access": access(ops={"role": "admin", "secretKey": "k", "prefixes": ["a"]})}, "no caches and no prefixes"),
        ({"access": access(ops={"role": "admin", "secretKey": "k", "caches": 1})}, "must be a list of texts, not 1"),
        ({"onDeviation": {"seconds": 3601}}, "seconds must be a whole number from 1 to 3600, not 3601"),
    ],
)
def test_what_cannot_be_is_refused_by_name(spec: Any, message: str) -> None:
    with pytest.raises(SpecError) as refusal:
        read_spec(spec)
    assert message in str(refusal.value)


def test_an_object_of_the_api_is_read() -> None:
    found = read_resource({"metadata": {"namespace": "n", "name": "m", "deletionTimestamp": "now"}})
    assert (found.namespace, found.name, found.uid, found.generation, found.deleting) == ("n", "m", "", 0, True)
    assert (found.annotations, found.spec, found.status) == ({}, {}, {})
