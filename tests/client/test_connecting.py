"""What `connect` takes: a URL, the variable NAUGHT_URL, options in the URL, and which of them counts."""

from __future__ import annotations

import asyncio
import ssl
import subprocess
import sys
from typing import Any

import pytest

import naught
from naught.core.options import Options, check_options
from naught.url import TlsFiles, parse, parse_url


def options_of(url: str | None = None, **options: Any) -> Options:
    return naught.connect(url, lazy=True, **options)._options  # type: ignore[call-overload,no-any-return]


def test_the_variable_of_the_environment_names_the_server(monkeypatch: pytest.MonkeyPatch) -> None:
    monkeypatch.setenv("NAUGHT_URL", "naught://counters.test/orders?timeout=3")
    options = options_of()
    assert (str(options.address), options.timeout) == ("naught://counters.test:6480/orders", 3.0)
    assert str(options_of("memory://other").address) == "memory://other", "an argument counts for more"


@pytest.mark.parametrize("value", [None, ""])
def test_without_a_url_it_says_what_to_do(value: str | None, monkeypatch: pytest.MonkeyPatch) -> None:
    monkeypatch.delenv("NAUGHT_URL", raising=False)
    if value is not None:
        monkeypatch.setenv("NAUGHT_URL", value)
    with pytest.raises(
        naught.InvalidRequest, match="NAUGHT_URL is not set in the environment; allowed are naught://"
    ):
        naught.connect()


@pytest.mark.parametrize(
    "address", ["naught://localhost/orders", "naught+unix:///run/naught.sock", "memory://", "memory://shared"]
)
def test_a_url_may_have_options(address: str) -> None:
    options = options_of(f"{address}?timeout=2&connect_timeout=0.5&lease=7&name=web%203")
    assert options[:5] == (parse_url(address), 2.0, 0.5, True, 7_000)
    assert options.name == "web 3"
    assert options_of(f"{address}?timeout=none").timeout is None


def test_a_cache_and_options_of_a_unix_socket() -> None:
    options = options_of("naught+unix:///run/naught.sock?cache=orders&name=web-3")
    assert (options.address.cache, options.name) == ("orders", "web-3")


def test_an_argument_counts_for_more_than_the_url_and_the_url_for_more_than_the_default() -> None:
    url = "memory://?timeout=2&connect_timeout=3&lease=7&name=web-3"
    options = options_of(url, timeout=None, connect_timeout=4, lease=None, name=None)
    assert (options.timeout, options.connect_timeout, options.lease_ms, options.name) == (None, 4.0, None, None)
    options = check_options("memory://")
    assert (options.timeout, options.connect_timeout, options.lease_ms, options.name) == (1.0, 5.0, None, None)
    assert parse("memory://")[1] == (..., ..., ..., ..., ..., ..., None)


@pytest.mark.parametrize(
    ("options", "named"),
    [
        ({"timeout": -1}, "timeout is"),
        ({"timeout": float("inf")}, "timeout is"),
        ({"connect_timeout": 0}, "connect_timeout is"),
        ({"connect_timeout": -1}, "connect_timeout is"),
        ({"connect_timeout": "5"}, "connect_timeout is"),
        ({"lease": "5"}, "lease is"),
        ({"lease": 0}, "lease is"),
        ({"name": 5}, "a name is"),
        ({"session": 1}, "session is"),
        ({"lazy": 1}, "lazy is"),
        ({"decode_keys": "no"}, "decode_keys is"),
        ({"random": 5}, "random is"),
    ],
)
def test_an_error_names_the_argument(options: dict[str, Any], named: str) -> None:
    for make in (naught.connect, naught.blocking.Client):
        with pytest.raises(naught.InvalidRequest, match=named):
            make("memory://", **options)


def test_a_context_of_tls_is_for_a_url_that_has_tls_and_says_nothing_more_of_it() -> None:
    context = ssl.create_default_context()
    assert options_of("naughts://counters.test", tls=context).tls is context
    files = options_of("naughts://counters.test?ca=ca.pem").tls
    assert isinstance(files, TlsFiles)
    assert files.ca == "ca.pem"
    for url in ("naught://counters.test", "naught+unix:///run/naught.sock", "memory://"):
        with pytest.raises(naught.InvalidRequest, match="tls is for naughts://, and the URL is"):
            options_of(url, tls=context)
    for said in ("ca=ca.pem", "cert=me.pem", "cert=me.pem&key=key.pem"):
        with pytest.raises(naught.InvalidRequest, match="leave out ca, cert and key of the URL"):
            options_of(f"naughts://counters.test?{said}", tls=context)


