"""A cluster for the operator's tests: kmock's API server, made stricter, and real naught-servers as its pods.

`ApiServer` adds to kmock what the operator relies on in a real API: versions and generations, a status that only its
own address changes, the schema of our resource with its defaults and pruning, preconditions of a deletion, and
rights. A request that the Role in `deploy/operator/manifests/rbac.yaml` does not allow is answered 403, as a cluster
would, and every request that is allowed is kept with its verb.

`Nodes` does what the controller of StatefulSets and the kubelet do: where a StatefulSet has no pod it makes one from
its template, with a process of `naught-server` that reads the file of the ConfigMap.
"""

from __future__ import annotations

import asyncio
import base64
import contextlib
import copy
import functools
import itertools
import shutil
import threading
import time
from collections.abc import AsyncIterator, Callable, Mapping
from pathlib import Path
from typing import Any, NamedTuple

import jsonpatch
import kmock
import kopf
import trustme
import yaml  # type: ignore[import-untyped]
from kmock._internal import k8s, rendering

from naught_operator import run
from naught_operator.access import FOLDER
from naught_operator.names import GROUP, KIND, PLURAL, VERSION
from support.alerting import LOADER
from support.paths import ROOT
from support.server_process import ServerProcess

MANIFESTS = ROOT / "deploy" / "operator" / "manifests"
NAMESPACE = "counters"
PEERING = "naught-operator"
DEADLINE_S = 30.0

CACHES = f"{GROUP}/{VERSION}/{PLURAL}"
PEERINGS = "kopf.dev/v1/kopfpeerings"

RESOURCES = {
    CACHES: (KIND, ["status"]),
    PEERINGS: ("KopfPeering", []),
    "v1/configmaps": ("ConfigMap", []),
    "v1/services": ("Service", []),
    "v1/pods": ("Pod", []),
    "v1/events": ("Event", []),
    "v1/secrets": ("Secret", []),
    # kopf waits until it knows this one, though it does not list namespaces.
    "v1/namespaces": ("Namespace", []),
    "apps/v1/statefulsets": ("StatefulSet", []),
    "policy/v1/poddisruptionbudgets": ("PodDisruptionBudget", []),
    "networking.k8s.io/v1/networkpolicies": ("NetworkPolicy", []),
    "apiextensions.k8s.io/v1/customresourcedefinitions": ("CustomResourceDefinition", []),
}

ADMIN = "X-Admin"
"""The header of requests by the tests themselves, which may do everything."""

VERBS = {"fetch": "get", "list": "list", "watch": "watch", "create": "create", "update": "patch", "delete": "delete"}


class Right(NamedTuple):
    """What a request needs to be allowed."""

    group: str
    resource: str
    verb: str


def rights_of(rules: list[Mapping[str, Any]]) -> set[Right]:
    """All that the rules of a Role allow."""
    return {
        Right(*each)
        for rule in rules
        for each in itertools.product(rule["apiGroups"], rule["resources"], rule["verbs"])
    }


def documents(path: Path) -> list[dict[str, Any]]:
    """The manifests in a file."""
    return [each for each in yaml.load_all(path.read_text("utf-8"), LOADER) if each]


@functools.cache
def role() -> dict[str, Any]:
    """The operator's Role."""
    return next(each for each in documents(MANIFESTS / "rbac.yaml") if each["kind"] == "Role")


@functools.cache
def resource_schema() -> dict[str, Any]:
    """The schema of a CounterCache."""
    (definition,) = documents(MANIFESTS / "crd.yaml")
    schema: dict[str, Any] = definition["spec"]["versions"][0]["schema"]["openAPIV3Schema"]
    return schema


class Invalid(Exception):
    """An object does not fit the schema."""


