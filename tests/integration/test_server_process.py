"""`naught-server` as a process: starting, wrong usage, refusing connections, draining and ending.

A server is ready when its ports file exists, and it has handled a signal when its port refuses connections. Accepting
and closing are tested on both loops; most tests on asyncio's loop are slow ones.
"""

from __future__ import annotations

import contextlib
import json
import os
import re
import resource
import signal
import socket
import subprocess
import sys
import time
import tomllib
from collections.abc import Callable, Iterator, Sequence
from pathlib import Path
from typing import Any

import pytest

from naught.wire.codec import encode_request, reply_unpacker
from naught_server.__main__ import main
from support.seeds import exhaustive, slow
from support.server_process import SERVER, WITHOUT_UVLOOP, server_process
from support.surroundings import without_settings

DEADLINE_S = 20.0
LOOPS = ("uvloop", *slow("asyncio"))


def wait_until(happened: Callable[[], Any], what: str) -> Any:
    """Wait until `happened` returns a true value, which is returned. Fails with `what` after the deadline."""
    deadline = time.monotonic() + DEADLINE_S
    while time.monotonic() < deadline:
        found = happened()
        if found:
            return found
        time.sleep(0.005)
    pytest.fail(f"in {DEADLINE_S} s it did not happen that {what}")


def environment(**more: str) -> dict[str, str]:
    """Of this process, without settings; compiled or not as this process is. Without HTTP: its port may be taken."""
    return {**without_settings("MSGPACK_"), "NAUGHT_HTTP_PORT": "off", **more}


def run_to_end(*arguments: str, prefix: Sequence[str] = (), **variables: str) -> subprocess.CompletedProcess[str]:
    """Run a server that is expected to end by itself."""
    return subprocess.run(
        [*prefix, sys.executable, "-W", "error", "-m", "naught_server", *arguments],
        check=False,
        capture_output=True,
        text=True,
        timeout=DEADLINE_S,
        env=environment(**variables),
    )


def with_files_max(limit: int) -> list[str]:
    """A prefix for a command that limits its open files."""
    return ["/bin/sh", "-c", f'ulimit -n {limit}; exec "$@"', "sh"]


class ServerProcess:
    """A server process on a free port, with its log."""

    def __init__(
        self,
        folder: Path,
        *arguments: str,
        loop: str = "uvloop",
        prefix: Sequence[str] = (),
        pass_fds: Sequence[int] = (),
        stderr: int | None = None,
    ) -> None:
        self.ports_file = folder / "ports.json"
        self._log_file = folder / "log"
        start = ["-m", "naught_server"] if loop == "uvloop" else ["-c", WITHOUT_UVLOOP]
        command = [*prefix, sys.executable, "-X", "dev", "-W", "error", *start]
        with self._log_file.open("w") as log:
            self.process = subprocess.Popen(
                [*command, "--port", "0", "--http-port", "off", "--ports-file", str(self.ports_file), *arguments],
                stdin=subprocess.DEVNULL,
                stdout=log,
                stderr=log if stderr is None else stderr,
                pass_fds=pass_fds,
                env=environment(),
            )
        try:
            wait_until(lambda: self.ports_file.exists() or self.process.poll() is not None, "a server started")
            assert self.process.poll() is None, self.log()
            self.bound = json.loads(self.ports_file.read_text())
        except BaseException:
            self.kill()
            raise

    def log(self) -> str:
        # In development mode asyncio reports callbacks above 100 ms, which any callback can reach on a busy machine.
        lines = self._log_file.read_text().splitlines(keepends=True)
        return "".join(line for line in lines if not ("Executing <" in line and " took " in line))

    def connect(self) -> Peer:
        tcp = self.bound["tcp"]
        return Peer(socket.create_connection((tcp["host"], tcp["port"]), timeout=DEADLINE_S))

    def send(self, number: int) -> None:
        self.process.send_signal(number)

    def stop(self, number: int = signal.SIGTERM) -> int:
        """Send a signal and wait for the end. Returns the exit status. Fails on a traceback or warning in the log."""
        self.send(number)
        return self.wait()

    def wait(self) -> int:
        status = self.process.wait(DEADLINE_S)
        assert "Traceback" not in self.log()
        assert "Warning" not in self.log()
        return status

    def wait_until_it_stopped_listening(self) -> None:
        """Wait until it has handled the first signal: then its port refuses connections."""

        def refused() -> bool:
            try:
                self.connect().close()
            except (ConnectionRefusedError, ConnectionResetError):
                return True
            return False

        wait_until(refused, "the server stopped listening")

    def kill(self) -> None:
        if self.process.poll() is None:
            self.process.kill()
        self.process.wait()


