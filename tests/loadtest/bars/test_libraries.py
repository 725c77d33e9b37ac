"""The bars that set client libraries beside each other, with scripts that only say a figure; and the threads that
count, with counters of this process. No rate is asserted."""

from __future__ import annotations

import contextlib
import importlib.util
import json
import textwrap
import threading
from collections.abc import Callable, Iterator
from pathlib import Path
from types import ModuleType, SimpleNamespace
from typing import Any

import pytest

from naught import SafeMap
from naught_loadtest.__main__ import main
from naught_loadtest.bars import client, libraries, threads
from naught_loadtest.bars.bar import Bench
from naught_loadtest.bars.peers import NOT_INSTALLED_STATUS
from naught_loadtest.commands import status
from naught_loadtest.commands.bars import GROUPS
from naught_loadtest.drivers.servers import MissingProgramError, Peer
from naught_loadtest.generate.runner import RunError
from naught_loadtest.measure.cores import split_cores
from naught_loadtest.measure.rounds import Contender

BENCH = Bench(split_cores(), rounds=1, quick=True, seed=1)
SERVER = Contender("naught", "naught://", None, "naught 1.2.3")
# Notes how it was called, and where; then goes on as it is told below.
SCRIPT = """
import json, os, sys
url, callers, seconds = sys.argv[1:]
cores = sorted(os.sched_getaffinity(0)) if hasattr(os, "sched_getaffinity") else []
with open({log!r}, "a") as log:
    log.write(json.dumps([{name!r}, url, int(callers), float(seconds), cores]) + "\\n")
"""


class Scripts:
    """Takes the place of the package `bars.peers`."""

    def __init__(self, folder: Path) -> None:
        self._folder = folder
        self._log = folder / "log"

    def write(self, name: str, then: str) -> None:
        head = SCRIPT.format(log=str(self._log), name=name)
        (self._folder / f"{name}.py").write_text(head + textwrap.dedent(then))

    def say(self, name: str, rates: dict[int, float]) -> None:
        """A script that reaches these calls a second, by the number of callers, at 2.5 us of CPU each."""
        said = f'{{"calls_per_s": {rates!r}[int(callers)], "cpu_us_per_call": 2.5, "calls": 1000, "client": "x"}}'
        self.write(name, f"print(json.dumps({said}))")

    @property
    def calls(self) -> list[list[Any]]:
        """How they were called: [name, url, callers, seconds, cores]."""
        return [json.loads(line) for line in self._log.read_text().splitlines()]


@pytest.fixture
def scripts(tmp_path: Path, monkeypatch: pytest.MonkeyPatch) -> Scripts:
    """Scripts instead of the real ones, and no servers."""

    @contextlib.contextmanager
    def started_all(names: list[str], cores: list[int], peer: Peer) -> Iterator[tuple[list[Contender], list[str]]]:
        yield [Contender(name, f"{name}://", 0, "") for name in names], []

    folder = tmp_path / "stand_ins"
    folder.mkdir()
    monkeypatch.syspath_prepend(tmp_path)
    monkeypatch.setattr(libraries, "PEERS", "stand_ins")
    monkeypatch.setattr(libraries, "started_all", started_all)
    return Scripts(folder)


def measured(group: str, folder: Path, *words: str, code: int = status.OK) -> list[dict[str, Any]]:
    """The bars of a group, as `bars --json` has them; it ends with this exit status."""
    file = folder / "bars.json"
    assert main(["bars", "--only", group, "--quick", "--json", str(file), *words]) == code
    bars: list[dict[str, Any]] = json.loads(file.read_text())["bars"]
    return bars


