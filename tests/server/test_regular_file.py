"""Files that the configuration names: what is no regular file is refused with a sentence, and never waited for."""

from __future__ import annotations

import json
import os
import signal
import socket
from collections.abc import Callable, Iterator
from pathlib import Path

import pytest

from naught_server import regular_file, tls
from naught_server.config import ConfigError, ServerConfig
from naught_server.kinds import shown
from naught_server.loading import load, read_token
from naught_server.server import _remove_ports_file, _write_ports_file
from naught_server.tls import client_port_context
from support.certificates import Authority
from support.each import for_each

WAIT_S_MAX = 60
"""A read that waits for ever is ended by a signal, so that the test fails and does not hang."""


@pytest.fixture(autouse=True)
def _no_endless_wait() -> Iterator[None]:
    def give_up(number: int, frame: object) -> None:
        pytest.fail("it waits for a file")

    before = signal.signal(signal.SIGALRM, give_up)
    signal.alarm(WAIT_S_MAX)
    yield
    signal.alarm(0)
    signal.signal(signal.SIGALRM, before)


def make_fifo(folder: Path) -> Path:
    path = folder / "fifo"
    os.mkfifo(path)
    return path


def make_socket(folder: Path) -> Path:
    path = folder / "socket"
    with socket.socket(socket.AF_UNIX) as listener:
        listener.bind(str(path))
    return path


def make_link(folder: Path) -> Path:
    path = folder / "link"
    path.symlink_to(make_fifo(folder))
    return path


NO_FILES: dict[str, tuple[Callable[[Path], Path], str]] = {
    "fifo": (make_fifo, "it is a FIFO, and must be a regular file"),
    "link to a fifo": (make_link, "it is a FIFO, and must be a regular file"),
    "socket": (make_socket, "it is a socket, and must be a regular file"),
    "endless device": (lambda folder: Path("/dev/zero"), "it is a device, and must be a regular file"),
    "empty device": (lambda folder: Path("/dev/null"), "it is a device, and must be a regular file"),
    "directory": (lambda folder: folder, "Is a directory"),
}


def read_config(folder: Path, path: Path) -> None:
    load(["--config", str(path)], {})


def read_secret(folder: Path, path: Path) -> None:
    (folder / "naught.toml").write_text(f'[users.me]\nrole = "read"\nsecret_file = "{path}"\n')
    load(["--config", str(folder / "naught.toml")], {})


def read_http_token(folder: Path, path: Path) -> None:
    read_token(ServerConfig(http_token_file=str(path)))


def read_certificate(folder: Path, path: Path) -> None:
    client_port_context(ServerConfig(tls_certificate=str(path)))


def read_key(folder: Path, path: Path) -> None:
    good = Authority(folder).write("good.pem", "localhost")
    client_port_context(ServerConfig(tls_certificate=str(good), tls_key=str(path)))


def read_authorities(folder: Path, path: Path) -> None:
    good = Authority(folder).write("good.pem", "localhost")
    client_port_context(ServerConfig(tls_certificate=str(good), tls_client_ca=str(path)))


READERS: dict[str, Callable[[Path, Path], None]] = {
    "--config": read_config,
    "secret_file": read_secret,
    "http_token_file": read_http_token,
    "tls_certificate": read_certificate,
    "tls_key": read_key,
    "tls_client_ca": read_authorities,
}


@pytest.fixture(params=NO_FILES)
def no_file(request: pytest.FixtureRequest, tmp_path: Path) -> tuple[Path, str]:
    """What is no file, and why it is not read."""
    make, why = NO_FILES[request.param]
    return make(tmp_path), why


@for_each("setting", READERS)
def test_what_is_no_regular_file_is_refused(tmp_path: Path, no_file: tuple[Path, str], setting: str) -> None:
    path, why = no_file
    with pytest.raises(ConfigError) as refused:
        READERS[setting](tmp_path, path)
    assert str(refused.value).endswith(f"{setting}: cannot read {shown(str(path))}: {why}")


@for_each("setting", ["tls_certificate", "tls_key", "tls_client_ca"])
def test_a_file_that_is_too_large_for_certificates_is_not_searched_for_one(tmp_path: Path, setting: str) -> None:
    path = tmp_path / "large.pem"
    with path.open("wb") as file:
        file.truncate(tls.FILE_BYTES_MAX + 1)
    with pytest.raises(ConfigError, match=rf"^{setting}: cannot read .* it has more than 4194304 bytes$"):
        READERS[setting](tmp_path, path)


@pytest.mark.patches
@pytest.mark.parametrize("setting", ["--config", "secret_file"])
def test_a_file_that_becomes_another_as_it_is_opened(
    tmp_path: Path, monkeypatch: pytest.MonkeyPatch, setting: str
) -> None:
    path, regular = make_fifo(tmp_path), os.stat(__file__)
    stat_of = os.stat
    monkeypatch.setattr(
        regular_file.os, "stat", lambda each, **how: regular if each == str(path) else stat_of(each, **how)
    )
    opened = len(os.listdir("/proc/self/fd")) if os.path.exists("/proc/self/fd") else 0
    with pytest.raises(ConfigError, match="it is a FIFO"):
        READERS[setting](tmp_path, path)
    assert not opened or len(os.listdir("/proc/self/fd")) == opened, "it was closed"


def test_the_ports_file_is_never_waited_for(tmp_path: Path) -> None:
    """Neither what stands in its place at the end, nor what has the name under which it is written first: that one
    can be known before, and may be a link to a file that is to be kept."""
    kept, path, unfinished = tmp_path / "kept", tmp_path / "ports", tmp_path / f".ports.{os.getpid()}"
    kept.write_text("kept")
    for place in (lambda: os.mkfifo(unfinished), lambda: unfinished.symlink_to(kept), lambda: None):
        place()
        _write_ports_file(str(path), {"pid": os.getpid()})
        assert json.loads(path.read_text()) == {"pid": os.getpid()}
        assert not unfinished.is_symlink()
        assert not unfinished.exists()
    assert kept.read_text() == "kept"
    path.unlink()
    os.mkfifo(path)
    _remove_ports_file(str(path))
    assert path.is_fifo(), "it is another one's by now"
