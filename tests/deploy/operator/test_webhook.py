"""The webhook on a socket, with an API that has one resource."""

from __future__ import annotations

import asyncio
import copy
from collections.abc import AsyncIterator, Mapping
from contextlib import asynccontextmanager
from datetime import UTC, datetime, timedelta
from pathlib import Path
from typing import Any

import pytest

from naught_operator import webhook as module
from naught_operator.errors import ClusterError
from naught_operator.names import RAISED_UNTIL
from naught_operator.raising import written
from naught_operator.request import BODY_BYTES_MAX
from naught_operator.webhook import CONFLICTS_MAX, CONNECTIONS_MAX, Webhook
from support.alerts import exchange, payload, send

NOW = datetime(2026, 1, 2, 3, 4, 5, tzinfo=UTC)


class OneResource:
    """The API, as far as the webhook calls it."""

    def __init__(self) -> None:
        self.body: dict[str, Any] = {
            "metadata": {"namespace": "counters", "name": "orders", "resourceVersion": "1"},
            "spec": {"onDeviation": {"seconds": 60}},
        }
        self.faults: list[ClusterError] = []

    async def get(self, kind: str, namespace: str, name: str) -> dict[str, Any] | None:
        return copy.deepcopy(self.body) if (namespace, name) == ("counters", "orders") else None

    async def patch(self, kind: str, namespace: str, name: str, patch: Mapping[str, Any]) -> dict[str, Any]:
        if self.faults:
            raise self.faults.pop(0)
        assert patch["metadata"]["resourceVersion"] == "1"
        self.body["metadata"].setdefault("annotations", {}).update(patch["metadata"]["annotations"])
        return self.body

    async def create(self, obj: Mapping[str, Any]) -> dict[str, Any]:
        raise AssertionError("the webhook only reads and patches resources")

    async def patch_status(self, namespace: str, name: str, patch: Mapping[str, Any]) -> dict[str, Any]:
        raise AssertionError("the webhook only reads and patches resources")

    async def delete_pod(self, namespace: str, name: str, uid: str, grace_s: int) -> bool:
        raise AssertionError("the webhook only reads and patches resources")

    @property
    def until(self) -> str | None:
        found: str | None = self.body["metadata"].get("annotations", {}).get(RAISED_UNTIL)
        return found


@asynccontextmanager
async def listening(api: OneResource, token_file: Path | None = None) -> AsyncIterator[int]:
    webhook = Webhook(api, lambda namespace: namespace == "counters", token_file, lambda: NOW)
    port = await webhook.start("127.0.0.1", 0)
    try:
        yield port
    finally:
        await webhook.close()


async def test_an_alert_is_written_to_its_resource() -> None:
    api = OneResource()
    async with listening(api) as port:
        assert await send(port, payload("orders")) == (200, {"raised": ["counters/orders"], "ignored": []})
    assert api.until == written(NOW + timedelta(seconds=60))


async def test_alerts_that_concern_nobody_are_named() -> None:
    api = OneResource()
    async with listening(api) as port:
        status, answer = await send(port, payload("other"))
        assert (status, answer) == (200, {"raised": [], "ignored": ["counters/other: there is no such resource"]})
        elsewhere = payload("orders").replace(b'"counters"', b'"elsewhere"')
        _, answer = await send(port, elsewhere)
        assert answer["ignored"] == ["elsewhere/orders: the operator does not serve this namespace"]
        api.body["spec"] = {"replicas": 2}
        _, answer = await send(port, payload("orders"))
        assert "spec.replicas must be 1" in answer["ignored"][0]
    assert api.until is None


