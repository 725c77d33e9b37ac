"""The port for Alertmanager: an alert becomes an annotation of its resource. An adapter.

    POST /alerts   ->  naught.dev/raised-until on each resource that has a firing alert

The annotation is all that happens here. Whichever operator leads sees it and raises the budget, so each replica may
listen, and an alert is not lost with the replica that took it. A request of which a part could not be written is
answered 503, and Alertmanager sends it again; that is harmless, as it means the same.

Everything is bounded: connections, the bytes of a request (`request.py`), the time it may take, the alerts in it.
"""

from __future__ import annotations

import asyncio
import logging
from collections.abc import Callable
from datetime import datetime
from pathlib import Path
from typing import Any, Final

from naught_operator.alerts import BadPayload, Target, read_payload
from naught_operator.errors import ClusterError
from naught_operator.names import KIND, RAISED_UNTIL
from naught_operator.raising import extended, read, written
from naught_operator.reconcile import Objects
from naught_operator.request import Incoming, Refused, Request, authorize, reply
from naught_operator.spec import SpecError, read_resource, read_spec

log: Final = logging.getLogger("naught.operator")

PATH: Final = "/alerts"

CONNECTIONS_MAX: Final = 16
"""An Alertmanager sends one request for each group of alerts, and there are two or three of them."""

REQUEST_S_MAX: Final = 5.0
"""How long a request may take to arrive, and a reply to be read."""

SERVE_S_MAX: Final = 30.0
"""How long the API may take for all alerts of a request. Then Alertmanager is told to send it again."""

CONFLICTS_MAX: Final = 5
"""How often an annotation is tried again that another operator has written meanwhile."""

_CHUNK: Final = 64 << 10


class Webhook:
    """Serves alerts from `start` to `close`."""

    def __init__(
        self,
        cluster: Objects,
        serves: Callable[[str], bool],
        token_file: Path | None,
        now: Callable[[], datetime],
    ) -> None:
        """`serves` says whether a namespace is this operator's; `token_file` has the bearer token, and is read for
        each request, as secrets change in place."""
        self._cluster: Final = cluster
        self._serves: Final = serves
        self._token_file: Final = token_file
        self._now: Final = now
        self._connections: set[asyncio.Task[None]] = set()
        self._server: asyncio.Server | None = None  # None before `start` and after `close`

    async def start(self, host: str, port: int) -> int:
        """Listen. Returns the port, which is a free one for 0. Raises OSError."""
        self._server = await asyncio.start_server(self._connected, host, port, limit=_CHUNK)
        found: int = self._server.sockets[0].getsockname()[1]
        return found

    async def close(self) -> None:
        """Listen no more, and end what is served."""
        if self._server is None:
            return
        self._server.close()
        self._server = None
        for task in list(self._connections):
            task.cancel()
        await asyncio.gather(*self._connections, return_exceptions=True)

    def _connected(self, reader: asyncio.StreamReader, writer: asyncio.StreamWriter) -> None:
        if len(self._connections) >= CONNECTIONS_MAX:
            writer.transport.abort()
            return
        task = asyncio.get_running_loop().create_task(self._serve(reader, writer))
        self._connections.add(task)
        task.add_done_callback(self._connections.discard)

    async def _serve(self, reader: asyncio.StreamReader, writer: asyncio.StreamWriter) -> None:
        try:
            status, answer = await self._answer(reader)
            async with asyncio.timeout(REQUEST_S_MAX):
                writer.write(reply(status, answer))
                await writer.drain()
                writer.write_eof()
                # What is still on its way is read, up to a bound: closing now would reset the connection and with it
                # the reply.
                for _ in range(2 * CONNECTIONS_MAX):
                    if not await reader.read(_CHUNK):
                        break
        except (TimeoutError, OSError):
            pass
        finally:
            writer.transport.abort()

    async def _answer(self, reader: asyncio.StreamReader) -> tuple[int, dict[str, Any]]:
        try:
            async with asyncio.timeout(REQUEST_S_MAX):
                request = await _receive(reader)
            if request is None:
                raise Refused(400, "the request has no end")
            async with asyncio.timeout(SERVE_S_MAX):
                return 200, await self.take(request)
        except Refused as refusal:
            log.warning("an alert was refused with status %d: %s", refusal.status, refusal)
            return refusal.status, {"error": str(refusal)}
        except TimeoutError:
            return 503, {"error": "it took too long"}

    async def take(self, request: Request) -> dict[str, Any]:
        """What a request is answered with. Raises Refused."""
        if request.path != PATH:
            raise Refused(404, f"alerts are taken at {PATH}")
        if request.method != "POST":
            raise Refused(405, "alerts are sent by POST")
        authorize(request.headers, self._token())
        try:
            reading = read_payload(request.body)
        except BadPayload as error:
            raise Refused(400, str(error)) from None
        raised: list[str] = []
        ignored = list(reading.ignored)
        for target in reading.targets:
            why = await self._raise(target)
            name = f"{target.namespace}/{target.name}"
            if why is None:
                raised.append(name)
            else:
                ignored.append(f"{name}: {why}")
        return {"raised": raised, "ignored": ignored}

    def _token(self) -> str | None:
        if self._token_file is None:
            return None
        try:
            token = self._token_file.read_text("utf-8").strip()
        except (OSError, UnicodeError):
            token = ""
        if not token:
            raise Refused(503, "the file with the bearer token cannot be read or is empty")
        return token

    async def _raise(self, target: Target) -> str | None:
        """Raise the budget of a resource from now on. Returns why it cannot be, or None. Raises Refused."""
        if not self._serves(target.namespace):
            return "the operator does not serve this namespace"
        for _ in range(CONFLICTS_MAX):
            try:
                return await self._annotate(target)
            except ClusterError as error:
                if error.status != 409:
                    raise Refused(503, str(error)) from None
        raise Refused(503, f"{target.namespace}/{target.name} was changed by others each time")

    async def _annotate(self, target: Target) -> str | None:
        body = await self._cluster.get(KIND, target.namespace, target.name)
        if body is None:
            return "there is no such resource"
        resource = read_resource(body)
        try:
            seconds = read_spec(resource.spec).on_deviation.seconds
        except SpecError as error:
            return str(error)
        until = extended(read(resource.annotations.get(RAISED_UNTIL)), self._now(), seconds)
        meta: dict[str, Any] = {"annotations": {RAISED_UNTIL: written(until)}}
        if version := body["metadata"].get("resourceVersion"):
            meta["resourceVersion"] = version  # the patch is refused with 409 if somebody has been faster
        await self._cluster.patch(KIND, target.namespace, target.name, {"metadata": meta})
        log.info("%s/%s: an alert asks for a raised budget until %s", target.namespace, target.name, written(until))
        return None


async def _receive(reader: asyncio.StreamReader) -> Request | None:
    """A request; None where the peer ends before it is whole. Raises Refused."""
    incoming = Incoming()
    while incoming.request is None:
        data = await reader.read(_CHUNK)
        if not data:
            return None
        incoming.receive(data)
    return incoming.request
