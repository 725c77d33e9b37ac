"""Parsing of URLs: the address of each good one, and the error message for each bad one."""

from __future__ import annotations

import traceback
from typing import Any

import pytest

from naught.errors import InvalidRequest
from naught.url import (
    Address,
    MemoryAddress,
    TcpAddress,
    UnixAddress,
    parse,
    parse_url,
    without_secret,
)
from support.each import for_each

GOOD: dict[str, Address] = {
    "naught://localhost": TcpAddress("localhost", 6480),
    "naught://localhost/": TcpAddress("localhost", 6480),
    "naught://localhost:7000/orders": TcpAddress("localhost", 7000, "orders"),
    "naught://10.0.0.1:65535/a%20b": TcpAddress("10.0.0.1", 65535, "a b"),
    "NAUGHT://Example.org:1/Orders": TcpAddress("example.org", 1, "Orders"),
    "naught://[::1]:6481/x": TcpAddress("::1", 6481, "x"),
    "naught://[fe80::1%25eth0]": TcpAddress("fe80::1%eth0", 6480),
    "naught://[fe80::1%eth0]": TcpAddress("fe80::1%eth0", 6480),
    f"naught+unix:///{'s' * 102}": UnixAddress(f"/{'s' * 102}"),
    "naughts://localhost/orders": TcpAddress("localhost", 6480, "orders", tls=True),
    "naughts://[::1]:7000?ca=/ca.pem": TcpAddress("::1", 7000, tls=True),
    "naught+unix:///run/naught.sock": UnixAddress("/run/naught.sock"),
    "naught+unix:///run/naught.sock?cache=orders": UnixAddress("/run/naught.sock", "orders"),
    "naught+unix:///run/a%3Fb.sock?cache=a%26b": UnixAddress("/run/a?b.sock", "a&b"),
    "memory://": MemoryAddress(),
    "memory://shared": MemoryAddress("shared"),
    "memory://shared/": MemoryAddress("shared"),
}

BAD: dict[str, str] = {
    "": "no scheme",
    "localhost:6480": "unknown scheme 'localhost'",
    "/run/naught.sock": "no scheme",
    "redis://localhost": "unknown scheme 'redis'",
    "naughts://localhost?key=k": "a key comes with a certificate",
    "naught://localhost?ca=c": "unknown parameter 'ca'",
    f"naught+unix:///{'s' * 107}": "a path to a socket has up to",
    "naught+unix:///run/%00.sock": "none of them is 0",
    "naught://": "no host",
    "naught://:6480": "no host",
    "naught:///orders": "no host",
    "naught://localhost:0": "a port is from 1 to 65535",
    "naught://localhost:65536": "a port is from 1 to 65535",
    "naught://localhost:port": "a port is from 1 to 65535",
    "naught://localhost:": "a port is from 1 to 65535",
    "naught://localhost/a/b": "one part",
    "naught://localhost/%ff": "UTF-8",
    "naught://localhost?cache=a": "named by the path",
    "naught://localhost?": "nothing follows",
    "naught://localhost?timeout=soon": "timeout is a number of seconds, not 'soon'",
    "naught://localhost?timeout=1&timeout=2": "timeout is said more than once",
    "naught://localhost?connect_timeout=none": "connect_timeout is a number of seconds",
    "naught://localhost?db=3": "unknown parameter 'db'; there are timeout, connect_timeout, lease, name",
    "naught://localhost?name=": "name= without a value",
    "naught://localhost/#a": "no fragment",
    "naught://[::1": "Invalid IPv6 URL",
    "naught://:hunter2@localhost": "written user:secret@host",
    "naught://me:@localhost": "written user:secret@host",
    "naught://@localhost": "written user:secret@host",
    "naught://[::1]:@]": "host cannot be read",
    "naught://a b": "host cannot be read",
    "memory://me:hunter2@name": "no users",
    "naught+unix://host/run/naught.sock": "three slashes",
    "naught+unix:run/naught.sock": "begins with a slash",
    "naught+unix://": "no path",
    "naught+unix:///": "no path",
    "naught+unix:///run/": "no path",
    "naught+unix:///run/a.sock?cach=a": "unknown parameter 'cach'",
    "naught+unix:///run/a.sock?cache": "bad query",
    "naught+unix:///run/a.sock?cache=": "without a value",
    "naught+unix:///run/a.sock?cache=a&cache=b": "more than once",
    "memory://a/b": "no path",
    "memory://a:1": "no port",
    "memory://?cache=a": "has one cache, which has no name",
}


