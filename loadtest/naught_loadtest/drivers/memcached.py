"""memcached's protocol: meta arithmetic (`ma`), which can create an absent counter.

An increment by 1 is `ma key N0 J1 D1 v`: no expiry if the key is created (N0), the value that an absent key gets
(J1), the delta (D1), and the request to return the value (v). A decrement stops at zero, as naught's does, but the
zero stays.
"""

from __future__ import annotations

import re
from collections.abc import Iterable

from naught_loadtest.drivers.base import (
    Carrier,
    Driver,
    Failure,
    Inspector,
    ProtocolFaultError,
    Reply,
    whole_numbers,
)


class MemcachedDriver(Driver):
    """Changes by `ma`, reads by `mg`."""

    name = "memcached"
    # After a decrement memcached pads a shorter number with spaces to the old length.
    fast = re.compile(rb"(?:VA \d+\r\n\d+ *\r\n)*+")
    marks = (b"V",)

    def single(self, number: int, key: str, delta: int) -> bytes:
        name = key.encode()
        if delta > 0:
            return b"ma %s N0 J%d D%d v\r\n" % (name, delta, delta)
        if delta < 0:
            return b"ma %s MD D%d v\r\n" % (name, -delta)
        return b"mg %s v\r\n" % name

    def single_reply(self, number: int, delta: int, value: int) -> bytes | None:
        if delta == 0:
            # Whether the number is padded depends on the value that the key had before.
            return None
        digits = b"%d" % value
        return b"VA %d\r\n%s\r\n" % (len(digits), digits)

    def parse(self, data: bytes) -> tuple[list[Reply], int]:
        replies: list[Reply] = []
        used = 0
        try:
            while (parsed := _parse_one(data, used)) is not None:
                reply, used = parsed
                replies.append(reply)
        except (ValueError, IndexError) as error:
            raise ProtocolFaultError(f"not a reply of memcached: {data[used : used + 40]!r}") from error
        return replies, used

    def inspector(self, probe: Carrier) -> Inspector:
        return MemcachedInspector(probe)


def _parse_one(data: bytes, start: int) -> tuple[Reply, int] | None:
    """(reply, where the next one begins), or None when the reply is incomplete."""
    line_end = data.find(b"\r\n", start)
    if line_end < 0:
        return None
    words = data[start:line_end].split(b" ")
    after = line_end + 2
    word = words[0]
    if word == b"VA":
        length = int(words[1])
        if length < 1:
            raise ProtocolFaultError(f"not a reply of memcached: {data[start : start + 40]!r}")
        end = after + length
        return None if len(data) < end + 2 else (int(data[after:end]), end + 2)
    if word == b"EN":
        return None, after
    if word in (b"HD", b"MN", b"VERSION"):
        return b" ".join(words[1:]).decode("utf-8", "replace"), after
    if word == b"NF":
        return Failure("not_found"), after
    if word in (b"ERROR", b"CLIENT_ERROR", b"SERVER_ERROR", b"NS", b"EX"):
        return Failure(word.decode().lower(), b" ".join(words[1:]).decode("utf-8", "replace")), after
    raise ProtocolFaultError(f"not a reply of memcached: {data[start : start + 40]!r}")


class MemcachedInspector(Inspector):
    """Reads by `mg`, deletes by `md`."""

    def prepare(self) -> None:
        self.version()

    def version(self) -> str:
        (version,) = self.probe.ask(b"version\r\n")
        return f"memcached {version}"

    def _read(self, names: list[str]) -> list[Reply]:
        return self.probe.ask(b"".join(b"mg %s v\r\n" % name.encode() for name in names), len(names))

    def values(self, names: list[str]) -> list[int]:
        return whole_numbers(self._read(names), len(names), "mg")

    def left(self, prefix: str, names: Iterable[list[str]]) -> int:
        return sum(sum(value is not None for value in self._read(portion)) for portion in names)

    def remove(self, names: list[str]) -> None:
        self.probe.ask(b"".join(b"md %s\r\n" % name.encode() for name in names), len(names))
