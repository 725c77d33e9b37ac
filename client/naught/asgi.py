"""A limit on the requests in flight of an ASGI application, across all its workers and machines.

    app = InFlightLimit(app, "naught://localhost:6480", limit=200)

Pure ASGI: no framework is imported, and any will do. Each worker process connects for itself, at the start of its
lifespan or with its first request, and closes with its lifespan. A request takes one hold and gives it back when the
application has answered, so what a worker had in flight when it died comes back by itself.

What is counted is a counter like any other: `naught get` shows how many are in flight, and there is nothing left when
there are none.
"""

from __future__ import annotations

import asyncio
import logging
from collections.abc import Awaitable, Callable, MutableMapping
from math import ceil
from typing import Any, Final, Literal

from naught.aio.client import Client, connect
from naught.core.calls import check_integer, check_timeout
from naught.core.holds import Hold
from naught.errors import ConnectionFailed, InvalidRequest, NaughtError
from naught.wire.codec import encode_key
from naught.wire.limits import VALUE_MAX

Scope = MutableMapping[str, Any]
Receive = Callable[[], Awaitable[MutableMapping[str, Any]]]
Send = Callable[[MutableMapping[str, Any]], Awaitable[None]]
App = Callable[[Scope, Receive, Send], Awaitable[None]]

logger = logging.getLogger("naught")


class InFlightLimit:
    """ASGI middleware: at most `limit` HTTP requests in flight, among everybody who uses the counter `name`.

    `url`: the server, as for `naught.connect`. `key`: gives, from a request's scope, whose limit it counts against (a
    user, a route); None for no limit, and without the function all requests count together. `status`: what a request
    beyond the limit is answered, 503 or 429, with `Retry-After: retry_after` seconds. `unreachable`: "open" lets
    requests pass while the server cannot be reached, "closed" refuses them with 503. `timeout`: seconds to wait for
    the server, per request. Websockets and the lifespan pass uncounted.

    Costs a request one round trip to the server; giving back is not waited for.
    """

    def __init__(
        self,
        app: App,
        url: str,
        *,
        limit: int,
        name: str = "in-flight",
        key: Callable[[Scope], str | None] | None = None,
        status: Literal[503, 429] = 503,
        retry_after: float = 1.0,
        unreachable: Literal["open", "closed"] = "open",
        timeout: float = 0.25,
    ) -> None:
        encode_key(name)
        if status not in (503, 429):
            raise InvalidRequest(f"status is 503 or 429, not {status!r}")
        if unreachable not in ("open", "closed"):
            raise InvalidRequest(f'unreachable is "open" or "closed", not {unreachable!r}')
        seconds = check_timeout(retry_after)
        if seconds is None or not 0 <= seconds <= 86_400:
            raise InvalidRequest(f"retry_after is from 0 to 86400 seconds, not {retry_after!r}")
        self._app: Final = app
        self._url: Final = url
        connect(url, timeout=timeout)  # what cannot be meant is said at once
        self._timeout: Final = timeout
        self._limit: Final = check_integer("limit", limit, 1, VALUE_MAX)
        self._name: Final = name
        self._key: Final = key
        self._status: Final = status
        self._retry_after: Final = str(ceil(seconds)).encode()
        self._open: Final = unreachable == "open"
        # The client of this worker's loop, and the task that makes it: one attempt at a time, which no request ends.
        self._client: Client[str] | None = None
        self._connecting: asyncio.Task[Client[str]] | None = None
        self._warned = False  # that the server cannot be reached was said, and not yet that it can

    async def __call__(self, scope: Scope, receive: Receive, send: Send) -> None:
        """Serve a connection, as ASGI has it."""
        if scope["type"] == "lifespan":
            await self._live(scope, receive, send)
        elif scope["type"] != "http":
            await self._app(scope, receive, send)
        else:
            await self._serve(scope, receive, send)

    async def _live(self, scope: Scope, receive: Receive, send: Send) -> None:
        self._begin_to_connect()
        try:
            await self._app(scope, receive, send)
        finally:
            await self.close()

    async def close(self) -> None:
        """Close this worker's client. For who runs the application without a lifespan."""
        connecting, self._connecting = self._connecting, None
        client, self._client = self._client, None
        if connecting is not None and client is None:
            connecting.cancel()
            await asyncio.wait([connecting])
            if not connecting.cancelled() and connecting.exception() is None:
                client = connecting.result()
        if client is not None:
            await client.close()

    def _begin_to_connect(self) -> asyncio.Task[Client[str]]:
        if self._connecting is None or (self._connecting.done() and self._client is None):
            self._connecting = asyncio.get_running_loop().create_task(self._make_client())
            self._connecting.add_done_callback(_retrieve)
        return self._connecting

    async def _make_client(self) -> Client[str]:
        self._client = await connect(self._url, timeout=self._timeout)
        return self._client

    async def _serve(self, scope: Scope, receive: Receive, send: Send) -> None:
        whose = self._key(scope) if self._key is not None else ""
        if whose is None:
            await self._app(scope, receive, send)
            return
        counter = f"{self._name}:{whose}" if whose else self._name
        try:
            client, hold = await self._acquire(counter)
        except (NaughtError, TimeoutError) as error:
            self._warn(error)
            if not self._open:
                await self._refuse(send, 503, b"the limit on requests in flight cannot be kept\n")
                return
            await self._app(scope, receive, send)
            return
        self._warned = False
        if hold is None:
            await self._refuse(send, self._status, b"too many requests in flight\n")
            return
        try:
            await self._app(scope, receive, send)
        finally:
            client.release(hold).add_done_callback(_retrieve)

    async def _acquire(self, counter: str) -> tuple[Client[str], Hold | None]:
        client = self._client
        # A server that is known to be away makes nobody wait: the next connection is being made already.
        if self._warned and (client is None or not client.connected):
            self._begin_to_connect()
            raise ConnectionFailed("not connected")
        if client is None:
            async with asyncio.timeout(self._timeout):
                client = await asyncio.shield(self._begin_to_connect())
        acquired = await client.acquire([(counter, 1, self._limit)])
        return client, acquired.hold

    def _warn(self, error: BaseException) -> None:
        if not self._warned:
            self._warned = True
            done = "pass uncounted" if self._open else "are refused"
            logger.warning("no limit on requests in flight can be kept, so they %s: %r", done, error)

    async def _refuse(self, send: Send, status: int, body: bytes) -> None:
        headers = [
            (b"content-type", b"text/plain; charset=utf-8"),
            (b"content-length", str(len(body)).encode()),
            (b"retry-after", self._retry_after),
        ]
        await send({"type": "http.response.start", "status": status, "headers": headers})
        await send({"type": "http.response.body", "body": body})


def _retrieve(future: asyncio.Future[Any]) -> None:
    """Nobody waits for this; without this line the loop would complain of that when it fails."""
    if not future.cancelled():
        future.exception()
