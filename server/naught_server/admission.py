"""What one connection asks for, measured against what it may: which of its requests are answered `busy`. Sans-IO.

Two reasons there are. Its principals, which are its address and its user, have used up their rate (quotas.py): then
all is refused. Or the server has more work than it can do (overload.py): then what has waited longest is refused, as
far as refusing is much cheaper than doing.

What waits when the connection's turn ends makes it *behind*. One that is neither behind nor has a limit asks nothing
here (`watches`).
"""

from __future__ import annotations

from collections.abc import Callable
from typing import Final

from naught.wire.codec import encode_error
from naught_server.access import Login
from naught_server.commands import COMMANDS
from naught_server.decoder import peek_method, peek_msgid
from naught_server.engine import Engine
from naught_server.hot import head_of
from naught_server.overload import Queue
from naught_server.quotas import ADDRESS, USER, Quota

NOTHING: Final = 0
LONG: Final = 1
ALL: Final = 2
"""What is refused."""

REFUSED_BYTES_MIN: Final = 256
"""A request of this size or more is long: to walk over it costs a tenth of what it costs to execute. To refuse a
shorter one would cost as much as to execute it."""

COSTLY: Final = frozenset({b"top", b"count", b"scan", b"holders", b"sessions"})
"""Requests of a few bytes that are much work."""

HEAD_BYTES: Final = 48
"""Where a message has its msgid and the name of its method."""

_OVERLOADED: Final = encode_error(0, "busy", "the server has more work than it can do; the request was not executed")[
    3:
]
_TOO_FAST: Final = encode_error(0, "busy", "this client asks for more in a second than it may; nothing was executed")[
    3:
]
"""The replies behind their msgid."""


class Admission:
    """Of one connection."""

    __slots__ = ("_behind", "_engine", "_quota_of_user", "_unread_bytes", "queue", "quotas", "watches")

    def __init__(self, engine: Engine, address: str | None, unread_bytes: Callable[[], int] | None) -> None:
        """Raises Busy where the address has as many connections as it may have. `unread_bytes`: what has arrived and
        was not read."""
        self._engine: Final = engine
        self._behind = False  # received requests were left over after the last turn
        self._unread_bytes = unread_bytes
        self.queue: Final = Queue()  # how long they will wait
        # What its principals may use: its address, and its user once it has one. Empty where there are no limits.
        self.quotas: tuple[Quota, ...] = ()
        self._quota_of_user: Quota | None = None  # the one of these that is the user's
        quota = engine.quotas.enter(ADDRESS, address, engine.latest_ms)
        if quota is not None:
            self.quotas = (quota,)
        self.watches = bool(self.quotas)  # whether to ask `refuses`: there are limits, or it is behind, or was

    def refuses(self, left_bytes: int, now_ms: int) -> int:
        """What is answered with `busy` now. `left_bytes`: how many are received and not served."""
        for quota in self.quotas:
            if quota.room(now_ms) <= 0:
                return ALL
        queue = self.queue
        if self._behind and queue.is_due(now_ms):
            unread_bytes = 0 if self._unread_bytes is None else self._unread_bytes()
            busy_after_ms = self._engine.config.busy_after_ms
            if busy_after_ms and self._engine.overload.many:
                queue.look(left_bytes, unread_bytes, now_ms, busy_after_ms)
            else:
                queue.begin(left_bytes, now_ms)
        if queue.fed_bytes - left_bytes < queue.refused_until:
            return LONG
        queue.refused_until = 0
        self.watches = self._behind or bool(self.quotas)
        return NOTHING

    def note(self, behind: bool, left_bytes: int, now_ms: int) -> None:
        """Whether received requests are left over after this turn."""
        if behind and not self._behind:
            self._behind = self.watches = True
            self._engine.overload.enter()
            if not self.queue.refused_until:
                self.queue.begin(left_bytes, now_ms)
        elif self._behind and not behind:
            self._behind = False
            self._engine.overload.leave()

    def spend(self, entries: int) -> None:
        """A turn has done this work."""
        for quota in self.quotas:
            quota.spend(entries)

    def log_in(self, login: Login) -> None:
        """The client is this user. Raises Busy where the user has as many connections as it may have."""
        if self._quota_of_user is not None and self._quota_of_user.name == (USER, login.rights.user):
            return  # it counts already
        quota = self._engine.quotas.enter(USER, login.rights.user, self._engine.latest_ms)
        if self._quota_of_user is not None:
            self._engine.quotas.leave(self._quota_of_user)
        self.quotas = tuple(
            each for each in (*self.quotas, quota) if each is not None and each is not self._quota_of_user
        )
        self._quota_of_user = quota
        self.watches = self.watches or bool(self.quotas)

    def end(self) -> None:
        """The connection executes nothing any more."""
        self.note(False, 0, 0)
        self._unread_bytes = None  # it refers to the adapter

    def leave(self) -> None:
        """The connection is closed."""
        for quota in self.quotas:
            self._engine.quotas.leave(quota)
        self.quotas = ()


def refusal(refused: int, head: bytes, size: int) -> bytes | None:
    """The reply `busy` to a request of `size` bytes, by its first ones; None where it is to be served.

    A short one of little work is done: refusing it would cost as much. What gives something back is never refused.
    """
    method = peek_method(head)
    command = COMMANDS.get(method)
    msgid = peek_msgid(head)
    if command is None or msgid is None or command.passes or command.outside:
        return None
    if refused == LONG and size < REFUSED_BYTES_MIN and method not in COSTLY:
        return None
    return head_of(msgid)[:-1] + (_OVERLOADED if refused == LONG else _TOO_FAST)
