"""naught's protocol, MessagePack-RPC, encoded and decoded here without naught's client library.

Requests are encoded once, before the run. Their message ids repeat with the connection's cycle and lie between
65 536 and 131 071, as those of a client that has been running for a while. So each id takes five bytes, and every
successful reply begins with 94 01 ce 00 01 (array of four, reply, 32-bit number, its upper half). Replies are
counted by these five bytes. A value can contain them only from 2^32 on, and no run counts that far.
"""

from __future__ import annotations

import re
from collections.abc import Iterable, Sequence
from typing import Any

import msgpack  # type: ignore[import-untyped]

from naught.credentials import text_as_sent
from naught_loadtest.drivers.base import (
    BatchDriver,
    Carrier,
    Driver,
    Failure,
    Inspector,
    ProtocolFaultError,
    Reply,
    whole_numbers,
)
from naught_loadtest.drivers.target import Target

# Message ids of five bytes. There are enough of them for any pipeline, because replies come in order.
ID_FIRST = 65_536
IDS = 65_536
# Bytes of a reply whose value is below 128.
SHORT = 9

_packer = msgpack.Packer(autoreset=True)


def _pack(message: object) -> bytes:
    packed: bytes = _packer.pack(message)
    return packed


def message_id(number: int) -> int:
    """The id of the request with this index in a connection's cycle."""
    return ID_FIRST + number % IDS


