"""`naught watch` in a real pseudo-terminal, against a server process and against servers whose answers the test
writes. Without a terminal it prints lines."""

from __future__ import annotations

import asyncio
import contextlib
import json
import os
import re
import signal
import subprocess
import sys
from collections.abc import AsyncIterator, Iterator
from pathlib import Path
from typing import Any

import pytest

from support.client_helpers import Peer, ScriptedServer
from support.infos import info_of, later, session_row
from support.pseudo_terminal import GUARD_S, PseudoTerminal
from support.seeds import slow
from support.server_process import ServerProcess, server_process, wait_until
from support.surroundings import without_settings

EVIL = "\x1b]0;pwned\x07\x1b[2J\x9b31m\udc9b\u202eend"
SPELLED = "\\x1b]0;pwned\\x07\\x1b[2J\\x9b31m\\x9b\\u202eend"


@pytest.fixture(scope="module")
def server(tmp_path_factory: pytest.TempPathFactory) -> Iterator[ServerProcess]:
    with server_process(tmp_path_factory.mktemp("server")) as server:
        yield server


def environment(url: str, **words: str) -> dict[str, str]:
    without = without_settings()
    return {**without, "TERM": "xterm", "NAUGHT_URL": url, **words}


def url_of(server: ServerProcess) -> str:
    return f"naught://127.0.0.1:{server.port}"


WATCH = ["watch", "--interval", "0.05"]


async def test_a_server_is_watched(server: ServerProcess) -> None:
    with server.connect() as load:
        load.call("incr", "seats", 1_234)
        load.call("incr", "rows", 5)
        async with PseudoTerminal(WATCH, environment(url_of(server))) as terminal:
            await terminal.until(r"commands/s +\d")
            shown = await terminal.until(r"default +2 +2 +0\.0%")
            assert f"naught 0.1.0 at {url_of(server)}, up " in shown
            assert terminal.screen.modes == {"1049"} | (terminal.screen.modes - {"25"})
            terminal.type("c")
            await terminal.until(r"seats +1,234\n *rows +5\n|seats +1,234\nrows +5\n")
            load.call("incr", "rows", 5_000)
            await terminal.until(r"rows +5,005\nseats +1,234\n")
            terminal.type("r")
            await terminal.until(r"seats +1,234\nrows +5,005\n")
            terminal.type("\x1b[D")  # left: the overview
            await terminal.until(r"METHOD")
            terminal.resize(60, 12)
            await terminal.until(r"\A.{1,60}\n(.*\n){10}o overview.*…\Z")
            terminal.type("q")
            assert await terminal.ended() == 0
            assert terminal.screen.modes == {"25"}
            assert terminal.modes_now() == terminal.modes


async def serve(server: ScriptedServer, answers: dict[str, Any]) -> None:
    """Answer every connection, with the same `sessions` and `top`, and an `info` in which time passes."""
    async with asyncio.TaskGroup() as group:
        while True:
            group.create_task(_serve_peer(await server.peer(), answers))


async def _serve_peer(peer: Peer, answers: dict[str, Any]) -> None:
    with contextlib.suppress(EOFError, ConnectionError):
        while True:
            kind, msgid, method, *params = await peer.request()
            if kind != 0:
                continue
            if method == "info":
                answers["info"] = later(answers["info"])
            if method == "sessions":
                after = params[0][0] if params[0] else 0
                peer.reply(msgid, [row for row in answers["sessions"] if row["session"] > after])
            elif method in answers:
                peer.reply(msgid, answers[method])
            else:
                peer.reply(msgid, None)


@contextlib.asynccontextmanager
async def scripted(**answers: Any) -> AsyncIterator[ScriptedServer]:
    async with ScriptedServer() as server:
        serving = asyncio.ensure_future(serve(server, answers))
        try:
            yield server
        finally:
            serving.cancel()
            with contextlib.suppress(asyncio.CancelledError):
                await serving


async def test_sessions_and_holders_and_names_that_are_hostile() -> None:
    key = EVIL.encode("utf-8", "surrogateescape")
    sessions = [
        session_row(1, name=EVIL.replace("\udc9b", ""), holds=2, held=[[key, 2], [b"gpu", 1]]),
        session_row(2, name="worker:7", holds=1, held=[[b"gpu", 3]]),
        session_row(3, name="late:8", parked=1, waits=[["room", [b"gpu"]]]),
    ]
    async with (
        scripted(info=info_of(), sessions=sessions, top=[[key, b"b"], [7, 5]]) as server,
        PseudoTerminal(WATCH, environment(server.url), columns=200) as terminal,
    ):
        await terminal.until(r"commands/s")
        terminal.type("s")
        shown = await terminal.until(r"worker:7")
        assert f"{SPELLED} ×2, gpu ×1" in shown
        assert re.search(r"late:8 .*waits for room: gpu", shown)
        terminal.type("h")
        await terminal.until(r"default +gpu +4 +2 +1  worker:7 ×3, .* ×1, waiting: late:8")
        terminal.type("c")
        await terminal.until(re.escape(SPELLED) + r" +7\n")
        terminal.type("\x04")
        assert await terminal.ended() == 0


