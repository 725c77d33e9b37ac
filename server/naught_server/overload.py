"""Notices that clients ask for more than the server can do. Sans-IO.

A connection is *behind* while received requests are left over after its turn. How long what arrives now will wait is
known then: the bytes that are there, those in the kernel included, by the bytes that were served lately. Where that
is longer than `busy_after_ms`, the answers would come after their callers have given up. So the oldest of them
are answered `busy`, without executing, until the rest waits for half of that.

Only what is much cheaper to refuse than to do is refused: see `ServerProtocol._next_not_refused`. Where few
connections are behind, TCP slows them down, and they do no harm to others.
"""

from __future__ import annotations

from typing import Final

CONNECTIONS_MIN: Final = 4
"""So many connections must be behind. Fewer share the time of the server well, however much each has sent."""

LOOK_MS: Final = 50
"""How often a connection that is behind looks how long its requests will wait."""


class Overload:
    """The connections that are behind."""

    __slots__ = ("_behind", "refused")

    def __init__(self) -> None:
        self._behind = 0  # connections
        self.refused = 0  # requests, since the start

    def enter(self) -> None:
        """One more connection is behind."""
        self._behind += 1

    def leave(self) -> None:
        """It has caught up, or is closed."""
        self._behind -= 1

    @property
    def many(self) -> bool:
        """Whether enough connections are behind to keep each other waiting."""
        return self._behind >= CONNECTIONS_MIN


class Queue:
    """What one connection has sent and is not served: how long it will wait, and how much of it is to be refused."""

    __slots__ = ("_looked_bytes", "_looked_ms", "fed_bytes", "refused_until")

    def __init__(self) -> None:
        self.fed_bytes = 0  # received, ever
        self.refused_until = 0  # the end of what is to be refused, in these bytes; 0 for nothing
        self._looked_ms = 0  # when it last looked, while it was behind
        self._looked_bytes = 0  # how many bytes were served then

    def begin(self, left_bytes: int, now_ms: int) -> None:
        """The connection is behind from now on."""
        self._looked_ms = now_ms
        self._looked_bytes = self.fed_bytes - left_bytes

    def look(self, left_bytes: int, unread_bytes: int, now_ms: int, busy_after_ms: int) -> None:
        """`left_bytes` are received and not served, and `unread_bytes` are in the kernel. Where they would wait for
        longer than `busy_after_ms`, the oldest are to be refused, until the rest waits for half of it."""
        served = self.fed_bytes - left_bytes - self._looked_bytes
        took_ms = now_ms - self._looked_ms
        self.begin(left_bytes, now_ms)
        if served > 0 and (left_bytes + unread_bytes) * took_ms > busy_after_ms * served:
            kept = served * busy_after_ms // (2 * took_ms)  # so that there is something to do while others come
            self.refused_until = self.fed_bytes + unread_bytes - kept

    def is_due(self, now_ms: int) -> bool:
        """Whether to look again."""
        return now_ms - self._looked_ms >= LOOK_MS
