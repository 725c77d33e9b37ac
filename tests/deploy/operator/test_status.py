"""What the status of a resource says."""

from __future__ import annotations

from naught_operator.status import Condition, merged, ready

GOOD = Condition("A", "True", "Fine")
BAD = Condition("B", "False", "Broken", "it is broken")


def test_a_condition_keeps_its_time_until_its_status_changes() -> None:
    first = merged([], [GOOD, BAD], 1, "early")
    assert [(each["type"], each["lastTransitionTime"]) for each in first] == [("A", "early"), ("B", "early")]
    second = merged(first, [GOOD, Condition("B", "True", "Mended")], 2, "late")
    assert [(each["type"], each["lastTransitionTime"]) for each in second] == [("A", "early"), ("B", "late")]
    assert {each["observedGeneration"] for each in second} == {2}


def test_what_nothing_is_said_of_stays() -> None:
    other = {"type": "Other", "status": "True"}
    assert merged([other], [GOOD], 1, "now")[0] == other


def test_the_first_that_is_not_true_sums_up() -> None:
    assert ready([GOOD, BAD]) == Condition("Ready", "False", "Broken", "it is broken")
    assert ready([GOOD]).status == "True"
