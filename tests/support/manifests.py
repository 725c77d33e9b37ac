"""What deploy/ gives to Kubernetes, as tests need it: rendered by helm and kustomize, and judged.

Three judges, each of which returns sentences, and none where all is well:

    refused_by(version, manifest)    the schemas of one version of Kubernetes, which refuse unknown fields too
    refused_by_operator(manifest)    the Prometheus Operator's models of its custom resources
    faults(manifests)                what is valid in Kubernetes, and would lose counters or open the server
"""

from __future__ import annotations

import importlib
import importlib.util
import os
import re
import subprocess
import sys
import tempfile
import tomllib
from collections.abc import Callable, Iterable, Sequence
from functools import cache
from pathlib import Path
from types import ModuleType
from typing import Any, Final

import pytest
import yaml  # type: ignore[import-untyped]

from naught_server.config import ConfigError, ServerConfig
from naught_server.loading import load
from support.alerting import DEPLOY, LOADER
from support.paths import ROOT

CHART: Final = DEPLOY / "helm" / "naught"
BASE: Final = DEPLOY / "kustomize" / "base"
OVERLAY: Final = DEPLOY / "kustomize" / "overlays" / "example"
MONITORING: Final = DEPLOY / "kustomize" / "components" / "monitoring"

VERSIONS: Final = ("1.33", "1.35", "1.37")
"""The versions of Kubernetes whose schemas judge."""
GROUP_OF_OPERATOR: Final = "monitoring.coreos.com/v1"
GRACE_MARGIN_S: Final = 5
"""How much longer than the drain timeout the pod must have: connections are cut after it, and the process ends."""

Manifest = dict[str, Any]


@cache
def load_tool(name: str) -> Any:
    """A module of tools/, which is no package."""
    spec = importlib.util.spec_from_file_location(name, ROOT / "tools" / f"{name}.py")
    assert spec is not None
    assert spec.loader is not None
    module = importlib.util.module_from_spec(spec)
    sys.modules[name] = module
    spec.loader.exec_module(module)
    return module


# ------------------------------------------------------------------------------------------- the programs


def program(name: str) -> str:
    """The path of helm or kubectl. Skips where tools/kubernetes_tools.py has not brought them, but fails in CI."""
    tools = load_tool("kubernetes_tools")
    if not tools.found():
        why = f"{name} is not in {tools.folder()}: python tools/kubernetes_tools.py brings it"
        if os.environ.get("CI") == "true":
            pytest.fail(why)
        pytest.skip(why)
    return str(tools.folder() / name)


def run(name: str, *arguments: str | Path, text: str = "") -> subprocess.CompletedProcess[str]:
    """A run of helm or kubectl, whatever its exit status is."""
    return subprocess.run(
        [program(name), *map(str, arguments)], input=text, capture_output=True, text=True, check=False, timeout=60
    )


def printed_by(name: str, *arguments: str | Path) -> str:
    """What helm or kubectl prints. It must end well, and complain of nothing."""
    done = run(name, *arguments)
    assert (done.returncode, done.stderr) == (0, ""), done.stderr
    return done.stdout


def parsed_manifests(text: str) -> list[Manifest]:
    """The manifests in a text of YAML."""
    return [each for each in yaml.load_all(text, LOADER) if each is not None]


def templated(*values: str, file: Path | None = None) -> list[Manifest]:
    """The chart with these values (`a.b=c`) and those of a file."""
    given: list[str | Path] = []
    for value in values:
        # Of `--set 0.5` helm makes a text.
        given += ["--set-json" if re.fullmatch(r".*=\d+\.\d+", value) else "--set", value]
    if file is not None:
        given += ["--values", file]
    return parsed_manifests(printed_by("helm", "template", "naught", CHART, *given))


def one(manifests: Iterable[Manifest], kind: str) -> Manifest:
    """The only manifest of a kind."""
    (found,) = [each for each in manifests if each["kind"] == kind]
    return found


# ------------------------------------------------------------------------------------------- the judges