@pytest.mark.parametrize(
    ("status", "request_"),
    [
        (400, (b"nonsense",)),
        (400, (payload(version="1"),)),
        (404, (b"", "/other")),
        (405, (b"", "/alerts", "GET")),
        (413, (b"x" * (BODY_BYTES_MAX + 1),)),
    ],
    ids=["no JSON", "another version", "another path", "another method", "too long"],
)
async def test_bad_requests_are_refused_and_change_nothing(status: int, request_: tuple[Any, ...]) -> None:
    api = OneResource()
    body, path, method = (*request_, *("/alerts", "POST")[len(request_) - 1 :])
    async with listening(api) as port:
        found, answer = await send(port, body, method=method, path=path)
        assert found == status
        assert answer["error"]
        assert (await send(port, payload("orders")))[0] == 200, "the next one is served"


async def test_the_token_is_read_for_each_request(tmp_path: Path) -> None:
    api, file = OneResource(), tmp_path / "token"
    async with listening(api, file) as port:
        assert (await send(port, payload("orders"), "Authorization: Bearer secret"))[0] == 503, "no token is no leave"
        file.write_text("secret\n")
        assert (await send(port, payload("orders"), "Authorization: Bearer secret"))[0] == 200
        file.write_text("other\n")
        assert (await send(port, payload("orders"), "Authorization: Bearer secret"))[0] == 401
        assert (await send(port, payload("orders")))[0] == 401


async def test_a_conflict_is_tried_again_and_a_fault_is_told() -> None:
    api = OneResource()
    async with listening(api) as port:
        api.faults = [ClusterError("it has changed", 409)] * (CONFLICTS_MAX - 1)
        assert (await send(port, payload("orders")))[0] == 200
        api.faults = [ClusterError("it has changed", 409)] * CONFLICTS_MAX
        assert (await send(port, payload("orders")))[0] == 503
        api.faults = [ClusterError("no route to the API")]
        # Alertmanager sends again what is answered with a 5xx.
        assert await send(port, payload("orders")) == (503, {"error": "no route to the API"})


async def test_silent_peers_do_not_keep_others_out_for_long(monkeypatch: pytest.MonkeyPatch) -> None:
    monkeypatch.setattr(module, "REQUEST_S_MAX", 0.05)
    api = OneResource()
    async with listening(api) as port:
        silent = [await asyncio.open_connection("127.0.0.1", port) for _ in range(CONNECTIONS_MAX)]
        for _, writer in silent:
            writer.write(b"POST /alerts HTTP/1.1\r\n")
        replies = [await reader.read() for reader, _ in silent]
        assert all(b"503" in reply.partition(b"\r\n")[0] for reply in replies)
        for _, writer in silent:
            writer.close()
            await writer.wait_closed()
        async with asyncio.timeout(20):
            while not (
                reply := await exchange(port, b"x\r\n\r\n")
            ):  # until the server has seen that they have closed
                pass
        assert reply.startswith(b"HTTP/1.1 400 ")
        assert (await send(port, payload("orders")))[0] == 200


async def test_further_connections_than_there_may_be_are_closed() -> None:
    async with listening(OneResource()) as port:
        open_ones = [await asyncio.open_connection("127.0.0.1", port) for _ in range(CONNECTIONS_MAX)]
        for reader, writer in open_ones:
            writer.write(b"POST /alerts HTTP/1.1\r\n")
            assert not reader.at_eof()
        further, writer = await asyncio.open_connection("127.0.0.1", port)
        with pytest.raises((ConnectionError, asyncio.IncompleteReadError)):
            await further.readexactly(1)
        for _, each in [*open_ones, (further, writer)]:
            each.close()


async def test_a_request_without_an_end_is_refused() -> None:
    async with listening(OneResource()) as port:
        reader, writer = await asyncio.open_connection("127.0.0.1", port)
        writer.write(b"POST /alerts HTTP/1.1\r\nContent-Length: 5\r\n\r\nbo")
        writer.write_eof()
        assert (await reader.read()).startswith(b"HTTP/1.1 400 ")
        writer.close()
        assert (await exchange(port, b"\x16\x03\x01 a client of TLS\r\n\r\n")).startswith(b"HTTP/1.1 400 ")
