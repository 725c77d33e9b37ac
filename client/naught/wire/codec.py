"""The encoding of MessagePack-RPC for both sides: requests, replies, notifications and keys as bytes. Sans-IO.

    request       [0, msgid, method, params]
    reply         [1, msgid, error, result]       error is nil, or [code, message]
    notification  [2, method, params]

The server's PROTOCOL.md specifies the methods. The server decodes requests, which it does not trust, in its
`decoder.py`; clients convert replies to results in `naught/core`.
"""

from __future__ import annotations

from typing import Any, Final

import msgpack  # type: ignore[import-untyped]

from naught.errors import InvalidRequest, TooLarge
from naught.wire.limits import KEY_BYTES_MAX, MESSAGE_BYTES_MAX, NAME_BYTES_MAX

REQUEST: Final = 0
REPLY: Final = 1
NOTIFICATION: Final = 2

Message = tuple[Any, ...]
"""A decoded request, reply or notification."""

# One packer serves the whole process: it keeps its buffer between calls, and packing never awaits. Where there is no
# memory for the result, msgpack leaves it in the buffer, and the next message would begin with it: hence `reset`.
_packer = msgpack.Packer(use_bin_type=True, buf_size=64 << 10)
_pack = _packer.pack


def encode(value: object) -> bytes:
    """Encode any value as MessagePack. Raises msgpack's own errors for a value that MessagePack does not have."""
    try:
        packed: bytes = _pack(value)
    except MemoryError:
        _packer.reset()
        raise
    return packed


def encode_request(msgid: int, method: str, params: object) -> bytes:
    """Encode a request. `params` is a list or a tuple."""
    try:
        packed: bytes = _pack((REQUEST, msgid, method, params))
    except MemoryError:
        _packer.reset()
        raise
    return packed


def encode_notification(method: str, params: object) -> bytes:
    """Encode a notification, which gets no reply. `params` is a list or a tuple."""
    return encode((NOTIFICATION, method, params))


def encode_result(msgid: int, result: object) -> bytes:
    """Encode a reply with a result."""
    try:
        packed: bytes = _pack((REPLY, msgid, None, result))
    except MemoryError:
        _packer.reset()
        raise
    return packed


def encode_error(msgid: int, code: str, message: str) -> bytes:
    """Encode a reply with an error."""
    return encode((REPLY, msgid, (code, message), None))


def encode_key(key: str | bytes) -> bytes:
    """The bytes of a key, checked by the client, so that a bad key costs no round trip and does not fail a batch.

    Text becomes UTF-8, and lone surrogates become the bytes that they stand for, as the inverse of `decode_key`.

    Raises `InvalidRequest` for an empty key, for types other than str and bytes, and for a surrogate that stands
    alone and for no byte (U+D800), `TooLarge` above 512 bytes.
    """
    if isinstance(key, str):
        try:
            data = key.encode("utf-8", "surrogateescape")
        except UnicodeEncodeError:
            raise InvalidRequest("a key has a surrogate that stands alone, which is no character") from None
    elif isinstance(key, bytes):
        data = key
    else:
        raise InvalidRequest(f"a key is str or bytes, not {type(key).__name__}")
    if not data:
        raise InvalidRequest("a key has at least 1 byte")
    if len(data) > KEY_BYTES_MAX:
        raise TooLarge(f"a key has at most {KEY_BYTES_MAX} bytes, not {len(data)}")
    return data


def decode_key(key: bytes) -> str:
    """A key as text. Bytes that are not UTF-8 become lone surrogates, which `encode_key` restores."""
    return key.decode("utf-8", "surrogateescape")


def check_name(name: str) -> str:
    """Check the name that a client gives itself. Raises `InvalidRequest`.

    It is text without control characters (U+0000 to U+001F, U+007F to U+009F), which could change what a terminal
    shows.
    """
    try:
        size = len(name.encode())
    except UnicodeEncodeError:
        raise InvalidRequest("a name is text, and this one has lone surrogates") from None
    if not 0 < size <= NAME_BYTES_MAX:
        raise InvalidRequest(f"a name has 1 to {NAME_BYTES_MAX} bytes, not {size}")
    if any(character < " " or "\x7f" <= character <= "\x9f" for character in name):
        raise InvalidRequest("a name has no control characters")
    return name


def reply_unpacker() -> Any:
    """A streaming decoder for the replies of a server.

    It limits the size of a message but not the memory that its decoded values take, so the server must be trusted
    that far. Strings and binaries become bytes, arrays become lists. A reply above the limit raises msgpack's errors.
    """
    return msgpack.Unpacker(
        raw=True,
        strict_map_key=False,
        max_buffer_size=MESSAGE_BYTES_MAX,
        # The size of one read of a transport. Without this, msgpack allocates a whole MiB.
        read_size=64 << 10,
    )
