"""`SessionHolds`: the holds that a session has not released, and those that it asks for again. Sans-IO.

The session is lost when the server does not know it any more, and every hold with it, except that those which are to
be acquired again (`holds.py`) are asked for in the next session. A hold is then in `_regaining`, until the server has
granted it under another number or refused it.
"""

from __future__ import annotations

from naught.core.holds import Hold
from naught.core.messages import AcquireAgain


class SessionHolds:
    """The holds of one `ClientSession`."""

    def __init__(self) -> None:
        self.by_number: dict[int, Hold] = {}  # granted and not released
        # Holds that were lost with the session before, and are asked for again in this one.
        self._regaining: dict[Hold, AcquireAgain] = {}
        # Numbers of holds that were declared lost when the lease ended here. If the server still knows the session,
        # they are released.
        self._expired: list[int] = []

    def __bool__(self) -> bool:
        """Whether there is one that can be lost."""
        return bool(self.by_number or self._regaining)

    @property
    def is_regaining(self) -> bool:
        """Whether one of them is asked for again. For tests."""
        return bool(self._regaining)

    @property
    def has_expired(self) -> bool:
        """Whether holds were declared lost that the server may still know. For tests."""
        return bool(self._expired)

    def add(self, hold: Hold) -> None:
        """It was granted."""
        self.by_number[hold.number] = hold

    def remove(self, hold: Hold) -> AcquireAgain | None:
        """It is being released, so it cannot be lost any more. Returns the request for it that is to be cancelled."""
        self.by_number.pop(hold.number, None)
        return self.stop_regaining(hold)

    def stop_regaining(self, hold: Hold) -> AcquireAgain | None:
        """It is not wanted again. Returns the request for it that is to be cancelled."""
        message = self._regaining.get(hold)
        if message is not None:
            message.drop()
        return message

    def lose_session(self) -> list[AcquireAgain]:
        """All are lost with the session. Returns the requests for those that are to be acquired again."""
        self._expired.clear()
        requests: list[AcquireAgain] = []
        holds, self.by_number = self.by_number, {}
        for hold in holds.values():
            if hold.again is None:
                hold.lose()
            else:
                message = self._regaining[hold] = AcquireAgain(hold, self._regaining.pop)
                requests.append(message)
        return requests

    def lose_regaining(self) -> list[AcquireAgain]:
        """Those that are asked for again are lost, but for those that nobody else can have.

        For the server has not been restarted. It has ended the session while it went on: its operator did, or the
        lease was over. Then others may have had what was held, and the owner is to know. Returns the requests that
        are to be cancelled.
        """
        lost = [hold for hold in self._regaining if not hold.unlimited]
        requests = [message for hold in lost if (message := self.stop_regaining(hold)) is not None]
        for hold in lost:
            hold.lose()
        return requests

    def end_lease(self) -> list[AcquireAgain]:
        """The connection has been gone for the lease: the server may have given the holds to others.

        What has no limit is nobody else's. It goes on in the next session, or in this one if the server still has it.
        Returns the requests that are to be cancelled.
        """
        requests = self.lose_regaining()
        for hold in [hold for hold in self.by_number.values() if not hold.unlimited]:
            self._expired.append(hold.number)
            del self.by_number[hold.number]
            hold.lose()
        return requests

    def take_expired(self) -> list[int]:
        """The server still knows the session: the numbers of what was declared lost, to be released."""
        numbers, self._expired = self._expired, []
        return numbers

    def lose_all(self) -> None:
        """The client is closed."""
        holds, self.by_number = self.by_number, {}
        for hold in holds.values():
            hold.lose()

    def lose_after_fork(self) -> None:
        """This is the child of a fork, which would not be notified of the loss of its parent's holds."""
        for hold in (*self.by_number.values(), *self._regaining):
            hold.lose_after_fork()
