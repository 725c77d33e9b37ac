"""Redis's protocol, with two ways to count: the plain commands, and a script that deletes at zero.

*redis* sends INCRBY and DECRBY, the cheapest commands that Redis has for a counter. Zeros stay. *redis-lua* runs a
script that deletes a key when it reaches zero, as naught does by itself. Both work with Valkey.
"""

from __future__ import annotations

import hashlib
import re
from collections.abc import Iterable

from naught_loadtest.drivers.base import Carrier, Driver, Failure, Inspector, ProtocolFaultError, Reply

# Adds ARGV[1] to the counter and deletes it at zero, in one atomic step, as naught's incr and decr do.
EVICT_SCRIPT = b"""local value = redis.call('INCRBY', KEYS[1], ARGV[1])
if value <= 0 then redis.call('DEL', KEYS[1]) return 0 end
return value"""
EVICT_SHA = hashlib.sha1(EVICT_SCRIPT, usedforsecurity=False).hexdigest().encode()


def command(*words: bytes) -> bytes:
    """A command in Redis's protocol."""
    head = b"*%d\r\n" % len(words)
    return head + b"".join(b"$%d\r\n%s\r\n" % (len(word), word) for word in words)


class RedisDriver(Driver):
    """Changes by INCRBY and DECRBY, reads by GET."""

    name = "redis"
    # Integers, and the replies of GET: a string of digits, or nil.
    fast = re.compile(rb"(?::-?\d+\r\n|\$\d+\r\n-?\d+\r\n|\$-1\r\n)*+")
    marks = (b":", b"$")

    def single(self, number: int, key: str, delta: int) -> bytes:
        name = key.encode()
        if delta == 0:
            return command(b"GET", name)
        return command(b"INCRBY" if delta > 0 else b"DECRBY", name, b"%d" % abs(delta))

    def single_reply(self, number: int, delta: int, value: int) -> bytes | None:
        if delta:
            return b":%d\r\n" % value
        digits = b"%d" % value
        return b"$%d\r\n%s\r\n" % (len(digits), digits)

    def parse(self, data: bytes) -> tuple[list[Reply], int]:
        replies: list[Reply] = []
        used = 0
        while True:
            parsed = _parse_one(data, used)
            if parsed is None:
                return replies, used
            reply, used = parsed
            replies.append(reply)

    def inspector(self, probe: Carrier) -> Inspector:
        return RedisInspector(probe)


class RedisLuaDriver(RedisDriver):
    """Changes by EVALSHA of the script that deletes at zero, reads by GET."""

    name = "redis-lua"

    def single(self, number: int, key: str, delta: int) -> bytes:
        if delta == 0:
            return super().single(number, key, delta)
        return command(b"EVALSHA", EVICT_SHA, b"1", key.encode(), b"%d" % delta)


def _parse_one(data: bytes, start: int) -> tuple[Reply, int] | None:
    """(reply, where the next one begins), or None when the reply is incomplete."""
    line_end = data.find(b"\r\n", start)
    if line_end < 0:
        return None
    kind, line, after = data[start : start + 1], data[start + 1 : line_end], line_end + 2
    if kind == b":":
        return int(line), after
    if kind == b"+":
        return line.decode("utf-8", "replace"), after
    if kind == b"-":
        word, _, message = line.decode("utf-8", "replace").partition(" ")
        return Failure(word, message), after
    if kind == b"$":
        return _parse_string(data, int(line), after)
    if kind == b"*":
        items: list[Reply] = []
        for _ in range(int(line)):
            parsed = _parse_one(data, after)
            if parsed is None:
                return None
            item, after = parsed
            items.append(item)
        return items, after
    raise ProtocolFaultError(f"not a reply of Redis: {data[start : start + 40]!r}")


def _parse_string(data: bytes, length: int, start: int) -> tuple[Reply, int] | None:
    if length < 0:
        return None, start
    end = start + length
    if len(data) < end + 2:
        return None
    text = data[start:end]
    return int(text) if text.lstrip(b"-").isdigit() else text, end + 2


class RedisInspector(Inspector):
    """Reads by MGET and EXISTS, deletes by DEL."""

    def _ask(self, *words: bytes) -> Reply:
        reply = self.probe.ask(command(*words))[0]
        if isinstance(reply, Failure):
            raise RuntimeError(f"{words[0].decode()}: the server answers {reply.kind}: {reply.message}")
        return reply

    def prepare(self) -> None:
        self._ask(b"PING")
        self._ask(b"SCRIPT", b"LOAD", EVICT_SCRIPT)

    def version(self) -> str:
        text = self._ask(b"INFO", b"server")
        found = re.search(rb"(redis|valkey)_version:(\S+)", text if isinstance(text, bytes) else b"")
        return f"{found[1].decode().title()} {found[2].decode()}" if found else "Redis (unknown version)"

    def values(self, names: list[str]) -> list[int]:
        return [value or 0 for value in self._ask(b"MGET", *(name.encode() for name in names))]

    def left(self, prefix: str, names: Iterable[list[str]]) -> int:
        return sum(self._ask(b"EXISTS", *(name.encode() for name in portion)) for portion in names)

    def remove(self, names: list[str]) -> None:
        self._ask(b"DEL", *(name.encode() for name in names))
