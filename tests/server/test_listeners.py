"""Accepting, with faults that cannot be caused from outside of the process: each is raised by a listening socket."""

from __future__ import annotations

import asyncio
import errno
import os
import pwd
import socket
import stat
from collections.abc import Callable
from pathlib import Path
from typing import Any

import pytest
import uvloop

from naught_server.config import ServerConfig
from naught_server.listeners import Acceptor, Listeners, StartError, peer_address, shown_peer
from naught_server.stats import Stats

LOOPS = pytest.mark.parametrize("new_loop", [uvloop.new_event_loop, asyncio.new_event_loop])
DEADLINE_S = 20
NewLoop = Callable[[], asyncio.AbstractEventLoop]


class FaultyListener:
    """A listening socket whose `accept` raises these errors first."""

    def __init__(self, *faults: int) -> None:
        self._socket = socket.create_server(("127.0.0.1", 0))
        self._socket.setblocking(False)
        self._faults = list(faults)
        self.accepts = 0  # how often `accept` was called

    def fileno(self) -> int:
        return self._socket.fileno()

    def address(self) -> Any:
        return self._socket.getsockname()

    def accept(self) -> tuple[socket.socket, Any]:
        self.accepts += 1
        if self._faults:
            fault = self._faults.pop(0)
            raise OSError(fault, os.strerror(fault))
        return self._socket.accept()

    def close(self) -> None:
        self._socket.close()


def accept_one(new_loop: NewLoop, *faults: int) -> tuple[FaultyListener, Stats]:
    """Let one client connect to a listener with these faults, and wait until its connection is closed.

    The connection is closed whether it is admitted or refused.
    """
    stats = Stats()
    listener = FaultyListener(*faults)
    client = socket.socket()

    def admit(accepted: socket.socket, address: str | None) -> None:
        assert address == "127.0.0.1"
        accepted.close()

    async def run() -> None:
        acceptor = Acceptor([listener], admit, stats)  # type: ignore[list-item]
        acceptor.start()
        client.setblocking(False)
        loop = asyncio.get_running_loop()
        await loop.sock_connect(client, listener.address())
        assert await asyncio.wait_for(loop.sock_recv(client, 1), DEADLINE_S) == b""
        acceptor.stop()
        acceptor.stop()

    try:
        with asyncio.Runner(loop_factory=new_loop) as runner:
            runner.run(run())
    finally:
        client.close()
        listener.close()
    return listener, stats


@LOOPS
@pytest.mark.parametrize("fault", [errno.EMFILE, errno.ENFILE, errno.ENOBUFS, errno.ENOMEM])
def test_the_reserve_is_enough_to_refuse(new_loop: NewLoop, fault: int, caplog: pytest.LogCaptureFixture) -> None:
    _, stats = accept_one(new_loop, fault)
    assert stats.connections_refused == 1
    assert [record.getMessage() for record in caplog.records] == ["connections refused"]


@LOOPS
@pytest.mark.parametrize("faults", [(errno.EMFILE, errno.EMFILE), (errno.ENFILE, errno.ENFILE), (errno.EPERM,)])
def test_when_nothing_helps_the_listener_rests(
    new_loop: NewLoop, faults: tuple[int, ...], caplog: pytest.LogCaptureFixture
) -> None:
    listener, stats = accept_one(new_loop, *faults)
    assert stats.connections_refused == 0
    assert [record.getMessage() for record in caplog.records] == ["cannot accept"]
    # No busy loop: one call for each fault, one for the client, and one that finds the queue empty.
    assert listener.accepts <= len(faults) + 2


@LOOPS
def test_a_client_that_went_while_it_waited_is_passed_over(
    new_loop: NewLoop, caplog: pytest.LogCaptureFixture
) -> None:
    _, stats = accept_one(new_loop, errno.ECONNABORTED)
    assert stats.connections_refused == 0
    assert caplog.records == []


def test_the_address_that_bounds_count() -> None:
    assert peer_address(socket.AF_INET, ("10.0.0.1", 1234)) == "10.0.0.1"
    assert peer_address(socket.AF_INET6, ("2001:db8::1:2:3:4", 1, 0, 0)) == "2001:db8::/64"
    assert peer_address(socket.AF_INET6, ("2001:db8::9", 2, 0, 0)) == "2001:db8::/64"
    assert peer_address(socket.AF_INET6, ("2001:db8:0:1::9", 2, 0, 0)) == "2001:db8:0:1::/64"
    assert peer_address(socket.AF_INET6, ("fe80::1%eth0", 2, 0, 7)) == "fe80::/64"
    assert peer_address(socket.AF_UNIX, "") is None


def test_where_a_connection_comes_from_is_shown_without_its_port() -> None:
    with socket.create_server(("127.0.0.1", 0)) as listening, socket.create_connection(listening.getsockname()):
        accepted, _ = listening.accept()
        with accepted:
            assert shown_peer(accepted) == "127.0.0.1"
    ours, theirs = socket.socketpair(socket.AF_UNIX)
    with ours, theirs:
        assert shown_peer(ours) == "unix"
    with socket.socket() as gone:
        assert shown_peer(gone) == "", "its peer has gone before it could be asked"


# ------------------------------------------------------------------------------------------- files of Unix sockets


@pytest.mark.parametrize("mode", ["0600", "0660", "666", "0777"])
def test_a_unix_socket_has_the_mode_that_is_said(tmp_path: Path, mode: str) -> None:
    path = tmp_path / "x.sock"
    before = os.umask(0o022)
    try:
        listeners = Listeners(ServerConfig(host=None, http_port=None, unix_socket=str(path), unix_socket_mode=mode))
        assert stat.S_IMODE(path.stat().st_mode) == int(mode, 8)
        listeners.close()
        assert os.umask(0o022) == 0o022, "that of the process is as it was"
    finally:
        os.umask(before)


def test_a_unix_socket_has_the_owner_that_is_said(tmp_path: Path) -> None:
    path = tmp_path / "x.sock"
    for owner in (
        f"{os.getuid()}:{os.getgid()}",
        f"{os.getuid()}",
        f":{os.getgid()}",
        pwd.getpwuid(os.getuid()).pw_name,
    ):
        config = ServerConfig(host=None, http_port=None, unix_socket=str(path), unix_socket_owner=owner)
        listeners = Listeners(config)
        assert (path.stat().st_uid, path.stat().st_gid) == (os.getuid(), os.getgid())
        listeners.close()
    # The last but one means "as it is" to chown, and beyond it there is no id.
    for owner in ("nobody of this name", ":no group of this name", "9" * 20, f":{2**32 - 1}", str(2**32)):
        config = ServerConfig(host=None, http_port=None, unix_socket=str(path), unix_socket_owner=owner)
        with pytest.raises(StartError, match="there is no user or group"):
            Listeners(config)
        assert not path.exists()


def test_nobody_else_may_connect_before_the_mode_is_set(tmp_path: Path, monkeypatch: pytest.MonkeyPatch) -> None:
    path = tmp_path / "x.sock"
    seen = []
    monkeypatch.setattr("os.chmod", lambda where, mode: seen.append(stat.S_IMODE(os.stat(where).st_mode)))
    Listeners(ServerConfig(host=None, http_port=None, unix_socket=str(path), unix_socket_mode="0666")).close()
    assert seen == [0o600]
