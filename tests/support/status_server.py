"""A fake of a server's HTTP side: the real page, and a status.json that the test writes.

    with StatusServer() as server:
        known = status(version="9")
        server.show(known)                          # what status.json says from now on
        server.show(step(known, methods={"incr": 1_000}))   # a second later, a thousand commands more
        server.gate.clear()                         # answers wait, until gate.set()
        server.close(); server.open()               # refused, and back on the same port

`status` has the format of the real one, and answers have the headers of the real one. Run as a program it serves
figures that move by themselves, for looking at the page by eye:

    PYTHONPATH=tests:client:server:loadtest python -m support.status_server [PORT]
"""

from __future__ import annotations

import contextlib
import json
import math
import sys
import threading
import time
from collections.abc import Callable, Mapping
from http.server import BaseHTTPRequestHandler, ThreadingHTTPServer
from typing import Any, Final

from naught_loadtest.drivers.servers import reserved_port
from naught_server.stats import Durations
from support.paths import ROOT

PAGE: Final = ROOT / "server" / "naught_server" / "page"

CSP: Final = (
    "default-src 'none'; style-src 'self'; script-src 'self'; connect-src 'self'; img-src 'self' data:; "
    "base-uri 'none'; form-action 'none'; frame-ancestors 'none'"
)
HEADERS: Final = {
    "Content-Security-Policy": CSP,
    "X-Content-Type-Options": "nosniff",
    "Referrer-Policy": "no-referrer",
    "Cache-Control": "no-store",
}
FILES: Final = {
    "/": ("index.html", "text/html; charset=utf-8"),
    "/page.css": ("page.css", "text/css; charset=utf-8"),
    "/page.js": ("page.js", "text/javascript; charset=utf-8"),
}
GATE_S_MAX: Final = 60.0
"""An answer that a test holds back is given up after this, so that a failed test ends."""

REASONS: Final = ("zero", "expired", "taken", "set", "cleared", "session")

Status = dict[str, Any]


def durations(*microseconds: int) -> Status:
    """As the server counts durations."""
    counted = Durations()
    for each in microseconds:
        counted.add(each * 1000)
    return {**counted.as_dict(), "histogram": list(counted.buckets)}


def add_durations(into: Status, microseconds: int, count: int = 1) -> None:
    """Count `count` more durations of this length."""
    one = durations(microseconds)
    into["count"] += count
    into["total_us"] += count * one["total_us"]
    into["max_us"] = max(into["max_us"], one["max_us"])
    into["histogram"] = [now + count * more for now, more in zip(into["histogram"], one["histogram"], strict=True)]


def cache(name: str = "default", **words: Any) -> Status:
    """A cache of `caches`."""
    return {
        "name": name,
        "eviction": "eager",
        "counters": 0,
        "counters_exact": True,
        "raw_entries": 0,
        "deviation": 0.0,
        "table_bytes": 16_384,
        "capacity": 1_280,
        "load": 0.0,
        "max_counters": None,
        "deadlines": 0,
        "evictions": dict.fromkeys(REASONS, 0),
        "backlog": {"expired": 0, "zeros": 0, "cleared": 0},
        "top": {"age_s": 0.5, "counters": []},
        **words,
    }


def session(number: int = 1, **words: Any) -> Status:
    """A session of `listed`."""
    return {
        "number": number,
        "name": f"host:{number}",
        "address": "127.0.0.1",
        "connected": True,
        "age_s": 1.0,
        "commands": 0,
        "holds": 0,
        "held": [],
        "waits": [],
        **words,
    }


