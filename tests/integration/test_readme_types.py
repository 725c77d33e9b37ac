"""The examples of the README and the guides as a user would write them who checks types with mypy --strict.

The pages leave annotations out, to be easy to read. Here each of their functions gets the signature that such a user
would write. The bodies are those of the pages, and mypy finds nothing wrong in them.
"""

from __future__ import annotations

import importlib.util
import os
import re
import subprocess
import sys
from pathlib import Path

import pytest

from integration.test_readme import ROOT, blocks

IMPORTS = """\
from __future__ import annotations

import asyncio
import contextvars
from collections.abc import Awaitable, Callable, Mapping, Sequence
from typing import Any, assert_type

import naught
import naught.asgi
import naught.otel
import naught.testing
import naught.wsgi

Counters = naught.Client
Do = Callable[[], Awaitable[int]]

"""

SIGNATURES = {
    "main": "() -> None",
    "book": "(counters: Counters, flight: str, seats: int) -> bool",
    "within_quota": "(counters: Counters, user: str) -> bool",
    "arrive": "(counters: Counters, names: Sequence[str]) -> list[int]",
    "drain": "(counters: Counters, save: Callable[[dict[str, int]], object]) -> None",
    "render": "(counters: Counters, job: Do) -> int",
    "copy": "(counters: Counters, source: str, target: str, work: Do) -> int",
    "publish": "(counters: Counters, make: Callable[[], Awaitable[str]], save: Callable[..., bool]) -> bool",
    "import_all": "(counters: Counters, files: list[str], hand_out: Callable[[list[str]], Awaitable[None]]) -> bool",
    "let_go": "(counters: Counters, blob: str, delete: Callable[[str], Awaitable[None]]) -> None",
    "upload": "(counters: Counters, send: Do) -> int",
    "call": "(counters: Counters, user: str, do: Callable[[], Awaitable[str]]) -> str",
    "limited": "(app: naught.asgi.App) -> naught.asgi.App",
    "limited_in_json": "(app: naught.asgi.App) -> naught.asgi.App",
    "limited_with_threads": "(app: naught.wsgi.App) -> naught.wsgi.App",
    "told": "(refusal: naught.asgi.Refusal) -> str",
    "headers": "(refusal: naught.asgi.Refusal) -> dict[str, str]",
    "render_or_say": "(counters: Counters, job: Callable[[], Awaitable[str]]) -> str",
    "within_rate": "(counters: Counters, user: str) -> str",
    "test_the_quota_comes_back": "(naught_memory: naught.testing.MemoryServer) -> None",
    "convert": "(counters: naught.blocking.Client, files: list[str], convert_one: Callable[[str], str]) -> list[str]",
    "one": "(file: str) -> str",
    "finished": "(counters: Counters, batch: int) -> bool",
    "slowest": "(counters: Counters) -> list[str]",
    "with_trace": "(current: contextvars.ContextVar[str | None]) -> Callable[[naught.ObservedCall], None]",
    "on_call_start": "(call: naught.ObservedCall) -> None",
    "place": "(counters: Counters, order: int) -> int | None",
    "count_down": "() -> tuple[tuple[int, bool], int]",
    "tidy": "(usage: Mapping[str, Any]) -> tuple[Any, list[str]]",
    "within_limit": "(counters: naught.blocking.Client, user: str) -> bool",
    "release_file": "(counters: naught.blocking.Client, name: str, delete: Callable[[str], object]) -> None",
    "nightly_report": "(counters: naught.blocking.Client, make: Callable[[int], object]) -> None",
    "render_frame": "(counters: naught.blocking.Client, render: Callable[[], int]) -> int",
    "call_service": "(counters: naught.blocking.Client, user: str, call: Callable[[], str]) -> str",
    "finish_batch": "(counters: naught.blocking.Client, batch: int, jobs: list[int], do: Callable[..., int]) -> bool",
    "__init__": "(self) -> None",
    "opened": "(self, address: str) -> None",
    "closed": "(self, address: str) -> None",
}

