"""When a connection counts as dead although the system says that it is open."""

from __future__ import annotations

from naught.core import calls
from naught.core.silence import IDLE_TICKS, PING_TICKS, SILENT_TICKS
from support.client_helpers import SessionDriver


def test_a_call_without_an_answer_is_followed_by_a_ping_and_then_by_the_end() -> None:
    driver = SessionDriver()
    driver.session.tick()  # the answer to `hello` has come since the one before
    driver.get()
    ((_, msgid, _, _),) = driver.turn()
    for number in range(1, SILENT_TICKS):
        assert not driver.session.tick()
        sent = driver.turn()
        assert [method for _, _, method, _ in sent] == (["ping"] if number == PING_TICKS else [])
    assert driver.session.tick()
    driver.reply(msgid, 1)
    assert not driver.session.tick(), "what has arrived counts"


def test_what_is_asked_in_vain_again_and_again_is_silence() -> None:
    """The calls have timed out long ago, and their requests are unanswered nevertheless."""
    driver = SessionDriver()
    driver.session.tick()
    verdicts = []
    for _ in range(SILENT_TICKS):
        waiter = driver.get(timeout=0.5)
        driver.turn()
        driver.now += 1
        driver.session.advance(driver.now)
        assert waiter.done()
        verdicts.append(driver.session.tick())
    assert verdicts == [False] * (SILENT_TICKS - 1) + [True]


def test_an_idle_client_pings_and_goes_on() -> None:
    driver = SessionDriver()
    driver.session.tick()
    for _ in range(3):
        for number in range(1, IDLE_TICKS + 1):
            assert not driver.session.tick()
            sent = driver.turn()
            assert [method for _, _, method, _ in sent] == (["ping"] if number == IDLE_TICKS else [])
        driver.reply(sent[0][1], "pong")
        assert not driver.session.tick()


def test_an_idle_client_whose_ping_is_not_answered_is_at_an_end() -> None:
    driver = SessionDriver()
    driver.session.tick()
    ticks = 0
    while not driver.session.tick():
        driver.turn()
        ticks += 1
    assert ticks == IDLE_TICKS + SILENT_TICKS - 1


def test_who_only_waits_is_no_sign_of_silence() -> None:
    driver = SessionDriver()
    driver.session.tick()
    waiter = driver.ask(calls.wait_zero("n", None), timeout=None)
    driver.turn()
    for _ in range(3 * (IDLE_TICKS + SILENT_TICKS)):
        assert not driver.session.tick()
        for _, msgid, method, _ in driver.turn():
            assert method == "ping"
            driver.reply(msgid, "pong")
    assert not waiter.done()


def test_without_a_connection_there_is_no_silence() -> None:
    driver = SessionDriver()
    driver.get()
    driver.lose()
    for _ in range(2 * SILENT_TICKS):
        assert not driver.session.tick()
        assert driver.turn() == []
    driver.connect()
    driver.write()
    assert not driver.session.tick(), "each connection begins anew"
