"""Targets: the URLs of `--target`, which name the server that gets the load.

| URL | server |
| --- | --- |
| naught://host:port/cache | naught over TCP; without a path the default cache |
| naught+unix:///path.sock?cache=orders | naught over a Unix socket |
| naught-session://host:port/cache | the same over TCP, with a session on every connection |
| redis://host:port | Redis or Valkey by INCR and DECR, which leave zeros behind |
| redis-lua://host:port | the same server; a script decrements, and deletes the key at zero |
| redis-function://host:port | the same by a function |
| valkey-delifeq://host:port | Valkey 9.0 and later; DECR and DELIFEQ decrement, and delete the key at zero |
| redis-delex://host:port | Redis 8.4 and later; DECR and DELEX do so |
| memcached://host:port | memcached by meta arithmetic, which creates absent keys |
| echo://host:port | the harness's own echo server, to measure the generator's ceiling |

No name is resolved and no connection is opened here.
"""

from __future__ import annotations

import os
from dataclasses import dataclass
from urllib.parse import parse_qs, unquote, urlsplit

from naught.url import URL_VARIABLE, without_secret

DEFAULT_PORTS = {
    "naught": 6480,
    "naught-session": 6480,
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

    # As it was given.
    url: str
    # Name of the driver: one of `DEFAULT_PORTS`.
    kind: str
    # The address over TCP; empty and 0 for a Unix socket.
    host: str
    port: int
    # The path of a Unix socket; None over TCP.
    path: str | None
    # The cache of naught that gets the load; None for the default one.
    cache: str | None


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
    kept = [pair for pair in query.split("&") if pair.startswith("cache=")]
    return head + (mark + "&".join(kept) if kept else "")


def parse_target(url: str) -> Target:
    """The target that a URL names. ValueError says what is wrong with the URL."""
    parts = urlsplit(url)
    scheme = parts.scheme
    shown = without_secret(url)
    if scheme == "naught+unix":
        return _unix(url)
    if scheme not in DEFAULT_PORTS:
        known = ", ".join(f"{name}://" for name in ("naught", "naught+unix", *list(DEFAULT_PORTS)[1:]))
        raise ValueError(f"{shown!r} is not a target: it must begin with one of {known}")
    if parts.username or parts.password or parts.query or parts.fragment:
        raise ValueError(f"{shown!r}: a target must be {scheme}://host:port, without user, query or fragment")
    try:
        port = parts.port or DEFAULT_PORTS[scheme]
    except ValueError as error:
        raise ValueError(f"{shown!r}: {error}") from None
    if not parts.hostname or not port:
        raise ValueError(f"{shown!r}: the {'host' if port else 'port'} is missing")
    path = unquote(parts.path.lstrip("/"))
    if path and not scheme.startswith("naught"):
        raise ValueError(f"{shown!r}: only naught:// may have a path, the name of a cache")
    return Target(url, scheme, parts.hostname, port, None, path or None)


def _unix(url: str) -> Target:
    parts = urlsplit(url)
    query = parse_qs(parts.query)
    if not parts.path or parts.netloc:
        raise ValueError(
            f"{without_secret(url)!r}: a Unix socket must be given as naught+unix:///path.sock, with three slashes"
        )
    if set(query) - {"cache"}:
        raise ValueError(f"{url!r}: only cache= is allowed after the question mark")
    return Target(url, "naught", "", 0, unquote(parts.path), query.get("cache", [None])[0])
