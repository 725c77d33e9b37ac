"""Whether the peer of a TCP connection is still there, as the kernel knows it.

The peer's kernel is asked, not its event loop: a client that computes for a minute, or is stopped, keeps its session.
While nothing is on its way to the peer, TCP keepalive asks (`prepare_accepted`). While something is, the kernel sends
no keepalive, and of what it does instead nothing is right for both kinds of silence (measured on Linux 6.18, two
network namespaces, 5 s / 1 s / 5 probes):

- The peer's receive buffer is full: the kernel probes the closed window, at intervals that double.
  `TCP_USER_TIMEOUT` of 10 s ends the connection after 9.6 s although each probe is answered. Without it, it stays.
- The peer is gone: with `TCP_USER_TIMEOUT` of 10 s this is noticed after 11.3 s. Without it, retransmissions and
  probes go on for a quarter of an hour.

So `TCP_USER_TIMEOUT` is not set here, and `unanswered_ms` tells from `TCP_INFO` how long the peer has left
unanswered what must be answered. `Connection` asks every `PEER_LOOK_MS` while something is on its way. The intervals
of the probes are bounded by `TCP_RTO_MAX_MS` where the kernel has it (Linux 6.15). On older ones a probe comes up to
120 s after the one before, and a peer that is gone while its window is closed is noticed that much later.

Measured with this server: a client that reads nothing is connected after 40 s with its window closed. One whose
packets are dropped is noticed after 8.9 s with a closed window, after 9.0 s with a reply on its way, and after 9.3 s
with nothing on its way.
"""

from __future__ import annotations

import contextlib
import fcntl
import socket
import struct
import sys
import termios
from typing import Any, Final, Protocol

from naught.wire.limits import KEEPALIVE
from naught_server.limits import PROBE_INTERVAL_MS_MAX

__all__ = ["TcpSocket", "can_tell", "prepare_accepted", "uid_of", "unanswered_ms", "unread_bytes"]

_TCP_RTO_MAX_MS: Final = 44
"""Linux's number of the option; Python has no name for it yet."""

# struct tcp_info: eight bytes, 24 numbers of 32 bits, four of 64, and more. Linux only ever appends to it.
_INFO: Final = struct.Struct("=8B24I4Q3I")

_CREDENTIALS: Final = struct.Struct("=iII")  # struct ucred: the ids of process, user and group

_PROBES: Final = 3  # probes of a closed window that were not answered
_UNACKED: Final = 8 + 4  # segments on their way
_LAST_ACK_MS: Final = 8 + 12  # since anything came from the peer
_NOT_SENT: Final = 8 + 24 + 4 + 2  # bytes that wait for the window to open


class TcpSocket(Protocol):
    """What is used of a socket. A transport does not give out a `socket.socket`."""

    @property
    def family(self) -> int: ...

    def getsockopt(self, level: int, option: int, size: int, /) -> bytes: ...


def prepare_accepted(accepted: socket.socket) -> None:
    """Set the options of an accepted socket. Raises OSError."""
    accepted.setblocking(False)
    if accepted.family == socket.AF_UNIX:
        return
    # A reply is one write, and nothing that could be sent with it follows soon.
    accepted.setsockopt(socket.IPPROTO_TCP, socket.TCP_NODELAY, 1)
    # The kernel finds out when the peer is gone: other clients wait for what its session holds.
    accepted.setsockopt(socket.SOL_SOCKET, socket.SO_KEEPALIVE, 1)
    for name, value in KEEPALIVE:
        option = getattr(socket, name, None)
        if option is not None:
            accepted.setsockopt(socket.IPPROTO_TCP, option, value)
    if sys.platform == "linux":
        with contextlib.suppress(OSError):  # an older kernel
            accepted.setsockopt(socket.IPPROTO_TCP, _TCP_RTO_MAX_MS, PROBE_INTERVAL_MS_MAX)


def uid_of(accepted: TcpSocket | None) -> int | None:
    """The user of the system whose process is at the other end of a Unix socket, where the kernel tells."""
    option = getattr(socket, "SO_PEERCRED", None)
    if option is None or accepted is None or accepted.family != socket.AF_UNIX:
        return None
    _, uid, _ = _CREDENTIALS.unpack(accepted.getsockopt(socket.SOL_SOCKET, option, _CREDENTIALS.size))
    return int(uid)


def can_tell(connected: TcpSocket | None) -> bool:
    """Whether `unanswered_ms` knows anything of this socket."""
    return sys.platform == "linux" and connected is not None and connected.family in (socket.AF_INET, socket.AF_INET6)


def unanswered_ms(connected: TcpSocket) -> int | None:
    """How long the peer has not answered although something was sent that it must answer; 0 where there is nothing
    such now, but something waits for its window to open. None where nothing is on its way. Raises OSError."""
    info = connected.getsockopt(socket.IPPROTO_TCP, socket.TCP_INFO, _INFO.size)
    if len(info) < _INFO.size:
        return None
    parts = _INFO.unpack(info)
    if parts[_UNACKED] or parts[_PROBES]:
        return int(parts[_LAST_ACK_MS])
    return 0 if parts[_NOT_SENT] else None


def unread_bytes(peer: Any) -> int:
    """How many bytes the kernel has received on a socket that were not read; 0 where it cannot tell."""
    try:
        found = fcntl.ioctl(peer.fileno(), termios.FIONREAD, bytes(4))
    except (OSError, ValueError, AttributeError):  # it is closed, or no socket
        return 0
    return int.from_bytes(found, sys.byteorder)
