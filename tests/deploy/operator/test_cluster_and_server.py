"""The operator with an API server and real naught-servers. Every request is held to the operator's Role."""

from __future__ import annotations

import base64
import json
import signal
from collections.abc import AsyncIterator, Callable
from datetime import UTC, datetime, timedelta
from pathlib import Path
from typing import Any

import pytest

import naught
from naught_operator.names import GROUP, OWNER_LABEL
from naught_operator.raising import read, written
from naught_server.secret_hash import hash_of
from support.alerts import payload, send
from support.kubernetes import CACHES, NAMESPACE, PEERING, PEERINGS, Cluster, Operator, cluster_in, operator, until

pytestmark = pytest.mark.slow

MADE = [
    ("v1/configmaps", "orders"),
    ("v1/services", "orders"),
    ("v1/services", "orders-headless"),
    ("apps/v1/statefulsets", "orders"),
    ("policy/v1/poddisruptionbudgets", "orders"),
    ("networking.k8s.io/v1/networkpolicies", "orders"),
]


@pytest.fixture
async def cluster(tmp_path: Path) -> AsyncIterator[Cluster]:
    async with cluster_in(tmp_path) as found:
        yield found
        assert not found.api.refused, "the Role does not allow it"


async def ready(cluster: Cluster) -> None:
    """Wait until the resource is as it asks, in its present generation."""

    def is_ready() -> bool:
        status = cluster.status()
        current = status.get("observedGeneration") == cluster.resource()["metadata"]["generation"]
        return current and cluster.condition("Ready") == ("True", "Running")

    await until(is_ready, "the resource is ready")


def pod_uid(cluster: Cluster) -> str | None:
    pod = cluster.find("v1/pods", "orders-0")
    return None if pod is None else pod["metadata"]["uid"]


def live(cluster: Cluster, name: str) -> Any:
    """A setting of the server as it is now."""
    return cluster.nodes.server().call("config_get", name)


def pinned(cluster: Cluster) -> Any:
    """What `config_set` has set."""
    return cluster.nodes.server().call("info")[b"tuner"][b"pinned"]


def shards(cluster: Cluster) -> int:
    found: int = cluster.nodes.server().call("info")[b"caches"][b"default"][b"shards"]
    return found


# ------------------------------------------------------------------------------------------- live settings


async def test_a_resource_becomes_a_server_with_its_settings(cluster: Cluster) -> None:
    async with operator(cluster):
        await cluster.create(
            settings={"sweep_budget_ms": 3, "connections_max": 77}, caches={"default": {"shards": 16}}
        )
        await ready(cluster)
        assert live(cluster, "sweep_budget_ms") == 3
        assert shards(cluster) == 16
        status = cluster.status()
        assert status["settings"] == {"sweep_budget_ms": 3.0}
        assert "sweep_budget_ms" in status["liveSettings"]
        assert "connections_max" not in status["liveSettings"]
        uid = cluster.resource()["metadata"]["uid"]
        for resource, name in MADE:
            meta = cluster.get(resource, name)["metadata"]
            assert [owner["uid"] for owner in meta["ownerReferences"]] == [uid]
            assert meta["labels"][OWNER_LABEL] == "orders"


async def test_a_live_setting_changes_without_a_touch_of_the_template(cluster: Cluster) -> None:
    async with operator(cluster):
        await cluster.create(settings={"sweep_budget_ms": 1})
        await ready(cluster)
        before = cluster.get("apps/v1/statefulsets", "orders")
        pod = pod_uid(cluster)
        cluster.nodes.server().call("incr", "alive")
        await cluster.change(settings={"sweep_budget_ms": 2.5, "log_level": "warning"})
        await ready(cluster)
        assert live(cluster, "sweep_budget_ms") == 2.5
        assert live(cluster, "log_level") == b"warning"
        assert "sweep_budget_ms = 2.5" in cluster.get("v1/configmaps", "orders")["data"]["naught.toml"]
        assert cluster.get("apps/v1/statefulsets", "orders") == before
        assert pod_uid(cluster) == pod
        assert "drift" not in cluster.status()


