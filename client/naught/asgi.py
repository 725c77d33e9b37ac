"""`InFlightLimit`: ASGI middleware that limits the requests in flight, across all workers and machines of an
application.

    app = InFlightLimit(app, "naught://localhost:6480", limit=200)

It is plain ASGI and works with any framework; `naught.wsgi` has the same for WSGI. Each worker process has a client
of its own, which connects when the lifespan starts or the first request comes, and is closed when the lifespan ends.
Or it is given a client that the application has already. Each request acquires a hold, which is released when the
application has answered. If a worker dies, the server gives its holds back.

The requests are counted in an ordinary counter: `naught get in-flight` prints their number, and with no requests in
flight there is no counter.
"""

from __future__ import annotations

import asyncio
from collections.abc import Awaitable, Callable, MutableMapping
from typing import Any, Final, Literal

from naught.aio.client import Client, connect
from naught.core.calls import Acquired
from naught.errors import ConnectionFailed, InvalidRequest, NaughtError, is_misuse
from naught.http_limit import Body, Headers, LimitOptions, Refusal

__all__ = ["InFlightLimit", "Refusal"]

Scope = MutableMapping[str, Any]
Receive = Callable[[], Awaitable[MutableMapping[str, Any]]]
Send = Callable[[MutableMapping[str, Any]], Awaitable[None]]
App = Callable[[Scope, Receive, Send], Awaitable[None]]


class InFlightLimit:
    """ASGI middleware: at most `limit` HTTP requests in flight, counted in the counter `name` by all its users.

    `url`: the server, as for `naught.connect`, or a `naught.Client`, which the middleware uses and does not close.
    `key`: a function from a request's scope to the name of the group that the request counts in (a user, a route),
    each group with the whole limit; it returns None for a request without a limit. A name that cannot be a key raises
    TooLarge or InvalidRequest. Without the function all requests are one group. `status`: the status of the response
    to a request beyond the limit, 503 or 429, sent with `Retry-After: retry_after` seconds. `unreachable`: while the
    server cannot be reached, "open" passes requests on uncounted and "closed" refuses them with 503. `timeout`:
    seconds to wait for the server, per request. `body`, `headers`: of the response to a refused request, each as it
    is or as a function of the `Refusal`; headers replace those of the same name. Websockets and the lifespan are not
    counted.

    Costs each request one round trip to the server. The release is not waited for.
    """

    def __init__(
        self,
        app: App,
        url: str | Client[Any],
        *,
        limit: int,
        name: str = "in-flight",
        key: Callable[[Scope], str | None] | None = None,
        status: Literal[503, 429] = 503,
        retry_after: float = 1.0,
        unreachable: Literal["open", "closed"] = "open",
        timeout: float = 0.25,
        body: Body = None,
        headers: Headers = None,
    ) -> None:
        self._options: Final = LimitOptions(
            limit=limit,
            name=name,
            status=status,
            retry_after=retry_after,
            unreachable=unreachable,
            timeout=timeout,
            body=body,
            headers=headers,
        )
        self._app: Final = app
        self._group_of: Final = key
        # The application's client; None if the middleware makes one.
        self._given: Final = url if isinstance(url, Client) else None
        if not isinstance(url, str | Client):
            raise InvalidRequest(f"url is the URL of a server or a naught.Client, not {type(url).__name__}")
        self._url: Final = url if isinstance(url, str) else ""
        if self._url:
            connect(self._url, timeout=timeout)  # checks both and raises InvalidRequest; connects to nothing
        # The clients that it makes itself, by the event loop that they belong to: one in a worker process. Tests run
        # an application in many loops, one after another.
        self._makers: Final[dict[asyncio.AbstractEventLoop, _ClientMaker]] = {}

    async def __call__(self, scope: Scope, receive: Receive, send: Send) -> None:
        """The ASGI entry point: serve one request, websocket or lifespan."""
        if scope["type"] == "lifespan":
            await self._serve_lifespan(scope, receive, send)
        elif scope["type"] != "http":
            await self._app(scope, receive, send)
        else:
            await self._serve_request(scope, receive, send)

    async def _serve_lifespan(self, scope: Scope, receive: Receive, send: Send) -> None:
        if self._given is None:
            (await self._maker()).start()
        try:
            await self._app(scope, receive, send)
        finally:
            await self.close()

    async def close(self) -> None:
        """Close this worker's client, unless it was given. Only needed where there is no lifespan."""
        maker = self._makers.pop(asyncio.get_running_loop(), None)
        if maker is not None:
            await maker.close()
        await self._forget_ended()

    async def _maker(self) -> _ClientMaker:
        """That of the loop that runs."""
        loop = asyncio.get_running_loop()
        maker = self._makers.get(loop)
        if maker is None:
            maker = self._makers[loop] = _ClientMaker(self._url, self._options.timeout)
            await self._forget_ended()
        return maker

    async def _forget_ended(self) -> None:
        """Clients end with their loops."""
        for loop in [each for each in self._makers if each.is_closed()]:
            await self._makers.pop(loop).forget()

    async def _serve_request(self, scope: Scope, receive: Receive, send: Send) -> None:
        group = self._group_of(scope) if self._group_of is not None else ""
        if group is None:
            await self._app(scope, receive, send)
            return
        options = self._options
        try:
            client, acquired = await self._acquire(options.counter_of(group))
        except (NaughtError, TimeoutError) as error:
            if is_misuse(error):
                raise
            options.note_unreachable(error)
            if options.open:
                await self._app(scope, receive, send)
            else:
                await self._refuse(send, options.refusal(group, None))
            return
        options.note_counted()
        if acquired.hold is None:
            await self._refuse(send, options.refusal(group, acquired.values[0]))
            return
        try:
            await self._app(scope, receive, send)
        finally:
            client.release(acquired.hold).add_done_callback(_discard_result)

    async def _acquire(self, counter: str) -> tuple[Client[Any], Acquired]:
        maker = await self._maker() if self._given is None else None
        client = self._given if maker is None else maker.client
        # While the server is known to be unreachable, requests do not wait for it: a task is connecting already.
        if self._options.warned and (client is None or not client.connected):
            if maker is not None:
                maker.start()
            raise ConnectionFailed("not connected")
        if client is None:
            assert maker is not None
            async with asyncio.timeout(self._options.timeout):
                client = await asyncio.shield(maker.start())
        acquired = await client.acquire(
            [(counter, 1, self._options.limit)], again=True, timeout=self._options.timeout
        )
        return client, acquired

    async def _refuse(self, send: Send, refusal: Refusal) -> None:
        headers, body = self._options.response(refusal)
        encoded = [(name.encode("latin-1"), value.encode("latin-1")) for name, value in headers.items()]
        await send({"type": "http.response.start", "status": refusal.status, "headers": encoded})
        await send({"type": "http.response.body", "body": body})


