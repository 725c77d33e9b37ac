"""Who a client is to a server with users: a user, and where its secret comes from. Sans-IO.

A secret is a text, or a function that is called at each attempt to connect and returns one or an awaitable of one: so
a token that changes is read anew. It is never shown, and never pickled: a client that is unpickled elsewhere takes
its secret from the environment there, or from the function.
"""

from __future__ import annotations

import os
from collections.abc import Awaitable, Callable
from types import EllipsisType
from typing import Any, Final

from naught.errors import InvalidRequest
from naught.wire.limits import SECRET_BYTES_MAX, USER_BYTES_MAX

USER_VARIABLE: Final = "NAUGHT_USER"
SECRET_VARIABLE: Final = "NAUGHT_SECRET"
"""The variables of the environment that say both where the program and the URL do not."""

Secret = str | Callable[[], str | Awaitable[str]]
"""A secret, or what is called for it at each attempt to connect."""


class Credentials:
    """A user and its secret."""

    __slots__ = ("_secret", "user")

    def __init__(self, user: str, secret: Secret | None = None) -> None:
        """None: the environment says it, when it is asked for."""
        self.user: Final = user
        self._secret: Final = secret

    def secret(self) -> str | Awaitable[str]:
        """The secret for one attempt. Raises InvalidRequest where there is none, and what the function raises."""
        if self._secret is not None:
            return self._secret if isinstance(self._secret, str) else self._secret()
        said = os.environ.get(SECRET_VARIABLE)
        if not said:
            raise InvalidRequest(
                f"the user {self.user} has no secret here: a client is pickled without it, and {SECRET_VARIABLE} is "
                "not set in the environment"
            )
        return said

    def check(self) -> None:
        """Raises InvalidRequest where there is no secret, and none in the environment. Calls no function."""
        if self._secret is None:
            self.secret()

    def __eq__(self, other: object) -> bool:
        return isinstance(other, Credentials) and (self.user, self._secret) == (other.user, other._secret)

    def __hash__(self) -> int:
        return hash((self.user, self._secret))

    def __repr__(self) -> str:
        return f"<credentials of {self.user}>"

    def __reduce__(self) -> tuple[Any, ...]:
        return Credentials, (self.user, self._secret if callable(self._secret) else None)


def text_as_sent(value: str) -> bytes:
    """A text as `hello` sends it, in UTF-8. Bytes that were not UTF-8 (surrogateescape) are sent as they were."""
    return value.encode("utf-8", "surrogateescape")


def check_secret(secret: object) -> str:
    """A secret that was given or returned. Raises InvalidRequest, which does not say it."""
    if not isinstance(secret, str):
        raise InvalidRequest(f"a secret is a str, not {type(secret).__name__}")
    size = _size("a secret", secret)
    if not 1 <= size <= SECRET_BYTES_MAX:
        raise InvalidRequest(f"a secret has 1 to {SECRET_BYTES_MAX} bytes, not {size}")
    return secret


def _size(what: str, value: str) -> int:
    """Bytes of a text as `hello` has it. Raises InvalidRequest, which does not say the text, where it has none."""
    try:
        return len(text_as_sent(value))
    except UnicodeEncodeError:
        raise InvalidRequest(f"{what} has a surrogate that stands alone, which is no character") from None


def check_credentials(
    user: str | EllipsisType | None,
    secret: Secret | EllipsisType | None,
    said: tuple[str | EllipsisType, str | EllipsisType] = (..., ...),
) -> Credentials | None:
    """From arguments, what the URL has said, and the environment. None for no user. Raises InvalidRequest."""
    given = _first(user, said[0], os.environ.get(USER_VARIABLE))
    if given is None or given == "":
        if not (isinstance(secret, EllipsisType) or secret is None):
            raise InvalidRequest("a secret comes with a user")
        return None
    if not isinstance(given, str):
        raise InvalidRequest(f"a user is a str, not {type(given).__name__}")
    if not 1 <= _size("the name of a user", given) <= USER_BYTES_MAX:
        raise InvalidRequest(f"the name of a user has 1 to {USER_BYTES_MAX} bytes")
    found = _first(secret, said[1], os.environ.get(SECRET_VARIABLE))
    if found is None or found == "":
        raise InvalidRequest(
            f"the user {given} has no secret: give it in the URL, as an argument or in {SECRET_VARIABLE}"
        )
    return Credentials(given, found if callable(found) else check_secret(found))


def _first(argument: Any, said: Any, default: Any) -> Any:
    """What the program says, or the URL, or the environment."""
    if not isinstance(argument, EllipsisType):
        return argument
    return default if isinstance(said, EllipsisType) else said
