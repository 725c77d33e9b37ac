"""Targets: the URLs of `--target`, which name the server that gets the load.

| URL | server |
| --- | --- |
| naught://host:port/cache | naught over TCP; without a path the default cache |
| naughts://host:port/cache?ca=FILE | the same with TLS, with `ca`, `cert` and `key` as the clients have them |
| naught+unix:///path.sock?cache=orders | naught over a Unix socket |
| naught-session://host:port/cache | naught over TCP, with a session on every connection |
| naughts-session://host:port/cache | the same with TLS |
| redis://host:port | Redis or Valkey by INCR and DECR, which leave zeros behind |
| redis-lua://host:port | the same server; a script decrements, and deletes the key at zero |
| redis-function://host:port | the same by a function |
| valkey-delifeq://host:port | Valkey 9.0 and later; DECR and DELIFEQ decrement, and delete the key at zero |
| redis-delex://host:port | Redis 8.4 and later; DECR and DELEX do so |
| memcached://host:port | memcached by meta arithmetic, which creates absent keys |
| echo://host:port | the harness's own echo server, to measure the generator's ceiling |

Those of naught may have a user before the host (naught://orders@host), whose secret the variable `NAUGHT_SECRET` has.
Without one in the URL, the user is the one that `NAUGHT_USER` names, as with the clients. A secret in the URL is kept
by `without_its_secret` before anything else sees the URL: reports repeat it, and so do messages.

No name is resolved and no connection is opened here.
"""

from __future__ import annotations

import os
from dataclasses import dataclass
from urllib.parse import urlsplit

from naught.credentials import SECRET_VARIABLE, Credentials, check_credentials
from naught.errors import InvalidRequest
from naught.url import (
    ALLOWED,
    URL_VARIABLE,
    MemoryAddress,
    TcpAddress,
    TlsFiles,
    UnixAddress,
    UrlOptions,
    parse,
    without_secret,
)

# By scheme, the name of the driver, and the scheme that the clients have for the same address.
NAUGHT_SCHEMES = {
    "naught": ("naught", "naught"),
    "naughts": ("naught", "naughts"),
    "naught+unix": ("naught", "naught+unix"),
    "naught-session": ("naught-session", "naught"),
    "naughts-session": ("naught-session", "naughts"),
}
# Of the servers of others.
DEFAULT_PORTS = {
    "redis": 6379,
    "redis-lua": 6379,
    "redis-function": 6379,
    "valkey-delifeq": 6379,
    "redis-delex": 6379,
    "memcached": 11211,
    "echo": 0,
}


@dataclass(frozen=True, slots=True)
class Target:
    """A server to drive: its driver, and its address, which is (host, port) or a path."""

    # As it was given, without a secret.
    url: str
    # Name of the driver: one of `drivers.DRIVERS`.
    kind: str
    # The address over TCP; empty and 0 for a Unix socket.
    host: str
    port: int
    # The path of a Unix socket; None over TCP.
    path: str | None
    # The cache of naught that gets the load; None for the default one.
    cache: str | None
    # Who the connections log in as; None for nobody.
    credentials: Credentials | None = None
    # The files of TLS; None without TLS.
    tls: TlsFiles | None = None


def default_target() -> str:
    """The server that the environment names, as it does for the clients, or one on this machine."""
    url = os.environ.get(URL_VARIABLE, "").strip()
    if not url:
        return "naught://localhost"
    if url.startswith("memory:"):
        raise ValueError(
            f"{URL_VARIABLE} is {without_secret(url)!r}, which is no server to be measured; name one by --target"
        )
    # Options of the clients, as a timeout, are not for a load.
    head, mark, query = url.partition("?")
    kept = [pair for pair in query.split("&") if pair.partition("=")[0] in ("cache", "ca", "cert", "key")]
    return head + (mark + "&".join(kept) if kept else "")


def without_its_secret(url: str) -> str:
    """The URL without the secret that it may have, which is kept in the environment, for this process and the load
    processes. ValueError says what is wrong with the URL."""
    scheme = urlsplit(url).scheme
    if scheme not in NAUGHT_SCHEMES or "@" not in url:
        return url
    secret = _parse(url, scheme)[1].secret
    if not isinstance(secret, str):
        return url
    os.environ[SECRET_VARIABLE] = str(secret)
    head, _, rest = url.partition("//")
    userinfo, at, host = rest.rpartition("@")
    return f"{head}//{userinfo.partition(':')[0]}{at}{host}"


def parse_target(url: str) -> Target:
    """The target that a URL names. ValueError says what is wrong with the URL."""
    scheme = urlsplit(url).scheme
    if scheme in NAUGHT_SCHEMES:
        return _naught(url, scheme)
    shown = without_secret(url)
    if scheme not in DEFAULT_PORTS:
        known = ", ".join(f"{name}://" for name in (*NAUGHT_SCHEMES, *DEFAULT_PORTS))
        raise ValueError(f"{shown!r} is not a target: it must begin with one of {known}")
    parts = urlsplit(url)
    if parts.username or parts.password or parts.query or parts.fragment or parts.path.strip("/"):
        raise ValueError(
            f"{shown!r}: a target must be {scheme}://host:port, without user, path, query or fragment, which only "
            "naught's may have"
        )
    try:
        port = parts.port or DEFAULT_PORTS[scheme]
    except ValueError as error:
        raise ValueError(f"{shown!r}: {error}") from None
    if not parts.hostname or not port:
        raise ValueError(f"{shown!r}: the {'host' if port else 'port'} is missing")
    return Target(url, scheme, parts.hostname, port, None, None)


def _naught(url: str, scheme: str) -> Target:
    address, options = _parse(url, scheme)
    if options.secret is not ...:
        raise ValueError(f"{without_secret(url)!r}: the secret of a target is taken out of its URL before")
    if {options.timeout, options.connect_timeout, options.lease, options.name} != {...}:
        raise ValueError(f"{without_secret(url)!r}: options of a client are not for a load")
    credentials = check_credentials(..., ..., (options.user, ...))
    kind = NAUGHT_SCHEMES[scheme][0]
    if isinstance(address, UnixAddress):
        return Target(url, kind, "", 0, address.path, address.cache, credentials)
    return Target(url, kind, address.host, address.port, None, address.cache, credentials, options.tls)


def _parse(url: str, scheme: str) -> tuple[TcpAddress | UnixAddress, UrlOptions]:
    """A URL of naught, as the clients read it. ValueError says what is wrong with it, without its secret."""
    try:
        address, options = parse(NAUGHT_SCHEMES[scheme][1] + url[len(scheme) :])
    except InvalidRequest as error:
        raise ValueError(str(error).removesuffix(f"; {ALLOWED}")) from None
    assert not isinstance(address, MemoryAddress), "its scheme is none of these"
    return address, options