class Peer:
    """A client on a socket, with the replies that were received and not used yet."""

    def __init__(self, connected: socket.socket) -> None:
        self.socket = connected
        self._unpacker = reply_unpacker()

    def send(self, *requests: tuple[Any, ...]) -> None:
        """Send requests `(method, *params)`, numbered from 0, in one write."""
        self.socket.sendall(
            b"".join(encode_request(number, method, params) for number, (method, *params) in enumerate(requests))
        )

    def reply(self) -> list[Any] | None:
        """The next reply; None at the end of the connection."""
        while True:
            for message in self._unpacker:
                reply: list[Any] = message
                return reply
            try:
                data = self.socket.recv(1 << 16)
            except ConnectionResetError:
                return None
            if not data:
                return None
            self._unpacker.feed(data)

    def call(self, method: str, *params: Any) -> Any:
        """The result of a request. ConnectionError where the connection ends instead."""
        try:
            self.send((method, *params))
        except (BrokenPipeError, ConnectionResetError):
            raise ConnectionError from None
        reply = self.reply()
        if reply is None:
            raise ConnectionError
        assert reply[2] is None, reply
        return reply[3]

    def is_served(self) -> bool:
        try:
            self.call("ping")
        except ConnectionError:
            return False
        return True

    def close(self) -> None:
        self.socket.close()


Start = Callable[..., ServerProcess]


@pytest.fixture
def start(tmp_path: Path) -> Iterator[Start]:
    """Starts servers, and kills them in the end."""
    started: list[ServerProcess] = []

    def start_one(*arguments: str, **how: Any) -> ServerProcess:
        folder = tmp_path / f"server-{len(started)}"
        folder.mkdir()
        server = ServerProcess(folder, *arguments, **how)
        started.append(server)
        return server

    yield start_one
    for server in started:
        server.kill()


@pytest.fixture
def connect() -> Iterator[Callable[[ServerProcess], Peer]]:
    """Connects peers, and closes them in the end."""
    with contextlib.ExitStack() as ending:

        def connect_one(server: ServerProcess) -> Peer:
            peer = server.connect()
            ending.callback(peer.close)
            return peer

        yield connect_one


Connect = Callable[[ServerProcess], Peer]


def one_line(text: str) -> str:
    """The text, which must be exactly one line, without its newline."""
    assert text.endswith("\n")
    assert text.count("\n") == 1, text
    return text[:-1]


# ------------------------------------------------------------------------------------------- start and stop


@pytest.mark.parametrize(
    ("number", "loop"),
    [
        (signal.SIGTERM, "uvloop"),
        (signal.SIGINT, "asyncio"),
        *slow((signal.SIGTERM, "asyncio"), (signal.SIGINT, "uvloop")),
    ],
)
def test_it_starts_says_where_it_is_and_stops(start: Start, tmp_path: Path, loop: str, number: int) -> None:
    unix_path = tmp_path / "naught.sock"
    server = start("--unix-socket", str(unix_path), loop=loop)
    port = server.bound["tcp"]["port"]
    assert server.bound == {
        "tcp": {"host": "127.0.0.1", "port": port},
        "unix": str(unix_path),
        "http": None,
        "pid": server.process.pid,
    }
    assert port > 0
    assert [path.name for path in server.ports_file.parent.iterdir() if "ports" in path.name] == ["ports.json"]

    peer = server.connect()
    assert peer.call("incr", b"k") == 1
    by_unix = Peer(socket.socket(socket.AF_UNIX))
    by_unix.socket.settimeout(DEADLINE_S)
    by_unix.socket.connect(str(unix_path))
    assert by_unix.call("get", b"k") == 1

    assert server.stop(number) == 0
    assert (peer.reply(), by_unix.reply()) == (None, None)
    assert not server.ports_file.exists()
    assert not unix_path.exists()
    first, last = server.log().splitlines()
    assert re.search(
        rf" info listening tcp=127\.0\.0\.1:{port} unix=\S+ http=\S+ version=\S+ loop=.*{loop}.* caches=default ",
        first,
    )
    assert re.search(
        rf" info stopped why={signal.Signals(number).name} uptime_s=[0-9.]+ commands=2 connections_accepted=2 "
        "connections_refused=0 connections_cut=0$",
        last,
    )
    peer.close()
    by_unix.close()


@pytest.mark.slow
def test_the_log_is_json_when_asked(start: Start) -> None:
    server = start("--log-format", "json")
    assert server.stop() == 0
    first, last = map(json.loads, server.log().splitlines())
    assert (first["event"], first["pid"], first["caches"]) == ("listening", server.process.pid, ["default"])
    assert (last["event"], last["why"], last["connections_cut"]) == ("stopped", "SIGTERM", 0)


