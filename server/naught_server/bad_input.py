"""The error for bytes that end a connection. Raised where they are read: by `decoder.py` and `protocol.py`.

In a module of its own because those two are compiled, and a compiled class cannot inherit from `ProtocolError`, which
is not.
"""

from __future__ import annotations

from naught.errors import ProtocolError


class BadInput(ProtocolError):
    """What a peer sent cannot be a message within the limits. `msgid` is the request at fault, where known."""

    def __init__(self, code: str, message: str, msgid: int | None) -> None:
        super().__init__(message)
        self.code = code
        self.msgid = msgid
