"""The soak reports what is wrong: each kind of violation is made up once. One round of it runs as it is."""

from __future__ import annotations

import random
import re
import subprocess
import sys
from pathlib import Path
from types import SimpleNamespace
from typing import Any

import pytest

import naught
from soak.soak import CLIENTS, DRIFT_BYTES_MAX, Figures, Own, Side
from support.histories import History
from support.linearizability import Operation
from support.surroundings import without_settings


def good() -> Figures:
    figures = Figures()
    figures.resident = [0, 1, 1]
    return figures


def test_a_run_without_violations_is_good() -> None:
    assert good().is_good


@pytest.mark.parametrize("what", ["lost", "doubled", "violations", "drift"])
def test_each_violation_makes_the_run_bad(what: str) -> None:
    figures = good()
    if what == "violations":
        figures.violations.append("so")
    elif what == "drift":
        figures.resident.append(DRIFT_BYTES_MAX + 2)
    else:
        setattr(figures, what, 1)
    assert not figures.is_good
    assert what in figures.report(1.0, 1, 1)


class FakeClient:
    """Gives these answers, and then no more. An exception is raised."""

    def __init__(self, side: Any, answers: list[Any]) -> None:
        self._side = side
        self._answers = answers

    async def incr(self, key: str) -> int:
        answer = self._answers.pop(0)
        if not self._answers:
            self._side.until = 0.0
        if isinstance(answer, Exception):
            raise answer
        if answer == "killed":
            self._side.generation += 1
            self._side._owns[key].forget()
            raise naught.OutcomeUnknown("so")
        return answer  # type: ignore[no-any-return]

    async def take(self, keys: list[str]) -> list[int]:
        return [self._answers.pop(0) if self._answers else 0 for _ in keys]


def side_of(figures: Figures) -> Any:
    side = Side.__new__(Side)
    side.name, side.generation, side._figures, side.history = "it", 0, figures, History()
    side.random = random.Random(1)
    return side


UNKNOWN = naught.OutcomeUnknown("so")
REFUSED = naught.Busy("so")


@pytest.mark.parametrize(
    ("answers", "lost", "doubled"),
    [
        ([1, 2, 3], 0, 0),
        ([1, 2, 2], 1, 0),
        ([1, 1, 1], 2, 0),
        ([1, 3], 0, 1),
        ([1, UNKNOWN, 2], 0, 0),
        ([1, UNKNOWN, 3], 0, 0),
        ([1, UNKNOWN, 4], 0, 1),
        ([1, REFUSED, 2], 0, 0),
        ([1, REFUSED, 3], 0, 1),
        ([1, 2, "killed", 1, 2], 0, 0),
        ([1, 2, "killed", 1, 1], 1, 0),
        ([1, "killed", 1, 3], 0, 1),
    ],
)
async def test_answers_of_an_own_counter_are_compared(
    answers: list[Any], lost: int, doubled: int, monkeypatch: pytest.MonkeyPatch
) -> None:
    figures = Figures()
    side = side_of(figures)
    own = Own()
    side._owns = {"k": own}
    clock = SimpleNamespace(monotonic=lambda: 0.0 if left else 2.0)
    left = list(answers)
    monkeypatch.setattr("soak.soak.time", clock)
    await side.count(FakeClient(side, left), "k", own, 1.0)
    assert (figures.lost, figures.doubled) == (lost, doubled)


@pytest.mark.parametrize(("value", "violations"), [(1, 1), (2, 0), (3, 0), (4, 1)])
async def test_counters_are_compared_at_the_end_of_a_round(value: int, violations: int) -> None:
    figures = Figures()
    own = Own()
    own.least, own.most = 2, 3
    await side_of(figures)._compare({"k": own}, FakeClient(None, [value]))
    assert len(figures.violations) == violations
    assert (figures.lost, figures.doubled) == (value < 2, value > 3)


async def test_a_history_that_no_order_explains_is_a_violation() -> None:
    figures = Figures()
    side = side_of(figures)
    side.history.operations.append(Operation("shared:0", "incr", 1, 0, 1, 2))
    await side._compare({}, FakeClient(None, []))
    assert "no order explains shared:0" in figures.violations[0]
    assert figures.judged == 0


@pytest.mark.slow
def test_a_round_reports_operations_faults_and_nothing_lost_or_doubled() -> None:
    program = Path(__file__).parent / "soak.py"
    done = subprocess.run(
        [sys.executable, str(program), "--seconds", "1", "--seed", "1"],
        check=False,
        capture_output=True,
        text=True,
        timeout=120,
        env=without_settings(),
    )
    assert done.returncode == 0, done.stdout + done.stderr
    assert int(re.findall(r"operations +([\d,]+)", done.stdout)[0].replace(",", "")) > 100 * CLIENTS
    assert int(re.findall(r"faults injected +([\d,]+)", done.stdout)[0].replace(",", "")) > 5
    for word in ("lost", "doubled", "violations"):
        assert re.search(rf"^{word} +0$", done.stdout, re.MULTILINE)
