"""`BusyRequests`: what the server has answered with `busy`, until it is sent again. Sans-IO.

Such a request was not executed. It is sent again after a pause that grows with each such reply and is drawn at random
(`backoff.py`), while its deadline and the budget (`budget.py`) allow.
"""

from __future__ import annotations

from collections.abc import Iterator
from heapq import heappop, heappush
from random import Random
from typing import Final

from naught.core.backoff import Backoff
from naught.core.budget import RetryBudget
from naught.core.messages import Message
from naught.errors import Busy


class BusyRequests:
    """The requests of one session that a busy server has not executed. `random`: the jitter of the pauses."""

    def __init__(self, random: Random | None) -> None:
        self.fresh: list[Message] = []  # answered in this turn
        self._postponed: list[tuple[float, int, Message]] = []  # a heap of (due, sequence, message)
        self._backoff: Final = Backoff(random)
        self.backs_off = False  # the server was busy, and has executed nothing since
        self._budget: Final = RetryBudget()

    def accept(self, message: Message, calls: int) -> bool:
        """Whether this request, which was answered with `busy`, is sent again. If not, its callers get the error.

        `calls`: how many the client has made, for the budget.
        """
        if message.abandoned() or not self._budget.spend(len(message.waiters), calls):
            return False
        self.backs_off = True
        self.fresh.append(message)
        return True

    def note_executed(self) -> None:
        """The server has executed a request after it was busy: the next pause is a short one again."""
        self.backs_off = False
        self._backoff.reset()

    def postpone(self, now: float) -> None:
        """The turn is over: its requests are sent again in a while. Those with no time left for that raise `Busy`."""
        for message in self.fresh:
            due = now + self._backoff.next_delay()
            if message.deadline is not None and message.deadline <= due:
                message.fail(lambda: Busy("the server is busy, and there is no time left to ask again"))
            else:
                heappush(self._postponed, (due, message.sequence, message))
        self.fresh.clear()

    def next_due(self) -> float | None:
        """When the next one is to be sent; None for none."""
        return self._postponed[0][0] if self._postponed else None

    def take_due(self, now: float) -> Iterator[Message]:
        """The requests to send now, that somebody still waits for."""
        postponed = self._postponed
        while postponed and postponed[0][0] <= now:
            _, _, message = heappop(postponed)
            if not message.settled:
                yield message

    def take_all(self) -> list[Message]:
        """All of them, which are forgotten."""
        messages = [*self.fresh, *(message for _, _, message in self._postponed)]
        self.fresh.clear()
        self._postponed.clear()
        return messages
