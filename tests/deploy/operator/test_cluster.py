"""The calls of the API: what an answer means, and what a failure is told as."""

from __future__ import annotations

from collections.abc import AsyncIterator
from contextlib import asynccontextmanager

import kmock
import kopf
import pytest

from naught_operator.cluster import Cluster
from naught_operator.errors import ClusterError
from naught_operator.names import KIND

POD = "/api/v1/namespaces/n/pods/a-0"


class Logins:
    """Credentials, of which each has another token."""

    def __init__(self, server: str) -> None:
        self.server = server
        self.count = 0

    def __call__(self) -> kopf.ConnectionInfo:
        self.count += 1
        return kopf.ConnectionInfo(server=self.server, token=f"token-{self.count}")


@asynccontextmanager
async def api() -> AsyncIterator[tuple[kmock.RawHandler, Cluster, Logins]]:
    async with kmock.RawHandler() as handler, kmock.Server(handler) as server:
        logins = Logins(str(server.url))
        cluster = Cluster(logins)
        try:
            yield handler, cluster, logins
        finally:
            await cluster.close()


async def test_an_object_is_read_and_one_that_is_not_there_is_none() -> None:
    async with api() as (handler, cluster, logins):
        handler[f"get {POD}"] << {"kind": "Pod"}
        handler["get /apis/naught.dev/v1alpha1/namespaces/n/countercaches/b"] << 404
        assert await cluster.get("Pod", "n", "a-0") == {"kind": "Pod"}
        assert await cluster.get(KIND, "n", "b") is None
        assert logins.count == 1
        assert handler["get"][0].headers["Authorization"] == "Bearer token-1"


async def test_a_patch_is_a_merge_patch() -> None:
    async with api() as (handler, cluster, _):
        handler["patch /apis/apps/v1/namespaces/n/statefulsets/a"] << {}
        handler["patch /apis/naught.dev/v1alpha1/namespaces/n/countercaches/a/status"] << {}
        await cluster.patch("StatefulSet", "n", "a", {"spec": {"replicas": 1}})
        await cluster.patch_status("n", "a", {"message": "x"})
        first, second = handler["patch"]
        assert first.headers["Content-Type"] == "application/merge-patch+json"
        assert (first.data, second.data) == ({"spec": {"replicas": 1}}, {"status": {"message": "x"}})


async def test_a_token_that_has_expired_is_read_again_once() -> None:
    async with api() as (handler, cluster, logins):
        handler[f"get {POD}"] << 401
        with pytest.raises(ClusterError) as error:
            await cluster.get("Pod", "n", "a-0")
        assert error.value.status == 401
        assert logins.count == 2
        assert [each.headers["Authorization"] for each in handler["get"]] == ["Bearer token-1", "Bearer token-2"]


@pytest.mark.parametrize(("status", "deleted"), [(200, True), (404, False), (409, False)])
async def test_a_pod_is_deleted_by_its_uid(status: int, deleted: bool) -> None:
    async with api() as (handler, cluster, _):
        handler[f"delete {POD}"] << status << {}
        assert await cluster.delete_pod("n", "a-0", "uid-7", 30) is deleted
        (request,) = handler["delete"]
        assert request.data["preconditions"] == {"uid": "uid-7"}
        assert request.data["gracePeriodSeconds"] == 30


async def test_failures_have_one_sentence() -> None:
    async with api() as (handler, cluster, logins):
        handler[f"get {POD}"] << 403 << {"message": "you may not"}
        handler["post /api/v1/namespaces/n/services"] << b"no JSON"
        with pytest.raises(ClusterError, match=rf"^GET {POD}: 403 you may not$"):
            await cluster.get("Pod", "n", "a-0")
        logins.server = "http://127.0.0.1:1"
        other = Cluster(logins)
        with pytest.raises(ClusterError, match=rf"^GET {POD}: Cannot connect"):
            await other.get("Pod", "n", "a-0")
        await other.close()
        with pytest.raises(ClusterError, match="the operator is ending"):
            await other.get("Pod", "n", "a-0")
