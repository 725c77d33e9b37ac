"""`naught.asgi.InFlightLimit` under uvicorn, with a server process or an engine in memory."""

from __future__ import annotations

import asyncio
import contextlib
import json
import signal
from collections.abc import AsyncIterator
from pathlib import Path
from typing import Any

import pytest
import uvicorn

import naught
from naught.asgi import InFlightLimit, Refusal
from support.server_process import ServerProcess, server_process

GUARD_S = 30


class App:
    """An ASGI application that answers requests only when the test allows it."""

    def __init__(self) -> None:
        self.arrived = asyncio.Semaphore(0)  # one permit per request that has reached the application
        self.may_answer = asyncio.Event()
        self.lifespans: list[str] = []  # types of the lifespan messages

    async def __call__(self, scope: Any, receive: Any, send: Any) -> None:
        if scope["type"] == "lifespan":
            for _ in range(2):
                message = await receive()
                self.lifespans.append(message["type"])
                await send({"type": f"{message['type']}.complete"})
            return
        self.arrived.release()
        if scope["path"] == "/fails":
            raise LookupError
        await self.may_answer.wait()
        await send({"type": "http.response.start", "status": 200, "headers": [(b"content-length", b"2")]})
        await send({"type": "http.response.body", "body": b"ok"})


@contextlib.asynccontextmanager
async def served(app: Any) -> AsyncIterator[int]:
    """Serve an application with uvicorn in the current event loop. Yields the port."""
    config = uvicorn.Config(app, port=0, lifespan="on", log_config=None, loop="asyncio")
    server = uvicorn.Server(config)
    server.install_signal_handlers = lambda: None  # type: ignore[attr-defined]
    with contextlib.ExitStack() as restored:
        for number in (signal.SIGINT, signal.SIGTERM):
            restored.callback(signal.signal, number, signal.getsignal(number))
        serving = asyncio.ensure_future(server.serve())
        while not server.started:
            assert not serving.done()
            await asyncio.sleep(0.01)
        try:
            yield server.servers[0].sockets[0].getsockname()[1]
        finally:
            server.should_exit = True
            await serving


async def get(port: int, path: str = "/") -> tuple[int, dict[str, str], bytes]:
    """Send one HTTP request. Returns status, headers and body."""
    reader, writer = await asyncio.open_connection("127.0.0.1", port)
    writer.write(f"GET {path} HTTP/1.1\r\nHost: here\r\nConnection: close\r\n\r\n".encode())
    head, _, body = (await reader.read()).partition(b"\r\n\r\n")
    writer.close()
    first, *lines = head.decode().split("\r\n")
    return int(first.split()[1]), {name.lower(): value for name, value in (line.split(": ") for line in lines)}, body


def run(scenario: Any) -> None:
    asyncio.run(asyncio.wait_for(scenario, GUARD_S))


def test_requests_beyond_the_limit_are_refused_and_the_count_returns_to_nothing(tmp_path: Path) -> None:
    async def scenario(url: str) -> None:
        apps = App(), App()
        async with naught.connect(url, timeout=GUARD_S) as counters, contextlib.AsyncExitStack() as stack:
            # Two workers share the limit.
            limited = [InFlightLimit(app, url, limit=2, timeout=GUARD_S) for app in apps]
            ports = [await stack.enter_async_context(served(each)) for each in limited]
            asked = [asyncio.ensure_future(get(port)) for port in ports]
            for app in apps:
                await app.arrived.acquire()
            assert await counters.get("in-flight") == 2
            status, headers, body = await get(ports[0])
            assert (status, headers["retry-after"]) == (503, "1")
            assert body == b"too many requests in flight\n"
            for app in apps:
                app.may_answer.set()
            assert [(status, body) for status, _, body in await asyncio.gather(*asked)] == [(200, b"ok")] * 2
            assert await counters.wait_zero("in-flight", timeout=GUARD_S)
            assert (await get(ports[1], "/fails"))[0] == 500
            assert await counters.wait_zero("in-flight", timeout=GUARD_S)
            assert (await get(ports[1]))[0] == 200
        assert [app.lifespans for app in apps] == [["lifespan.startup", "lifespan.shutdown"]] * 2

    with server_process(tmp_path) as server:
        run(scenario(f"naught://127.0.0.1:{server.port}"))


