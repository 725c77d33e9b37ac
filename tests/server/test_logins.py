"""Hashes beside the loop: one at a time, none of them in the loop, a rest after what was wrong."""

from __future__ import annotations

import asyncio
import threading
from collections.abc import Callable

import pytest

from naught_server import logins
from naught_server.access import Access, Check
from naught_server.logins import LoginChecks
from naught_server.secret_hash import PlainSecret, Secret
from support.users import user


class Slow(Check):
    """A check whose hash ends when the test says so."""

    def __init__(self, number: int, *, right: bool = False, delay_ms: int = 0) -> None:
        super().__init__("me", b"", b"%d" % number, secrets=(), hashes=0, delay_ms=delay_ms)
        self.began = threading.Event()
        self.may_end = threading.Event()
        self.thread = 0
        self._right: Secret | None = PlainSecret(b"correct horse") if right else None

    def run(self) -> None:
        self.thread = threading.get_ident()
        self.began.set()
        assert self.may_end.wait(20)
        self.found = self._right


class Finished(Access):
    """Notes which checks have come back."""

    def __init__(self) -> None:
        super().__init__({"me": user("me")})
        self.finished: list[Check] = []
        self.changed = asyncio.Event()

    def finish(self, check: Check, now_ms: int) -> None:
        assert threading.get_ident() == threading.main_thread().ident
        self.finished.append(check)
        self.changed.set()


async def until(happened: Callable[[], bool], access: Finished) -> None:
    async with asyncio.timeout(20):
        while not happened():
            await access.changed.wait()
            access.changed.clear()


async def test_one_hash_at_a_time_and_the_loop_goes_on() -> None:
    access = Finished()
    checks = LoginChecks(access)
    some = [Slow(number, right=True) for number in range(3)]
    for each in some:
        checks.start(each)
    assert await asyncio.to_thread(some[0].began.wait, 20)
    assert not some[1].began.is_set()
    for each in some:
        each.may_end.set()
    await until(lambda: len(access.finished) == 3, access)
    assert access.finished == some
    assert threading.get_ident() not in {each.thread for each in some}
    assert len({each.thread for each in some}) == 1
    checks.close()


@pytest.mark.patches
async def test_the_thread_rests_after_what_was_wrong(monkeypatch: pytest.MonkeyPatch) -> None:
    access = Finished()
    checks = LoginChecks(access)
    wrong, next_one = Slow(1), Slow(2, right=True)
    rests: list[float] = []
    loop = asyncio.get_running_loop()
    call_later = loop.call_later

    def noted(delay: float, callback: Callable[..., object], *args: object) -> asyncio.TimerHandle:
        if callback == checks._rested:
            rests.append(delay)
            return call_later(0, callback, *args)
        return call_later(delay, callback, *args)

    monkeypatch.setattr(
        checks,
        "_loop",
        type("Loop", (), {"call_later": staticmethod(noted), "run_in_executor": loop.run_in_executor})(),
    )
    checks.start(wrong)
    checks.start(next_one)
    assert await asyncio.to_thread(wrong.began.wait, 20)
    wrong.may_end.set()
    next_one.may_end.set()
    await until(lambda: len(access.finished) == 2, access)
    assert len(rests) == 1
    assert rests[0] > 0
    assert logins.REST_SHARE == 3
    checks.close()


async def test_a_delay_comes_before_the_queue() -> None:
    access = Finished()
    checks = LoginChecks(access)
    late, early = Slow(1, right=True, delay_ms=1), Slow(2, right=True)
    for each in (late, early):
        each.may_end.set()
        checks.start(each)
    await until(lambda: len(access.finished) == 2, access)
    assert access.finished == [early, late]
    checks.close()


async def test_no_hash_is_computed_of_what_was_dropped() -> None:
    """Whether that was before its delay was over, or while it was in the queue."""
    access = Finished()
    checks = LoginChecks(access)
    first, delayed, queued, last = Slow(1, right=True), Slow(2, delay_ms=1), Slow(3), Slow(4, right=True)
    checks.start(delayed)
    checks.start(first)
    assert await asyncio.to_thread(first.began.wait, 20)
    checks.start(queued)
    for each in (delayed, queued):
        each.drop()
    checks.start(last)
    for each in (first, last):
        each.may_end.set()
    await until(lambda: len(access.finished) == 2, access)
    assert access.finished == [first, last]
    assert not queued.began.is_set()
    assert not delayed.began.is_set()
    checks.close()


async def test_what_fails_counts_as_wrong(caplog: pytest.LogCaptureFixture) -> None:
    class Fails(Slow):
        def run(self) -> None:
            raise MemoryError

    access = Finished()
    checks = LoginChecks(access)
    checks.start(Fails(1))
    await until(lambda: len(access.finished) == 1, access)
    assert "a secret could not be checked" in caplog.text
    checks.close()


async def test_nothing_is_computed_after_the_end() -> None:
    access = Finished()
    checks = LoginChecks(access)
    first, second = Slow(1), Slow(2)
    checks.start(first)
    checks.start(second)
    assert await asyncio.to_thread(first.began.wait, 20)
    checks.close()
    first.may_end.set()
    for _ in range(3):
        await asyncio.sleep(0)
    assert not second.began.is_set()
    checks.start(Slow(3))
    assert access.finished == []
