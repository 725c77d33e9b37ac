"""Expectations against a model that executes the same requests, with losses and refusals."""

from __future__ import annotations

import random

import pytest

from naught_loadtest.generate.workload import SCENARIOS, Workload
from naught_loadtest.measure.expectation import Account, closing_steps, expected
from support.seeds import seeds


def execute(state: dict[int, int], steps: list[tuple[int, int]]) -> None:
    for key, delta in steps:
        state[key] = max(0, state.get(key, 0) + delta)


@pytest.mark.parametrize("scenario", SCENARIOS)
def test_without_failures_every_key_has_one_possible_value(scenario: str) -> None:
    load = Workload(scenario, keys=50, connections=4, batch=3, seed=5)
    state: dict[int, int] = {}
    accounts = []
    for connection, answered in enumerate((0, 5, 333, 6000)):
        script = load.script(connection)
        for request in range(answered):
            execute(state, script.request_steps(request))
        accounts.append(Account(connection, sent=answered, answered=answered))
    result = expected(load, accounts, flattened=False)
    assert result.unknown == result.refused == 0
    for key in load.key_numbers:
        assert result.bounds(key) == (state.get(key, 0), state.get(key, 0))
    alive = sum(value > 0 for value in state.values())
    assert result.left_bounds() == (alive, alive)


@pytest.mark.parametrize("scenario", SCENARIOS)
def test_closing_takes_everything_off(scenario: str) -> None:
    load = Workload(scenario, keys=50, connections=1, batch=1, seed=5)
    script = load.script(0)
    closing = closing_steps(script, 777)
    account = Account(0, sent=777, answered=777, closing_sent=len(closing), closing_done=len(closing))
    result = expected(load, [account], flattened=False)
    assert all(result.bounds(key) == (0, 0) for key in load.key_numbers)
    assert result.left_bounds() == (0, 0)


@pytest.mark.parametrize("seed", seeds(range(4), range(4, 20)))
@pytest.mark.parametrize("scenario", SCENARIOS)
def test_with_losses_and_refusals_the_truth_lies_within_the_bounds(scenario: str, seed: int) -> None:
    """Connections interleave at random; some requests are refused, those at the end may or may not happen."""
    source = random.Random(seed)
    load = Workload(scenario, keys=8, connections=3, batch=source.choice([1, 2]), seed=seed)
    state: dict[int, int] = {}
    accounts, queues = [], []
    for connection in range(3):
        script = load.script(connection)
        answered = source.randrange(200)
        sent = answered + source.randrange(4)
        failed = sorted(source.sample(range(answered), k=min(answered, source.randrange(3))))
        accounts.append(Account(connection, sent=sent, answered=answered, failed=failed))
        happened = sent if source.random() < 0.5 else answered
        queues.append([script.request_steps(n) for n in range(happened) if n not in failed])
    while any(queues):
        execute(state, source.choice([queue for queue in queues if queue]).pop(0))
    result = expected(load, accounts, flattened=False)
    for key in load.key_numbers:
        low, high = result.bounds(key)
        assert low <= state.get(key, 0) <= high
    low, high = result.left_bounds()
    assert low <= sum(value > 0 for value in state.values()) <= high
    assert result.refused == sum(len(account.failed) for account in accounts)


def test_a_lost_closing_is_unknown() -> None:
    load = Workload("churn", keys=4, connections=1, batch=1, seed=1)
    account = Account(0, sent=8, answered=8, closing_sent=3, closing_done=1)
    result = expected(load, [account], flattened=False)
    assert sorted(result.bounds(key) for key in load.key_numbers) == [(0, 0), (0, 2), (0, 2), (2, 2)]
    assert result.unknown == 2
    assert result.left_bounds() == (1, 3)
