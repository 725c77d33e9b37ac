"""Parses the URL of a server into an address. Sans-IO.

    naught://[USER:SECRET@]HOST[:PORT][/CACHE]           TCP; the default port is 6480, IPv6 hosts have brackets
    naughts://[USER:SECRET@]HOST[:PORT][/CACHE]          the same with TLS
    naught+unix://[USER:SECRET@]/PATH.sock[?cache=CACHE] a Unix socket
    memory://                                            the server's engine in this process, private to this client
    memory://NAME                                        the same, shared by all clients of the process with this NAME

Each may end with options of the client, which hold where the program says nothing else:

    ?timeout=2&connect_timeout=5&lease=5&name=web-3      seconds ("none" for a timeout without limit), and a text
    ?ca=FILE&cert=FILE&key=FILE                          of naughts://: whom to trust, unless the system says it; and
                                                         the certificate and key of the client, where it has one

Any other URL raises `InvalidRequest`, which names the mistake and the allowed forms. User and secret are no part of
an address, and no message shows a secret: of a URL that may have one, only what is behind it is shown.
"""

from __future__ import annotations

import os
import re
import sys
from types import EllipsisType
from typing import Any, Final, NamedTuple
from urllib.parse import SplitResult, parse_qsl, quote, unquote, urlsplit

from naught.errors import InvalidRequest
from naught.wire.limits import DEFAULT_PORT

ALLOWED = (
    "allowed are naught://host:port/cache, naughts://host:port/cache, naught+unix:///path.sock?cache=name, memory:// "
    "and memory://name"
)

URL_VARIABLE: Final = "NAUGHT_URL"
"""The variable of the environment that names the server where the program does not."""

OPTIONS: Final = ("timeout", "connect_timeout", "lease", "name")
"""The options of a client that a URL may have."""

TLS_OPTIONS: Final = ("ca", "cert", "key")
"""Options that only a URL of naughts:// may have: files in PEM."""


SOCKET_PATH_BYTES_MAX: Final = 103 if sys.platform == "darwin" else 107
"""What the system has room for in the address of a Unix socket."""


def _quoted(text: str, safe: str = "") -> str:
    """Text as a part of a URL. A lone surrogate stands for a byte of a path that is not UTF-8, and stays."""
    return "".join(each if "\ud800" <= each <= "\udfff" else quote(each, safe=safe) for each in text)


class TcpAddress(NamedTuple):
    """A server on the network."""

    host: str
    port: int
    cache: str | None = None
    """None for the server's default cache."""
    tls: bool = False

    def __str__(self) -> str:
        host = f"[{self.host.replace('%', '%25')}]" if ":" in self.host else self.host
        tls = "s" if self.tls else ""
        return f"naught{tls}://{host}:{self.port}" + (f"/{_quoted(self.cache)}" if self.cache else "")


class UnixAddress(NamedTuple):
    """A server on this machine, through a Unix socket."""

    path: str
    cache: str | None = None

    def __str__(self) -> str:
        cache = f"?cache={_quoted(self.cache)}" if self.cache else ""
        return f"naught+unix://{_quoted(self.path, safe='/')}{cache}"


class MemoryAddress(NamedTuple):
    """An engine in this process; `name` is None for an engine that only one client uses."""

    name: str | None = None
    cache: None = None

    def __str__(self) -> str:
        return f"memory://{_quoted(self.name or '')}"


Address = TcpAddress | UnixAddress | MemoryAddress


class TlsFiles(NamedTuple):
    """The files of TLS, in PEM; None for what is not said."""

    ca: str | None = None
    """Whose certificates a server must have; None for those that the system trusts."""
    cert: str | None = None
    """The client's own certificate."""
    key: str | None = None
    """Its key, where it is not in the same file."""


class UrlOptions(NamedTuple):
    """What a URL says of the client; `...` for what it does not say. The ranges are not checked yet."""

    timeout: float | EllipsisType | None = ...
    connect_timeout: float | EllipsisType = ...
    lease: float | EllipsisType | None = ...
    name: str | EllipsisType | None = ...
    user: str | EllipsisType = ...
    secret: Hidden | EllipsisType = ...
    tls: TlsFiles | None = None


class Hidden(str):
    """A text that is not shown."""

    __slots__ = ()

    def __repr__(self) -> str:
        return "'...'"


_USERINFO: Final = re.compile(r"//.*:.*@", re.DOTALL)


