"""Clients that ask a server for costly things, for the bar of victims.

A program of its own: `python -m naught_loadtest.bars.neighbours URL KIND CLIENTS CORES`. The cores are separated by
commas; `-` stands for any. It prints `ready` when every client has had its first answer, and works until its standard
input is closed. Then it prints one line of JSON: how many requests were answered since `ready`, how many of these
with an error, by code, and how often a connection was lost and opened again.

The clients run only in processor time that no other process wants, so that they take none from the generator of the
load beside them. What they ask for costs the server far more than them.

| kind | each client, again and again |
| --- | --- |
| top | asks for the ten largest counters |
| empty-scan | scans for a prefix that no counter has |
| try-incr | adds to 1 024 counters in one request |
| release | takes a hold of 1 024 counters and gives it back in releases of one item each |
| wide-wait | waits for 1 024 counters, one of which is full, until its time is over |
| nested | sends 1 MiB of nested arrays |
| unread | asks for many pages of a scan, reads one, leaves the others for a while, and connects anew |
"""

from __future__ import annotations

import asyncio
import contextlib
import itertools
import json
import sys
from collections.abc import Awaitable, Callable
from typing import Any

import msgpack  # type: ignore[import-untyped]

from naught_loadtest.drivers.naught import notification
from naught_loadtest.drivers.target import Target, parse_target
from naught_loadtest.measure.cores import Cores, yield_to_others

# The most items that the server takes in one step, all or nothing.
WIDE = 1024
# Releases of one item from one hold, and how many of them are sent together.
RELEASES = 4000
RELEASES_TOGETHER = 500
# How long a request of `wide-wait` waits, and how many of them a client has at a time.
WAIT_MS = 200
WAITS_TOGETHER = 4
# A session whose client has gone must not stay for long.
LEASE_MS = 100
# The client acknowledges after this many replies; the server keeps 1 024.
ACKNOWLEDGE_EVERY = 200
# A limit that is never reached.
NO_LIMIT = 1 << 40
# Slightly less than the 1 MiB that a message may have: arrays of one array of an empty array.
NESTED_ITEMS = 340_000
NESTED_KEYS = b"\xdd" + NESTED_ITEMS.to_bytes(4, "big") + b"\x91\x91\x90" * NESTED_ITEMS
NESTED = b"\x94\x00\x01\xa5apply\x92" + NESTED_KEYS + b"\x01"
# Pages of a scan that a client asks for and does not read: more than all buffers on the way take.
PAGES_UNREAD = 200
PAGE_COUNTERS = 4000
UNREAD_S = 1.0
RETRY_S = 0.01


class Neighbour:
    """One client, with one connection at a time."""

    def __init__(self, target: Target, number: int) -> None:
        self._target = target
        # The number of the client; its own counters have it in their names.
        self.number = number
        # None before `connect`.
        self._reader: asyncio.StreamReader | None = None
        self._writer: asyncio.StreamWriter | None = None
        self._unpacker = msgpack.Unpacker(raw=True, strict_map_key=False)
        self._ids = itertools.count(1)
        # Replies of the session since it was opened, and how many of them are acknowledged. None without a session.
        self._received: int | None = None
        self._acknowledged = 0
        # Since `start_counting`: requests answered, those answered with an error by code, connections opened again.
        self.answered = 0
        self.errors: dict[str, int] = {}
        self.reconnects = 0

    async def connect(self) -> None:
        """Open a connection, without a session."""
        self.close()
        target = self._target
        self._reader, self._writer = await asyncio.open_connection(target.host, target.port)
        self._unpacker = msgpack.Unpacker(raw=True, strict_map_key=False)
        self._received = None

    def start_counting(self) -> None:
        """Forget what has happened so far."""
        self.answered = self.reconnects = 0
        self.errors.clear()

    def close(self) -> None:
        if self._writer is not None:
            self._writer.close()

    async def open_session(self) -> None:
        await self.ask("hello", {"session": True, "lease_ms": LEASE_MS})
        self._received = self._acknowledged = 0

    async def ask(self, method: str, *params: Any) -> Any:
        """The result of a request; None when it was answered by an error."""
        return (await self.ask_together([(method, params)]))[0]

    async def ask_together(self, calls: list[tuple[str, tuple[Any, ...]]]) -> list[Any]:
        """The results of requests that are sent together, in their order."""
        ids = [next(self._ids) for _ in calls]
        requests = [
            msgpack.packb([0, msgid, method, params]) for msgid, (method, params) in zip(ids, calls, strict=True)
        ]
        return await self.exchange(b"".join(requests), ids)

    async def exchange(self, data: bytes, ids: list[int]) -> list[Any]:
        """Send bytes, and wait for the replies with these ids. ConnectionError when the connection ends before."""
        assert self._reader is not None
        assert self._writer is not None
        self._writer.write(data)
        await self._writer.drain()
        results: dict[int, Any] = {}
        while len(results) < len(ids):
            piece = await self._reader.read(1 << 16)
            if not piece:
                raise ConnectionError("the server closed the connection")
            self._unpacker.feed(piece)
            for _, msgid, error, result in self._unpacker:
                self._count(error)
                results[msgid] = result
            self._acknowledge()
        return [results.get(msgid) for msgid in ids]

    def _count(self, error: list[bytes] | None) -> None:
        self.answered += 1
        if self._received is not None:
            self._received += 1
        if error is not None:
            code = error[0].decode()
            self.errors[code] = self.errors.get(code, 0) + 1

    def _acknowledge(self) -> None:
        if self._received is not None and self._received - self._acknowledged >= ACKNOWLEDGE_EVERY:
            assert self._writer is not None
            self._acknowledged = self._received
            self._writer.write(notification("ack", self._received))