def fitted(value: Any, schema: Mapping[str, Any], path: str = "") -> Any:
    """A value as an API server would store it: defaults put in, unknown fields taken out. Raises Invalid."""
    if schema.get("x-kubernetes-preserve-unknown-fields") and "type" not in schema:
        return value
    if schema.get("x-kubernetes-int-or-string"):
        if not isinstance(value, int | str):
            raise Invalid(f"{path}: an integer or a string, not {value!r}")
        return value
    kinds: dict[str, Any] = {"object": dict, "array": list, "string": str, "integer": int, "number": (int, float)}
    kind = schema["type"]
    if not isinstance(value, kinds.get(kind, bool)) or (isinstance(value, bool) and kind != "boolean"):
        raise Invalid(f"{path}: {kind}, not {value!r}")
    if "enum" in schema and value not in schema["enum"]:
        raise Invalid(f"{path}: {value!r} is none of {schema['enum']}")
    if value < schema["minimum"] if "minimum" in schema else False:
        raise Invalid(f"{path}: {value!r} is less than {schema['minimum']}")
    if value > schema["maximum"] if "maximum" in schema else False:
        raise Invalid(f"{path}: {value!r} is more than {schema['maximum']}")
    if kind == "array":
        return [fitted(each, schema["items"], f"{path}[{place}]") for place, each in enumerate(value)]
    if kind != "object" or path == ".metadata":
        return value
    return _fitted_object(value, schema, path)


def _fitted_object(value: Mapping[str, Any], schema: Mapping[str, Any], path: str) -> dict[str, Any]:
    known = schema.get("properties", {})
    given = {**{key: copy.deepcopy(each["default"]) for key, each in known.items() if "default" in each}, **value}
    for key in schema.get("required", []):
        if key not in given:
            raise Invalid(f"{path}: {key} is missing")
    if len(given) > schema.get("maxProperties", len(given)):
        raise Invalid(f"{path}: at most {schema['maxProperties']} properties")
    found: dict[str, Any] = {}
    for key, each in given.items():
        if key in known:
            found[key] = fitted(each, known[key], f"{path}.{key}")
        elif "additionalProperties" in schema:
            found[key] = fitted(each, schema["additionalProperties"], f"{path}.{key}")
        elif schema.get("x-kubernetes-preserve-unknown-fields"):
            found[key] = each
    return found