def without_secret(url: str) -> str:
    """The URL as it may be shown.

    >>> without_secret("naught://orders:hunter2@localhost/orders")
    'naught://...@localhost/orders'

    What may be a secret is left out in URLs of any form, also where it has characters that end it too early.
    """
    return _USERINFO.sub("//...@", url)


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
        if "@" in url:  # the message may have a part of the secret
            raise _bad(url, "user, secret or host cannot be read") from None
        raise _bad(url, str(error)) from error
    if parts.fragment or "#" in url:
        raise _bad(url, "a URL has no fragment")
    if "@" in parts.netloc and parts.scheme == "memory":
        raise _bad(url, "an engine in memory has no users")
    if parts.scheme in ("naught", "naughts", "naught+unix", "memory"):
        words = _query(url, parts)
        if parts.scheme == "naught+unix":
            return _unix(url, parts, words.pop("cache", None)), _options(url, parts, words)
        if "cache" in words:
            raise _bad(
                url,
                "the cache is named by the path"
                if parts.scheme in ("naught", "naughts")
                else "an engine in memory has one cache, which has no name",
            )
        address = _memory(url, parts) if parts.scheme == "memory" else _tcp(url, parts)
        return address, _options(url, parts, words)
    raise _bad(url, f"unknown scheme {parts.scheme!r}" if parts.scheme else "no scheme")


def _tcp(url: str, parts: SplitResult) -> TcpAddress:
    try:
        port = parts.port
    except ValueError:  # its message may have a part of a secret
        raise _bad(url, "a port is from 1 to 65535") from None
    if port == 0 or parts.netloc.endswith(":"):
        raise _bad(url, "a port is from 1 to 65535")
    host = parts.hostname
    if not host:
        raise _bad(url, "no host")
    if any(each in "[]" or each.isspace() for each in host):
        raise _bad(url, "the host cannot be read")
    if ":" in host:
        host = host.replace("%25", "%", 1)  # before the zone of an address (RFC 6874)
    return TcpAddress(host, port or DEFAULT_PORT, _path_cache(url, parts.path), parts.scheme == "naughts")


def _path_cache(url: str, path: str) -> str | None:
    cache = path[1:]
    if "/" in cache:
        raise _bad(url, "a path has one part, the name of a cache")
    return _unquoted(url, cache) or None


def _unix(url: str, parts: SplitResult, cache: str | None) -> UnixAddress:
    host = parts.netloc.rpartition("@")[2]
    if host:
        raise _bad(url, f"a Unix socket has no host ({host!r}); write three slashes before its path")
    path = _unquoted(url, parts.path)
    if not path.startswith("/") and path:
        raise _bad(url, f"a path to a socket begins with a slash, which {path!r} does not; write three slashes")
    if len(path) < 2 or path.endswith("/"):
        raise _bad(url, "no path to a socket")
    # What is too long or has a NUL is cut by some event loops, and names another socket then.
    if "\0" in path or len(os.fsencode(path)) > SOCKET_PATH_BYTES_MAX:
        raise _bad(url, f"a path to a socket has up to {SOCKET_PATH_BYTES_MAX} bytes, and none of them is 0")
    return UnixAddress(path, cache)


def _query(url: str, parts: SplitResult) -> dict[str, str]:
    """The parameters behind the question mark, by name."""
    if not parts.query:
        if url.endswith("?"):
            raise _bad(url, "nothing follows the question mark")
        return {}
    known = {"naught+unix": (*OPTIONS, "cache"), "naughts": (*OPTIONS, *TLS_OPTIONS)}.get(parts.scheme, OPTIONS)
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


def _options(url: str, parts: SplitResult, words: dict[str, str]) -> UrlOptions:
    said: dict[str, Any] = dict(_userinfo(url, parts))
    if parts.scheme == "naughts":
        files = TlsFiles(*(words.pop(name, None) for name in TLS_OPTIONS))
        if files.key is not None and files.cert is None:
            raise _bad(url, "a key comes with a certificate: cert=FILE&key=FILE")
        said["tls"] = files
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
    return UrlOptions(**said)


def _userinfo(url: str, parts: SplitResult) -> dict[str, str]:
    """User and secret, as far as the URL has them."""
    userinfo, at, _ = parts.netloc.rpartition("@")
    if not at:
        return {}
    user, colon, secret = userinfo.partition(":")
    if not user or (colon and not secret):
        raise _bad(url, "a user and a secret are written user:secret@host")
    found: dict[str, str] = {"user": _unquoted(url, user)}
    if colon:
        found["secret"] = Hidden(_unquoted(url, secret))
    return found


def _memory(url: str, parts: SplitResult) -> MemoryAddress:
    if parts.path not in ("", "/"):
        raise _bad(url, "memory:// has a name and no path: an engine in memory has one cache")
    if ":" in parts.netloc:
        raise _bad(url, "memory:// has a name and no port")
    return MemoryAddress(_unquoted(url, parts.netloc) or None)


def _unquoted(url: str, quoted: str) -> str:
    try:
        return unquote(quoted, errors="strict")
    except UnicodeDecodeError:
        raise _bad(url, "the bytes that %xx stands for are not UTF-8") from None


def _bad(url: str, what: str) -> InvalidRequest:
    return InvalidRequest(f"bad URL {without_secret(url)!r}: {what}; {ALLOWED}")