def test_each_key_has_its_own_limit_and_none_has_none() -> None:
    async def scenario() -> None:
        url = "memory://asgi-keys"
        app = App()
        keys = {"/ann": "ann", "/ben": "ben"}
        limited = InFlightLimit(
            app, url, limit=1, name="http", key=lambda scope: keys.get(scope["path"]), status=429, retry_after=2.5
        )
        async with naught.connect(url) as counters, served(limited) as port:
            asked = [asyncio.ensure_future(get(port, path)) for path in ("/ann", "/ben", "/", "/")]
            for _ in asked:
                await app.arrived.acquire()
            assert await counters.get_many(["http:ann", "http:ben", "http"]) == [1, 1, 0]
            status, headers, _ = await get(port, "/ann")
            assert (status, headers["retry-after"]) == (429, "3")
            app.may_answer.set()
            assert [status for status, _, _ in await asyncio.gather(*asked)] == [200] * 4
            assert await counters.wait_zero("http:ann", timeout=GUARD_S)
            assert await counters.wait_zero("http:ben", timeout=GUARD_S)

    run(scenario())


@pytest.mark.parametrize(
    ("unreachable", "status"), [pytest.param("open", 200, marks=pytest.mark.slow), ("closed", 503)]
)
def test_a_server_that_cannot_be_reached(
    unreachable: Any, status: int, tmp_path: Path, caplog: pytest.LogCaptureFixture
) -> None:
    async def scenario(server: ServerProcess) -> None:
        app = App()
        app.may_answer.set()
        url = f"naught://127.0.0.1:{server.port}"
        async with served(InFlightLimit(app, url, limit=5, unreachable=unreachable)) as port:
            assert (await get(port))[0] == 200
            await asyncio.to_thread(server.stop)
            assert [(await get(port))[0] for _ in range(5)] == [status] * 5

    with server_process(tmp_path) as server, caplog.at_level("WARNING", logger="naught"):
        run(scenario(server))
    assert sum("cannot be checked" in record.message for record in caplog.records) == 1, "one warning"


def test_a_server_that_was_never_there() -> None:
    async def scenario() -> None:
        app = App()
        app.may_answer.set()
        async with served(InFlightLimit(app, "naught://127.0.0.1:1", limit=5, timeout=0.05)) as port:
            assert [(await get(port))[0] for _ in range(3)] == [200] * 3

    run(scenario())


@pytest.mark.parametrize(
    "wrong",
    [{"limit": 0}, {"name": ""}, {"status": 500}, {"unreachable": "maybe"}, {"retry_after": -1}, {"timeout": "1"}],
)
def test_what_cannot_be_meant_is_said_at_once(wrong: dict[str, Any]) -> None:
    with pytest.raises(naught.InvalidRequest):
        InFlightLimit(App(), "memory://", **{"limit": 1} | wrong)


@pytest.mark.parametrize("wrong", [{"body": 5}, {"headers": [("a", "b")]}, {"url": 5}])
def test_a_body_headers_or_client_of_another_type_is_said_at_once(wrong: dict[str, Any]) -> None:
    with pytest.raises(naught.InvalidRequest, match=next(iter(wrong))):
        InFlightLimit(App(), **{"url": "memory://", "limit": 1} | wrong)


def as_json(refusal: Refusal) -> str:
    return json.dumps(refusal._asdict())


def rate_headers(refusal: Refusal) -> dict[str, str]:
    left = refusal.limit - (refusal.in_flight or 0)
    return {
        "X-RateLimit-Limit": str(refusal.limit),
        "X-RateLimit-Remaining": str(left),
        "Content-Type": "application/json",
    }


