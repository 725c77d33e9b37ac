"""Any bytes are answered by whole responses of HTTP/1.1, the same however they are cut, and pin at most a head."""

from __future__ import annotations

import itertools
import random
import zlib

from naught_server.http import HEAD_BYTES_MAX, Conversation, Request, Response

STATUSES = (200, 400, 405, 413, 431)


def _respond(request: Request) -> Response:
    return Response.text(200, repr(request.path))


def _answers(pieces: list[bytes]) -> tuple[bytes, bool]:
    conversation = Conversation(_respond)
    replies = b""
    for piece in pieces:
        replies += conversation.receive(piece)
        assert len(conversation._data) <= HEAD_BYTES_MAX
    return replies, conversation.closing


def one(data: bytes) -> None:
    """Try one input."""
    draw = random.Random(zlib.crc32(data))
    replies, closing = _answers([data])
    _check(replies)
    if data.count(b"\r\n\r\n") <= 1 and not closing:  # a request behind another is refused where it arrives with it
        places = sorted(draw.randrange(len(data) + 1) for _ in range(4))
        edges = [0, *places, len(data)]
        cut = [data[begin:end] for begin, end in itertools.pairwise(edges)]
        assert _answers(cut) == (replies, closing)
    _check(_answers([data[at : at + 1] for at in range(min(len(data), 3_000))])[0])


def _check(replies: bytes) -> None:
    """They are responses, each as long as it says."""
    while replies:
        head, end, rest = replies.partition(b"\r\n\r\n")
        assert end
        line, *headers = head.split(b"\r\n")
        assert int(line.split()[1]) in STATUSES, line
        length = next(int(each.split(b":")[1]) for each in headers if each.startswith(b"Content-Length:"))
        if length > len(rest) or not rest:  # of HEAD there is no body
            replies = rest
            continue
        replies = rest[length:] if not rest.startswith(b"HTTP/1.1 ") else rest
