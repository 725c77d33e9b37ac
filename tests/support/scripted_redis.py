"""A small server that speaks Redis's protocol, for tests of the drivers: counters in a dict, and a list of commands.

`support.listening` runs it in a thread. Which commands it knows is an argument, so that it can be a Valkey
that has DELIFEQ or a Redis that has not. `faults` replaces the reply to a command by other bytes.
"""

from __future__ import annotations

import asyncio
import contextlib
from collections.abc import Callable
from dataclasses import dataclass, field

from naught_loadtest.drivers.redis import DECR_SCRIPT, DECR_SHA, DECRBY_SHA

BASIC = frozenset({"PING", "INFO", "GET", "MGET", "EXISTS", "DEL", "INCR", "INCRBY", "DECR", "DECRBY", "SCRIPT"})


@dataclass
class ScriptedRedis:
    """What the server does and what it was asked."""

    # INFO's lines.
    info: str = "redis_version:7.2.4\r\nvalkey_version:9.0.0\r\nprocess_id:1\r\n"
    # Commands known beside `BASIC`.
    more: frozenset[str] = frozenset()
    # By command, what is answered instead of the reply; called with the command's words.
    faults: dict[str, Callable[[list[bytes]], bytes | None]] = field(default_factory=dict)
    # The counters. A zero is one of them, as in Redis.
    counters: dict[bytes, int] = field(default_factory=dict)
    # How often each command came.
    asked: dict[str, int] = field(default_factory=dict)
    # Filled in when the server listens.
    port: int = 0

    def reply(self, words: list[bytes]) -> bytes:
        """Execute a command."""
        name = words[0].decode().upper()
        self.asked[name] = self.asked.get(name, 0) + 1
        fault = self.faults.get(name)
        answer = fault(words) if fault is not None else None
        if answer is not None:
            return answer
        if name not in BASIC | self.more:
            return b"-ERR unknown command '%s', with args beginning with: \r\n" % words[0]
        return self._execute(name, words[1:])

    def _execute(self, name: str, words: list[bytes]) -> bytes:
        counters = self.counters
        if name in ("INCR", "DECR"):
            return self._add(words[0], 1 if name == "INCR" else -1)
        if name in ("INCRBY", "DECRBY"):
            return self._add(words[0], int(words[1]) if name == "INCRBY" else -int(words[1]))
        if name in ("EVALSHA", "FCALL"):
            one = words[0] in (DECR_SHA, b"naught_decr")
            assert one or words[0] in (DECRBY_SHA, b"naught_decrby")
            assert words[1] == b"1"
            reply = self._add(words[2], -1 if one else -int(words[3]))
            if counters[words[2]] <= 0:
                del counters[words[2]]
                return b":0\r\n"
            return reply
        if name in ("DELIFEQ", "DELEX"):
            if name == "DELEX":
                assert words[1] == b"IFEQ"
            if counters.get(words[0]) != int(words[-1]):
                return b":0\r\n"
            del counters[words[0]]
            return b":1\r\n"
        if name == "GET":
            return _bulk(counters.get(words[0]))
        if name == "MGET":
            return b"*%d\r\n" % len(words) + b"".join(_bulk(counters.get(word)) for word in words)
        if name == "EXISTS":
            return b":%d\r\n" % sum(word in counters for word in words)
        if name == "DEL":
            return b":%d\r\n" % sum(counters.pop(word, None) is not None for word in words)
        if name == "INFO":
            text = self.info.encode()
            return b"$%d\r\n%s\r\n" % (len(text), text)
        if name == "SCRIPT":
            return b"$40\r\n%s\r\n" % (DECR_SHA if words[1] == DECR_SCRIPT else DECRBY_SHA)
        return b"+OK\r\n"

    def _add(self, key: bytes, delta: int) -> bytes:
        self.counters[key] = self.counters.get(key, 0) + delta
        return b":%d\r\n" % self.counters[key]

    async def serve(self, reader: asyncio.StreamReader, writer: asyncio.StreamWriter) -> None:
        """One connection."""
        try:
            while True:
                count = int((await reader.readuntil(b"\r\n"))[1:])
                words = []
                for _ in range(count):
                    length = int((await reader.readuntil(b"\r\n"))[1:])
                    words.append((await reader.readexactly(length + 2))[:length])
                writer.write(self.reply(words))
        except (asyncio.IncompleteReadError, ConnectionError, asyncio.CancelledError):
            # The client has gone, or the test is over.
            pass
        finally:
            writer.close()
            with contextlib.suppress(ConnectionError):
                await writer.wait_closed()


def _bulk(value: int | None) -> bytes:
    if value is None:
        return b"$-1\r\n"
    text = b"%d" % value
    return b"$%d\r\n%s\r\n" % (len(text), text)
