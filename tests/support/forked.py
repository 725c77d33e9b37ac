"""Servers that are forked from a process which has imported all of `naught_server` already.

Tests start hundreds of servers, and most of the time of a start is that of the interpreter and of imports. A server
that is forked is a process of its own as any other: it reads its arguments and its environment, and has run nothing.

    process = start(arguments, environment, log)     # a `subprocess.Popen`, as far as tests need it

This module is the half of the tests. `forking.py` is the other one: one process, which ends with this one.
"""

from __future__ import annotations

import atexit
import json
import os
import resource
import select
import signal
import subprocess
import sys
import threading
import time
from collections.abc import Mapping, Sequence
from pathlib import Path
from typing import Any, Final

FORKING: Final = Path(__file__).with_name("forking.py")
POLL_S: Final = 0.005


def can() -> bool:
    """Whether servers may be forked here: coverage must be told of each process as it starts."""
    return sys.platform == "linux" and not any(name.startswith("COVERAGE_PROCESS") for name in os.environ)


class Forked:
    """A process, with the part of `subprocess.Popen` that tests use of a server."""

    def __init__(self, pid: int) -> None:
        self.pid: Final = pid
        self.returncode: int | None = None  # what it has ended with, once that is known

    def poll(self) -> int | None:
        """The exit status, or the negative number of the signal; None while it runs."""
        if self.returncode is None:
            self.returncode = _parent.status(self.pid)
        return self.returncode

    def wait(self, timeout: float | None = None) -> int:
        """Wait until it has ended. Raises TimeoutExpired."""
        end = None if timeout is None else time.monotonic() + timeout
        while (status := self.poll()) is None:
            if end is not None and time.monotonic() >= end:
                assert timeout is not None
                raise subprocess.TimeoutExpired("naught-server", timeout)
            time.sleep(POLL_S)
        return status

    def send_signal(self, number: int) -> None:
        """Send a signal, unless it has ended."""
        if self.poll() is None:
            os.kill(self.pid, number)

    def terminate(self) -> None:
        """Send SIGTERM."""
        self.send_signal(signal.SIGTERM)

    def kill(self) -> None:
        """Send SIGKILL."""
        self.send_signal(signal.SIGKILL)


class _Parent:
    """The process that forks. It is started when the first server is."""

    def __init__(self) -> None:
        self._lock = threading.Lock()  # tests start and await servers in several threads
        self._process: subprocess.Popen[bytes] | None = None
        self._unread = b""  # the beginning of a line
        self._started: list[int] = []  # the process that was asked for
        self._ended: dict[int, int] = {}  # by process

    def start(self, request: Mapping[str, Any]) -> int:
        with self._lock:
            process = self._running()
            assert process.stdin is not None
            process.stdin.write(json.dumps(request).encode() + b"\n")
            process.stdin.flush()
            while not self._started:
                self._read(wait=True)
            return self._started.pop()

    def status(self, pid: int) -> int | None:
        with self._lock:
            self._read(wait=False)
            return self._ended.get(pid)

    def _running(self) -> subprocess.Popen[bytes]:
        if self._process is None:
            command = [sys.executable, "-P", "-W", "error", str(FORKING)]
            self._process = subprocess.Popen(command, stdin=subprocess.PIPE, stdout=subprocess.PIPE)
            atexit.register(self._close)
        return self._process

    def _read(self, wait: bool) -> None:
        """Read what has happened: a line `started PID`, or `ended PID STATUS`."""
        assert self._process is not None
        assert self._process.stdout is not None
        descriptor = self._process.stdout.fileno()
        while wait or select.select([descriptor], [], [], 0)[0]:
            data = os.read(descriptor, 1 << 16)
            assert data, "the process that forks servers has ended"
            *lines, self._unread = (self._unread + data).split(b"\n")
            for line in lines:
                what, pid, *status = line.split()
                if what == b"started":
                    # A number that is used again is another process, whose status is not known.
                    self._ended.pop(int(pid), None)
                    self._started.append(int(pid))
                else:
                    self._ended[int(pid)] = int(status[0])
            if lines:
                return

    def _close(self) -> None:
        assert self._process is not None
        self._process.communicate()


_parent: Final = _Parent()


def start(arguments: Sequence[str], environment: Mapping[str, str], log: Path) -> Forked:
    """A server with these arguments and variables, which writes what it says into `log`."""
    request = {
        "arguments": list(arguments),
        "environment": dict(environment),
        "log": str(log),
        "folder": str(Path.cwd()),
        "descriptors": resource.getrlimit(resource.RLIMIT_NOFILE),
    }
    return Forked(_parent.start(request))
