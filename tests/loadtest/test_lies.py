"""The table of lies: what a server may do wrong, times scenarios, times loops. Each is caught.

A run with a lie must end with exit status 1. `NOT_KNOWABLE` has the cases in which nobody can know, each with the
reason. The worker is in this process. One scenario and loop of each lie is a quick test, each in its turn. Slow ones
are each lie in each loop, with each scenario in its turn; the rest of the table is exhaustive.
"""

from __future__ import annotations

import itertools
from collections import Counter
from collections.abc import Iterator
from typing import Any

import pytest

from naught_loadtest.commands import status
from naught_loadtest.commands.run import exit_status
from naught_loadtest.generate.plan import Plan
from naught_loadtest.generate.workload import NAUGHT_ONLY, SCENARIOS
from naught_loadtest.measure.result import Result
from support.listening import listening
from support.load_in_process import run_in_process
from support.misbehaving import (
    LIES,
    AnswersWrongValues,
    DoublesDecrements,
    Fault,
    KeepsZeros,
    LosesCounters,
    Misbehaving,
    StopsWhenLookedAt,
    StoresNothing,
)
from support.paths import ROOT
from support.seeds import exhaustive, slow

LOOPS: dict[str, dict[str, Any]] = {
    "depth 1": {},
    "depth 16": {"pipeline": 16},
    "apply": {"batch": 5},
    "open": {"rate": 3000.0},
}
# The scenarios with calls of their own have one counter in a request, and `semaphore` is a closed loop of depth 1.
PAIRS = [
    (scenario, loop)
    for scenario, loop in itertools.product(SCENARIOS, LOOPS)
    if scenario not in NAUGHT_ONLY or loop == "depth 1" or (loop != "apply" and scenario != "semaphore")
]
NO_DECREMENTS = "`incr` has no decrements, so the lie is not told"
ANY_ORDER = (
    "each connection sends pairs +1 and -1 on the one counter: unless they happen to overlap in the right way, the"
    " values are those of a right server, or of one that executes the pairs in another order"
)
GIVEN_BACK = "`semaphore` has given back all permits before the counters are compared"
ONE_PERMIT = "`semaphore` gives back its only permit, and a decrement stops at zero"
# By lie, scenario and loop; None for every loop.
NOT_KNOWABLE: dict[tuple[type[Fault], str, str | None], str] = {
    (DoublesDecrements, "incr", None): NO_DECREMENTS,
    (KeepsZeros, "incr", None): NO_DECREMENTS,
    (StopsWhenLookedAt, "incr", None): NO_DECREMENTS,
    (DoublesDecrements, "semaphore", None): ONE_PERMIT,
    (StoresNothing, "semaphore", None): GIVEN_BACK,
    (StopsWhenLookedAt, "semaphore", None): GIVEN_BACK,
    (DoublesDecrements, "hotkey", None): ANY_ORDER,
    (AnswersWrongValues, "hotkey", None): ANY_ORDER,
    (LosesCounters, "hotkey", None): ANY_ORDER,
}


def reason_for(lie: type[Fault], scenario: str, loop: str) -> str | None:
    """Why the lie cannot be known. None where it is caught."""
    return NOT_KNOWABLE.get((lie, scenario, None)) or NOT_KNOWABLE.get((lie, scenario, loop))


TABLE = [
    (lie, scenario, loop)
    for lie, (scenario, loop) in itertools.product(LIES, PAIRS)
    if reason_for(lie, scenario, loop) is None
]


def cases() -> Iterator[Any]:
    """The table, by the kinds that are said above."""
    pairs = itertools.cycle(zip(itertools.cycle(SCENARIOS), itertools.cycle(LOOPS)))
    quick = set()
    for lie in LIES:
        quick.add(next((lie, *pair) for pair in pairs if (lie, *pair) in TABLE))
    tried = Counter((scenario, loop) for _, scenario, loop in quick)
    tried_slowly = set()
    for lie, loop in itertools.product(LIES, LOOPS):
        scenario = min((each for each in SCENARIOS if (lie, each, loop) in TABLE), key=lambda each: tried[each, loop])
        tried_slowly.add((lie, scenario, loop))
        tried[scenario, loop] += 1
    assert set(tried) == set(PAIRS), "a scenario in a loop with no lie"
    for case in TABLE:
        yield from [case] if case in quick else slow(case) if case in tried_slowly else exhaustive(case)


def plan_of(server: Misbehaving, scenario: str, loop: str) -> Plan:
    changes = {"connections": 3, "keys": 12, "duration_s": 0.06, "warmup_s": 0.0, "timeout_s": 0.5, "seed": 7}
    if scenario == "semaphore":
        # One permit that all want.
        changes["keys"] = 1
    return Plan.from_json(
        {"target": server.url, "prefix": "a1b2c3d:", "scenario": scenario, **changes, **LOOPS[loop]}
    )


@pytest.mark.parametrize(("lie", "scenario", "loop"), list(cases()))
async def test_every_lie_is_caught(lie: type[Fault], scenario: str, loop: str) -> None:
    with listening(Misbehaving(lie())) as server:
        result = await run_in_process(plan_of(server, scenario, loop))
    assert exit_status(result, []) == status.FAILED, told(result)


@pytest.mark.parametrize(
    ("scenario", "loop"),
    [
        pytest.param(scenario, loop, marks=[] if number % 9 == 0 else [pytest.mark.slow])
        for number, (scenario, loop) in enumerate(PAIRS)
    ],
)
async def test_a_server_that_does_not_lie_is_not_accused(scenario: str, loop: str) -> None:
    with listening(Misbehaving()) as server:
        result = await run_in_process(plan_of(server, scenario, loop))
    assert exit_status(result, []) in (status.OK, status.INVALID), told(result)
    assert result.requests == result.offered > 0


def told(result: Result) -> str:
    return f"{result.failed} {result.failed_outside} {result.verification_before} {result.verification}"


def test_the_guide_has_every_lie_and_says_what_is_not_knowable() -> None:
    page = " ".join((ROOT / "docs/guide/measuring.md").read_text().split())
    for lie in LIES:
        assert f"| {' '.join((lie.__doc__ or '').split())} |" in page
    assert {scenario for _, scenario, _ in NOT_KNOWABLE} == {"incr", "hotkey", "semaphore"}
    assert "`incr` has no decrements" in page
    assert "the one counter of `hotkey`" in page
