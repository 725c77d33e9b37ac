"""The HTTP port of a real server: scrapes under load, health from start to end, peers that behave badly."""

from __future__ import annotations

import json
import os
import signal
import socket
import subprocess
import sys
import threading
import urllib.error
import urllib.request
from collections.abc import Iterator
from pathlib import Path
from typing import Any

import pytest
from prometheus_client.parser import text_string_to_metric_families

from support.server_process import ServerProcess, server_process, wait_until


@pytest.fixture
def server(tmp_path: Path) -> Iterator[ServerProcess]:
    with server_process(tmp_path, "--http-port", "0") as started:
        yield started


def url(server: ServerProcess, path: str) -> str:
    return f"http://127.0.0.1:{server.ports['http']['port']}{path}"


def get(server: ServerProcess, path: str) -> tuple[int, bytes]:
    try:
        with urllib.request.urlopen(url(server, path), timeout=10) as response:
            return response.status, response.read()
    except urllib.error.HTTPError as error:
        with error:
            return error.code, error.read()


def metric(server: ServerProcess, name: str, **labels: str) -> float:
    status, text = get(server, "/metrics")
    assert status == 200
    for family in text_string_to_metric_families(text.decode()):
        for sample in family.samples:
            if sample.name == name and sample.labels == labels:
                return float(sample.value)
    raise AssertionError(f"there is no {name} with {labels}")


def test_scrapes_beside_a_load(server: ServerProcess) -> None:
    stop = threading.Event()

    def load() -> None:
        with server.connect() as peer:
            while not stop.is_set():
                peer.call("apply", [b"k%d" % number for number in range(500)], 1)

    thread = threading.Thread(target=load)
    thread.start()
    try:
        wait_until(lambda: metric(server, "cache_map_length", cache_name="default") == 500, "the counters are seen")
        first = metric(server, "naught_commands_total", method="apply", outcome="ok")
        wait_until(lambda: metric(server, "naught_commands_total", method="apply", outcome="ok") > first, "it grows")
        assert metric(server, "cache_valid_entry_count", cache_name="default") == 500
        assert metric(server, "naught_connections") == 1
        assert metric(server, "process_resident_memory_bytes") > 1 << 20
        assert metric(server, "naught_turn_duration_seconds_count") >= first
        assert metric(server, "naught_received_bytes_total") > 500 * first
    finally:
        stop.set()
        thread.join()


def test_the_page_and_what_it_reads(server: ServerProcess) -> None:
    for path in ("/", "/page.css", "/page.js"):
        status, body = get(server, path)
        assert status == 200
        assert body
    server.call("incr", "seats:42", 7)

    def top() -> Any:
        return json.loads(get(server, "/status.json")[1])["caches"][0]["top"]

    wait_until(lambda: top() is not None and top()["counters"] == [["seats:42", 7]], "the walk has ended")
    assert get(server, "/nothing")[0] == 404


def test_health_from_start_to_end(server: ServerProcess) -> None:
    assert get(server, "/livez") == (200, b"alive\n")
    assert get(server, "/readyz") == (200, b"ready\n")
    assert metric(server, "naught_ready") == 1
    # A connection that is not done keeps the server draining: its request waits for output that is not read.
    with server.connect() as peer:
        peer.call("incr", "a")
        server.process.send_signal(signal.SIGTERM)
        wait_until(lambda: get(server, "/readyz") == (503, b"draining\n"), "it drains")
        assert get(server, "/livez")[0] == 200
    assert server.process.wait(20) == 0


def raw(server: ServerProcess, data: bytes) -> bytes:
    """All that is answered until the server closes."""
    with socket.create_connection(("127.0.0.1", server.ports["http"]["port"]), timeout=20) as peer:
        peer.sendall(data)
        answer = b""
        while piece := peer.recv(1 << 16):
            answer += piece
        return answer


