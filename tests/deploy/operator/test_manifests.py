"""The operator's own manifests: the schema of the resource, and what is deployed."""

from __future__ import annotations

import json
import os
from pathlib import Path
from typing import Any

import pytest
import yaml  # type: ignore[import-untyped]

from naught_operator import objects, run
from naught_operator.access import to_be_checked
from naught_operator.base import load
from naught_operator.names import GROUP, KIND, PLURAL, VERSION
from naught_operator.settings import to_toml
from naught_operator.spec import SpecError, read_resource, read_spec
from support.kubernetes import MANIFESTS, Invalid, documents, fitted, resource_schema
from support.manifests import faults, parsed_manifests, printed_by, refused
from support.paths import ROOT

SCHEMA = resource_schema()
EXAMPLE = ROOT / "deploy" / "operator" / "example.yaml"


def resource(**spec: Any) -> dict[str, Any]:
    return {"apiVersion": f"{GROUP}/{VERSION}", "kind": KIND, "metadata": {"name": "orders"}, "spec": spec}


def test_the_definition_is_of_the_resource_that_the_operator_watches() -> None:
    (definition,) = documents(MANIFESTS / "crd.yaml")
    (version,) = definition["spec"]["versions"]
    assert definition["metadata"]["name"] == f"{PLURAL}.{GROUP}"
    assert definition["spec"]["names"]["kind"] == KIND
    assert version["name"] == VERSION
    assert version["subresources"] == {"status": {}}


def nodes(schema: Any, path: str = "") -> list[tuple[str, dict[str, Any]]]:
    """All schemas in a schema, with their places."""
    found = [(path, schema)]
    for key, each in schema.get("properties", {}).items():
        found += nodes(each, f"{path}.{key}")
    for key in ("items", "additionalProperties"):
        if key in schema:
            found += nodes(schema[key], f"{path}[{key}]")
    return found


@pytest.mark.parametrize(("path", "schema"), nodes(SCHEMA), ids=[path or "." for path, _ in nodes(SCHEMA)])
def test_the_schema_is_structural(path: str, schema: dict[str, Any]) -> None:
    """The API server refuses a definition whose schema is not: each place says its type, and allows further fields in
    one way at most. The bounds are what its estimate of a rule's cost needs."""
    free = schema.get("x-kubernetes-preserve-unknown-fields") or schema.get("x-kubernetes-int-or-string")
    assert "type" in schema or free
    assert not ("properties" in schema and "additionalProperties" in schema)
    if "additionalProperties" in schema and path.startswith(".spec"):
        assert "maxProperties" in schema
    assert not set(schema) & {"oneOf", "allOf", "not", "$ref", "deprecated", "const"}


def test_defaults_are_those_of_the_operator() -> None:
    spec = fitted(resource(), SCHEMA)["spec"]
    assert spec == {
        "replicas": 1,
        "port": 6480,
        "httpPort": 6481,
        "onDeviation": {"sweepBudgetMs": 5, "seconds": 600},
    }
    assert read_spec(spec) == read_spec({})


@pytest.mark.parametrize(
    "spec",
    [
        {"port": 0},
        {"port": "6480"},
        {"image": 3},
        {"caches": {"a": {"eviction": "never"}}},
        {"caches": {"a": {"shards": 0}}},
        {"caches": {"a": {"max_counters": 0}}},
        {"caches": {f"c{number}": {} for number in range(129)}},
        {"onDeviation": {"seconds": 3_601}},
        {"onDeviation": {"sweepBudgetMs": 11}},
        {"resources": {"limits": {"memory": []}}},
        {"access": {"users": {}, "operator": {"user": "a"}}},
        {
            "access": {
                "secretName": "a",
                "users": {"a": {"role": "king", "secretKey": "a"}},
                "operator": {"user": "a"},
            }
        },
    ],
    ids=str,
)
def test_the_schema_refuses_what_cannot_be(spec: dict[str, Any]) -> None:
    with pytest.raises(Invalid):
        fitted(resource(**spec), SCHEMA)


def test_the_example_fits_the_schema_the_operator_and_the_server() -> None:
    (example,) = documents(EXAMPLE)
    stored = fitted(example, SCHEMA)
    assert json.dumps(stored["spec"]["settings"]) == json.dumps(example["spec"]["settings"]), "nothing is lost"
    spec = read_spec(stored["spec"])
    body = {**stored, "metadata": {**stored["metadata"], "namespace": "counters"}}
    found = objects.desired(read_resource(body), spec, load(), "counters")
    assert run.check_config(to_toml(to_be_checked(found.config))) is None


def test_the_rules_of_the_schema_say_what_the_operator_says() -> None:
    """Their language is not interpreted here; what they refuse is refused by the operator too."""
    text = (MANIFESTS / "crd.yaml").read_text()
    for name in (
        "host",
        "port",
        "http_host",
        "http_port",
        "unix_socket",
        "ports_file",
        "watch_config",
        "caches",
        "rules",
        "users",
    ):
        assert f"!('{name}' in self)" in text
        with pytest.raises(SpecError):
            read_spec({"settings": {name: 1}})
    assert "rule: self == 1" in text
    assert "rule: self.port != self.httpPort" in text


def test_the_deployment_runs_what_the_operator_understands() -> None:
    deployment = next(each for each in documents(MANIFESTS / "operator.yaml") if each["kind"] == "Deployment")
    pod = deployment["spec"]["template"]
    (container,) = pod["spec"]["containers"]
    environment = {each["name"]: "counters" for each in container["env"]}
    options = run.parse(container["args"], environment)
    assert options.namespaces == ("counters",)
    assert options.own_namespace == "counters"
    assert options.peering == documents(MANIFESTS / "peering.yaml")[0]["metadata"]["name"]
    assert options.webhook_port == {port["name"]: port["containerPort"] for port in container["ports"]}["alerts"]
    assert options.liveness == "http://0.0.0.0:8080/healthz"
    # What the NetworkPolicy of each server lets in.
    assert objects.OPERATOR_LABELS.items() <= pod["metadata"]["labels"].items()


