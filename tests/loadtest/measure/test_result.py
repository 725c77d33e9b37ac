"""Results: merging, what makes them INVALID, how they are judged and how they are told."""

from __future__ import annotations

from collections.abc import Iterable
from typing import Any

import pytest

from naught_loadtest.commands import status
from naught_loadtest.commands.run import exit_status
from naught_loadtest.drivers.base import Carrier, Inspector
from naught_loadtest.generate.plan import Plan
from naught_loadtest.generate.workload import Workload, key_name
from naught_loadtest.measure.expectation import Expected
from naught_loadtest.measure.histogram import Histogram
from naught_loadtest.measure.report import milliseconds, text_lines, to_json
from naught_loadtest.measure.result import Result, UnaccountedError
from naught_loadtest.measure.slo import parse
from naught_loadtest.measure.tally import Tally
from naught_loadtest.measure.verification import Verification, clean_up, verify

MS = 1_000_000


def plan(**changes: Any) -> Plan:
    return Plan.from_json({"target": "naught://h", "prefix": "a1b2c3d:", **changes})


def answer(
    *,
    latency_ns: int = MS,
    lateness_ns: int = 0,
    cpu: float = 0.5,
    busy: float | None = None,
    wait: float | None = None,
) -> dict[str, Any]:
    """What a worker with twenty thousand requests of this latency reports."""
    tally = Tally(timeout_ns=MS)
    for _ in range(20_000):
        tally.response.record(latency_ns)
        tally.service.record(latency_ns)
        tally.lateness.record(lateness_ns)
        tally.receiving.record(0)
    tally.requests = tally.operations = tally.offered = tally.sent = 20_000
    account = {"connection": 0, "life": 0, "sent": 5, "answered": 5, "failed": []}
    return {
        "tally": tally.to_json(),
        "series": [],
        "elapsed_s": 2.0,
        "cpu_share": cpu,
        "busy_share": busy,
        "wait_share": wait,
        "levels": None,
        "accounts": [{**account, "failures_dropped": False}],
    }


def result(*answers: dict[str, Any], **changes: Any) -> Result:
    made = Result(plan(**changes), server="naught 1.2.3")
    for each in answers or (answer(),):
        made.add(each)
    return made


def test_workers_add_up_and_percentiles_come_from_all_of_their_samples() -> None:
    both = result(answer(latency_ns=MS), answer(latency_ns=9 * MS, cpu=0.7))
    assert both.requests == both.operations == 40_000
    assert both.throughput == 20_000
    assert both.response.percentile(49) == pytest.approx(MS, rel=0.001)
    assert both.response.percentile(51) == pytest.approx(9 * MS, rel=0.001)
    assert both.generator_share == 0.7
    assert len(both.accounts) == 2


def test_a_closed_loop_is_invalid_when_the_generator_was_the_limit() -> None:
    spoiled = result(answer(cpu=0.99))
    assert "the limit" in spoiled.invalid[0]
    spoiled.server_share = 0.6
    assert "the server only 60%" in spoiled.invalid[0]
    spoiled.server_share = 0.97
    assert spoiled.invalid == []
    assert result(answer(cpu=0.9)).invalid == []


