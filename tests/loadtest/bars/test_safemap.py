"""The bars of SafeMap and of prune: what they are measured against, and the lines they print. No rate is asserted."""

from __future__ import annotations

import json
from pathlib import Path

import pytest

from naught.zeros import prune
from naught_loadtest.__main__ import main
from naught_loadtest.bars.pruning import DATA, without_zeros
from naught_loadtest.bars.safemap import LockedDict
from naught_loadtest.commands.bars import GROUPS
from naught_loadtest.drivers.servers import installed_version


def test_what_safemap_is_measured_against_keeps_its_zeros() -> None:
    counts = LockedDict()
    assert (counts.incr("a"), counts.incr("b", 3)) == (1, 3)
    assert (counts.decr("a"), counts.decr("b")) == (0, 2)
    assert counts.counts == {"a": 0, "b": 2}


@pytest.mark.parametrize("name", DATA)
def test_what_prune_is_measured_against_returns_the_same(name: str) -> None:
    data = DATA[name](50)
    assert prune(data).value == without_zeros(data)


@pytest.mark.slow
def test_the_group_prints_both_policies_and_both_methods(tmp_path: Path) -> None:
    assert "safemap" in GROUPS
    file = tmp_path / "bars.json"
    assert main(["bars", "--only", "safemap", "--quick", "--rounds", "1", "--json", str(file)]) == 0
    bars = json.loads(file.read_text())["bars"]
    names = ("policy", "workload", "method", "threads")
    found = {tuple(bar["figures"][name] for name in names) for bar in bars}
    workloads = ("held", "mixed", "flapping")
    alone = {
        (policy, workload, method, 1)
        for policy in ("eager", "deferred")
        for workload in workloads
        for method in ("incr", "decr")
    }
    assert found == alone | {("eager", workload, "both", 4) for workload in workloads}
    for bar in bars:
        assert bar["asked"] == "at least 90%"
        assert bar["verdict"] in ("PASS", "MISSED")


def test_the_group_of_zeros_prints_each_kind_of_data(tmp_path: Path) -> None:
    file = tmp_path / "bars.json"
    assert main(["bars", "--only", "zeros", "--quick", "--rounds", "1", "--json", str(file)]) == 0
    bars = json.loads(file.read_text())["bars"]
    assert f"server: {installed_version()}" in json.loads(file.read_text())["machine"]
    assert [bar["figures"]["data"] for bar in bars] == list(DATA)
    assert {bar["asked"] for bar in bars} == {"at most 4 times"}
