"""`naught ping --check`: one line, and 0 or 1, whatever is at the other end."""

from __future__ import annotations

import contextlib
import socket
import threading
from collections.abc import Iterator
from pathlib import Path

import pytest

from naught.cli import check as check_module
from naught.cli.main import main
from naught.wire.codec import encode_error, encode_request, encode_result

PING = encode_request(1, "ping", ())
GUARD_S = 20.0


@contextlib.contextmanager
def answering(*pieces: bytes, closes: bool = False, path: Path | None = None) -> Iterator[str]:
    """The URL of a server for one client: it reads a ping, and writes these bytes."""
    family, where = (socket.AF_INET, ("127.0.0.1", 0)) if path is None else (socket.AF_UNIX, str(path))
    done = threading.Event()
    with socket.socket(family) as listening:
        listening.bind(where)  # type: ignore[arg-type]
        listening.listen()
        listening.settimeout(GUARD_S)

        def serve() -> None:
            connected, _ = listening.accept()
            with connected:
                connected.settimeout(GUARD_S)
                data = b""
                while len(data) < len(PING) and (piece := connected.recv(64)):
                    data += piece
                for answer in pieces:
                    connected.sendall(answer)
                if not closes:
                    done.wait(GUARD_S)

        server = threading.Thread(target=serve)
        server.start()
        try:
            url = f"naught+unix://{path}" if path else f"naught://127.0.0.1:{listening.getsockname()[1]}"
            yield url
        finally:
            done.set()
            server.join(GUARD_S)


def checked(capsys: pytest.CaptureFixture[str], *words: str) -> tuple[int, str, str]:
    """Status and streams of `naught ping --check`."""
    status = main(["ping", "--check", *words])
    out, err = capsys.readouterr()
    assert len((out + err).splitlines()) == 1, "one line"
    return status, out, err


def test_a_server_that_answers(capsys: pytest.CaptureFixture[str], tmp_path: Path) -> None:
    reply = encode_result(1, "pong")
    with answering(reply) as url:
        status, out, _ = checked(capsys, "--url", url)
        assert (status, out[:8]) == (0, "pong in ")
    with answering(reply[:3], reply[3:]) as url:
        status, out, _ = checked(capsys, "--url", f"{url}/any-cache", "--json")
        assert (status, out[:7]) == (0, '{"ms": ')
    with answering(reply, path=tmp_path / "socket") as url:
        assert checked(capsys, "--url", url)[0] == 0


@pytest.mark.parametrize(
    ("pieces", "closes", "why"),
    [
        ((), True, "the server closed the connection"),
        ((encode_error(1, "shutting_down", "the server is stopping"),), False, "the server is stopping"),
        ((encode_result(2, "pong"),), False, "what answers is no naught server"),
        ((b"HTTP/1.1 400 Bad Request\r\n\r\n",), True, "what answers is no naught server"),
        ((b"\xc1",), False, "what answers is no naught server"),
        ((encode_result(1, "pong")[:-1],), True, "the server closed the connection"),
    ],
)
def test_what_is_wrong_is_said(
    capsys: pytest.CaptureFixture[str], pieces: tuple[bytes, ...], closes: bool, why: str
) -> None:
    with answering(*pieces, closes=closes) as url:
        assert checked(capsys, "--url", url) == (1, "", f"naught: {url} is not healthy: {why}\n")


def test_nobody_is_there(capsys: pytest.CaptureFixture[str], own_port: int, tmp_path: Path) -> None:
    url = f"naught://127.0.0.1:{own_port}"
    assert checked(capsys, "--url", url) == (1, "", f"naught: {url} is not healthy: Connection refused\n")
    url = f"naught+unix://{tmp_path}/none.sock"
    status, _, err = checked(capsys, "--url", url)
    assert (status, err) == (1, f"naught: {url} is not healthy: No such file or directory\n")


@pytest.mark.parametrize("url", ["bogus", "naught://", "memory://", f"naught://{'x' * 70}", "naught://a..b"])
def test_a_url_that_cannot_be_checked_is_not_healthy(capsys: pytest.CaptureFixture[str], url: str) -> None:
    status, out, err = checked(capsys, "--url", url)
    assert (status, out) == (1, "")
    assert err.startswith(f"naught: {url} is not healthy: ")


def test_a_server_that_does_not_answer(capsys: pytest.CaptureFixture[str]) -> None:
    with answering() as url:
        status, out, err = checked(capsys, "--url", url, "--timeout", "0.05")
    assert (status, out) == (1, "")
    assert "is not healthy: " in err


def test_a_look_up_that_hangs_is_not_waited_for(
    capsys: pytest.CaptureFixture[str], monkeypatch: pytest.MonkeyPatch
) -> None:
    found = threading.Event()

    def hang(*_: object) -> socket.socket:
        found.wait(GUARD_S)
        raise OSError("too late")

    monkeypatch.setattr(check_module.socket, "create_connection", hang)
    status, out, err = checked(capsys, "--url", "naught://nowhere", "--timeout", "0.05")
    found.set()
    assert (status, out) == (1, "")
    assert err == "naught: naught://nowhere is not healthy: no answer within 0.05 s\n"


def test_it_is_never_given_more_than_its_time(monkeypatch: pytest.MonkeyPatch) -> None:
    given: list[float] = []

    def refuse(_: object, timeout: float) -> socket.socket:
        given.append(timeout)
        raise ConnectionRefusedError

    monkeypatch.setattr(check_module.socket, "create_connection", refuse)
    for timeout in ("0.2", "5", "3600"):
        assert main(["ping", "--check", "--url", "naught://nowhere", "--timeout", timeout]) == 1
    assert given == [0.2, check_module.CHECK_S, check_module.CHECK_S]
    assert check_module.CHECK_S < 0.8, "and Python is started within the rest of a second"
