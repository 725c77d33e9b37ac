"""What the HTTP port of an engine answers, without socket and clock."""

from __future__ import annotations

import json
from typing import Any

from naught_server.engine import Engine
from naught_server.health import Health
from naught_server.http import Request, Response
from naught_server.metrics import Snapshot
from naught_server.process import ProcessFigures
from naught_server.routes import Routes
from naught_server.status import StatusFeed
from support.conversation import NOW_MS

PROCESS = ProcessFigures(
    pid=77,
    cpu_s=1.5,
    start_time_s=1_700_000_000.25,
    resident_bytes=50 << 20,
    virtual_bytes=200 << 20,
    open_fds=12,
    max_fds=1_024,
    memory_limit_bytes=None,
)


class Pages:
    """The pages of one engine, at a time that the test sets."""

    def __init__(self, engine: Engine, *, only_loopback: bool = False, process: ProcessFigures = PROCESS) -> None:
        self.engine = engine
        self.now_ms = NOW_MS
        self.process = process
        self.health = Health(engine)
        self.feed = StatusFeed(engine)
        self.routes = Routes(
            self.health,
            self.feed,
            self.snapshot,
            lambda: self.now_ms,
            self.engine.access,
            only_loopback=only_loopback,
        )

    def snapshot(self) -> Snapshot:
        """The figures now."""
        is_ready = self.health.why_not_ready(self.now_ms) is None
        return Snapshot(
            self.engine, self.process, self.now_ms, 1_800_000_000 + self.now_ms / 1000, is_ready, "uvloop"
        )

    def get(self, path: str, **headers: str) -> Response:
        """The response to a request for a path."""
        return self.routes.respond(Request("GET", path, {"host": "localhost", **headers}))

    def text(self, path: str, **headers: str) -> str:
        """The body of a response that must be 200."""
        response = self.get(path, **headers)
        assert response.status == 200, response.body
        return response.body.decode()

    def status(self) -> Any:
        """What /status.json has, once the feed has gone over everything."""
        self.get("/status.json")
        for _ in range(200):
            self.feed.step(self.now_ms)
        self.now_ms += 1_000
        return json.loads(self.text("/status.json"))
