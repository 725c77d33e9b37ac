"""MessagePack-RPC as both sides speak it: values, requests, replies and keys to bytes, and replies back. Sans-IO.

    request       [0, msgid, method, params]
    reply         [1, msgid, error, result]       error is nil, or [code, message]
    notification  [2, method, params]

What a method means is in the server's PROTOCOL.md. How a server takes apart the bytes of clients it does not trust
is in its `decoder.py`; what a reply means to a caller is in `naught/core`.
"""

from __future__ import annotations

from typing import Any, Final

import msgpack  # type: ignore[import-untyped]

from naught.errors import InvalidRequest, TooLarge
from naught.wire.limits import KEY_BYTES_MAX, MESSAGE_BYTES_MAX

REQUEST: Final = 0
REPLY: Final = 1
NOTIFICATION: Final = 2

Message = tuple[Any, ...]


# Packer keeps a buffer of its own between calls, and packing never awaits, so one serves a whole process.

_pack = msgpack.Packer(use_bin_type=True, buf_size=64 << 10).pack


def encode(value: object) -> bytes:
    """Any value of the wire as MessagePack. Raises what msgpack raises for what it cannot say."""
    packed: bytes = _pack(value)
    return packed


def encode_request(msgid: int, method: str, params: object) -> bytes:
    """A request. `params` is a list or a tuple."""
    packed: bytes = _pack((REQUEST, msgid, method, params))
    return packed


def encode_notification(method: str, params: object) -> bytes:
    """A notification: nobody replies to it."""
    packed: bytes = _pack((NOTIFICATION, method, params))
    return packed


def encode_result(msgid: int, result: object) -> bytes:
    """A reply that carries a result."""
    packed: bytes = _pack((REPLY, msgid, None, result))
    return packed


def encode_error(msgid: int, code: str, message: str) -> bytes:
    """A reply that carries an error."""
    packed: bytes = _pack((REPLY, msgid, (code, message), None))
    return packed


def encode_key(key: str | bytes) -> bytes:
    """The bytes of a key, checked here so that a bad one costs no round trip and never spoils a batch.

    Text becomes UTF-8, lone surrogates the bytes they stand for (the inverse of how keys are given back).

    Raises `InvalidRequest` for anything but 1 byte or more of str or bytes, `TooLarge` above 512 bytes.
    """
    if isinstance(key, str):
        data = key.encode("utf-8", "surrogateescape")
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
    """A key as text. Bytes that are no UTF-8 come back as lone surrogates, so `encode_key` restores them."""
    return key.decode("utf-8", "surrogateescape")


def reply_unpacker() -> Any:
    """A streaming unpacker for the replies of a server the caller chose to trust with its own memory.

    Strings and binaries come as bytes, arrays as lists. A reply above the limit raises msgpack's own errors.
    """
    return msgpack.Unpacker(
        raw=True,
        strict_map_key=False,
        max_buffer_size=MESSAGE_BYTES_MAX,
        # One read of the transport; msgpack would set aside a whole MiB.
        read_size=64 << 10,
    )
