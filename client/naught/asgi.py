"""`InFlightLimit`: ASGI middleware that limits the requests in flight, across all workers and machines of an
application.

    app = InFlightLimit(app, "naught://localhost:6480", limit=200)

It is plain ASGI and works with any framework. Each worker process has a client of its own, which connects when the
lifespan starts or the first request comes, and is closed when the lifespan ends. Each request acquires a hold, which
is released when the application has answered. If a worker dies, the server gives its holds back.

The requests are counted in an ordinary counter: `naught get in-flight` prints their number, and with no requests in
flight there is no counter.
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
    """ASGI middleware: at most `limit` HTTP requests in flight, counted in the counter `name` by all its users.

    `url`: the server, as for `naught.connect`. `key`: a function from a request's scope to the name of the group that
    the request counts in (a user, a route), each group with the whole limit; it returns None for a request without a
    limit. Without the function all requests are one group. `status`: the status of the response to a request beyond
    the limit, 503 or 429, sent with `Retry-After: retry_after` seconds. `unreachable`: while the server cannot be
    reached, "open" passes requests on uncounted and "closed" refuses them with 503. `timeout`: seconds to wait for
    the server, per request. Websockets and the lifespan are not counted.

    Costs each request one round trip to the server. The release is not waited for.
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
        connect(url, timeout=timeout)  # checks both and raises InvalidRequest; connects to nothing
        self._timeout: Final = timeout
        self._limit: Final = check_integer("limit", limit, 1, VALUE_MAX)
        self._name: Final = name
        self._group_of: Final = key
        self._status: Final = status
        self._retry_after: Final = str(ceil(seconds)).encode()
        self._open: Final = unreachable == "open"
        self._client: Client[str] | None = None  # of this worker's event loop, once connected
        # Makes `_client`. There is one attempt at a time, and a request that gives up does not cancel it.
        self._connecting: asyncio.Task[Client[str]] | None = None
        self._warned = (
            False  # a warning was logged that the server cannot be reached, and no request was counted since
        )

    async def __call__(self, scope: Scope, receive: Receive, send: Send) -> None:
        """The ASGI entry point: serve one request, websocket or lifespan."""
        if scope["type"] == "lifespan":
            await self._serve_lifespan(scope, receive, send)
        elif scope["type"] != "http":
            await self._app(scope, receive, send)
        else:
            await self._serve_request(scope, receive, send)

    async def _serve_lifespan(self, scope: Scope, receive: Receive, send: Send) -> None:
        self._start_connecting()
        try:
            await self._app(scope, receive, send)
        finally:
            await self.close()

    async def close(self) -> None:
        """Close this worker's client. Only needed where the application is run without a lifespan."""
        connecting, self._connecting = self._connecting, None
        client, self._client = self._client, None
        if connecting is not None and client is None:
            connecting.cancel()
            await asyncio.wait([connecting])
            if not connecting.cancelled() and connecting.exception() is None:
                client = connecting.result()
        if client is not None:
            await client.close()

    def _start_connecting(self) -> asyncio.Task[Client[str]]:
        if self._connecting is None or (self._connecting.done() and self._client is None):
            self._connecting = asyncio.get_running_loop().create_task(self._make_client())
            self._connecting.add_done_callback(_discard_result)
        return self._connecting

    async def _make_client(self) -> Client[str]:
        self._client = await connect(self._url, timeout=self._timeout)
        return self._client

    async def _serve_request(self, scope: Scope, receive: Receive, send: Send) -> None:
        group = self._group_of(scope) if self._group_of is not None else ""
        if group is None:
            await self._app(scope, receive, send)
            return
        counter = f"{self._name}:{group}" if group else self._name
        try:
            client, hold = await self._acquire(counter)
        except (NaughtError, TimeoutError) as error:
            self._warn(error)
            if not self._open:
                await self._refuse(send, 503, b"the limit on requests in flight cannot be checked\n")
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
            client.release(hold).add_done_callback(_discard_result)

    async def _acquire(self, counter: str) -> tuple[Client[str], Hold | None]:
        client = self._client
        # While the server is known to be unreachable, requests do not wait for it: a task is connecting already.
        if self._warned and (client is None or not client.connected):
            self._start_connecting()
            raise ConnectionFailed("not connected")
        if client is None:
            async with asyncio.timeout(self._timeout):
                client = await asyncio.shield(self._start_connecting())
        acquired = await client.acquire([(counter, 1, self._limit)])
        return client, acquired.hold

    def _warn(self, error: BaseException) -> None:
        if not self._warned:
            self._warned = True
            effect = "pass uncounted" if self._open else "are refused"
            logger.warning("the limit on requests in flight cannot be checked, requests %s: %r", effect, error)

    async def _refuse(self, send: Send, status: int, body: bytes) -> None:
        headers = [
            (b"content-type", b"text/plain; charset=utf-8"),
            (b"content-length", str(len(body)).encode()),
            (b"retry-after", self._retry_after),
        ]
        await send({"type": "http.response.start", "status": status, "headers": headers})
        await send({"type": "http.response.body", "body": body})


def _discard_result(future: asyncio.Future[Any]) -> None:
    """Mark an exception as retrieved, so that asyncio does not log it: no code awaits this future."""
    if not future.cancelled():
        future.exception()
