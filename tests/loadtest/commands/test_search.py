"""The search for a rate, without runs; ratios of rounds; and how cores and programs are found."""

from __future__ import annotations

import json
import os
import subprocess
import sys
from typing import Any

import pytest

from naught_loadtest import processes
from naught_loadtest.__main__ import main
from naught_loadtest.commands import search, status
from naught_loadtest.commands.search import HELD, MISSED, UNSURE, Bisection, Evidence
from naught_loadtest.commands.versus import compared, numbers, peers, settings_for
from naught_loadtest.drivers.servers import (
    MissingProgramError,
    ServerStartError,
    naught_server,
    redis_server,
)
from naught_loadtest.generate.plan import Plan
from naught_loadtest.generate.runner import RunError
from naught_loadtest.measure import rounds
from naught_loadtest.measure.cores import pinned_to, split_cores
from naught_loadtest.measure.result import Result
from naught_loadtest.measure.rounds import Contender, Setting, Table, spread
from naught_loadtest.measure.slo import parse
from naught_loadtest.measure.usage import resident_bytes
from naught_loadtest.processes import end


@pytest.mark.parametrize("edge", [17.0, 999.0, 1000.0, 1001.0, 47_000.0, 1_234_567.0])
def test_a_bisection_finds_the_edge(edge: float) -> None:
    bisection = Bisection(start=1000.0, most=1e9, precision=0.02)
    runs = 0
    while not bisection.done:
        bisection.tell(bisection.rate <= edge)
        runs += 1
    assert bisection.held is not None
    assert edge / 1.03 <= bisection.held <= edge
    assert runs < 40


def test_a_bisection_that_never_holds_ends() -> None:
    bisection = Bisection(start=1000.0, most=1e9, precision=0.02)
    while not bisection.done:
        bisection.tell(False)
    assert bisection.held is None


def test_a_bisection_does_not_go_below_the_least() -> None:
    bisection = Bisection(start=1000.0, most=1e9, precision=0.02, least=200.0)
    tried = []
    while not bisection.done:
        tried.append(bisection.rate)
        bisection.tell(False)
    assert tried == [1000.0, 250.0, 200.0]
    assert Bisection(start=10.0, most=1e9, precision=0.02, least=200.0).rate == 200.0


def probed(rate: float, samples: int, slow: int, **changes: Any) -> Result:
    """A probe of which this many samples took 5 ms, and the others 1 ms."""
    plan = Plan("naught://h", "p:", rate=rate)
    made = Result(plan, offered=samples, requests=samples, **changes)
    for number in range(samples):
        made.response.record(5_000_000 if number < slow else 1_000_000)
    return made


@pytest.mark.parametrize(
    ("text", "samples", "slow", "verdict"),
    [
        ("p99<2ms", 300, 0, HELD),
        ("p99<2ms", 298, 0, UNSURE),
        ("p99<2ms", 5000, 35, HELD),
        ("p99<2ms", 5000, 50, UNSURE),
        ("p99<2ms", 5000, 70, MISSED),
        ("p99.9<2ms", 5000, 0, HELD),
        ("p99.9<2ms", 2000, 0, UNSURE),
        ("p99<5ms", 5000, 100, MISSED),
        ("p99<=5.1ms", 5000, 100, HELD),
        ("max<2ms", 10, 0, HELD),
        ("max<2ms", 5000, 1, MISSED),
    ],
)
def test_whether_a_probe_shows_that_an_objective_holds(text: str, samples: int, slow: int, verdict: str) -> None:
    evidence = Evidence([parse(text)])
    evidence.add(probed(1000.0, samples, slow))
    assert evidence.judge()[0] == verdict
    assert evidence.judge()[1].startswith(f"{text}: ")


def test_probes_of_one_rate_add_up() -> None:
    evidence = Evidence([parse("p99<2ms"), parse("max<10ms")])
    verdicts = []
    for _ in range(3):
        evidence.add(probed(50.0, 100, 0))
        verdicts.append(evidence.judge()[0])
    assert verdicts == [UNSURE, UNSURE, HELD]
    evidence.add(probed(50.0, 1, 1))
    assert evidence.judge()[0] == UNSURE


class Probes:
    """A server and a clock for a search: probes take their time, and at no rate or up to some an objective holds."""

    def __init__(self, monkeypatch: pytest.MonkeyPatch, edge: float = 0.0) -> None:
        self.now_s = 0.0
        self.rates: list[float] = []
        self.edge = edge
        monkeypatch.setattr(search.Search, "_run", staticmethod(self.run))
        monkeypatch.setattr(search.time, "monotonic", lambda: self.now_s)

    def run(self, rate: float, duration_s: float) -> Result:
        self.now_s += duration_s + 2
        self.rates.append(rate)
        samples = min(int(rate * duration_s), 20_000)
        return probed(rate, samples, 0 if rate <= self.edge else samples)


def searched(capsys: pytest.CaptureFixture[str], *words: str) -> tuple[int, dict[str, Any], str]:
    code = main(["search", "--target", "naught://h", "--json", "-", *words])
    captured = capsys.readouterr()
    return code, json.loads(captured.out), captured.err