@cache
def _validator() -> Any:
    """kubernetes_validate, which here reads each of its schemas once: some have a megabyte, and it keeps none."""
    import kubernetes_validate  # type: ignore[import-untyped]

    kubernetes_validate.utils.schema_contents = cache(kubernetes_validate.utils.schema_contents)
    return kubernetes_validate


def refused_by(version: str, manifest: Manifest) -> list[str]:
    """What the schemas of one version of Kubernetes say against a manifest."""
    kubernetes_validate = _validator()
    try:
        kubernetes_validate.validate(manifest, version, strict=True)
    except kubernetes_validate.ValidationError as error:
        return [f"{'.'.join(map(str, error.path))}: {error.message}"]
    except kubernetes_validate.SchemaNotFoundError:
        return [f"no kind {manifest.get('kind')} in {manifest.get('apiVersion')}"]
    return []


@cache
def _models() -> ModuleType:
    """The models of `GROUP_OF_OPERATOR`. Their package imports those of v1alpha1 too, which takes as long again."""
    package = "cloudcoil.models.prometheus_operator"
    unused = f"{package}.v1alpha1"
    sys.modules[unused] = ModuleType(unused)
    return importlib.import_module(f"{package}.v1")


def refused_by_operator(manifest: Manifest) -> list[str]:
    """What the models of the Prometheus Operator say against a custom resource.

    They ignore an unknown field, so what they have read is compared with what was there.
    """
    from pydantic import ValidationError

    try:
        read = getattr(_models(), manifest["kind"]).model_validate(manifest)
    except ValidationError as error:
        return [f"{'.'.join(map(str, each['loc']))}: {each['msg']}" for each in error.errors()]
    return list(_unread(manifest, read.model_dump(by_alias=True, exclude_none=True, mode="json"), ""))


def _unread(given: Any, read: Any, path: str) -> Iterable[str]:
    if isinstance(given, dict):
        for key, value in given.items():
            if not isinstance(read, dict) or key not in read:
                yield f"{path}{key}: unknown field"
            else:
                yield from _unread(value, read[key], f"{path}{key}.")
    elif isinstance(given, list):
        for number, (one_given, one_read) in enumerate(zip(given, read, strict=True)):
            yield from _unread(one_given, one_read, f"{path}{number}.")


def refused(manifests: Iterable[Manifest]) -> list[str]:
    """What any schema says against any of these manifests."""
    found: list[str] = []
    for manifest in manifests:
        if manifest.get("apiVersion") == GROUP_OF_OPERATOR:
            found += refused_by_operator(manifest)
        else:
            found += [each for version in VERSIONS for each in refused_by(version, manifest)]
    return found


def faults(manifests: Sequence[Manifest]) -> list[str]:
    """What is valid in Kubernetes, and wrong for a server that keeps its counters in memory."""
    sets = [each for each in manifests if each["kind"] == "StatefulSet"]
    found = [f"{each['kind']} instead of a StatefulSet" for each in manifests if each["kind"] == "Deployment"]
    if len(sets) != 1:
        return [*found, f"{len(sets)} StatefulSets"]
    (stateful,) = sets
    for check in _CHECKS:
        found += check(stateful, manifests)
    return found


def server_config(manifests: Iterable[Manifest]) -> ServerConfig:
    """What the server makes of the file in the ConfigMap, with something in the place of each secret. Raises
    ConfigError."""
    text = one(manifests, "ConfigMap")["data"]["naught.toml"]
    tomllib.loads(text)
    with tempfile.TemporaryDirectory() as folder:
        for name in re.findall(r'"/etc/naught-access/([^"]+)"', text):
            Path(folder, name).write_text("in the place of a secret")
        file = Path(folder, "naught.toml")
        file.write_text(text.replace("/etc/naught-access", folder))
        return load(["--config", str(file)], {}).config


def _pod_of(stateful: Manifest) -> dict[str, Any]:
    pod: dict[str, Any] = stateful["spec"]["template"]["spec"]
    return pod


