"""The bar of SafeMap: what it is measured against, and the lines it prints. No rate is asserted."""

from __future__ import annotations

import json
from pathlib import Path

import pytest

from naught.safemap import SafeMap
from naught_loadtest.__main__ import main
from naught_loadtest.bars.safemap import UnguardedMap, without_eviction
from naught_loadtest.commands.bars import GROUPS


@pytest.mark.parametrize("policy", ["eager", "deferred"])
def test_what_it_is_measured_against_counts_alike_and_keeps_its_zeros(policy: str) -> None:
    guarded, unguarded = SafeMap(int, policy=policy), UnguardedMap(int, policy=policy)  # type: ignore[call-overload]
    for counters in (guarded, unguarded):
        counters.merge({"a": 1, "b": 3})
        counters.decr("a")
        counters.decr("b")
        counters.sweep()
    assert guarded.raw_entries == 1
    assert unguarded.raw_entries == 2
    assert guarded["b"] == unguarded["b"] == 2
    guarded.close()
    unguarded.close()


def test_a_method_without_the_branch_is_refused() -> None:
    """Were the branch written otherwise, the map would be measured against itself."""
    with pytest.raises(ValueError, match="0 eviction branches"):
        without_eviction(SafeMap.incr)


def test_the_group_prints_both_policies_and_both_methods(tmp_path: Path) -> None:
    assert "safemap" in GROUPS
    file = tmp_path / "bars.json"
    assert main(["bars", "--only", "safemap", "--quick", "--rounds", "1", "--json", str(file)]) == 0
    bars = json.loads(file.read_text())["bars"]
    found = {tuple(bar["figures"][name] for name in ("policy", "workload", "method")) for bar in bars}
    assert found == {
        (policy, workload, method)
        for policy in ("eager", "deferred")
        for workload in ("held", "mixed", "flapping")
        for method in ("incr", "decr")
    }
    for bar in bars:
        assert bar["asked"] == "at least 97%"
        assert bar["verdict"] in ("PASS", "MISSED")