async def test_a_setting_that_the_server_refuses_is_in_the_status(cluster: Cluster) -> None:
    async with operator(cluster):
        await cluster.create(settings={"sweep_budget_ms": 1})
        await ready(cluster)
        file = cluster.get("v1/configmaps", "orders")["data"]
        await cluster.change(settings={"sweep_budget_ms": 99})
        await until(lambda: cluster.condition("Ready") == ("False", "SpecInvalid"), "the refusal is seen")
        assert cluster.status()["message"] == (
            "sweep_budget_ms must be a number from 0.1 to 10, or 0 for off, not 99"
        )
        assert live(cluster, "sweep_budget_ms") == 1
        assert cluster.get("v1/configmaps", "orders")["data"] == file, "the server would not start with it"
        await until(lambda: "SpecInvalid" in cluster.events(), "there is an event")


async def test_a_resource_that_cannot_be_is_in_the_status(cluster: Cluster) -> None:
    async with operator(cluster):
        await cluster.create(settings={"No such name": 1})
        await until(lambda: cluster.condition("Ready") == ("False", "SpecInvalid"), "the fault is seen")
        assert "'No such name'" in cluster.status()["message"]
        assert cluster.find("apps/v1/statefulsets", "orders") is None


async def test_a_drift_is_repaired_and_counted(cluster: Cluster) -> None:
    async with operator(cluster):
        await cluster.create(settings={"sweep_budget_ms": 2})
        await ready(cluster)
        for repairs in (1, 2):
            cluster.nodes.server().call("config_set", "sweep_budget_ms", 7)
            await until(lambda n=repairs: cluster.status().get("drift", {}).get("repairs") == n, "it was repaired")
            assert live(cluster, "sweep_budget_ms") == 2
        last = cluster.status()["drift"]["last"]
        assert (last["setting"], last["found"], last["restored"]) == ("sweep_budget_ms", "7.0", "2")
        await until(lambda: "DriftRepaired" in cluster.events(), "there is an event")


async def test_a_setting_that_nobody_asks_for_is_left_alone(cluster: Cluster) -> None:
    """It may be the tuner's."""
    async with operator(cluster):
        await cluster.create(settings={"drain_timeout_ms": 9_000})
        await ready(cluster)
        cluster.nodes.server().call("config_set", "sweep_budget_ms", 7)
        cluster.nodes.server().call("config_set", "drain_timeout_ms", 1)
        await until(lambda: live(cluster, "drain_timeout_ms") == 9_000, "the other setting is repaired")
        assert live(cluster, "sweep_budget_ms") == 7


async def test_a_setting_that_the_resource_names_no_more_is_given_back(cluster: Cluster) -> None:
    async with operator(cluster):
        await cluster.create(settings={"sweep_budget_ms": 3})
        await ready(cluster)
        assert pinned(cluster) == {b"sweep_budget_ms": 3.0}, "the tuner must leave it alone"
        await cluster.change(settings={"sweep_budget_ms": None})
        await until(lambda: live(cluster, "sweep_budget_ms") == 1, "it is the file's again")
        await until(lambda: not pinned(cluster), "it is the tuner's again")
        await ready(cluster)
        assert cluster.status()["settings"] == {}


async def test_a_file_that_is_read_again_takes_nothing_from_the_resource(cluster: Cluster) -> None:
    """A server that reads its file again forgets what `config_set` has set, and the tuner could change it."""
    async with operator(cluster):
        await cluster.create(settings={"sweep_budget_ms": 3})
        await ready(cluster)
        cluster.nodes.server().process.send_signal(signal.SIGHUP)
        await until(lambda: "configuration" in cluster.nodes.server().log(), "the file was read again")
        await until(lambda: pinned(cluster) == {b"sweep_budget_ms": 3.0}, "it is set again")
        assert "drift" not in cluster.status()


async def test_rules_reach_the_server_with_its_file(cluster: Cluster) -> None:
    rule = {"metric": "deviation", "above": 0.5, "until": 0.1, "set": "sweep_budget_ms", "to": 3.0}
    async with operator(cluster):
        await cluster.create()
        await ready(cluster)
        pod = pod_uid(cluster)
        cluster.nodes.server().call("incr", "alive")
        await cluster.change(rules={"mine": rule})
        await ready(cluster)
        assert b"mine" in cluster.nodes.server().call("info")[b"tuner"][b"rules"]
        assert pod_uid(cluster) == pod


