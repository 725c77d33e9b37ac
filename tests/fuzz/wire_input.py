"""Input for the fuzzers: streams of valid messages, some of them mutated, from a seed."""

from __future__ import annotations

import random
from collections.abc import Callable
from typing import Any

import msgpack  # type: ignore[import-untyped]

TRACEPARENT = "00-4bf92f3577b34da6a3ce929d0e0e4736-00f067aa0ba902b7-01"


class Source(random.Random):
    """A random source of keys, numbers, requests and streams, with many values near limits."""

    def key(self) -> Any:
        """A key, mostly a valid one. There are few keys, so requests often have the same one."""
        if self.random() < 0.05:
            return self.choice(["", "x" * 512, "x" * 513, b"\xff\x00", None, 7, True, ["k"], {"k": 1}])
        text = f"key:{self.randrange(6)}"
        return text if self.random() < 0.5 else text.encode()

    def by(self) -> Any:
        """An amount."""
        if self.random() < 0.1:
            return self.integer()
        return self.randrange(1, 4)

    def integer(self) -> Any:
        """An integer near a limit, or a value of another type."""
        if self.random() < 0.3:
            return self.choice([True, False, None, 1.0, 0.0, 2.5, "1"])
        return self.choice([0, 1, 2**7, 2**8, 2**16, 2**31, 2**32, 2**63, 2**64 - 2]) + self.choice([-1, 0, 1])

    def ttl_ms(self) -> Any:
        """A time to live."""
        return self.choice([None, None, 1, 5, 50, 1_000, 315_360_000_000, 315_360_000_001, 0, -1, 1.5])

    def keys(self) -> Any:
        """An array of keys, now and then a long one."""
        count = (
            self.choice([0, 1, 2, 5, 15, 16, 17, 40]) if self.random() < 0.97 else self.choice([900, 4_096, 4_097])
        )
        return [self.key() for _ in range(count)]

    def deltas(self, count: int) -> Any:
        """Deltas for this many keys, sometimes one too many, or one delta for all."""
        if self.random() < 0.4:
            return self.choice([1, -1, 5, 0, self.integer()])
        return [self.choice([1, 2, -1, -2, 0, self.integer()]) for _ in range(count + (self.random() < 0.05))]

    def prefix(self) -> Any:
        """The beginning of keys."""
        return self.choice(["", "key:", "key:1", "nothing", b"key:", "x" * 513, 3, None])

    def cursor(self) -> Any:
        """Where a scan goes on."""
        return self.choice(
            [0, 0, b"\x00\x00\x00\x00", b"\x00\x00\x00\x03key:1", b"\xff\xff\xff\xff", b"", b"x", 1, None]
        )

    def request(self) -> tuple[str, list[Any]]:
        """A method and its parameters."""
        keys = self.keys()
        calls: list[tuple[str, list[Any]]] = [
            *[("incr", [self.key(), self.by(), self.ttl_ms()][: self.randrange(5)]) for _ in range(3)],
            *[("decr", [self.key(), self.by(), self.choice([True, False, None, 1])][: self.randrange(5)])] * 3,
            *[("apply", [keys, self.deltas(len(keys)), self.ttl_ms()][: self.choice([2, 2, 3])])] * 2,
            ("get", [self.key()]),
            ("get_many", [keys]),
            ("set", [self.key(), self.choice([0, 1, 5, self.integer()]), self.ttl_ms()][: self.choice([2, 3])]),
            ("take", [keys]),
            ("try_incr", [[[key, self.by(), self.choice([0, 3, 2**63 - 1])] for key in keys], self.ttl_ms()]),
            (
                "throttle",
                [self.key(), self.by(), self.choice([1, 7, 1_000, self.integer()]), self.by(), self.by()][
                    : self.choice([3, 3, 4, 5])
                ],
            ),
            ("expire", [self.key(), self.ttl_ms()]),
            ("ttl", [self.key()]),
            ("scan", [self.cursor(), self.choice([1, 2, 100, 4_096, self.integer()]), self.prefix()]),
            ("top", [self.choice([1, 3, 4_096, self.integer()]), self.prefix()]),
            ("count", self.choice([[], [""], ["key:"], [self.prefix()]])),
            ("clear", []),
            ("ping", []),
            ("info", []),
            ("sweep", []),
            (
                "trace",
                self.choice([[None], [TRACEPARENT], [TRACEPARENT.encode()], [TRACEPARENT[:-1]], [self.integer()]]),
            ),
            ("slowlog", self.choice([[], [1], [128], [self.integer()]])),
            ("slowlog_reset", []),
            (
                "hello",
                self.choice([[], [{}], [{"cache": "small"}], [{"cache": "default"}], [{"cache": "x"}], [{1: 2}]]),
            ),
            ("hello", [{"name": self.choice(["me", "x" * 128, "x" * 129, "", "a\nb", b"\xff", self.integer()])}]),
            ("sessions", self.choice([[], [0], [self.integer()]])),
            ("holders", [self.key(), 0, self.integer()][: self.choice([1, 2, 2, 3])]),
            ("end_session", [self.integer()]),
            ("config_get", self.choice([[], ["log_level"], ["nothing"], [None], [self.integer()]])),
            ("nothing", [self.integer()]),
        ]
        return self.choice(calls)

    def message(self) -> bytes:
        """A request or a notification, as bytes."""
        method, params = self.request()
        if self.random() < 0.1:
            return pack([2, method, params])
        msgid = self.randrange(200) if self.random() < 0.9 else self.choice([2**14, 2**16, 2**32 - 1])
        return pack([0, msgid, method, params])

    def stream(self) -> bytes:
        """Messages one after another, most often mutated a little."""
        messages = [self.message() for _ in range(self.choice([1, 1, 2, 3, 8, 30, 300]))]
        for _ in range(self.choice([0, 0, 1, 1, 2, 4])):
            place = self.randrange(len(messages))
            if messages[place]:  # an earlier mutation may have left nothing of it
                messages[place] = self.choice(MUTATIONS)(self, messages[place])
        return b"".join(messages)