def test_the_kustomization_has_all_manifests() -> None:
    listed = yaml.safe_load((MANIFESTS / "kustomization.yaml").read_text())["resources"]
    assert sorted(listed) == sorted(
        path.name for path in MANIFESTS.glob("*.yaml") if path.name != "kustomization.yaml"
    )


def test_the_cluster_wide_overlay_changes_the_rule_of_the_peering() -> None:
    """It names the rule by its place."""
    overlay = yaml.safe_load((MANIFESTS.parent / "cluster-wide" / "kustomization.yaml").read_text())
    role = next(each for each in documents(MANIFESTS / "rbac.yaml") if each["kind"] == "Role")
    (patch,) = (each for each in overlay["patches"] if each["target"]["kind"] == "Role")
    (change,) = (each for each in yaml.safe_load(patch["patch"]) if each["path"] != "/kind")
    assert change["path"] == "/rules/8/resources"
    assert role["rules"][8]["resources"] == ["kopfpeerings"]
    assert change["value"] == ["clusterkopfpeerings"]


# ------------------------------------------------------------------------------------------- judged by others


@pytest.mark.parametrize("name", ["the example", "nothing said"])
def test_the_objects_of_a_resource_are_valid_and_lose_no_counters(name: str) -> None:
    """By the schemas of Kubernetes, and by the judge of the chart."""
    spec = documents(EXAMPLE)[0]["spec"] if name == "the example" else {}
    body = {"metadata": {"name": "orders", "namespace": "counters", "uid": "u"}, "spec": spec}
    found = list(objects.desired(read_resource(body), read_spec(spec), load(), "counters").objects)
    assert refused(found) == []
    assert faults(found) == []


def test_the_operators_manifests_are_valid() -> None:
    found = [each for path in sorted(MANIFESTS.glob("*.yaml")) for each in documents(path)]
    known = [each for each in found if each["kind"] not in ("Kustomization", "KopfPeering")]
    assert len(known) == 10
    assert refused(known) == []


def test_a_definition_that_is_wrong_is_refused() -> None:
    (definition,) = documents(MANIFESTS / "crd.yaml")
    definition["spec"]["versions"][0]["schema"]["openAPIV3Schema"]["propertys"] = {}
    assert refused([definition])


def kinds(rendered: str) -> dict[str, list[dict[str, Any]]]:
    found: dict[str, list[dict[str, Any]]] = {}
    for each in parsed_manifests(rendered):
        found.setdefault(each["kind"], []).append(each)
    return found


@pytest.mark.slow
def test_the_cluster_wide_overlay_has_the_same_rights_everywhere() -> None:
    within = kinds(printed_by("kubectl", "kustomize", MANIFESTS))
    everywhere = kinds(printed_by("kubectl", "kustomize", MANIFESTS.parent / "cluster-wide"))
    assert set(everywhere) == set(within) - {"Role", "RoleBinding", "KopfPeering"} | {
        "ClusterRole",
        "ClusterRoleBinding",
        "ClusterKopfPeering",
    }
    (one,), (all_of_them,) = within["Role"], everywhere["ClusterRole"]
    differing = [pair for pair in zip(one["rules"], all_of_them["rules"], strict=True) if pair[0] != pair[1]]
    assert [pair[1]["resources"] for pair in differing] == [["clusterkopfpeerings"]]
    (binding,) = everywhere["ClusterRoleBinding"]
    assert binding["roleRef"]["kind"] == "ClusterRole"
    assert binding["subjects"][0]["namespace"] == "naught-operator"
    assert "namespace" not in all_of_them["metadata"]
    (deployment,) = everywhere["Deployment"]
    (container,) = deployment["spec"]["template"]["spec"]["containers"]
    environment = {each["name"]: each.get("value", "naught-operator") for each in container["env"]}
    options = run.parse(container["args"], environment)
    assert options.namespaces == ()
    assert options.own_namespace == "naught-operator"
    assert (
        refused(each for kind in everywhere.values() for each in kind if each["kind"] != "ClusterKopfPeering") == []
    )


@pytest.mark.slow
def test_the_component_makes_the_webhook_ask_for_a_token(tmp_path: Path) -> None:
    (tmp_path / "deploy").symlink_to(ROOT / "deploy")
    (tmp_path / "kustomization.yaml").write_text(
        "apiVersion: kustomize.config.k8s.io/v1beta1\nkind: Kustomization\n"
        f"resources: [{os.path.relpath(MANIFESTS, tmp_path)}]\n"
        f"components: [{os.path.relpath(MANIFESTS.parent / 'webhook-token', tmp_path)}]\n"
    )
    found = kinds(printed_by("kubectl", "kustomize", tmp_path, "--load-restrictor", "LoadRestrictionsNone"))
    (deployment,) = found["Deployment"]
    pod = deployment["spec"]["template"]["spec"]
    (container,) = pod["containers"]
    options = run.parse(container["args"], {"NAUGHT_OPERATOR_NAMESPACES": "a"})
    mounts = {each["mountPath"]: each["name"] for each in container["volumeMounts"]}
    assert options.webhook_token_file is not None
    name = mounts[str(options.webhook_token_file.parent)]
    (volume,) = [each for each in pod["volumes"] if each["name"] == name]
    assert volume["secret"]["secretName"] == "naught-operator-webhook"
    assert refused([deployment]) == []
