"""Parses the URL of a server into an address. Sans-IO.

    naught://HOST[:PORT][/CACHE]              TCP; the default port is 6480, IPv6 hosts are written in brackets
    naught+unix:///PATH.sock[?cache=CACHE]    a Unix socket
    memory://                                 the server's engine in this process, private to this client
    memory://NAME                             the same, shared by all clients of the process with this NAME

Any other URL raises `InvalidRequest`, which names the mistake and the allowed forms.
"""

from __future__ import annotations

from dataclasses import dataclass
from urllib.parse import SplitResult, parse_qsl, unquote, urlsplit

from naught.errors import InvalidRequest
from naught.wire.limits import DEFAULT_PORT

ALLOWED = "allowed are naught://host:port/cache, naught+unix:///path.sock?cache=name, memory:// and memory://name"


@dataclass(frozen=True, slots=True)
class TcpAddress:
    """A server on the network."""

    host: str
    port: int
    cache: str | None = None
    """None for the server's default cache."""

    def __str__(self) -> str:
        host = f"[{self.host}]" if ":" in self.host else self.host
        return f"naught://{host}:{self.port}" + (f"/{self.cache}" if self.cache else "")


@dataclass(frozen=True, slots=True)
class UnixAddress:
    """A server on this machine, through a Unix socket."""

    path: str
    cache: str | None = None

    def __str__(self) -> str:
        return f"naught+unix://{self.path}" + (f"?cache={self.cache}" if self.cache else "")


@dataclass(frozen=True, slots=True)
class MemoryAddress:
    """An engine in this process; `name` is None for an engine that only one client uses."""

    name: str | None = None
    cache: None = None

    def __str__(self) -> str:
        return f"memory://{self.name or ''}"


Address = TcpAddress | UnixAddress | MemoryAddress


def parse_url(url: str) -> Address:
    """Parse a URL.

    >>> parse_url("naught://localhost/orders")
    TcpAddress(host='localhost', port=6480, cache='orders')

    Raises `InvalidRequest` (a ValueError). Costs a few microseconds; no host name is looked up.
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
    if parts.scheme == "naught":
        return _tcp(url, parts)
    if parts.scheme == "naught+unix":
        return _unix(url, parts)
    if parts.scheme == "memory":
        return _memory(url, parts)
    if parts.scheme == "naughts":
        raise _bad(url, "naughts:// (TLS) is not supported yet")
    raise _bad(url, f"unknown scheme {parts.scheme!r}" if parts.scheme else "no scheme")


def _tcp(url: str, parts: SplitResult) -> TcpAddress:
    _no_query(url, parts, "the cache is named by the path")
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


def _unix(url: str, parts: SplitResult) -> UnixAddress:
    if parts.netloc:
        raise _bad(url, f"a Unix socket has no host ({parts.netloc!r}); write three slashes before its path")
    path = _unquoted(url, parts.path)
    if len(path) < 2 or path.endswith("/"):
        raise _bad(url, "no path to a socket")
    return UnixAddress(path, _query_cache(url, parts.query))


def _query_cache(url: str, query: str) -> str | None:
    try:
        pairs = parse_qsl(query, keep_blank_values=True, strict_parsing=bool(query), errors="strict")
    except ValueError as error:
        raise _bad(url, f"bad query {query!r}; cache=NAME is the only parameter") from error
    for name, _ in pairs:
        if name != "cache":
            raise _bad(url, f"unknown parameter {name!r}; cache=NAME is the only one")
    if len(pairs) > 1:
        raise _bad(url, "cache is named more than once")
    if pairs and not pairs[0][1]:
        raise _bad(url, "cache= without a name")
    return pairs[0][1] if pairs else None


def _memory(url: str, parts: SplitResult) -> MemoryAddress:
    _no_query(url, parts, "an engine in memory has one cache")
    if parts.path not in ("", "/"):
        raise _bad(url, "memory:// has a name and no path: an engine in memory has one cache")
    if ":" in parts.netloc:
        raise _bad(url, "memory:// has a name and no port")
    return MemoryAddress(_unquoted(url, parts.netloc) or None)


def _no_query(url: str, parts: SplitResult, hint: str) -> None:
    if parts.query or url.endswith("?"):
        raise _bad(url, f"{parts.scheme}:// has no parameters: {hint}")


def _unquoted(url: str, quoted: str) -> str:
    try:
        return unquote(quoted, errors="strict")
    except UnicodeDecodeError as error:
        raise _bad(url, "the bytes that %xx stands for are not UTF-8") from error


def _bad(url: str, what: str) -> InvalidRequest:
    return InvalidRequest(f"bad URL {url!r}: {what}; {ALLOWED}")
