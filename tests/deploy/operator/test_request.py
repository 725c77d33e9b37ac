"""The webhook's HTTP: whole requests, in any pieces, and what is refused."""

from __future__ import annotations

import pytest

from naught_operator.request import BODY_BYTES_MAX, HEAD_BYTES_MAX, Incoming, Refused, Request, authorize, reply

WHOLE = b"POST /alerts?x=1 HTTP/1.1\r\nHost: a\r\nContent-Length: 4\r\nX-Twice: 1\r\nx-twice:  2 \r\n\r\nbody"


def received(*pieces: bytes) -> Request | None:
    incoming = Incoming()
    for piece in pieces:
        incoming.receive(piece)
    return incoming.request


def test_a_request_is_the_same_in_whatever_pieces_it_comes() -> None:
    expected = Request("POST", "/alerts", {"host": "a", "content-length": "4", "x-twice": "2"}, b"body")
    assert received(WHOLE) == expected
    assert received(*(WHOLE[place : place + 1] for place in range(len(WHOLE)))) == expected
    for place in range(len(WHOLE)):
        assert received(WHOLE[:place], WHOLE[place:]) == expected
    assert received(WHOLE[:-1]) is None


@pytest.mark.parametrize(
    ("data", "status"),
    [
        (b"nonsense\r\n\r\n", 400),
        (b"POST / HTTP/2.0\r\n\r\n", 400),
        (b"POST / HTTP/1.1\r\nno colon\r\n\r\n", 400),
        (b"POST / HTTP/1.1\r\nContent-Length: -1\r\n\r\n", 400),
        (b"POST / HTTP/1.1\r\nContent-Length: 9999999999999999999\r\n\r\n", 400),
        (b"POST / HTTP/1.1\r\nTransfer-Encoding: chunked\r\n\r\n", 411),
        (b"POST / HTTP/1.1\r\nExpect: 100-continue\r\nContent-Length: 1\r\n\r\n", 417),
        (b"POST / HTTP/1.1\r\nContent-Length: %d\r\n\r\n" % (BODY_BYTES_MAX + 1), 413),
        (b"POST / HTTP/1.1\r\n" + b"x" * HEAD_BYTES_MAX, 431),
        (b"x: " + b"y" * HEAD_BYTES_MAX + b"\r\n\r\n", 431),
    ],
    ids=["line", "version", "header", "negative", "long", "chunked", "expect", "body", "endless head", "long head"],
)
def test_what_is_refused_is_refused_before_its_body(data: bytes, status: int) -> None:
    with pytest.raises(Refused) as refusal:
        received(data)
    assert refusal.value.status == status


@pytest.mark.parametrize(
    ("header", "allowed"),
    [("Bearer secret", True), ("bearer  secret", True), ("Bearer Secret", False), ("secret", False), ("", False)],
)
def test_the_token(header: str, allowed: bool) -> None:
    if allowed:
        authorize({"authorization": header}, "secret")
        return
    with pytest.raises(Refused, match="the bearer token is missing or wrong"):
        authorize({"authorization": header}, "secret")


def test_without_a_token_nobody_is_asked() -> None:
    authorize({}, None)


def test_a_reply_closes() -> None:
    assert reply(401, {"error": "no"}) == (
        b"HTTP/1.1 401 Unauthorized\r\nContent-Type: application/json\r\nContent-Length: 16\r\n"
        b'WWW-Authenticate: Bearer\r\nConnection: close\r\n\r\n{"error": "no"}\n'
    )