def status(**words: Any) -> Status:
    """The status of a server that has just started. `words` replace those of the same name."""
    return {
        "version": "0.1.0",
        "pid": 4_711,
        "time_s": 1_796_000_000.0,
        "uptime_s": 10.0,
        "state": "serving",
        "compiled": True,
        "loop": "uvloop",
        "totals": {
            "commands": 0,
            "errors": 0,
            "by_method": {},
            "received_bytes": 0,
            "sent_bytes": 0,
            "connections": 0,
            "connections_accepted": 0,
            "log_lines_dropped": 0,
        },
        "turns": durations(),
        "gc_pauses": durations(),
        "loop_lag": durations(),
        "memory": {"resident_bytes": 40 << 20, "table_bytes": 16_384, "limit_bytes": None},
        "sweeper": {
            "steps": 0,
            "entries": 0,
            "seconds": 0.0,
            "behind": False,
            "last_step_age_s": 0.01,
            "failures": 0,
            "budget": 0.1,
        },
        "tuner": {"mode": "on", "rules": ["burst-of-zeros", "quiet"], "changes": {}, "decisions": []},
        "caches": [cache()],
        "caches_left_out": 0,
        "sessions": {
            "open": 0,
            "connected": 0,
            "opened": 0,
            "holds": 0,
            "parked": 0,
            "parked_keys": 0,
            "listed": [],
        },
        **words,
    }


def step(known: Status, *, seconds: float = 1.0, methods: Mapping[str, int] | None = None, **totals: int) -> Status:
    """Let time pass in a status: `methods` were called so often, and the other totals grew by so much."""
    known["time_s"] += seconds
    known["uptime_s"] += seconds
    for method, count in (methods or {}).items():
        known["totals"]["by_method"][method] = known["totals"]["by_method"].get(method, 0) + count
        known["totals"]["commands"] += count
    for word, count in totals.items():
        known["totals"][word] += count
    return known


class StatusServer:
    """Serves the page and `status` on a loopback port, which stays the same while it is closed."""

    def __init__(self, port: int | None = None) -> None:
        self._reservation = reserved_port()
        self.port: Final = port or self._reservation.__enter__()
        self.url: Final = f"http://127.0.0.1:{self.port}/"
        self.make: Callable[[], tuple[int, bytes]] = lambda: (200, b"{}")  # status and body of status.json
        self.gate: Final = threading.Event()  # answers wait until it is set
        self.gate.set()
        self.requests: list[tuple[str, str]] = []  # (method, path) of all
        self.show(status())
        self._server: ThreadingHTTPServer | None = None
        self._thread: threading.Thread | None = None

    def __enter__(self) -> StatusServer:
        self.open()
        return self

    def __exit__(self, *_: object) -> None:
        self.close()
        self._reservation.__exit__(None, None, None)

    def open(self) -> None:
        """Listen."""
        outer = self

        class Handler(BaseHTTPRequestHandler):
            def __getattr__(self, name: str) -> Callable[[], None]:
                if name.startswith("do_"):
                    return self.serve
                raise AttributeError(name)

            def serve(self) -> None:
                outer.requests.append((self.command, self.path))
                code, kind, body = outer.answer(self.path)
                self.send_response(code)
                for name, value in {**HEADERS, "Content-Type": kind, "Content-Length": str(len(body))}.items():
                    self.send_header(name, value)
                self.end_headers()
                self.wfile.write(body)

            def log_message(self, *_: object) -> None:
                """Say nothing."""

            def handle(self) -> None:
                with contextlib.suppress(ConnectionError):  # the page has given up
                    super().handle()

        self._server = ThreadingHTTPServer(("127.0.0.1", self.port), Handler)
        self._thread = threading.Thread(target=self._server.serve_forever, kwargs={"poll_interval": 0.02})
        self._thread.start()

    def close(self) -> None:
        """Refuse connections. Answers that wait are sent."""
        self.gate.set()
        if self._server is not None and self._thread is not None:
            self._server.shutdown()
            self._thread.join()
            self._server.server_close()
        self._server = self._thread = None

    def answer(self, path: str) -> tuple[int, str, bytes]:
        """(status code, type, body) for a path."""
        if path in FILES:
            name, kind = FILES[path]
            return 200, kind, (PAGE / name).read_bytes()
        if path != "/status.json":
            return 404, "text/plain", b"there is no such page\n"
        assert self.gate.wait(GATE_S_MAX), "a test forgot to let answers go"
        code, body = self.make()
        return code, "application/json", body

    def show(self, known: Status) -> None:
        """Answer with this, as it is now."""
        self.show_bytes(json.dumps(known).encode())

    def show_bytes(self, body: bytes, code: int = 200) -> None:
        """Answer with these bytes."""
        self.make = lambda: (code, body)

    def asked(self) -> int:
        """How often status.json was asked for."""
        return self.requests.count(("GET", "/status.json"))


