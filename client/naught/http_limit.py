"""What the middlewares `naught.asgi` and `naught.wsgi` share: their options, checked, and the response of a refusal.

A program may give the response a body and headers of its own, each as it is or as a function of the `Refusal`:

    def body(refusal):
        return json.dumps({"in_flight": refusal.in_flight, "limit": refusal.limit})

    InFlightLimit(app, url, limit=200, body=body, headers={"content-type": "application/json"})
"""

from __future__ import annotations

import logging
from collections.abc import Callable, Mapping
from math import ceil
from typing import Final, Literal, NamedTuple, TypeAlias

from naught.core.calls import check_integer, check_timeout
from naught.errors import InvalidRequest
from naught.patterns import Unreachable, check_unreachable
from naught.wire.codec import encode_key
from naught.wire.limits import VALUE_MAX

logger = logging.getLogger("naught")


class Refusal(NamedTuple):
    """A request that is not passed on."""

    status: int
    """The status of the response: the middleware's, or 503 if the limit cannot be checked."""
    group: str
    """The group of the request, as `key` has named it; empty without `key`."""
    limit: int
    """How many requests of the group may be in flight."""
    in_flight: int | None
    """How many are, as the server said; None if it cannot be reached."""
    retry_after: int
    """The seconds of the header Retry-After."""


Body: TypeAlias = str | bytes | Callable[[Refusal], str | bytes] | None
Headers: TypeAlias = Mapping[str, str] | Callable[[Refusal], Mapping[str, str]] | None


class LimitOptions:
    """The options of both middlewares, checked. `naught.asgi.InFlightLimit` explains each."""

    def __init__(
        self,
        *,
        limit: int,
        name: str,
        status: Literal[503, 429],
        retry_after: float,
        unreachable: Unreachable,
        timeout: float,
        body: Body,
        headers: Headers,
    ) -> None:
        encode_key(name)
        if status not in (503, 429):
            raise InvalidRequest(f"status is 503 or 429, not {status!r}")
        seconds = check_timeout(retry_after, "retry_after")
        if seconds is None or not 0 <= seconds <= 86_400:
            raise InvalidRequest(f"retry_after is from 0 to 86400 seconds, not {retry_after!r}")
        if body is not None and not isinstance(body, str | bytes) and not callable(body):
            raise InvalidRequest(f"body is text, bytes or a function, not {type(body).__name__}")
        if headers is not None and not isinstance(headers, Mapping) and not callable(headers):
            raise InvalidRequest(f"headers is a mapping or a function, not {type(headers).__name__}")
        self.limit: Final = check_integer("limit", limit, 1, VALUE_MAX)
        self.name: Final = name
        self.open: Final = check_unreachable(unreachable) == "open"
        self.timeout: Final = check_timeout(timeout)  # seconds to wait for the server, per request
        self._status: Final = status
        self._retry_after: Final = ceil(seconds)
        self._body: Final = body
        self._headers: Final = headers
        # A warning was logged that the server cannot be reached, and no request was counted since.
        self.warned = False

    def counter_of(self, group: str) -> str:
        """The counter of a group."""
        return f"{self.name}:{group}" if group else self.name

    def note_counted(self) -> None:
        """The server has answered."""
        self.warned = False

    def note_unreachable(self, error: BaseException) -> None:
        """The server has not answered: warn, once until it does."""
        if not self.warned:
            self.warned = True
            effect = "pass uncounted" if self.open else "are refused"
            logger.warning("the limit on requests in flight cannot be checked, requests %s: %r", effect, error)

    def refusal(self, group: str, in_flight: int | None) -> Refusal:
        """A request of the group is refused. `in_flight` is None where the server cannot be reached."""
        status = 503 if in_flight is None else self._status
        return Refusal(status, group, self.limit, in_flight, self._retry_after)

    def response(self, refusal: Refusal) -> tuple[dict[str, str], bytes]:
        """Headers and body of the response. The headers of the program replace those of the same name."""
        body = self._body(refusal) if callable(self._body) else self._body
        if body is None:
            unknown = refusal.in_flight is None
            body = (
                "the limit on requests in flight cannot be checked\n" if unknown else "too many requests in flight\n"
            )
        data = body.encode() if isinstance(body, str) else body
        headers = {"content-type": "text/plain; charset=utf-8", "retry-after": str(refusal.retry_after)}
        own = self._headers(refusal) if callable(self._headers) else self._headers
        headers.update({name.lower(): value for name, value in (own or {}).items()})
        headers["content-length"] = str(len(data))
        return headers, data
