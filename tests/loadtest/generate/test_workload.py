"""Workloads: repeatable, never below zero on any connection, and with a known end."""

from __future__ import annotations

import pytest

from naught_loadtest.drivers.naught_calls import REFUSED
from naught_loadtest.generate.workload import CYCLE_STEPS, KEYS_DEFAULT, SCENARIOS, Script, Workload, key_name


def workload(scenario: str, **changes: int) -> Workload:
    settings = {"keys": KEYS_DEFAULT[scenario], "connections": 10, "batch": 1, "seed": 1, **changes}
    return Workload(scenario, **settings)


@pytest.mark.parametrize("scenario", SCENARIOS)
@pytest.mark.parametrize("batch", [1, 7, 1000])
def test_no_prefix_of_a_script_takes_a_key_below_zero(scenario: str, batch: int) -> None:
    script = workload(scenario, batch=batch).script(3)
    sums: dict[int, int] = {}
    for place, (key, delta) in enumerate(zip(script.keys, script.deltas, strict=True)):
        sums[key] = sums.get(key, 0) + delta
        assert sums[key] >= 0
        if script.values is not None:
            # A try that must be refused changes nothing.
            assert script.values[place] % REFUSED == sums[key]
            assert (script.values[place] >= REFUSED) == (scenario == "quota" and delta == 0)
    assert len(script.keys) == len(script.deltas) == sum(script.sizes)
    assert (set(sums.values()) == {0}) is workload(scenario).up_and_down


@pytest.mark.parametrize("scenario", SCENARIOS)
def test_the_seed_and_the_connection_decide_everything(scenario: str) -> None:
    assert workload(scenario).script(2) == workload(scenario).script(2)
    if scenario != "hotkey":
        assert workload(scenario).script(2) != workload(scenario).script(3)
        assert workload(scenario).script(2) != workload(scenario, seed=2).script(2)


@pytest.mark.parametrize("scenario", SCENARIOS)
def test_keys_stay_within_those_the_workload_names(scenario: str) -> None:
    load = workload(scenario, keys=100)
    for connection in range(10):
        assert set(load.script(connection).keys) <= set(load.key_numbers)


@pytest.mark.parametrize("scenario", ["churn", "mixed", "ttl", "quota"])
def test_own_keys_are_nobody_elses(scenario: str) -> None:
    load = workload(scenario, keys=100)
    used = [set(load.script(connection).keys) for connection in range(10)]
    assert sum(len(keys) for keys in used) == len(set().union(*used))


def test_churn_goes_up_twice_then_down_to_zero() -> None:
    script = workload("churn", keys=30).script(0)
    assert script.deltas == [1] * 6 + [-1] * 6
    assert script.values == [1] * 3 + [2] * 3 + [1] * 3 + [0] * 3


def test_batches_carry_so_many_steps_and_the_rest_comes_last() -> None:
    assert workload("churn", keys=30, batch=5).script(0).sizes == [5, 5, 2]


def test_hotkey_is_one_key_and_inflight_few() -> None:
    assert set(workload("hotkey").script(0).keys) == {0}
    assert set(workload("inflight").script(0).keys) == set(range(16))


def test_zipf_prefers_the_first_keys_as_it_should() -> None:
    load = workload("zipf", keys=1000)
    drawn = [key for connection in range(10) for key in load.script(connection).keys]
    share = drawn.count(0) / len(drawn)
    assert share == pytest.approx(1 / sum(1 / rank**0.99 for rank in range(1, 1001)), rel=0.15)


def test_mixed_has_all_four_and_reads_only_what_is_there() -> None:
    script = workload("mixed").script(0)
    reads = [place for place, delta in enumerate(script.deltas) if delta == 0]
    assert script.values is not None
    assert len(reads) > 200
    assert all(script.values[place] > 0 for place in reads)
    assert {size for size in script.sizes if size > 1} == {8}
    for start, end in script.requests():
        assert end - start == 1 or 0 not in script.deltas[start:end]


@pytest.mark.parametrize("scenario", SCENARIOS)
@pytest.mark.parametrize("batch", [13, pytest.param(1, marks=pytest.mark.slow)])
def test_what_remains_is_the_sum_of_what_was_done(scenario: str, batch: int) -> None:
    script = workload(scenario, batch=batch).script(1)
    sums: dict[int, int] = {}
    done = 0
    for requests in (0, 1, 57, len(script.sizes) - 1, len(script.sizes), 3 * len(script.sizes) + 11):
        for request in range(done, requests):
            for key, delta in script.request_steps(request):
                sums[key] = sums.get(key, 0) + delta
        done = requests
        assert script.remaining(requests) == {key: value for key, value in sums.items() if value}


def test_flattened_has_the_same_steps_one_by_one() -> None:
    script = Script([1, 2, 3], [1, 1, 1], None, [2, 1])
    assert script.flattened() == Script([1, 2, 3], [1, 1, 1], None, [1, 1, 1])


def test_cycles_are_long_enough_to_be_random() -> None:
    assert len(workload("zipf").script(0).keys) == CYCLE_STEPS


def test_keys_have_sixteen_bytes() -> None:
    assert key_name("a1b2c3d:", 42) == "a1b2c3d:00000042"


@pytest.mark.parametrize("changes", [{"keys": 0}, {"connections": 0}, {"batch": -1}])
def test_what_makes_no_sense_is_refused(changes: dict[str, int]) -> None:
    with pytest.raises(ValueError, match="at least 1"):
        workload("churn", **changes)
    with pytest.raises(ValueError, match="scenario"):
        Workload("sideways", 1, 1, 1, 1)
