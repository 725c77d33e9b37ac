"""Requests that failed make a bench fail, whatever the figure; a bar that is missed does not. Without runs."""

from __future__ import annotations

from collections.abc import Callable
from typing import cast
from unittest.mock import Mock

import pytest

from naught_loadtest.__main__ import main
from naught_loadtest.bars import capacity, drain, in_use, latency, victims
from naught_loadtest.bars.bar import Bar, Bench
from naught_loadtest.commands import status
from naught_loadtest.commands.bars import GROUPS
from naught_loadtest.generate.plan import Plan
from naught_loadtest.measure.result import Result
from naught_loadtest.measure.rounds import Table


def outcome(failed: int = 0) -> Result:
    made = Result(Plan("naught://h", "p:"), requests=1, offered=1, throughput=1.0)
    made.response.record(1_000_000)
    made.cpu_shares.append(0.5)
    if failed:
        made.failed["internal"] = failed
    return made


def bar_of_capacity(mine: Result) -> Bar:
    table = Table()
    table.add("depth 1", "naught", mine)
    table.add("depth 1", "redis", outcome())
    table.add("depth 1", "echo", outcome())
    row = capacity.Row("depth 1", ("redis",), "depth 1", 2.0)
    return capacity.bar(table, table, row, ["naught", "redis"], "Redis 7")


def bar_of_drain(mine: Result) -> Bar:
    return drain.bar([drain.Round(outcome(), mine, 1.0, 1.0, True, 0)], 1)


def bar_of_in_use(mine: Result) -> Bar:
    table = Table()
    table.add("depth 1", in_use.IN_USE, mine)
    table.add("depth 1", in_use.EMPTY, outcome())
    return in_use.bar(table, "depth 1")


def bar_of_victims(mine: Result) -> Bar:
    return victims.bar("top", victims.Beside([mine]), victims.Beside([outcome()]))


def bar_of_latency(mine: Result) -> Bar:
    return latency._bar("p99", 1.0, [(mine, outcome())])


@pytest.mark.parametrize("make", [bar_of_capacity, bar_of_drain, bar_of_latency, bar_of_in_use, bar_of_victims])
def test_failed_requests_change_the_exit_status(
    monkeypatch: pytest.MonkeyPatch, capsys: pytest.CaptureFixture[str], make: Callable[[Result], Bar]
) -> None:
    for failed, code in ((0, status.OK), (3, status.FAILED)):
        bar = make(outcome(failed))
        measure = cast("Callable[[Bench], list[Bar]]", Mock(return_value=[bar]))
        monkeypatch.setitem(GROUPS, "server", (measure, "as made above"))
        assert main(["bars", "--only", "server"]) == code
        assert ("3 requests failed: internal" in capsys.readouterr().out) == (failed > 0)
        assert (bar.verdict == "INVALID") == (failed > 0)
