"""HTTP of scrapers, probes and browsers: bytes in, bytes out."""

from __future__ import annotations

import random

import pytest

from naught_server.http import HEAD_BYTES_MAX, REQUESTS_MAX, Conversation, Request, Response
from support.conversation import byte_by_byte, random_cuts

HOST = b"Host: localhost\r\n"
GET = b"GET /metrics HTTP/1.1\r\n" + HOST + b"\r\n"


def served(*pieces: bytes) -> tuple[bytes, Conversation, list[Request]]:
    """The replies to these pieces, whose bodies say the method and the path."""
    requests: list[Request] = []

    def respond(request: Request) -> Response:
        requests.append(request)
        return Response.text(200, f"{request.method} {request.path}")

    conversation = Conversation(respond)
    return b"".join(conversation.receive(piece) for piece in pieces), conversation, requests


def status_of(reply: bytes) -> int:
    return int(reply.split(b" ", 2)[1])


def test_a_request_and_its_reply() -> None:
    reply, conversation, _ = served(GET)
    head, _, body = reply.partition(b"\r\n\r\n")
    lines = head.decode().split("\r\n")
    assert lines[0] == "HTTP/1.1 200 OK"
    headers = dict(line.split(": ", 1) for line in lines[1:])
    assert headers["Content-Length"] == str(len(body))
    assert body == b"GET /metrics\n"
    assert headers["Connection"] == "keep-alive"
    assert not conversation.closing
    assert conversation.is_idle
    # Nothing of other origins, no frames, no guesses of types.
    assert "default-src 'none'" in headers["Content-Security-Policy"]
    assert "frame-ancestors 'none'" in headers["Content-Security-Policy"]
    assert "unsafe" not in headers["Content-Security-Policy"]
    assert headers["X-Content-Type-Options"] == "nosniff"


def test_requests_however_they_are_cut() -> None:
    heads = [GET, b"HEAD / HTTP/1.1\r\n" + HOST + b"\r\n", b"GET /livez?x=1 HTTP/1.1\r\n" + HOST + b"\r\n"]
    whole, _, requests = served(*heads)
    assert [(request.method, request.path) for request in requests] == [
        ("GET", "/metrics"),
        ("HEAD", "/"),
        ("GET", "/livez"),
    ]
    assert served(*(piece for head in heads for piece in byte_by_byte(head)))[0] == whole
    source = random.Random(1)
    for _ in range(50):
        assert served(*(piece for head in heads for piece in random_cuts(head, source)))[0] == whole


def test_a_refusal_of_a_head_has_no_body_either() -> None:
    for head in (b"HEAD / HTTP/1.1\r\n\r\n", b"HEAD / HTTP/1.1\r\n" + HOST + b"Content-Length: 5\r\n\r\n"):
        reply, _, _ = served(head)
        assert status_of(reply) in (400, 413)
        assert reply.endswith(b"\r\n\r\n")


@pytest.mark.parametrize(
    ("target", "host", "path"),
    [
        (b"http://localhost:6481/metrics?x", "localhost:6481", "/metrics"),
        (b"HTTP://evil.example/livez", "evil.example", "/livez"),  # it is this name that is asked for
        (b"http://localhost", "localhost", "/"),
        (b"http://localhost?x", "localhost", "/"),
    ],
)
def test_a_proxy_may_name_the_host_in_the_request_line(target: bytes, host: str, path: str) -> None:
    reply, _, requests = served(b"GET " + target + b" HTTP/1.1\r\nHost: other\r\n\r\n")
    assert status_of(reply) == 200
    assert (requests[0].headers["host"], requests[0].path) == (host, path)


def test_an_empty_line_before_a_request_is_passed_over() -> None:
    for pieces in ([b"\r\n" + GET], byte_by_byte(b"\r\n" + GET)):
        reply, conversation, requests = served(*pieces)
        assert (status_of(reply), len(requests), conversation.closing) == (200, 1, False)


def test_requests_before_the_reply_are_not_served() -> None:
    reply, conversation, requests = served(GET * 1_000)
    assert len(requests) == 1
    assert conversation.closing
    assert b"Connection: close" in reply
    assert reply.count(b"HTTP/1.1 ") == 1


def test_blanks_around_a_value() -> None:
    """Thousands of them take no longer than other bytes: this test would not end."""
    blanks = b" \t" * 1_500
    _, _, requests = served(b"GET / HTTP/1.1\r\n" + HOST + b"a:" + blanks + b"x y" + blanks + b"\r\n\r\n")
    assert requests[0].headers["a"] == "x y"
    for bad in (b"a:" + blanks + b"\0", b"a:x" + blanks + b"\rx", b"a" + blanks + b":x"):
        reply, _, _ = served(b"GET / HTTP/1.1\r\n" + HOST + bad + b"\r\n\r\n")
        assert status_of(reply) == 400