def _restarts(stateful: Manifest, _: Sequence[Manifest]) -> Iterable[str]:
    spec = stateful["spec"]
    if spec.get("replicas") != 1:
        yield f"replicas is {spec.get('replicas')}: a second pod is another server"
    if spec.get("updateStrategy", {}).get("type") != "OnDelete":
        yield "updateStrategy is not OnDelete: a change of the template restarts the pod"
    annotations = spec["template"]["metadata"].get("annotations", {})
    yield from (f"the annotation {name} restarts the pod" for name in annotations if "checksum" in name)


def _times(stateful: Manifest, manifests: Sequence[Manifest]) -> Iterable[str]:
    try:
        config = server_config(manifests)
    except (ConfigError, tomllib.TOMLDecodeError) as error:
        yield f"the server refuses its file: {error}"
        return
    grace_s = _pod_of(stateful).get("terminationGracePeriodSeconds", 30)
    needed_s = config.drain_timeout_ms / 1_000 + GRACE_MARGIN_S
    if grace_s < needed_s:
        yield f"terminationGracePeriodSeconds is {grace_s}, and the drain timeout needs {needed_s:g}"


def _reach(stateful: Manifest, manifests: Sequence[Manifest]) -> Iterable[str]:
    """Services and policy select the pod, and there is a policy at all."""
    labels = stateful["spec"]["template"]["metadata"]["labels"]
    selectors: dict[str, Callable[[Any], Any]] = {
        "Service": lambda spec: spec["selector"],
        "NetworkPolicy": lambda spec: spec["podSelector"].get("matchLabels", {}),
        "PodDisruptionBudget": lambda spec: spec["selector"].get("matchLabels", {}),
        "StatefulSet": lambda spec: spec["selector"]["matchLabels"],
    }
    for kind, selector_of in selectors.items():
        of_kind = [each for each in manifests if each["kind"] == kind]
        if not of_kind:
            yield f"no {kind}"
        for each in of_kind:
            if not set(selector_of(each["spec"]).items()) <= set(labels.items()):
                yield f"the {kind} {each['metadata']['name']} does not select the pod"
    names = {each["metadata"]["name"] for each in manifests if each["kind"] == "Service"}
    if stateful["spec"]["serviceName"] not in names:
        yield f"no Service {stateful['spec']['serviceName']}"


def _rights(stateful: Manifest, _: Sequence[Manifest]) -> Iterable[str]:
    pod = _pod_of(stateful)
    (container,) = pod["containers"]
    rights = {**pod.get("securityContext", {}), **container.get("securityContext", {})}
    wanted = {
        "runAsNonRoot": True,
        "readOnlyRootFilesystem": True,
        "allowPrivilegeEscalation": False,
        "capabilities": {"drop": ["ALL"]},
        "seccompProfile": {"type": "RuntimeDefault"},
    }
    yield from (f"{name} is {rights.get(name)}" for name, value in wanted.items() if rights.get(name) != value)
    if not rights.get("runAsUser"):
        yield "runAsUser is no number beyond 0"
    if pod.get("automountServiceAccountToken") is not False:
        yield "the pod gets a token"
    if container["image"].rpartition(":")[2] in ("latest", container["image"]):
        yield f"the image {container['image']} is not one version"


def _mounts(stateful: Manifest, _: Sequence[Manifest]) -> Iterable[str]:
    (container,) = _pod_of(stateful)["containers"]
    yield from (
        f"{mount['mountPath']} is a subPath, which never changes"
        for mount in container["volumeMounts"]
        if "subPath" in mount
    )
    probes = {"startupProbe": "/livez", "livenessProbe": "/livez", "readinessProbe": "/readyz"}
    for name, path in probes.items():
        if container.get(name, {}).get("httpGet", {}).get("path") != path:
            yield f"{name} does not ask {path}"


_CHECKS: Final[tuple[Callable[[Manifest, Sequence[Manifest]], Iterable[str]], ...]] = (
    _restarts,
    _times,
    _reach,
    _rights,
    _mounts,
)