def test_without_tcp_there_is_only_the_unix_socket(start: Start, tmp_path: Path) -> None:
    server = start("--host", "", "--unix-socket", str(tmp_path / "naught.sock"))
    assert (server.bound["tcp"], server.bound["unix"]) == (None, str(tmp_path / "naught.sock"))
    assert server.stop() == 0


@pytest.mark.slow
def test_a_name_is_listened_on_at_all_its_addresses_and_one_port(start: Start) -> None:
    server = start("--host", "localhost")
    found = socket.getaddrinfo("localhost", server.bound["tcp"]["port"], type=socket.SOCK_STREAM)
    for family, _, _, _, address in found:
        with socket.socket(family) as probe:
            probe.connect(address)
    assert server.stop() == 0


@pytest.mark.slow
def test_a_ports_file_that_is_another_servers_by_now_is_left(start: Start) -> None:
    server = start()
    server.ports_file.write_text('{"pid": 1}')
    assert server.stop() == 0
    assert server.ports_file.read_text() == '{"pid": 1}'


def test_the_pauses_of_the_collector_are_counted(start: Start, connect: Connect) -> None:
    server = start()
    peer = connect(server)

    def count() -> int:
        found: int = peer.call("info")[b"gc_pauses"][b"count"]
        return found

    def more_objects() -> bool:
        connect(server).call("hello", {"session": True})
        return count() > 0

    wait_until(more_objects, "the collector ran")
    assert peer.call("info")[b"gc_pauses"][b"max_us"] > 0


def test_the_collection_before_the_first_connection_is_no_pause(tmp_path: Path) -> None:
    """Nobody waits for it, and it is the longest of all."""
    program = "import gc, sys; gc.disable(); from naught_server.__main__ import main; sys.exit(main())"
    with server_process(tmp_path, command=[sys.executable, "-W", "error", "-c", program]) as server:
        pauses = server.call("info")[b"gc_pauses"]
        assert (pauses[b"count"], pauses[b"max_us"]) == (0, 0)


# ------------------------------------------------------------------------------------------- draining


@pytest.mark.parametrize("loop", LOOPS)
def test_what_was_read_is_finished_and_the_rest_refused(start: Start, connect: Connect, loop: str) -> None:
    # More than one turn executes, so that some requests are read and not executed when the signal comes.
    server = start(loop=loop)
    peer = connect(server)
    peer.send(*[("incr", b"k")] * 15_000)
    first = peer.reply()
    server.send(signal.SIGTERM)
    replies = [first]
    while (reply := peer.reply()) is not None:
        replies.append(reply)
    assert server.wait() == 0
    # Every command that was executed was answered, in order; refused ones come after all of them.
    executed = sum(error is None for _, _, error, _ in replies)
    assert replies[:executed] == [[1, number, None, number + 1] for number in range(executed)]
    assert [number for _, number, _, _ in replies] == list(range(len(replies)))
    assert {error[0] for _, _, error, _ in replies[executed:]} <= {b"shutting_down"}
    assert f" commands={executed} " in server.log()
    assert "connections_cut=0" in server.log()


SCANS = 40


def stuck_peer(server: ServerProcess) -> Peer:
    """A peer that requested 8 MiB of replies and reads none of them: no buffer on the way is that large."""
    with contextlib.closing(server.connect()) as filler:
        filler.call("apply", [b"%0100d" % number for number in range(2_000)], 1)
    narrow = socket.socket(socket.AF_INET)
    narrow.setsockopt(socket.SOL_SOCKET, socket.SO_RCVBUF, 4_096)
    narrow.settimeout(DEADLINE_S)
    narrow.connect((server.bound["tcp"]["host"], server.bound["tcp"]["port"]))
    peer = Peer(narrow)
    peer.send(*[("scan", 0, 2_000, b"")] * SCANS)
    # The requests are one segment: when the first is answered, all were read.
    assert narrow.recv(1, socket.MSG_PEEK)
    return peer


@pytest.mark.parametrize("loop", LOOPS)
def test_replies_are_flushed_to_a_peer_that_reads_late(start: Start, loop: str) -> None:
    server = start(loop=loop)
    with contextlib.closing(stuck_peer(server)) as peer:
        server.send(signal.SIGTERM)
        server.wait_until_it_stopped_listening()
        assert server.process.poll() is None
        numbers = []
        while (reply := peer.reply()) is not None:
            assert reply[2] is None
            numbers.append(reply[1])
        assert sorted(numbers) == list(range(SCANS))
    assert server.wait() == 0
    assert "connections_cut=0" in server.log()


