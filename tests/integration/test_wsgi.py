"""`naught.wsgi.InFlightLimit` under the WSGI server of the standard library, with a thread for each request."""

from __future__ import annotations

import http.client
import io
import json
import threading
from collections.abc import Callable, Iterable, Iterator
from contextlib import contextmanager
from socketserver import ThreadingMixIn
from typing import Any
from wsgiref.simple_server import WSGIRequestHandler, WSGIServer, make_server
from wsgiref.validate import validator

import pytest

import naught
from naught import blocking
from naught.wsgi import InFlightLimit, Refusal
from support.server_process import ServerProcess, server_process, wait_until

GUARD_S = 30.0


class App:
    """A WSGI application that answers when the test allows it, in two pieces."""

    def __init__(self) -> None:
        self.arrived = threading.Semaphore(0)
        self.may_answer = threading.Event()

    def __call__(self, environ: dict[str, Any], start_response: Callable[..., Any]) -> Iterable[bytes]:
        self.arrived.release()
        if environ["PATH_INFO"] == "/fails":
            raise LookupError
        start_response("200 OK", [("Content-Type", "text/plain"), ("Content-Length", "2")])
        return self._body()

    def _body(self) -> Iterator[bytes]:
        yield b"o"
        self.may_answer.wait(GUARD_S)
        yield b"k"


class _Server(ThreadingMixIn, WSGIServer):
    daemon_threads = True


class _Quiet(WSGIRequestHandler):
    def log_message(self, format: str, *args: Any) -> None:
        """Nothing is printed."""

    def get_stderr(self) -> Any:
        return io.StringIO()


@contextmanager
def served(app: Any) -> Iterator[int]:
    with make_server("127.0.0.1", 0, validator(app), server_class=_Server, handler_class=_Quiet) as server:
        thread = threading.Thread(target=server.serve_forever, args=(0.01,))
        thread.start()
        try:
            yield server.server_port
        finally:
            server.shutdown()
            thread.join()


def get(port: int, path: str = "/") -> tuple[int, dict[str, str], bytes]:
    """Send one HTTP request. Returns status, headers and body."""
    connection = http.client.HTTPConnection("127.0.0.1", port, timeout=GUARD_S)
    try:
        connection.request("GET", path)
        response = connection.getresponse()
        return response.status, {name.lower(): value for name, value in response.getheaders()}, response.read()
    finally:
        connection.close()


@pytest.fixture(scope="module")
def server(tmp_path_factory: pytest.TempPathFactory) -> Iterator[ServerProcess]:
    with server_process(tmp_path_factory.mktemp("server")) as server:
        yield server


def test_requests_beyond_the_limit_are_refused_and_the_count_returns_to_nothing(server: ServerProcess) -> None:
    url = f"naught://127.0.0.1:{server.port}"
    app = App()
    limited = InFlightLimit(app, url, limit=2, status=429, retry_after=3)
    with blocking.Client(url) as counters, served(limited) as port:
        answers: list[Any] = []
        threads = [threading.Thread(target=lambda: answers.append(get(port))) for _ in range(2)]
        for thread in threads:
            thread.start()
        for _ in threads:
            assert app.arrived.acquire(timeout=GUARD_S)
        assert counters.get("in-flight") == 2, "until the response was sent, not until it was begun"
        status, headers, body = get(port)
        assert (status, headers["retry-after"], body) == (429, "3", b"too many requests in flight\n")
        app.may_answer.set()
        for thread in threads:
            thread.join()
        assert [(status, body) for status, _, body in answers] == [(200, b"ok")] * 2
        wait_until(lambda: counters.get("in-flight") == 0, "the count went down")
        assert get(port)[0] == 200
        wait_until(lambda: counters.count() == 0, "nothing is left")
    limited.close()


def test_a_client_that_there_is_and_what_fails_is_uncounted() -> None:
    app = App()
    app.may_answer.set()
    with blocking.Client("memory://") as counters:

        def respond(refusal: Refusal) -> bytes:
            return json.dumps(refusal._asdict()).encode()

        limited = InFlightLimit(
            app, counters, limit=1, key=lambda environ: environ["PATH_INFO"].strip("/") or None, body=respond,
            headers=lambda refusal: {"X-RateLimit-Limit": str(refusal.limit)},
        )  # fmt: skip
        environ: dict[str, Any] = {"PATH_INFO": "/fails"}
        with pytest.raises(LookupError):
            limited(environ, lambda *_: None)
        assert counters.count() == 0
        with served(limited) as port:
            assert get(port)[0] == 200, "without a group there is no limit"
            counters.incr("in-flight:a")
            status, headers, body = get(port, "/a")
            assert (status, headers["x-ratelimit-limit"]) == (503, "1")
            assert json.loads(body) == {"status": 503, "group": "a", "limit": 1, "in_flight": 1, "retry_after": 1}
            assert get(port, "/b")[0] == 200
        limited.close()
        assert counters.decr("in-flight:a") == 0, "the client is not closed with the middleware"


@pytest.mark.parametrize(("unreachable", "status"), [("open", 200), ("closed", 503)])
def test_a_server_that_was_never_there(unreachable: Any, status: int, caplog: pytest.LogCaptureFixture) -> None:
    app = App()
    app.may_answer.set()
    limited = InFlightLimit(app, "naught://127.0.0.1:1", limit=5, timeout=0.05, unreachable=unreachable)
    with caplog.at_level("WARNING", logger="naught"), served(limited) as port:
        assert [get(port)[0] for _ in range(3)] == [status] * 3
    limited.close()
    assert sum("cannot be checked" in record.message for record in caplog.records) == 1, "one warning"


@pytest.mark.parametrize(
    "wrong", [{"limit": 0}, {"url": "redis://"}, {"url": None}, {"body": 5}, {"unreachable": "maybe"}]
)
def test_what_cannot_be_meant_is_said_at_once(wrong: dict[str, Any]) -> None:
    with pytest.raises(naught.InvalidRequest):
        InFlightLimit(App(), **{"url": "memory://", "limit": 1} | wrong)


@pytest.mark.parametrize("group", ["k" * 600, "\ud800"], ids=["too long", "no text"])
def test_a_group_that_is_no_key_is_an_error_and_passes_no_request(group: str) -> None:
    """A client that chooses the group, by a header for example, would pass every limit with it."""
    limited = InFlightLimit(App(), "memory://", limit=1, key=lambda environ: group, timeout=GUARD_S)
    with pytest.raises((naught.TooLarge, naught.InvalidRequest), match="key"):
        limited({"PATH_INFO": "/"}, lambda *_: None)
    limited.close()


def test_a_response_that_is_dropped_unclosed_is_not_counted_any_more() -> None:
    """PEP 3333 has the server close it, and middlewares that wrap the response forget to."""
    with blocking.Client("memory://", timeout=GUARD_S) as counters:
        limited = InFlightLimit(lambda environ, start: iter([b"a", b"b"]), counters, limit=1)
        response = limited({}, lambda *_: None)
        assert next(iter(response)) == b"a"
        assert counters.get("in-flight") == 1
        del response
        wait_until(lambda: counters.get("in-flight") == 0, "it was released")
