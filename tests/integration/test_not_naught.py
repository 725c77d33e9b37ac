"""Something else answers at the port: the client says so at once, and does not try for its whole timeout."""

from __future__ import annotations

import asyncio
import http.server
import shutil
import socketserver
import subprocess
import threading
from collections.abc import Callable, Iterator
from contextlib import ExitStack, contextmanager
from typing import Any

import pytest
import uvloop

import naught
from naught_loadtest.drivers.servers import reserved_port
from support.client_helpers import ScriptedServer
from support.server_process import server_process, wait_until
from support.two_clients import KINDS, connect

GUARD_S = 30.0
LOOPS: dict[str, Any] = {"asyncio": None, "uvloop": uvloop.new_event_loop}
LONG_S = 20.0
"""The time to connect that is not used up."""


class _Handler(socketserver.StreamRequestHandler):
    """A service that greets, or that answers a line."""

    greeting = b""
    answer: Callable[[bytes], bytes] = staticmethod(lambda line: b"")

    def handle(self) -> None:
        self.wfile.write(self.greeting)
        while line := self.rfile.readline():
            self.wfile.write(type(self).answer(line))


@contextmanager
def serving(handler: Any) -> Iterator[int]:
    with socketserver.ThreadingTCPServer(("127.0.0.1", 0), handler) as server:
        server.daemon_threads = True
        thread = threading.Thread(target=server.serve_forever, args=(0.01,))
        thread.start()
        try:
            yield server.server_address[1]
        finally:
            server.shutdown()
            thread.join()


class _Quiet(http.server.BaseHTTPRequestHandler):
    def log_message(self, format: str, *args: Any) -> None:
        """Nothing is printed."""


SERVICES: dict[str, tuple[Any, str]] = {
    "Redis": (
        type("Redis", (_Handler,), {"answer": staticmethod(lambda line: b"-ERR unknown command\r\n")}),
        "does not speak naught, but Redis",
    ),
    "HTTP": (_Quiet, "does not speak naught"),
    "memcached": (
        type("Memcached", (_Handler,), {"answer": staticmethod(lambda line: b"ERROR\r\n")}),
        "but memcached",
    ),
    "SSH": (type("Ssh", (_Handler,), {"greeting": b"SSH-2.0-OpenSSH_9.2\r\n"}), "does not speak naught, but SSH"),
    "mail": (type("Mail", (_Handler,), {"greeting": b"220 mail.test ESMTP\r\n"}), "begins with b'220 mail.test"),
    "TLS": (
        type("Tls", (_Handler,), {"greeting": b"\x15\x03\x01\x00\x02\x02\x46"}),
        "does not speak naught, but TLS",
    ),
}


@pytest.mark.parametrize("kind", KINDS)
@pytest.mark.parametrize("service", SERVICES)
def test_what_answers_instead_is_named(kind: str, service: str) -> None:
    handler, what = SERVICES[service]

    async def scenario(port: int) -> None:
        async with asyncio.timeout(LONG_S / 2):
            with pytest.raises(naught.ConnectionFailed, match=what) as caught:
                async with connect(kind, f"naught://127.0.0.1:{port}", connect_timeout=LONG_S):
                    """It does not connect."""
            assert isinstance(caught.value.__cause__, naught.ProtocolError)

    with serving(handler) as port:
        asyncio.run(scenario(port))


@pytest.mark.parametrize("kind", KINDS)
@pytest.mark.parametrize("service", ["mail", "SSH", "memcached"])
def test_what_answers_without_tls_is_said_at_once(kind: str, service: str) -> None:
    handler = (
        type("Greets", (_Handler,), {"greeting": b"ERROR\r\n"}) if service == "memcached" else SERVICES[service][0]
    )

    async def scenario(port: int) -> None:
        async with asyncio.timeout(GUARD_S):
            with pytest.raises(naught.ConnectionFailed, match="does not speak TLS"):
                async with connect(kind, f"naughts://127.0.0.1:{port}", connect_timeout=3 * GUARD_S):
                    """It does not connect."""

    with serving(handler) as port:
        asyncio.run(scenario(port))


def _read_all(handler: socketserver.StreamRequestHandler) -> None:
    handler.rfile.read()


@pytest.mark.parametrize("kind", KINDS)
@pytest.mark.parametrize(
    ("scheme", "handle", "why"),
    [
        ("naught", _read_all, "nothing was answered in time"),
        ("naughts", lambda handler: handler.request.recv(1), "closed the connection|reset by peer"),
    ],
    ids=["nothing", "the end"],
)
def test_every_reason_has_words(kind: str, scheme: str, handle: Any, why: str) -> None:
    async def scenario(port: int) -> None:
        url = f"{scheme}://127.0.0.1:{port}"
        async with connect(kind, url, lazy=True, connect_timeout=0.05, timeout=0.5) as client:
            with pytest.raises(naught.CallTimeout, match=why):
                await client.get("n")

    with serving(type("Silent", (_Handler,), {"handle": handle})) as port:
        asyncio.run(scenario(port))