@pytest.mark.parametrize("loop", LOOPS)
def test_who_does_not_finish_in_time_is_cut(start: Start, loop: str) -> None:
    server = start("--drain-timeout-ms", "50", loop=loop)
    with contextlib.closing(stuck_peer(server)), contextlib.closing(server.connect()) as idle:
        assert idle.is_served()
        assert server.stop() == 0
    assert ' warning connections cut count=1 why="drain timeout"' in server.log()
    assert " connections_cut=1" in server.log()


@pytest.mark.parametrize("number", [signal.SIGTERM, signal.SIGHUP])
@pytest.mark.parametrize("loop", LOOPS)
def test_signals_until_it_has_ended_do_not_change_its_status(start: Start, loop: str, number: int) -> None:
    """Each would end a process that does not handle it."""
    server = start(loop=loop)
    server.send(signal.SIGTERM)
    while server.process.poll() is None:
        server.send(number)
        with contextlib.suppress(subprocess.TimeoutExpired):
            server.process.wait(0.001)  # more than its loop can take would be reported by Python
    assert server.wait() == 0
    assert " stopped why=SIGTERM " in server.log()
    assert not server.ports_file.exists()


@pytest.mark.parametrize("loop", LOOPS)
def test_a_second_signal_ends_at_once(start: Start, loop: str) -> None:
    server = start("--drain-timeout-ms", "3600000", loop=loop)
    with contextlib.closing(stuck_peer(server)):
        server.send(signal.SIGTERM)
        server.wait_until_it_stopped_listening()
        assert server.process.poll() is None
        assert server.stop(signal.SIGINT) == 1
    assert ' warning connections cut count=1 why="a second signal"' in server.log()
    assert " stopped why=SIGTERM " in server.log()
    assert not server.ports_file.exists()


# ------------------------------------------------------------------------------------------- refusing connections


@pytest.mark.parametrize("loop", LOOPS)
def test_one_connection_too_many_is_closed_at_once(start: Start, connect: Connect, tmp_path: Path, loop: str) -> None:
    unix_path = str(tmp_path / "naught.sock")
    server = start("--connections-max", "3", "--unix-socket", unix_path, loop=loop)
    served = [connect(server) for _ in range(2)]
    by_unix = Peer(socket.socket(socket.AF_UNIX))
    by_unix.socket.settimeout(DEADLINE_S)
    by_unix.socket.connect(unix_path)
    served.append(by_unix)
    assert [peer.is_served() for peer in served] == [True] * 3

    assert [connect(server).is_served() for _ in range(5)] == [False] * 5
    assert [peer.is_served() for peer in served] == [True] * 3
    assert served[0].call("info")[b"connections_refused"] == 5

    by_unix.close()
    wait_until(lambda: served[0].call("info")[b"connections"] == 2, "the server noticed a peer was gone")
    assert connect(server).is_served()
    assert server.stop() == 0
    # The first line reports one; the four after it are in the line a second later, or in the one at the end.
    counts = re.findall(r" warning connections refused count=(\d+) why=connections_max", server.log())
    assert sum(map(int, counts)) == 5
    assert counts[0] == "1"


def test_an_address_has_its_own_bound(start: Start, connect: Connect, tmp_path: Path) -> None:
    unix_path = str(tmp_path / "naught.sock")
    server = start("--connections-per-address-max", "2", "--unix-socket", unix_path)
    served = [connect(server) for _ in range(2)]
    assert [peer.is_served() for peer in served] == [True] * 2
    assert not connect(server).is_served()
    for _ in range(3):  # a Unix socket has no address
        by_unix = Peer(socket.socket(socket.AF_UNIX))
        by_unix.socket.settimeout(DEADLINE_S)
        by_unix.socket.connect(unix_path)
        served.append(by_unix)
        assert by_unix.is_served()
    served[0].close()
    wait_until(lambda: served[1].call("info")[b"connections"] == 4, "the server noticed a peer was gone")
    assert connect(server).is_served()
    for peer in served:
        peer.close()
    assert server.stop() == 0
    assert " warning connections refused count=1 why=connections_per_address_max" in server.log()


