"""What each path of the HTTP port answers. Sans-IO: the clock and the process's figures come from its owner.

    /                /page.css  /page.js     the page, and its parts
    /status.json                             what the page shows
    /metrics                                 the same for Prometheus
    /livez  /readyz                          200, or 503 and why

Nothing can be changed here. A server with a token answers only requests that say it, as a bearer token or as the
password of HTTP's basic authentication, but for /livez and /readyz. One with users and without a token shows no keys:
then only these two and /metrics are there.

Where only loopback is listened on, a request must name it as its host: else any web page
could read these figures in the browser of somebody on this machine, by a name that leads here.
"""

from __future__ import annotations

import base64
import ipaddress
import re
from collections.abc import Callable
from pathlib import Path
from typing import Final

from naught_server.access import Access
from naught_server.health import Health
from naught_server.http import Request, Response
from naught_server.metrics import CONTENT_TYPE, CONTENT_TYPE_OPEN, Snapshot, exposition
from naught_server.secret_hash import PlainSecret
from naught_server.status import StatusFeed

_PAGE_FILES: Final = {
    "/": ("index.html", "text/html; charset=utf-8"),
    "/page.css": ("page.css", "text/css; charset=utf-8"),
    "/page.js": ("page.js", "text/javascript; charset=utf-8"),
}

_FOR_EVERYBODY: Final = ("/livez", "/readyz")

_OPEN_METRICS: Final = re.compile(r"application/openmetrics-text(?:;[^,]*)?")
_QUALITY: Final = re.compile(r";\s*q=([0-9.]+)")


class Routes:
    """The answers of one server."""

    def __init__(
        self,
        health: Health,
        feed: StatusFeed,
        snapshot: Callable[[], Snapshot],
        now_ms: Callable[[], int],
        access: Access,
        *,
        only_loopback: bool,
    ) -> None:
        self._health = health
        self._feed = feed
        self._snapshot = snapshot  # takes the figures at this moment; 0.1 ms and more
        self._now_ms = now_ms
        self._only_loopback = only_loopback
        self._access = access  # of the server: whether it has users
        self._token: PlainSecret | None = None  # what requests must say
        self._page = {
            path: Response(200, Path(__file__).with_name("page").joinpath(name).read_bytes(), content_type)
            for path, (name, content_type) in _PAGE_FILES.items()
        }
        self._made = {
            "/metrics": self._metrics,
            "/status.json": self._status,
            "/livez": self._livez,
            "/readyz": self._readyz,
        }

    def respond(self, request: Request) -> Response:
        """The response to a request."""
        if self._only_loopback and not _is_loopback_host(request.headers.get("host", "localhost")):
            return Response.text(403, "this port is for this machine: ask for it as localhost, or by its address")
        if request.path not in _FOR_EVERYBODY:
            refusal = self._refusal(request)
            if refusal is not None:
                return refusal
        page = self._page.get(request.path)
        if page is not None:
            return page
        made = self._made.get(request.path)
        if made is not None:
            return made(request)
        return Response.text(404, f"there are {', '.join((*self._page, *self._made))}")

    def take_token(self, token: PlainSecret | None) -> None:
        """Requests must say this from now on; None for nothing."""
        self._token = token

    def renew_token(self, token: PlainSecret | None) -> None:
        """Requests must say this token from now on, if they had to say one until now and have to say one still."""
        if self._token is not None and token is not None:
            self._token = token

    def _refusal(self, request: Request) -> Response | None:
        """The response to a request that must not see anything; None for others."""
        if self._token is None:
            if self._access.required and request.path != "/metrics":
                return Response.text(403, "this server has users and no http_token_file, so it shows no keys here")
            return None
        said = _token_of(request.headers.get("authorization", ""))
        if said is not None and self._token.matches(said):
            return None
        if said is not None:
            self._access.note_refused_token()
        return Response.text(
            401, "say the token: as a bearer token, or as a password", WWW_Authenticate='Basic realm="naught"'
        )

    def _metrics(self, request: Request) -> Response:
        open_metrics = _prefers_open_metrics(request.headers.get("accept", ""))
        text = exposition(self._snapshot(), open_metrics=open_metrics)
        return Response(200, text.encode(), CONTENT_TYPE_OPEN if open_metrics else CONTENT_TYPE)

    def _status(self, request: Request) -> Response:
        return Response(200, self._feed.body(self._snapshot, self._health.state, self._now_ms()), "application/json")

    def _livez(self, request: Request) -> Response:
        return _health(self._health.why_not_live(self._now_ms()), "alive")

    def _readyz(self, request: Request) -> Response:
        return _health(self._health.why_not_ready(self._now_ms()), "ready")


def _token_of(authorization: str) -> bytes | None:
    """What an Authorization header says; None where it says nothing."""
    scheme, _, said = authorization.partition(" ")
    if scheme.lower() == "bearer":
        return said.strip(" ").encode("latin-1") or None  # of Latin-1 some bytes of UTF-8 are spaces too
    if scheme.lower() == "basic":
        try:
            return base64.b64decode(said.strip(), validate=True).partition(b":")[2] or None
        except ValueError:
            return None
    return None


def _health(why_not: str | None, otherwise: str) -> Response:
    return Response.text(200, otherwise) if why_not is None else Response.text(503, why_not)


def _prefers_open_metrics(accept: str) -> bool:
    """Whether a scraper takes OpenMetrics at least as gladly as plain text."""
    found = _OPEN_METRICS.search(accept)
    if found is None:
        return False
    plain = re.search(r"text/plain(?:;[^,]*)?", accept)
    return _quality(found[0]) > 0 and (plain is None or _quality(found[0]) >= _quality(plain[0]))


def _quality(kind: str) -> float:
    found = _QUALITY.search(kind)
    try:
        return float(found[1]) if found else 1.0
    except ValueError:
        return 0.0


def _is_loopback_host(host: str) -> bool:
    """Whether a Host header names this machine: localhost, or a loopback address."""
    name = host.rpartition(":")[0] if re.search(r":[0-9]*$", host) and not host.endswith("]") else host
    if name.lower() in ("localhost", "localhost."):
        return True
    try:
        return ipaddress.ip_address(name.strip("[]")).is_loopback
    except ValueError:
        return False
