"""The kustomize base and its example: rendered from the chart, valid, and broken manifests are refused."""

from __future__ import annotations

import copy
from collections.abc import Callable
from functools import cache

import pytest

from support.alerting import parsed
from support.manifests import (
    BASE,
    MONITORING,
    OVERLAY,
    Manifest,
    faults,
    load_tool,
    one,
    parsed_manifests,
    printed_by,
    program,
    refused,
    refused_by_operator,
    server_config,
)


@cache
def base() -> tuple[Manifest, ...]:
    """The base and its component, from their files."""
    files = sorted(path for place in (BASE, MONITORING) for path in place.glob("*.yaml"))
    return tuple(parsed(path) for path in files if path.name != "kustomization.yaml")


@cache
def example() -> tuple[Manifest, ...]:
    """What kubectl makes of the overlay."""
    return tuple(parsed_manifests(printed_by("kubectl", "kustomize", OVERLAY)))


# ------------------------------------------------------------------------------------------- what is there


def test_the_base_is_what_helm_prints_now() -> None:
    program("helm")
    tool = load_tool("render_manifests")
    assert tool.differences(tool.base_of(tool.helm_template(*tool.VALUES))) == []


def test_a_base_that_is_old_is_found(monkeypatch: pytest.MonkeyPatch) -> None:
    program("helm")
    tool = load_tool("render_manifests")
    files = tool.base_of(tool.helm_template(*tool.VALUES, "settings.drain_timeout_ms=20000"))
    assert tool.differences(files) == [
        "deploy/kustomize/base/configmap.yaml is old",
        "deploy/kustomize/base/statefulset.yaml is old",
    ]
    without = {path: text for path, text in files.items() if path.name != "service.yaml"}
    assert "deploy/kustomize/base/service.yaml comes from no template" in tool.differences(without)


@pytest.mark.parametrize("place", [BASE, MONITORING], ids=["base", "monitoring"])
def test_every_file_is_listed(place: object) -> None:
    assert isinstance(place, type(BASE))
    listed = parsed(place / "kustomization.yaml")["resources"]
    assert listed == sorted(path.name for path in place.glob("*.yaml") if path.name != "kustomization.yaml")


def test_the_base_is_valid_and_keeps_the_counters() -> None:
    manifests = parsed_manifests(printed_by("kubectl", "kustomize", BASE))
    assert refused(manifests) == []
    assert faults(manifests) == []
    by_name = {
        (each["kind"], each["metadata"]["name"]): each for each in base() if "monitoring" not in each["apiVersion"]
    }
    assert {(each["kind"], each["metadata"]["name"]): each for each in manifests} == by_name


@pytest.mark.slow  # reading the models of the Prometheus Operator takes two seconds
def test_the_example_is_valid_and_keeps_the_counters() -> None:
    assert refused(example()) == []
    assert faults(example()) == []


def test_the_example_changes_what_it_says() -> None:
    pod = one(example(), "StatefulSet")["spec"]["template"]["spec"]
    assert pod["containers"][0]["image"] == "registry.example.com/naught:0.1.0"
    assert pod["containers"][0]["resources"]["limits"] == {"memory": "1Gi"}
    config = server_config(example())
    assert (config.drain_timeout_ms, config.caches["orders"].max_counters) == (20_000, 5_000_000)
    assert {each["metadata"].get("namespace") for each in example()} == {"counters", None}
    assert one(example(), "ConfigMap")["metadata"]["name"] == "naught", "no hash, which would restart the pod"
    assert {"PrometheusRule", "ServiceMonitor"} <= {each["kind"] for each in example()}


# ------------------------------------------------------------------------------------------- what is refused

Change = Callable[[dict[str, Manifest]], object]


def pod(of: dict[str, Manifest]) -> Manifest:
    found: Manifest = of["StatefulSet"]["spec"]["template"]["spec"]
    return found


def container(of: dict[str, Manifest]) -> Manifest:
    found: Manifest = pod(of)["containers"][0]
    return found


