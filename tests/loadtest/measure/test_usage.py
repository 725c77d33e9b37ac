"""What the system says of processes."""

from __future__ import annotations

import os
import socket
import sys
from pathlib import Path

import pytest

from naught_loadtest.measure import usage
from naught_loadtest.measure.usage import Usage, listening_pid, steal_s, waited_s

pytestmark = pytest.mark.skipif(sys.platform != "linux", reason="this system has no /proc")


def test_processor_time_and_waiting_of_a_process_only_grow() -> None:
    before = Usage.now(os.getpid())
    assert before.cpu_s is not None
    assert before.wait_s is not None
    used = Usage.now(os.getpid()) - before
    assert used.cpu_s is not None
    assert used.wait_s is not None
    assert used.cpu_s >= 0
    assert used.wait_s >= 0
    assert steal_s() is not None


def test_a_process_that_is_gone_has_no_figures() -> None:
    nobody = 2**22 + 1
    assert waited_s(nobody) is None
    gone = Usage.now(nobody)
    assert gone == Usage(None, None)
    assert Usage.now(os.getpid()) - gone == Usage(None, None)


@pytest.mark.parametrize("family", [socket.AF_INET, socket.AF_INET6])
def test_the_process_that_listens_on_a_port_is_found(family: socket.AddressFamily) -> None:
    host = "127.0.0.1" if family == socket.AF_INET else "::1"
    try:
        listener = socket.create_server((host, 0), family=family)
    except OSError:
        pytest.skip("this machine has no such addresses")
    with listener:
        port = listener.getsockname()[1]
        assert listening_pid(host, port) == os.getpid()
        assert listening_pid("counters.example.org", port) is None, "that is another machine"
    assert listening_pid(host, port) is None


def test_the_process_that_listens_on_a_unix_socket_is_found(tmp_path: Path) -> None:
    path = str(tmp_path / "s")
    with socket.socket(socket.AF_UNIX) as listener:
        listener.bind(path)
        assert listening_pid("", 0, path) is None
        listener.listen()
        assert listening_pid("", 0, path) == os.getpid()


def test_a_program_that_only_forwards_is_not_the_server(monkeypatch: pytest.MonkeyPatch) -> None:
    with socket.create_server(("127.0.0.1", 0)) as listener:
        monkeypatch.setattr(usage, "process_name", lambda pid: "docker-proxy")
        assert listening_pid("127.0.0.1", listener.getsockname()[1]) is None