def test_a_head_has_no_body() -> None:
    reply, _, _ = served(b"HEAD /metrics HTTP/1.1\r\n" + HOST + b"\r\n")
    assert reply.endswith(b"\r\n\r\n")
    assert b"Content-Length: 14\r\n" in reply  # of the body that GET would have


@pytest.mark.parametrize(
    ("version", "header", "stays"),
    [
        (b"1", b"", True),
        (b"1", b"Connection: close\r\n", False),
        (b"1", b"connection:  Close \r\n", False),
        (b"0", b"", False),
        (b"0", b"Connection: keep-alive\r\n", True),
        (b"1", b"Connection: TE, close\r\n", False),
        (b"1", b"Connection: enclosed\r\n", True),
    ],
)
def test_whether_a_connection_stays(version: bytes, header: bytes, stays: bool) -> None:
    reply, conversation, _ = served(b"GET / HTTP/1." + version + b"\r\n" + HOST + header + b"\r\n")
    assert conversation.closing is not stays
    assert (b"Connection: keep-alive" in reply) is stays
    assert status_of(reply) == 200


@pytest.mark.parametrize(
    ("head", "status"),
    [
        (b"\x94\x00\x01\xa4incr\x91\xa1k", None),
        (b"hello\r\n\r\n", 400),
        (b"GET  / HTTP/1.1\r\n\r\n", 400),
        (b"get / HTTP/1.1\r\n" + HOST + b"\r\n", 400),
        (b"GET / HTTP/2.0\r\n" + HOST + b"\r\n", 400),
        (b"GET / HTTP/1.1\r\n\r\n", 400),
        (b"GET / HTTP/1.1\r\nHost\r\n\r\n", 400),
        (b"GET / HTTP/1.1\r\nHost: evil\r\n" + HOST + b"\r\n", 400),
        (b"GET ftp://localhost/ HTTP/1.1\r\n" + HOST + b"\r\n", 400),
        (b"GET localhost/ HTTP/1.1\r\n" + HOST + b"\r\n", 400),
        (b"GET / HTTP/1.1\r\nHost : a\r\n\r\n", 400),
        (b"GET / HTTP/1.1\r\nHost: a\r\n folded\r\n\r\n", 400),
        (b"GET / HTTP/1.1\r\nHost: a\nb: c\r\n\r\n", 400),
        (b"GET /\xc3\xa9 HTTP/1.1\r\n" + HOST + b"\r\n", 400),
        (b"POST / HTTP/1.1\r\n" + HOST + b"\r\n", 405),
        (b"DELETE / HTTP/1.1\r\n" + HOST + b"\r\n", 405),
        (b"GET / HTTP/1.1\r\n" + HOST + b"Content-Length: 5\r\n\r\nhello", 413),
        (b"GET / HTTP/1.1\r\n" + HOST + b"Content-Length: 5\r\ncontent-length: 0\r\n\r\n", 400),
        (b"GET / HTTP/1.1\r\n" + HOST + b"Transfer-Encoding: chunked\r\n\r\n", 413),
        (b"GET / HTTP/1.1\r\n" + HOST + b"Authorization: Basic x\r\nAuthorization: Basic y\r\n\r\n", 400),
        (b"GET / HTTP/1.1\r\n" + HOST + b"x: " + b"y" * HEAD_BYTES_MAX, 431),
        (b"z" * (HEAD_BYTES_MAX + 1), 431),
    ],
)
def test_what_is_no_such_request_ends_the_connection(head: bytes, status: int | None) -> None:
    for pieces in ([head], byte_by_byte(head)):
        reply, conversation, requests = served(*pieces)
        assert not requests
        if status is None:  # it may still become one
            assert (reply, conversation.closing) == (b"", False)
            continue
        assert status_of(reply) == status
        assert conversation.closing
        assert reply.count(b"HTTP/1.1 4") == 1
        assert conversation.receive(GET) == b"", "nothing is served after that"


def test_a_wrong_method_says_which_are_right() -> None:
    reply, _, _ = served(b"PUT / HTTP/1.1\r\n" + HOST + b"\r\n")
    assert b"Allow: GET, HEAD\r\n" in reply


def test_what_is_kept_is_bounded() -> None:
    conversation = Conversation(lambda request: Response.text(200, "ok"))
    for _ in range(1_000):
        conversation.receive(b"x" * 1_000)
    assert len(conversation._data) <= HEAD_BYTES_MAX


def test_a_connection_ends_after_so_many_requests() -> None:
    reply, conversation, requests = served(*[GET] * (REQUESTS_MAX + 5))
    assert len(requests) == REQUESTS_MAX
    assert conversation.closing
    assert reply.count(b"Connection: close") == 1
