"""What each path of the HTTP port answers, and to whom."""

from __future__ import annotations

import base64

import pytest

from naught_server.access import OnRefused, User
from naught_server.secret_hash import PlainSecret
from support.conversation import engine_of
from support.pages import Pages
from support.users import user


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


# ------------------------------------------------------------------------------------------- who may see what


def seen_by(pages: Pages, **headers: str) -> dict[str, int]:
    """The status of each path."""
    paths = ("/", "/page.css", "/page.js", "/status.json", "/metrics", "/livez", "/readyz", "/nothing")
    return {path: pages.get(path, **headers).status for path in paths}


def test_a_server_with_users_and_without_a_token_shows_no_keys() -> None:
    pages = Pages(engine_of(users=[user("me")]))
    pages.health.serve()
    found = seen_by(pages)
    assert {path for path, status in found.items() if status == 200} == {"/metrics", "/livez", "/readyz"}
    assert set(found.values()) == {200, 403}
    assert "http_token_file" in pages.get("/").body.decode()


@pytest.mark.parametrize("users", [[], [user("me")]])
def test_a_server_with_a_token_asks_for_it(users: list[User]) -> None:
    pages = Pages(engine_of(users=users))
    pages.health.serve()
    refused: list[OnRefused] = []
    pages.engine.access.watch(on_refused=refused.append)
    pages.routes.take_token(PlainSecret(b"a token of sixteen"))
    found = seen_by(pages)
    assert {path for path, status in found.items() if status == 200} == {"/livez", "/readyz"}
    assert set(found.values()) == {200, 401}
    assert pages.get("/").headers["WWW-Authenticate"] == 'Basic realm="naught"'
    assert refused == [], "who says nothing has guessed nothing"
    basic = base64.b64encode(b"anybody:a token of sixteen").decode()
    for says in ("Bearer a token of sixteen", "bearer  a token of sixteen ", f"Basic {basic}", f"basic {basic}"):
        assert seen_by(pages, authorization=says) == dict.fromkeys(found, 200) | {"/nothing": 404}
    wrong = base64.b64encode(b"a token of sixteen:").decode()
    for says in (
        "Bearer",
        "Bearer a token of sixteeN",
        "Basic !",
        f"Basic {wrong}",
        "Digest a token of sixteen",
        "\xff",
    ):
        assert seen_by(pages, authorization=says)["/metrics"] == 401
    assert refused == [OnRefused(None, None, "wrong token of HTTP")] * 6
    assert pages.engine.access.refused == 6


def test_every_byte_of_a_token_counts_also_one_that_is_a_space_in_latin_1() -> None:
    """The last byte of "à" in UTF-8 is a no-break space there, and that of others ends a line."""
    for token in ("a token of sixteen à", "a token of sixteen Å"):
        pages = Pages(engine_of())
        pages.routes.take_token(PlainSecret(token.encode()))
        assert pages.get("/metrics", authorization=f"Bearer  {token.encode().decode('latin-1')} ").status == 200


def test_a_token_is_replaced_and_not_turned_on_or_off() -> None:
    pages = Pages(engine_of())
    pages.routes.renew_token(PlainSecret(b"a token of sixteen"))
    assert pages.get("/metrics").status == 200
    pages.routes.take_token(PlainSecret(b"a token of sixteen"))
    pages.routes.renew_token(None)
    assert pages.get("/metrics").status == 401
    pages.routes.renew_token(PlainSecret(b"another of sixteen"))
    assert pages.get("/metrics", authorization="Bearer another of sixteen").status == 200
    assert pages.get("/metrics", authorization="Bearer a token of sixteen").status == 401
