"""Starting servers to drive: naught, Redis, memcached, the echo. Each on a free loopback port, each stopped.

Everything here is a context manager, and leaving one ends its process whatever happened: first politely
(SIGTERM), then not. Servers and generators are held to different cores where the system can do that, so that
one does not take the other's time.
"""

from __future__ import annotations

import contextlib
import json
import os
import shutil
import signal
import socket
import subprocess
import sys
import tempfile
import time
from collections.abc import Iterator
from dataclasses import dataclass
from pathlib import Path
from types import FrameType
from typing import Any, NoReturn

from naught_loadtest.drivers.probe import inspect
from naught_loadtest.drivers.target import parse_target

START_S_MAX = 15.0
STOP_S_MAX = 15.0
POLL_S = 0.01


class MissingProgramError(RuntimeError):
    """A server that is not installed here."""


class ServerStartError(RuntimeError):
    """A server that did not come up; the message has what it said."""


@dataclass(frozen=True, slots=True)
class Server:
    """A running server."""

    # What `--target` would be.
    url: str
    pid: int
    process: subprocess.Popen[bytes]
    # Its name and version, as it tells.
    version: str

    def stop(self) -> int:
        """SIGTERM, and wait. Its exit status."""
        self.process.terminate()
        return self.process.wait(STOP_S_MAX)


@dataclass(frozen=True, slots=True)
class Cores:
    """Which cores servers and generators run on; empty where they are not held to any."""

    server: list[int]
    generator: list[int]
    # One line for the report.
    note: str


def split_cores() -> Cores:
    """One core for the server, the others for the generator, where there are two and they can be chosen."""
    if not hasattr(os, "sched_setaffinity"):
        return Cores([], [], "cores: this system cannot hold processes to cores; they may share one")
    usable = sorted(os.sched_getaffinity(0))
    if len(usable) < 2:
        return Cores([], [], "cores: only one to be had; server and generator share it")
    server, generator = usable[:1], usable[1:]
    return Cores(server, generator, f"cores: server on {server[0]}, generator on {_spans(generator)}")


def _spans(cores: list[int]) -> str:
    return str(cores[0]) if len(cores) == 1 else f"{cores[0]}-{cores[-1]}"


@contextlib.contextmanager
def held_to(cores: list[int]) -> Iterator[None]:
    """What is started inside inherits these cores. The caller itself gets its own back."""
    if not cores:
        yield
        return
    before = os.sched_getaffinity(0)
    os.sched_setaffinity(0, cores)
    try:
        yield
    finally:
        os.sched_setaffinity(0, before)


@contextlib.contextmanager
def stopped_on_signals() -> Iterator[None]:
    """SIGTERM ends the program as Ctrl-C does, so that nothing started is left behind."""

    def leave(number: int, frame: FrameType | None) -> NoReturn:
        raise KeyboardInterrupt

    before = signal.signal(signal.SIGTERM, leave)
    try:
        yield
    finally:
        signal.signal(signal.SIGTERM, before)


@contextlib.contextmanager
def naught_server(cores: list[int] | None = None, arguments: tuple[str, ...] = ()) -> Iterator[Server]:
    """A naught server of this installation."""
    with tempfile.TemporaryDirectory(prefix="naught-loadtest-") as directory:
        ports_file = Path(directory) / "ports.json"
        words = [sys.executable, "-m", "naught_server", "--port", "0", "--ports-file", str(ports_file)]
        with _running([*words, *arguments], cores, Path(directory)) as process:
            bound = _wait_for_ports(process, ports_file, Path(directory))
            url = f"naught://{bound['tcp']['host']}:{bound['tcp']['port']}"
            yield Server(url, process.pid, process, _version(url, process, Path(directory)))


def _wait_for_ports(process: subprocess.Popen[bytes], ports_file: Path, directory: Path) -> dict[str, Any]:
    until = time.monotonic() + START_S_MAX
    while not ports_file.exists():
        _check_running(process, directory, until, "naught_server")
        time.sleep(POLL_S)
    bound: dict[str, Any] = json.loads(ports_file.read_text())
    return bound


@contextlib.contextmanager
def echo_server(cores: list[int] | None = None) -> Iterator[Server]:
    """The harness's own echo."""
    with reserved_port() as port:
        words = [sys.executable, "-m", "naught_loadtest.drivers.echo_server", str(port)]
        with _peer(words, f"echo://127.0.0.1:{port}", cores) as server:
            yield server


@contextlib.contextmanager
def redis_server(cores: list[int] | None = None) -> Iterator[Server]:
    """A Redis with no configuration, no persistence and a directory of its own. Its URL is redis://."""
    program = _program("redis-server", "valkey-server")
    with reserved_port() as port:
        words = [program, "--port", str(port), "--bind", "127.0.0.1", "--save", "", "--appendonly", "no"]
        with _peer(words, f"redis://127.0.0.1:{port}", cores) as server:
            yield server