@pytest.mark.parametrize("loop", LOOPS)
def test_out_of_descriptors_it_serves_open_connections(start: Start, connect: Connect, loop: str) -> None:
    # It reserves descriptors for 64 - 32 connections; inherited files, which it does not know of, use some of these.
    inherited = [os.open(os.devnull, os.O_RDONLY) for _ in range(30)]
    try:
        server = start(loop=loop, prefix=with_files_max(64), pass_fds=inherited)
    finally:
        for file in inherited:
            os.close(file)
    served, refused = [], 0
    for _ in range(40):
        peer = connect(server)
        if peer.is_served():
            served.append(peer)
        else:
            refused += 1
    assert 1 <= len(served) < 32
    assert refused == 40 - len(served)
    assert [peer.is_served() for peer in served] == [True] * len(served)
    assert served[0].call("info")[b"connections_refused"] == refused

    for peer in served[1:]:
        peer.close()
    wait_until(lambda: served[0].call("info")[b"connections"] == 1, "the server noticed peers were gone")
    assert [connect(server).is_served() for _ in served[1:]] == [True] * (len(served) - 1)
    assert not connect(server).is_served()
    assert server.stop() == 0
    counts = re.findall(r" warning connections refused count=(\d+) why=open_files", server.log())
    assert sum(map(int, counts)) == refused + 1


def test_fewer_connections_where_there_are_fewer_descriptors(start: Start) -> None:
    server = start(prefix=with_files_max(64))
    assert server.stop() == 0
    first, second, *_ = server.log().splitlines()
    assert first.endswith(" fewer connections than configured connections_max=32 configured=10000 files_max=64")
    assert " listening " in second
    assert " connections_max=32 " in second


def test_the_soft_limit_on_files_is_raised_for_the_connections_configured(start: Start) -> None:
    _, hard = resource.getrlimit(resource.RLIMIT_NOFILE)
    if hard != resource.RLIM_INFINITY and hard < 132:
        pytest.skip("the hard limit on open files is too low to raise anything")
    server = start("--connections-max", "100", prefix=["/bin/sh", "-c", 'ulimit -S -n 64; exec "$@"', "sh"])
    assert server.stop() == 0
    assert " connections_max=100 " in server.log().splitlines()[0]


def test_no_descriptors_for_any_connection() -> None:
    ended = run_to_end("--port", "0", prefix=with_files_max(32))
    assert ended.returncode == 1
    assert one_line(ended.stderr) == "naught-server: the limit on open files is 32; at least 33 are needed"


# ------------------------------------------------------------------------------------------- failing to start


def test_a_port_in_use(start: Start, connect: Connect) -> None:
    server = start()
    port = server.bound["tcp"]["port"]
    ended = run_to_end("--port", str(port))
    assert ended.returncode == 1
    assert one_line(ended.stderr) == f"naught-server: cannot listen on 127.0.0.1:{port}: Address already in use"
    assert connect(server).is_served()
    assert server.stop() == 0


def test_the_socket_file_of_a_dead_server_is_replaced(start: Start, tmp_path: Path) -> None:
    path = tmp_path / "naught.sock"
    with socket.socket(socket.AF_UNIX) as dead:
        dead.bind(str(path))
        dead.listen()
    assert path.is_socket()
    server = start("--unix-socket", str(path))
    with socket.socket(socket.AF_UNIX) as connected:
        connected.connect(str(path))
        assert Peer(connected).is_served()
    assert server.stop() == 0
    assert not path.exists()


def test_the_socket_of_a_live_server_is_left_alone(start: Start, tmp_path: Path) -> None:
    path = tmp_path / "naught.sock"
    server = start("--unix-socket", str(path))
    ended = run_to_end("--port", "0", "--unix-socket", str(path))
    assert ended.returncode == 1
    assert one_line(ended.stderr) == f"naught-server: cannot listen on {path}: another server listens there"
    with socket.socket(socket.AF_UNIX) as connected:
        connected.connect(str(path))
        assert Peer(connected).is_served()
    assert server.stop() == 0


def test_a_socket_file_that_is_another_servers_by_now_is_left(start: Start, tmp_path: Path) -> None:
    path = tmp_path / "naught.sock"
    server = start("--unix-socket", str(path))
    path.unlink()
    with socket.socket(socket.AF_UNIX) as another:
        another.bind(str(path))
        assert server.stop() == 0
        assert path.is_socket()


def test_a_file_that_is_no_socket_is_left_alone(tmp_path: Path) -> None:
    path = tmp_path / "notes"
    path.write_text("keep me")
    ended = run_to_end("--port", "0", "--unix-socket", str(path))
    assert ended.returncode == 1
    assert one_line(ended.stderr) == f"naught-server: cannot listen on {path}: there is a file that is not a socket"
    assert path.read_text() == "keep me"


CANNOT_START = [
    (["--unix-socket", "/nowhere/x"], "cannot listen on /nowhere/x: No such file or directory"),
    *slow(
        (["--ports-file", "/nowhere/x"], "cannot write the ports file /nowhere/x: No such file or directory"),
        (["--host", "host.invalid"], None),
    ),
]