CHANGES: list[tuple[str, dict[str, Any], Callable[[dict[str, Any]], bool]]] = [
    (
        "v1/configmaps",
        {"data": {"naught.toml": "port = 1\n"}},
        lambda obj: "insecure" in str(obj["data"]),
    ),
    (
        "apps/v1/statefulsets",
        {"spec": {"replicas": 2, "updateStrategy": {"type": "RollingUpdate", "rollingUpdate": {"partition": 0}}}},
        lambda obj: obj["spec"]["replicas"] == 1 and obj["spec"]["updateStrategy"] == {"type": "OnDelete"},
    ),
    ("v1/services", {"spec": {"ports": []}}, lambda obj: len(obj["spec"]["ports"]) == 2),
    (
        "policy/v1/poddisruptionbudgets",
        {"spec": {"maxUnavailable": 1}},
        lambda obj: not obj["spec"]["maxUnavailable"],
    ),
    (
        "networking.k8s.io/v1/networkpolicies",
        {"spec": {"ingress": []}},
        lambda obj: len(obj["spec"]["ingress"]) == 3,
    ),
]


async def test_an_object_that_somebody_changes_is_put_back(cluster: Cluster) -> None:
    async with operator(cluster):
        await cluster.create()
        await ready(cluster)
        pod = pod_uid(cluster)
        for resource, change, repaired in CHANGES:
            await cluster.send("PATCH", resource, "orders", change)
            await until(lambda r=resource, is_so=repaired: is_so(cluster.get(r, "orders")), f"{resource} is put back")
            assert pod_uid(cluster) == pod, resource


async def test_an_object_of_somebody_else_is_not_touched(cluster: Cluster) -> None:
    await cluster.send("POST", "v1/configmaps", None, {"metadata": {"name": "orders"}, "data": {"mine": "1"}})
    async with operator(cluster):
        await cluster.create()
        await until(lambda: cluster.condition("Ready") == ("Unknown", "ObjectsFailed"), "the conflict is seen")
        assert "ConfigMap orders that this resource does not own" in cluster.status()["message"]
        assert cluster.get("v1/configmaps", "orders")["data"] == {"mine": "1"}


# ------------------------------------------------------------------------------------------- a server with users


def access(**users: Any) -> dict[str, Any]:
    return {
        "secretName": "naught-access",
        "users": {"ops": {"role": "admin", "secretKey": "ops"}, **users},
        "operator": {"user": "ops"},
    }


async def keep_secret(cluster: Cluster, **texts: str) -> None:
    """Have the Secret say this."""
    data = {key: base64.b64encode(text.encode()).decode() for key, text in texts.items()}
    method, name = (
        ("POST", None) if cluster.find("v1/secrets", "naught-access") is None else ("PATCH", "naught-access")
    )
    body = {"apiVersion": "v1", "kind": "Secret", "metadata": {"name": "naught-access"}, "data": data}
    await cluster.send(method, "v1/secrets", name, body)


async def test_the_operator_logs_in_at_a_server_with_users_and_follows_a_secret_that_changes(
    cluster: Cluster,
) -> None:
    await keep_secret(cluster, ops="the first secret\n", web="of the web")
    async with operator(cluster):
        web = {"role": "write", "secretKey": "web"}
        await cluster.create(settings={"sweep_budget_ms": 2}, access=access(web=web))
        await ready(cluster)
        server = cluster.nodes.server()
        url = f"naught://127.0.0.1:{server.port}"
        assert server.call("config_get", "sweep_budget_ms") == "unauthenticated"
        async with await naught.connect(url, user="ops", secret="the first secret") as client:
            assert await client.config_get("sweep_budget_ms") == 2
            assert pod_uid(cluster) is not None
            await client.config_set("sweep_budget_ms", 7)
            await until(lambda: cluster.status().get("drift", {}).get("repairs") == 1, "the operator may change it")
            pod = pod_uid(cluster)
            await keep_secret(cluster, ops="the second secret", web="of the web")
        # The server reads the file of its own accord, as the kubelet writes it: here as soon as it is written.
        await cluster.change(settings={"sweep_budget_ms": 3})
        await ready(cluster)
        async with await naught.connect(url, user="ops", secret="the second secret") as client:
            assert await client.config_get("sweep_budget_ms") == 3
        assert pod_uid(cluster) == pod, "nothing was restarted for it"
    assert "secret" not in json.dumps([cluster.status(), cluster.get("v1/configmaps", "orders")]).replace(
        "secret_file", ""
    )


async def test_a_secret_that_is_not_there_is_in_the_status_and_found_once_it_is(cluster: Cluster) -> None:
    """The server has its hash alone."""
    async with operator(cluster):
        await keep_secret(cluster, ops=hash_of(b"the secret", b"salt" * 4))
        await cluster.create(access={**access(), "operator": {"user": "ops", "secretKey": "plain"}})
        await until(lambda: "has no key plain" in cluster.status().get("message", ""), "it is said what is missing")
        await keep_secret(cluster, plain="the secret")
        await ready(cluster)


