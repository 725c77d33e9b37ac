"""A server that sends back what it receives: `python -m naught_loadtest.drivers.echo_server PORT`.

The generator is measured against it, to know the generator's own ceiling.
"""

from __future__ import annotations

import asyncio
import contextlib
import signal
import sys
from typing import cast


class EchoProtocol(asyncio.Protocol):
    """One connection."""

    def connection_made(self, transport: asyncio.BaseTransport) -> None:
        # A cast, because uvloop's transports are no subclass of asyncio's.
        self._write = cast(asyncio.Transport, transport).write

    def data_received(self, data: bytes) -> None:
        self._write(data)


async def _main(port: int) -> None:
    loop = asyncio.get_running_loop()
    stop = asyncio.Event()
    for number in (signal.SIGTERM, signal.SIGINT):
        loop.add_signal_handler(number, stop.set)
    server = await loop.create_server(EchoProtocol, "127.0.0.1", port, backlog=1024)
    await stop.wait()
    server.close()


def main() -> None:
    port = int(sys.argv[1])
    with contextlib.suppress(ImportError):
        import uvloop

        uvloop.run(_main(port))
        return
    asyncio.run(_main(port))


if __name__ == "__main__":
    main()
