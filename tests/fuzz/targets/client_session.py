"""Whatever a server sends, each call of a client is settled once, with a result or an error of naught.

The bytes are taken as replies to calls that are under way, in a session and without one. `receive` raises errors of
naught only, after which the connection is dropped.
"""

from __future__ import annotations

import random
import zlib

from naught.core import calls
from naught.core.session import ClientSession
from naught.errors import NaughtError
from naught.wire.codec import encode_result
from support.client_helpers import HELLO_RESULT, FakeWaiter

HELLO_MSGID_BYTES = 5
SESSION = HELLO_RESULT | {"session": b"0123456789abcdef", "lease_ms": 10_000}


def _hello_id(hello: bytes) -> int:
    """The msgid of a hello request: [0, msgid, ...] with a msgid of any width."""
    width = {0xCC: 1, 0xCD: 2, 0xCE: 4}.get(hello[2], 0)
    return int.from_bytes(hello[3 : 3 + width], "big") if width else hello[2]


def one(data: bytes) -> None:
    """Try one input."""
    for resumable in (False, True):
        _converse(data, resumable)


def _converse(data: bytes, resumable: bool) -> None:
    draw = random.Random(zlib.crc32(data))
    session = ClientSession(cache=None, wake=lambda: None, resumable=resumable)
    waiters: list[FakeWaiter] = []

    def ask() -> None:
        for number in range(4):
            waiters.append(FakeWaiter())
            session.change(b"k%d" % number, 1 if number else -1, None, 1.0, waiters[-1])
        for call in (calls.get("k"), calls.get_many(["a", "b"]), calls.ping(), calls.info()):
            waiters.append(FakeWaiter())
            session.ask(call, 1.0, waiters[-1])
        session.end_turn(100.0)
        while session.has_output:
            session.output(100.0)

    handshake = FakeWaiter()
    hello = session.connected(handshake)
    error: NaughtError | None = None
    try:
        if data[:1] != b"\x00":  # else the input begins with the answer to hello
            start = hello.rindex(b"\x94\x00")
            session.receive(encode_result(_hello_id(hello[start:]), HELLO_RESULT if not resumable else SESSION))
        ask()
        while data:
            size = draw.randint(1, len(data))
            piece, data = data[:size], data[size:]
            session.receive(piece)
            while session.has_output:
                session.output(100.0)
    except NaughtError as fault:
        error = fault
    session.disconnected(error or ConnectionResetError("cut"), 100.0)
    session.advance(1_000.0)
    session.close()
    for waiter in waiters:
        assert waiter.done(), "a call hangs"
        assert waiter.error is None or isinstance(waiter.error, NaughtError), repr(waiter.error)