# ------------------------------------------------------------------------------------------- unreachable


async def test_a_server_that_is_down_is_in_the_status_until_it_is_up(cluster: Cluster) -> None:
    async with operator(cluster):
        await cluster.create(settings={"sweep_budget_ms": 2})
        await ready(cluster)
        cluster.nodes.kill()
        await until(lambda: cluster.condition("Ready") == ("Unknown", "ServerUnreachable"), "the loss is seen")
        assert "does not answer" in cluster.status()["message"]
        # What changes meanwhile waits; nothing is restarted, for the server may only be out of reach.
        pod = pod_uid(cluster)
        await cluster.change(settings={"sweep_budget_ms": 4})
        await until(
            lambda: "sweep_budget_ms = 4" in cluster.get("v1/configmaps", "orders")["data"]["naught.toml"],
            "the file is written",
        )
        await cluster.nodes.restart_container()
        await ready(cluster)
        assert live(cluster, "sweep_budget_ms") == 4
        assert pod_uid(cluster) == pod
        assert "drift" not in cluster.status(), "a server that was started again has not drifted"


# ------------------------------------------------------------------------------------------- restarts


async def test_a_restart_waits_until_no_counter_and_no_hold_is_left(cluster: Cluster) -> None:
    async with operator(cluster):
        await cluster.create(caches={"default": {"shards": 16}, "other": {}})
        await ready(cluster)
        pod = pod_uid(cluster)
        url = f"naught://127.0.0.1:{cluster.nodes.server().port}"
        async with naught.connect(url) as counters, naught.connect(f"{url}/other") as other:
            await counters.incr("a")
            await other.incr("b")
            hold = await counters.acquire([("held", 1, 1)])
            await cluster.change(image="naught:next", caches={"default": {"shards": 32}})
            await until(
                lambda: cluster.condition("RolledOut") == ("False", "RestartWouldLose"), "the restart is refused"
            )
            message = cluster.status()["message"]
            assert message.startswith("RestartWouldLose: 3 counters, 1 holds.")
            assert "needed for image, caches.default.shards;" in message
            assert message.endswith("annotate the resource: naught.dev/allow-loss=2")
            await until(lambda: "RestartWouldLose" in cluster.events(), "there is an event")
            await counters.decr("a")
            await other.decr("b")
            await until(
                lambda: "1 counters, 1 holds" in cluster.status()["message"], "the figures of the status follow"
            )
            assert pod_uid(cluster) == pod
            assert hold.hold is not None
            await counters.release(hold.hold)
            await ready(cluster)
        assert pod_uid(cluster) not in (pod, None)
        assert shards(cluster) == 32
        assert cluster.get("v1/pods", "orders-0")["spec"]["containers"][0]["image"] == "naught:next"
        roll = cluster.status()["roll"]
        assert roll["reason"] == "Empty"
        assert roll["windowMs"] >= 0
        await until(lambda: "Restarted" in cluster.events(), "there is an event")


async def test_the_annotation_allows_the_loss_of_one_generation(cluster: Cluster) -> None:
    async with operator(cluster):
        await cluster.create(caches={"default": {"shards": 16}})
        await ready(cluster)
        pod = pod_uid(cluster)
        cluster.nodes.server().call("incr", "alive")
        await cluster.annotate(allow_loss="1")  # the generation that there is; the next is not meant
        await cluster.change(caches={"default": {"shards": 32}})
        await until(lambda: cluster.condition("RolledOut")[1] == "RestartWouldLose", "the restart is refused")
        assert pod_uid(cluster) == pod
        await cluster.annotate(allow_loss="2")
        await ready(cluster)
        assert pod_uid(cluster) != pod
        assert shards(cluster) == 32
        assert cluster.status()["roll"]["reason"] == "LossAllowed"


async def test_a_port_changes_at_the_restart_and_not_before(cluster: Cluster) -> None:
    async with operator(cluster):
        await cluster.create()
        await ready(cluster)
        cluster.nodes.server().call("incr", "alive")
        await cluster.change(port=7000)
        await until(lambda: cluster.condition("RolledOut")[1] == "RestartWouldLose", "the restart is refused")
        template = cluster.get("apps/v1/statefulsets", "orders")["spec"]["template"]
        assert template["spec"]["containers"][0]["ports"][0]["containerPort"] == 7000
        assert cluster.get("v1/services", "orders")["spec"]["ports"][0]["port"] == 6480
        cluster.nodes.server().call("decr", "alive")
        await ready(cluster)
        assert cluster.get("v1/services", "orders")["spec"]["ports"][0]["port"] == 7000