class Moving:
    """A busy server, as a function of the time since its start."""

    def __init__(self) -> None:
        self._started = time.monotonic()
        self._then = 0.0  # when the last status was made
        flapping = cache("flapping", eviction="lazy", top={"age_s": 1.2, "counters": [["door:7", 1], ["door:9", 1]]})
        self._status = status(caches=[cache(), flapping], uptime_s=86_400.0 * 3)
        self._fill()

    def __call__(self) -> Status:
        """The status now."""
        now = time.monotonic() - self._started
        known, seconds = self._status, now - self._then
        self._then = now
        wave = 0.5 + 0.5 * math.sin(now / 17)
        commands = int(seconds * (80_000 + 60_000 * wave))
        shares = {"incr": 0.45, "decr": 0.4, "apply": 0.1, "get": 0.03, "acquire": 0.01, "release": 0.01}
        step(known, seconds=seconds, methods={method: int(commands * share) for method, share in shares.items()})
        known["totals"] |= {
            "errors": known["totals"]["errors"] + int(seconds * 12 * wave),
            "received_bytes": known["totals"]["received_bytes"] + commands * 31,
            "sent_bytes": known["totals"]["sent_bytes"] + commands * 9,
            "connections": 52,
            "connections_accepted": 1_204,
        }
        for word, typical, slowest in (("turns", 90, 700), ("gc_pauses", 300, 1_800), ("loop_lag", 60, 1_200)):
            add_durations(known[word], int(typical * (0.6 + wave)), 100)
            add_durations(known[word], int(slowest * (0.2 + wave)), 3)
        first, flapping = known["caches"]
        counters = int(900_000 * wave + 20_000)
        first |= {"counters": counters, "raw_entries": counters, "table_bytes": 62 * counters, "load": 0.55}
        flapping["counters"] = 40_000
        flapping["raw_entries"] = 40_000 + int(9_000 * wave)
        flapping["deviation"] = 9_000 * wave / 40_000
        flapping["backlog"]["zeros"] = int(9_000 * wave)
        for reason, rate in (("zero", 30_000), ("expired", 900 * wave), ("taken", 40), ("session", 3)):
            first["evictions"][reason] += int(seconds * rate)
        known["memory"] = {
            "resident_bytes": (45 << 20) + 124 * counters,
            "table_bytes": first["table_bytes"],
            "limit_bytes": 512 << 20,
        }
        sweeper = known["sweeper"]
        sweeper["steps"] += int(seconds * 95)
        sweeper["entries"] += int(seconds * 2_400 * (1 + wave))
        sweeper["seconds"] += seconds * 0.012
        sweeper["behind"] = wave > 0.97
        for listed in known["sessions"]["listed"]:
            listed["age_s"] += seconds
            listed["commands"] += int(seconds * 1_500)
            for wait in listed["waits"]:
                wait["since_s"] += seconds
        return known

    def _fill(self) -> None:
        first = self._status["caches"][0]
        first["top"]["counters"] = [[f"views:{place:04}", 90_000 // (place + 1)] for place in range(10)]
        holders = [
            session(
                number,
                name=f"worker-{number}:{3_000 + number}",
                address=f"10.0.4.{number}",
                age_s=3_600.0 * number,
                commands=10_000 * number,
                holds=12 - number,
                held=[[f"gpu:{number % 4}", 1], ["licence:solver", 2]],
            )
            for number in range(1, 9)
        ]
        holders[2]["connected"] = False
        holders[5] |= {"waits": [{"for": "room", "keys": ["gpu:0", "gpu:1"], "since_s": 3.5}]}
        holders[6] |= {"waits": [{"for": "zero", "keys": ["import-7"], "since_s": 61.0}]}
        self._status["sessions"] = {
            "open": 8,
            "connected": 7,
            "opened": 31,
            "holds": 60,
            "parked": 2,
            "parked_keys": 3,
            "listed": holders,
        }


def main() -> None:
    """Serve figures that move, until the program is interrupted."""
    server = StatusServer(int(sys.argv[1]) if len(sys.argv) > 1 else None)
    moving = Moving()
    server.make = lambda: (200, json.dumps(moving()).encode())
    with server:
        print(server.url, flush=True)
        threading.Event().wait()


if __name__ == "__main__":
    main()
