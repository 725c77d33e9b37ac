"""What each path of the HTTP port answers, and to whom."""

from __future__ import annotations

import pytest

from support.conversation import engine_of
from support.pages import Pages


def test_every_path() -> None:
    pages = Pages(engine_of())
    pages.health.serve()
    types = {path: pages.get(path).content_type.partition(";")[0] for path in ("/", "/page.css", "/page.js")}
    assert types == {"/": "text/html", "/page.css": "text/css", "/page.js": "text/javascript"}
    assert pages.get("/status.json").content_type == "application/json"
    assert pages.get("/metrics").content_type.startswith("text/plain; version=0.0.4")
    assert pages.text("/livez") == "alive\n"
    assert pages.text("/readyz") == "ready\n"


@pytest.mark.parametrize("path", ["/nothing", "/page", "/../config.py", "//", "/metrics/", "*"])
def test_other_paths(path: str) -> None:
    response = Pages(engine_of()).get(path)
    assert response.status == 404
    assert b"/metrics" in response.body


def test_not_ready_says_why() -> None:
    pages = Pages(engine_of())
    assert (pages.get("/readyz").status, pages.get("/readyz").body) == (503, b"starting\n")
    assert pages.get("/livez").status == 200
    pages.health.serve()
    pages.engine.advance(pages.now_ms, 1)
    assert pages.get("/readyz").status == 200
    pages.now_ms += 60_000
    for path in ("/livez", "/readyz"):
        assert pages.get(path).status == 503
        assert b"the sweeper took its last step 60000 ms ago" in pages.get(path).body
    pages.health.drain()
    assert pages.get("/readyz").body == b"draining\n"


@pytest.mark.parametrize(
    ("host", "status"),
    [
        ("localhost", 200),
        ("localhost:6481", 200),
        ("LOCALHOST:6481", 200),
        ("127.0.0.1:6481", 200),
        ("127.8.9.1", 200),
        ("[::1]:6481", 200),
        ("[::1]", 200),
        ("evil.example:6481", 403),
        ("localhost.evil.example", 403),
        ("10.0.0.1", 403),
        ("127.0.0.1.evil.example", 403),
        ("", 403),
    ],
)
def test_on_loopback_the_host_must_be_this_machine(host: str, status: int) -> None:
    assert Pages(engine_of(), only_loopback=True).get("/metrics", host=host).status == status
    assert Pages(engine_of()).get("/metrics", host=host).status == 200
