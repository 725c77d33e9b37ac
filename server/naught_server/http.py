"""HTTP/1.1 as far as scrapers, probes and one page need it: GET and HEAD, no bodies. Sans-IO.

    conversation = Conversation(respond)
    replies = conversation.receive(data)         # bytes to send
    if conversation.closing: ...                 # close once they are sent

`respond` gets a `Request` and returns a `Response`. What is no such request is answered with a status that says what
is wrong, and ends the connection. A head has a bounded size, and no more than one is kept.

A peer that sends a request before it has the reply to the last gets that reply, and the connection closes: else some
kilobytes could ask for a thousand replies in one turn of the loop. Neither scrapers nor browsers do that.
"""

from __future__ import annotations

import re
from collections.abc import Callable, Mapping
from dataclasses import dataclass, field
from http import HTTPStatus
from typing import Final

HEAD_BYTES_MAX: Final = 8 << 10
"""Request line and headers: browsers send 1 KiB, and their cookies for `localhost` may be some more."""

REQUESTS_MAX: Final = 1_000
"""Requests of one connection, after which it is closed: as proxies expect it of a server now and then."""

_LINE: Final = re.compile(rb"([A-Z]{1,16}) ([!-~]{1,2048}) HTTP/1\.([01])", re.ASCII)
# Blanks around the value are stripped afterwards: a pattern that may take them in several places tries them all.
_HEADER: Final = re.compile(rb"([!#$%&'*+.^_`|~0-9A-Za-z-]{1,64}):([^\r\n\0]*)", re.ASCII)

_ABSOLUTE: Final = re.compile(r"http://([^/?]+)(.*)", re.IGNORECASE)
"""A whole URL, as a proxy is asked: its host counts, whatever the header says."""

_ONCE: Final = ("host", "content-length", "authorization")
"""Headers of which a proxy before this port may take another one than it does."""

_EVERYWHERE: Final = {
    # Nothing but our own files, no frame around them, and no form that could send something.
    "Content-Security-Policy": "default-src 'none'; style-src 'self'; script-src 'self'; connect-src 'self'; "
    "img-src 'self' data:; base-uri 'none'; form-action 'none'; frame-ancestors 'none'",
    "X-Content-Type-Options": "nosniff",
    "Referrer-Policy": "no-referrer",
    "Cache-Control": "no-store",
}


@dataclass(frozen=True)
class Request:
    """A request for a path."""

    method: str
    """GET or HEAD."""
    path: str
    """Without its query."""
    headers: Mapping[str, str]
    """By name in lower case; of one that is repeated the last."""


@dataclass(frozen=True)
class Response:
    """A status and a body, of one type."""

    status: int
    body: bytes
    content_type: str = "text/plain; charset=utf-8"
    headers: Mapping[str, str] = field(default_factory=dict)

    @classmethod
    def text(cls, status: int, text: str, **headers: str) -> Response:
        """A line of text."""
        return cls(
            status, f"{text}\n".encode(), headers={name.replace("_", "-"): value for name, value in headers.items()}
        )


class _BadRequest(Exception):
    """What arrived is no request that is served here."""

    def __init__(self, status: int, why: str, **headers: str) -> None:
        super().__init__(why)
        self.response: Final = Response.text(status, why, **headers)


class Conversation:
    """One connection's requests."""

    def __init__(self, respond: Callable[[Request], Response]) -> None:
        self._respond = respond
        self._data = b""  # received, and no whole head yet
        self._served = 0  # requests
        self.closing = False  # send what there is, then close

    @property
    def is_idle(self) -> bool:
        """Whether no request has begun to arrive."""
        return not self._data

    def receive(self, data: bytes) -> bytes:
        """Take received bytes. Returns what to send."""
        if self.closing:
            return b""
        self._data += data
        if self._data.startswith(b"\r\n"):
            self._data = self._data[2:]  # some clients end a request with a line too many
        end = self._data.find(b"\r\n\r\n")
        if end < 0 or end > HEAD_BYTES_MAX:
            if len(self._data) <= HEAD_BYTES_MAX:
                return b""
            return self._refuse(_BadRequest(431, f"a request has at most {HEAD_BYTES_MAX} bytes"))
        head, rest = self._data[:end], self._data[end + 4 :]
        self._data = b""
        try:
            return self._serve(head, ends=bool(rest))
        except _BadRequest as fault:
            return self._refuse(fault, has_body=not head.startswith(b"HEAD "))

    def _serve(self, head: bytes, *, ends: bool) -> bytes:
        request, keeps = _parse(head)
        self._served += 1
        self.closing = ends or not keeps or self._served >= REQUESTS_MAX
        return _encoded(self._respond(request), closes=self.closing, has_body=request.method != "HEAD")

    def _refuse(self, fault: _BadRequest, *, has_body: bool = True) -> bytes:
        self.closing = True
        self._data = b""
        return _encoded(fault.response, closes=True, has_body=has_body)


def _parse(head: bytes) -> tuple[Request, bool]:
    """The request, and whether the connection stays open after it. Raises _BadRequest."""
    line, *rest = head.split(b"\r\n")
    matched = _LINE.fullmatch(line)
    if matched is None:
        raise _BadRequest(400, "this port speaks HTTP/1.1; counters are served at another port")
    headers: dict[str, str] = {}
    for each in rest:
        parsed = _HEADER.fullmatch(each)
        if parsed is None:
            raise _BadRequest(400, "a header is a name, a colon and a value")
        name = parsed[1].decode("ascii").lower()
        if name in _ONCE and name in headers:
            raise _BadRequest(400, f"a request has one header {name}")
        headers[name] = parsed[2].strip(b" \t").decode("latin-1")
    if headers.get("content-length", "0") != "0" or "transfer-encoding" in headers:
        raise _BadRequest(413, "no request here has a body")
    method = matched[1].decode("ascii")
    if method not in ("GET", "HEAD"):
        raise _BadRequest(405, "nothing can be changed here: GET and HEAD are served", Allow="GET, HEAD")
    target = matched[2].decode("ascii")
    absolute = _ABSOLUTE.fullmatch(target)
    if absolute is not None:
        headers["host"], target = absolute[1], absolute[2]
    elif target[0] != "/":
        raise _BadRequest(400, "what is asked for is a path, or a URL of http")
    path = target.partition("?")[0] or "/"
    is_new = matched[3] == b"1"
    if is_new and "host" not in headers:
        raise _BadRequest(400, "a request of HTTP/1.1 names its host")
    wishes = [each.strip() for each in headers.get("connection", "").lower().split(",")]
    return Request(method, path, headers), "close" not in wishes and (is_new or "keep-alive" in wishes)


def _encoded(response: Response, *, closes: bool, has_body: bool) -> bytes:
    headers = {
        "Content-Type": response.content_type,
        "Content-Length": str(len(response.body)),
        **_EVERYWHERE,
        **response.headers,
        "Connection": "close" if closes else "keep-alive",
    }
    phrase = HTTPStatus(response.status).phrase
    head = "".join(f"{name}: {value}\r\n" for name, value in headers.items())
    encoded = f"HTTP/1.1 {response.status} {phrase}\r\n{head}\r\n".encode("latin-1")
    return encoded + response.body if has_body else encoded
