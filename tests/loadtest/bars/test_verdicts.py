"""The verdicts of the bars, of made-up results: which peer is the best, what is INVALID, what is compared."""

from __future__ import annotations

import pytest

from naught_loadtest.__main__ import main
from naught_loadtest.bars import access, capacity, drain, growth, in_use, latency, libraries, memory, victims
from naught_loadtest.bars.bar import INVALID, MISSED, PASS, REPORTED, SKIPPED, Bar, Bench
from naught_loadtest.bars.capacity import Row
from naught_loadtest.bars.growth import Costs
from naught_loadtest.bars.victims import Beside
from naught_loadtest.commands import status
from naught_loadtest.commands.versus import best_evicting, lines
from naught_loadtest.generate.plan import Plan
from naught_loadtest.measure.cores import split_cores
from naught_loadtest.measure.result import Result
from naught_loadtest.measure.rounds import EVICTING_WAYS, Setting, Table

MS = 1_000_000
BENCH = Bench(split_cores(), rounds=1, quick=True, seed=1)
REDIS_7 = ["naught", "redis", "redis-lua", "redis-function"]


def result(
    rate: float, *, server: float | None = 0.95, generator: float = 0.5, response_ns: int = MS, lateness_ns: int = 0
) -> Result:
    """A closed loop of this many operations a second, each answered after `response_ns`."""
    made = Result(
        Plan("naught://h", "p:"), requests=1, offered=1, throughput=rate, elapsed_s=1.0, server_share=server
    )
    made.cpu_shares.append(generator)
    made.response.record(response_ns, 100)
    made.lateness.record(lateness_ns, 100)
    made.offered = 100
    return made


def table_of(rates: dict[str, list[float]], setting: str = "depth 1", **changes: float) -> Table:
    """By contender its operations per second in each round."""
    table = Table()
    for name, rounds in {**rates, "echo": [1e6]}.items():
        for rate in rounds:
            table.add(setting, name, result(rate, **changes))  # type: ignore[arg-type]
    return table


def capacity_bar(table: Table, names: list[str], ways: tuple[str, ...] = EVICTING_WAYS, least: float = 1.0) -> Bar:
    return capacity.bar(table, table, Row("depth 1", ways, "depth 1", least), names, "Redis 7.0.15")


def test_naught_is_compared_with_the_best_way_to_evict_and_the_report_names_it() -> None:
    rates = {
        "naught": [90.0, 110.0],
        "redis": [500.0, 500.0],
        "redis-lua": [80.0, 90.0],
        "redis-function": [99.0, 101.0],
    }
    bar = capacity_bar(table_of(rates), REDIS_7)
    assert bar.figures["peer"] == "redis-function"
    assert bar.figures["ratio"]["low"] == pytest.approx(90 / 99, abs=1e-4)
    assert bar.figures["ratio"]["high"] == pytest.approx(110 / 101, abs=1e-4)
    assert bar.figures["ways_per_s"] == {"redis-function": 100.0, "redis-lua": 85.0}
    assert bar.verdict == MISSED
    assert [note.split()[0] for note in bar.notes[:3]] == ["naught", "redis-function", "redis-lua"]
    assert "Redis 7.0.15, its best" in bar.notes[1]
    assert all("us an operation" in note for note in bar.notes[:3]), "CPU of both sides"


def test_the_bar_of_plain_commands_is_against_these() -> None:
    rates = {"naught": [450.0], "redis": [500.0], "redis-lua": [80.0], "redis-function": [90.0]}
    bar = capacity_bar(table_of(rates), REDIS_7, ("redis",), 0.9)
    assert (bar.figures["peer"], bar.verdict) == ("redis", PASS)
    assert "plain INCR" in bar.what


def test_a_peer_that_cannot_evict_skips_these_bars() -> None:
    bar = capacity_bar(table_of({"naught": [1.0], "redis": [1.0]}), ["naught", "redis"])
    assert bar.verdict == SKIPPED
    assert "Redis 7.0.15 has no way" in bar.reached


@pytest.mark.parametrize("rate", [1.0, 99.0], ids=["slow", "fast"])
def test_a_bar_whose_generator_was_the_limit_is_invalid_and_neither_met_nor_missed(rate: float) -> None:
    rates = {"naught": [rate], "redis": [10.0], "redis-lua": [10.0], in_use.IN_USE: [10.0]}
    rates |= {access.USERS: [10.0], access.TLS: [10.0]}
    table = table_of(rates, generator=0.99, server=0.5)
    for bar in (
        capacity_bar(table, ["naught", "redis-lua"]),
        capacity_bar(table, ["naught", "redis"], ("redis",)),
        in_use.bar(table, "depth 1"),
        access.bar(table, "depth 1", access.USERS),
        access.bar(table, "depth 1", access.TLS),
    ):
        assert bar.verdict == INVALID
        assert "the generator was the limit of" in bar.notes[-1]
        assert bar.wrong == [], "which is no fault of a server"


