"""A server with users as a real process: log-ins, rereading its users, its log; and `naught-server hash-secret`."""

from __future__ import annotations

import contextlib
import io
import os
import re
import signal
from collections.abc import Iterator
from pathlib import Path
from typing import Any

import pytest

from naught_server.__main__ import main
from naught_server.kinds import shown
from naught_server.secret_hash import HashedSecret, hash_of
from support.conversation import decoded
from support.server_process import RawPeer, ServerProcess, server_process, wait_until
from support.users import SECRET, hello

HASH = hash_of(SECRET.encode(), b"salt" * 4)
ANOTHER = "another horse"


class Users:
    """A server, and the file with its users."""

    def __init__(self, folder: Path, server: ServerProcess) -> None:
        self.folder = folder
        self.server = server

    def log_in(self, user: str, secret: str, **words: Any) -> tuple[RawPeer, Any]:
        """A connection, and what `hello` has answered: the result, or the code of the error."""
        peer = self.server.connect()
        return peer, peer.call("hello", {"user": user, "secret": secret, **words})

    def reread(self, text: str) -> str:
        """Write other users, and have them read. Returns what the log says then."""
        before = len(self.server.log())
        (self.folder / "naught.toml").write_text(text)
        self.server.process.send_signal(signal.SIGHUP)
        wait_until(lambda: "reread" in self.server.log()[before:], "the configuration was reread")
        return self.server.log()[before:]


def text_of(*, orders: str = "write", ops: bool = True, secret: str = "") -> str:
    return f"""
        [users.orders]
        role = "{orders}"
        secret = "{secret or HASH}"
        prefixes = ["seats:"]
        """ + (
        """
        [users.ops]
        role = "admin"
        secret_env = "NAUGHT_SECRET_OPS"
        """
        if ops
        else ""
    )


@pytest.fixture
def users(tmp_path: Path) -> Iterator[Users]:
    (tmp_path / "naught.toml").write_text(text_of())
    environment = {"NAUGHT_SECRET_OPS": ANOTHER}
    server = ServerProcess(tmp_path, "--config", str(tmp_path / "naught.toml"), environment=environment)
    try:
        yield Users(tmp_path, server)
    finally:
        server.kill()


def test_a_life_with_users(users: Users) -> None:
    """One server, because a process takes time to start: who comes in, what each may do, and what the log says."""
    server = users.server
    assert server.call("ping") == "unauthenticated"
    with server.connect() as stranger:
        stranger.send(hello("orders", "wrong horse"))
        assert decoded(stranger.read_to_end())[0][2][0] == b"unauthenticated"
    orders, answer = users.log_in("orders", SECRET, session=True)
    assert answer[b"user"] == b"orders"
    assert orders.call("incr", "seats:1") == 1
    assert orders.call("incr", "others:1") == "denied"
    assert orders.call("clear") == "denied"
    ops, answer = users.log_in("ops", ANOTHER, session=True, name="terminal")
    assert answer[b"user"] == b"ops"
    assert ops.call("info")[b"logins"] == {b"accepted": 2, b"refused": 1, b"busy": 0}
    assert ops.call("clear") == 1
    assert ops.call("config_set", "log_level", "error") == b"error"

    said = users.reread(text_of())
    assert "orders" not in said, "nothing has changed"
    said = users.reread(text_of(orders="admin"))
    assert "orders: changed" in said
    assert orders.call("get", "seats:1") == 0, "it may do more, and goes on"
    users.reread(text_of(orders="read"))
    assert orders.read_to_end() == b"", "it may do less: its session has ended"
    assert [row[b"user"] for row in ops.call("sessions")] == [b"ops"]
    said = users.reread("")
    assert "access is not turned off while the server runs" in said
    assert ops.call("ping") == b"pong"
    users.reread(text_of(ops=False))
    assert ops.read_to_end() == b""
    refused, answer = users.log_in("ops", ANOTHER)
    assert answer == "unauthenticated"

    log = server.log()
    for line in ("log-in refused user=orders", "clear user=ops session=2 name=terminal", "config_set user=ops"):
        assert line in log, log
    for secret in (SECRET, ANOTHER, HASH, "wrong horse"):
        assert secret not in log
        assert secret not in Path(f"/proc/{server.process.pid}/cmdline").read_text()
    for peer in (orders, ops, refused):
        peer.socket.close()
    server.process.terminate()
    assert server.process.wait(20) == 0
    assert "Traceback" not in log


