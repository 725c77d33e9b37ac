"""What an operator of a server process sees of its clients, and what the log says when one of them is gone."""

from __future__ import annotations

import json
import re
from collections.abc import Iterator
from pathlib import Path
from typing import Any

import pytest

import naught
from naught.names import default_name
from support.server_process import RawPeer, ServerProcess, server_process, wait_until

LEASE_MS = 100


@pytest.fixture(scope="module")
def server(tmp_path_factory: pytest.TempPathFactory) -> Iterator[ServerProcess]:
    folder = tmp_path_factory.mktemp("server")
    with server_process(folder, "--log-format", "json", "--unix-socket", str(folder / "socket")) as server:
        yield server


def opened(server: ServerProcess, **words: Any) -> RawPeer:
    """A raw peer with a session."""
    peer = server.connect()
    assert b"session" in peer.call("hello", {"session": True, "lease_ms": LEASE_MS, **words})
    return peer


def reports(server: ServerProcess, name: str) -> list[dict[str, Any]]:
    """The lines of the log about what was taken back of clients of this name."""
    lines = map(json.loads, server.log().splitlines())
    return [line for line in lines if line["event"] == "holds taken back" and line["name"] == name]


def test_a_line_says_whose_holds_were_taken_back(server: ServerProcess) -> None:
    server.call("incr", "taken:shared")
    with opened(server, name="doomed") as peer:
        peer.call("acquire", [["taken:shared", 2, 9], ["taken:own", 1, 9]])
        peer.call("acquire", [["taken:own", 1, 9]])
        (number,) = [row[b"session"] for row in server.call("sessions") if row[b"name"] == b"doomed"]
    wait_until(lambda: bool(reports(server, "doomed")), "the log says so")
    (line,) = reports(server, "doomed")
    assert {word: line[word] for word in line if word != "timestamp"} == {
        "level": "warning",
        "event": "holds taken back",
        "session": number,
        "name": "doomed",
        "address": "127.0.0.1",
        "cache": "default",
        "why": "lease",
        "holds": 2,
        "amounts": 3,
        "total": 4,
        "counters": ["taken:shared=2", "taken:own=2"],
    }
    assert server.call("get_many", ["taken:shared", "taken:own"]) == [1, 0]


def test_the_line_as_text(tmp_path: Path) -> None:
    with server_process(tmp_path) as server:
        with opened(server, name="a b") as peer:
            peer.call("acquire", [[b"k\xff\n", 1, 9]])
        wait_until(lambda: "holds taken back" in server.log(), "the log says so")
        (line,) = [line for line in server.log().splitlines() if "holds taken back" in line]
        assert re.fullmatch(
            r'\S+Z warning holds taken back session=1 name="a b" address=127.0.0.1 cache=default why=lease holds=1 '
            r'amounts=1 total=1 counters="k\\\\xff\\n=1"',
            line,
        ), line


def test_a_client_that_says_bye_is_not_worth_a_line(server: ServerProcess) -> None:
    wait_until(lambda: not server.call("sessions"), "those of other tests have ended")
    before = server.call("info")[b"sessions"]
    with opened(server, name="polite") as peer:
        peer.call("acquire", [["polite", 1, 9]])
        peer.call("bye")
    with opened(server, name="idle") as peer:
        peer.call("incr", "polite")
        peer.call("decr", "polite")
    with opened(server, name="rude") as peer:
        peer.call("acquire", [["rude", 1, 9]])
        peer.send(b"\xc1")
        assert peer.read_to_end() == b""
    wait_until(lambda: bool(reports(server, "rude")), "the log says so")
    wait_until(lambda: not server.call("sessions"), "all have ended")
    assert [line["why"] for line in reports(server, "rude")] == ["protocol"]
    assert reports(server, "polite") == reports(server, "idle") == []
    after = server.call("info")[b"sessions"]
    assert after[b"holds_taken_back"] == before[b"holds_taken_back"] + 1
    assert {reason: after[b"ended"][reason] - count for reason, count in before[b"ended"].items()} == {
        b"bye": 1,
        b"lease": 1,
        b"overrun": 0,
        b"protocol": 1,
        b"displaced": 0,
        b"operator": 0,
        b"access": 0,
    }


@pytest.mark.parametrize("kind", ["tcp", "unix"])
def test_where_a_client_comes_from(server: ServerProcess, kind: str) -> None:
    unix = server._log.with_name("socket")
    url = f"naught://127.0.0.1:{server.port}" if kind == "tcp" else f"naught+unix://{unix}"
    with naught.blocking.Client(url) as client:
        (row,) = [row for row in client.sessions() if row["name"] == default_name()]
        assert (row["name"], row["address"]) == (default_name(), "127.0.0.1" if kind == "tcp" else "unix")


def test_the_connection_of_a_session_that_is_ended_is_closed(server: ServerProcess) -> None:
    with opened(server, name="worker") as worker, opened(server, name="operator") as operator:
        worker.call("acquire", [["ended", 1, 1]])
        (holder,) = operator.call("holders", "ended")
        assert holder[1:] == [b"worker", 1, b"127.0.0.1"]
        assert operator.call("end_session", holder[0]) is True
        assert operator.call("holders", "ended") == []
        assert operator.call("get", "ended") == 0
        assert worker.read_to_end() == b""
    wait_until(lambda: bool(reports(server, "worker")), "the log says so")
    assert [line["why"] for line in reports(server, "worker")] == ["operator"]
