"""Servers that hang up, are silent, refuse or answer garbage: every request is accounted for, and nothing hangs.

The worker is in this process, in both loops.
"""

from __future__ import annotations

import itertools
from typing import Any

import pytest

from naught_loadtest.commands import status
from naught_loadtest.commands.run import exit_status
from naught_loadtest.generate import workload
from naught_loadtest.generate.plan import Plan
from naught_loadtest.measure.result import Result
from support.listening import listening
from support.load_in_process import run_in_process
from support.misbehaving import (
    AnswersGarbage,
    Fault,
    HangsUp,
    HangsUpAlways,
    Misbehaving,
    NeverAnswers,
    NeverEndsAReply,
    Refuses,
)
from support.seeds import exhaustive, slow

# The others have one counter in a request, and `semaphore` needs more than this server has.
SCENARIOS = [name for name in workload.SCENARIOS if name not in workload.NAUGHT_ONLY]
LOOPS: dict[str, dict[str, Any]] = {"closed": {"pipeline": 4}, "apply": {"batch": 3}, "open": {"rate": 2000.0}}


def with_loops(quick: str) -> list[Any]:
    """Each scenario in each loop: one scenario in all loops is quick, the others are slow in one loop each."""
    once = [*zip((name for name in SCENARIOS if name != quick), itertools.cycle(LOOPS), strict=False)]
    pairs = [*itertools.product(SCENARIOS, LOOPS)]
    rest = [(scenario, loop) for scenario, loop in pairs if scenario != quick and (scenario, loop) not in once]
    return [*((quick, loop) for loop in LOOPS), *slow(*once), *exhaustive(*rest)]


async def run(fault: Fault, loop: str, scenario: str = "churn", **changes: Any) -> tuple[Result, Misbehaving]:
    with listening(Misbehaving(fault)) as server:
        fields = {"connections": 3, "keys": 12, "duration_s": 0.15, "warmup_s": 0.0, "timeout_s": 0.2, "seed": 7}
        plan = {"target": server.url, "prefix": "a1b2c3d:", "scenario": scenario, **fields, **LOOPS[loop], **changes}
        result = await run_in_process(Plan.from_json(plan))
    result.check_balance()
    assert result.offered > 0
    # Nothing ends the measured time before its end, whatever the connections do.
    assert result.elapsed_s > 0.9 * fields["duration_s"]
    return result, server


@pytest.mark.parametrize("loop", LOOPS)
async def test_a_server_that_always_hangs_up_leaves_no_request_unaccounted_for(loop: str) -> None:
    result, server = await run(HangsUpAlways(), loop, duration_s=0.4)  # on a busy machine too
    assert result.requests == 0
    assert result.failed["connection_lost"] > 0
    assert result.reconnects > 0
    assert result.connections_lost["connection_lost"] > 3
    assert exit_status(result, []) == status.FAILED
    # Each connection is opened anew after 10, 20, 40, 80 ms and so on, and not in a tight loop.
    assert server.accepted < 3 * 8
    if loop == "open":
        assert result.offered == 800


@pytest.mark.parametrize(("scenario", "loop"), with_loops(quick="zipf"))
async def test_lost_connections_are_opened_anew_and_the_counters_are_still_compared(loop: str, scenario: str) -> None:
    result, _ = await run(HangsUp(), loop, scenario, duration_s=0.4)  # on a busy machine too
    assert result.requests > 0
    assert result.reconnects > 0
    assert set(result.failed) == set(result.connections_lost) == {"connection_lost"}
    assert result.verification is not None
    assert result.verification.unknown > 0
    assert not result.wrong
    assert exit_status(result, []) == status.FAILED


@pytest.mark.parametrize("loop", LOOPS)
async def test_what_is_never_answered_has_timed_out(loop: str) -> None:
    result, _ = await run(NeverAnswers(), loop)
    in_flight = {"closed": 12, "apply": 3, "open": 3}[loop]
    assert (result.requests, result.failed, result.timed_out) == (0, {}, in_flight)
    assert result.connections_lost == {}
    if loop == "open":
        assert result.offered == 300
        assert result.not_sent + result.missed == 297
        assert result.response.total == 300
        # The first request waited from its due time until it was given up.
        assert result.response.max_ns >= 150_000_000
    assert exit_status(result, []) == status.FAILED


@pytest.mark.parametrize("loop", LOOPS)
@pytest.mark.parametrize("fault", [AnswersGarbage, NeverEndsAReply])
async def test_what_is_no_reply_ends_the_connection_and_fails_its_requests(fault: type[Fault], loop: str) -> None:
    result, _ = await run(fault(), loop)
    assert result.requests == 0
    assert result.failed["protocol_fault"] > 0
    assert set(result.connections_lost) == {"protocol_fault"}
    assert exit_status(result, []) == status.FAILED


@pytest.mark.parametrize(("scenario", "loop"), with_loops(quick="mixed"))
async def test_refusals_are_failures_and_not_lies(loop: str, scenario: str) -> None:
    result, _ = await run(Refuses(), loop, scenario)
    assert set(result.failed) == {"full"}
    assert result.requests + result.failed["full"] == result.offered
    assert result.error_times.total > 0
    assert not result.wrong, f"{result.verification_before} {result.verification}"
    assert result.verification is not None
    assert result.verification.refused >= result.failed["full"]
