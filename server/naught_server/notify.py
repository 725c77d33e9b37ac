"""What systemd is told about this process, over the socket that it names in NOTIFY_SOCKET: sd_notify(3), in Python.

    READY=1        connections are accepted
    RELOADING=1    SIGHUP: the configuration is read again; READY=1 follows
    STOPPING=1     a signal to stop has come; the server drains
    STATUS=...     one line for `systemctl status`
    WATCHDOG=1     the server is alive, several times in WATCHDOG_USEC

Without that variable nothing is sent. A message that cannot be sent is lost: the server is more important than its
supervisor's view of it.
"""

from __future__ import annotations

import contextlib
import os
import socket
import time
from collections.abc import Mapping
from typing import Final

WATCHDOG_SHARE: Final = 3
"""Signs of life in the time that the watchdog allows: two may be lost, or late."""


class Notifier:
    """Sends to the supervisor named by an environment, or nowhere."""

    def __init__(self, environment: Mapping[str, str]) -> None:
        path = environment.get("NOTIFY_SOCKET", "")
        # A name that begins with @ is in Linux's abstract namespace, where a zero byte stands for it.
        self._address = f"\0{path[1:]}" if path.startswith("@") else path
        self.watchdog_s = _watchdog_s(environment) if path else None
        """How often to send a sign of life, in seconds; None where no watchdog waits for them."""

    def ready(self, status: str) -> None:
        """The server serves, for the first time or again after a reload."""
        self._send("READY=1", f"STATUS={status}")

    def reloading(self) -> None:
        """The configuration is being read again."""
        now_us = time.clock_gettime_ns(time.CLOCK_MONOTONIC) // 1_000
        self._send("RELOADING=1", f"MONOTONIC_USEC={now_us}")

    def stopping(self, status: str) -> None:
        """The server drains."""
        self._send("STOPPING=1", f"STATUS={status}")

    def status(self, status: str) -> None:
        """What the server does, in one line."""
        self._send(f"STATUS={status}")

    def alive(self) -> None:
        """A sign of life for the watchdog."""
        self._send("WATCHDOG=1")

    def _send(self, *lines: str) -> None:
        if not self._address:
            return
        with contextlib.suppress(OSError), socket.socket(socket.AF_UNIX, socket.SOCK_DGRAM) as sender:
            sender.setblocking(False)
            sender.sendto("\n".join(lines).encode(), self._address)


def _watchdog_s(environment: Mapping[str, str]) -> float | None:
    """The time between signs of life, from the variables that systemd sets for this process."""
    text, pid = environment.get("WATCHDOG_USEC", ""), environment.get("WATCHDOG_PID", "")
    if not text.isdecimal() or int(text) == 0 or (pid and pid != str(os.getpid())):
        return None
    return int(text) / 1e6 / WATCHDOG_SHARE
