"""A proxy between a client and a server that breaks connections: at any byte of either direction, on both sides or
only on the client's side. It runs in the client's event loop."""

from __future__ import annotations

import asyncio
import random
from contextlib import ExitStack

from naught_loadtest.drivers.servers import reserved_port


class Proxy:
    """Listens on loopback and forwards bytes to the server at `port`.

    async with Proxy(port, seed, bytes_max) as proxy:
        ...                     # clients connect to proxy.url
        proxy.cut()             # or proxy.cut_the_clients_side()
    """

    def __init__(self, port: int, seed: int | None = None, bytes_max: int = 0) -> None:
        """With a seed, each direction of each connection breaks after 1 to `bytes_max` bytes."""
        self._server_port = port
        self._random = random.Random(seed)
        self._bytes_max = bytes_max
        self._server: asyncio.Server | None = None
        self._open: dict[asyncio.StreamWriter, asyncio.StreamWriter] = {}  # to the client -> to the server
        self._swallowed: set[asyncio.StreamWriter] = set()  # to clients whose bytes go nowhere
        self._tasks: set[asyncio.Task[None]] = set()
        self._over = False
        self._reserved = ExitStack()
        self.port = 0
        self.cuts = 0  # connections broken
        self.half_open: list[asyncio.StreamWriter] = []  # to the server, which does not know that the client is gone
        self.closed_by_server = 0  # how many of those the server has closed

    @property
    def url(self) -> str:
        return f"naught://127.0.0.1:{self.port}"

    def swallow(self) -> None:
        """Keep the present connections open, and pass nothing more on. Later connections work."""
        self._swallowed.update(self._open)

    def calm(self) -> None:
        """Break no more connections."""
        self._bytes_max = 0

    async def __aenter__(self) -> Proxy:
        self.port = self._reserved.enter_context(reserved_port())
        await self.listen()
        return self

    async def listen(self) -> None:
        """Accept connections, always on the same port."""
        self._server = await asyncio.start_server(self._accept, "127.0.0.1", self.port)

    def refuse(self) -> None:
        """Accept no more connections."""
        assert self._server is not None
        self._server.close()

    async def __aexit__(self, *_: object) -> None:
        self._over = True
        self.refuse()
        self.cut()
        for writer in self.half_open:
            writer.transport.abort()
        await asyncio.gather(*self._tasks, return_exceptions=True)
        self._reserved.close()

    def cut(self) -> None:
        """Break all connections on both sides."""
        for client, server in list(self._open.items()):
            self._break(client, server)

    def cut_the_clients_side(self) -> None:
        """Close the clients' sides only: the server does not notice, as when the client's machine is gone."""
        for client, server in list(self._open.items()):
            del self._open[client]
            self.half_open.append(server)
            client.transport.abort()

    def _break(self, client: asyncio.StreamWriter, server: asyncio.StreamWriter) -> None:
        if self._open.pop(client, None) is not None:
            self.cuts += 1
            client.transport.abort()
            server.transport.abort()

    async def _accept(self, from_client: asyncio.StreamReader, to_client: asyncio.StreamWriter) -> None:
        task = asyncio.current_task()
        assert task is not None
        self._tasks.add(task)
        try:
            from_server, to_server = await asyncio.open_connection("127.0.0.1", self._server_port)
        except OSError:
            to_client.transport.abort()
            return
        if self._over:
            to_client.transport.abort()
            to_server.transport.abort()
            return
        self._open[to_client] = to_server
        await asyncio.gather(
            self._pass_on(from_client, to_server, to_client, to_server),
            self._pass_on(from_server, to_client, to_client, to_server),
        )

    async def _pass_on(
        self,
        reader: asyncio.StreamReader,
        writer: asyncio.StreamWriter,
        client: asyncio.StreamWriter,
        server: asyncio.StreamWriter,
    ) -> None:
        left = self._random.randint(1, self._bytes_max) if self._bytes_max else None
        try:
            while data := await reader.read(1 << 16):
                if left is not None and self._bytes_max:
                    data, left = data[:left], left - len(data)
                if client in self._open and client not in self._swallowed:
                    writer.write(data)
                    await writer.drain()
                if left is not None and left <= 0:
                    break
        except ConnectionError:
            pass
        if server in self.half_open:
            if writer is client:
                self.closed_by_server += 1
            return
        self._break(client, server)
