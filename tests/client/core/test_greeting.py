"""`Greeting`: the answer to a `hello` that opens no session, in pieces of any size."""

from __future__ import annotations

import pytest

from naught.core.greeting import Greeting
from naught.errors import ProtocolError, Unauthenticated
from naught.wire.codec import encode_error, encode_notification, encode_result


@pytest.mark.parametrize("size", [1, 2, 7, 1_000])
def test_an_answer_is_one_however_it_is_cut(size: int) -> None:
    greeting = Greeting("orders", ("web", "secret"))
    data = encode_notification("news", ("of a later version",)) + encode_result(0, {"server": "naught"})
    pieces = [data[at : at + size] for at in range(0, len(data), size)]
    assert [greeting.receive(piece) for piece in pieces] == [False] * (len(pieces) - 1) + [True]


def test_a_refusal_of_the_server_is_its_error() -> None:
    with pytest.raises(Unauthenticated, match="no such user"):
        Greeting(None, None).receive(encode_error(0, "unauthenticated", "no such user"))


@pytest.mark.parametrize("data", [b"HTTP/1.1 400 Bad Request\r\n", b"-ERR unknown command\r\n", b"\x94\x01\xc1"])
def test_what_is_no_answer_is_said(data: bytes) -> None:
    with pytest.raises(ProtocolError):
        Greeting(None, None).receive(data)
