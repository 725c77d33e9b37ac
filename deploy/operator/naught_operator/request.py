"""HTTP/1.1 as far as a webhook needs it: one POST with a body of a declared length, one reply. Sans-IO.

    incoming = Incoming()
    incoming.receive(data)       # until incoming.request is there, or Refused is raised
    data = reply(200, {...})     # then the connection closes

What arrives is bounded before it is kept: a head of 8 KiB, a body of 256 KiB. A body that is sent in chunks has no
length to judge it by and is refused; Alertmanager sends the length. So is `Expect: 100-continue`.
"""

from __future__ import annotations

import hmac
import json
import re
from collections.abc import Mapping
from dataclasses import dataclass
from http import HTTPStatus
from typing import Any, Final

HEAD_BYTES_MAX: Final = 8 << 10
"""Request line and headers. Alertmanager sends some hundred bytes."""

BODY_BYTES_MAX: Final = 256 << 10
"""A payload: an alert of naught with its annotations has about 1 KiB."""

_LINE: Final = re.compile(rb"([A-Z]{1,16}) ([!-~]{1,2048}) HTTP/1\.[01]", re.ASCII)
_HEADER: Final = re.compile(rb"([!#$%&'*+.^_`|~0-9A-Za-z-]{1,64}):([^\r\n\0]*)", re.ASCII)


class Refused(Exception):
    """The request is not served; `status` says why to programs, and the text to people."""

    def __init__(self, status: int, why: str) -> None:
        super().__init__(why)
        self.status: Final = status


@dataclass(frozen=True)
class Request:
    """A whole request."""

    method: str
    path: str
    """Without its query."""
    headers: Mapping[str, str]
    """By name in lower case; of one that is repeated the last."""
    body: bytes


class Incoming:
    """A request as it arrives."""

    def __init__(self) -> None:
        self._data = b""  # received, and no whole request yet
        self._head: tuple[str, str, dict[str, str]] | None = None  # None until the head has arrived
        self._length = 0  # of the body
        self.request: Request | None = None  # None until it is whole

    def receive(self, data: bytes) -> None:
        """Take received bytes. Raises Refused."""
        self._data += data
        if self._head is None:
            end = self._data.find(b"\r\n\r\n")
            if end > HEAD_BYTES_MAX or (end < 0 and len(self._data) > HEAD_BYTES_MAX):
                raise Refused(431, f"a request line and headers have at most {HEAD_BYTES_MAX} bytes")
            if end < 0:
                return
            self._head = _parse_head(self._data[:end])
            self._length = _length_of(self._head[2])
            self._data = self._data[end + 4 :]
        if len(self._data) >= self._length:
            self.request = Request(*self._head, self._data[: self._length])


def _parse_head(head: bytes) -> tuple[str, str, dict[str, str]]:
    line, *rest = head.split(b"\r\n")
    matched = _LINE.fullmatch(line)
    if matched is None:
        raise Refused(400, "this port speaks HTTP/1.1")
    headers: dict[str, str] = {}
    for each in rest:
        parsed = _HEADER.fullmatch(each)
        if parsed is None:
            raise Refused(400, "a header is a name, a colon and a value")
        headers[parsed[1].decode("ascii").lower()] = parsed[2].strip(b" \t").decode("latin-1")
    return matched[1].decode("ascii"), matched[2].decode("ascii").partition("?")[0], headers


def _length_of(headers: Mapping[str, str]) -> int:
    """The length of the body. Refuses one that is too long before it is read."""
    if "transfer-encoding" in headers:
        raise Refused(411, "a body needs a Content-Length")
    if "expect" in headers:
        raise Refused(417, "nothing can be expected here")
    text = headers.get("content-length", "0")
    if not re.fullmatch(r"[0-9]{1,18}", text, re.ASCII):
        raise Refused(400, "Content-Length is a number")
    if int(text) > BODY_BYTES_MAX:
        raise Refused(413, f"a body has at most {BODY_BYTES_MAX} bytes, not {int(text)}")
    return int(text)


def authorize(headers: Mapping[str, str], token: str | None) -> None:
    """Check the bearer token, where one is configured. Raises Refused. It takes as long for a token that is nearly
    right as for any other."""
    if token is None:
        return
    scheme, _, given = headers.get("authorization", "").partition(" ")
    if scheme.lower() != "bearer" or not hmac.compare_digest(given.strip().encode(), token.encode()):
        raise Refused(401, "the bearer token is missing or wrong")


def reply(status: int, answer: Mapping[str, Any]) -> bytes:
    """The bytes of a reply, after which the connection closes."""
    body = json.dumps(answer).encode() + b"\n"
    challenge = "WWW-Authenticate: Bearer\r\n" if status == 401 else ""
    head = (
        f"HTTP/1.1 {status} {HTTPStatus(status).phrase}\r\nContent-Type: application/json\r\n"
        f"Content-Length: {len(body)}\r\n{challenge}Connection: close\r\n\r\n"
    )
    return head.encode("ascii") + body
