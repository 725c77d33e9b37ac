"""Whether a server may be restarted now. Pure.

A restart loses every counter and every hold: there is no journal yet. So a server that has to be restarted waits
until it has neither, or until the resource's annotation allows the loss for the generation that asks for it. A
container that does not run has nothing to lose. One that runs and does not answer may have everything: it is left
alone.

Between the last look at the server and the moment at which the API has accepted the deletion of its pod, a client can
create a counter. The operator looks once more directly before it deletes, and the time between is in the status
(`roll.windowMs`): a request to the API. The deletion names the pod that was looked at, so another one cannot be hit.
"""

from __future__ import annotations

from collections.abc import Mapping, Sequence
from dataclasses import dataclass
from typing import Any, Literal

from naught_operator.names import ALLOW_LOSS


@dataclass(frozen=True)
class Figures:
    """What a restart would lose."""

    counters: int
    holds: int

    @property
    def nothing(self) -> bool:
        """Whether there is nothing to lose."""
        return not self.counters and not self.holds


@dataclass(frozen=True)
class Decision:
    """What to do with a pod that is not as it should be."""

    kind: Literal["roll", "refuse", "wait"]
    reason: str
    """In one word, for the condition."""
    message: str


def figures_of(info: Mapping[str, Any]) -> Figures:
    """The figures in the server's `info`: live counters of all caches, and holds of all sessions."""
    return Figures(
        counters=sum(cache["counters"] for cache in info["caches"].values()),
        holds=info["sessions"]["holds"],
    )


def allows_loss(annotations: Mapping[str, str], generation: int) -> bool:
    """Whether the resource's annotation allows the loss for this generation, and not for one that was before."""
    return annotations.get(ALLOW_LOSS, "").strip() == str(generation)


def decide(why: Sequence[str], figures: Figures | None, *, runs: bool, allowed: bool, generation: int) -> Decision:
    """Whether a pod may be deleted. `why` says what a restart would change; `figures` is None where the server did
    not answer, `runs` whether its container does."""
    changes = ", ".join(why)
    if not runs:
        return Decision("roll", "NotRunning", f"restarting for {changes}: the container does not run")
    if allowed:
        lost = "what it has" if figures is None else f"{figures.counters} counters, {figures.holds} holds"
        return Decision("roll", "LossAllowed", f"restarting for {changes}: the loss of {lost} is allowed")
    if figures is None:
        return Decision("wait", "ServerUnreachable", f"a restart is needed for {changes}; the server does not answer")
    if figures.nothing:
        return Decision("roll", "Empty", f"restarting for {changes}: there are no counters and no holds")
    return Decision(
        "refuse",
        "RestartWouldLose",
        f"RestartWouldLose: {figures.counters} counters, {figures.holds} holds. A restart is needed for {changes}; "
        f"it waits until there are none. To lose them, annotate the resource: {ALLOW_LOSS}={generation}",
    )