@pytest.mark.slow
def test_the_rounds_of_threads_are_interleaved_and_begin_with_another_library(
    scripts: Scripts, tmp_path: Path
) -> None:
    assert "threads" in GROUPS
    scripts.say("naught_threads", {1: 100.0, 8: 10.0, 32: 299.0})
    scripts.say("redis_py_threads", dict.fromkeys((1, 8, 32), 100.0))
    bars = measured("threads", tmp_path, "--rounds", "2")
    naught = ["naught_threads", "naught://"]
    redis = ["redis_py_threads", "redis://"]
    assert [call[:3] for call in scripts.calls] == [
        *([*library, callers] for callers in (1, 8, 32) for library in (naught, redis)),
        *([*library, callers] for callers in (1, 8, 32) for library in (redis, naught)),
    ]
    assert all(call[4] == BENCH.cores.generator for call in scripts.calls if BENCH.cores.generator)
    assert [(bar["what"], bar["asked"], bar["verdict"]) for bar in bars] == [
        ("calls of 1 thread against redis-py", "at least 0.7x", "PASS"),
        ("calls of 8 threads against redis-py", "at least 2x", "MISSED"),
        ("calls of 32 threads against redis-py", "at least 3x", "MISSED"),
    ]
    assert [bar["figures"]["ratio"]["median"] for bar in bars] == [1.0, 0.1, 2.99]
    assert bars[2]["figures"]["naught_calls_per_s"] == [299.0, 299.0]
    assert bars[2]["figures"]["peer_cpu_us_per_call"] == [2.5, 2.5]
    assert [" ".join(note.split()) for note in bars[2]["notes"]] == [
        "naught.blocking 299 calls/s, CPU 2.50 us a call in the client's process",
        "redis-py 100 calls/s, CPU 2.50 us a call in the client's process",
    ]


@pytest.mark.slow
def test_the_client_is_set_beside_both_libraries_of_tasks(scripts: Scripts, tmp_path: Path) -> None:
    scripts.say("naught_client", {100: 150.0, 1: 10.0})
    scripts.say("redis_py_client", {100: 10.0, 1: 10.0})
    scripts.say("glide_client", {100: 50.0})
    bars = measured("client", tmp_path, "--rounds", "2")
    assert [(bar["what"], bar["asked"], bar["reached"], bar["verdict"]) for bar in bars] == [
        ("calls of 100 tasks against valkey-glide", "at least 7x", "3.00x (3.00-3.00)", "MISSED"),
        ("calls of 100 tasks against redis-py asyncio", "at least 15x", "15.00x (15.00-15.00)", "PASS"),
        ("calls of 1 task against redis-py asyncio", "at least 1.1x", "1.00x (1.00-1.00)", "MISSED"),
    ]
    names = [call[0].partition("_")[0] for call in scripts.calls]
    assert names == ["naught", "glide", "redis", "naught", "redis", "glide", "redis", "naught", "redis", "naught"]


def test_a_library_that_is_not_installed_skips_its_bars_alone(scripts: Scripts, tmp_path: Path) -> None:
    scripts.say("naught_client", {100: 150.0, 1: 20.0})
    scripts.say("redis_py_client", {100: 10.0, 1: 10.0})
    leaves = f"print('glide is not installed', file=sys.stderr)\nsys.exit({NOT_INSTALLED_STATUS})"
    scripts.write("glide_client", leaves)
    bars = measured("client", tmp_path, "--rounds", "2")
    assert [(bar["verdict"], bar["reached"]) for bar in bars] == [
        ("SKIPPED", "glide is not installed"),
        ("PASS", "15.00x (15.00-15.00)"),
        ("PASS", "2.00x (2.00-2.00)"),
    ]
    assert [call[0] for call in scripts.calls].count("glide_client") == 1


def test_a_library_that_fails_spoils_the_bar_and_no_other(scripts: Scripts, tmp_path: Path) -> None:
    scripts.say("naught_threads", {1: 100.0, 32: 300.0})
    scripts.say("redis_py_threads", dict.fromkeys((1, 8, 32), 100.0))
    bars = measured("threads", tmp_path, "--rounds", "2", code=status.FAILED)
    assert [bar["verdict"] for bar in bars] == ["PASS", "INVALID", "PASS"]
    assert bars[1]["reached"] == "naught.blocking failed: KeyError: 8"
    assert [bar["wrong"] for bar in bars] == [[], ["naught.blocking failed: KeyError: 8"], []]


def test_a_script_that_hangs_is_ended(scripts: Scripts, monkeypatch: pytest.MonkeyPatch) -> None:
    monkeypatch.setattr(libraries, "PROGRAM_S_MAX", 0.2)
    scripts.write("hangs", "import time\ntime.sleep(600)")
    with pytest.raises(RunError, match=r"hangs did not end within 0.2 s"):
        libraries.run_program("hangs", SERVER, 1, BENCH)


def test_a_script_that_says_nothing_is_named(scripts: Scripts) -> None:
    scripts.write("mute", "os._exit(3)")
    with pytest.raises(RunError, match=r"mute ended with status 3"):
        libraries.run_program("mute", SERVER, 1, BENCH)
    scripts.write("mute", f"os._exit({NOT_INSTALLED_STATUS})")
    with pytest.raises(MissingProgramError, match=r"mute"):
        libraries.run_program("mute", SERVER, 1, BENCH)


