"""The drawings in docs/architecture.md that show the walk of a request, held to the calls that a request makes."""

from __future__ import annotations

import asyncio
import contextlib
import re
import sys
from collections.abc import Callable, Iterator
from contextlib import contextmanager
from pathlib import Path
from types import FrameType
from typing import Any, NamedTuple

import pytest

import naught
from naught._compiled import is_compiled
from naught.wire.codec import encode_request
from naught_server import hot
from naught_server.connection import Connection
from naught_server.turns import Turns
from support.conversation import engine_of
from support.paths import DOCS, ROOT
from support.server_process import server_process
from support.transport import FakeTransport, turns_taken

WALK = re.compile(r"^<!-- walk: ([\w-]+) -->\n```text\n(.*?)^```$", re.MULTILINE | re.DOTALL)
LINE = re.compile(r"^(?P<file>\w+\.py) +(?P<name>[\w.]+)")
SOURCES = [str(ROOT / folder) for folder in ("client", "server")]


class Call(NamedTuple):
    """A call of a function of naught: how deep it is, its file, its name with its class."""

    depth: int
    file: str
    name: str


def drawings() -> dict[str, list[Call]]:
    """The walks by name. The depth of a call is the column in which its name stands."""
    found = {}
    for name, block in WALK.findall((DOCS / "architecture.md").read_text("utf-8")):
        lines = [LINE.match(line) for line in block.splitlines()]
        assert all(lines), f"{name}: a line has a file and the name of a function"
        found[name] = [Call(line.start("name"), line["file"], line["name"]) for line in lines if line]
    return found


@contextmanager
def traced(calls: list[Call]) -> Iterator[None]:
    """Note every call of naught's own functions in this thread."""
    depth = 0

    def note(frame: FrameType, event: str, _: Any) -> None:
        nonlocal depth
        if not frame.f_code.co_filename.startswith(tuple(SOURCES)):
            return
        if event == "call":
            calls.append(Call(depth, Path(frame.f_code.co_filename).name, frame.f_code.co_qualname))
            depth += 1
        elif event == "return":
            depth -= 1

    sys.setprofile(note)
    try:
        yield
    finally:
        sys.setprofile(None)


def follows(drawing: list[Call], calls: list[Call]) -> str | None:
    """The first line of a drawing that the calls do not follow; None where they follow all.

    Each line must be a later call than the line before it. A line that is indented more than an earlier one must be
    called, directly or not, by the last such line.
    """
    callers: list[tuple[int, int]] = []  # the column of a line, and where what it calls ends
    at = 0  # where to look for the next line
    for line in drawing:
        while callers and callers[-1][0] >= line.depth:
            callers.pop()
        stop = callers[-1][1] if callers else len(calls)
        found = next((index for index in range(at, stop) if calls[index][1:] == line[1:]), None)
        if found is None:
            return f"{line.file} {line.name}"
        at = found + 1
        callers.append((line.depth, end_of(found, calls)))
    return None


def end_of(index: int, calls: list[Call]) -> int:
    """The index behind the last call that a call makes, directly or not."""
    later = range(index + 1, len(calls))
    return next((other for other in later if calls[other].depth <= calls[index].depth), len(calls))


def serve(request: bytes) -> list[Call]:
    async def scenario() -> list[Call]:
        connection = Connection(engine_of(), Turns(asyncio.get_running_loop().call_soon), lambda gone: None)
        connection.connection_made(FakeTransport())
        connection.data_received(encode_request(1, "ping", ()))
        await turns_taken(connection)
        calls: list[Call] = []
        with traced(calls):
            connection.data_received(request)
        return calls

    return asyncio.run(scenario())


def call_in_a_loop(folder: Path) -> list[Call]:
    async def scenario() -> list[Call]:
        async with naught.connect("memory://") as counters:
            await counters.incr("a")
            calls: list[Call] = []
            with traced(calls):
                await counters.incr("a")
            return calls

    return asyncio.run(scenario())


def call_in_a_thread(folder: Path) -> list[Call]:
    with server_process(folder) as server, naught.blocking.Client(f"naught://127.0.0.1:{server.port}") as counters:
        counters.incr("a")
        calls: list[Call] = []
        with traced(calls):
            counters.incr("a")
        return calls


def serve_a_thread(folder: Path) -> list[Call]:
    """The same in the client's own thread."""
    with server_process(folder) as server, naught.blocking.Client(f"naught://127.0.0.1:{server.port}") as counters:
        calls: list[Call] = []
        tracing = contextlib.ExitStack()

        async def in_the_loop(function: Callable[[], object]) -> None:
            function()

        def do(function: Callable[[], object]) -> None:
            loop = counters._connection._event_loop
            assert loop is not None
            asyncio.run_coroutine_threadsafe(in_the_loop(function), loop).result()

        do(lambda: tracing.enter_context(traced(calls)))
        counters.incr("a")
        do(tracing.close)
        return calls


WALKS: dict[str, Callable[[Path], list[Call]]] = {
    "server-plain": lambda folder: serve(encode_request(1, "incr", ["k"])),
    "server-careful": lambda folder: serve(encode_request(1, "incr", ["k", 1, 5_000])),
    "client-asyncio": call_in_a_loop,
    "client-threads": call_in_a_thread,
    "client-threads-loop": serve_a_thread,
}


@pytest.mark.parametrize("name", WALKS)
def test_a_request_walks_as_it_is_drawn(name: str, tmp_path: Path) -> None:
    if is_compiled(hot):
        pytest.skip("a compiled function is not seen by the profiler; the walks are those of the sources")
    calls = WALKS[name](tmp_path)
    assert follows(drawings()[name], calls) is None, "\n".join("  " * call.depth + call.name for call in calls)


def test_every_walk_is_drawn_and_tried() -> None:
    assert list(drawings()) == list(WALKS)


def test_a_wrong_drawing_is_found() -> None:
    calls = [
        Call(0, "a.py", "f"),
        Call(1, "a.py", "g"),
        Call(2, "b.py", "h"),
        Call(1, "a.py", "i"),
        Call(0, "a.py", "j"),
    ]
    right = [Call(0, "a.py", "f"), Call(4, "b.py", "h"), Call(2, "a.py", "i"), Call(0, "a.py", "j")]
    assert follows(right, calls) is None
    assert follows([*right[:1], Call(2, "a.py", "missing")], calls) == "a.py missing"
    assert follows([right[0], right[2], Call(2, "b.py", "h")], calls) == "b.py h", "in the wrong order"
    assert follows([right[0], Call(2, "a.py", "j")], calls) == "a.py j", "not called by the line above"
