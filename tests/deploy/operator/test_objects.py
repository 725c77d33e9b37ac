"""The objects that a resource becomes, from the manifests of the repository."""

from __future__ import annotations

import copy
import tomllib
from pathlib import Path
from typing import Any

import pytest

from naught_operator.base import BaseError, load
from naught_operator.names import OBJECT, OWNER_LABEL, STARTED_WITH, TEMPLATE
from naught_operator.objects import Desired, desired, server_container
from naught_operator.pods import Pod, controller_is_behind, read_pod, restart_reasons, template_is_current
from naught_operator.spec import Resource, read_spec

BASE = load()
LIVE = ["sweep_budget_ms", "drain_timeout_ms", "log_level", "tuner"]


def made(**spec: Any) -> Desired:
    resource = Resource("counters", "orders", "uid-1", 1, False, {}, spec, {})
    return desired(resource, read_spec(spec), BASE, "operators")


def pod_of(found: Desired, **status: Any) -> Pod:
    template = copy.deepcopy(found.template)
    body = {"metadata": {"name": "orders-0", "uid": "p", **template["metadata"]}, "spec": template["spec"]}
    return read_pod({**body, "status": status})


def test_every_object_has_the_name_the_label_and_the_owner() -> None:
    found = made()
    names = [(each["kind"], each["metadata"]["name"]) for each in found.objects]
    assert sorted(names) == [
        ("ConfigMap", "orders"),
        ("NetworkPolicy", "orders"),
        ("PodDisruptionBudget", "orders"),
        ("Service", "orders"),
        ("Service", "orders-headless"),
        ("StatefulSet", "orders"),
    ]
    for each in found.objects:
        meta = each["metadata"]
        assert meta["namespace"] == "counters"
        assert meta["labels"][OWNER_LABEL] == "orders"
        assert meta["labels"]["app.kubernetes.io/instance"] == "orders"
        (owner,) = meta["ownerReferences"]
        assert (owner["kind"], owner["name"], owner["uid"], owner["controller"]) == (
            "CounterCache",
            "orders",
            "uid-1",
            True,
        )
        assert (OBJECT in meta.get("annotations", {})) == (each["kind"] != "StatefulSet")


def test_no_name_of_the_manifests_is_left() -> None:
    """Two servers in one namespace must not share an object, and no selector may reach the pod of another."""
    stateful_set = made().one("StatefulSet")
    spec, pod = stateful_set["spec"], stateful_set["spec"]["template"]["spec"]
    assert spec["serviceName"] == "orders-headless"
    assert [volume["configMap"]["name"] for volume in pod["volumes"] if "configMap" in volume] == ["orders"]
    assert "serviceAccountName" not in pod
    assert pod["automountServiceAccountToken"] is False
    for each in made().objects:
        selector = each["spec"].get("podSelector") or each["spec"].get("selector") if "spec" in each else None
        if selector is not None:
            labels = selector.get("matchLabels", selector)
            assert labels["app.kubernetes.io/instance"] == "orders"


def test_what_the_resource_says_is_in_the_objects() -> None:
    found = made(
        image="naught:9",
        port=7000,
        httpPort=7001,
        resources={"limits": {"memory": "2Gi"}},
        settings={"drain_timeout_ms": 90_000, "sweep_budget_ms": 2},
        caches={"orders": {"shards": 8}},
    )
    container = server_container(found.template)
    assert container["image"] == "naught:9"
    assert container["resources"] == {"limits": {"memory": "2Gi"}}
    assert {port["name"]: port["containerPort"] for port in container["ports"]} == {"counters": 7000, "http": 7001}
    for each in found.objects:
        if each["kind"] == "Service":
            assert {port["name"]: port["port"] for port in each["spec"]["ports"]} == {"counters": 7000, "http": 7001}
    table = tomllib.loads(found.one("ConfigMap")["data"]["naught.toml"])
    assert (table["port"], table["http_port"], table["sweep_budget_ms"], table["watch_config"]) == (
        7000,
        7001,
        2,
        True,
    )
    assert table["caches"] == {"orders": {"shards": 8}}
    assert found.template["spec"]["terminationGracePeriodSeconds"] == 100, "longer than the drain timeout"