@pytest.mark.parametrize(("arguments", "message"), CANNOT_START)
def test_what_it_cannot_have(arguments: list[str], message: str | None) -> None:
    ended = run_to_end("--port", "0", *arguments)
    assert (ended.returncode, ended.stdout) == (1, "")
    if message is None:  # the rest is the resolver's text
        assert one_line(ended.stderr).startswith("naught-server: cannot listen on 'host.invalid': ")
    else:
        # The ports file is written last, after it has begun to listen.
        assert ended.stderr.splitlines()[-1] == f"naught-server: {message}"
        assert "Traceback" not in ended.stderr


# What follows the address.
REFUSED = (
    "no users are configured, so every client that can connect has full access; add users to the file of --config "
    "([users.NAME], with a secret from naught-server hash-secret); --insecure allows it"
)
WRONG_USAGE = [
    (["--prot", "1"], {}, "unknown flag --prot; did you mean --port?"),
    *slow(([], {"NAUGHT_PORT": "x"}, "NAUGHT_PORT must be a whole number from 0 to 65535, not 'x'")),
    (["--host", "0.0.0.0"], {}, f"refusing to listen on 0.0.0.0: {REFUSED}"),
    *slow(
        (["--host", "::"], {}, f"refusing to listen on ::: {REFUSED}"),
        (["--host", "192.0.2.1"], {}, f"refusing to listen on 192.0.2.1: {REFUSED}"),
        (["--host", "0"], {}, f"refusing to listen on 0 (0.0.0.0): {REFUSED}"),
        (["--host", "0.0.0.0", "--check-config"], {}, f"refusing to listen on 0.0.0.0: {REFUSED}"),
    ),
]


@pytest.mark.parametrize(("arguments", "variables", "message"), WRONG_USAGE)
def test_wrong_usage_is_one_line_and_2(arguments: list[str], variables: dict[str, str], message: str) -> None:
    ended = run_to_end(*arguments, **variables)
    assert (ended.returncode, ended.stdout) == (2, "")
    assert one_line(ended.stderr) == f"naught-server: {message}"


def test_the_pure_python_msgpack_is_refused() -> None:
    ended = run_to_end("--port", "0", MSGPACK_PUREPYTHON="1")
    assert (ended.returncode, ended.stdout) == (1, "")
    assert one_line(ended.stderr).startswith("naught-server: msgpack runs without its compiled extension")
    assert run_to_end("--version", MSGPACK_PUREPYTHON="1").returncode == 0


# ------------------------------------------------------------------------------------------- checking and printing


@pytest.mark.parametrize(
    "arguments",
    [
        [],
        ["--host", "127.255.0.9"],
        ["--host", "::1"],
        ["--host", "::ffff:127.0.0.1"],
        ["--host", "localhost"],
        ["--host", "0.0.0.0", "--insecure"],
        ["--host", "", "--unix-socket", "/nowhere/x"],
    ],
)
def test_check_config(
    arguments: list[str], monkeypatch: pytest.MonkeyPatch, capsys: pytest.CaptureFixture[str]
) -> None:
    for name in os.environ.keys() - environment().keys():
        monkeypatch.delenv(name)
    assert main(["--check-config", *arguments]) == 0
    assert capsys.readouterr() == ("the configuration is good\n", "")


def test_check_config_as_a_process() -> None:
    ended = run_to_end("--check-config")
    assert (ended.returncode, ended.stdout, ended.stderr) == (0, "the configuration is good\n", "")


@pytest.mark.parametrize(
    "words", [["--print-config"], ["--check-config"], ["--completion", "bash"], ["hash-secret"]], ids=" ".join
)
def test_what_is_printed_finds_nobody_who_reads_it(words: list[str]) -> None:
    reading, writing = os.pipe()
    os.close(reading)
    ended = subprocess.run(
        [*SERVER, *words], input=b"correct horse\n", stdout=writing, stderr=subprocess.PIPE, check=False, timeout=60
    )
    os.close(writing)
    said = b"naught-server: standard output cannot be written: Broken pipe\n"
    assert (ended.returncode, ended.stderr) == (1, said)


@pytest.mark.slow
def test_what_print_config_prints_can_be_given_back(tmp_path: Path) -> None:
    path = tmp_path / "naught.toml"
    path.write_text("port = 1\ndrain_timeout_ms = 5\n[caches.orders]\nshards = 8\neviction = 'lazy'\n")
    printed = run_to_end(
        "--config", str(path), "--port", "2", "--unix-socket", "/run/é", "--print-config", NAUGHT_LOG_LEVEL="debug"
    )
    assert (printed.returncode, printed.stderr) == (0, "")
    settings = tomllib.loads(printed.stdout)
    assert (settings["port"], settings["log_level"], settings["unix_socket"]) == (2, "debug", "/run/é")
    assert settings["drain_timeout_ms"] == 5
    assert settings["caches"]["orders"] == {"shards": 8, "eviction": "lazy"}

    path.write_text(printed.stdout)
    again = run_to_end("--config", str(path), "--print-config")
    assert tomllib.loads(again.stdout) == settings


