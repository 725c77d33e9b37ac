"""The page `/metrics` of a real server that has done some of everything, and what stands on such a page."""

from __future__ import annotations

import http.client
import json
import re
import sys
from pathlib import Path
from typing import Final, NamedTuple

from support.server_process import RawPeer, server_process

CONFIG: Final = """
connections_per_address_max = 3
[caches.orders]
eviction = "lazy"
max_counters = 50
"""
# With a limit on its memory, as only then the page says one.
LIMITED: Final = """\
import resource, sys
resource.setrlimit(resource.RLIMIT_AS, (16 << 30, 16 << 30))
from naught_server.__main__ import main
sys.exit(main())
"""


class Sample(NamedTuple):
    """One line of the page."""

    name: str
    labels: dict[str, str]
    value: float


def page_under_load(folder: Path) -> str:
    """The page of a server that has been used: caches, sessions and holds, requests that failed, a connection that
    was refused, one that was ended, a session that has ended."""
    config = folder / "naught.toml"
    config.write_text(CONFIG)
    command = [sys.executable, "-W", "error", "-c", LIMITED]
    with (
        server_process(folder, "--http-port", "0", "--config", str(config), command=command) as server,
        server.connect() as first,
        server.connect() as second,
    ):
        second.call("hello", {"cache": "orders", "session": True})
        _use(first, bound=False)
        _use(second, bound=True)
        with server.connect() as third:
            third.call("hello", {"session": True})
            assert third.call("bye") is None
            with server.connect() as refused:
                assert refused.read_to_end() == b""
            third.send(b"\xc1")  # no MessagePack
            third.read_to_end()
        return get(http_port(folder), "/metrics")


def _use(peer: RawPeer, *, bound: bool) -> None:
    keys = [b"key:%d" % number for number in range(100)]
    assert peer.call("incr", "short", 1, 3_600_000) == 1
    peer.call("apply", keys, 1)  # in the cache with a bound half of them are refused
    peer.call("apply", keys, -1)
    assert peer.call("take", ["short"]) == [1]
    assert peer.call("decr", "none", 1, True) == "underflow"
    assert peer.call("no_such_method") == "unknown_method"
    if bound:
        assert peer.call("acquire", [[b"gpu", 1, 1]])[0] is True
        peer.call("apply", keys, 1)
        assert peer.call("incr", "one more") == "full"


def http_port(folder: Path) -> int:
    """The HTTP port of the server whose files are in `folder`."""
    port: int = json.loads((folder / "ports.json").read_text())["http"]["port"]
    return port


def get(port: int, path: str) -> str:
    """The body of the answer to GET."""
    connection = http.client.HTTPConnection("127.0.0.1", port, timeout=20)
    try:
        connection.request("GET", path)
        answer = connection.getresponse()
        body = answer.read().decode()
        assert answer.status == 200, f"{answer.status}: {body}"
        return body
    finally:
        connection.close()


def families(page: str) -> dict[str, str]:
    """The types of the metrics by name, as the page declares them."""
    return dict(re.findall(r"^# TYPE (\S+) (\S+)$", page, re.MULTILINE))


def series_names(page: str) -> set[str]:
    """The names that an expression can read: a histogram has three."""
    names = set()
    for name, kind in families(page).items():
        names |= {f"{name}_{part}" for part in ("bucket", "sum", "count")} if kind == "histogram" else {name}
    return names


def samples(page: str) -> list[Sample]:
    """The lines of the page that have a value."""
    found = re.findall(r"^([a-zA-Z_:][\w:]*)(?:\{(.*)\})? (\S+)$", page, re.MULTILINE)
    return [
        Sample(name, dict(re.findall(r'(\w+)="((?:\\.|[^"\\])*)"', labels)), float(value))
        for name, labels, value in found
    ]