async def test_a_pod_is_not_deleted_before_its_controller_has_seen_the_template(cluster: Cluster) -> None:
    """It would come back from the template before."""
    async with operator(cluster):
        await cluster.create(image="naught:old")
        await ready(cluster)
        pod = pod_uid(cluster)
        cluster.nodes.blind = True
        await cluster.change(image="naught:new")
        await until(lambda: cluster.condition("RolledOut") == ("False", "TemplatePending"), "the template is changed")
        assert pod_uid(cluster) == pod
        cluster.nodes.blind = False
        await cluster.send("PATCH", "apps/v1/statefulsets", "orders", {})
        await ready(cluster)
        assert pod_uid(cluster) != pod


async def test_a_container_that_does_not_run_is_restarted_at_once(cluster: Cluster) -> None:
    """An image that does not exist is mended by another one, though no server answers."""
    async with operator(cluster):
        await cluster.create(image="naught:wrong")
        await ready(cluster)
        pod = pod_uid(cluster)
        waiting = {"name": "naught", "restartCount": 0, "state": {"waiting": {"reason": "ImagePullBackOff"}}}
        await cluster.send("PATCH", "v1/pods", "orders-0", {"status": {"containerStatuses": [waiting]}})
        await until(lambda: cluster.condition("Ready") == ("Unknown", "NotRunning"), "the container does not run")
        await cluster.change(image="naught:right")
        await ready(cluster)
        assert pod_uid(cluster) != pod
        assert cluster.status()["roll"]["reason"] == "NotRunning"


# ------------------------------------------------------------------------------------------- alerts


async def test_an_alert_raises_the_budget_and_it_is_put_back(cluster: Cluster, own_port: int) -> None:
    async with operator(cluster, "--webhook-port", str(own_port)):
        await cluster.create(settings={"sweep_budget_ms": 2}, onDeviation={"sweepBudgetMs": 6, "seconds": 1})
        await ready(cluster)
        status, answer = await send(own_port, payload("orders"))
        assert (status, answer) == (200, {"raised": [f"{NAMESPACE}/orders"], "ignored": []})
        await until(lambda: live(cluster, "sweep_budget_ms") == 6, "the budget is raised")
        assert cluster.status()["raised"]["before"] == 2
        await until(lambda: "raised" not in cluster.status(), "the raise ends")
        assert live(cluster, "sweep_budget_ms") == 2
        assert f"{GROUP}/raised-until" not in cluster.resource()["metadata"].get("annotations", {})
        await until(lambda: {"BudgetRaised", "BudgetPutBack"} <= set(cluster.events()), "there are events")
        assert "drift" not in cluster.status()


async def test_a_second_alert_extends_the_raise(cluster: Cluster, own_port: int) -> None:
    async with operator(cluster, "--webhook-port", str(own_port)):
        await cluster.create(onDeviation={"sweepBudgetMs": 6, "seconds": 600})
        await ready(cluster)
        await send(own_port, payload("orders"))
        await until(lambda: "raised" in cluster.status(), "the budget is raised")
        first = read(cluster.status()["raised"]["until"])
        assert first is not None
        await send(own_port, payload("orders", status="resolved"))
        await send(own_port, payload("orders"))
        await until(lambda: read(cluster.status()["raised"]["until"]) > first, "the raise is extended")  # type: ignore[operator]
        assert cluster.events().count("BudgetRaised") == 1
        assert cluster.status()["raised"]["before"] == 1.0


async def test_the_next_leader_puts_the_budget_back(cluster: Cluster, own_port: int) -> None:
    async with operator(cluster, "--webhook-port", str(own_port)):
        await cluster.create(onDeviation={"sweepBudgetMs": 6, "seconds": 3600})
        await ready(cluster)
        cluster.nodes.server().call("config_set", "sweep_budget_ms", 1.5)  # by hand
        await send(own_port, payload("orders"))
        await until(lambda: live(cluster, "sweep_budget_ms") == 6, "the budget is raised")
    # While no operator runs, the time passes.
    await cluster.annotate(raised_until=written(datetime.now(UTC) - timedelta(seconds=1)))
    async with operator(cluster):
        await until(lambda: "raised" not in cluster.status(), "the raise ends")
        assert live(cluster, "sweep_budget_ms") == 1.5