def pack(value: Any) -> bytes:
    """MessagePack, with strings as strings and bytes as binaries."""
    packed: bytes = msgpack.packb(value, use_bin_type=True)
    return packed


# Mutations: each changes a valid message.


def flip(source: Source, data: bytes) -> bytes:
    """Change one byte."""
    place = source.randrange(len(data))
    return data[:place] + bytes([source.choice([source.randrange(256), 0xC1, 0xFF, 0x00])]) + data[place + 1 :]


def drop(source: Source, data: bytes) -> bytes:
    """Remove some bytes."""
    begin = source.randrange(len(data))
    return data[:begin] + data[begin + source.randrange(1, 9) :]


def double(source: Source, data: bytes) -> bytes:
    """Repeat some bytes."""
    begin = source.randrange(len(data))
    return data[:begin] + data[begin : begin + source.randrange(1, 30)] + data[begin:]


def truncate(source: Source, data: bytes) -> bytes:
    """Remove the end."""
    return data[: source.randrange(1, len(data) + 1)]


def declare(source: Source, data: bytes) -> bytes:
    """Insert a header that declares a large length."""
    size = source.choice([0, 1, 15, 16, 17, 255, 4_096, 8_192, 65_535, 65_536, 65_537, 2**20, 2**31, 2**32 - 1])
    first = source.choice([b"\xdd", b"\xdf", b"\xdb", b"\xc6", b"\xc9"])
    place = source.randrange(len(data) + 1)
    return data[:place] + first + size.to_bytes(4, "big") + data[place:]


def nest(source: Source, data: bytes) -> bytes:
    """Insert nested arrays or maps."""
    header = source.choice([b"\x91", b"\x81", b"\xdc\x00\x10", b"\xdc\x10\x00", b"\xdd\xff\xff\xff\xff"])
    place = source.randrange(len(data) + 1)
    return data[:place] + header * source.choice([2, 100, 1_022, 1_023, 1_024, 1_025, 5_000]) + data[place:]


def lengthen(source: Source, data: bytes) -> bytes:
    """A request with a parameter of a size near a limit."""
    size = source.choice([600, 7_000, 8_150, 8_192, 16_384, 65_535, 65_536, 65_537, 70_000])
    many = size // 2
    params = source.choice(
        [[b"x" * size], [{}, b"x" * size], [b"x" * size, {}], [["y"] * many], [[{}, *["y"] * many]], [[[]] * many]]
    )
    return pack([0, source.randrange(200), source.choice(["get", "incr", "hello", "nothing"]), params])


def exceed(source: Source, data: bytes) -> bytes:
    """A message near the largest size allowed."""
    size = (1 << 20) + source.choice([-40, -20, -3, -2, -1, 0, 1, 2, 3, 40])
    strings = [b"x" * 60_000] * 17
    strings.append(b"x" * max(0, size - len(pack([0, 5, "nothing", [*strings, b"x" * 300]])) + 300))
    return pack([0, 5, "nothing", strings])


def wrong_shape(source: Source, data: bytes) -> bytes:
    """Valid MessagePack that is not a valid message."""
    shapes: list[Any] = [
        None, 7, "text", b"", [], {}, 1.5, True, [0], [0, 1], [0, 1, "incr"], [0, 1, "incr", ["k"], 1],
        [0, 1, "incr", "k"], [0, 1, "incr", {"k": 1}], [0, True, "incr", ["k"]], [0, 1.0, "incr", ["k"]],
        [0, -1, "incr", ["k"]], [0, 2**32, "incr", ["k"]], [False, 1, "incr", ["k"]], [0.0, 1, "get", ["k"]],
        [1, 1, None, 1], [2, 1, "incr", ["k"]], [2, "incr", 1], [3, 1, "incr", ["k"]], [0, 1, ["incr"], ["k"]],
        [0, 1, b"incr", [{}]], {0: 0, 1: 1, "get": 2, ("k",): 3}, msgpack.ExtType(5, b"x"), msgpack.Timestamp(1, 2),
    ]  # fmt: skip
    return pack(source.choice(shapes))


def noise(source: Source, data: bytes) -> bytes:
    """Random bytes."""
    return source.randbytes(source.choice([1, 2, 5, 40, 9_000]))


MUTATIONS: list[Callable[[Source, bytes], bytes]] = [
    flip, flip, flip, drop, double, truncate, declare, nest, lengthen, lengthen, *[wrong_shape] * 6, noise, exceed,
]  # fmt: skip