@pytest.mark.parametrize("text", ["p99<2ms", "p99.9<2ms", "p99.99<2ms"])
def test_a_search_for_what_no_rate_meets_ends_soon(
    text: str, monkeypatch: pytest.MonkeyPatch, capsys: pytest.CaptureFixture[str]
) -> None:
    """Before, a rate of one request a second was probed for as long as 100 samples beyond p99.9 take: a day."""
    probes = Probes(monkeypatch)
    code, document, err = searched(capsys, "--slo", text)
    assert code == status.OBJECTIVE_MISSED
    assert document["confirmed"] is document["held_rate_per_s"] is None
    assert probes.now_s < 120
    assert "no rate was found" in err


def test_a_search_confirms_what_held(monkeypatch: pytest.MonkeyPatch, capsys: pytest.CaptureFixture[str]) -> None:
    probes = Probes(monkeypatch, edge=7000.0)
    code, document, err = searched(capsys, "--slo", "p99<2ms")
    assert code == status.OK
    assert 7000 / 1.06 < document["confirmed"]["rate_per_s"] <= 7000
    assert {each["verdict"] for each in document["probes"]} == {"held", "missed"}
    assert probes.now_s < 600
    assert max(map(len, err.splitlines())) < 80


def test_a_search_ends_within_its_time_and_says_what_it_has(
    monkeypatch: pytest.MonkeyPatch, capsys: pytest.CaptureFixture[str]
) -> None:
    probes = Probes(monkeypatch, edge=1e9)
    code, document, err = searched(capsys, "--slo", "p99<2ms", "--within", "40")
    assert code == status.OK
    assert probes.now_s <= 40
    assert document["held_rate_per_s"] == max(probes.rates)
    assert document["confirmed"] is None
    assert "which held in a probe; no longer run confirmed it" in " ".join(err.split())


def test_a_search_of_which_every_probe_was_spoiled_says_nothing_about_the_server(
    monkeypatch: pytest.MonkeyPatch, capsys: pytest.CaptureFixture[str]
) -> None:
    Probes(monkeypatch)
    monkeypatch.setattr(Result, "invalid", ["the generator was late", "the server waited"])
    code, document, err = searched(capsys, "--slo", "p99<2ms")
    assert code == status.INVALID
    assert document["generator_limited"]
    assert "the generator was late (and 1 more)" in " ".join(err.split())
    assert "nothing is known about the server: every probe was INVALID" in " ".join(err.split())


def test_an_interrupted_search_says_what_it_has(
    monkeypatch: pytest.MonkeyPatch, capsys: pytest.CaptureFixture[str]
) -> None:
    probes = Probes(monkeypatch, edge=1e9)
    honest = probes.run

    def interrupted(rate: float, duration_s: float) -> Result:
        result = honest(rate, duration_s)
        result.cut_short = rate > 3000
        return result

    monkeypatch.setattr(search.Search, "_run", staticmethod(interrupted))
    code, document, err = searched(capsys, "--slo", "p99<2ms")
    assert code == status.INTERRUPTED
    assert document["held_rate_per_s"] == 2000
    assert document["ended"] == "it was interrupted"
    assert "at least 2,000 requests/s" in err


def test_a_bisection_stops_at_the_most_it_may_try() -> None:
    bisection = Bisection(start=1000.0, most=5000.0, precision=0.02)
    tried = []
    while not bisection.done:
        tried.append(bisection.rate)
        bisection.tell(True)
    assert tried == [1000.0, 2000.0, 4000.0, 5000.0]
    assert bisection.held == 5000.0


def outcome(throughput: float, server: float | None = None, generator: float = 0.5) -> Result:
    made = Result(Plan("naught://h", "p:"), requests=1, offered=1, throughput=throughput, server_share=server)
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


@pytest.mark.parametrize("error", [KeyboardInterrupt(), RunError("the peer is gone")], ids=["Ctrl-C", "an error"])
def test_rounds_that_were_finished_are_kept(error: BaseException, monkeypatch: pytest.MonkeyPatch) -> None:
    runs: list[str] = []

    def run(contender: Contender, setting: Setting, base: Plan) -> Result:
        runs.append(contender.name)
        if len(runs) > 8:
            raise error
        return outcome(100 + len(runs))

    monkeypatch.setattr(rounds, "_run", run)
    contenders = [Contender(name, f"{name}://h", None, "") for name in ("naught", "redis")]
    settings = [Setting("depth 1", 1)]
    base = Plan("naught://h", "p:")
    echo = Contender("echo", "echo://h:1", None, "")
    table = rounds.run_rounds(contenders, settings, 5, base, echo=echo, keep=True)
    assert runs == ["echo", "naught", "redis", "echo", "redis", "naught", "echo", "naught", "redis"]
    assert table.rounds == 2
    assert table.cut_short
    assert [len(results) for results in table.results.values()] == [2, 2]
    assert table.ratio(("depth 1", "naught"), ("depth 1", "redis")).median > 0
    assert table.ceiling is not None
    assert table.results["depth 1", "naught"][1].ceiling == table.ceiling.results["depth 1", "echo"][1].throughput
    with pytest.raises(type(error)):
        rounds.run_rounds(contenders, settings, 5, base)


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