def test_what_is_no_http_is_told_so(server: ServerProcess) -> None:
    assert raw(server, b"\x94\x00\x01\xa4ping\x90\r\n\r\n").startswith(b"HTTP/1.1 400 ")
    assert raw(server, b"x" * 10_000).startswith(b"HTTP/1.1 431 ")
    assert get(server, "/livez")[0] == 200


def test_a_name_that_leads_here_is_not_served(server: ServerProcess) -> None:
    answer = raw(server, b"GET /metrics HTTP/1.1\r\nHost: evil.example\r\nConnection: close\r\n\r\n")
    assert answer.startswith(b"HTTP/1.1 403 ")


@pytest.mark.slow
def test_a_request_that_does_not_end_is_cut(server: ServerProcess) -> None:
    assert raw(server, b"GET /metrics HTTP/1.1\r\n") == b""


def test_connections_that_do_nothing_make_room_for_one_that_asks(server: ServerProcess) -> None:
    """Else a peer that holds as many open keeps scrapers and health checks out, and the server is taken for dead."""

    def connected() -> socket.socket:
        return socket.create_connection(("127.0.0.1", server.ports["http"]["port"]), timeout=20)

    peers = [connected() for _ in range(32)]
    try:
        for peer in peers[:16]:  # the others send no request at all
            peer.sendall(b"GET /livez HTTP/1.1\r\nHost: localhost\r\n\r\n")
            assert peer.recv(1 << 16).startswith(b"HTTP/1.1 200 ")
        assert [get(server, "/readyz")[0] for _ in range(20)] == [200] * 20
        for _ in range(4):
            peers.append(connected())
            peers[-1].sendall(b"GET /livez HTTP/1.1\r\nHost: localhost\r\n\r\n")
            assert peers[-1].recv(1 << 16).startswith(b"HTTP/1.1 200 ")
        assert peers[16].recv(100) == b"", "it had done nothing for longest"
        assert server.call("ping") == b"pong", "clients of counters are served"
    finally:
        for peer in peers:
            peer.close()
    # One for the checks, whose connections close: so one of the four others finds room.
    assert metric(server, "naught_connections_refused_total", reason="http_connections_max") >= 4


def test_off_is_off(tmp_path: Path) -> None:
    with server_process(tmp_path, "--http-port", "off") as server:
        assert server.ports["http"] is None


def test_a_port_that_is_taken_says_how_to_pick_another(tmp_path: Path, server: ServerProcess) -> None:
    ended = subprocess.run(
        [sys.executable, "-m", "naught_server", "--port", "0", "--http-port", str(server.ports["http"]["port"])],
        capture_output=True,
        text=True,
        timeout=30,
        env={**os.environ},
        check=False,
    )
    assert ended.returncode == 1
    assert "--http-port picks another port for HTTP, 0 a free one, off none" in ended.stderr


def test_systemd_is_told(tmp_path: Path) -> None:
    with socket.socket(socket.AF_UNIX, socket.SOCK_DGRAM) as supervisor:
        supervisor.bind(str(tmp_path / "notify"))
        supervisor.settimeout(20)
        environment = {"NOTIFY_SOCKET": str(tmp_path / "notify"), "WATCHDOG_USEC": "300000"}
        with server_process(tmp_path, environment=environment) as server:
            told = [supervisor.recv(1_000)]
            assert told[0].startswith(b"READY=1\nSTATUS=serving default at 127.0.0.1:")
            while b"WATCHDOG=1" not in told:
                told.append(supervisor.recv(1_000))
            server.process.send_signal(signal.SIGHUP)
            while not told[-1].startswith(b"RELOADING=1\nMONOTONIC_USEC="):
                told.append(supervisor.recv(1_000))
            while not told[-1].startswith(b"READY=1\n"):
                told.append(supervisor.recv(1_000))
            server.process.send_signal(signal.SIGTERM)
            while told[-1] != b"STOPPING=1\nSTATUS=draining after SIGTERM":
                told.append(supervisor.recv(1_000))
            assert server.process.wait(20) == 0