@for_each(("url", "address"), GOOD.items())
def test_a_good_url_says_where(url: str, address: Address) -> None:
    assert parse_url(url) == address


@for_each(("url", "what"), BAD.items())
def test_a_bad_url_says_what_is_wrong_and_what_is_allowed(url: str, what: str) -> None:
    with pytest.raises(InvalidRequest) as caught:
        parse_url(url)
    assert what in str(caught.value)
    assert "allowed are naught://host:port/cache" in str(caught.value)
    assert isinstance(caught.value, ValueError)


# What people write, and get wrong.
WITH_SECRETS = [
    "naught://me:hunter2@localhost:0",
    "naught://me:hunter2@localhost/a/b",
    "naught://me:hunter2@localhost?db=3",
    "naught://me:hunter2@[::1",
    "naught://me:hun/ter2/hunter2@localhost",
    "naught://me:hunter2/x@localhost",
    "naught://me:hunter2#x@localhost",
    "naught://me:hunter2?x@localhost",
    "naught://me:h@unter2:hunter2@localhost:x",
    "naught://me:%ff-hunter2@localhost",
    "naught://me:\u2100hunter2@localhost",
    "redis://me:hunter2@localhost",
    "naught+unix://me:hunter2@host/run/naught.sock",
    "naught+unix://me:hunter2@/",
    "memory://me:hunter2@name",
    "memory://me:hunter2@",
]


@pytest.mark.parametrize("url", WITH_SECRETS)
def test_no_error_repeats_a_secret(url: str) -> None:
    with pytest.raises(InvalidRequest) as caught:
        parse(url)
    text = "".join(traceback.format_exception(caught.value))
    shown = text.replace(repr(url), "").replace(url, "")  # the lines of this file
    assert "hunter2" not in str(caught.value) + shown
    assert "hunter2" not in without_secret(url)


@pytest.mark.parametrize(
    ("url", "user", "secret", "address"),
    [
        ("naught://me:hunter2@localhost/orders", "me", "hunter2", "naught://localhost:6480/orders"),
        ("naught://me:hunter2@[::1]:7000", "me", "hunter2", "naught://[::1]:7000"),
        ("naught://m%40e:h%3Aun%2Fter%402@localhost", "m@e", "h:un/ter@2", "naught://localhost:6480"),
        ("naught://me:a:b@localhost", "me", "a:b", "naught://localhost:6480"),
        ("naught+unix://me:hunter2@/run/a.sock?cache=x", "me", "hunter2", "naught+unix:///run/a.sock?cache=x"),
        ("naught://me@localhost", "me", ..., "naught://localhost:6480"),
        ("naught://localhost", ..., ..., "naught://localhost:6480"),
    ],
)
def test_user_and_secret(url: str, user: Any, secret: Any, address: str) -> None:
    found, said = parse(url)
    assert (said.user, said.secret) == (user, secret)
    assert str(found) == address
    assert "hunter2" not in repr((found, said))


@pytest.mark.parametrize("url", [None, b"naught://localhost", 6480])
def test_a_url_is_text(url: Any) -> None:
    with pytest.raises(InvalidRequest, match="a URL is a str"):
        parse_url(url)


@pytest.mark.parametrize("address", [*GOOD.values(), TcpAddress("h", 1, "é/ ?&%"), UnixAddress("/run/é \udcff#")])
def test_an_address_prints_as_its_url(address: Address) -> None:
    printed = str(address)
    assert printed.startswith(("naught://", "naughts://", "naught+unix:///", "memory://"))
    assert parse_url(printed) == address
