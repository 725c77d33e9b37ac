"""Requests that a client sends again, because it cannot know whether they were executed."""

from __future__ import annotations

from pathlib import Path

import pytest

from naught.wire.codec import encode_request
from support.conversation import decoded, split_messages
from support.server_process import RawPeer, server_process, wait_until


def replies(peer: RawPeer, count: int) -> list[object]:
    """The next replies: results, or codes of errors."""
    data = b""
    while True:
        piece = peer.socket.recv(1 << 16)
        assert piece, "the server closed"
        data += piece
        try:
            found = decoded(data)
        except AssertionError:
            continue
        if len(found) == count:
            return [result if error is None else error[0] for _, _, error, result in found]


@pytest.mark.parametrize("evicted", ["by itself", "by somebody else"])
def test_requests_sent_again_after_a_cut_get_the_stored_replies_and_raise_no_counter_from_the_dead(
    tmp_path: Path, evicted: str
) -> None:
    """Also where the counter was evicted meanwhile: executed again, the increment would bring it back."""
    with server_process(tmp_path) as server, server.connect() as other:
        with server.connect() as first:
            opened = first.call("hello", {"session": True})
            requests = [encode_request(2, "incr", ("k", 3)), encode_request(3, "incr", ("k",))]
            if evicted == "by itself":
                requests += [encode_request(4, "decr", ("k", 4)), encode_request(5, "decr", ("k", 1, True))]
            first.send(b"".join(requests))
            wait_until(lambda: other.call("info")[b"commands"].get(b"incr") == 2, "they were executed")
            # It goes without having read a reply.
        if evicted != "by itself":
            assert other.call("take", ["k"]) == [4]
        stored = [3, 4] if evicted != "by itself" else [3, 4, 0, b"underflow"]
        for _ in range(3):  # again and again: what is not acknowledged stays
            with server.connect() as again:
                # `received` says that no reply has come: all are sent again, and no request has to be.
                again.send(encode_request(1, "hello", ({"session": opened[b"session"], "received": 0},)))
                hello, *rest = replies(again, 1 + len(stored))
                assert hello[b"accepted"] == len(requests)  # type: ignore[index]
                assert rest == stored
                assert other.call("get", "k") == 0
        info = other.call("info")
        assert info[b"commands"][b"incr"] == 2, "each was executed once"
        assert other.call("count") == 0
    assert len(split_messages(b"".join(requests))) == len(requests)