def test_what_a_script_failed_of_is_found_in_a_group(scripts: Scripts) -> None:
    scripts.write("fails", "raise ExceptionGroup('of tasks', [RuntimeError('wrong answer')])")
    with pytest.raises(RunError, match=r"^RuntimeError: wrong answer$"):
        libraries.run_program("fails", SERVER, 1, BENCH)


def test_without_a_server_nothing_is_measured(
    scripts: Scripts, tmp_path: Path, monkeypatch: pytest.MonkeyPatch
) -> None:
    monkeypatch.setattr(
        libraries, "started_all", lambda *_: contextlib.nullcontext(([], ["redis: skipped, no redis"]))
    )
    (bar,) = measured("threads", tmp_path)
    assert (bar["verdict"], bar["reached"]) == ("SKIPPED", "redis: skipped, no redis")


def test_the_scripts_are_there() -> None:
    for group in (client, threads):
        for library in (group.NAUGHT, *(pairing.peer for pairing in group.PAIRINGS)):
            assert importlib.util.find_spec(f"{libraries.PEERS}.{library.program}") is not None


@pytest.fixture
def calls() -> ModuleType:
    """What the programs have in common: a copy of the module, without its warm-up."""
    spec = importlib.util.find_spec(f"{libraries.PEERS}.callers")
    assert spec is not None
    assert spec.loader is not None
    module = importlib.util.module_from_spec(spec)
    spec.loader.exec_module(module)
    module.WARMUP_S = 0.0  # type: ignore[attr-defined]
    return module


def test_every_thread_takes_its_own_counter_up_and_down(calls: ModuleType) -> None:
    counters: SafeMap[str, int] = SafeMap(int)
    callers: dict[str, set[int]] = {calls.key_of(number): set() for number in range(5)}
    together = threading.Barrier(5)

    def incr(key: str) -> int:
        if not callers[key]:
            callers[key].add(threading.get_ident())
            together.wait(30)  # all of them, at the same time
        callers[key].add(threading.get_ident())
        return counters.incr(key)

    pace = calls.measure_threads(incr, lambda key: counters.decr(key)[0], counters.get, 5, 0.1)
    assert pace.calls_per_s > 0
    assert pace.cpu_us_per_call > 0
    assert all(len(threads) == 1 for threads in callers.values())
    assert len(set.union(*callers.values())) == 5
    counters.close()


def test_what_is_done_while_warming_up_is_not_counted(calls: ModuleType) -> None:
    """The thread gets leave for six pairs of calls in the warm-up and for four in the second that is measured."""
    asked, allowed = threading.Semaphore(0), threading.Semaphore(0)
    clock = iter([7.0, 8.0])

    def incr(key: str) -> int:
        asked.release()
        assert allowed.acquire(timeout=30)
        return 1

    def wait(works: object, timeout: float, until: object) -> None:
        for _ in range({0.0: 6, 1.0: 4}[timeout]):
            assert asked.acquire(timeout=30)
            allowed.release()
        assert asked.acquire(timeout=30)  # a thread that asks again has made the calls that it was allowed
        asked.release()

    def perf_counter() -> float:
        now = next(clock)
        if now == 8.0:
            allowed.release()  # the end: the last pair, which nobody counts
        return now

    calls.wait = wait  # type: ignore[attr-defined]
    cpu_clock = iter([0.5, 0.500016])
    calls.time = SimpleNamespace(  # type: ignore[attr-defined]
        perf_counter=perf_counter, process_time=lambda: next(cpu_clock)
    )
    pace = calls.measure_threads(incr, lambda key: 0, lambda key: 0, 1, 1.0)
    assert pace == (8.0, pytest.approx(2.0), 22)


@pytest.mark.parametrize(
    ("incr", "decr", "get", "said"),
    [
        (lambda key: 2, lambda key: 0, lambda key: 0, "an increment did not answer 1"),
        (lambda key: 1, lambda key: 1, lambda key: 0, "a decrement did not answer 0"),
        (lambda key: 1, lambda key: 0, lambda key: b"1" if key.endswith("2") else None, "calls:0000000002 is 1 at"),
    ],
    ids=["up", "down", "in the end"],
)
def test_a_wrong_answer_is_an_error(
    calls: ModuleType,
    incr: Callable[[str], int],
    decr: Callable[[str], int],
    get: Callable[[str], Any],
    said: str,
) -> None:
    with pytest.raises(RuntimeError, match=said):
        calls.measure_threads(incr, decr, get, 3, 0.02)
