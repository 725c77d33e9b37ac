"""Who a client is: where user and secret come from, and that a secret is never shown and never pickled."""

from __future__ import annotations

import logging
import pickle
from collections.abc import Awaitable
from typing import Any

import pytest

import naught
from naught.blocking.client import Client as BlockingClient
from naught.core.options import Options
from naught.credentials import Credentials, check_credentials
from naught.errors import InvalidRequest

URL = "naught://counters.test/orders"
SECRET = "hunter2 hunter2"


@pytest.fixture(autouse=True)
def _no_variables(monkeypatch: pytest.MonkeyPatch) -> None:
    for name in ("NAUGHT_URL", "NAUGHT_USER", "NAUGHT_SECRET"):
        monkeypatch.delenv(name, raising=False)


def options_of(url: str | None = URL, **options: Any) -> Options:
    return naught.connect(url, lazy=True, **options)._options


def said(options: Options) -> tuple[str, str | Awaitable[str]] | None:
    found = options.credentials
    return None if found is None else (found.user, found.secret())


def token() -> str:
    """A function of a module is pickled by its name."""
    return "token 12"


def test_nobody_is_said() -> None:
    assert options_of().credentials is None
    assert options_of(user=None, secret=None).credentials is None


def test_the_argument_counts_for_more_than_the_url_and_that_for_more_than_the_environment(
    monkeypatch: pytest.MonkeyPatch,
) -> None:
    assert said(options_of("naught://me:in%20the%20url@host")) == ("me", "in the url")
    assert said(options_of(user="me", secret=SECRET)) == ("me", SECRET)
    assert said(options_of("naught://me:in%20the%20url@host", user="you", secret=SECRET)) == ("you", SECRET)
    assert said(options_of("naught://me@host", secret=SECRET)) == ("me", SECRET)
    monkeypatch.setenv("NAUGHT_USER", "env")
    monkeypatch.setenv("NAUGHT_SECRET", "in the environment")
    assert said(options_of()) == ("env", "in the environment")
    assert said(options_of("naught://me@host")) == ("me", "in the environment")
    assert said(options_of("naught://me:in%20the%20url@host")) == ("me", "in the url")
    assert options_of(user=None).credentials is None, "the program says nobody"
    assert options_of("memory://").credentials is None, "an engine in memory has no users"


def test_a_function_is_asked_when_it_is_needed() -> None:
    answers = iter(("one", "two"))
    credentials = options_of(user="me", secret=lambda: next(answers)).credentials
    assert credentials is not None
    assert [credentials.secret(), credentials.secret()] == ["one", "two"]


@pytest.mark.parametrize(
    ("options", "message"),
    [
        ({"user": "me"}, "the user me has no secret: give it in the URL, as an argument or in NAUGHT_SECRET"),
        ({"secret": SECRET}, "a secret comes with a user"),
        ({"user": 7, "secret": SECRET}, "a user is a str, not int"),
        ({"user": "u" * 65, "secret": SECRET}, "the name of a user has 1 to 64 bytes"),
        ({"user": "me", "secret": 7}, "a secret is a str, not int"),
        ({"user": "me", "secret": b"hunter2"}, "a secret is a str, not bytes"),
        ({"user": "me", "secret": "hunter2" * 600}, "a secret has 1 to 4096 bytes, not 4200"),
        (
            {"user": "me", "secret": "hunter2\ud800"},
            "a secret has a surrogate that stands alone, which is no character",
        ),
        (
            {"user": "\ud800", "secret": SECRET},
            "the name of a user has a surrogate that stands alone, which is no character",
        ),
    ],
)
def test_what_is_wrong(options: dict[str, Any], message: str) -> None:
    with pytest.raises(InvalidRequest, match=message) as refused:
        options_of(**options)
    assert "hunter2" not in str(refused.value)
    assert refused.value.__cause__ is None
    assert refused.value.__suppress_context__ or refused.value.__context__ is None, "an error before it has the text"


def clients() -> list[Any]:
    """Clients of every kind that have a secret. They are lazy, so there is nothing to close."""
    url = "naught://me:hunter2hunter2@counters.test/orders"
    found: list[Any] = [
        naught.connect(url, lazy=True),
        naught.connect(URL, user="me", secret="hunter2hunter2", lazy=True),
        BlockingClient(url, lazy=True),
        BlockingClient(URL, user="me", secret="hunter2hunter2", lazy=True),
    ]
    for client in found:
        client._closed = True
    return found


def test_no_secret_is_in_what_a_client_shows_or_is_pickled_as() -> None:
    for client in clients():
        shown = [repr(client), str(client), repr(getattr(client, "_options", None)), repr(client._address)]
        assert "hunter2" not in "".join(shown)
        pickled = pickle.dumps(client)
        assert b"hunter2" not in pickled
        assert b"me" in pickled


def test_a_client_that_is_unpickled_takes_its_secret_from_the_environment(monkeypatch: pytest.MonkeyPatch) -> None:
    pickled = [pickle.dumps(client) for client in clients()]
    monkeypatch.setenv("NAUGHT_SECRET", "in the environment")
    for each in pickled:
        client = pickle.loads(each)
        options = client._options if isinstance(client, naught.Client) else client._connection._options
        assert said(options) == ("me", "in the environment")
        client._closed = True
    monkeypatch.delenv("NAUGHT_SECRET")
    with pytest.raises(InvalidRequest, match="the user me has no secret here: a client is pickled without it"):
        said(pickle.loads(pickled[0])._options)
    with pytest.raises(InvalidRequest, match="the user me has no secret"):
        pickle.loads(pickled[2])


def test_a_client_that_is_unpickled_has_its_function() -> None:
    for client in (
        naught.connect(URL, user="me", secret=token, lazy=True),
        BlockingClient(URL, user="me", secret=token, lazy=True),
    ):
        again = pickle.loads(pickle.dumps(client))
        options = again._options if isinstance(again, naught.Client) else again._connection._options
        assert said(options) == ("me", "token 12")
        for each in (client, again):
            each._closed = True


def test_credentials_are_equal_by_what_they_are() -> None:
    assert Credentials("me", SECRET) == Credentials("me", SECRET)
    assert hash(Credentials("me", SECRET)) == hash(Credentials("me", SECRET))
    assert Credentials("me", SECRET) != Credentials("me", "another one")
    assert check_credentials("me", SECRET) == Credentials("me", SECRET)
    assert repr(Credentials("me", SECRET)) == "<credentials of me>"


async def test_no_secret_is_in_the_log_or_in_errors(caplog: pytest.LogCaptureFixture) -> None:
    caplog.set_level(logging.DEBUG)
    with pytest.raises(naught.ConnectionFailed) as failed:
        await naught.connect("naught://me:hunter2hunter2@127.0.0.1:1", connect_timeout=0.05)
    assert "127.0.0.1:1" in str(failed.value)
    assert "hunter2" not in str(failed.value) + caplog.text