# ------------------------------------------------------------------------------- the log and the configuration


@pytest.fixture
def full_pipe() -> Iterator[tuple[int, int]]:
    """The two ends of a pipe that takes no more bytes."""
    reader, writer = os.pipe()
    os.set_blocking(writer, False)
    with contextlib.suppress(BlockingIOError):
        while True:
            os.write(writer, b"x" * 4096)
    with contextlib.suppress(BlockingIOError):
        while True:
            os.write(writer, b"x")
    os.set_blocking(writer, True)
    yield reader, writer
    os.close(reader)
    os.close(writer)


@pytest.mark.slow
@pytest.mark.parametrize("loop", ["uvloop", *exhaustive("asyncio")])
def test_a_log_pipe_that_nobody_reads_does_not_stop_the_server(
    tmp_path: Path, loop: str, full_pipe: tuple[int, int]
) -> None:
    _reader, writer = full_pipe
    server = ServerProcess(tmp_path, loop=loop, stderr=writer)
    try:
        with contextlib.closing(server.connect()) as peer:
            assert peer.call("incr", "k") == 1
            for _ in range(3):  # each writes a line
                server.send(signal.SIGHUP)
            assert peer.call("incr", "k") == 2
        server.send(signal.SIGTERM)
        assert server.process.wait(DEADLINE_S) == 0
    finally:
        server.kill()


def test_a_log_pipe_that_is_read_again_has_the_lines(tmp_path: Path, full_pipe: tuple[int, int]) -> None:
    reader, writer = full_pipe
    server = ServerProcess(tmp_path, stderr=writer)
    try:
        text = b""
        while b"\n" not in text:
            text += os.read(reader, 1 << 16)
        assert b" info listening " in text
    finally:
        server.kill()


@pytest.mark.parametrize("loop", LOOPS)
def test_sighup_rereads_the_settings_that_can_change(tmp_path: Path, loop: str) -> None:
    file = tmp_path / "naught.toml"
    file.write_text("sweep_budget_ms = 0.5\ndrain_timeout_ms = 5000\n[caches.orders]\nshards = 8\n")
    server = ServerProcess(tmp_path, "--config", str(file), "--drain-timeout-ms", "7000", loop=loop)
    try:
        with contextlib.closing(server.connect()) as peer:
            assert peer.call("config_get", "sweep_budget_ms") == 0.5

            def hangup(text: str, expected: str) -> str:
                file.write_text(text)
                server.send(signal.SIGHUP)
                return wait_until(
                    lambda: next((line for line in server.log().splitlines() if expected in line), None), expected
                )

            wrong = hangup("sweep_budget_ms = 2.0\nlog_level = 3\n", "not reread")
            assert f"{file}: log_level must be debug, info, warning or error, not 3" in wrong
            assert peer.call("config_get", "sweep_budget_ms") == 0.5, "nothing was changed"

            line = hangup(
                "sweep_budget_ms = 2.0\ndrain_timeout_ms = 1\nlog_format = 'json'\n[caches.orders]\nshards = 4\n",
                "configuration reread",
            )
            assert line.endswith(
                ' changed="sweep_budget_ms=2.0" rules="" needs_restart=log_format,caches.orders.shards'
            ), line
            assert peer.call("config_get", "sweep_budget_ms") == 2.0
            assert peer.call("config_get", "drain_timeout_ms") == 7_000, "a flag wins over the file, as at the start"

            hangup(
                "log_level = 'debug'\nsweep_budget_ms = 2.0\n[caches.orders]\nshards = 8\n",
                'changed="log_level=debug',
            )
            assert peer.call("config_get", "log_level") == b"debug"
            assert peer.call("incr", "k") == 1
    finally:
        server.kill()


