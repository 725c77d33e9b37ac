"""`ClientSession` without resumption against a model of a server, in seeded random runs.

Connections are cut at any byte in both directions, replies are lost, servers shut down, callers cancel, time passes.
Every call has a key and an amount of its own, so a result shows which call it belongs to.

Invariants: a call gets its own result, or an exception that is true. Every change was executed at most once: exactly
once if it was answered, and never if its caller got "not sent" or cancelled it before the write.
"""

from __future__ import annotations

import random
from collections import Counter
from typing import Any

import pytest

from naught.core import calls
from naught.errors import CallTimeout, OutcomeUnknown
from naught.wire.codec import encode_error, encode_result, reply_unpacker
from support.client_helpers import HELLO_RESULT, FakeWaiter, SessionDriver


class ModelServer:
    """Executes the requests that arrive, and counts them. A new connection discards unsent replies and partial
    requests."""

    def __init__(self, random_: random.Random) -> None:
        self._random = random_
        self.executed: Counter[bytes] = Counter()  # how often the change of each key was executed
        self.connect()

    def connect(self) -> None:
        self._unpacker = reply_unpacker()
        self.out = b""
        self.stopping = False

    def receive(self, data: bytes) -> None:
        self._unpacker.feed(data)
        replies = []
        for _, msgid, method, params in self._unpacker:
            if method == b"hello":
                replies.append(encode_result(msgid, HELLO_RESULT))
            elif self.stopping:
                replies.append(encode_error(msgid, "shutting_down", "so"))
            else:
                replies.append(encode_result(msgid, self._execute(method, params)))
        if self._random.random() < 0.2 and not self.stopping:
            self._random.shuffle(replies)
        self.out += b"".join(replies)

    def _execute(self, method: bytes, params: list[Any]) -> Any:
        """No two calls use the same counter, so the value after a change is its amount. A read returns the number in
        its key."""
        if method == b"get":
            return _number(params[0])
        if method == b"apply":
            keys, deltas = params
            amounts = [deltas] * len(keys) if isinstance(deltas, int) else deltas
        else:
            keys, amounts = [params[0]], [params[1] if len(params) > 1 else 1]
        self.executed.update(keys)
        return amounts[0] if method != b"apply" else amounts


def _number(key: bytes) -> int:
    return int(key[1:])


