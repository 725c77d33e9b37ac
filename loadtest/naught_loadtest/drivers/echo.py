"""The protocol of the echo server: requests of naught, to a server that sends back what it receives.

What the generator reaches with it is the ceiling of everything that this harness can measure on the machine. The
echoed requests are counted with the same kind of expression as naught's replies, so only the work of a server is
missing.
"""

from __future__ import annotations

import re
from collections.abc import Iterable, Sequence

import msgpack  # type: ignore[import-untyped]

from naught_loadtest.drivers.base import Carrier, Inspector, ProtocolFaultError, Reply
from naught_loadtest.drivers.naught import NaughtDriver
from naught_loadtest.drivers.target import Target


class EchoDriver(NaughtDriver):
    """Sends naught's requests, and takes the echo for the reply."""

    name = "echo"
    echoes = True
    # [0, id, "incr" | "decr" | "get", [key]] with a key of 16 characters, repeated.
    fast = re.compile(rb"(?:\x94\x00\xce\x00\x01..(?:\xa4incr|\xa4decr|\xa3get)\x91\xb0.{16})*+", re.DOTALL)
    marks = (b"\x94\x00\xce\x00\x01",)

    def greeting(self, target: Target) -> bytes | None:
        return None

    def values_in(self, data: bytes, end: int, count: int) -> Sequence[int] | None:
        return None

    def parse_with_ids(self, data: bytes) -> tuple[list[tuple[int | None, Reply]], int]:
        unpacker = msgpack.Unpacker(raw=True)
        replies: list[tuple[int | None, Reply]] = []
        used = 0
        try:
            unpacker.feed(data)
            for message in unpacker:
                if not isinstance(message, list) or len(message) != 4 or message[0] != 0:
                    raise ProtocolFaultError(f"not an echo: {message!r:.80}")
                replies.append((message[1], 0))
                used = unpacker.tell()
        except (ValueError, TypeError, msgpack.UnpackException) as error:
            raise ProtocolFaultError(f"not an echo: {error}") from error
        return replies, used

    def inspector(self, probe: Carrier) -> Inspector:
        return EchoInspector(probe)


class EchoInspector(Inspector):
    """An echo server has no counters, so there is nothing to check."""

    keeps_zeros = False

    def prepare(self) -> None:
        self.probe.ask(NaughtDriver().single(0, "are you there", 0))

    def version(self) -> str:
        return "the harness's own echo server"

    def values(self, names: list[str]) -> list[int]:
        return [0] * len(names)

    def left(self, prefix: str, names: Iterable[list[str]]) -> int:
        return 0

    def remove(self, names: list[str]) -> None:
        pass