# What the pages do not show, by both clients: what each method returns, and what is refused.
MORE = """
async def asked(counters: naught.Client) -> None:
    assert_type(await counters.incr("a"), int)
    assert_type(await counters.top(3), list[tuple[str, int]])
    assert_type(await counters.held(), dict[int, dict[str, int]])
    assert_type(await counters.holders("a"), list[naught.Holder])
    assert_type(await counters.end_session(1), bool)
    assert_type(await counters.semaphore("a", 1).try_acquire(), naught.Permit | None)
    await counters.incr(5)  # refused


async def asked_in_bytes(counters: naught.Client[bytes]) -> None:
    assert_type(await counters.top(3), list[tuple[bytes, int]])


def waited(counters: naught.blocking.Client) -> None:
    assert_type(counters.incr("a", by=2, ttl_ms=5, timeout=None), int)
    assert_type(counters.holders("a"), list[naught.Holder])
    assert_type(counters.end_session(1), bool)
    assert_type(counters.apply(["a"], 1), list[int | naught.CommandError])
    assert_type(counters.acquire([("a", 1, 1)], wait=None), naught.Acquired)
    assert_type(counters.top(3), list[tuple[str, int]])
    assert_type(counters.held(), dict[int, dict[str, int]])
    assert_type([key for key, _ in counters.scan_iter()], list[str])
    with counters.semaphore("a", limit=4) as permit:
        assert_type(permit, naught.blocking.Permit)
        assert_type(permit.lost.wait(0.0), bool)
    assert_type(counters.semaphore("a", 1).try_acquire(), naught.blocking.Permit | None)
    assert_type(counters.acquire_all({"a": 1}, timeout=1), naught.blocking.Permit)
    assert_type(counters.wait_group("a", held=True).wait(timeout=1), bool)
    assert_type(counters.reference("a").release(), bool)
    assert_type(counters.in_flight("a").value(), int)
    assert_type(counters.quota("a", 1, per=1).retry_after(), float)
    counters.incr(5)  # refused
    counters.incr("a", bye=5)  # refused
    counters.semaphore("a")  # refused
    await_it: str = counters.get("a")  # refused


def waited_in_bytes() -> None:
    counters = naught.blocking.Client("memory://", decode_keys=False)
    assert_type(counters, naught.blocking.Client[bytes])
    assert_type(counters.top(3), list[tuple[bytes, int]])
    assert_type(counters.incr("a"), int)


def decorated(counters: naught.blocking.Client) -> Callable[[int], str]:
    @counters.semaphore("a", 1)
    def work(job: int) -> str:
        return str(job)

    return work
"""


def annotated(program: str) -> str:
    """With the signatures of the table; a function that is not in it fails."""

    def with_signature(found: re.Match[str]) -> str:
        return f"{found[1]}def {found[2]}{SIGNATURES[found[2]]}:"

    program = re.sub(r"^( *(?:async )?)def (\w+)\(.*\):$", with_signature, program, flags=re.MULTILINE)
    return program.replace("self.open = {}", "self.open: dict[str, int] = {}")


@pytest.mark.slow
def test_strict_types(tmp_path: Path, mypy_cache: Path) -> None:
    if importlib.util.find_spec("mypy") is None:
        if os.environ.get("CI") == "true":
            pytest.fail("mypy must be installed in CI")
        pytest.skip("mypy is not installed")
    for number, block in enumerate([*blocks("python"), MORE]):
        (tmp_path / f"example_{number}.py").write_text(IMPORTS + (block if block is MORE else annotated(block)))
    files = sorted(tmp_path.iterdir())
    marked = {
        (file.name, number)
        for file in files
        for number, line in enumerate(file.read_text().splitlines(), 1)
        if "# refused" in line
    }
    done = subprocess.run(
        [
            *(sys.executable, "-m", "mypy", "--strict", "--no-error-summary", "--no-pretty", "--hide-error-context"),
            *("--cache-dir", str(mypy_cache), "--config-file", str(ROOT / "pyproject.toml"), *map(str, files)),
        ],
        cwd=ROOT,
        capture_output=True,
        text=True,
        timeout=300,
        check=False,
    )
    errors = {
        (Path(found[1]).name, int(found[2])): found[3]
        for found in re.finditer(r"^(.*?):(\d+): error: (.*)$", done.stdout, re.MULTILINE)
    }
    assert {place: errors[place] for place in errors.keys() - marked} == {}
    assert sorted(marked - errors.keys()) == [], "mypy accepts what it should refuse"
    assert len(marked) == 5
    assert done.stderr == ""
