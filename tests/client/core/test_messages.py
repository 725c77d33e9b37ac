"""`naught.core.messages`: what a reply does to waiters that behave badly."""

from __future__ import annotations

import pytest

from naught.core.messages import JoinedChanges
from support.client_helpers import FakeWaiter


class Failing(FakeWaiter):
    """A waiter whose `set_result` raises; with `gone`, because it is cancelled in that moment."""

    def __init__(self, *, gone: bool) -> None:
        super().__init__()
        self._gone = gone

    def set_result(self, result: object, /) -> None:
        if self._gone:
            self.cancel()
        raise RuntimeError("no result can be set")


@pytest.mark.parametrize("gone", [True, False])
def test_a_waiter_that_cannot_be_settled_is_an_error_unless_it_is_done(gone: bool) -> None:
    message = JoinedChanges(None, 1.0)
    waiters = Failing(gone=gone), FakeWaiter()
    for waiter in waiters:
        message.keys.append(b"k")
        message.deltas.append(1)
        message.waiters.append(waiter)
    if gone:
        message.resolve([1, 2])
        assert (waiters[0].cancelled, waiters[1].outcome, message.settled) == (True, 2, True)
    else:
        with pytest.raises(RuntimeError, match="no result can be set"):
            message.resolve([1, 2])
        assert not message.settled
