"""The examples of the README run, and print what their comments say."""

from __future__ import annotations

import asyncio
import re
import subprocess
import sys
import tomllib
from pathlib import Path
from typing import Any

import pytest

import naught
import naught.asgi
import naught.lint
from support.client_helpers import ScriptedServer, connected
from support.paths import ROOT

README = (ROOT / "README.md").read_text("utf-8")


def blocks(language: str) -> list[str]:
    return re.findall(rf"^```{language}\n(.*?)^```$", README, re.MULTILINE | re.DOTALL)


def block_with(language: str, text: str) -> str:
    (found,) = [block for block in blocks(language) if text in block]
    return found


def namespace_of(*texts: str) -> dict[str, Any]:
    space: dict[str, Any] = {"asyncio": asyncio, "naught": naught}
    for text in texts:
        exec(compile(block_with("python", text), "README.md", "exec"), space)
    return space


def test_the_first_program_prints_what_it_says() -> None:
    program = block_with("python", "asyncio.run(main())")
    expected = re.findall(r"# (\d+)", program)
    assert "naught://localhost:6480" in program
    result = subprocess.run(
        [sys.executable, "-c", program.replace("naught://localhost:6480", "memory://")],
        capture_output=True,
        text=True,
        check=True,
        timeout=60,
    )
    assert result.stdout.split() == expected
    assert result.stderr == ""


def test_threads() -> None:
    program = block_with("python", "naught.blocking.Client(")
    expected = re.findall(r"print\(.*\)  # ([^:\n]+)", program)
    assert len(expected) == 4
    result = subprocess.run(
        [sys.executable, "-W", "error", "-c", program.replace("naught://localhost:6480", "memory://")],
        capture_output=True,
        text=True,
        check=True,
        timeout=60,
    )
    assert result.stdout.splitlines() == expected
    assert result.stderr == ""


async def test_limits_and_quotas() -> None:
    space = namespace_of("async def book", "async def within_quota")
    async with naught.connect("memory://") as counters:
        assert await space["book"](counters, "LH1", 179) is True
        assert await space["book"](counters, "LH1", 2) is False
        assert await space["book"](counters, "LH1", 1) is True
        answers = [await space["within_quota"](counters, "ann") for _ in range(101)]
        assert answers == [True] * 100 + [False]


async def test_many_at_once_and_draining() -> None:
    space = namespace_of("async def arrive", "async def drain")
    async with naught.connect("memory://") as counters:
        assert await space["arrive"](counters, ["views:a", "views:b", "views:a"]) == [1, 1, 2]
        saved: dict[str, int] = {}
        await space["drain"](counters, saved.update)
        assert saved == {"views:a": 2, "views:b": 1}
        assert await counters.count() == 0


async def test_semaphores() -> None:
    space = namespace_of("async def render", "async def copy", "async def publish", "async def finished")
    async with naught.connect("memory://") as counters:
        inside: list[int] = []

        async def job() -> None:
            inside.append(await counters.get("gpu"))
            await counters.ping()

        await asyncio.gather(*(space["render"](counters, job) for _ in range(12)))
        assert len(inside) == 12
        assert 1 <= max(inside) <= 4

        async def work() -> list[int]:
            return await counters.get_many(["disk:a", "disk:b"])

        assert await space["copy"](counters, "a", "b", work) == [1, 1]
        fences: list[int] = []

        def save(report: str, fence: int) -> bool:
            fences.append(fence)
            return True

        async def make() -> str:
            return "report"

        assert await space["publish"](counters, make, save)
        assert await space["publish"](counters, make, save)
        assert fences == sorted(set(fences))
        assert await counters.count() == 0

        await counters.incr("jobs:7")
        waiting = asyncio.ensure_future(space["finished"](counters, 7))
        await counters.decr("jobs:7")
        assert await waiting is True


