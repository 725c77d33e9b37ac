"""What systemd is told, read at the other end of its socket."""

from __future__ import annotations

import os
import socket
from collections.abc import Iterator
from pathlib import Path

import pytest

from naught_server.notify import Notifier


@pytest.fixture
def supervisor(tmp_path: Path) -> Iterator[socket.socket]:
    with socket.socket(socket.AF_UNIX, socket.SOCK_DGRAM) as receiver:
        receiver.bind(str(tmp_path / "notify"))
        receiver.settimeout(5)
        yield receiver


def test_each_message(supervisor: socket.socket) -> None:
    notifier = Notifier({"NOTIFY_SOCKET": supervisor.getsockname()})
    notifier.ready("serving default at 127.0.0.1:6480")
    assert supervisor.recv(1_000) == b"READY=1\nSTATUS=serving default at 127.0.0.1:6480"
    notifier.reloading()
    name, _, number = supervisor.recv(1_000).partition(b"\nMONOTONIC_USEC=")
    assert name == b"RELOADING=1"
    assert int(number) > 0
    notifier.stopping("draining")
    assert supervisor.recv(1_000) == b"STOPPING=1\nSTATUS=draining"
    notifier.alive()
    assert supervisor.recv(1_000) == b"WATCHDOG=1"


@pytest.mark.skipif(not Path("/proc/self").exists(), reason="abstract sockets are Linux's")
def test_a_name_in_the_abstract_namespace() -> None:
    name = f"naught-test-{os.getpid()}"
    with socket.socket(socket.AF_UNIX, socket.SOCK_DGRAM) as receiver:
        receiver.bind(f"\0{name}")
        receiver.settimeout(5)
        Notifier({"NOTIFY_SOCKET": f"@{name}"}).alive()
        assert receiver.recv(100) == b"WATCHDOG=1"


@pytest.mark.parametrize("path", ["", "/there/is/no/such/socket", "x" * 500])
def test_without_a_supervisor_nothing_happens(path: str) -> None:
    notifier = Notifier({"NOTIFY_SOCKET": path})
    notifier.ready("serving")
    notifier.alive()


def test_a_supervisor_that_does_not_read_stops_nothing(supervisor: socket.socket) -> None:
    notifier = Notifier({"NOTIFY_SOCKET": supervisor.getsockname()})
    for _ in range(2_000):
        notifier.alive()


@pytest.mark.parametrize(
    ("environment", "every_s"),
    [
        ({}, None),
        ({"WATCHDOG_USEC": "30000000"}, 10.0),
        ({"WATCHDOG_USEC": "30000000", "WATCHDOG_PID": str(os.getpid())}, 10.0),
        ({"WATCHDOG_USEC": "30000000", "WATCHDOG_PID": "1"}, None),
        ({"WATCHDOG_USEC": "0"}, None),
        ({"WATCHDOG_USEC": "soon"}, None),
    ],
)
def test_how_often_the_watchdog_wants_a_sign(environment: dict[str, str], every_s: float | None) -> None:
    assert Notifier({"NOTIFY_SOCKET": "/run/notify", **environment}).watchdog_s == every_s
    assert Notifier(environment).watchdog_s is None