# What is broken, how, and what is said of it. By the schemas of Kubernetes.
BROKEN: dict[str, tuple[Change, str]] = {
    "a misspelt field": (
        lambda of: of["StatefulSet"]["spec"].update(replica=1),
        "spec: Additional properties are not allowed ('replica' was unexpected)",
    ),
    "a misspelt field deep inside": (
        lambda of: container(of)["securityContext"].update(readOnlyRootFileSystem=True),
        "('readOnlyRootFileSystem' was unexpected)",
    ),
    "a text for a number": (
        lambda of: of["StatefulSet"]["spec"].update(replicas="1"),
        "spec.replicas: '1' is not of type 'integer'",
    ),
    "a number for a text": (
        lambda of: of["ConfigMap"]["data"].update({"naught.toml": 5}),
        "data.naught.toml: 5 is not of type 'string'",
    ),
    "a field of another kind": (
        lambda of: of["PodDisruptionBudget"]["spec"].update(replicas=1),
        "spec: Additional properties are not allowed ('replicas' was unexpected)",
    ),
    "a list for a table": (
        lambda of: pod(of).update(securityContext=[]),
        "spec.template.spec.securityContext: [] is not of type 'object'",
    ),
    "no selector": (lambda of: of["StatefulSet"]["spec"].pop("selector"), "'selector' is a required property"),
    "no such kind": (lambda of: of["StatefulSet"].update(kind="StatefulSets"), "no kind StatefulSets in apps/v1"),
    "no such version": (
        lambda of: of["PodDisruptionBudget"].update(apiVersion="policy/v1beta1"),
        "no kind PodDisruptionBudget in policy/v1beta1",
    ),
}

# By the models of the Prometheus Operator.
BROKEN_FOR_OPERATOR: dict[str, tuple[Change, str]] = {
    "a misspelt field": (
        lambda of: of["ServiceMonitor"]["spec"]["endpoints"][0].update(relabeling=[]),
        "spec.endpoints.0.relabeling: unknown field",
    ),
    "a number for a port's name": (
        lambda of: of["ServiceMonitor"]["spec"]["endpoints"][0].update(port=6481),
        "spec.endpoints.0.port: Input should be a valid string",
    ),
    "no duration": (
        lambda of: of["ServiceMonitor"]["spec"]["endpoints"][0].update(interval="soon"),
        "spec.endpoints.0.interval: String should match pattern",
    ),
    "an unknown action": (
        lambda of: of["ServiceMonitor"]["spec"]["endpoints"][0]["relabelings"][0].update(action="replce"),
        "spec.endpoints.0.relabelings.0.action: Input should be 'replace'",
    ),
    "no selector": (lambda of: of["ServiceMonitor"]["spec"].pop("selector"), "spec.selector: Field required"),
    "a misspelt field of a rule": (
        lambda of: of["PrometheusRule"]["spec"]["groups"][1]["rules"][0].update(labls={}),
        "spec.groups.1.rules.0.labls: unknown field",
    ),
    "a rule that waits no duration": (
        lambda of: of["PrometheusRule"]["spec"]["groups"][1]["rules"][0].update({"for": "soon"}),
        "spec.groups.1.rules.0.for: String should match pattern",
    ),
}

