"""Users for tests, with secrets that are compared at once."""

from __future__ import annotations

from typing import Any

from naught.wire.codec import encode_request
from naught_server.access import Role, User
from naught_server.secret_hash import PlainSecret
from support.conversation import Conversation, decoded

SECRET = "correct horse"


def user(name: str = "orders", role: Role = "write", *, secret: str = SECRET, **bounds: Any) -> User:
    """A user with this secret."""
    return User(name, role, (PlainSecret(secret.encode()),), **bounds)


def hello(name: Any = "orders", secret: Any = SECRET, **words: Any) -> bytes:
    """The request that logs in. Its msgid is 0."""
    return encode_request(0, "hello", ({"user": name, "secret": secret, **words},))


def logged_in(engine: Any, name: str = "orders", secret: str = SECRET, **words: Any) -> Conversation:
    """A connection of this user."""
    here = Conversation(engine, peer="10.0.0.9")
    ((_, _, error, result),) = decoded(here.send(hello(name, secret, **words)))
    assert error is None, error
    assert result[b"user"] == name.encode()
    return here