@pytest.mark.parametrize(("rate", "verdict"), [(95.5, PASS), (94.5, MISSED)])
def test_users_may_cost_five_percent_and_tls_is_shown(rate: float, verdict: str) -> None:
    rates = {access.OFF: [100.0, 200.0, 50.0], access.USERS: [rate, 1.0, rate], access.TLS: [40.0, 80.0, 20.0]}
    bar = access.bar(table_of(rates), "depth 1", access.USERS)
    assert (bar.what, bar.asked, bar.verdict) == ("depth 1, users against neither", "at least 0.95x", verdict)
    assert bar.figures["ratio"]["median"] == pytest.approx(rate / 100)
    shown = access.bar(table_of(rates), "depth 1", access.TLS)
    assert (shown.what, shown.asked, shown.verdict) == ("depth 1, TLS against neither", "", REPORTED)
    assert shown.figures["ratio"]["median"] == 0.4


def costs(by_size: dict[int, list[float]]) -> Costs:
    made = Costs()
    for size, rounds in by_size.items():
        for cost_ns in rounds:
            made.add(size, cost_ns)
    return made


def test_growth_is_judged_in_nanoseconds_and_not_by_its_factor() -> None:
    """naught grows by 300 ns, from 1 000 to 1 300, and Redis by 200 ns, from 400 to 600."""
    mine = costs({10_000: [900, 1000, 1100], 10_000_000: [1300, 1200, 1400]})
    its = costs({10_000: [400], 10_000_000: [600]})
    bar = growth.bar(mine, its, "Redis 7.0.15")
    assert (bar.reached, bar.asked, bar.verdict) == ("+300 ns", "at most Redis's +200 ns", MISSED)
    assert mine.factor < its.factor, "by the factor it would have been met"
    assert growth.bar(its, mine, "Redis 7.0.15").verdict == PASS
    assert "1,000 ns at 10,000, 1,300 ns at 10,000,000 (1.30x)" in bar.notes[0]


def test_growth_is_skipped_where_memory_is_short(monkeypatch: pytest.MonkeyPatch) -> None:
    monkeypatch.setattr(growth, "available_bytes", lambda: 1000)
    (bar,) = growth.measure(BENCH)
    assert bar.verdict == SKIPPED
    assert "1,000,000 counters on two servers need" in bar.reached


def beside(response_ns: int, *, lateness_ns: int = 0, answered: int = 1000) -> Beside:
    report = {"answered": answered, "errors": {"busy": 2}, "reconnects": 0}
    return Beside([result(100, response_ns=response_ns, lateness_ns=lateness_ns)], [report])


@pytest.mark.parametrize(
    ("found", "verdict"),
    [
        (beside(24 * MS), PASS),
        (beside(26 * MS), MISSED),
        (beside(26 * MS, lateness_ns=7 * MS), INVALID),
        (beside(MS, lateness_ns=MS), PASS),
        (beside(MS, answered=19), INVALID),
    ],
    ids=["met", "missed", "late generator", "late, but far within what is allowed", "idle neighbours"],
)
def test_the_victim_is_judged_by_its_p99(found: Beside, verdict: str) -> None:
    bar = victims.bar("top", found, Beside([result(100)]))
    assert bar.verdict == verdict
    assert bar.notes[0].startswith("victim: p50")
    assert "p99" in bar.notes[0]
    assert "max" in bar.notes[0]
    assert "2 busy" in bar.notes[3]


def drained(times: float, max_ns: int, *, settled: bool = True) -> drain.Round:
    busy = result(100, response_ns=int(times * MS))
    busy.response.record(max_ns)
    return drain.Round(result(100), busy, 1.0, 1.0, settled, 0)


def test_the_drain_counts_the_medians_of_its_valid_rounds() -> None:
    good = [drained(1.5, 4 * MS), drained(1.9, 5 * MS)]
    assert drain.bar([*good, drained(9, 90 * MS)], 10).verdict == PASS
    assert drain.bar([*good, drained(9, 90 * MS, settled=False)], 10).verdict == PASS
    assert drain.bar([drained(9, 9 * MS), *good, drained(9, 9 * MS)], 10).verdict == MISSED
    unsettled = drain.bar([drained(1, MS, settled=False)], 10)
    assert unsettled.verdict == INVALID
    assert "memory had not settled at the end of the run" in unsettled.notes