class Run:
    """One seeded run."""

    def __init__(self, seed: int) -> None:
        self.random = random.Random(seed)
        self.server = ModelServer(self.random)
        self.driver = SessionDriver(connect=False)
        self.online = False
        self.to_server = b""  # bytes that were written and have not arrived
        self.calls: list[tuple[bytes, bool, FakeWaiter]] = []  # key, is it a change, waiter
        self.unsent: set[bytes] = set()  # keys of calls that were cancelled before the write

    def step(self) -> None:
        choice = self.random.random()
        if choice < 0.45:
            self.call()
        elif choice < 0.6:
            self.turn()
        elif choice < 0.72:
            self.carry(self.random.random() < 0.5)
        elif choice < 0.82:
            self.deliver(self.random.random() < 0.5)
        elif choice < 0.88:
            self.cancel()
        elif choice < 0.93:
            self.driver.now += self.random.choice([0.01, 0.3])
            self.driver.session.advance(self.driver.now)
        elif choice < 0.95 and self.online:
            self.cut()
        elif choice < 0.96 and self.online:
            self.server.stopping = True
        elif not self.online:
            self.connect()

    def call(self) -> None:
        number = len(self.calls) + 1
        key = b"k%d" % number
        timeout = self.random.choice([None, 0.5, 1.0, 1.0, 1.0])
        if self.random.random() < 0.6:
            delta = 1 if self.random.random() < 0.2 else number
            # `change_alone` is what the blocking client calls for a change.
            waiter, alone = FakeWaiter(), b""
            if number % 2:
                alone = self.driver.session.change_alone((key, delta, None, timeout), waiter, self.driver.now)
                self.to_server += alone
            if not alone:
                self.driver.session.change(key, delta, None, timeout, waiter)
        else:
            waiter = self.driver.ask(calls.get(key), timeout=timeout)
            self.calls.append((key, False, waiter))
            return
        self.calls.append((key, True, waiter))

    def turn(self) -> None:
        self.driver.session.end_turn(self.driver.now)
        self.write()

    def write(self) -> None:
        if self.online and self.random.random() < 0.8:
            self.to_server += self.driver.session.output(self.driver.now)

    def carry(self, whole: bool) -> None:
        """Some or all of the written bytes arrive at the server."""
        count = len(self.to_server) if whole else self.random.randint(0, len(self.to_server))
        arrived, self.to_server = self.to_server[:count], self.to_server[count:]
        self.server.receive(arrived)

    def deliver(self, whole: bool) -> None:
        """Some or all of the server's bytes arrive at the client."""
        count = len(self.server.out) if whole else self.random.randint(0, len(self.server.out))
        arrived, self.server.out = self.server.out[:count], self.server.out[count:]
        if arrived and self.online:
            self.driver.session.receive(arrived)
            if self.driver.session.drained:
                self.cut()
            elif self.driver.session.has_output:
                self.write()

    def cancel(self) -> None:
        recent = self.calls[-12:]
        if recent:
            key, _, waiter = self.random.choice(recent)
            if not waiter.done() and key not in self.to_server and self.is_fresh(waiter):
                self.unsent.add(key)
            waiter.cancel()

    def is_fresh(self, waiter: FakeWaiter) -> bool:
        return any(waiter in message.waiters for message in self.driver.session._fresh)

    def connect(self) -> None:
        self.server.connect()
        self.to_server = self.driver.session.connected(FakeWaiter())
        self.online = True

    def cut(self) -> None:
        self.online = False
        self.to_server = self.server.out = b""
        self.driver.lose()

    def finish(self) -> None:
        """Complete every call, without further cuts."""
        self.turn()
        for _ in range(50):
            if not self.online:
                self.connect()
            self.carry(True)
            self.deliver(True)
            if self.online:
                self.to_server += self.driver.session.output(self.driver.now)
        assert all(waiter.done() for _, _, waiter in self.calls), "a call hangs"
        assert not self.driver.session._windows.in_flight
        assert self.driver.session.next_due() is None

    def check(self) -> Counter[str]:
        kinds: Counter[str] = Counter()
        for key, changes, waiter in self.calls:
            ran = self.server.executed[key]
            assert ran <= 1
            if waiter.cancelled:
                kinds["cancelled"] += 1
                assert not (ran and key in self.unsent)
            elif waiter.error is None:
                kinds["answered"] += 1
                assert waiter.result == _number(key) or (changes and waiter.result == 1)
                assert ran == changes
            elif isinstance(waiter.error, OutcomeUnknown):
                kinds["unknown, ran" if ran else "unknown, did not run"] += 1
                assert changes
            else:
                assert type(waiter.error) is CallTimeout
                kinds["timed out"] += 1
                if "not sent" in str(waiter.error):
                    kinds["not sent"] += 1
                    assert not ran
        return kinds


@pytest.mark.parametrize("first_seed", range(0, 400, 40))
def test_every_call_gets_its_own_answer_or_a_true_exception(first_seed: int) -> None:
    kinds: Counter[str] = Counter()
    for seed in range(first_seed, first_seed + 40):
        run = Run(seed)
        try:
            for _ in range(300):
                run.step()
            run.finish()
            kinds += run.check()
        except BaseException as error:
            error.add_note(f"seed {seed}")
            raise
    wanted = {"answered", "cancelled", "timed out", "not sent", "unknown, ran", "unknown, did not run"}
    assert wanted <= set(kinds), "the runs did not reach every kind of outcome"


def test_closing_at_any_step_leaves_nobody_waiting() -> None:
    for seed in range(300):
        run = Run(seed)
        for _ in range(run.random.randint(1, 200)):
            run.step()
        run.driver.session.close()
        for _, _, waiter in run.calls:
            assert waiter.done(), f"seed {seed}"
