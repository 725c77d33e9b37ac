"""Notices that clients ask for more than the server can do. Sans-IO.

A connection is *behind* while received requests are left over after its turn. One that is behind for a moment has
sent much at once. When several are behind, without a pause, for `busy_after_ms`, there is more work than can be done,
and what is asked for now would be answered after its client has given up. Then a connection that has itself been
behind for so long is answered `busy`, without executing, until it has caught up: so its queue never holds more than
that time.

Only what is much cheaper to refuse than to do is refused: see `ServerProtocol._refuses`. A single connection that is
behind is slowed down by TCP, and does no harm to others.
"""

from __future__ import annotations

from typing import Final

CONNECTIONS_MIN: Final = 4
"""So many connections must be behind together. Fewer share the time of the server well."""


class Overload:
    """The connections that are behind."""

    __slots__ = ("_behind", "_since_ms", "refused")

    def __init__(self) -> None:
        self._behind = 0  # connections
        self._since_ms: int | None = None  # since when there are CONNECTIONS_MIN of them
        self.refused = 0  # requests, since the start

    def enter(self, now_ms: int) -> None:
        """One more connection is behind."""
        self._behind += 1
        if self._behind == CONNECTIONS_MIN:
            self._since_ms = now_ms

    def leave(self) -> None:
        """It has caught up, or is closed."""
        self._behind -= 1
        if self._behind < CONNECTIONS_MIN:
            self._since_ms = None

    def lasts(self, now_ms: int, busy_after_ms: int) -> bool:
        """Whether there was more work than could be done for so long."""
        return self._since_ms is not None and now_ms - self._since_ms >= busy_after_ms
