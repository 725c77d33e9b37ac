"""Who the client of one connection is: nobody yet, one whose secret is being checked, or a user. Sans-IO.

What a user may do is decided by access.py. Here it is kept for the connection, with the one thing that the connection
has to know before it looks at a request: whether any plain request may be served without asking (`careful`).

On a server without users every client is nobody, and may do everything.
"""

from __future__ import annotations

from collections.abc import Callable
from typing import Final

from naught.errors import CommandError
from naught_server.access import PREFIXES_PER_ENTRY, Access, Attempt, Login, refuse_unknown
from naught_server.commands import Command, credentials_of
from naught_server.params import Params
from naught_server.store import Cache


class Principal:
    """Of one connection."""

    __slots__ = ("_access", "_address", "_always_careful", "attempt", "careful", "login")

    def __init__(self, access: Access, address: str | None, *, careful: bool) -> None:
        """`careful`: look at each request, whichever client asks."""
        self._access: Final = access
        self._address = address  # where the log-ins come from that are slowed together
        self._always_careful: Final = careful
        self.careful = careful or access.required  # some requests may be refused, so each is looked at
        self.login: Login | None = None  # which user it is; None for nobody
        self.attempt: Attempt | None = None  # the log-in of the `hello` that is being served

    def take_uid(self, uid: int) -> None:
        """The client's process is one of this user of the system. That stands for the address, which a Unix socket
        has not: else one process that guesses would slow all."""
        self._address = f"uid {uid}"

    @property
    def is_unknown(self) -> bool:
        """Whether the client must log in before it may do anything."""
        return self.login is None and self._access.required

    @property
    def is_checked(self) -> bool:
        """Whether a secret of the client is being checked."""
        return self.attempt is not None and not self.attempt.settled

    def price_of_rights(self, elements: int) -> int:
        """What `check_rights` costs for a message with so many elements, in entries."""
        login = self.login
        return 0 if login is None else elements * len(login.rights.prefixes) // PREFIXES_PER_ENTRY

    def check_rights(self, method: bytes, command: Command | None, params: Params, cache: Cache) -> None:
        """Raise Denied or Unauthenticated unless the client may ask this."""
        login = self.login
        if login is not None:
            if command is not None:
                login.rights.check(method.decode(), command.rule, params, cache.name)
        elif self._access.required:
            refuse_unknown(None if command is None else command.rule)

    def may_ask(self, method: bytes, command: Command, params: Params, cache: Cache) -> bool:
        """Whether `check_rights` raises nothing."""
        try:
            self.check_rights(method, command, params, cache)
        except CommandError:
            return False
        return True

    def choose_path(self, cache: Cache) -> None:
        """Set `careful`, by the user's rights and the cache that the client works on now."""
        login = self.login
        self.careful = self._always_careful or (
            self._access.required if login is None else not login.rights.serves_hot(cache.name)
        )

    def check_secret(self, params: Params, now_ms: int, on_settled: Callable[[], None]) -> None:
        """Have the secret in a `hello` checked, if there is one and it is not being checked. `on_settled` is called
        when it is known who it is, which may be before this returns."""
        if self.attempt is None and self._access.required:
            credentials = credentials_of(params)
            if credentials is not None:
                self.attempt = self._access.attempt(*credentials, self._address, now_ms, on_settled)

    def renew_attempt(self) -> bool:
        """Before its outcome is taken: the users may have been changed since the secret was checked. Returns whether
        it is refused."""
        attempt = self.attempt
        if attempt is None:
            return False
        attempt.renew(self._access)
        return attempt.fault is not None

    def take_attempt(self) -> Login | None:
        """The user whose secret was checked; None where there was nothing to check. Raises Unauthenticated, Busy."""
        attempt, self.attempt = self.attempt, None
        if attempt is None:
            return None  # a server without users takes any secret
        if attempt.fault is not None:
            raise attempt.fault
        assert attempt.login is not None, "settled"
        return attempt.login

    def drop_attempt(self) -> None:
        """The connection does not wait for it any more."""
        if self.attempt is not None:
            self.attempt.drop()
            self.attempt = None