class _ClientMaker:
    """Makes the client of one event loop."""

    def __init__(self, url: str, timeout: float | None) -> None:
        self._url: Final = url
        self._timeout: Final = timeout
        self.client: Client[Any] | None = None  # once it is connected
        # Makes `client`. There is one attempt at a time, and a request that gives up does not cancel it.
        self._connecting: asyncio.Task[Client[Any]] | None = None

    def start(self) -> asyncio.Task[Client[Any]]:
        """Connect, if no task does that already."""
        if self._connecting is None or (self._connecting.done() and self.client is None):
            self._connecting = asyncio.get_running_loop().create_task(self._connect())
            self._connecting.add_done_callback(_discard_result)
        return self._connecting

    async def _connect(self) -> Client[Any]:
        client: Client[Any] = await connect(self._url, timeout=self._timeout)
        self.client = client
        return client

    async def close(self) -> None:
        """Close the client, also one that is connecting."""
        connecting, client = self._connecting, self.client
        if connecting is not None and client is None:
            connecting.cancel()
            await asyncio.wait([connecting])
            if not connecting.cancelled() and connecting.exception() is None:
                client = connecting.result()
        if client is not None:
            await client.close()

    async def forget(self) -> None:
        """The loop has ended, and the client with it."""
        if self.client is not None:
            await self.client.close()


def _discard_result(future: asyncio.Future[Any]) -> None:
    """Mark an exception as retrieved, so that asyncio does not log it: no code awaits this future."""
    if not future.cancelled():
        future.exception()