def test_sighup_rereads_caches_and_rules(tmp_path: Path) -> None:
    file = tmp_path / "naught.toml"
    file.write_text("[caches.orders]\nshards = 8\n")
    server = ServerProcess(tmp_path, "--config", str(file))
    try:
        with contextlib.closing(server.connect()) as peer:
            assert peer.call("config_get", "caches.orders.eviction") == b"eager"
            assert peer.call("config_set", "caches.orders.max_counters", 7) == 7
            file.write_text("[caches.orders]\nshards = 8\neviction = 'lazy'\n[rules.quiet]\nabov = 3\n")
            server.send(signal.SIGHUP)
            wrong = wait_until(lambda: line_with(server, "not reread"), "the mistake")
            assert f"{file}: unknown key 'rules.quiet.abov'; did you mean above?" in wrong
            assert peer.call("config_get", "caches.orders.eviction") == b"eager"
            file.write_text("[caches.orders]\nshards = 8\neviction = 'lazy'\n[rules.quiet]\noff = true\n")
            server.send(signal.SIGHUP)
            line = wait_until(lambda: line_with(server, "configuration reread"), "the rereading")
            assert line.endswith('eviction=lazy,caches.orders.max_counters=None" rules=quiet needs_restart=""'), line
            assert peer.call("config_get", "caches.orders.eviction") == b"lazy"
            assert peer.call("config_get", "caches.orders.max_counters") is None, "the file wins over config_set"
            assert b"quiet" not in peer.call("info")[b"tuner"][b"rules"]
            assert peer.call("incr", "k") == 1, "and the connection is still there"
    finally:
        server.kill()


def line_with(server: ServerProcess, text: str) -> str | None:
    """The last line of the log with this text."""
    return next((line for line in reversed(server.log().splitlines()) if text in line), None)


@pytest.mark.slow
def test_a_file_that_is_watched_is_reread_as_kubernetes_changes_it(tmp_path: Path) -> None:
    """A ConfigMap's files are links through `..data`, which is a link to a folder and is moved to the next one."""
    volume = tmp_path / "volume"

    def publish(name: str, text: str) -> None:
        (volume / name).mkdir(parents=True)
        (volume / name / "naught.toml").write_text(text)
        os.symlink(name, volume / "..data_tmp")
        os.rename(volume / "..data_tmp", volume / "..data")

    publish("..one", "drain_timeout_ms = 1000\n")
    os.symlink("..data/naught.toml", volume / "naught.toml")
    server = ServerProcess(tmp_path, "--config", str(volume / "naught.toml"), "--watch-config")
    try:
        with contextlib.closing(server.connect()) as peer:

            def timeout_is(value: int) -> bool:
                return bool(peer.call("config_get", "drain_timeout_ms") == value)

            assert timeout_is(1_000)
            publish("..two", "drain_timeout_ms = 2000\n")
            wait_until(lambda: timeout_is(2_000), "the new file is read")
            publish("..three", "drain_timeout_ms = 'x'\n")
            wait_until(lambda: line_with(server, "not reread"), "the mistake is said")
            assert timeout_is(2_000)
            (volume / "..data").unlink()
            wait_until(
                lambda: line_with(server, "file is gone or cannot be seen"), "it is said that there is no file"
            )
            assert timeout_is(2_000)
            publish("..four", "drain_timeout_ms = 4000\n")
            wait_until(lambda: timeout_is(4_000), "the file that is there again is read")
    finally:
        server.kill()


@pytest.mark.parametrize("loop", LOOPS)
def test_a_burst_of_zeros_is_answered_and_said(tmp_path: Path, loop: str) -> None:
    file = tmp_path / "naught.toml"
    file.write_text("[caches.default]\neviction = 'lazy'\n[rules.burst-of-zeros]\nundo_after_ms = 100\n")
    server = ServerProcess(tmp_path, "--config", str(file), loop=loop)
    try:
        with contextlib.closing(server.connect()) as peer:
            batches = [[f"{batch}:{number}" for number in range(4_000)] for batch in range(25)]

            def burst_and_look() -> str | None:
                # A fast sweeper keeps up with one burst: then there is another.
                for delta in (1, -1):
                    for keys in batches:
                        peer.call("apply", keys, delta)
                return line_with(server, "the tuner has changed a setting")

            changed = wait_until(burst_and_look, "the change")
            assert " setting=sweep_budget_ms before=1.0 after=4.0 metric=" in changed
            assert re.search(r" figure=\S+ threshold=\S+ cache=default$", changed)
            wait_until(lambda: line_with(server, "the tuner has put a setting back"), "its end")
            wait_until(lambda: peer.call("config_get", "sweep_budget_ms") == 1.0, "the old budget")
            wait_until(lambda: peer.call("info")[b"caches"][b"default"][b"raw_entries"] == 0, "no zero is left")
    finally:
        server.kill()


def test_the_collector_is_set_and_frozen_by_the_wire(tmp_path: Path) -> None:
    server = ServerProcess(tmp_path, "--gc-threshold", "5000")
    try:
        with contextlib.closing(server.connect()) as peer:
            assert peer.call("config_get", "gc_threshold") == 5_000
            assert peer.call("config_set", "gc_threshold", 100_000) == 100_000
            assert peer.call("config_set", "gc_freeze", True) is True
            assert peer.call("config_set", "gc_freeze", False) is False
            assert peer.call("incr", "k") == 1
    finally:
        server.kill()
