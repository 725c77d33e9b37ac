"""Memory runs out in the middle of a command: it has happened wholly or not at all, or nobody is told anything.

Each command is run again and again, and each time a later allocation fails, until none does. A MemoryError that
leaves the protocol ends the process (`exhausted.py`), before a reply of that turn is sent. Everything else must be as
if there had been memory: a reply of success with all of the change, or an error with none of it.
"""

from __future__ import annotations

import asyncio
import os
import subprocess
import sys

import pytest

import naught
from naught.memory import drop_host
from naught_server import exhausted
from naught_server.commands import COMMANDS
from naught_server.protocol import ServerProtocol
from support.paths import SUPPORT
from support.seeds import slow
from support.surroundings import without_settings

DEADLINE_S = 120

pytest.importorskip("_testcapi", reason="this Python has no _testcapi, which makes allocations fail")

from support.no_memory import CALLS, GROUPS  # noqa: E402


def test_every_command_is_tried() -> None:
    assert (
        {call.method.encode() for call in CALLS}
        == COMMANDS.keys()
        == {m.encode() for g in GROUPS.values() for m in g}
    )


@pytest.mark.parametrize("group", slow(*GROUPS))
def test_a_command_that_gets_no_memory_happens_wholly_or_not_at_all_or_ends_the_process(group: str) -> None:
    crashed: list[str] = []  # attempts that the interpreter did not survive
    while True:
        tried = subprocess.run(
            [sys.executable, str(SUPPORT / "no_memory.py"), group, *crashed],
            check=False,
            capture_output=True,
            text=True,
            timeout=DEADLINE_S,
            env=without_settings(),
        )
        if tried.returncode >= 0:
            break
        crashed.append(tried.stdout.split()[-1])
    assert tried.returncode == 0, tried.stderr
    assert len(crashed) < len(tried.stdout.split()) // 100, "it crashes too often to say anything"


def test_without_memory_the_process_ends_at_once_and_says_why(monkeypatch: pytest.MonkeyPatch) -> None:
    class Ended(BaseException):
        pass

    def end(status: int) -> None:
        raise Ended(status)

    monkeypatch.setattr(os, "_exit", end)
    with pytest.raises(Ended, match="71"):
        exhausted.end_process(MemoryError())


@pytest.mark.patches
async def test_an_engine_in_process_that_has_no_memory_is_lost_for_all_its_clients(
    monkeypatch: pytest.MonkeyPatch,
) -> None:
    """As a server that has ended is: the outcome of the call is unknown, and later ones reach nobody."""
    receive = ServerProtocol.receive

    def fails(self: ServerProtocol, data: bytes, now_ms: int) -> bytes:
        if b"unlucky" in data:
            raise MemoryError
        return receive(self, data, now_ms)

    monkeypatch.setattr(ServerProtocol, "receive", fails)
    async with asyncio.timeout(DEADLINE_S):
        async with naught.connect("memory://unlucky", timeout=0.2) as one, naught.connect("memory://unlucky") as two:
            assert await two.incr("k") == 1
            with pytest.raises(naught.NaughtError):
                await one.incr("unlucky")
            with pytest.raises(naught.NaughtError):
                await two.get("k", timeout=0.2)
        drop_host("unlucky")
        async with naught.connect("memory://unlucky") as anew:
            assert await anew.get("k") == 0
    drop_host("unlucky")