@pytest.mark.slow
async def test_a_server_that_is_gone_and_comes_back() -> None:
    answers = {"info": info_of(uptime_ms=600_000)}
    async with ScriptedServer() as server:
        serving = asyncio.ensure_future(serve(server, answers))
        words = [*WATCH, "--timeout", "0.2"]
        async with PseudoTerminal(words, environment(server.url)) as terminal:
            await terminal.until(r"The server answers\.\n\ncommands/s")
            server.refuse()
            serving.cancel()
            with contextlib.suppress(asyncio.CancelledError):
                await serving
            for peer in server._all:
                peer.abort()
            shown = await terminal.until(r"No answer for \d+ s\. The figures are of then\. \w")
            assert "commands/s" in shown
            await server.listen()
            answers["info"] = info_of(uptime_ms=10)
            serving = asyncio.ensure_future(serve(server, answers))
            await terminal.until(r"The server answers\.\n\ncommands/s")
            terminal.type("q")
            assert await terminal.ended() == 0
        serving.cancel()
        with contextlib.suppress(asyncio.CancelledError):
            await serving


async def test_keys_of_the_terminal_leave_it_as_it_was(server: ServerProcess) -> None:
    """Ctrl-Z stops it and a shell's `fg` lets it go on; Ctrl-C ends it."""
    async with PseudoTerminal(WATCH, environment(url_of(server))) as terminal:
        await terminal.until(r"commands/s")
        terminal.type("\x1a")
        pid = terminal.process.pid
        await asyncio.to_thread(
            wait_until, lambda: os.waitid(os.P_PID, pid, os.WSTOPPED | os.WNOHANG) is not None, "it stops"
        )
        terminal.read_rest()
        assert "1049" not in terminal.screen.modes
        assert terminal.modes_now() == terminal.modes
        terminal.screen.resize(100, 30)  # which forgets what was shown before
        terminal.process.send_signal(signal.SIGCONT)
        await terminal.until(r"commands/s")
        assert "1049" in terminal.screen.modes
        terminal.type("\x03")
        assert await terminal.ended() == 130
        assert terminal.screen.modes == {"25"}
        assert terminal.modes_now() == terminal.modes


async def test_sigterm_leaves_the_terminal_as_it_was(server: ServerProcess) -> None:
    async with PseudoTerminal(WATCH, environment(url_of(server))) as terminal:
        await terminal.until(r"commands/s")
        terminal.process.terminate()
        assert await terminal.ended() == 0
        assert terminal.screen.modes == {"25"}
        assert terminal.modes_now() == terminal.modes


@pytest.mark.slow
async def test_a_pause_asks_nothing(server: ServerProcess) -> None:
    def asked() -> int:
        count: int = server.call("info")[b"commands"][b"info"]
        return count

    async with PseudoTerminal(WATCH, environment(url_of(server))) as terminal:
        await terminal.until(r"commands/s")
        terminal.type(" ")
        await terminal.until(r"Paused\.")
        await terminal.until(r"Paused\. The figures are [1-9] s old")  # a question that was under way is answered
        before = asked()
        await terminal.until(r"Paused\. The figures are [2-9] s old")
        assert asked() == before + 1, "which is the one of this test"
        terminal.type(" ")
        await terminal.until(r"The server answers\.")
        terminal.type("q")
        assert await terminal.ended() == 0


async def test_a_terminal_that_obeys_nothing_gets_lines(server: ServerProcess) -> None:
    words = [*WATCH, "--interval", "0.05"]
    async with PseudoTerminal(words, environment(url_of(server), TERM="dumb", NO_COLOR="1")) as terminal:
        await terminal.until(r"commands/s +errors/s .*\n +\d+ +\d+ +\d+")
        assert terminal.screen.modes == set()
        terminal.type("\x03")
        assert await terminal.ended() == 130


@pytest.mark.parametrize("as_json", [*slow(False), True], ids=["text", "json"])
def test_without_a_terminal_it_prints_what_stat_prints(server: ServerProcess, as_json: bool, tmp_path: Path) -> None:
    def printed(command: str) -> list[str]:
        words = [command, "--lines", "2", "--interval", "0.05", *(["--json"] if as_json else [])]
        done = subprocess.run(
            [sys.executable, "-W", "error", "-m", "naught", *words],
            capture_output=True,
            text=True,
            check=False,
            timeout=GUARD_S,
            env=environment(url_of(server)),
        )
        assert (done.returncode, done.stderr) == (0, "")
        return done.stdout.splitlines()

    watched, listed = printed("watch"), printed("stat")
    if as_json:
        assert [json.loads(line).keys() for line in watched] == [json.loads(line).keys() for line in listed]
        assert len(watched) == 2
    else:
        assert watched[0] == listed[0]
        assert [len(line) for line in watched] == [len(line) for line in listed]


def test_a_server_that_is_not_there_is_one_clear_line(tmp_path: Path) -> None:
    done = subprocess.run(
        [sys.executable, "-W", "error", "-m", "naught", *WATCH, "--timeout", "0.1"],
        capture_output=True,
        text=True,
        check=False,
        timeout=GUARD_S,
        env=environment("naught://127.0.0.1:1"),
    )
    assert done.returncode == 1
    assert done.stdout == ""
    assert re.fullmatch(r"naught: .+\n", done.stderr)