class ApiServer(k8s.KubernetesEmulator):
    """kmock, with more of what a real API server does."""

    allowed: set[Right]
    used: set[Right]
    """What was asked for and allowed."""
    refused: list[Right]
    """What was asked for and not allowed."""
    writers: dict[str, int]
    """How many requests that change something came with each bearer token."""
    changed: asyncio.Event
    """Set after each request that has changed something."""

    def __attrs_post_init__(self) -> None:
        super().__attrs_post_init__()
        self.allowed, self.used, self.refused = rights_of(role()["rules"]), set(), []
        self.writers = {}
        self.changed = asyncio.Event()
        self._versions = itertools.count(1)
        self._schema = resource_schema()
        for name, (kind, subresources) in RESOURCES.items():
            self.resources[name] = {
                "namespaced": kind not in ("Namespace", "CustomResourceDefinition"),
                "kind": kind,
                "singular": kind.lower(),
                "verbs": ["get", "list", "watch", "create", "patch", "delete"],
                "shortnames": [],
                "categories": [],
                "subresources": subresources,
            }

    async def _handle(self, request: rendering.Request) -> Any:
        if request.resource is not None and request.action is not None and request.resource.plural is not None:
            if ADMIN not in request.headers:
                self._authorize(request)
            match request.action.name.lower():
                case "create":
                    self._complete_new(request)
                case "update":
                    self._complete_change(request)
                case "delete":
                    self._check_preconditions(request)
        try:
            return await super()._handle(request)
        finally:
            if request.method.name.lower() != "get":
                self.changed.set()
            # kmock keeps all requests for the test, and looks through them at each new one.
            self._requests[:] = [each for each in self._requests if each is not request]

    def _authorize(self, request: rendering.Request) -> None:
        assert request.resource is not None
        assert request.action is not None
        name = f"{request.resource.plural}/{request.subresource or ''}".rstrip("/")
        right = Right(str(request.resource.group), name, VERBS[request.action.name.lower()])
        if right not in self.allowed:
            self.refused.append(right)
            raise k8s.KubernetesError(status=403, reason="Forbidden", message=f"{right} is not allowed")
        self.used.add(right)
        token = request.headers.get("Authorization", "").removeprefix("Bearer ")
        # Replicas that do not lead still keep their line in the peering.
        if request.method.name.lower() != "get" and right.resource not in ("kopfpeerings", "events"):
            self.writers[token] = self.writers.get(token, 0) + 1

    def _complete_new(self, request: rendering.Request) -> None:
        body = request.data
        number = next(self._versions)
        meta = body["metadata"]
        meta.setdefault("name", f"{meta.get('generateName', '')}{number}")
        meta.update(uid=f"uid-{number}", generation=1, resourceVersion=str(number))
        meta.setdefault("namespace", request.namespace)

    def _complete_change(self, request: rendering.Request) -> None:
        """What an API server does with a patch before it stores the result."""
        old = self._stored(request)
        if old is None:
            return
        version = str(next(self._versions))
        if isinstance(request.data, list):  # a JSON patch, which kopf uses for finalizers
            try:
                jsonpatch.apply_patch(old, request.data)
            except jsonpatch.JsonPatchTestFailed as error:
                raise k8s.KubernetesError(status=422, reason="Invalid", message=str(error)) from None
            request.data.append({"op": "add", "path": "/metadata/resourceVersion", "value": version})
            return
        patch = request.data
        asked = patch.get("metadata", {}).get("resourceVersion")
        if asked is not None and asked != old["metadata"].get("resourceVersion"):
            raise k8s.KubernetesError(status=409, reason="Conflict", message="the object has been modified")
        if request.resource == kmock.resource(CACHES):
            if request.subresource == "status":
                for word in [word for word in patch if word != "status"]:
                    del patch[word]
            else:
                patch.pop("status", None)
            self._check(kmock.Object(old), patch)
        meta = patch.setdefault("metadata", {})
        meta["resourceVersion"] = version
        if "spec" in patch:
            meta["generation"] = old["metadata"].get("generation", 0) + 1

    def _check(self, old: Any, patch: Mapping[str, Any]) -> None:
        """Refuse what the schema refuses. A field that it does not know would be lost silently: refuse it too."""
        old.patch(patch)
        whole = old.raw
        try:
            stored = fitted(whole, self._schema)
        except Invalid as error:
            raise k8s.KubernetesError(status=422, reason="Invalid", message=str(error)) from None
        if stored.get("status") != whole.get("status"):
            raise k8s.KubernetesError(status=422, reason="Invalid", message="the status has fields that are not kept")

    def _check_preconditions(self, request: rendering.Request) -> None:
        wanted = ((request.data or {}).get("preconditions") or {}).get("uid")
        found = self._stored(request)
        if wanted is not None and found is not None and found["metadata"]["uid"] != wanted:
            raise k8s.KubernetesError(status=409, reason="Conflict", message=f"the uid is not {wanted}")

    def _stored(self, request: rendering.Request) -> dict[str, Any] | None:
        """The object that a request names; None where there is none."""
        assert request.resource is not None
        assert request.name is not None
        key = (request.resource, request.namespace, request.name)
        if key not in self.objects or self.objects[key].deleted:
            return None
        found: dict[str, Any] = self.objects[key].raw
        return found


