"""Whether a server may be restarted, as a table."""

from __future__ import annotations

from typing import Any

import pytest

from naught_operator.names import ALLOW_LOSS
from naught_operator.rolling import Figures, allows_loss, decide, figures_of

EMPTY, SOME, HELD = Figures(0, 0), Figures(12, 3), Figures(0, 1)


@pytest.mark.parametrize(
    ("figures", "runs", "allowed", "kind", "reason"),
    [
        (EMPTY, True, False, "roll", "Empty"),
        (SOME, True, False, "refuse", "RestartWouldLose"),
        (HELD, True, False, "refuse", "RestartWouldLose"),
        (None, True, False, "wait", "ServerUnreachable"),
        (SOME, True, True, "roll", "LossAllowed"),
        (None, True, True, "roll", "LossAllowed"),
        (None, False, False, "roll", "NotRunning"),
    ],
    ids=["empty", "counters", "a hold", "no answer", "allowed", "allowed without an answer", "nothing runs"],
)
def test_the_decision(figures: Figures | None, runs: bool, allowed: bool, kind: str, reason: str) -> None:
    found = decide(["image", "port"], figures, runs=runs, allowed=allowed, generation=7)
    assert (found.kind, found.reason) == (kind, reason)
    assert "image, port" in found.message


def test_the_refusal_says_what_is_lost_and_how_to_lose_it() -> None:
    assert decide(["image"], SOME, runs=True, allowed=False, generation=7).message == (
        "RestartWouldLose: 12 counters, 3 holds. A restart is needed for image; it waits until there are none. "
        "To lose them, annotate the resource: naught.dev/allow-loss=7"
    )


@pytest.mark.parametrize(
    ("text", "expected"), [("7", True), (" 7 ", True), ("6", False), ("true", False), ("", False)]
)
def test_the_annotation_is_for_one_generation(text: str, expected: bool) -> None:
    assert allows_loss({ALLOW_LOSS: text}, 7) is expected
    assert not allows_loss({}, 7)


def test_figures_are_of_all_caches() -> None:
    info: Any = {"caches": {"a": {"counters": 2}, "b": {"counters": 3}}, "sessions": {"holds": 4}}
    assert figures_of(info) == Figures(5, 4)
