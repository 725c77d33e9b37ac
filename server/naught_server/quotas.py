"""What one principal may use: the clients of one address, or those of one user. Sans-IO.

A connection belongs to its address and, once it has logged in, to its user too; what it uses counts for both. A
principal without limits costs nothing: no `Quota` is made for it.

    quotas = Quotas(of_address, of_user)     the limits of each kind
    quota = quotas.enter(ADDRESS, "10.0.0.7")   a connection of it; None without limits; raises Busy
    quota.room(now_ms), quota.spend(entries)    its rate: entries that it may still ask for
    quotas.leave(quota)

The rate is a token bucket of one second. It is charged once a turn, so it may be overdrawn by the work of a turn,
which is waited for. A principal is remembered until its bucket is full again, so that coming back does not fill it.
"""

from __future__ import annotations

from typing import Final, NamedTuple

from naught.errors import Busy

ADDRESS: Final = "address"
USER: Final = "user"

NO_LIMIT: Final = 1 << 60
FORGET_ABOVE: Final = 1_024
"""With more principals that have nothing any more, those with a full bucket are forgotten."""


class Limits(NamedTuple):
    """The most that one principal may have; None for no limit."""

    connections: int | None = None
    sessions: int | None = None
    parked_bytes: int | None = None
    rate: int | None = None
    """Entries of work in a second."""

    @property
    def none(self) -> bool:
        """Whether there is no limit at all."""
        return self == Limits()


class Quota:
    """What one principal uses."""

    __slots__ = ("_filled_ms", "_tokens", "connections", "limits", "name", "parked_bytes", "sessions")

    def __init__(self, kind: str, name: str, limits: Limits) -> None:
        self.name: Final = (kind, name)
        self.limits: Final = limits
        self.connections = 0
        self.sessions = 0
        self.parked_bytes = 0
        self._tokens = float(limits.rate or 0)  # entries it may ask for now; below 0 what later ones owe
        self._filled_ms: int | None = None  # when tokens were last added; None: never

    def room(self, now_ms: int) -> int:
        """Entries of work that it may ask for now."""
        rate = self.limits.rate
        if rate is None:
            return NO_LIMIT
        if self._filled_ms is not None:
            self._tokens = min(float(rate), self._tokens + rate * max(0, now_ms - self._filled_ms) / 1_000)
        self._filled_ms = now_ms if self._filled_ms is None else max(now_ms, self._filled_ms)
        return int(self._tokens)

    def spend(self, entries: int) -> None:
        """Its requests were this work."""
        self._tokens -= entries

    def open_session(self) -> None:
        """One more session. Raises Busy."""
        self._need(self.sessions, self.limits.sessions, "sessions")
        self.sessions += 1

    def park(self, size: int) -> None:
        """A request waits that takes `size` bytes. Raises Busy."""
        self._need(self.parked_bytes + size - 1, self.limits.parked_bytes, "bytes of requests that wait")
        self.parked_bytes += size

    def connect(self) -> None:
        """One more connection. Raises Busy."""
        self._need(self.connections, self.limits.connections, "connections")
        self.connections += 1

    def _need(self, used: int, most: int | None, what: str) -> None:
        if most is not None and used >= most:
            raise Busy(f"the {self.name[0]} of this client may have {most} {what}, and has them")

    def is_idle(self, now_ms: int) -> bool:
        """Whether nothing of it would be missed."""
        used = self.connections or self.sessions or self.parked_bytes
        return not used and self.room(now_ms) >= (self.limits.rate or 0)


class Quotas:
    """All principals that have limits and something that counts."""

    def __init__(self, of_address: Limits, of_user: Limits) -> None:
        self._limits: Final = {ADDRESS: of_address, USER: of_user}
        self._by_name: dict[tuple[str, str], Quota] = {}

    def __len__(self) -> int:
        return len(self._by_name)

    def enter(self, kind: str, name: str | None, now_ms: int) -> Quota | None:
        """A connection of this principal. Returns None where there is nothing to count. Raises Busy."""
        limits = self._limits[kind]
        if name is None or limits.none:
            return None
        quota = self._by_name.get((kind, name))
        if quota is None:
            if len(self._by_name) >= FORGET_ABOVE:
                self._forget_idle(now_ms)
            quota = self._by_name[kind, name] = Quota(kind, name, limits)
        quota.connect()
        return quota

    def leave(self, quota: Quota) -> None:
        """A connection is gone."""
        quota.connections -= 1

    def _forget_idle(self, now_ms: int) -> None:
        for name in [name for name, quota in self._by_name.items() if quota.is_idle(now_ms)]:
            del self._by_name[name]
