"""`InFlightLimit`: WSGI middleware that limits the requests in flight, across all workers and machines of an
application.

    app = InFlightLimit(app, "naught://localhost:6480", limit=200)

It works with any framework and server that keep to PEP 3333, with threads and with processes. Each worker process has
a client of its own, a `naught.blocking.Client`, which connects when the first request comes; or it is given one that
the application has already. Each request acquires a hold, which is released when the server closes the response. If a
worker dies, the server gives its holds back. `naught.asgi` has the same for ASGI.
"""

from __future__ import annotations

import threading
from collections.abc import Callable, Iterable, Iterator
from contextlib import suppress
from http import HTTPStatus
from typing import Any, Final, Literal

from naught.blocking.client import Client
from naught.core.calls import Acquired
from naught.core.holds import Hold
from naught.core.options import check_options
from naught.errors import ConnectionFailed, InvalidRequest, NaughtError, is_misuse
from naught.http_limit import Body, Headers, LimitOptions, Refusal

__all__ = ["InFlightLimit", "Refusal"]

Environ = dict[str, Any]
StartResponse = Callable[..., Any]
App = Callable[[Environ, StartResponse], Iterable[bytes]]


class InFlightLimit:
    """WSGI middleware: at most `limit` requests in flight, counted in the counter `name` by all its users.

    The options are those of `naught.asgi.InFlightLimit`; `url` may be a `naught.blocking.Client` here, and `key` is a
    function of the environ. Costs each request two round trips to the server, one before and one behind it.
    """

    def __init__(
        self,
        app: App,
        url: str | Client[Any],
        *,
        limit: int,
        name: str = "in-flight",
        key: Callable[[Environ], str | None] | None = None,
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
            raise InvalidRequest(f"url is the URL of a server or a naught.blocking.Client, not {type(url).__name__}")
        self._url: Final = url if isinstance(url, str) else ""
        if self._url:
            check_options(self._url)
        self._client: Client[Any] | None = self._given  # made by the first request
        self._lock: Final = threading.Lock()  # while it is made

    def __call__(self, environ: Environ, start_response: StartResponse) -> Iterable[bytes]:
        """The WSGI entry point: serve one request."""
        group = self._group_of(environ) if self._group_of is not None else ""
        if group is None:
            return self._app(environ, start_response)
        options = self._options
        try:
            client, acquired = self._acquire(options.counter_of(group))
        except NaughtError as error:
            if is_misuse(error):
                raise
            options.note_unreachable(error)
            if options.open:
                return self._app(environ, start_response)
            return self._refuse(start_response, options.refusal(group, None))
        options.note_counted()
        if acquired.hold is None:
            return self._refuse(start_response, options.refusal(group, acquired.values[0]))
        try:
            return _Counted(self._app(environ, start_response), client, acquired.hold)
        except BaseException:
            _release(client, acquired.hold)
            raise

    def close(self) -> None:
        """Close this process's client, unless it was given. A later request makes another one."""
        if self._given is None:
            with self._lock:
                client, self._client = self._client, None
            if client is not None:
                client.close()

    def _acquire(self, counter: str) -> tuple[Client[Any], Acquired]:
        client = self._client
        if client is None:
            with self._lock:
                client = self._client
                if client is None:
                    client = self._client = Client(self._url, timeout=self._options.timeout, lazy=True)
        # While the server is known to be unreachable, requests do not wait for it: the client is connecting already.
        if self._options.warned and not client.connected:
            raise ConnectionFailed("not connected")
        return client, client.acquire([(counter, 1, self._options.limit)], again=True, timeout=self._options.timeout)

    def _refuse(self, start_response: StartResponse, refusal: Refusal) -> Iterable[bytes]:
        headers, body = self._options.response(refusal)
        start_response(f"{refusal.status} {HTTPStatus(refusal.status).phrase}", list(headers.items()))
        return [body]


def _release(client: Client[Any], hold: Hold) -> None:
    # What the client does not reach now it releases later.
    with suppress(NaughtError):
        client.release(hold)


class _Counted:
    """The response of a request that is counted until the server closes it."""

    def __init__(self, response: Iterable[bytes], client: Client[Any], hold: Hold) -> None:
        self._response: Final = response
        self._client: Final = client
        self._hold: Hold | None = hold  # until it is released

    def __iter__(self) -> Iterator[bytes]:
        return iter(self._response)

    def close(self) -> None:
        """The server has sent the response, or has given up."""
        try:
            close = getattr(self._response, "close", None)
            if close is not None:
                close()
        finally:
            hold, self._hold = self._hold, None
            if hold is not None:
                _release(self._client, hold)

    def __del__(self) -> None:
        """The server, or a middleware around this one, has forgotten to close it. No thread may wait here. In the
        child of a fork the hold is lost, as it is the parent's."""
        hold = getattr(self, "_hold", None)
        if hold is not None and not hold.lost:
            with suppress(NaughtError):
                self._client._connection.release_untaken(hold)
