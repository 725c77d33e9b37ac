"""What TLS says of a client, and for how long: certificates that end, over real handshakes on loopback."""

from __future__ import annotations

import asyncio
import ssl
import time
from collections.abc import AsyncIterator
from contextlib import asynccontextmanager
from datetime import UTC, datetime, timedelta
from pathlib import Path
from socket import create_connection
from typing import NamedTuple

import pytest

from naught.wire.codec import encode_request
from naught_server import connection as connection_module
from naught_server.access import User
from naught_server.config import ServerConfig
from naught_server.connection import Connection
from naught_server.engine import Engine
from naught_server.tls import client_port_context, has_ended
from naught_server.turns import Turns
from support.certificates import Authority
from support.conversation import decoded, engine_of

DEADLINE_S = 60


class World(NamedTuple):
    """A port of TLS, and the context of a client whose certificate ends in an hour."""

    engine: Engine
    port: int
    client: ssl.SSLContext

    def call(self, session: ssl.SSLSession | None = None) -> tuple[bytes, bool, ssl.SSLSession | None]:
        """Connect and ask for `ping`. Returns the answer, whether the session was resumed, and the session."""
        with create_connection(("localhost", self.port), DEADLINE_S) as raw:
            wrapped = self.client.wrap_socket(raw, server_hostname="localhost", session=session)
            with wrapped as peer:
                try:
                    peer.sendall(encode_request(1, "ping", ()))
                    answer = peer.recv(1 << 12)
                except ConnectionError:
                    answer = b""
                return answer, bool(peer.session_reused), peer.session


@asynccontextmanager
async def served(folder: Path, version: ssl.TLSVersion, *users: User) -> AsyncIterator[World]:
    servers, clients = Authority(folder), Authority(folder)
    servers.write("server.pem", "localhost")
    ends = datetime.now(UTC) + timedelta(hours=1)
    own = clients.write("machine.pem", "machine.example", not_after=ends)
    config = ServerConfig(tls_certificate=str(folder / "server.pem"), tls_client_ca=str(clients.file))
    engine = engine_of(users=list(users))
    turns = Turns(asyncio.get_running_loop().call_soon)
    server = await asyncio.get_running_loop().create_server(
        lambda: Connection(engine, turns, lambda gone: None), "localhost", 0, ssl=client_port_context(config)
    )
    client = servers.client_context(own)
    client.minimum_version = client.maximum_version = version
    async with server:
        yield World(engine, server.sockets[0].getsockname()[1], client)


@pytest.mark.parametrize("users", [(), (User("machine", "read", certificates=("machine.example",)),)])
@pytest.mark.parametrize("version", [ssl.TLSVersion.TLSv1_2, ssl.TLSVersion.TLSv1_3], ids=lambda each: each.name)
async def test_a_resumed_session_ends_with_its_certificate(
    tmp_path: Path, monkeypatch: pytest.MonkeyPatch, version: ssl.TLSVersion, users: tuple[User, ...]
) -> None:
    """A resumed session has the certificate of the first handshake, which OpenSSL does not look at again: a client
    that resumes one after the other would never have to show another."""
    async with served(tmp_path, version, *users) as world:
        first, _, session = await asyncio.to_thread(world.call)
        again, resumed, _ = await asyncio.to_thread(world.call, session)
        assert resumed
        assert [reply[2] for reply in decoded(first + again)] == [None, None]
        monkeypatch.setattr(connection_module, "_wall_clock_ns", lambda: time.time_ns() + 3_601 * 10**9)
        assert (await asyncio.to_thread(world.call, session))[:2] == (b"", True)
        assert world.engine.stats.connections_cut == {"certificate": 1}


def test_when_a_certificate_has_ended() -> None:
    ends = {"notAfter": "Nov 30 12:00:00 2026 GMT"}
    at_s = datetime(2026, 11, 30, 12, tzinfo=UTC).timestamp()
    assert [has_ended(ends, now_s) for now_s in (at_s - 1, at_s, at_s + 0.5)] == [False, False, True]
    assert not any(has_ended(none, at_s) for none in (None, {}))