class Cluster:
    """The API server, as tests use it: as somebody who may do everything."""

    def __init__(self, api: ApiServer, server: kmock.Server, folder: Path) -> None:
        self.api = api
        self.url = str(server.url).rstrip("/")
        self.nodes = Nodes(self, folder)
        self._server = server

    def find(self, resource: str, name: str) -> dict[str, Any] | None:
        """An object as it is stored; None where there is none."""
        key = (kmock.resource(resource), NAMESPACE, name)
        if key not in self.api.objects or self.api.objects[key].deleted:
            return None
        found: dict[str, Any] = self.api.objects[key].raw
        return found

    def get(self, resource: str, name: str) -> dict[str, Any]:
        """An object that is there."""
        found = self.find(resource, name)
        assert found is not None, f"there is no {resource} {name}"
        return found

    async def send(self, method: str, resource: str, name: str | None, body: Any = None) -> None:
        """A request of somebody who may do everything, which is not counted as the operator's."""
        group, _, rest = f"/{resource}".rpartition("/")[0].lstrip("/").rpartition("/")
        prefix = f"apis/{group}/{rest}" if group else f"api/{rest}"
        plural = resource.rpartition("/")[2]
        path = f"/{prefix}/namespaces/{NAMESPACE}/{plural}" + (f"/{name}" if name else "")
        async with self._server.client.request(method, path, json=body, headers={ADMIN: "1"}) as response:
            answer = await response.text()
        assert response.status < 400, answer

    async def create(self, name: str = "orders", **spec: Any) -> None:
        """Create a resource."""
        body = {"apiVersion": f"{GROUP}/{VERSION}", "kind": KIND, "metadata": {"name": name}, "spec": spec}
        await self.send("POST", CACHES, None, fitted(body, self.api._schema))

    async def change(self, name: str = "orders", **spec: Any) -> None:
        """Change a resource's spec."""
        await self.send("PATCH", CACHES, name, {"spec": spec})

    async def annotate(self, name: str = "orders", **annotations: str) -> None:
        """Annotate a resource; `allow_loss="1"` is `naught.dev/allow-loss: "1"`."""
        named = {f"{GROUP}/{key.replace('_', '-')}": value for key, value in annotations.items()}
        await self.send("PATCH", CACHES, name, {"metadata": {"annotations": named}})

    def resource(self, name: str = "orders") -> dict[str, Any]:
        """A resource as it is stored."""
        return self.get(CACHES, name)

    def status(self, name: str = "orders") -> dict[str, Any]:
        """Its status so far."""
        found: dict[str, Any] = self.resource(name).get("status") or {}
        return found

    def condition(self, kind: str, name: str = "orders") -> tuple[str, str]:
        """The status and the reason of a condition."""
        for each in self.status(name).get("conditions", []):
            if each["type"] == kind:
                return each["status"], each["reason"]
        return "", ""

    def events(self) -> list[str]:
        """The reasons of all events so far."""
        return [
            obj["reason"]
            for (resource, _, _), obj in self.api.objects.items()
            if resource == kmock.resource("v1/events") and not obj.deleted
        ]


async def until(happened: Callable[[], Any], what: str) -> None:
    """Wait until `happened` returns something true. Raises AssertionError after the deadline."""
    end = time.monotonic() + DEADLINE_S
    while not happened():
        assert time.monotonic() < end, f"in {DEADLINE_S} s it did not happen that {what}"
        await asyncio.sleep(0.01)