@contextlib.contextmanager
def memcached_server(cores: list[int] | None = None) -> Iterator[Server]:
    """A memcached with one worker thread: one core, like the others."""
    program = _program("memcached")
    with reserved_port() as port:
        words = [program, "-l", "127.0.0.1", "-p", str(port), "-U", "0", "-t", "1", "-m", "1024"]
        if os.geteuid() == 0:
            words += ["-u", "root"]
        with _peer(words, f"memcached://127.0.0.1:{port}", cores) as server:
            yield server


@contextlib.contextmanager
def _peer(words: list[str], url: str, cores: list[int] | None) -> Iterator[Server]:
    with (
        tempfile.TemporaryDirectory(prefix="naught-loadtest-") as directory,
        _running(words, cores, Path(directory)) as process,
    ):
        yield Server(url, process.pid, process, _version(url, process, Path(directory)))


def _program(*names: str) -> str:
    for name in names:
        found = shutil.which(name)
        if found:
            return found
    raise MissingProgramError(f"{names[0]} is not installed")


@contextlib.contextmanager
def _running(words: list[str], cores: list[int] | None, directory: Path) -> Iterator[subprocess.Popen[bytes]]:
    """A process that is gone when the block ends. What it says goes to a file, for when it fails."""
    with open(directory / "log", "wb") as log, held_to(cores or []):
        process = subprocess.Popen(
            words, stdin=subprocess.DEVNULL, stdout=log, stderr=log, cwd=directory, env=environment()
        )
    try:
        yield process
    finally:
        end(process)


def environment() -> dict[str, str]:
    """For a Python that is to import what this one can."""
    # It may run in another directory, so what this process found by relative path must stay found.
    return {**os.environ, "PYTHONPATH": os.pathsep.join(path for path in sys.path if path)}


def end(process: subprocess.Popen[bytes]) -> None:
    """Stop a process: SIGTERM, a while to obey, then SIGKILL."""
    if process.poll() is None:
        # A stopped process cannot obey; waking it costs nothing where it runs.
        process.send_signal(signal.SIGCONT)
        process.terminate()
        try:
            process.wait(STOP_S_MAX)
        except subprocess.TimeoutExpired:
            process.kill()
    process.wait()


def _version(url: str, process: subprocess.Popen[bytes], directory: Path) -> str:
    """Wait until the server answers, and ask who it is."""
    until = time.monotonic() + START_S_MAX
    while True:
        try:
            link, inspector = inspect(parse_target(url))
        except OSError:
            _check_running(process, directory, until, url)
            time.sleep(POLL_S)
            continue
        with link:
            inspector.prepare()
            return inspector.version()


def _check_running(process: subprocess.Popen[bytes], directory: Path, until: float, name: str) -> None:
    said = (directory / "log").read_text(errors="replace").strip()[-2000:]
    if process.poll() is not None:
        raise ServerStartError(f"{name} ended with status {process.returncode} at its start:\n{said}")
    if time.monotonic() > until:
        raise ServerStartError(f"{name} did not answer within {START_S_MAX:g} s:\n{said}")


@contextlib.contextmanager
def reserved_port() -> Iterator[int]:
    """A loopback port for a server that cannot pick one itself, or that has to come back on the same one.

    A port that is only looked for and let go of can be given to another program before the server listens on it. On
    Linux a socket that is bound and does not listen keeps it: the kernel gives it to nobody, and a server that names
    it and sets SO_REUSEADDR, as all do, may listen there. Elsewhere that would keep the server out too.
    """
    with socket.socket() as keeper:
        keeper.setsockopt(socket.SOL_SOCKET, socket.SO_REUSEADDR, 1)
        keeper.bind(("127.0.0.1", 0))
        port: int = keeper.getsockname()[1]
        if sys.platform != "linux":
            keeper.close()
        yield port


def cpu_s(pid: int) -> float | None:
    """Processor time a process has used, all its threads; None where the system does not tell."""
    try:
        fields = Path(f"/proc/{pid}/stat").read_text().rpartition(")")[2].split()
    except OSError:
        return None
    return (int(fields[11]) + int(fields[12])) / os.sysconf("SC_CLK_TCK")


def resident_bytes(pid: int) -> int:
    """Resident memory of a process. RuntimeError where the system does not tell."""
    try:
        for line in Path(f"/proc/{pid}/status").read_text().splitlines():
            if line.startswith("VmRSS:"):
                return int(line.split()[1]) * 1024
    except OSError:
        said = subprocess.run(["ps", "-o", "rss=", "-p", str(pid)], capture_output=True, check=False)
        if said.stdout.strip():
            return int(said.stdout) * 1024
    raise RuntimeError(f"the resident memory of process {pid} cannot be read")