class NaughtDriver(BatchDriver):
    """Changes by `incr` and `decr`, many by `apply`; reads by `get`."""

    name = "naught"
    # [1, id, nil, integer], repeated.
    fast = re.compile(
        rb"(?:\x94\x01\xce\x00\x01..\xc0(?:[\x00-\x7f]|\xcc.|\xcd..|\xce.{4}|\xcf.{8}))*+",
        re.DOTALL,
    )
    marks = (b"\x94\x01\xce\x00\x01",)
    absent = 0

    def greeting(self, target: Target) -> bytes | None:
        words = hello_words(target)
        return request("hello", words) if words else None

    def single(self, number: int, key: str, delta: int) -> bytes:
        method, params = ("incr", [key]) if delta > 0 else ("decr", [key]) if delta < 0 else ("get", [key])
        if abs(delta) > 1:
            return _pack([0, message_id(number), method, [*params, abs(delta)]])
        return _pack([0, message_id(number), method, params])

    def many(self, number: int, keys: list[str], deltas: list[int]) -> bytes:
        same = all(delta == deltas[0] for delta in deltas)
        return _pack([0, message_id(number), "apply", [keys, deltas[0] if same else deltas]])

    def single_reply(self, number: int, delta: int, value: int) -> bytes | None:
        return _pack([1, message_id(number), None, value])

    def many_reply(self, number: int, values: list[int]) -> bytes | None:
        return _pack([1, message_id(number), None, values])

    def id_of(self, number: int) -> int | None:
        return message_id(number)

    def ids_are(self, data: bytes, end: int, ids: bytes) -> bool:
        # Most values are below 128, and then all replies have the same length.
        if SHORT * (len(ids) // 2) == end:
            return data[5:end:SHORT] == ids[::2] and data[6:end:SHORT] == ids[1::2]
        pieces = data[:end].split(self.marks[0])
        return b"".join([piece[:2] for piece in pieces[1:]]) == ids

    def values_in(self, data: bytes, end: int, count: int) -> Sequence[int] | None:
        if SHORT * count == end:
            return data[8:end:SHORT]
        # Behind the mark: two bytes of the id, nil, and the value with the byte that says its length.
        pieces = data[:end].split(self.marks[0])[1:]
        return [piece[3] if len(piece) == 4 else int.from_bytes(piece[4:], "big") for piece in pieces]

    def renumbered(self, message: bytes, number: int) -> bytes:
        return b"%b%b%b" % (message[:5], (number % IDS).to_bytes(2, "big"), message[7:])

    def parse(self, data: bytes) -> tuple[list[Reply], int]:
        replies, used = self.parse_with_ids(data)
        return [reply for _, reply in replies], used

    def parse_with_ids(self, data: bytes) -> tuple[list[tuple[int | None, Reply]], int]:
        unpacker = msgpack.Unpacker(raw=True, strict_map_key=False)
        replies: list[tuple[int | None, Reply]] = []
        used = 0
        try:
            unpacker.feed(data)
            for message in unpacker:
                replies.append(_reply(message))
                used = unpacker.tell()
        except (ValueError, TypeError, msgpack.UnpackException) as error:
            raise ProtocolFaultError(f"not MessagePack: {error}") from error
        return replies, used

    def inspector(self, probe: Carrier) -> Inspector:
        return NaughtInspector(probe)


class NaughtSessionDriver(NaughtDriver):
    """The same with a session on every connection, whose replies are acknowledged while the load runs."""

    name = "naught-session"
    # The server keeps 1 024 unacknowledged replies. A client that acknowledges in good time has far fewer.
    acknowledge_every = 256
    # A run's sessions must not stay on the server for long after its connections are closed.
    LEASE_MS = 1000

    def greeting(self, target: Target) -> bytes | None:
        return request("hello", {"session": True, "lease_ms": self.LEASE_MS, **hello_words(target)})

    def acknowledgement(self, received: int) -> bytes:
        return notification("ack", received)

    def for_probe(self) -> Driver:
        return NaughtDriver()


def hello_words(target: Target) -> dict[str, Any]:
    """What `hello` says of a target: its cache, and who logs in."""
    words: dict[str, Any] = {} if target.cache is None else {"cache": target.cache}
    if target.credentials is not None:
        secret = target.credentials.secret()
        assert isinstance(secret, str), "the secret of a target is no function"
        words |= {"user": text_as_sent(target.credentials.user), "secret": text_as_sent(secret)}
    return words


def notification(method: str, *params: Any) -> bytes:
    """A notification: a request without a reply."""
    return _pack([2, method, list(params)])


def request(method: str, *params: Any, msgid: int = ID_FIRST) -> bytes:
    """A request that is not part of a cycle. Requests that wait at the same time need different message ids."""
    return _pack([0, msgid, method, list(params)])


def _reply(message: Any) -> tuple[int, Reply]:
    """The id and the content of a reply."""
    if not isinstance(message, list) or len(message) != 4 or message[0] != 1 or type(message[1]) is not int:
        raise ProtocolFaultError(f"not a reply of MessagePack-RPC: {message!r:.80}")
    _, msgid, error, result = message
    if error is not None:
        return msgid, _failure(error)
    if isinstance(result, list):
        try:
            # The sum of integers exists. A failed item of an apply is an array, and then the sum fails.
            sum(result)
        except TypeError:
            return msgid, [_failure(item) if _is_error(item) else item for item in result]
    return msgid, result


def _is_error(item: Any) -> bool:
    return isinstance(item, list) and len(item) == 2 and all(isinstance(part, bytes) for part in item)


def _failure(error: Any) -> Failure:
    if _is_error(error):
        return Failure(error[0].decode("utf-8", "replace"), error[1].decode("utf-8", "replace"))
    return Failure("error", repr(error))


class NaughtInspector(Inspector):
    """Reads by `get_many` and `count`, deletes by `take`."""

    keeps_zeros = False

    def _ask(self, method: str, *params: Any) -> Any:
        reply = self.probe.ask(request(method, *params))[0]
        if isinstance(reply, Failure):
            raise RuntimeError(f"{method}: the server answers {reply.kind}: {reply.message}")
        return reply

    def prepare(self) -> None:
        self._ask("ping")

    def version(self) -> str:
        known = self.statistics() or {}
        compiled = known.get("compiled")
        how = " (compiled)" if compiled is True else " (interpreted)" if compiled is False else ""
        return f"naught {known.get('version', '(unknown version)')}{how}"

    def values(self, names: list[str]) -> list[int]:
        return whole_numbers(self._ask("get_many", names), len(names), "get_many")

    def left(self, prefix: str, names: Iterable[list[str]]) -> int:
        return self.live(prefix)

    def live(self, prefix: str) -> int:
        (count,) = whole_numbers([self._ask("count", prefix)], 1, "count")
        return count

    def remove(self, names: list[str]) -> None:
        self._ask("take", names)

    def statistics(self) -> dict[str, Any] | None:
        facts = _texts(self._ask("info"))
        if not isinstance(facts, dict):
            raise ProtocolFaultError(f"info: a map was expected, not {facts!r:.80}")
        return facts


def _texts(value: Any) -> Any:
    """The value with all byte strings in it decoded as text. `info` has fixed words and names of caches only."""
    if isinstance(value, bytes):
        return value.decode("utf-8", "replace")
    if isinstance(value, dict):
        return {_texts(key): _texts(item) for key, item in value.items()}
    if isinstance(value, list):
        return [_texts(item) for item in value]
    return value
