"""A server that is busy is asked again: after a pause, while there is time, and for a tenth of the calls at most."""

from __future__ import annotations

import random

import pytest

from naught.core import calls
from naught.core.backoff import Backoff
from naught.core.budget import AT_FIRST, SAVED_MAX, SHARE, RetryBudget
from naught.core.session import ClientSession
from naught.errors import Busy, CallTimeout, ClientClosed
from support.client_helpers import FakeWaiter, SessionDriver


def due(driver: SessionDriver) -> float:
    found = driver.session.next_due()
    assert found is not None
    return found


def go_on(driver: SessionDriver) -> list[list[object]]:
    """Let the time come that the session waits for. Returns what it sends then."""
    driver.now = due(driver)
    driver.session.advance(driver.now)
    return driver.turn()


def busy(driver: SessionDriver, request: list[object]) -> None:
    driver.reply_error(int(str(request[1])), "busy", "later")
    driver.turn()


def test_a_call_that_is_answered_busy_is_made_again_after_a_pause() -> None:
    driver = SessionDriver()
    waiter = driver.incr()
    (first,) = driver.turn()
    busy(driver, first)
    assert not waiter.done()
    assert driver.now <= due(driver) <= driver.now + Backoff.BASE
    (again,) = go_on(driver)
    assert again[2:] == first[2:]
    driver.reply(int(str(again[1])), 7)
    assert waiter.outcome == 7


def test_joined_calls_are_made_again_together() -> None:
    driver = SessionDriver()
    waiters = [driver.incr(f"k{number}") for number in range(5)]
    (first,) = driver.turn()
    waiters[1].cancel()
    busy(driver, first)
    (again,) = go_on(driver)
    assert again[3] == [[b"k0", b"k2", b"k3", b"k4"], 1]
    driver.reply(int(str(again[1])), [1, 2, 3, 4])
    assert [waiter.outcome for waiter in waiters if not waiter.cancelled] == [1, 2, 3, 4]


def test_the_pauses_grow_and_begin_again_after_an_answer() -> None:
    driver = SessionDriver()
    driver.session._busy._backoff._random.seed(1)
    pauses = []
    driver.get(timeout=None)
    (request,) = driver.turn()
    for _ in range(9):
        busy(driver, request)
        pauses.append(due(driver) - driver.now)
        (request,) = go_on(driver)
    assert max(pauses[:2]) <= 2 * Backoff.BASE
    assert max(pauses) > 10 * Backoff.BASE
    driver.reply(int(str(request[1])), 0)
    driver.get(timeout=None)
    (request,) = driver.turn()
    busy(driver, request)
    assert due(driver) - driver.now <= Backoff.BASE


def test_pauses_are_drawn_at_random() -> None:
    drawn = set()
    for seed in range(20):
        session = ClientSession(cache=None, wake=lambda: None, random=random.Random(seed))
        drawn.add(session._busy._backoff.next_delay())
    assert len(drawn) == 20


def test_without_time_left_it_says_so_at_once() -> None:
    driver = SessionDriver()
    waiter = driver.get(timeout=0.0000001)
    (request,) = driver.turn()
    driver.session._busy._backoff._random.seed(1)
    busy(driver, request)
    assert waiter.outcome is Busy


def test_a_deadline_holds_while_it_waits() -> None:
    driver = SessionDriver()
    driver.session._busy._backoff._random.seed(5)
    waiter = driver.get(timeout=0.5)
    (request,) = driver.turn()
    for _ in range(40):
        busy(driver, request)
        if waiter.done():
            break
        found = go_on(driver)
        if not found:
            break
        (request,) = found
    assert waiter.outcome in {Busy, CallTimeout}
    assert driver.now <= 100.5


def test_at_most_a_tenth_of_the_calls_are_made_again() -> None:
    driver = SessionDriver()
    calls = 3_000
    sent = refused = 0
    for _ in range(calls):
        waiter = driver.get()
        requests = driver.turn()
        while requests:
            sent += 1
            (request,) = requests
            busy(driver, request)
            requests = [] if waiter.done() else go_on(driver)
        refused += waiter.outcome is Busy
    again = sent - calls
    assert 0.9 * SHARE * calls <= again <= SHARE * calls + AT_FIRST
    assert refused == calls


def test_what_is_saved_is_bounded() -> None:
    budget = RetryBudget()
    assert budget.spend(int(SAVED_MAX), 1_000_000)
    assert not budget.spend(1, 1_000_000)
    assert budget.spend(1, 1_000_010)
    assert budget.spend(1_000, 2_000_000), "a message of many calls is not kept from it for ever"
    assert not budget.spend(1, 2_000_000)


def test_whose_caller_has_gone_is_not_made_again() -> None:
    driver = SessionDriver()
    waiter = driver.get(timeout=None)
    (request,) = driver.turn()
    waiter.cancel()
    busy(driver, request)
    assert driver.session.next_due() is None


def test_a_wait_that_has_run_out_as_its_connection_broke_is_not_made_again() -> None:
    driver = SessionDriver()
    wait = calls.acquire([("s", 1, 1)], 2)
    wait.answer_s = 1.0
    waiter = driver.ask(wait, timeout=2.0)
    (request,) = driver.turn()
    busy(driver, request)
    assert due(driver) < driver.now + 2
    driver.now += 2
    driver.lose()
    assert waiter.outcome is CallTimeout
    driver.connect()
    driver.session.advance(driver.now)
    assert not driver.has_output()
    assert driver.session.next_due() is None


def test_closing_ends_what_waits_for_another_attempt() -> None:
    for turned in (False, True):
        driver = SessionDriver()
        waiter = driver.get()
        (request,) = driver.turn()
        driver.reply_error(request[1], "busy", "later")
        if turned:
            driver.turn()
        driver.session.close()
        assert waiter.outcome is ClientClosed


def test_hooks_see_that_it_was_made_again() -> None:
    class Observed(FakeWaiter):
        observed: object = None

    class Call:
        traceparent = None
        retries = 0

        def note_sent_again(self) -> None:
            self.retries += 1

    driver = SessionDriver(observed=True)
    waiter, call = Observed(), Call()
    waiter.observed = call
    driver.session.change(b"k", 1, None, None, waiter)
    (request,) = driver.turn()
    busy(driver, request)
    (request,) = go_on(driver)
    driver.reply(int(str(request[1])), 1)
    assert call.retries == 1


@pytest.mark.parametrize("lost", ["before the pause", "in the pause"])
def test_it_waits_over_a_lost_connection_too(lost: str) -> None:
    driver = SessionDriver()
    waiter = driver.get(timeout=None)
    (request,) = driver.turn()
    driver.reply_error(request[1], "busy", "later")
    if lost == "in the pause":
        driver.turn()
    driver.lose()
    driver.turn()
    driver.connect()
    (again,) = go_on(driver)
    driver.reply(int(str(again[1])), 3)
    assert waiter.outcome == 3