@pytest.mark.parametrize("query", ["timeout=-1", "timeout=inf", "lease=500", "connect_timeout=0", "name=%00"])
def test_an_option_of_the_url_is_checked_as_the_argument_is(query: str) -> None:
    option, _, _ = query.partition("=")
    with pytest.raises(naught.InvalidRequest, match="name has no" if option == "name" else option):
        naught.connect(f"memory://?{query}")


async def test_the_name_of_the_url_is_seen_by_operators() -> None:
    async with naught.connect("memory://?name=web-3") as counters:
        assert [each["name"] for each in await counters.sessions()] == ["web-3"]


def test_the_patterns_and_the_middlewares_are_at_the_top() -> None:
    for name in ("Semaphore", "WaitGroup", "Reference", "InFlight", "Quota", "Permit", "NoPermit", "asgi", "wsgi"):
        assert name in naught.__all__
        assert name in dir(naught)
        assert getattr(naught, name)
    with pytest.raises(AttributeError, match="no attribute 'nothing'"):
        naught.nothing  # type: ignore[attr-defined]  # noqa: B018


def test_a_middleware_is_imported_when_it_is_used() -> None:
    program = (
        "import sys, naught; before = 'naught.asgi' in sys.modules, 'naught.wsgi' in sys.modules;"
        "print(before, naught.asgi.InFlightLimit.__module__, naught.wsgi.InFlightLimit.__module__)"
    )
    ended = subprocess.run([sys.executable, "-c", program], capture_output=True, text=True, check=True)
    assert ended.stdout == "(False, False) naught.asgi naught.wsgi\n"


async def test_errors_name_the_counter() -> None:
    async with naught.connect("memory://") as counters:
        await counters.set("seats:42", 2**63 - 1)
        with pytest.raises(naught.CounterOverflow, match="incr 'seats:42': the value would pass"):
            await counters.incr("seats:42")
        with pytest.raises(naught.CounterUnderflow, match="decr 'gone': the counter has less"):
            await counters.decr("gone", strict=True)
        with pytest.raises(naught.InvalidRequest, match="throttle 'calls': by is at most 2"):
            await counters.throttle("calls", 2, 1_000, 2, 3)
        with pytest.raises(naught.NoSession, match="acquire 'a', 'b', 'c' and 2 more: acquire needs a session"):
            async with naught.connect("memory://", session=False) as without:
                await without.acquire([(key, 1, 1) for key in "abcde"])


async def test_a_throttled_call_is_as_true_as_its_grant() -> None:
    async with naught.connect("memory://") as counters:
        first, second = await counters.throttle("calls", 1, 60_000), await counters.throttle("calls", 1, 60_000)
        assert first
        assert not second
        assert (first.granted, first.remaining, first.retry_after) == (True, 0, 0.0)
        assert 59 < second.retry_after <= second.reset_after <= 60
        assert (await counters.throttle("calls", 1, 60_000, by=0)).remaining == 0
        await counters.expire("calls", None)
        never = await counters.throttle("calls", 1, 60_000)
        assert (never.retry_after, never.reset_after) == (float("inf"), float("inf"))


async def test_when_to_come_back_depends_on_how_much_is_wanted() -> None:
    async with naught.connect("memory://") as counters:
        quota = counters.quota("q", limit=5, per=60)
        assert await quota.use(3)
        assert not await quota.use(3)
        assert await quota.retry_after() == await quota.retry_after(2) == 0.0
        assert 59 < await quota.retry_after(3) <= 60
        for impossible in (quota.use(6), quota.retry_after(6)):
            with pytest.raises(naught.InvalidRequest, match="n is up to 5, the limit of the quota 'q', not 6"):
                await impossible


async def test_a_client_that_was_closed_is_not_entered() -> None:
    for lazy in (False, True):
        client = naught.connect("memory://", lazy=True) if lazy else await naught.connect("memory://")
        async with client:
            pass
        with pytest.raises(naught.ClientClosed, match="the client is closed"):
            await client.__aenter__()


def test_nor_is_one_of_another_loop() -> None:
    client = naught.connect("memory://", lazy=True)

    async def use() -> None:
        await client.ping()

    with asyncio.Runner() as first, asyncio.Runner() as second:
        first.run(use())
        with pytest.raises(naught.WrongLoop, match="belongs to another event loop"):
            second.run(client.__aenter__())
        first.run(client.close())


def test_nor_is_one_for_threads() -> None:
    for lazy in (False, True):
        with naught.blocking.Client("memory://", lazy=lazy) as client:
            pass
        with pytest.raises(naught.ClientClosed, match="the client is closed"):
            client.__enter__()
