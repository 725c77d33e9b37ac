"""`SilenceWatch`: decides when a connection is dead although the system says that it is open. Sans-IO.

A proxy, a firewall or a load balancer may keep a connection open and swallow what is sent on it. The system's
keepalive proves only the next hop. So the adapter calls `tick` about once a second, and the watch counts the ticks at
which nothing had arrived:

- Requests are unanswered: after PING_TICKS a ping is sent, which a server answers that is only slow with the others;
  after SILENT_TICKS the connection is given up. The session goes on with the next one, so nothing is lost by that.
- Nothing is asked, or only what may wait at the server: after IDLE_TICKS a ping is sent, and the first rule holds.

It counts ticks and no seconds. So a program that blocks its event loop for a minute has one tick, and reads before
the next.
"""

from __future__ import annotations

from typing import Final, Literal

TICK_S: Final = 1.0
"""Seconds between two ticks."""

PING_TICKS: Final = 2
SILENT_TICKS: Final = 4
"""Ticks without an answer. A server that answers nothing for 4 s is stopped, or there is no way to it. To dial anew
costs both ends a `hello`."""

IDLE_TICKS: Final = 5
"""A ping in 5 s costs a server 3 us for each idle client. The system's keepalive sends as often."""

assert PING_TICKS < SILENT_TICKS


class SilenceWatch:
    """Of one client. `session.py` asks it."""

    def __init__(self) -> None:
        self._quiet = 0  # ticks since something has arrived
        self._unanswered = 0  # ticks since then at which requests were unanswered

    def reset(self) -> None:
        """Something has arrived, or the connection is another one."""
        self._quiet = self._unanswered = 0

    def tick(self, unanswered: int) -> Literal["ping", "silent", ""]:
        """Nothing has arrived since the last tick. What is to be done. `unanswered`: the number of requests now."""
        self._quiet += 1
        self._unanswered = self._unanswered + 1 if unanswered else 0
        if self._unanswered >= SILENT_TICKS:
            return "silent"
        if self._unanswered == PING_TICKS or (not unanswered and self._quiet >= IDLE_TICKS):
            return "ping"
        return ""
