"""The first bytes of a connection: what tells a naught server from another service, or from none. Sans-IO."""

from __future__ import annotations

from typing import Any, Final

from naught.core.calls import item_error
from naught.credentials import text_as_sent
from naught.errors import ProtocolError
from naught.wire.codec import encode_notification, encode_request, reply_unpacker

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


class Greeting:
    """A `hello` that opens and resumes no session, to see whether anybody answers on this connection.

    Of two connections that are tried side by side, the session may be resumed on one only. This `hello` logs in, so
    the one of the session need not do so. `request` is what to write.
    """

    def __init__(self, cache: str | None, login: tuple[str, str] | None) -> None:
        words = login_words(login) | ({} if cache is None else {"cache": cache})
        self.request: Final = LINE_ENDS + encode_request(0, "hello", (words,) if words else ())
        self._unpacker: Final[Any] = reply_unpacker()
        self._begun = False  # the answer

    def receive(self, data: bytes) -> bool:
        """Whether the answer is there. Raises the server's CommandError, and ProtocolError where it is no answer."""
        if not self._begun:
            check_greeting(data)
            self._begun = True
        try:
            self._unpacker.feed(data)
            replies = list(self._unpacker)
        except Exception as error:  # msgpack raises various errors for bytes that are not MessagePack
            raise ProtocolError("the server sent bytes that are not a MessagePack-RPC reply") from error
        for reply in replies:
            if reply.__class__ is not list or len(reply) != 4:
                continue  # a notification, which a later version of the server may send
            if reply[2] is not None:
                raise item_error(reply[2])
            return True
        return False


def login_words(login: tuple[str, str] | None) -> dict[str, Any]:
    """What `hello` says of the user."""
    return {} if login is None else dict(zip(("user", "secret"), map(text_as_sent, login), strict=True))