async def test_a_server_that_restarts_is_raised_again(cluster: Cluster, own_port: int) -> None:
    async with operator(cluster, "--webhook-port", str(own_port)):
        await cluster.create(settings={"sweep_budget_ms": 2}, onDeviation={"sweepBudgetMs": 6, "seconds": 3600})
        await ready(cluster)
        await send(own_port, payload("orders"))
        await until(lambda: live(cluster, "sweep_budget_ms") == 6, "the budget is raised")
        await cluster.nodes.restart_container()
        await until(lambda: live(cluster, "sweep_budget_ms") == 6, "the budget is raised again")
        assert cluster.status()["raised"]["before"] == 2


# ------------------------------------------------------------------------------------------- end, rights, replicas


async def test_a_resource_that_is_deleted_is_let_go(cluster: Cluster) -> None:
    async with operator(cluster):
        await cluster.create()
        await ready(cluster)
        assert cluster.resource()["metadata"]["finalizers"] == ["naught.dev/operator"]
        server = cluster.nodes.server()
        server.call("incr", "alive")
        await cluster.send("DELETE", CACHES, "orders")
        await until(lambda: cluster.find(CACHES, "orders") is None, "the resource is gone")
        await until(lambda: "DeletedWithCounters" in cluster.events(), "there is an event")
        accepted = server.call("info")[b"connections_accepted"]
        await cluster.create("next")
        await until(lambda: cluster.condition("Ready", "next") == ("True", "Running"), "the next is ready")
        assert server.call("info")[b"connections_accepted"] == accepted + 1, "nobody asks it any more"


async def test_the_role_allows_what_is_used_and_nothing_else(cluster: Cluster, own_port: int) -> None:
    """The other tests show that nothing is missing: they are refused what the Role does not allow. This one uses all
    of it."""
    async with operator(cluster, "--webhook-port", str(own_port)):
        await keep_secret(cluster, ops="the secret")
        await cluster.create(onDeviation={"seconds": 2}, access=access())
        await ready(cluster)
        for resource, name, change in [
            ("v1/configmaps", "orders", {"data": {"naught.toml": ""}}),
            ("v1/services", "orders", {"spec": {"ports": []}}),
            ("policy/v1/poddisruptionbudgets", "orders", {"spec": {"maxUnavailable": 1}}),
            ("networking.k8s.io/v1/networkpolicies", "orders", {"spec": {"ingress": []}}),
        ]:
            version = cluster.get(resource, name)["metadata"]["resourceVersion"]
            await cluster.send("PATCH", resource, name, change)
            await until(
                lambda r=resource, n=name, v=version: (
                    int(cluster.get(r, n)["metadata"]["resourceVersion"]) > int(v) + 1
                ),
                "it is put back",
            )
        await send(own_port, payload("orders"))
        await until(lambda: "BudgetPutBack" in cluster.events(), "a raise has come and gone")
        await cluster.change(image="naught:next")
        await ready(cluster)
        await cluster.send("DELETE", CACHES, "orders")
        await until(lambda: cluster.find(CACHES, "orders") is None, "the resource is gone")
    assert cluster.api.used == cluster.api.allowed
    assert json.dumps(sorted(cluster.api.used)).count("delete") == 1, "only pods are deleted"


async def test_of_two_operators_one_leads_until_it_is_gone(cluster: Cluster) -> None:
    """Each has a token of its own, by which the API server tells who has written."""
    first, second = (Operator(cluster, token=token) for token in ("first", "second"))
    first.start()
    second.start()
    try:
        await until(
            lambda: len(cluster.get(PEERINGS, PEERING).get("status") or {}) == 2, "the two know of each other"
        )
        await cluster.create(settings={"sweep_budget_ms": 2})
        await ready(cluster)
        cluster.nodes.server().call("config_set", "sweep_budget_ms", 7)
        await until(lambda: cluster.status().get("drift", {}).get("repairs") == 1, "the leader repairs")
        assert len(cluster.api.writers) == 1, "both have written"
        (token,) = cluster.api.writers
        leader, other = (first, second) if token == "first" else (second, first)
        await leader.stop()
        cluster.nodes.server().call("config_set", "sweep_budget_ms", 8)
        await until(lambda: cluster.status().get("drift", {}).get("repairs") == 2, "the other one repairs")
        assert len(cluster.api.writers) == 2
        await other.stop()
    finally:
        first.ask_to_stop()
        second.ask_to_stop()
