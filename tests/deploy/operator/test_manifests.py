"""The operator's own manifests: the schema of the resource, and what is deployed."""

from __future__ import annotations

import json
from typing import Any

import pytest
import yaml

from naught_operator import objects, run
from naught_operator.names import GROUP, KIND, PLURAL, VERSION
from naught_operator.spec import SpecError, read_spec
from support.kubernetes import MANIFESTS, Invalid, documents, fitted, resource_schema
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
    from naught_operator.base import load
    from naught_operator.settings import to_toml
    from naught_operator.spec import read_resource

    body = {**stored, "metadata": {**stored["metadata"], "namespace": "counters"}}
    found = objects.desired(read_resource(body), spec, load(), "counters")
    assert run.check_config(to_toml(found.config)) is None


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