class Nodes:
    """Makes the pods that StatefulSets want, and ends those that were deleted."""

    def __init__(self, cluster: Cluster, folder: Path) -> None:
        self._cluster = cluster
        self._folder = folder
        self._numbers = itertools.count(1)
        self._files: dict[str, Path] = {}  # by resource: the file that its server reads
        self._secrets: dict[str, Path] = {}  # by resource: the folder with the Secret of its users
        self._running: dict[str, tuple[str, ServerProcess]] = {}  # by pod: its uid, and its process
        self.blind = False  # while true, the controller does not see that a template has changed

    def server(self, name: str = "orders") -> ServerProcess:
        """The process of a resource's pod."""
        return self._running[f"{name}-0"][1]

    async def run(self) -> None:
        """Do so until cancelled."""
        changed = self._cluster.api.changed
        try:
            while True:
                changed.clear()
                await self._step()
                await changed.wait()
        finally:
            for _, process in self._running.values():
                process.kill()

    async def _step(self) -> None:
        for pod, (uid, process) in list(self._running.items()):
            found = self._cluster.find("v1/pods", pod)
            if found is None or found["metadata"]["uid"] != uid:
                await asyncio.to_thread(process.stop)
                del self._running[pod]
        for (resource, namespace, name), obj in list(self._cluster.api.objects.items()):
            wanted = resource == kmock.resource("apps/v1/statefulsets") and not obj.deleted
            seen = {"observedGeneration": obj["metadata"]["generation"]} if wanted else None
            if wanted and obj.get("status") != seen and not self.blind:
                await self._cluster.send("PATCH", "apps/v1/statefulsets", name, {"status": seen})
            if wanted and namespace == NAMESPACE and f"{name}-0" not in self._running:
                await self._start(name, obj.raw)
        self._write_files()

    async def _start(self, name: str, stateful_set: Mapping[str, Any]) -> None:
        template = copy.deepcopy(stateful_set["spec"]["template"])
        process = await asyncio.to_thread(self._start_process, name)
        container = template["spec"]["containers"][0]
        _set_port(container, process.port)
        state = {"name": container["name"], "restartCount": 0, "state": {"running": {}}}
        body = {
            "metadata": {"name": f"{name}-0", **template["metadata"]},
            "spec": template["spec"],
            "status": {"podIP": "127.0.0.1", "containerStatuses": [state]},
        }
        await self._cluster.send("POST", "v1/pods", None, body)
        self._running[f"{name}-0"] = (self._cluster.get("v1/pods", f"{name}-0")["metadata"]["uid"], process)

    def _start_process(self, name: str) -> ServerProcess:
        folder = self._folder / f"{name}-{next(self._numbers)}"
        folder.mkdir()
        text = self._cluster.get("v1/configmaps", name)["data"]["naught.toml"]
        file = self._files[name] = folder / "config" / "naught.toml"
        file.parent.mkdir()
        self._secrets[name] = folder / "access"
        self._write_secrets(name)
        self._write_file(file, self._with_folder(name, text))
        return ServerProcess(folder, "--config", str(file))

    def _write_files(self) -> None:
        """Write what has changed of the ConfigMaps into the pods, as the kubelet does a minute later."""
        for name, file in self._files.items():
            config = self._cluster.find("v1/configmaps", name)
            text = None if config is None else self._with_folder(name, config["data"]["naught.toml"])
            self._write_secrets(name)
            if text is not None and text != file.read_text():
                self._write_file(file, text)

    def _with_folder(self, name: str, text: str) -> str:
        """A file of a server whose Secret is in a folder of the test."""
        return text.replace(FOLDER, str(self._secrets[name]))

    def _write_secrets(self, name: str) -> None:
        """The volume with a Secret, where the pod has one."""
        volumes = self._cluster.get("apps/v1/statefulsets", name)["spec"]["template"]["spec"]["volumes"]
        for volume in volumes:
            found = self._cluster.find("v1/secrets", volume["secret"]["secretName"]) if "secret" in volume else None
            for key, data in ({} if found is None else found["data"]).items():
                file = self._secrets[name] / key
                file.parent.mkdir(exist_ok=True)
                if not file.exists() or file.read_bytes() != base64.b64decode(data):
                    file.write_bytes(base64.b64decode(data))

    def _write_file(self, file: Path, text: str) -> None:
        """A volume of a ConfigMap: each file is a link through one link, `..data`, and that one is moved."""
        version = file.parent / f"..{next(self._numbers)}"
        version.mkdir()
        (version / file.name).write_text(text)
        moved = file.parent / "..new"
        moved.symlink_to(version.name)
        moved.replace(file.parent / "..data")
        if not file.is_symlink():
            file.symlink_to(f"..data/{file.name}")

    def kill(self, name: str = "orders") -> None:
        """End the server's process without a word. Its pod goes on saying that it runs."""
        self.server(name).kill()

    async def restart_container(self, name: str = "orders") -> None:
        """Start the server's process again in the same pod, at another port."""
        pod = f"{name}-0"
        uid, process = self._running[pod]
        process.kill()
        new = await asyncio.to_thread(self._start_process, name)
        self._running[pod] = (uid, new)
        body = copy.deepcopy(self._cluster.get("v1/pods", pod))
        _set_port(body["spec"]["containers"][0], new.port)
        body["status"]["containerStatuses"][0]["restartCount"] += 1
        patch = {"spec": {"containers": body["spec"]["containers"]}, "status": body["status"]}
        await self._cluster.send("PATCH", "v1/pods", pod, patch)