def test_an_open_loop_is_invalid_when_the_generator_was_late_busy_or_missed_requests() -> None:
    assert result(answer(lateness_ns=MS // 5, busy=0.5), rate=10.0).invalid == []
    assert "lateness in sending" in result(answer(lateness_ns=MS // 3, busy=0.5), rate=10.0).invalid[0]
    assert "busy 97%" in result(answer(cpu=1.0, busy=0.97), rate=10.0).invalid[0]
    # A spinning process uses its whole core; what counts is how much of it was work.
    assert result(answer(cpu=1.0, busy=0.3), rate=10.0).invalid == []
    missed = result(answer(busy=0.5), rate=10.0)
    missed.missed = 21
    assert "too slow to send 21" in missed.invalid[0]
    missed.missed = 20
    assert missed.invalid == []


def test_lateness_is_judged_at_the_percentile_of_an_objective_in_sending_and_in_receiving() -> None:
    """One reply in two hundred lay here for a long time: at p99 nobody sees it, and an objective about p99.9 does."""
    for where in ("lateness", "receiving"):
        late = answer(busy=0.5)
        histogram = Histogram.from_json(late["tally"][where])
        for _ in range(100):
            histogram.record(MS)
        late["tally"][where] = histogram.to_json()
        unasked = result(late, rate=10.0)
        assert unasked.invalid == []
        asked = result(late, rate=10.0)
        asked.objectives = [parse("p99.9<5ms")]
        assert f"lateness in {'sending' if where == 'lateness' else where} (p99.9" in asked.invalid[0]
        most = result(late, rate=10.0)
        most.objectives = [parse("max<5ms")]
        assert "(max" in most.invalid[0]


def test_a_result_whose_requests_do_not_add_up_does_not_exist() -> None:
    with pytest.raises(UnaccountedError, match=r"200 requests were offered, but 21 completed \+ 0 failed"):
        Result(plan(), offered=200, requests=21)
    vanished = answer()
    vanished["tally"]["offered"] += 1
    for changes in ({}, {"rate": 10.0}):
        with pytest.raises(UnaccountedError, match="20001 requests were offered, but 20000 completed"):
            result(vanished, **changes)
    twice = answer()
    twice["tally"]["failed"] = {"full": 1}
    with pytest.raises(UnaccountedError):
        result(twice)
    assert Result(plan(), offered=6, requests=1, failed={"full": 1}, timed_out=1, missed=1, not_sent=2).offered == 6


def test_what_a_busy_machine_spoiled_is_invalid() -> None:
    """A server that got 15 % of a core: it waited for the other 85."""
    starved = result()
    starved.server_share, starved.server_wait_share = 0.15, 0.85
    assert "the server waited for a processor for 85% of the time" in starved.invalid[0]
    starved.server_wait_share = 0.05
    assert starved.invalid == []
    starved.steal_share = 0.06
    assert "took 6%" in starved.invalid[0]
    assert "the generator waited for a processor for 30%" in result(answer(wait=0.3)).invalid[0]
    assert result(answer(wait=0.1)).invalid == []


def test_a_figure_above_its_ceiling_is_invalid_unless_the_echo_server_was_the_limit() -> None:
    made = result()
    echoes = [
        Result(plan(), offered=1, requests=1, throughput=rate, server_share=0.5)
        for rate in (made.throughput / 2, made.throughput / 1.2)
    ]
    made.judge_by_ceiling(echoes)
    assert "above the generator's ceiling of 8,333 operations/s" in made.invalid[0]
    echoes[1].server_share = 0.95
    made.judge_by_ceiling(echoes)
    assert made.invalid == []


def test_operations_for_each_second_of_the_servers_processor_time() -> None:
    made = result()
    assert made.per_cpu_second is None
    made.server_share = 0.5
    assert made.per_cpu_second == made.throughput * 2
    assert "20,000 for each second of the server's processor time" in "\n".join(text_lines(made))


def test_a_run_without_answers_is_invalid() -> None:
    nothing = Result(plan())
    assert "nothing was answered" in nothing.invalid[0]


def test_exit_statuses_wrong_before_invalid_before_slow() -> None:
    good = result()
    good.verification = Verification(compared=10)
    assert exit_status(good, [parse("p99<2ms")]) == status.OK
    assert exit_status(good, [parse("p99<2ms"), parse("p99<1ms")]) == status.OBJECTIVE_MISSED
    spoiled = result(answer(cpu=0.99))
    assert exit_status(spoiled, [parse("p99<1ms")]) == status.INVALID
    spoiled.verification = Verification(compared=10, wrong=1)
    assert exit_status(spoiled, []) == status.FAILED
    failed = result()
    failed.failed["full"] = 1
    assert exit_status(failed, []) == status.FAILED
    slow = result(rate=10.0)
    slow.not_sent = 1
    assert exit_status(slow, []) == status.FAILED
    objective = parse("errors<1%")
    assert exit_status(failed, [objective]) == status.OK
    failed.failed["full"] = 1000
    assert exit_status(failed, [objective]) == status.OBJECTIVE_MISSED
    lost = result()
    lost.connections_lost["connection_lost"] = 1
    assert exit_status(lost, []) == status.FAILED
    early = result()
    early.failed_outside["full"] = 1
    assert exit_status(early, []) == status.FAILED
    before = result()
    before.verification, before.verification_before = Verification(), Verification(wrong=1)
    assert exit_status(before, []) == status.FAILED
    short = result(answer(cpu=0.99))
    short.cut_short = True
    assert exit_status(short, [parse("p99<1ms")]) == status.INTERRUPTED
    short.failed["full"] = 1
    assert exit_status(short, []) == status.FAILED
    unverified = result()
    unverified.not_verified = "because"
    assert exit_status(unverified, []) == status.FAILED


def test_the_report_says_what_matters() -> None:
    told = result(answer(lateness_ns=1000, busy=0.2), rate=10_000.0, seed=77)
    told.verification = Verification(compared=10_000)
    told.evictions = {"zero": 12_345}
    told.server_share = 0.5
    lines = list(text_lines(told, [parse("p99<2ms")]))
    assert max(map(len, lines)) < 80
    text = "\n".join(lines)
    for part in (
        "naught 1.2.3",
        "seed 77",
        "open loop",
        "20,000 offered = 20,000 completed + 0 failed + 0 timed out + 0",
        "p50",
        "p99",
        "max",
        "response",
        "service",
        "sending",
        "receiving",
        "stddev",
        "12,345 (zero 12,345)",
        "10,000 counters compared, all equal to what was acknowledged",
        "0 counters left",
        "server 50%",
        "p99<2ms: met",
    ):
        assert part in text
    (p9999,) = [line for line in text.splitlines() if line.startswith("p99.99 ")]
    assert p9999.split()[:4] == ["p99.99", "1.00", "ms", "(2)"]
    assert "which makes it uncertain" in text
    assert "INVALID" not in text


def test_the_report_names_what_is_wrong() -> None:
    told = result(answer(cpu=1.0))
    told.failed = {"full": 3, "connection_lost": 2}
    told.failed_outside = {"wrong_id": 1}
    told.connections_lost, told.reconnects = {"unasked_reply": 4}, 3
    told.cut_short = True
    told.verification_before = Verification(compared=5, inconsistent=1)
    told.verification = Verification(
        compared=5, wrong=1, wrong_named=["k is 7, acknowledged 3"], left=4, left_expected=(0, 0), unknown=2
    )
    lines = list(text_lines(told))
    assert max(map(len, lines)) < 80
    text = " ".join(line[14:] if not line[:14].strip() else line for line in lines)
    for part in (
        "closed loop: capacity",
        "INVALID",
        "3 full",
        "2 connection_lost",
        "WRONG, after the closing decrements: 1 of 5",
        "k is 7",
        "2 requests with unknown outcome",
        "there should be 0",
        "lost: 4 unasked_reply; opened anew: 3",
        "outside of the measured time: 1 wrong_id",
        "WRONG, before the closing decrements: the",
        "cannot all be right",
        "CUT SHORT",
    ):
        assert part in text


def test_zeros_left_behind_are_called_so() -> None:
    told = result()
    told.verification = Verification(compared=5, left=5, left_zeros=5)
    text = "\n".join(text_lines(told))
    assert "5 counters left, 5 of them zeros" in text
    assert "WRONG" not in text


def test_the_json_has_every_field_the_documentation_names() -> None:
    from naught_loadtest.measure import report

    assert report.__doc__ is not None
    named = {
        name.strip()
        for line in report.__doc__.splitlines()
        if line.startswith("| ") and not line.startswith(("| field", "| ---", "| `"))
        for name in line.split("|")[1].split(",")
    }
    document = to_json(result(), [parse("p99<1s")])
    assert named == set(document)
    assert document["objectives"][0]["met"]
    assert document["response_ns"]["p99.9"] == document["response_ns"]["max"]
    assert document["response_ns"]["samples"] == 20_000
    assert document["errors_ns"]["p50"] is None
    assert document["service_ns"] is None
    assert Plan.from_json(document["plan"]) == plan()


@pytest.mark.parametrize(
    ("value_ns", "text"),
    [(None, "-"), (41_250, "0.041 ms"), (1_234_000, "1.23 ms"), (45_678_000, "45.7 ms"), (1_234_567_890, "1,235 ms")],
)
def test_latencies_have_three_digits(value_ns: int | None, text: str) -> None:
    assert milliseconds(value_ns) == text


class Shelf(Inspector):
    """A server that is a dict."""

    def __init__(self, counters: dict[str, int], keeps_zeros: bool) -> None:
        super().__init__(Nobody())
        self.counters = counters
        self.keeps_zeros = keeps_zeros  # type: ignore[misc]
        self.largest_request = 0

    def prepare(self) -> None:
        pass

    def version(self) -> str:
        return "a dict"

    def values(self, names: list[str]) -> list[int]:
        self.largest_request = max(self.largest_request, len(names))
        return [self.counters.get(name, 0) for name in names]

    def left(self, prefix: str, names: Iterable[list[str]]) -> int:
        if self.keeps_zeros:
            return sum(name in self.counters for portion in names for name in portion)
        return sum(name.startswith(prefix) for name in self.counters)

    def remove(self, names: list[str]) -> None:
        for name in names:
            self.counters.pop(name, None)


class Nobody(Carrier):
    def ask(self, request: bytes, replies: int = 1) -> list[Any]:
        raise AssertionError


LOAD = Workload("incr", keys=2500, connections=1, batch=1, seed=1)


def expected(**values: tuple[int, int]) -> Expected:
    made = Expected()
    for number, (low, high) in values.items():
        made.add(int(number[1:]), low, high)
    return made


def test_verification_passes_where_all_is_as_acknowledged() -> None:
    shelf = Shelf({key_name("p:", 1): 5, key_name("p:", 2): 2, "theirs": 9}, keeps_zeros=False)
    checked = verify(shelf, [LOAD.key_numbers], "p:", expected(k1=(5, 5), k2=(1, 3)))
    assert checked.passed
    assert (checked.compared, checked.left, checked.left_zeros) == (2500, 2, 0)
    assert shelf.largest_request == 1000


@pytest.mark.parametrize(
    ("counters", "wrong", "left"),
    [({1: 4}, 1, 1), ({1: 6}, 1, 1), ({}, 1, 0), ({1: 5, 2: 1}, 1, 2), ({1: 5, 99_999: 1}, 0, 2)],
)
def test_verification_fails_on_a_wrong_value_and_on_a_counter_too_many(
    counters: dict[int, int], wrong: int, left: int
) -> None:
    shelf = Shelf({key_name("p:", number): value for number, value in counters.items()}, keeps_zeros=False)
    checked = verify(shelf, [LOAD.key_numbers], "p:", expected(k1=(5, 5)))
    assert not checked.passed
    assert (checked.wrong, checked.left) == (wrong, left)
    assert len(checked.wrong_named) == wrong


def test_zeros_are_left_but_not_wrong() -> None:
    shelf = Shelf({key_name("p:", 1): 0, key_name("p:", 2): 3}, keeps_zeros=True)
    checked = verify(shelf, [LOAD.key_numbers], "p:", expected(k2=(3, 3)))
    assert checked.passed
    assert (checked.left, checked.left_zeros) == (2, 1)


def test_cleaning_up_touches_only_what_the_run_made() -> None:
    shelf = Shelf({key_name("p:", 1): 5, key_name("p:", 99_999): 1, "theirs": 9}, keeps_zeros=False)
    clean_up(shelf, [LOAD.key_numbers], "p:")
    assert shelf.counters == {key_name("p:", 99_999): 1, "theirs": 9}


def test_an_empty_histogram_meets_no_objective() -> None:
    assert not parse("p50<1s").judge(Result(plan()))[0]
