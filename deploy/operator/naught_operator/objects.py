"""The objects of a cluster that a resource becomes: the manifests of `base.py`, and in them what the resource says.
Pure.

Every object has the resource's name in the place of the manifests' (`naught-headless` becomes `orders-headless`), its
label, and the resource as its owner, so that the garbage collector of Kubernetes removes it after the resource.

The template of the pod has two annotations, which its pods inherit. A digest of the template says whether a pod is as
it should be. The settings the file had when the template was written say what the server was started with. A setting
that changes live changes neither, so it never touches the template. `terminationGracePeriodSeconds` follows the drain
timeout, which is such a setting; so it is not in the digest, and changes with the next restart.
"""

from __future__ import annotations

import copy
import math
import tomllib
from collections.abc import Iterator, Mapping
from dataclasses import dataclass
from typing import Any, Final

from naught_operator.access import FOLDER
from naught_operator.base import CONFIG_FILE, Base
from naught_operator.compare import digest
from naught_operator.names import API_VERSION, KIND, OBJECT, OWNER_LABEL, STARTED_WITH, TEMPLATE
from naught_operator.settings import by_name, configuration, encode_started_with, to_toml
from naught_operator.spec import Resource, Spec

INSTANCE: Final = "app.kubernetes.io/instance"
CONTAINER: Final = "naught"
"""The name of the server's container in the manifests."""

ACCESS: Final = "access"
"""The volume with the Secret of the users, as in the chart."""

DRAIN: Final = "drain_timeout_ms"
GRACE_S: Final = 10
"""How much longer the grace period is than the drain timeout."""

OPERATOR_LABELS: Final = {"app.kubernetes.io/name": "naught-operator"}
"""The labels of the operator's own pod (`manifests/operator.yaml`), which the server's NetworkPolicy lets in."""


@dataclass(frozen=True)
class Desired:
    """What a resource becomes."""

    config: Mapping[str, Any]
    """The server's file, as tables."""
    settings: Mapping[str, Any]
    """Its settings by name."""
    objects: tuple[dict[str, Any], ...]

    def one(self, kind: str) -> dict[str, Any]:
        """The only object of a kind."""
        (found,) = (each for each in self.objects if each["kind"] == kind)
        return found

    @property
    def template(self) -> dict[str, Any]:
        """The template of the pod."""
        template: dict[str, Any] = self.one("StatefulSet")["spec"]["template"]
        return template


def desired(resource: Resource, spec: Spec, base: Base, operator_namespace: str) -> Desired:
    """All objects of a resource."""
    config = configuration(tomllib.loads(base.one("ConfigMap")["data"][CONFIG_FILE]), spec)
    settings = by_name(config)
    objects = [_named(each, base.name, resource) for each in base.objects]
    for each in objects:
        match each["kind"]:
            case "ConfigMap":
                each["data"] = {CONFIG_FILE: to_toml(config)}
            case "Service":
                _set_ports(each["spec"]["ports"], "port", spec)
            case "NetworkPolicy":
                each["spec"]["ingress"].append(_operator_may_connect(operator_namespace))
            case "StatefulSet":
                _finish_template(each["spec"]["template"], spec, settings)
    for each in objects:
        if each["kind"] == "StatefulSet":  # its template has a digest of its own
            continue
        each["metadata"]["annotations"] = {
            **each["metadata"].get("annotations", {}),
            OBJECT: digest({key: value for key, value in each.items() if key != "metadata"}),
        }
    return Desired(config, settings, tuple(objects))


def _named(manifest: Mapping[str, Any], old: str, resource: Resource) -> dict[str, Any]:
    """A copy of a manifest that belongs to the resource."""
    found = copy.deepcopy(dict(manifest))
    names = {old: resource.name, f"{old}-headless": f"{resource.name}-headless"}
    for each in _walk(found):
        if INSTANCE in each:
            each[INSTANCE] = resource.name
        if isinstance(each.get("configMap"), dict):
            each["configMap"]["name"] = names[each["configMap"]["name"]]
        if "serviceName" in each:
            each["serviceName"] = names[each["serviceName"]]
        each.pop("serviceAccountName", None)
    meta = found["metadata"]
    meta["name"] = names[meta["name"]]
    meta["namespace"] = resource.namespace
    meta["labels"] = {**meta.get("labels", {}), OWNER_LABEL: resource.name}
    meta["ownerReferences"] = [
        {"apiVersion": API_VERSION, "kind": KIND, "name": resource.name, "uid": resource.uid, "controller": True}
    ]
    return found


def _walk(value: Any) -> Iterator[dict[str, Any]]:
    """All mappings in a value, whole ones before their parts."""
    if isinstance(value, dict):
        yield value
        value = list(value.values())
    if isinstance(value, list):
        for each in value:
            yield from _walk(each)


def _set_ports(ports: list[dict[str, Any]], key: str, spec: Spec) -> None:
    for port in ports:
        port[key] = {"counters": spec.port, "http": spec.http_port}[port["name"]]


def _operator_may_connect(namespace: str) -> dict[str, Any]:
    return {
        "from": [
            {
                "namespaceSelector": {"matchLabels": {"kubernetes.io/metadata.name": namespace}},
                "podSelector": {"matchLabels": dict(OPERATOR_LABELS)},
            }
        ],
        "ports": [{"port": "counters", "protocol": "TCP"}],
    }


def _finish_template(template: dict[str, Any], spec: Spec, settings: Mapping[str, Any]) -> None:
    """Put what the resource says into the template of the pod, and then its annotations."""
    container = server_container(template)
    if spec.image is not None:
        container["image"] = spec.image
    if spec.resources:
        container["resources"] = copy.deepcopy(dict(spec.resources))
    _set_ports(container["ports"], "containerPort", spec)
    pod = template["spec"]
    if spec.access is not None:
        mount = {"name": ACCESS, "mountPath": FOLDER, "readOnly": True}
        volume = {"name": ACCESS, "secret": {"secretName": spec.access.secret, "defaultMode": 0o440}}
        container["volumeMounts"] = [*container.get("volumeMounts", []), mount]
        pod["volumes"] = [*pod.get("volumes", []), volume]
    before = pod.get("terminationGracePeriodSeconds", 30)
    annotations = {
        **template["metadata"].get("annotations", {}),
        # Without the grace period; see above.
        TEMPLATE: digest({**template, "spec": {**pod, "terminationGracePeriodSeconds": None}}),
        STARTED_WITH: encode_started_with(settings),
    }
    template["metadata"]["annotations"] = annotations
    drain_ms = settings.get(DRAIN, 0)
    if type(drain_ms) is int:
        pod["terminationGracePeriodSeconds"] = max(before, math.ceil(drain_ms / 1000) + GRACE_S)


def server_container(template: Mapping[str, Any]) -> dict[str, Any]:
    """The server's container in a template or a pod."""
    return next(each for each in template["spec"]["containers"] if each["name"] == CONTAINER)