def test_only_the_operators_pods_are_let_in_besides() -> None:
    before, after = BASE.one("NetworkPolicy")["spec"]["ingress"], made().one("NetworkPolicy")["spec"]["ingress"]
    assert after[: len(before)] == before
    (rule,) = after[len(before) :]
    assert rule["from"] == [
        {
            "namespaceSelector": {"matchLabels": {"kubernetes.io/metadata.name": "operators"}},
            "podSelector": {"matchLabels": {"app.kubernetes.io/name": "naught-operator"}},
        }
    ]


def test_the_manifests_themselves_stay_as_they_are() -> None:
    before = copy.deepcopy(BASE)
    made(port=7000, image="x")
    assert before == BASE


@pytest.mark.parametrize(
    ("spec", "reasons"),
    [
        ({}, []),
        ({"settings": {"sweep_budget_ms": 9}}, []),
        ({"settings": {"drain_timeout_ms": 3_600_000}}, []),
        ({"rules": {"r": {"off": True}}}, []),
        ({"onDeviation": {"seconds": 1}}, []),
        ({"image": "naught:9"}, ["image"]),
        ({"resources": {"limits": {"memory": "2Gi"}}}, ["resources"]),
        ({"port": 7000}, ["port"]),
        ({"settings": {"connections_max": 9}}, ["connections_max"]),
        ({"caches": {"new": {}}}, ["caches.new"]),
        ({"caches": {"default": {"shards": 8}}}, ["caches.default.shards"]),
        ({"image": "naught:9", "httpPort": 7001}, ["image", "http_port"]),
    ],
    ids=lambda value: None if isinstance(value, list) else "+".join(value) or "nothing",
)
def test_what_a_restart_is_needed_for(spec: Any, reasons: list[str]) -> None:
    before, after = made(), made(**spec)
    assert restart_reasons(pod_of(before), after, LIVE) == reasons
    assert restart_reasons(pod_of(after), after, LIVE) == []
    assert template_is_current(before.template, after, LIVE) is not reasons
    assert template_is_current(before.template, after, LIVE) == (not reasons)


def test_a_template_that_somebody_has_changed_is_not_current() -> None:
    found = made()
    template = copy.deepcopy(found.template)
    assert template_is_current(template, found, LIVE)
    template["spec"]["restartPolicy"] = "Always"  # a default of the API
    assert template_is_current(template, found, LIVE)
    template["spec"]["containers"][0]["image"] = "mine"
    assert not template_is_current(template, found, LIVE)
    template = copy.deepcopy(found.template)
    del template["metadata"]["annotations"][STARTED_WITH]
    assert not template_is_current(template, found, LIVE)


@pytest.mark.parametrize(("generation", "observed", "behind"), [(3, 3, False), (3, 2, True), (1, None, True)])
def test_a_controller_is_behind_until_it_has_seen_the_template(generation: int, observed: Any, behind: bool) -> None:
    status = {} if observed is None else {"observedGeneration": observed}
    assert controller_is_behind({"metadata": {"generation": generation}, "status": status}) is behind


def test_a_pod_of_another_template_is_restarted_even_where_nothing_of_it_is_known() -> None:
    found = made()
    pod = read_pod({"metadata": {"name": "orders-0"}, "spec": copy.deepcopy(found.template["spec"])})
    assert "host" in restart_reasons(pod, found, LIVE)
    body = {"metadata": {"name": "orders-0", "annotations": dict(found.template["metadata"]["annotations"])}}
    body["metadata"]["annotations"][TEMPLATE] = "older"  # type: ignore[index]
    pod = read_pod({**body, "spec": copy.deepcopy(found.template["spec"])})
    assert restart_reasons(pod, found, LIVE) == ["the pod's template"]


@pytest.mark.parametrize(
    ("state", "runs"), [({"running": {}}, True), ({"waiting": {}}, False), ({"terminated": {}}, False), (None, False)]
)
def test_whether_a_pod_runs_is_what_its_container_says(state: Any, runs: bool) -> None:
    status = [{"name": "other", "state": {"running": {}}}, {"name": "naught", "state": state, "restartCount": 3}]
    pod = pod_of(made(), containerStatuses=status, podIP="10.0.0.7")
    assert (pod.runs, pod.address, pod.port, pod.incarnation) == (runs, "10.0.0.7", 6480, "p.3")


def test_manifests_that_are_not_there_are_told(tmp_path: Path) -> None:
    with pytest.raises(BaseError, match="there must be one manifest of each kind"):
        load(tmp_path)
    (tmp_path / "a.yaml").write_text("a: [")
    with pytest.raises(BaseError, match="cannot read the manifests"):
        load(tmp_path)
