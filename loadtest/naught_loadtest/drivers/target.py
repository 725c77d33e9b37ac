"""Where the load goes: the URLs of `--target`.

| URL | server |
| --- | --- |
| naught://host:port/cache | naught over TCP; without a path the default cache |
| naught+unix:///path.sock?cache=orders | naught over a Unix socket |
| redis://host:port | Redis or Valkey, INCRBY and DECRBY, which leave zeros behind |
| redis-lua://host:port | the same server, a script that deletes the key at zero |
| memcached://host:port | memcached, meta arithmetic with autovivify |
| echo://host:port | this harness's own echo server, for its ceiling |

Pure: nothing is resolved or opened here.
"""

from __future__ import annotations

from dataclasses import dataclass
from urllib.parse import parse_qs, unquote, urlsplit

DEFAULT_PORTS = {"naught": 6480, "redis": 6379, "redis-lua": 6379, "memcached": 11211, "echo": 0}


@dataclass(frozen=True, slots=True)
class Target:
    """A server to drive: which driver, and an address that is either (host, port) or a path."""

    url: str
    # Name of the driver: naught, redis, redis-lua, memcached or echo.
    kind: str
    host: str
    port: int
    # Path of a Unix socket; None over TCP.
    path: str | None
    # The cache of naught the load goes to; None for the default one.
    cache: str | None


def parse_target(url: str) -> Target:
    """A target from its URL; ValueError says what is wrong with it."""
    parts = urlsplit(url)
    scheme = parts.scheme
    if scheme == "naught+unix":
        return _unix(url)
    if scheme not in DEFAULT_PORTS:
        known = ", ".join(f"{name}://" for name in ("naught", "naught+unix", *list(DEFAULT_PORTS)[1:]))
        raise ValueError(f"{url!r} is no target; its beginning is one of {known}")
    if parts.username or parts.password or parts.query or parts.fragment:
        raise ValueError(f"{url!r}: a target is {scheme}://host:port, without user, query or fragment")
    try:
        port = parts.port or DEFAULT_PORTS[scheme]
    except ValueError as error:
        raise ValueError(f"{url!r}: {error}") from None
    if not parts.hostname or not port:
        raise ValueError(f"{url!r} names no {'host' if port else 'port'}")
    path = unquote(parts.path.lstrip("/"))
    if path and scheme != "naught":
        raise ValueError(f"{url!r}: only naught:// takes a path, the name of the cache")
    return Target(url, scheme, parts.hostname, port, None, path or None)


def _unix(url: str) -> Target:
    parts = urlsplit(url)
    query = parse_qs(parts.query)
    if not parts.path or parts.netloc:
        raise ValueError(f"{url!r}: a Unix target is naught+unix:///path.sock, with three slashes")
    if set(query) - {"cache"}:
        raise ValueError(f"{url!r}: only cache= is known after the question mark")
    return Target(url, "naught", "", 0, unquote(parts.path), query.get("cache", [None])[0])
