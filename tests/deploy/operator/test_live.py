"""What is set, given back and raised, as a table."""

from __future__ import annotations

from datetime import UTC, datetime, timedelta
from typing import Any

import pytest

from naught_operator.live import drifts, pins_of, plan
from naught_operator.names import RAISED_UNTIL
from naught_operator.raising import Raised, as_status, budget, extended, from_status, read, written
from naught_operator.settings import Difference
from naught_operator.spec import Raise, Resource, read_spec

NOW = datetime(2026, 1, 2, 3, 4, 5, tzinfo=UTC)
LATER = NOW + timedelta(seconds=60)
BEFORE = NOW - timedelta(seconds=60)
NAME = "sweep_budget_ms"


def resource(
    settings: dict[str, Any], *, until: datetime | None = None, kept: Any = None, raised: Raised | None = None
) -> Resource:
    annotations = {} if until is None else {RAISED_UNTIL: written(until)}
    status: dict[str, Any] = {} if kept is None else {"settings": kept}
    if raised is not None:
        status["raised"] = as_status(raised, 5.0)
    return Resource("n", "m", "uid", 1, False, annotations, {"settings": settings}, status)


def outcome(found: Resource, live: dict[str, Any], pinned: Any) -> tuple[dict[str, Any], dict[str, Any], list[str]]:
    todo = plan(found, read_spec(found.spec), live, pinned, NOW)
    return {each.name: each.wanted for each in todo.to_set}, dict(todo.once), list(todo.give_back)


CASES: dict[str, tuple[Resource, dict[str, Any], Any, Any]] = {
    "nothing is asked for": (resource({}), {NAME: 7.0}, [], ({}, {}, [])),
    "a value": (resource({NAME: 2}), {NAME: 1.0}, [], ({NAME: 2}, {}, [])),
    "the value is there, and the tuner could change it": (resource({NAME: 2}), {NAME: 2.0}, [], ({NAME: 2}, {}, [])),
    "the value is there for good": (resource({NAME: 2}), {NAME: 2.0}, [NAME], ({}, {}, [])),
    "a setting that is not live": (resource({"connections_max": 2}), {NAME: 1.0}, [], ({}, {}, [])),
    "named no more": (resource({}, kept={NAME: 2.0}), {NAME: 2.0}, [NAME], ({}, {}, [NAME])),
    "named no more, and given back": (resource({}, kept={NAME: 2.0}), {NAME: 2.0}, [], ({}, {}, [])),
    "a raise begins": (resource({}, until=LATER), {NAME: 1.0}, [], ({NAME: 5.0}, {}, [])),
    "a raise begins over a value": (resource({NAME: 2}, until=LATER), {NAME: 2.0}, [NAME], ({NAME: 5.0}, {}, [])),
    "a raise never lowers": (resource({NAME: 8}, until=LATER), {NAME: 8.0}, [NAME], ({}, {}, [])),
    "a sweeper that is off stays off": (resource({NAME: 0}, until=LATER), {NAME: 0.0}, [NAME], ({}, {}, [])),
    "a raise goes on": (
        resource({}, until=LATER, kept={NAME: 5.0}, raised=Raised(1.0, False, BEFORE, LATER)),
        {NAME: 5.0},
        [NAME],
        ({}, {}, []),
    ),
    "a raise goes on after the file was read again": (
        resource({}, until=LATER, kept={NAME: 5.0}, raised=Raised(1.0, False, BEFORE, LATER)),
        {NAME: 1.0},
        [],
        ({NAME: 5.0}, {}, []),
    ),
    "a raise ends, and the resource names a value": (
        resource({NAME: 2}, until=BEFORE, kept={NAME: 5.0}, raised=Raised(2.0, False, BEFORE, BEFORE)),
        {NAME: 5.0},
        [NAME],
        ({NAME: 2}, {}, []),
    ),
    "a raise ends, and the tuner has it again": (
        resource({}, until=BEFORE, kept={NAME: 5.0}, raised=Raised(1.0, False, BEFORE, BEFORE)),
        {NAME: 5.0},
        [NAME],
        ({}, {}, [NAME]),
    ),
    "a raise ends, and what somebody had set comes back": (
        resource({}, until=BEFORE, kept={NAME: 5.0}, raised=Raised(1.5, True, BEFORE, BEFORE)),
        {NAME: 5.0},
        [NAME],
        ({}, {NAME: 1.5}, []),
    ),
    "a raise ends because its annotation is gone": (
        resource({}, kept={NAME: 5.0}, raised=Raised(1.0, False, BEFORE, LATER)),
        {NAME: 5.0},
        [NAME],
        ({}, {}, [NAME]),
    ),
    "a server that says nothing of pins": (
        resource({}, until=BEFORE, kept={NAME: 5.0}, raised=Raised(1.0, True, BEFORE, BEFORE)),
        {NAME: 5.0},
        None,
        ({}, {NAME: 1.0}, []),
    ),
    "an annotation that names no time": (
        Resource("n", "m", "uid", 1, False, {RAISED_UNTIL: "tomorrow"}, {}, {}),
        {NAME: 1.0},
        [],
        ({}, {}, []),
    ),
    "a server without the setting": (resource({}, until=LATER), {"other": 1}, [], ({}, {}, [])),
}