async def test_more_patterns() -> None:
    space = namespace_of("async def import_all", "def limited")
    async with naught.connect("memory://") as counters:

        async def hand_out(files: list[str]) -> None:
            for _ in files:
                await counters.wait_group("import-7").done()

        assert await space["import_all"](counters, ["a", "b"], hand_out) is True
        deleted: list[str] = []

        async def delete(blob: str) -> None:
            deleted.append(blob)

        for _ in range(2):
            await counters.reference("blob:x").retain()
        for _ in range(2):
            await space["let_go"](counters, "x", delete)
        assert deleted == ["x"]

        async def send() -> int:
            return await counters.in_flight("uploads").value()

        assert await space["upload"](counters, send) == 1
        assert await counters.count() == 0

        async def do() -> str:
            return "done"

        answers = [await space["call"](counters, "ann", do) for _ in range(101)]
        assert answers == ["done"] * 100 + ["come back in 3600 s"]
    assert callable(space["limited"](lambda scope, receive, send: None))


async def test_what_a_lost_connection_means() -> None:
    space = namespace_of("async def place")
    async with ScriptedServer() as server:
        counters, peer = await connected(naught.connect(server.url), server)
        placed = asyncio.ensure_future(space["place"](counters, 1))
        _, msgid, method, params = await peer.request()
        assert (method, params) == ("incr", [b"orders:1"])
        peer.reply(msgid, 1)
        assert await placed == 1
        placed = asyncio.ensure_future(space["place"](counters, 2))
        await peer.request()
        peer.abort()
        peer = await server.peer()  # which knows no session
        assert await placed is None
        closing = asyncio.ensure_future(counters.close())
        await peer.ended()
        peer.close()
        await closing


def test_without_a_server() -> None:
    space = namespace_of("def count_down", "def tidy")
    assert space["count_down"]() == ((0, True), 0)
    clean, where = space["tidy"]({"anna": {"reads": 3, "writes": 0}, "ben": 0})
    assert clean == {"anna": {"reads": 3}}
    assert sorted(where) == ["['anna']['writes']", "['ben']"]


def test_the_checker_finds_what_the_example_says() -> None:
    """On the lines whose comments say so, and nowhere else in the page's Python."""
    for block in blocks("python"):
        said = [
            (line, rule) for line, text in enumerate(block.split("\n"), 1) for rule in re.findall(r"# (NZ\d+):", text)
        ]
        assert [(found.line, found.rule) for found in naught.lint.check_source(block, "README.md")] == said
    assert "# NZ101:" in block_with("python", "class Connections")


@pytest.mark.parametrize("toml", blocks("toml"))
def test_the_configuration_is_good(toml: str, tmp_path: Path) -> None:
    file = tmp_path / "naught.toml"
    file.write_text(toml)
    assert tomllib.loads(toml)
    command = [sys.executable, "-m", "naught_server", "--config", str(file), "--check-config"]
    assert subprocess.run(command, capture_output=True, timeout=60, check=False).returncode == 0


def test_every_command_that_is_named_exists() -> None:
    makefile = (ROOT / "Makefile").read_text("utf-8")
    for target in set(re.findall(r"(?:^|`)make (\w+)", README, re.MULTILINE)):
        assert re.search(rf"^{target}:", makefile, re.MULTILINE), target
    for command in set(re.findall(r"bin/naught (\w+)", README)):
        help_text = [sys.executable, "-m", "naught", command, "--help"]
        assert subprocess.run(help_text, capture_output=True, timeout=60, check=False).returncode == 0, command
    for command in set(re.findall(r"^naught ([a-z-]+)", README, re.MULTILINE)) - {"--help"}:
        help_text = [sys.executable, "-m", "naught", command, "--help"]
        assert subprocess.run(help_text, capture_output=True, timeout=60, check=False).returncode == 0, command
    for command in set(re.findall(r"naught-loadtest (\w+)", README)):
        help_text = [sys.executable, "-m", "naught_loadtest", command, "--help"]
        assert subprocess.run(help_text, capture_output=True, timeout=60, check=False).returncode == 0, command