# Valid in Kubernetes, and wrong for naught.
FAULTY: dict[str, tuple[Change, str]] = {
    "three replicas": (lambda of: of["StatefulSet"]["spec"].update(replicas=3), "replicas is 3"),
    "a rolling update": (
        lambda of: of["StatefulSet"]["spec"].update(updateStrategy={"type": "RollingUpdate"}),
        "updateStrategy is not OnDelete",
    ),
    "a checksum of the file": (
        lambda of: of["StatefulSet"]["spec"]["template"]["metadata"].update(annotations={"checksum/config": "5"}),
        "the annotation checksum/config restarts the pod",
    ),
    "a grace period below the drain timeout": (
        lambda of: pod(of).update(terminationGracePeriodSeconds=9),
        "terminationGracePeriodSeconds is 9, and the drain timeout needs 15",
    ),
    "a drain timeout above the grace period": (
        lambda of: replace_in_file(of, "drain_timeout_ms = 10000", "drain_timeout_ms = 60000"),
        "terminationGracePeriodSeconds is 20, and the drain timeout needs 65",
    ),
    "an unknown setting": (
        lambda of: replace_in_file(of, "drain_timeout_ms", "drain_timout_ms"),
        "unknown key 'drain_timout_ms'; did you mean drain_timeout_ms?",
    ),
    "a setting out of range": (
        lambda of: replace_in_file(of, 'log_level = "info"', 'log_level = "loud"'),
        "log_level must be debug, info, warning or error, not 'loud'",
    ),
    "a file that is no TOML": (
        lambda of: of["ConfigMap"]["data"].update({"naught.toml": "port: 6480\n"}),
        "the server refuses its file",
    ),
    "a file that does not change": (
        lambda of: container(of)["volumeMounts"][0].update(subPath="naught.toml"),
        "/etc/naught is a subPath, which never changes",
    ),
    "root": (lambda of: pod(of)["securityContext"].update(runAsUser=0), "runAsUser is no number beyond 0"),
    "a root that can be written": (
        lambda of: container(of)["securityContext"].pop("readOnlyRootFilesystem"),
        "readOnlyRootFilesystem is None",
    ),
    "a token": (lambda of: pod(of).pop("automountServiceAccountToken"), "the pod gets a token"),
    "the latest image": (lambda of: container(of).update(image="naught"), "the image naught is not one version"),
    "no policy": (lambda of: of.pop("NetworkPolicy"), "no NetworkPolicy"),
    "a policy for other pods": (
        lambda of: of["NetworkPolicy"]["spec"]["podSelector"]["matchLabels"].update(tier="web"),
        "the NetworkPolicy naught does not select the pod",
    ),
    "a Deployment": (lambda of: of["StatefulSet"].update(kind="Deployment"), "Deployment instead of a StatefulSet"),
    "liveness that asks for readiness": (
        lambda of: container(of)["livenessProbe"]["httpGet"].update(path="/readyz"),
        "livenessProbe does not ask /livez",
    ),
}


def replace_in_file(of: dict[str, Manifest], old: str, new: str) -> None:
    data = of["ConfigMap"]["data"]
    assert old in data["naught.toml"]
    data["naught.toml"] = data["naught.toml"].replace(old, new)


def broken(change: Change) -> list[Manifest]:
    """The base with one change, which can change its manifests by their kind."""
    by_kind = {each["kind"]: each for each in copy.deepcopy(base())}
    headless = next(each for each in base() if each["metadata"]["name"].endswith("-headless"))
    change(by_kind)
    return [*by_kind.values(), headless]


def of_operator(manifests: list[Manifest]) -> list[Manifest]:
    return [each for each in manifests if "monitoring" in each["apiVersion"]]


@pytest.mark.slow
@pytest.mark.parametrize("case", BROKEN)
def test_a_broken_manifest_is_refused(case: str) -> None:
    change, says = BROKEN[case]
    manifests = broken(change)
    found = refused([each for each in manifests if each not in of_operator(manifests)])
    assert len(found) == 3, "by each version"
    assert all(says in each for each in found), found


@pytest.mark.slow
@pytest.mark.parametrize("case", BROKEN_FOR_OPERATOR)
def test_a_broken_custom_resource_is_refused(case: str) -> None:
    change, says = BROKEN_FOR_OPERATOR[case]
    (found,) = [each for manifest in of_operator(broken(change)) for each in refused_by_operator(manifest)]
    assert says in found


@pytest.mark.parametrize("case", FAULTY)
def test_what_would_lose_counters_is_found(case: str) -> None:
    change, says = FAULTY[case]
    found = faults(broken(change))
    assert [each for each in found if says in each], found
    assert faults(broken(lambda of: None)) == []


@pytest.mark.slow
@pytest.mark.parametrize("case", FAULTY)
def test_kubernetes_would_accept_it(case: str) -> None:
    change, _ = FAULTY[case]
    judged = [each for each in broken(change) if each["kind"] in ("StatefulSet", "ConfigMap", "NetworkPolicy")]
    assert refused(judged) == []


@pytest.mark.slow
def test_the_base_is_not_refused_before_it_is_broken() -> None:
    manifests = broken(lambda of: None)
    assert (refused(manifests), faults(manifests)) == ([], [])
