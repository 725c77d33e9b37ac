"""Parses the URL of a server into an address. Sans-IO.

    naught://HOST[:PORT][/CACHE]              TCP; the default port is 6480, IPv6 hosts are written in brackets
    naught+unix:///PATH.sock[?cache=CACHE]    a Unix socket
    memory://                                 the server's engine in this process, private to this client
    memory://NAME                             the same, shared by all clients of the process with this NAME

Each may end with options of the client, which hold where the program says nothing else:

    ?timeout=2&connect_timeout=5&lease=5&name=web-3      seconds ("none" for a timeout without limit), and a text

Any other URL raises `InvalidRequest`, which names the mistake and the allowed forms.
"""

from __future__ import annotations

import os
from dataclasses import dataclass
from types import EllipsisType
from typing import Final, NamedTuple
from urllib.parse import SplitResult, parse_qsl, quote, unquote, urlsplit

from naught.errors import InvalidRequest
from naught.wire.limits import DEFAULT_PORT

ALLOWED = "allowed are naught://host:port/cache, naught+unix:///path.sock?cache=name, memory:// and memory://name"

URL_VARIABLE: Final = "NAUGHT_URL"
"""The variable of the environment that names the server where the program does not."""

OPTIONS: Final = ("timeout", "connect_timeout", "lease", "name")
"""The options of a client that a URL may have."""


def _quoted(text: str, safe: str = "") -> str:
    """Text as a part of a URL. A lone surrogate stands for a byte of a path that is not UTF-8, and stays."""
    return "".join(each if "\ud800" <= each <= "\udfff" else quote(each, safe=safe) for each in text)


@dataclass(frozen=True, slots=True)
class TcpAddress:
    """A server on the network."""

    host: str
    port: int
    cache: str | None = None
    """None for the server's default cache."""

    def __str__(self) -> str:
        host = f"[{self.host}]" if ":" in self.host else self.host
        return f"naught://{host}:{self.port}" + (f"/{_quoted(self.cache)}" if self.cache else "")


@dataclass(frozen=True, slots=True)
class UnixAddress:
    """A server on this machine, through a Unix socket."""

    path: str
    cache: str | None = None

    def __str__(self) -> str:
        cache = f"?cache={_quoted(self.cache)}" if self.cache else ""
        return f"naught+unix://{_quoted(self.path, safe='/')}{cache}"


@dataclass(frozen=True, slots=True)
class MemoryAddress:
    """An engine in this process; `name` is None for an engine that only one client uses."""

    name: str | None = None
    cache: None = None

    def __str__(self) -> str:
        return f"memory://{_quoted(self.name or '')}"


Address = TcpAddress | UnixAddress | MemoryAddress


class UrlOptions(NamedTuple):
    """What a URL says of the client; `...` for what it does not say. The ranges are not checked yet."""

    timeout: float | EllipsisType | None = ...
    connect_timeout: float | EllipsisType = ...
    lease: float | EllipsisType | None = ...
    name: str | EllipsisType | None = ...


def url_of_environment() -> str:
    """The URL in the variable NAUGHT_URL. Raises `InvalidRequest` where there is none."""
    url = os.environ.get(URL_VARIABLE)
    if not url:
        raise InvalidRequest(f"no URL is given and {URL_VARIABLE} is not set in the environment; {ALLOWED}")
    return url


def parse_url(url: str) -> Address:
    """Parse a URL, and leave out its options.

    >>> parse_url("naught://localhost/orders")
    TcpAddress(host='localhost', port=6480, cache='orders')

    Raises `InvalidRequest` (a ValueError). Costs a few microseconds; no host name is looked up.
    """
    return parse(url)[0]


