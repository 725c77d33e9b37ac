"""A real `naught-server` process, raw sockets to it, and its resident memory."""

from __future__ import annotations

import contextlib
import json
import signal
import socket
import subprocess
import sys
import time
from collections.abc import Callable, Iterator, Mapping, Sequence
from pathlib import Path
from typing import Any

from naught.wire.codec import encode_request
from support import forked
from support.conversation import decoded
from support.surroundings import without_settings

DEADLINE_S = 20.0
MIB = 1 << 20
SERVER = [sys.executable, "-W", "error", "-m", "naught_server"]
WITHOUT_UVLOOP = "import sys; sys.modules['uvloop'] = None; from naught_server.__main__ import main; sys.exit(main())"
SERVER_WITHOUT_UVLOOP = [sys.executable, "-W", "error", "-c", WITHOUT_UVLOOP]


def wait_until(happened: Callable[[], bool], what: str, deadline_s: float = DEADLINE_S) -> None:
    """Wait until `happened` returns true. Raises AssertionError with `what` after the deadline."""
    end = time.monotonic() + deadline_s
    while not happened():
        assert time.monotonic() < end, f"in {deadline_s} s it did not happen that {what}"
        time.sleep(0.01)


class RawPeer:
    """A socket that sends and receives raw bytes."""

    def __init__(self, port: int) -> None:
        self.socket = socket.create_connection(("127.0.0.1", port), timeout=DEADLINE_S)
        # A request is one write, and the next write must not wait for its reply.
        self.socket.setsockopt(socket.IPPROTO_TCP, socket.TCP_NODELAY, 1)

    def __enter__(self) -> RawPeer:
        return self

    def __exit__(self, *_: object) -> None:
        self.socket.close()

    def send(self, data: bytes) -> None:
        """Send all of it. It is not an error when the server has closed: its last replies can still be read."""
        with contextlib.suppress(ConnectionError):
            self.socket.sendall(data)

    def read(self, count: int) -> bytes:
        """Read exactly `count` bytes, or fewer when the server closes."""
        data = b""
        while len(data) < count:
            piece = self.socket.recv(count - len(data))
            if not piece:
                break
            data += piece
        return data

    def read_to_end(self) -> bytes:
        """Read until the server closes."""
        data = b""
        with contextlib.suppress(ConnectionResetError):
            while piece := self.socket.recv(1 << 16):
                data += piece
        return data

    def call(self, method: str, *params: Any) -> Any:
        """The result of a request, or the code of its error."""
        self.send(encode_request(1, method, params))
        data = b""
        while True:
            piece = self.socket.recv(1 << 16)
            assert piece, "the server closed"
            data += piece
            with contextlib.suppress(AssertionError):
                ((_, _, error, result),) = decoded(data)
                return result if error is None else error[0].decode()


class ServerProcess:
    """A server on a free loopback port; without an HTTP port unless the arguments ask for one.

    It is forked from a process that has imported the server, which takes a tenth of the time, unless the test says a
    command or variables of the environment, as a test does that is about the start, or about memory.
    """

    def __init__(
        self,
        folder: Path,
        *arguments: str,
        command: Sequence[str] | None = None,
        environment: Mapping[str, str] | None = None,
    ) -> None:
        ports_file = folder / "ports.json"
        self._log = folder / "log"
        words = ["--port", "0", "--http-port", "off", "--ports-file", str(ports_file), *arguments]
        self.process: subprocess.Popen[bytes] | forked.Forked
        if command is None and environment is None and forked.can():
            self._log.touch()
            self.process = forked.start(words, without_settings(), self._log)
        else:
            with self._log.open("w") as log:
                self.process = subprocess.Popen(
                    [*(command or SERVER), *words],
                    stdin=subprocess.DEVNULL,
                    stdout=log,
                    stderr=log,
                    env={**without_settings(), **(environment or {})},
                )
        try:
            wait_until(lambda: ports_file.exists() or self.process.poll() is not None, "the server started")
            assert self.process.poll() is None, self.log()
            self.ports: dict[str, Any] = json.loads(ports_file.read_text())
            self.port: int = self.ports["tcp"]["port"]
        except BaseException:
            self.kill()
            raise

    def log(self) -> str:
        """Its log so far."""
        return self._log.read_text()

    def connect(self) -> RawPeer:
        """A new connection."""
        return RawPeer(self.port)

    def call(self, method: str, *params: Any) -> Any:
        """A call on a new connection."""
        with self.connect() as peer:
            return peer.call(method, *params)

    def resident_bytes(self) -> int:
        """How much memory it has (VmRSS)."""
        return self._status("VmRSS")

    def highest_resident_bytes(self) -> int:
        """The most memory it ever had, or has had since `forget_highest`."""
        return self._status("VmHWM")

    def forget_highest(self) -> None:
        """Reset the highest memory (Linux 4.0)."""
        Path(f"/proc/{self.process.pid}/clear_refs").write_text("5")

    def _status(self, word: str) -> int:
        for line in Path(f"/proc/{self.process.pid}/status").read_text().splitlines():
            if line.startswith(f"{word}:"):
                return int(line.split()[1]) * 1024
        raise AssertionError(f"the process has no {word}: it has ended")

    def stop(self) -> None:
        """Stop it with SIGTERM. Fails when its log has an error."""
        self.process.terminate()
        assert self.process.wait(DEADLINE_S) == 0
        assert "Traceback" not in self.log()
        assert " error " not in self.log()

    def kill(self) -> None:
        """Kill it if it still runs."""
        if self.process.poll() is None:
            self.process.kill()
        self.process.wait()


@contextlib.contextmanager
def stopped(server: ServerProcess) -> Iterator[None]:
    """It reads and answers nothing meanwhile, but its system accepts connections."""
    server.process.send_signal(signal.SIGSTOP)
    try:
        yield
    finally:
        server.process.send_signal(signal.SIGCONT)


@contextlib.contextmanager
def server_process(
    folder: Path,
    *arguments: str,
    command: Sequence[str] | None = None,
    environment: Mapping[str, str] | None = None,
) -> Iterator[ServerProcess]:
    """A server that is stopped in the end. Fails when its log has an error."""
    server = ServerProcess(folder, *arguments, command=command, environment=environment)
    try:
        yield server
        server.stop()
    finally:
        server.kill()
