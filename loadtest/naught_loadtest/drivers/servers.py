"""Starting the servers that the harness drives: naught, Redis, memcached and the harness's own echo server.

Each server is a context manager. It listens on a free loopback port, keeps nothing on disk, and is ready when the
block begins: its version has been asked for and answered. When the block ends the process ends, whatever happened.
"""

from __future__ import annotations

import contextlib
import json
import os
import shlex
import shutil
import socket
import subprocess
import sys
import tempfile
import time
from collections.abc import Iterator
from dataclasses import dataclass
from pathlib import Path
from typing import Any
from urllib.parse import quote

from naught_loadtest.drivers.probe import open_probe
from naught_loadtest.drivers.target import parse_target
from naught_loadtest.measure.cores import pinned_to
from naught_loadtest.processes import STOP_S_MAX, end, environment

START_S_MAX = 15.0
# Pause between two looks at a server that is starting.
POLL_S = 0.01
# Characters of a server's output that an error message quotes.
QUOTED_MAX = 2000


class MissingProgramError(RuntimeError):
    """A server or a client library that is not installed on this machine."""


class ServerStartError(RuntimeError):
    """A server that did not start. The message quotes the end of its output."""


@dataclass(frozen=True, slots=True)
class Server:
    """A running server."""

    # Its URL, as `--target` takes it.
    url: str
    pid: int
    process: subprocess.Popen[bytes]
    # Its name and version, as the server reports them.
    version: str
    # The address of its page, where it has one.
    page: str | None = None

    def stop(self) -> int:
        """Send SIGTERM and wait. Returns the exit status."""
        self.process.terminate()
        return self.process.wait(STOP_S_MAX)


@dataclass(frozen=True, slots=True)
class Peer:
    """Which Redis or Valkey the comparisons measure, and how it is started."""

    # Its program; None for redis-server or valkey-server, whichever is installed.
    binary: str | None = None
    # The URL of a server that runs already, which is then not started; None to start one.
    url: str | None = None
    # Arguments for the program, after those of the harness.
    arguments: tuple[str, ...] = ()
    # The cores it runs on; empty for the core of the other servers.
    cores: tuple[int, ...] = ()

    def __str__(self) -> str:
        """One line for the report; empty where nothing was asked for."""
        if self.url is not None:
            return f"peer: the server at {self.url}, which was not started here and runs on the cores it chose"
        if not (self.binary or self.arguments or self.cores):
            return ""
        arguments = f" {shlex.join(self.arguments)}" if self.arguments else ""
        cores = f", on cores {self.cores[0]}-{self.cores[-1]}" if self.cores else ""
        return f"peer: {self.binary or 'redis-server'}{arguments}{cores}"


@contextlib.contextmanager
def naught_server(
    cores: list[int] | None = None,
    arguments: tuple[str, ...] = (),
    *,
    user: str | None = None,
    authority: Path | None = None,
) -> Iterator[Server]:
    """A naught server of this installation, with these arguments besides those for its port. Without HTTP, as its
    peers, unless the arguments ask for it.

    Where the arguments give it users, its URL has this one, whose secret is in the environment. Where they turn TLS
    on, its URL names this file of whom to trust.
    """
    with tempfile.TemporaryDirectory(prefix="naught-loadtest-") as name:
        directory = Path(name)
        ports_file = directory / "ports.json"
        command = [sys.executable, "-m", "naught_server", "--port", "0", "--http-port", "off"]
        command += ["--ports-file", str(ports_file), *arguments]
        with _running(command, cores, directory) as process:
            bound = _wait_for_ports(process, ports_file, directory)
            scheme, files = ("naught", "") if authority is None else ("naughts", f"?ca={quote(str(authority))}")
            login = "" if user is None else f"{quote(user, safe='')}@"
            url = f"{scheme}://{login}{bound['tcp']['host']}:{bound['tcp']['port']}{files}"
            http = bound["http"]
            page = f"http://{http['host']}:{http['port']}/" if http else None
            yield Server(url, process.pid, process, _wait_for_version(url, process, directory), page)


def installed_version() -> str:
    """What `naught_server` would start: its version, and whether it runs compiled, which several bars need."""
    command = [sys.executable, "-W", "ignore::RuntimeWarning", "-m", "naught_server", "--version"]
    return subprocess.run(command, env=environment(), stdout=subprocess.PIPE, text=True, check=True).stdout.strip()


@contextlib.contextmanager
def configured(text: str) -> Iterator[tuple[str, ...]]:
    """The arguments that make a naught server read this text as its configuration file, while the block runs."""
    with tempfile.TemporaryDirectory(prefix="naught-loadtest-") as directory:
        file = Path(directory) / "naught.toml"
        file.write_text(text)
        yield "--config", str(file)