def parse(url: str) -> tuple[Address, UrlOptions]:
    """Parse a URL into an address and the options of the client. Raises `InvalidRequest`.

    >>> parse("naught://localhost/orders?timeout=2")[1].timeout
    2.0
    """
    if not isinstance(url, str):
        raise InvalidRequest(f"a URL is a str, not {type(url).__name__}; {ALLOWED}")
    try:
        parts = urlsplit(url)
    except ValueError as error:
        raise _bad(url, str(error)) from error
    if parts.fragment or "#" in url:
        raise _bad(url, "a URL has no fragment")
    if "@" in parts.netloc:
        # The message does not contain the URL, which may contain a password.
        raise InvalidRequest(f"a URL has no user or password, because authentication is not supported yet; {ALLOWED}")
    if parts.scheme in ("naught", "naught+unix", "memory"):
        words = _query(url, parts)
        if parts.scheme == "naught+unix":
            return _unix(url, parts, words.pop("cache", None)), _options(url, words)
        if "cache" in words:
            raise _bad(
                url,
                "the cache is named by the path"
                if parts.scheme == "naught"
                else "an engine in memory has one cache, which has no name",
            )
        address = _tcp(url, parts) if parts.scheme == "naught" else _memory(url, parts)
        return address, _options(url, words)
    if parts.scheme == "naughts":
        raise _bad(url, "naughts:// (TLS) is not supported yet")
    raise _bad(url, f"unknown scheme {parts.scheme!r}" if parts.scheme else "no scheme")


def _tcp(url: str, parts: SplitResult) -> TcpAddress:
    try:
        port = parts.port
    except ValueError as error:
        raise _bad(url, "a port is from 1 to 65535") from error
    if port == 0 or parts.netloc.endswith(":"):
        raise _bad(url, "a port is from 1 to 65535")
    host = parts.hostname
    if not host:
        raise _bad(url, "no host")
    return TcpAddress(host, port or DEFAULT_PORT, _path_cache(url, parts.path))


def _path_cache(url: str, path: str) -> str | None:
    cache = path[1:]
    if "/" in cache:
        raise _bad(url, "a path has one part, the name of a cache")
    return _unquoted(url, cache) or None


def _unix(url: str, parts: SplitResult, cache: str | None) -> UnixAddress:
    if parts.netloc:
        raise _bad(url, f"a Unix socket has no host ({parts.netloc!r}); write three slashes before its path")
    path = _unquoted(url, parts.path)
    if not path.startswith("/") and path:
        raise _bad(url, f"a path to a socket begins with a slash, which {path!r} does not; write three slashes")
    if len(path) < 2 or path.endswith("/"):
        raise _bad(url, "no path to a socket")
    return UnixAddress(path, cache)


def _query(url: str, parts: SplitResult) -> dict[str, str]:
    """The parameters behind the question mark, by name."""
    if not parts.query:
        if url.endswith("?"):
            raise _bad(url, "nothing follows the question mark")
        return {}
    known = [*OPTIONS, "cache"] if parts.scheme == "naught+unix" else OPTIONS
    try:
        pairs = parse_qsl(parts.query, keep_blank_values=True, strict_parsing=True, errors="strict")
    except ValueError as error:
        raise _bad(url, f"bad query {parts.query!r}; write name=value, with & between") from error
    words: dict[str, str] = {}
    for name, value in pairs:
        if name not in known and name != "cache":
            raise _bad(url, f"unknown parameter {name!r}; there are {', '.join(known)}")
        if name in words:
            raise _bad(url, f"{name} is said more than once")
        if not value:
            raise _bad(url, f"{name}= without a value")
        words[name] = value
    return words


def _options(url: str, words: dict[str, str]) -> UrlOptions:
    said: dict[str, float | str | None] = {}
    for name, value in words.items():
        if name == "name":
            said[name] = value
        elif value == "none" and name == "timeout":
            said[name] = None
        else:
            try:
                said[name] = float(value)
            except ValueError as error:
                raise _bad(url, f"{name} is a number of seconds, not {value!r}") from error
    return UrlOptions(**said)  # type: ignore[arg-type]


def _memory(url: str, parts: SplitResult) -> MemoryAddress:
    if parts.path not in ("", "/"):
        raise _bad(url, "memory:// has a name and no path: an engine in memory has one cache")
    if ":" in parts.netloc:
        raise _bad(url, "memory:// has a name and no port")
    return MemoryAddress(_unquoted(url, parts.netloc) or None)


def _unquoted(url: str, quoted: str) -> str:
    try:
        return unquote(quoted, errors="strict")
    except UnicodeDecodeError as error:
        raise _bad(url, "the bytes that %xx stands for are not UTF-8") from error


def _bad(url: str, what: str) -> InvalidRequest:
    return InvalidRequest(f"bad URL {url!r}: {what}; {ALLOWED}")
