"""Options of the sockets that clients connect with, for every kind of client."""

from __future__ import annotations

import socket

from naught.wire.limits import KEEPALIVE, PEER_UNACKNOWLEDGED_MS


def keep_alive(connected: socket.socket) -> None:
    """Have the system end the connection when the peer is gone without closing it (its machine or network failed)."""
    connected.setsockopt(socket.SOL_SOCKET, socket.SO_KEEPALIVE, 1)
    for name, value in KEEPALIVE:
        option = getattr(socket, name, None)  # not every system has every option
        if option is not None:
            connected.setsockopt(socket.IPPROTO_TCP, option, value)
    if hasattr(socket, "TCP_USER_TIMEOUT"):
        # It ends the connection to a server that reads nothing for this time too, although its kernel answers. A
        # server goes on reading within `OUTPUT_PAUSED_MS_MAX`, which is as long; and a session is resumed.
        connected.setsockopt(socket.IPPROTO_TCP, socket.TCP_USER_TIMEOUT, PEER_UNACKNOWLEDGED_MS)
