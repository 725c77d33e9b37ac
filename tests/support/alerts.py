"""Alerts as Alertmanager sends them to a webhook."""

from __future__ import annotations

import asyncio
import json
from typing import Any


def alert(name: str = "orders", **changed: Any) -> dict[str, Any]:
    """An alert about the pod of a resource."""
    labels = {
        "alertname": "NaughtDeviationHigh",
        "cache_name": "default",
        "instance": f"counters/{name}-0",
        "job": "naught",
        "namespace": "counters",
        "pod": f"{name}-0",
        "severity": "warning",
    }
    return {
        "status": "firing",
        "labels": labels,
        "annotations": {"summary": "the cache default has stale entries"},
        "startsAt": "2026-01-02T03:04:05Z",
        "endsAt": "0001-01-01T00:00:00Z",
        "generatorURL": "http://prometheus:9090/graph",
        "fingerprint": "0123456789abcdef",
        **changed,
    }


def payload(*names: str, status: str = "firing", **changed: Any) -> bytes:
    """What Alertmanager sends for alerts about these resources."""
    alerts = [alert(name, status=status) for name in names]
    whole = {
        "version": "4",
        "groupKey": "{}:{}",
        "truncatedAlerts": 0,
        "status": status,
        "receiver": "naught-operator",
        "groupLabels": {},
        "commonLabels": {},
        "commonAnnotations": {},
        "externalURL": "http://alertmanager:9093",
        "alerts": alerts,
        **changed,
    }
    return json.dumps(whole).encode()


async def exchange(port: int, data: bytes) -> bytes:
    """Send bytes to a port and read until it closes; nothing where it resets the connection."""
    reader, writer = await asyncio.open_connection("127.0.0.1", port)
    try:
        writer.write(data)
        return await reader.read()
    except ConnectionError:
        return b""
    finally:
        writer.close()


async def send(port: int, body: bytes, *headers: str, method: str = "POST", path: str = "/alerts") -> tuple[int, Any]:
    """Send a request to the webhook. Returns the status and the answer."""
    lines = [f"{method} {path} HTTP/1.1", "Host: operator", f"Content-Length: {len(body)}", *headers, "", ""]
    reply = await exchange(port, "\r\n".join(lines).encode() + body)
    head, _, answer = reply.partition(b"\r\n\r\n")
    return int(head.split()[1]), json.loads(answer)
