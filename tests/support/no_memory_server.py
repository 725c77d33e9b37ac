"""A server whose allocations fail, from one on and for some, while its loop is at work. A program, for many servers.

    python tests/support/no_memory_server.py LOOP STAGE COUNT FIRST...

LOOP is `uvloop` or `asyncio`. For each FIRST it makes a server by a fork, has COUNT of its allocations fail from the
FIRSTth on (0: all), does what STAGE says meanwhile, and writes a line: FIRST, and what became of it:

    status 71         the process has ended with this status, or by this signal (-6)
    closed answered answered      it runs on; what became of the client, of another one, and of a new one
    silent ...                    the same: the client has no answer, and its connection is open

`no_memory.py` does the same to single commands, without a loop.
"""

from __future__ import annotations

import contextlib
import json
import os
import signal
import socket
import sys
import tempfile
import time
from pathlib import Path

if __name__ == "__main__":
    sys.path.insert(0, str(Path(__file__).parents[1]))
    if sys.argv[1] == "asyncio":
        sys.modules["uvloop"] = None  # type: ignore[assignment]

import _testcapi

from naught.wire.codec import encode_request
from naught_server import __main__, exhausted, server
from support.conversation import decoded

ANSWER_S_MAX = 5.0
exhausted.STUCK_CPU_S = 0.3  # type: ignore[misc]
KEYS = [b"0:%0200d" % number for number in range(30)]
WAITS = b"".join(
    encode_request(1_000 + number, "acquire", ([[key, 1, 1]], 600_000)) for number, key in enumerate(KEYS)
)


def serve(first: int, count: int, folder: Path) -> None:
    """Be a server, which tells by SIGUSR1 that allocations are to fail. Does not return."""
    log = os.open(folder / "log", os.O_WRONLY | os.O_CREAT)
    os.dup2(log, 1)
    os.dup2(log, 2)

    class Failing(server.Server):
        """Tells the test when it is ready."""

        def _log_start(self) -> None:
            super()._log_start()
            self._loop.add_signal_handler(signal.SIGUSR1, self._fail)

        def _fail(self) -> None:
            os.close(os.open(folder / "failing", os.O_CREAT))
            _testcapi.set_nomemory(first, first + count if count else 0)

    server.Server = Failing  # type: ignore[misc]
    status = 1
    try:
        status = __main__.main(["--port", "0", "--http-port", "off", "--ports-file", str(folder / "ports.json")])
    finally:
        os._exit(status)


def wait_for(path: Path) -> None:
    while not path.exists():
        time.sleep(0.002)


class Peer:
    """A client whose answers may not come."""

    def __init__(self, port: int) -> None:
        self.socket = socket.create_connection(("127.0.0.1", port), ANSWER_S_MAX)

    def ask(self, data: bytes) -> str:
        """`answered`, `closed` or `silent`."""
        received = b""
        try:
            self.socket.sendall(data)
            while True:
                piece = self.socket.recv(1 << 16)
                if not piece:
                    return "closed"
                received += piece
                with contextlib.suppress(AssertionError):
                    decoded(received)
                    return "answered"
        except TimeoutError:
            return "silent"
        except ConnectionError:
            return "closed"

    def call(self, method: str, *params: object) -> str:
        return self.ask(encode_request(1, method, params))


def ended(pid: int, wait_s: float) -> str | None:
    """How a server has ended; None while it runs."""
    until = time.monotonic() + wait_s
    while True:
        found, status = os.waitpid(pid, os.WNOHANG)
        if found:
            return f"status {os.waitstatus_to_exitcode(status)}"
        if time.monotonic() >= until:
            return None
        time.sleep(0.002)


def attempt(stage: str, pid: int, folder: Path) -> str:
    """Do what the stage says while allocations fail."""
    wait_for(folder / "ports.json")
    port: int = json.loads((folder / "ports.json").read_text())["tcp"]["port"]
    peer, other = Peer(port), Peer(port)
    for each in (peer, other):
        assert each.call("hello", {"session": True}) == "answered"
        assert each.call("acquire", [[b"held", 1, 5]]) == "answered"
    os.kill(pid, signal.SIGUSR1)
    wait_for(folder / "failing")
    answer = "closed"
    with contextlib.suppress(OSError):  # a new connection was refused
        if stage == "requests":
            answer = peer.ask(encode_request(7, "apply", (KEYS, 1)) + WAITS)
        elif stage == "connects":
            answer = Peer(port).call("ping")
        elif stage == "closes":
            peer.socket.close()
        else:
            raise AssertionError(stage)
    if answer == "closed" and stage != "closes":
        found = ended(pid, 0.2)
        if found is not None:
            return found
    answers = [answer]
    with contextlib.suppress(OSError):
        answers += [other.call("ping"), Peer(port).call("ping")]
    found = ended(pid, 0.2 if "closed" in answers else 0)
    return found or " ".join(answers)


def main() -> None:
    """Make all attempts."""
    stage, count, *firsts = sys.argv[2], *map(int, sys.argv[3:])
    for first in firsts:
        with tempfile.TemporaryDirectory(prefix="naught-test-") as name:
            folder = Path(name)
            pid = os.fork()
            if not pid:
                serve(first, count, folder)
            outcome = "unknown"
            try:
                outcome = attempt(stage, pid, folder)
            finally:
                with contextlib.suppress(ProcessLookupError, ChildProcessError):
                    os.kill(pid, signal.SIGKILL)
                    os.waitpid(pid, 0)
            print(first, outcome, flush=True)
            if "silent" in outcome or "closed" in outcome:
                print((folder / "log").read_text(errors="replace"), file=sys.stderr)


if __name__ == "__main__":
    main()
