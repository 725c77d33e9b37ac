"""Memory runs out in the middle of a command: it has happened wholly or not at all, or nobody is told anything.

Each command is run again and again, and each time a later allocation fails, until none does. A MemoryError that
leaves the protocol ends the process (`exhausted.py`), before a reply of that turn is sent. Everything else must be as
if there had been memory: a reply of success with all of the change, or an error with none of it.
"""

from __future__ import annotations

import asyncio
import contextlib
import itertools
import os
import signal
import subprocess
import sys
import types
from collections.abc import Iterator
from pathlib import Path
from typing import Final

import pytest

import naught
from naught.memory import drop_host
from naught_server import exhausted
from naught_server.commands import COMMANDS
from naught_server.protocol import ServerProtocol
from support.paths import SUPPORT
from support.seeds import exhaustive, slow
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
    monkeypatch.setattr(signal, "setitimer", lambda *_: None)
    with pytest.raises(Ended, match="71"):
        exhausted.end_process(MemoryError())


ENDS: dict[str, tuple[int, str]] = {
    "lock": (exhausted.EXIT_STATUS, "out of memory: the process ends"),
    "blocked": (-signal.SIGALRM, ""),
    "pipe": (-signal.SIGALRM, ""),
    "thread": (exhausted.EXIT_STATUS, ""),
    "ignored": (exhausted.EXIT_STATUS, ""),
    "reported": (exhausted.EXIT_STATUS, ""),
    "stuck": (-signal.SIGPROF, ""),
}


@pytest.mark.parametrize("how", ENDS)
def test_the_process_ends_whatever_it_lacks_for_that(how: str) -> None:
    status, said = ENDS[how]
    ended = ended_process("no_memory_end.py", how)
    assert ended.returncode == status, ended.stderr
    assert said in ended.stderr


@pytest.mark.skipif(not hasattr(signal, "sigtimedwait"), reason="macOS cannot wait for a signal")
def test_a_process_that_was_stopped_is_not_taken_for_one_that_is_stuck() -> None:
    ended = ended_process("no_memory_end.py", "stopped")
    assert (ended.returncode, ended.stdout) == (0, "serves\n"), ended.stderr


def ended_process(program: str, *arguments: str) -> subprocess.CompletedProcess[str]:
    return subprocess.run(
        [sys.executable, str(SUPPORT / program), *arguments],
        check=False,
        capture_output=True,
        text=True,
        timeout=DEADLINE_S,
        env=without_settings(),
    )


RUNS_ON = {"answered", "closed"}
FIRSTS = {"requests": [1, 2, 60, 220, 450], "connects": [1, 8, 20, 40], "closes": [1, 10, 25, 60]}
ENDED = {f"status {status}" for status in (exhausted.EXIT_STATUS, -signal.SIGABRT, -signal.SIGSEGV)}
"""libuv aborts, and the interpreter may crash: neither is in our hands."""


QUICK_LACKS = [("uvloop", "requests", 0), ("uvloop", "requests", 3)]
SLOW_LACKS = [
    ("uvloop", "connects", 1),
    ("uvloop", "closes", 3),
    ("asyncio", "requests", 1),
    ("asyncio", "connects", 3),
    ("asyncio", "closes", 0),
]
"""With those, each loop at each stage, and each count."""


@pytest.mark.parametrize(
    ("loop", "stage", "count"),
    [
        *QUICK_LACKS,
        *slow(*SLOW_LACKS),
        *exhaustive(
            *(
                lack
                for lack in itertools.product(("uvloop", "asyncio"), FIRSTS, (0, 1, 3))
                if lack not in QUICK_LACKS + SLOW_LACKS
            )
        ),
    ],
)
def test_a_server_whose_allocations_fail_ends_or_serves_on_and_leaves_nobody_waiting(
    loop: str, stage: str, count: int
) -> None:
    """Within the loop too, which says nothing of a MemoryError in its own code."""
    if loop == "uvloop":
        pytest.importorskip("uvloop")
    firsts = FIRSTS[stage]
    tried = ended_process("no_memory_server.py", loop, stage, str(count), *map(str, firsts))
    assert tried.returncode == 0, tried.stderr
    outcomes = dict(line.split(" ", 1) for line in tried.stdout.splitlines())
    assert list(outcomes) == [str(first) for first in firsts]
    for first, outcome in outcomes.items():
        # asyncio's own loop is written in Python, with handlers as far behind as may be. And 3.12 and 3.13 make more
        # code of ours (see below).
        alarms = loop == "asyncio" or (3, 12) <= sys.version_info < (3, 14)
        fine = (
            outcome in ENDED or (alarms and outcome == f"status {-signal.SIGPROF}") or set(outcome.split()) <= RUNS_ON
        )
        assert fine, f"allocation {first}: {outcome}\n{tried.stderr}"


# ------------------------------------------------------------------------------------------- exceptions far behind

HANDLES_THE_LACK: Final = {"Connection.data_received", "Connection._turn", "serve"}
"""Functions with a handler far behind that catches the MemoryError and raises nothing."""

MODULES: Final = ("batch", "commands", "completion", "connection", "decoder", "engine", "expiry", "holds", "hot",
    "locks", "protocol", "queues", "session", "sessions", "store", "sweep", "timers", "waiters", "walk")  # fmt: skip
"""What runs in a turn or a step."""


def handlers(code: types.CodeType) -> Iterator[tuple[int, int, bool]]:
    """The entries of its exception table: from which offset, up to where, and whether the offset is kept."""
    numbers = iter(code.co_exceptiontable)

    def number() -> int:
        byte = next(numbers)
        found = byte & 63
        while byte & 64:
            byte = next(numbers)
            found = found << 6 | byte & 63
        return found

    with contextlib.suppress(StopIteration):
        while True:
            start, length, _, kind = number(), number(), number(), number()
            yield start, start + length, bool(kind & 1)


def codes(code: types.CodeType) -> Iterator[types.CodeType]:
    yield code
    for each in code.co_consts:
        if isinstance(each, types.CodeType):
            yield from codes(each)


@pytest.mark.skipif(
    sys.version_info[:2] != (3, 11), reason="3.12 has longer code, and its alarm; 3.14 needs no memory"
)
@pytest.mark.parametrize("name", MODULES)
def test_no_handler_in_a_turn_needs_memory_for_an_offset(name: str) -> None:
    """CPython keeps the offset at which an exception passes a `finally`, and those up to 256 are made already.

    3.12 and 3.13 make more code of the same lines: five functions there have a handler behind that. For them there is
    the alarm (`test_the_process_ends_whatever_it_lacks_for_that[stuck]`), as for all code that is not ours."""
    path = Path(exhausted.__file__).with_name(f"{name}.py")
    far = {
        code.co_qualname
        for code in codes(compile(path.read_text(), str(path), "exec"))
        if any(end > 257 and keeps for _, end, keeps in handlers(code))
    }
    assert far <= HANDLES_THE_LACK


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