async def top(client: Neighbour) -> None:
    while True:
        await client.ask("top", 10, "")


async def empty_scan(client: Neighbour) -> None:
    cursor: Any = 0
    while True:
        page = await client.ask("scan", cursor, 100, "no such prefix:")
        cursor = page[0] if page else 0


async def try_incr(client: Neighbour) -> None:
    items = [[f"wide:{item:04d}", 1, NO_LIMIT] for item in range(WIDE)]
    while True:
        await client.ask("try_incr", items)


async def release(client: Neighbour) -> None:
    await client.open_session()
    items = [[f"held:{client.number:02d}:{item:04d}", RELEASES, NO_LIMIT] for item in range(WIDE)]
    while True:
        granted = await client.ask("acquire", items)
        if not granted or not granted[0]:
            continue
        hold = granted[2]
        # Always the last item: a server that looks through the hold from its beginning does the most work.
        one: tuple[str, tuple[Any, ...]] = ("release", (hold, [[items[-1][0], 1]]))
        for _ in range(RELEASES // RELEASES_TOGETHER):
            await client.ask_together([one] * RELEASES_TOGETHER)
        await client.ask("release", hold)


async def wide_wait(client: Neighbour) -> None:
    await client.open_session()
    full = f"full:{client.number:02d}"
    await client.ask("acquire", [[full, 1, 1]])
    items = [[f"wide:{item:04d}", 1, NO_LIMIT] for item in range(WIDE - 1)] + [[full, 1, 1]]
    while True:
        await client.ask_together([("acquire", (items, WAIT_MS))] * WAITS_TOGETHER)


async def nested(client: Neighbour) -> None:
    while True:
        await client.exchange(NESTED, [1])


async def unread(client: Neighbour) -> None:
    while True:
        await client.ask("scan", 0, PAGE_COUNTERS, "")
        assert client._writer is not None
        page = msgpack.packb([0, 0, "scan", [0, PAGE_COUNTERS, ""]])
        client._writer.write(page * PAGES_UNREAD)  # the stream stops reading when nobody takes what it has
        await asyncio.sleep(UNREAD_S)
        await client.connect()


KINDS: dict[str, Callable[[Neighbour], Awaitable[None]]] = {
    "top": top,
    "empty-scan": empty_scan,
    "try-incr": try_incr,
    "release": release,
    "wide-wait": wide_wait,
    "nested": nested,
    "unread": unread,
}


async def work(client: Neighbour, kind: str) -> None:
    """Ask for costly things until cancelled. A lost connection is opened again."""
    while True:
        try:
            await client.connect()
            await KINDS[kind](client)
        except OSError:
            client.reconnects += 1
            await asyncio.sleep(RETRY_S)


async def _main(url: str, kind: str, clients: int) -> None:
    over = asyncio.Event()
    asyncio.get_running_loop().add_reader(0, over.set)
    neighbours = [Neighbour(parse_target(url), number) for number in range(clients)]
    tasks = [asyncio.create_task(work(neighbour, kind)) for neighbour in neighbours]
    # A server that only closes the connection has answered, too.
    while not all(each.answered or each.reconnects for each in neighbours) and not over.is_set():
        for task in tasks:
            if task.done():
                task.result()
        await asyncio.sleep(RETRY_S)
    for neighbour in neighbours:
        neighbour.start_counting()
    print("ready", flush=True)
    await over.wait()
    for task in tasks:
        # A client that ended by itself has met a fault of this program or of the protocol.
        if task.done():
            task.result()
        task.cancel()
    await asyncio.gather(*tasks, return_exceptions=True)
    for neighbour in neighbours:
        neighbour.close()
    errors: dict[str, int] = {}
    for neighbour in neighbours:
        for code, count in neighbour.errors.items():
            errors[code] = errors.get(code, 0) + count
    report = {
        "answered": sum(neighbour.answered for neighbour in neighbours),
        "errors": errors,
        "reconnects": sum(neighbour.reconnects for neighbour in neighbours),
    }
    print(json.dumps(report), flush=True)


def main() -> None:
    url, kind, clients, cores = sys.argv[1:]
    numbers = [] if cores == "-" else [int(number) for number in cores.split(",")]
    yield_to_others(Cores([], numbers, ""))
    with contextlib.suppress(ImportError):
        import uvloop

        uvloop.run(_main(url, kind, int(clients)))
        return
    asyncio.run(_main(url, kind, int(clients)))


if __name__ == "__main__":
    main()