def test_a_refusal_has_the_body_and_the_headers_of_the_program_and_a_client_that_there_is() -> None:
    async def scenario() -> None:
        app = App()
        async with naught.connect("memory://") as counters:
            limited = InFlightLimit(
                app,
                counters,
                limit=1,
                status=429,
                retry_after=2.5,
                key=lambda scope: "ann",
                body=as_json,
                headers=rate_headers,
            )
            async with served(limited) as port:
                first = asyncio.ensure_future(get(port))
                await app.arrived.acquire()
                status, headers, body = await get(port)
                assert status == 429
                assert json.loads(body) == {
                    "status": 429,
                    "group": "ann",
                    "limit": 1,
                    "in_flight": 1,
                    "retry_after": 3,
                }
                assert headers["retry-after"] == "3"
                assert (headers["x-ratelimit-limit"], headers["x-ratelimit-remaining"]) == ("1", "0")
                assert headers["content-type"] == "application/json", "it replaces the one there is"
                assert await counters.get("in-flight:ann") == 1, "they count with the client that was given"
                app.may_answer.set()
                assert (await first)[0] == 200
            assert await counters.count() == 0, "the client is not closed with the application"

    run(scenario())


def test_a_refusal_without_a_server_says_that_nothing_is_known() -> None:
    async def scenario() -> None:
        client = naught.connect("naught://127.0.0.1:1", lazy=True)
        app = InFlightLimit(
            App(), client, limit=5, timeout=0.05, unreachable="closed", body=as_json, headers={"X-A": "b"}
        )
        async with served(app) as port:
            for _ in range(2):
                status, headers, body = await get(port)
                assert (status, headers["x-a"], json.loads(body)["in_flight"]) == (503, "b", None)
        await client.close()

    run(scenario())


async def answered(limited: InFlightLimit) -> int:
    """The status of the response to one request, without a web server."""
    sent: list[Any] = []

    async def send(message: Any) -> None:
        sent.append(message)

    await limited({"type": "http", "path": "/"}, None, send)  # type: ignore[arg-type]
    return int(sent[0]["status"])


async def respond(scope: Any, receive: Any, send: Any) -> None:
    await send({"type": "http.response.start", "status": 200, "headers": []})
    await send({"type": "http.response.body", "body": b""})


def test_in_every_event_loop_it_has_a_client(caplog: pytest.LogCaptureFixture) -> None:
    """Test clients run each request in a loop of its own."""
    limited = InFlightLimit(respond, "memory://loops", limit=1, unreachable="closed", timeout=GUARD_S)
    for _ in range(3):
        assert asyncio.run(answered(limited)) == 200

    async def beside_another() -> int:
        async with naught.connect("memory://loops") as counters:
            await counters.incr("in-flight")
            return await answered(limited)

    assert asyncio.run(beside_another()) == 503, "it counts"
    assert not caplog.records
    asyncio.run(limited.close())


@pytest.mark.parametrize("group", ["k" * 600, "\ud800"], ids=["too long", "no text"])
def test_a_group_that_is_no_key_is_an_error_and_passes_no_request(group: str) -> None:
    """A client that chooses the group, by a header for example, would pass every limit with it."""

    async def scenario() -> None:
        limited = InFlightLimit(respond, "memory://", limit=1, key=lambda scope: group, timeout=GUARD_S)
        with pytest.raises((naught.TooLarge, naught.InvalidRequest), match="key"):
            await answered(limited)
        await limited.close()

    run(scenario())


def test_a_client_of_another_loop_is_said() -> None:
    client = naught.connect("memory://", lazy=True)
    limited = InFlightLimit(respond, client, limit=1, timeout=GUARD_S)

    async def first() -> None:
        assert await answered(limited) == 200
        await client.close()

    asyncio.run(first())
    client = naught.connect("memory://", lazy=True)
    limited = InFlightLimit(respond, client, limit=1, timeout=GUARD_S)

    async def other() -> None:
        await client.ping()

        def in_thread() -> None:
            with pytest.raises(naught.WrongLoop):
                asyncio.run(answered(limited))

        await asyncio.to_thread(in_thread)
        await client.close()

    asyncio.run(other())