def _wait_for_ports(process: subprocess.Popen[bytes], ports_file: Path, directory: Path) -> dict[str, Any]:
    until = time.monotonic() + START_S_MAX
    while not ports_file.exists():
        _check_running(process, directory, until, "naught_server")
        time.sleep(POLL_S)
    bound: dict[str, Any] = json.loads(ports_file.read_text())
    return bound


@contextlib.contextmanager
def echo_server(cores: list[int] | None = None) -> Iterator[Server]:
    """The harness's own echo server."""
    with reserved_port() as port:
        command = [sys.executable, "-m", "naught_loadtest.drivers.echo_server", str(port)]
        with _started(command, f"echo://127.0.0.1:{port}", cores) as server:
            yield server


@contextlib.contextmanager
def redis_server(
    cores: list[int] | None = None, binary: str | None = None, arguments: tuple[str, ...] = ()
) -> Iterator[Server]:
    """A Redis (or Valkey) server without configuration and persistence. Its URL begins with redis://.

    `binary` is the program, otherwise the one that is installed. `arguments` follow those of the harness.
    """
    program = binary or _program("redis-server", "valkey-server")
    with reserved_port() as port:
        command = [program, "--port", str(port), "--bind", "127.0.0.1", "--save", "", "--appendonly", "no"]
        with _started([*command, *arguments], f"redis://127.0.0.1:{port}", cores) as server:
            yield server


@contextlib.contextmanager
def memcached_server(cores: list[int] | None = None) -> Iterator[Server]:
    """A memcached server with one worker thread, so that it uses one core as the other servers do."""
    program = _program("memcached")
    with reserved_port() as port:
        command = [program, "-l", "127.0.0.1", "-p", str(port), "-U", "0", "-t", "1", "-m", "1024"]
        if os.geteuid() == 0:
            command += ["-u", "root"]
        with _started(command, f"memcached://127.0.0.1:{port}", cores) as server:
            yield server


@contextlib.contextmanager
def _started(command: list[str], url: str, cores: list[int] | None) -> Iterator[Server]:
    """A server that is told its port and so has this URL."""
    with (
        tempfile.TemporaryDirectory(prefix="naught-loadtest-") as directory,
        _running(command, cores, Path(directory)) as process,
    ):
        yield Server(url, process.pid, process, _wait_for_version(url, process, Path(directory)))


def _program(*names: str) -> str:
    """The path of the first of these programs that is installed."""
    for name in names:
        found = shutil.which(name)
        if found:
            return found
    raise MissingProgramError(f"{names[0]} is not installed")


@contextlib.contextmanager
def _running(command: list[str], cores: list[int] | None, directory: Path) -> Iterator[subprocess.Popen[bytes]]:
    """A process that is ended with the block. Its output goes to a file, for the message when it does not start."""
    with open(directory / "log", "wb") as log, pinned_to(cores or []):
        process = subprocess.Popen(
            command, stdin=subprocess.DEVNULL, stdout=log, stderr=log, cwd=directory, env=environment()
        )
    try:
        yield process
    finally:
        end(process)


def _wait_for_version(url: str, process: subprocess.Popen[bytes], directory: Path) -> str:
    """Connect as soon as the server accepts, and ask for its version."""
    until = time.monotonic() + START_S_MAX
    while True:
        try:
            probe, inspector = open_probe(parse_target(url))
        except OSError:
            _check_running(process, directory, until, url)
            time.sleep(POLL_S)
            continue
        with probe:
            inspector.prepare()
            return inspector.version()


def _check_running(process: subprocess.Popen[bytes], directory: Path, until: float, name: str) -> None:
    """ServerStartError when the process has ended or its time to start is over."""
    output = (directory / "log").read_text(errors="replace").strip()[-QUOTED_MAX:]
    if process.poll() is not None:
        raise ServerStartError(f"{name} ended with status {process.returncode} while it started:\n{output}")
    if time.monotonic() > until:
        raise ServerStartError(f"{name} did not answer within {START_S_MAX:g} s:\n{output}")


@contextlib.contextmanager
def reserved_port() -> Iterator[int]:
    """A loopback port for a server that cannot pick one itself, or that has to listen on the same one again.

    A port that was only found free can be given to another program before the server listens on it. On Linux a socket
    that is bound and does not listen reserves the port: the kernel gives it to no other program, and a server that
    names the port and sets SO_REUSEADDR, as all these do, can listen on it. On other systems the reservation would
    keep the server out too, so there the port is only found.
    """
    with socket.socket() as keeper:
        keeper.setsockopt(socket.SOL_SOCKET, socket.SO_REUSEADDR, 1)
        keeper.bind(("127.0.0.1", 0))
        port: int = keeper.getsockname()[1]
        if sys.platform != "linux":
            keeper.close()
        yield port
