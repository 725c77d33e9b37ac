"""The search for a rate, without runs; ratios of rounds; and how cores and programs are found."""

from __future__ import annotations

import os
import subprocess
import sys

import pytest

from naught_loadtest import processes
from naught_loadtest.commands.search import Bisection
from naught_loadtest.commands.versus import compared, numbers, peers, settings_for
from naught_loadtest.drivers.servers import (
    MissingProgramError,
    ServerStartError,
    naught_server,
    redis_server,
)
from naught_loadtest.generate.plan import Plan
from naught_loadtest.measure.cores import pinned_to, split_cores
from naught_loadtest.measure.result import Result
from naught_loadtest.measure.rounds import Setting, Table, spread
from naught_loadtest.measure.usage import resident_bytes
from naught_loadtest.processes import end


@pytest.mark.parametrize("edge", [17.0, 999.0, 1000.0, 1001.0, 47_000.0, 1_234_567.0])
def test_a_bisection_finds_the_edge(edge: float) -> None:
    search = Bisection(start=1000.0, most=1e9, precision=0.02)
    runs = 0
    while not search.done:
        search.tell(search.rate <= edge)
        runs += 1
    assert search.held is not None
    assert edge / 1.03 <= search.held <= edge
    assert runs < 40


def test_a_bisection_that_never_holds_ends() -> None:
    search = Bisection(start=1000.0, most=1e9, precision=0.02)
    while not search.done:
        search.tell(False)
    assert search.held is None


def test_a_bisection_stops_at_the_most_it_may_try() -> None:
    search = Bisection(start=1000.0, most=5000.0, precision=0.02)
    tried = []
    while not search.done:
        tried.append(search.rate)
        search.tell(True)
    assert tried == [1000.0, 2000.0, 4000.0, 5000.0]
    assert search.held == 5000.0


def outcome(throughput: float, server: float | None = None, generator: float = 0.5) -> Result:
    made = Result(Plan("naught://h", "p:"), requests=1, throughput=throughput, server_share=server)
    made.cpu_shares.append(generator)
    return made


def test_ratios_are_taken_within_a_round() -> None:
    table = Table()
    for mine, its in ((100, 50), (10, 10), (300, 100)):
        table.add("depth 1", "naught", outcome(mine))
        table.add("depth 1", "redis", outcome(its))
    ratio = table.ratio(("depth 1", "naught"), ("depth 1", "redis"))
    assert (ratio.median, ratio.low, ratio.high) == (2.0, 1.0, 3.0)
    assert str(ratio) == "2.00x (1.00-3.00)"
    assert table.throughput("depth 1", "naught") == 100
    assert table.core_ratio(("depth 1", "naught"), ("depth 1", "redis")) is None


def test_the_ratio_for_each_core_second_does_not_depend_on_the_generator() -> None:
    table = Table()
    table.add("depth 1", "naught", outcome(100, server=1.0))
    table.add("depth 1", "redis", outcome(100, server=0.5, generator=0.99))
    core = table.core_ratio(("depth 1", "naught"), ("depth 1", "redis"))
    assert core is not None
    assert core.median == 0.5
    assert table.limited("depth 1", "redis")
    assert not table.limited("depth 1", "naught")


def test_failures_of_any_round_are_told() -> None:
    table = Table()
    bad = outcome(1)
    bad.failed["OOM"] = 3
    table.add("depth 1", "redis", outcome(1))
    table.add("depth 1", "redis", bad)
    assert table.failures() == ["redis, depth 1: 3 requests failed: OOM"]


def test_spread_of_one_is_itself() -> None:
    one = spread([2.5])
    assert (one.median, one.low, one.high) == (2.5, 2.5, 2.5)


def test_an_apply_is_compared_with_the_deepest_pipeline() -> None:
    settings = settings_for([1, 16, 100], 1000)
    assert [setting.name for setting in settings] == ["depth 1", "depth 16", "depth 100", "apply of 1000"]
    assert compared(settings[1], settings, "redis") == ("depth 16", "redis")
    assert compared(settings[3], settings, "redis") == ("depth 100", "redis")
    assert settings_for([1], 1) == [Setting("depth 1", 1)]


def test_lists_of_the_command_line() -> None:
    assert peers("redis,memcached") == ["redis", "memcached"]
    assert numbers("16,1,16") == [1, 16]
    for wrong in ("", "mysql"):
        with pytest.raises(Exception, match="peers are some of"):
            peers(wrong)
    for wrong in ("", "0,1", "x"):
        with pytest.raises(Exception, match="whole numbers"):
            numbers(wrong)


def test_a_missing_program_is_named(monkeypatch: pytest.MonkeyPatch) -> None:
    monkeypatch.setenv("PATH", "")
    with pytest.raises(MissingProgramError, match="redis-server is not installed"), redis_server():
        pass


def test_a_server_that_does_not_start_says_why() -> None:
    with pytest.raises(ServerStartError, match="no-such-argument"), naught_server(arguments=("--no-such-argument",)):
        pass


@pytest.mark.skipif(not hasattr(os, "sched_setaffinity"), reason="this system cannot hold processes to cores")
def test_what_is_started_inherits_its_cores_and_the_caller_keeps_its_own() -> None:
    before = os.sched_getaffinity(0)
    core = sorted(before)[-1]
    with pinned_to([core]):
        asked = "import os; print(sorted(os.sched_getaffinity(0)))"
        said = subprocess.run([sys.executable, "-c", asked], capture_output=True, text=True, check=True).stdout
    assert said.strip() == f"[{core}]"
    assert os.sched_getaffinity(0) == before


def test_servers_and_generators_never_share_a_core_where_there_are_two() -> None:
    cores = split_cores()
    assert not set(cores.server) & set(cores.generator)
    assert cores.note


def test_resident_memory_is_read() -> None:
    assert resident_bytes(os.getpid()) > 1 << 20


def test_a_process_that_ignores_the_polite_signal_is_ended(monkeypatch: pytest.MonkeyPatch) -> None:
    monkeypatch.setattr(processes, "STOP_S_MAX", 0.05)
    stubborn = (
        "import signal, time; signal.signal(signal.SIGTERM, signal.SIG_IGN); print(flush=True); time.sleep(600)"
    )
    process = subprocess.Popen([sys.executable, "-c", stubborn], stdout=subprocess.PIPE)
    assert process.stdout is not None
    process.stdout.readline()
    end(process)
    process.stdout.close()
    assert process.returncode == -9