def test_a_fifo_in_the_place_of_a_file_is_never_waited_for(tmp_path: Path) -> None:
    """It is made while the server runs. At SIGHUP the loop would wait for what somebody writes into it."""
    config, secret = tmp_path / "naught.toml", tmp_path / "secret"
    secret.write_text(SECRET)
    config.write_text(f'[users.me]\nrole = "read"\nsecret_file = "{secret}"\n')
    server = ServerProcess(tmp_path, "--config", str(config))
    with contextlib.ExitStack() as ending:
        ending.callback(server.kill)
        peer, answer = Users(tmp_path, server).log_in("me", SECRET)
        ending.callback(peer.socket.close)
        assert answer[b"user"] == b"me"
        for path, setting in ((secret, "secret_file"), (config, "--config")):
            path.unlink()
            os.mkfifo(path)
            server.process.send_signal(signal.SIGHUP)
            why = f"{setting}: cannot read {shown(str(path))}: it is a FIFO, and must be a regular file"
            wait_until(lambda why=why: why in server.log(), why)  # type: ignore[misc]
            assert peer.call("get", "k") == 0
        server.process.terminate()
        assert server.process.wait(20) == 0


@pytest.mark.slow
def test_a_file_with_a_secret_is_watched(tmp_path: Path) -> None:
    """As the configuration's own file is: a Secret of Kubernetes changes, and its ConfigMap does not."""
    file = tmp_path / "secret"
    file.write_text(SECRET)
    (tmp_path / "naught.toml").write_text(f'watch_config = true\n[users.me]\nrole = "read"\nsecret_file = "{file}"\n')
    with server_process(tmp_path, "--config", str(tmp_path / "naught.toml")) as server:
        users = Users(tmp_path, server)
        peer, answer = users.log_in("me", SECRET)
        assert answer[b"user"] == b"me"
        file.write_text(ANOTHER)
        assert peer.read_to_end() == b"", "its secret is gone"
        peer.socket.close()
        peer, answer = users.log_in("me", ANOTHER)
        assert answer[b"user"] == b"me"
        peer.socket.close()
        wait_until(lambda: "me: changed" in server.log(), "the log, which a thread writes, says so")


# ------------------------------------------------------------------------------------------- hash-secret


class Stdin(io.TextIOWrapper):
    """Standard input that has these bytes."""

    def __init__(self, data: bytes, *, terminal: bool = False) -> None:
        super().__init__(io.BytesIO(data), "utf-8")
        self._terminal = terminal

    def isatty(self) -> bool:
        return self._terminal


@pytest.mark.parametrize("data", [SECRET.encode(), f"{SECRET}\n".encode(), f"{SECRET}\r\n".encode()])
def test_hash_secret(monkeypatch: pytest.MonkeyPatch, capsys: pytest.CaptureFixture[str], data: bytes) -> None:
    monkeypatch.setattr("sys.stdin", Stdin(data))
    assert main(["hash-secret"]) == 0
    out, err = capsys.readouterr()
    assert re.fullmatch(r"\$scrypt\$ln=14,r=8,p=1\$[A-Za-z0-9+/]{22}\$[A-Za-z0-9+/]{43}\n", out)
    assert HashedSecret(out.strip()).matches(SECRET.encode())
    assert err == ""


@pytest.mark.parametrize(
    ("arguments", "data", "message"),
    [
        ([SECRET], b"", "hash-secret reads the secret from standard input: arguments are seen by everybody"),
        ([], b"", "hash-secret: a secret has 8 to 4096 bytes, not 0"),
        ([], b"hunter2\n", "hash-secret: a secret has 8 to 4096 bytes, not 7"),
        ([], b"x" * 5_000, "hash-secret: a secret has 8 to 4096 bytes, not 4098"),
        ([], b"two lines\nof it\n", "hash-secret: the secret is one line"),
    ],
)
def test_hash_secret_refuses(
    monkeypatch: pytest.MonkeyPatch,
    capsys: pytest.CaptureFixture[str],
    arguments: list[str],
    data: bytes,
    message: str,
) -> None:
    monkeypatch.setattr("sys.stdin", Stdin(data))
    assert main(["hash-secret", *arguments]) == 2
    assert capsys.readouterr() == ("", f"naught-server: {message}\n")


@pytest.mark.parametrize(("second", "status"), [(SECRET, 0), (ANOTHER, 2)])
def test_hash_secret_at_a_terminal(
    monkeypatch: pytest.MonkeyPatch, capsys: pytest.CaptureFixture[str], second: str, status: int
) -> None:
    """Read twice and shown never; `getpass` turns the echo off."""
    answers = iter((SECRET, second))
    monkeypatch.setattr("sys.stdin", Stdin(b"", terminal=True))
    monkeypatch.setattr("getpass.getpass", lambda prompt: next(answers))
    assert main(["hash-secret"]) == status
    out, err = capsys.readouterr()
    assert out.startswith("$scrypt$") is (status == 0)
    assert SECRET not in out + err


def test_hash_secret_says_what_it_is(capsys: pytest.CaptureFixture[str]) -> None:
    assert main(["hash-secret", "--help"]) == 0
    assert "Read a secret from standard input" in capsys.readouterr().out
