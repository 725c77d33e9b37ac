"""The API of Kubernetes, as far as the operator calls it itself. An adapter; kopf makes its own calls.

There are five calls, each one request: get, create, merge patch, patch of the status, delete. The credentials are
those that kopf logs in with. A token that has expired is read again once.
"""

from __future__ import annotations

import json
from collections.abc import Callable, Mapping
from typing import Any, Final, NamedTuple

import aiohttp
import kopf

from naught_operator.errors import ClusterError
from naught_operator.names import GROUP, KIND, PLURAL, VERSION

REQUEST_S_MAX: Final = 15.0
"""A call takes milliseconds; an API server that needs longer is asked again later."""

ANSWER_BYTES_MAX: Final = 4 << 20
"""Objects have at most 1.5 MiB in etcd."""


class _Path(NamedTuple):
    """Where the objects of a kind are."""

    prefix: str
    plural: str


_PATHS: Final = {
    "ConfigMap": _Path("/api/v1", "configmaps"),
    "NetworkPolicy": _Path("/apis/networking.k8s.io/v1", "networkpolicies"),
    "Pod": _Path("/api/v1", "pods"),
    "PodDisruptionBudget": _Path("/apis/policy/v1", "poddisruptionbudgets"),
    "Secret": _Path("/api/v1", "secrets"),
    "Service": _Path("/api/v1", "services"),
    "StatefulSet": _Path("/apis/apps/v1", "statefulsets"),
    KIND: _Path(f"/apis/{GROUP}/{VERSION}", PLURAL),
}


class Cluster:
    """Calls to one API server."""

    def __init__(self, login: Callable[[], kopf.ConnectionInfo]) -> None:
        self._login = login
        self._info: kopf.ConnectionInfo | None = None  # None before the first call, and after a refused token
        self._session: aiohttp.ClientSession | None = None  # the same
        self._closed = False

    async def close(self) -> None:
        """Close its connections. Later calls raise ClusterError."""
        self._closed = True
        await self._forget_login()

    async def _forget_login(self) -> None:
        self._info = None
        if self._session is not None:
            session, self._session = self._session, None
            await session.close()

    async def get(self, kind: str, namespace: str, name: str) -> dict[str, Any] | None:
        """An object; None where there is none."""
        try:
            return await self._call("GET", _url(kind, namespace, name))
        except ClusterError as error:
            if error.status == 404:
                return None
            raise

    async def create(self, obj: Mapping[str, Any]) -> dict[str, Any]:
        """Create an object."""
        return await self._call("POST", _url(obj["kind"], obj["metadata"]["namespace"]), obj)

    async def patch(self, kind: str, namespace: str, name: str, patch: Mapping[str, Any]) -> dict[str, Any]:
        """Change an object by a merge patch."""
        return await self._call("PATCH", _url(kind, namespace, name), patch)

    async def patch_status(self, namespace: str, name: str, patch: Mapping[str, Any]) -> dict[str, Any]:
        """Change the status of a resource by a merge patch."""
        return await self._call("PATCH", _url(KIND, namespace, name) + "/status", {"status": patch})

    async def delete_pod(self, namespace: str, name: str, uid: str, grace_s: int) -> bool:
        """Delete this pod, and no other one that has its name by now. False where it is gone already."""
        options = {
            "apiVersion": "v1",
            "kind": "DeleteOptions",
            "gracePeriodSeconds": grace_s,
            "preconditions": {"uid": uid},
        }
        try:
            await self._call("DELETE", _url("Pod", namespace, name), options)
        except ClusterError as error:
            if error.status in (404, 409):
                return False
            raise
        return True

    async def _call(self, method: str, path: str, body: Mapping[str, Any] | None = None) -> dict[str, Any]:
        try:
            return await self._request(method, path, body)
        except ClusterError as error:
            if error.status != 401:
                raise
        await self._forget_login()
        return await self._request(method, path, body)

    async def _request(self, method: str, path: str, body: Mapping[str, Any] | None) -> dict[str, Any]:
        if self._closed:
            raise ClusterError(f"{method} {path}: the operator is ending")
        session, server = self._connected()
        content = "application/merge-patch+json" if method == "PATCH" else "application/json"
        data = None if body is None else json.dumps(body).encode()
        try:
            async with session.request(
                method, server + path, data=data, headers={"Content-Type": content, "Accept": "application/json"}
            ) as response:
                text = await response.content.read(ANSWER_BYTES_MAX)
                while not response.content.at_eof() and len(text) < ANSWER_BYTES_MAX:
                    text += await response.content.read(ANSWER_BYTES_MAX - len(text))
        except (TimeoutError, aiohttp.ClientError, OSError) as error:
            raise ClusterError(f"{method} {path}: {str(error) or type(error).__name__}") from None
        try:
            answer = json.loads(text)
        except ValueError:
            answer = {}
        if response.status >= 400:
            why = answer.get("message") if isinstance(answer, dict) else None
            raise ClusterError(f"{method} {path}: {response.status} {why or response.reason}", response.status)
        if not isinstance(answer, dict):
            raise ClusterError(f"{method} {path}: the answer is no object")
        return answer

    def _connected(self) -> tuple[aiohttp.ClientSession, str]:
        if self._info is None or self._session is None:
            info = self._info = self._login()
            self._session = aiohttp.ClientSession(
                connector=aiohttp.TCPConnector(ssl=info.as_ssl_context()),
                headers=info.as_http_headers(),
                timeout=aiohttp.ClientTimeout(total=REQUEST_S_MAX),
            )
        return self._session, self._info.server.rstrip("/")


def _url(kind: str, namespace: str, name: str | None = None) -> str:
    path = _PATHS[kind]
    return f"{path.prefix}/namespaces/{namespace}/{path.plural}" + (f"/{name}" if name is not None else "")
