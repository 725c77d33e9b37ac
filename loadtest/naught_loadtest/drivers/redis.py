"""Redis's protocol, which Valkey has too, and the ways in which a Redis user can count.

*redis* sends INCR and DECR, the cheapest commands for a counter, and INCRBY and DECRBY where a step has an amount
other than 1. Zeros stay. The others delete a counter that reaches zero, as naught does by itself. They increment by
the same plain commands, because an increment can never reach zero, and differ in how they decrement:

| name | a decrement |
| --- | --- |
| redis-lua | a script, called by EVALSHA |
| redis-function | the same code as a function, called by FCALL: Redis 7.0, Valkey |
| valkey-delifeq | DECR and then DELIFEQ key 0, in one pipeline: Valkey 9.0 |
| redis-delex | DECR and then DELEX key IFEQ 0, in one pipeline: Redis 8.4, Valkey 9.2 |

The last two are two commands, and other clients may be served between them. The second one deletes the counter only
if it is still zero, so no count is lost.
"""

from __future__ import annotations

import hashlib
import re
from collections.abc import Iterable
from typing import ClassVar

from naught_loadtest.drivers.base import (
    Carrier,
    Driver,
    Failure,
    Inspector,
    ProtocolFaultError,
    Reply,
    UnsupportedError,
    whole_numbers,
)

# What a decrement does in one atomic step, by 1 and by an amount. The part of the script around it differs.
_EVICT_BODY = """if value <= 0 then redis.call('DEL', KEYS[1]) return 0 end
return value"""
DECR_SCRIPT = f"local value = redis.call('DECR', KEYS[1])\n{_EVICT_BODY}".encode()
DECRBY_SCRIPT = f"local value = redis.call('DECRBY', KEYS[1], ARGV[1])\n{_EVICT_BODY}".encode()
DECR_SHA = hashlib.sha1(DECR_SCRIPT, usedforsecurity=False).hexdigest().encode()
DECRBY_SHA = hashlib.sha1(DECRBY_SCRIPT, usedforsecurity=False).hexdigest().encode()
# The two scripts as functions. Their library stays on the server; loading it again replaces it.
FUNCTIONS = f"""#!lua name=naught
local function decr(KEYS, ARGV)
{DECR_SCRIPT.decode()}
end
local function decrby(KEYS, ARGV)
{DECRBY_SCRIPT.decode()}
end
redis.register_function('naught_decr', decr)
redis.register_function('naught_decrby', decrby)
""".encode()
# A key that no run uses, for asking whether the server has a command.
ABSENT = b"naught-loadtest:absent"


def command(*words: bytes) -> bytes:
    """A command in Redis's protocol."""
    head = b"*%d\r\n" % len(words)
    return head + b"".join(b"$%d\r\n%s\r\n" % (len(word), word) for word in words)


class RedisDriver(Driver):
    """Changes by INCR and DECR, by INCRBY and DECRBY where the amount is not 1, reads by GET."""

    name = "redis"
    # Integers, and the replies of GET: a string of digits, or nil.
    fast = re.compile(rb"(?::-?\d+\r\n|\$\d+\r\n-?\d+\r\n|\$-1\r\n)*+")
    marks = (b":", b"$")
    stops_at_zero = False

    def single(self, number: int, key: str, delta: int) -> bytes:
        name = key.encode()
        if delta == 0:
            return command(b"GET", name)
        if delta > 0:
            return command(b"INCR", name) if delta == 1 else command(b"INCRBY", name, b"%d" % delta)
        return self.decrement(name, -delta)

    def decrement(self, name: bytes, amount: int) -> bytes:
        """The request that subtracts `amount` from a key."""
        return command(b"DECR", name) if amount == 1 else command(b"DECRBY", name, b"%d" % amount)

    def single_reply(self, number: int, delta: int, value: int) -> bytes | None:
        if delta:
            return b":%d\r\n" % value
        digits = b"%d" % value
        return b"$%d\r\n%s\r\n" % (len(digits), digits)

    def parse(self, data: bytes) -> tuple[list[Reply], int]:
        replies: list[Reply] = []
        used = 0
        try:
            while (parsed := _parse_one(data, used)) is not None:
                reply, used = parsed
                replies.append(reply)
        except (ValueError, RecursionError) as error:
            raise ProtocolFaultError(f"not a reply of Redis: {data[used : used + 40]!r}") from error
        return replies, used

    def inspector(self, probe: Carrier) -> Inspector:
        return RedisInspector(probe)


class RedisLuaDriver(RedisDriver):
    """Decrements by a script that deletes at zero."""

    name = "redis-lua"
    stops_at_zero = True

    def decrement(self, name: bytes, amount: int) -> bytes:
        if amount == 1:
            return command(b"EVALSHA", DECR_SHA, b"1", name)
        return command(b"EVALSHA", DECRBY_SHA, b"1", name, b"%d" % amount)

    def inspector(self, probe: Carrier) -> Inspector:
        return RedisLuaInspector(probe)


