"""The first bytes of a connection: what tells a naught server from a service of another kind. Sans-IO."""

from __future__ import annotations

from typing import Final

from naught.errors import ProtocolError
from naught.wire.codec import encode_notification

LINE_ENDS: Final = encode_notification("\r\n\r\n", ())
"""What an adapter writes on a new connection before anything else. A naught server ignores it, as every notification
that it does not know. A service that reads lines (HTTP, Redis, memcached) answers it as a bad request, at once; else
it would wait for the end of a line, and the client for its timeout."""

SERVICES: Final = (
    (b"HTTP/", "HTTP"),
    (b"-ERR", "Redis"),
    (b"-NOAUTH", "Redis"),
    (b"-DENIED", "Redis"),
    (b"ERROR", "memcached"),
    (b"SSH-", "SSH"),
    (b"\x15\x03", "TLS"),
)
"""How the answers of other services begin, for the message of the error."""

_ARRAYS: Final = (b"\x94", b"\x93", b"\xdc", b"\xdd")  # of four elements, of three, of as many as follows


def check_greeting(data: bytes) -> None:
    """Check the first bytes of a connection. A reply is an array of four elements; a notification of three.

    Raises ProtocolError, which says what answers instead.
    """
    if data[:1] in _ARRAYS:
        return
    service = next((f", but {name}" for begin, name in SERVICES if data.startswith(begin)), "")
    raise ProtocolError(f"what answers there does not speak naught{service}: its answer begins with {data[:32]!r}")