def test_the_bars_print_the_processor_time_of_both_sides() -> None:
    pair = result(100, server=0.5), result(100, server=0.25)
    bar = latency._bar("p99", 1.0, [pair])
    assert bar.notes[-1] == "CPU an operation: naught 5000.00 us, Redis 2500.00 us"
    mine, its = libraries.Library("a", "naught", "a"), libraries.Library("b", "redis", "b")
    outcome = libraries._Outcome(paces={(mine, 1): [libraries.Pace(10, 3.0)], (its, 1): [libraries.Pace(10, 9.0)]})
    compared = libraries._bar("client", mine, libraries.Pairing(1, "1 task", its, 1.1), outcome)
    assert ["3.00 us" in compared.notes[0], "9.00 us" in compared.notes[1]] == [True, True]


def test_processor_time_is_unknown_where_the_process_is() -> None:
    assert result(100, server=None).server_cpu_us is None
    assert result(0).server_cpu_us is None
    assert result(1_000_000, server=0.5).server_cpu_us == 0.5


def test_the_memory_of_the_median_round_counts(monkeypatch: pytest.MonkeyPatch) -> None:
    rounds = iter([{700_000: 100.0, 800_000: 126.0}, {700_000: 120.0}, {700_000: 124.0}])
    monkeypatch.setattr(memory, "_steps", lambda *_: next(rounds))
    bar = memory._cost(Bench(BENCH.cores, 3, True, 1), "values to 256", False, None, 125.0)
    assert (bar.reached, bar.verdict) == ("124.0 at worst (120.0-126.0)", PASS)
    levels = iter([memory.Levels(10, 110, 14), memory.Levels(10, 110, 16), memory.Levels(10, 110, 40)])
    monkeypatch.setattr(memory, "_levels", lambda *_: next(levels))
    bar = memory._after(Bench(BENCH.cores, 3, True, 1), "none left", 0, "lazy", 0.05)
    assert (bar.reached, bar.verdict) == ("6.0% (4.0%-30.0%)", MISSED)


def test_the_headline_of_versus_is_against_the_best_way_at_each_setting() -> None:
    settings = [Setting("depth 1", 1), Setting("depth 16", 16), Setting("apply of 10", 1, 10)]
    names = ["redis", "redis-lua", "redis-function", "memcached"]
    table = Table()
    for setting, lua, function in (("depth 1", 3.0, 2.0), ("depth 16", 20.0, 30.0)):
        rates = {"naught": 6.0, "redis": 99.0, "redis-lua": lua, "redis-function": function, "memcached": 99.0}
        for name, rate in rates.items():
            table.add(setting, name, result(rate))
        table.add(setting, "echo", result(1e6))
    table.add("apply of 10", "naught", result(60.0))
    printed = "\n".join(lines(table, settings, names, Table()))
    assert "depth 1, evict at zero: 2.00x (2.00-2.00) of the best, redis-lua" in printed
    assert "depth 16, evict at zero: 0.20x (0.20-0.20) of the best, redis-function" in printed
    assert "apply of 10, evict at zero: 2.00x (2.00-2.00) of the best, redis-function" in printed
    assert best_evicting(table, settings[0], settings, ["redis", "memcached"]) is None


@pytest.mark.parametrize("rounds", ["0", "-1"])
def test_fewer_rounds_than_one_are_refused(rounds: str, capsys: pytest.CaptureFixture[str]) -> None:
    assert main(["bars", "--only", "safemap", "--rounds", rounds]) == status.USAGE
    assert "--rounds must be at least 1" in capsys.readouterr().err


BARS = {
    ("depth 1", True): 1.0,
    ("depth 16", True): 1.5,
    ("depth 100", True): 2.0,
    ("depth 1", False): 0.9,
    ("depth 16", False): 1.0,
    ("depth 100", False): 1.2,
    ("apply of 1000", False): 2.0,
}


def test_what_the_server_must_reach() -> None:
    assert {(row.setting, row.ways == EVICTING_WAYS): row.least for row in capacity.ROWS} == BARS
    assert access.LEAST_WITH_USERS == 0.95
    assert (in_use.LEAST, victims.P99_NS_MAX) == (0.9, 25 * MS)
    assert (memory.SMALL_BYTES_MAX, memory.LARGE_BYTES_MAX, memory.TIMED_BYTES_MAX) == (125, 155, 240)
    assert (memory.NONE_LEFT_PART_MAX, memory.SCATTERED_PART_MAX) == (0.05, 0.1)
    assert (drain.P99_TIMES_MAX, drain.MAX_NS) == (2, 10 * MS)