class RedisFunctionDriver(RedisDriver):
    """Decrements by a function that deletes at zero."""

    name = "redis-function"
    stops_at_zero = True

    def decrement(self, name: bytes, amount: int) -> bytes:
        if amount == 1:
            return command(b"FCALL", b"naught_decr", b"1", name)
        return command(b"FCALL", b"naught_decrby", b"1", name, b"%d" % amount)

    def inspector(self, probe: Carrier) -> Inspector:
        return RedisFunctionInspector(probe)


class ValkeyDelifeqDriver(RedisDriver):
    """Decrements by two commands: DECR, and DELIFEQ, which deletes the key if its value is 0."""

    name = "valkey-delifeq"

    def decrement(self, name: bytes, amount: int) -> bytes:
        return super().decrement(name, amount) + self.delete_at_zero(name)

    def delete_at_zero(self, name: bytes) -> bytes:
        """The command that deletes a key if its value is 0. It answers how many keys it deleted."""
        return command(b"DELIFEQ", name, b"0")

    def replies_to(self, delta: int) -> int:
        return 2 if delta < 0 else 1

    def right_replies(self, delta: int, value: int) -> list[Reply]:
        return [value, int(value == 0)] if delta < 0 else [value]

    def single_reply(self, number: int, delta: int, value: int) -> bytes | None:
        reply = super().single_reply(number, delta, value)
        return reply + b":%d\r\n" % (value == 0) if reply is not None and delta < 0 else reply

    def inspector(self, probe: Carrier) -> Inspector:
        return ValkeyDelifeqInspector(probe)


class RedisDelexDriver(ValkeyDelifeqDriver):
    """Decrements by two commands: DECR, and DELEX, which deletes the key if its value is 0."""

    name = "redis-delex"

    def delete_at_zero(self, name: bytes) -> bytes:
        return command(b"DELEX", name, b"IFEQ", b"0")

    def inspector(self, probe: Carrier) -> Inspector:
        return RedisDelexInspector(probe)


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

    def version(self) -> str:
        # Valkey reports the version of Redis that it is compatible with beside its own.
        text = self._server_facts()
        found = re.search(r"(valkey)_version:(\S+)", text) or re.search(r"(redis)_version:(\S+)", text)
        return f"{found[1].title()} {found[2]}" if found else "Redis (unknown version)"

    def process_id(self) -> int | None:
        """The server's process, on the machine where it runs. None where it does not say."""
        found = re.search(r"process_id:(\d+)", self._server_facts())
        return int(found[1]) if found else None

    def _server_facts(self) -> str:
        text = self._ask(b"INFO", b"server")
        return text.decode("utf-8", "replace") if isinstance(text, bytes) else ""

    def values(self, names: list[str]) -> list[int]:
        return whole_numbers(self._ask(b"MGET", *(name.encode() for name in names)), len(names), "MGET")

    def left(self, prefix: str, names: Iterable[list[str]]) -> int:
        counts = [self._ask(b"EXISTS", *(name.encode() for name in portion)) for portion in names]
        return sum(whole_numbers(counts, len(counts), "EXISTS"))

    def remove(self, names: list[str]) -> None:
        self._ask(b"DEL", *(name.encode() for name in names))


class RedisLuaInspector(RedisInspector):
    """Loads the scripts."""

    def prepare(self) -> None:
        super().prepare()
        self._ask(b"SCRIPT", b"LOAD", DECR_SCRIPT)
        self._ask(b"SCRIPT", b"LOAD", DECRBY_SCRIPT)


class _NewerInspector(RedisInspector):
    """An inspector of a driver that needs a command which older servers do not have."""

    # The command, and the servers that have it, in words.
    needed: ClassVar[str]
    had_by: ClassVar[str]

    def _ask_for_needed(self, *words: bytes) -> None:
        """Send the command; UnsupportedError when the server does not know it."""
        reply = self.probe.ask(command(*words))[0]
        if isinstance(reply, Failure):
            if "unknown" in reply.message.lower():
                raise UnsupportedError(f"{self.version()} has no {self.needed}; {self.had_by} have it")
            raise RuntimeError(f"{words[0].decode()}: the server answers {reply.kind}: {reply.message}")


class RedisFunctionInspector(_NewerInspector):
    """Loads the functions."""

    needed = "functions (FCALL)"
    had_by = "Redis 7.0 and later and Valkey"

    def prepare(self) -> None:
        super().prepare()
        self._ask_for_needed(b"FUNCTION", b"LOAD", b"REPLACE", FUNCTIONS)


class ValkeyDelifeqInspector(_NewerInspector):
    """Asks whether the server has DELIFEQ."""

    needed = "command DELIFEQ"
    had_by = "Valkey 9.0 and later"

    def prepare(self) -> None:
        super().prepare()
        self._ask_for_needed(b"DELIFEQ", ABSENT, b"0")


class RedisDelexInspector(_NewerInspector):
    """Asks whether the server has DELEX."""

    needed = "command DELEX"
    had_by = "Redis 8.4 and later and Valkey 9.2 and later"

    def prepare(self) -> None:
        super().prepare()
        self._ask_for_needed(b"DELEX", ABSENT, b"IFEQ", b"0")