@pytest.mark.parametrize("kind", KINDS)
@pytest.mark.parametrize("loop", LOOPS)
def test_the_port_without_tls_is_told_from_an_outage(kind: str, loop: str, tmp_path: Any) -> None:
    """A naught server closes the connection there, and the client must not say only that."""

    async def scenario(port: int) -> None:
        with pytest.raises(naught.ConnectionFailed, match="in the handshake of TLS, which it may not speak"):
            async with connect(kind, f"naughts://127.0.0.1:{port}", connect_timeout=0.3):
                """It does not connect."""

    with server_process(tmp_path) as server, asyncio.Runner(loop_factory=LOOPS[loop]) as runner:
        runner.run(scenario(server.port))


@pytest.mark.parametrize("kind", KINDS)
def test_the_http_port_of_a_server_is_not_its_port(kind: str, tmp_path: Any) -> None:
    async def scenario(port: int) -> None:
        with pytest.raises(naught.ConnectionFailed, match="does not speak naught, but HTTP"):
            async with connect(kind, f"naught://127.0.0.1:{port}", connect_timeout=LONG_S):
                """It does not connect."""

    with server_process(tmp_path, "--http-port", "0") as server:
        asyncio.run(scenario(server.ports["http"]["port"]))


@pytest.mark.peer
@pytest.mark.skipif(shutil.which("redis-server") is None, reason="there is no redis-server")
def test_a_real_redis(tmp_path: Any) -> None:
    async def scenario(port: int) -> None:
        with pytest.raises(naught.ConnectionFailed, match="does not speak naught, but Redis"):
            await naught.connect(f"naught://127.0.0.1:{port}", connect_timeout=LONG_S)

    with ExitStack() as stack:
        port = stack.enter_context(reserved_port())
        redis = subprocess.Popen(
            ["redis-server", "--port", str(port), "--save", "", "--dir", str(tmp_path)], stdout=subprocess.PIPE
        )
        stack.callback(redis.wait)
        stack.callback(redis.kill)
        stack.enter_context(redis.stdout)  # type: ignore[arg-type]
        lines: list[bytes] = []
        wait_until(lambda: b"Ready to accept" in _next(redis, lines), "Redis started")
        asyncio.run(scenario(port))


def _next(process: Any, lines: list[bytes]) -> bytes:
    lines.append(process.stdout.readline())
    return lines[-1]


@pytest.mark.parametrize("kind", KINDS)
@pytest.mark.parametrize("lazy", [False, True], ids=["at-once", "lazy"])
def test_what_accepts_and_is_silent_is_said_in_the_first_attempt_too(kind: str, lazy: bool) -> None:
    async def scenario(port: int) -> None:
        # One of the two ends first; the other is not used up.
        times = {"connect_timeout": LONG_S, "timeout": 0.2} if lazy else {"connect_timeout": 0.2}
        with pytest.raises((naught.ConnectionFailed, naught.CallTimeout), match="nothing was answered in time"):
            async with connect(kind, f"naught://127.0.0.1:{port}", lazy=lazy, **times) as client:
                await client.get("n")

    with serving(type("Silent", (_Handler,), {"handle": _read_all})) as port:
        asyncio.run(scenario(port))


async def test_what_answers_instead_is_in_the_log_once(caplog: pytest.LogCaptureFixture) -> None:
    """And not at every attempt, of which there may be several in a second, for as long as the program runs."""
    attempts = asyncio.Semaphore(0)

    async def answer(reader: asyncio.StreamReader, writer: asyncio.StreamWriter) -> None:
        await reader.read(1)
        writer.write(b"HTTP/1.1 400 Bad Request\r\n\r\n")
        writer.close()
        attempts.release()

    async with asyncio.timeout(GUARD_S), await asyncio.start_server(answer, "127.0.0.1", 0) as other:
        port = other.sockets[0].getsockname()[1]
        async with naught.connect(f"naught://127.0.0.1:{port}", lazy=True) as client:
            client._connection._backoff.BOUND_MAX = 0.001  # type: ignore[misc]
            waiting = asyncio.ensure_future(client.get("n", timeout=None))
            for _ in range(10):
                await attempts.acquire()
            waiting.cancel()
    (said,) = [record.getMessage() for record in caplog.records if "HTTP" in record.getMessage()]
    assert said.startswith(f"naught://127.0.0.1:{port}: attempt 1 to connect failed: ProtocolError")


async def test_a_server_that_becomes_something_else_is_tried_again() -> None:
    """Behind a proxy that answers 503 while the server is restarted, for example."""
    async with asyncio.timeout(GUARD_S), ScriptedServer() as server:
        opening = asyncio.ensure_future(_opened(server.url))
        first = await server.peer()
        client = await opening
        client._connection._backoff.BOUND_MAX = 0.001  # type: ignore[misc]
        first.abort()
        other = await server.peer(answer_hello=False)
        other.send(b"HTTP/1.1 503 Service Unavailable\r\n\r\n")
        asking = client.get("n")
        peer = await server.peer()
        _, msgid, method, _ = await peer.request()
        assert method == "get"
        peer.reply(msgid, 7)
        assert await asking == 7
        closing = asyncio.ensure_future(client.close())
        await peer.ended()
        peer.close()
        await closing


async def _opened(url: str) -> naught.Client:
    return await naught.connect(url)