def _set_port(container: Mapping[str, Any], port: int) -> None:
    """The port of the process: many servers have one address here."""
    for each in container["ports"]:
        if each["name"] == "counters":
            each["containerPort"] = port


@contextlib.asynccontextmanager
async def cluster_in(folder: Path) -> AsyncIterator[Cluster]:
    """A cluster without an operator."""
    async with ApiServer() as api, kmock.Server(api) as server:
        cluster = Cluster(api, server, folder)
        api.objects[PEERINGS, NAMESPACE, PEERING] = {
            "metadata": {"name": PEERING, "namespace": NAMESPACE, "resourceVersion": "0"}
        }
        nodes = asyncio.create_task(cluster.nodes.run())
        try:
            yield cluster
        finally:
            nodes.cancel()
            with contextlib.suppress(asyncio.CancelledError):
                await nodes
            shutil.rmtree(folder, ignore_errors=True)


@functools.cache
def _authority() -> bytes:
    return base64.b64encode(trustme.CA().cert_pem.bytes())


class Operator:
    """An operator in a thread with an event loop of its own: kopf ends every task that began after it did."""

    def __init__(self, cluster: Cluster, *arguments: str, token: str = "one") -> None:
        options = run.parse(
            [
                *("--namespace", NAMESPACE, "--own-namespace", NAMESPACE, "--interval", "0.2", "--retry", "0.2"),
                *("--peering", PEERING, "--webhook-port", "off", *arguments),
            ],
            {},
        )
        url = cluster.url
        # Without an authority of its own it would load all those of the system, for an address that needs none.
        info = kopf.ConnectionInfo(server=url, token=token, ca_data=_authority())
        self.arguments = run.build(options, login=lambda: info)
        self._stop = threading.Event()
        self._thread = threading.Thread(target=self._run, daemon=True)
        self._fault: BaseException | None = None  # what it has ended with

    def _run(self) -> None:
        try:
            kopf.run(**self.arguments, stop_flag=self._stop)
        except BaseException as fault:
            self._fault = fault

    def start(self) -> None:
        """Start it."""
        self._thread.start()

    def ask_to_stop(self) -> None:
        """Have it end soon, as a signal would."""
        self._stop.set()

    async def stop(self) -> None:
        """Stop it, and wait until it has ended. Raises what it has failed with."""
        self.ask_to_stop()
        await asyncio.to_thread(self._thread.join, DEADLINE_S)  # the API server must answer meanwhile
        assert not self._thread.is_alive(), "the operator does not end"
        if self._fault is not None:
            raise self._fault


@contextlib.asynccontextmanager
async def operator(cluster: Cluster, *arguments: str, token: str = "one") -> AsyncIterator[Operator]:
    """An operator that runs inside `async with`."""
    found = Operator(cluster, *arguments, token=token)
    found.start()
    try:
        yield found
    finally:
        await found.stop()