@pytest.mark.parametrize("case", CASES)
def test_the_plan(case: str) -> None:
    found, live, pinned, expected = CASES[case]
    assert outcome(found, live, pinned) == expected


@pytest.mark.parametrize(
    ("pinned", "kept", "by_hand"),
    [([NAME], {}, True), ([], {}, False), ([NAME], {NAME: 2.0}, False), (None, {}, True)],
    ids=["pinned by somebody", "not pinned", "pinned by the operator", "unknown"],
)
def test_a_raise_notes_who_had_set_what_it_found(pinned: Any, kept: Any, by_hand: bool) -> None:
    found = resource({}, until=LATER, kept=kept)
    assert plan(found, read_spec({}), {NAME: 1.5}, pinned, NOW).raised == Raised(1.5, by_hand, NOW, LATER)


def test_a_further_alert_moves_the_end_and_keeps_the_rest() -> None:
    found = resource({}, until=LATER, raised=Raised(1.0, False, BEFORE, NOW))
    assert plan(found, read_spec({}), {NAME: 5.0}, [NAME], NOW).raised == Raised(1.0, False, BEFORE, LATER)


def test_what_an_operator_wrote_before_it_ended_is_read_by_the_next() -> None:
    raised = Raised(1.5, True, BEFORE, LATER)
    assert from_status({"raised": as_status(raised, 5.0)}) == raised
    for broken in (
        None,
        {},
        {"raised": "no"},
        {"raised": {"before": 1}},
        {"raised": {**as_status(raised, 5), "before": ""}},
    ):
        assert from_status(broken or {}) is None


@pytest.mark.parametrize(
    ("before", "expected"),
    [(None, LATER), (BEFORE, LATER), (LATER + timedelta(seconds=5), LATER + timedelta(seconds=5))],
    ids=["the first", "a later one", "one that was to last longer"],
)
def test_an_alert_never_shortens_a_raise(before: datetime | None, expected: datetime) -> None:
    assert extended(before, NOW, 60) == expected


def test_times_are_written_and_read() -> None:
    assert written(NOW) == "2026-01-02T03:04:05.000Z"
    assert read(written(NOW)) == NOW
    for text in (None, 3, "", "tomorrow", "2026-01-02T03:04:05"):
        assert read(text) is None


def test_the_raised_budget() -> None:
    asked = Raise(5.0, 600)
    assert [budget(asked, usual) for usual in (1.0, 5.0, 9.0, 0.0)] == [5.0, 5.0, 9.0, 0.0]


def test_pins() -> None:
    assert pins_of({}) is None
    assert pins_of({"tuner": {"pinned": {"a": 1}}}) == ["a"]


def test_a_drift_is_a_change_that_the_resource_did_not_ask_for_and_that_is_repaired() -> None:
    kept = {"a": 1.0, "changed": 1.0, "unpinned": 1.0, "refused": 1.0}
    differences = [
        Difference("a", 9.0, 1),  # a drift
        Difference("changed", 1.0, 2),  # the resource has changed
        Difference("unpinned", 1.0, 1),  # the file was read again
        Difference("refused", 9.0, 1),  # it could not be repaired
        Difference("new", 9.0, 1),  # asked for the first time
    ]
    live = {"a": 1.0, "changed": 2.0, "unpinned": 1.0, "refused": 9.0, "new": 1.0}
    assert [each.name for each in drifts(differences, kept, live)] == ["a"]
