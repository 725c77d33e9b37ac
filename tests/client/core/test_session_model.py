"""The client's half against a model, seeded: connections cut at any byte in both directions, replies lost, servers
that stop, callers that give up, time that passes. Every call has a key and an amount of its own, so an answer shows
whose it is.

Invariants: a call gets its own answer or an exception that is true. Every change ran at most once; exactly once when
it was answered, never when its caller was told that it was not sent or had left before the write.
"""

from __future__ import annotations

import random
from collections import Counter
from typing import Any

import pytest

from naught.core import calls
from naught.errors import CallTimeout, OutcomeUnknown
from naught.wire.codec import encode_error, encode_result, reply_unpacker
from support.client_helpers import HELLO_RESULT, Desk, FakeWaiter


class ModelServer:
    """Executes what arrives and remembers it. What it has not sent, and what it has not read whole, dies with the
    connection."""

    def __init__(self, random_: random.Random) -> None:
        self._random = random_
        self.executed: Counter[bytes] = Counter()  # how often the change of that key ran
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
        """A counter nobody else uses: the value after is the amount; of a read it is the number in the key."""
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
        self.desk = Desk(connect=False)
        self.online = False
        self.to_server = b""  # written, not arrived
        self.calls: list[tuple[bytes, bool, FakeWaiter]] = []  # key, whether it changes something, who waits
        self.unsent: set[bytes] = set()  # cancelled before any write

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
            self.desk.now += self.random.choice([0.01, 0.3])
            self.desk.session.advance(self.desk.now)
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
            # As a thread does with every one, where nothing else goes on.
            waiter, alone = FakeWaiter(), b""
            if number % 2:
                alone = self.desk.session.change_alone((key, delta, None, timeout), waiter, self.desk.now)
                self.to_server += alone
            if not alone:
                self.desk.session.change(key, delta, None, timeout, waiter)
        else:
            waiter = self.desk.ask(calls.get(key), timeout=timeout)
            self.calls.append((key, False, waiter))
            return
        self.calls.append((key, True, waiter))

    def turn(self) -> None:
        self.desk.session.end_turn(self.desk.now)
        self.write()

    def write(self) -> None:
        if self.online and self.random.random() < 0.8:
            self.to_server += self.desk.session.output(self.desk.now)

    def carry(self, whole: bool) -> None:
        """Bytes arrive at the server, some or all."""
        count = len(self.to_server) if whole else self.random.randint(0, len(self.to_server))
        arrived, self.to_server = self.to_server[:count], self.to_server[count:]
        self.server.receive(arrived)

    def deliver(self, whole: bool) -> None:
        """Bytes arrive at the client, some or all."""
        count = len(self.server.out) if whole else self.random.randint(0, len(self.server.out))
        arrived, self.server.out = self.server.out[:count], self.server.out[count:]
        if arrived and self.online:
            self.desk.session.receive(arrived)
            if self.desk.session.drained:
                self.cut()
            elif self.desk.session.has_output:
                self.write()

    def cancel(self) -> None:
        recent = self.calls[-12:]
        if recent:
            key, _, waiter = self.random.choice(recent)
            if not waiter.done() and key not in self.to_server and self.is_fresh(waiter):
                self.unsent.add(key)
            waiter.cancel()

    def is_fresh(self, waiter: FakeWaiter) -> bool:
        return any(waiter in message.waiters for message in self.desk.session._fresh)

    def connect(self) -> None:
        self.server.connect()
        self.to_server = self.desk.session.connected(FakeWaiter())
        self.online = True

    def cut(self) -> None:
        self.online = False
        self.to_server = self.server.out = b""
        self.desk.lose()

    def finish(self) -> None:
        """Bring everything to its end, without cuts."""
        self.turn()
        for _ in range(50):
            if not self.online:
                self.connect()
            self.carry(True)
            self.deliver(True)
            if self.online:
                self.to_server += self.desk.session.output(self.desk.now)
        assert all(waiter.done() for _, _, waiter in self.calls), "a call hangs"
        assert not self.desk.session._windows.in_flight
        assert self.desk.session.next_due() is None

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
    assert wanted <= set(kinds), "the runs do not reach what they are for"


def test_closing_at_any_step_leaves_nobody_waiting() -> None:
    for seed in range(300):
        run = Run(seed)
        for _ in range(run.random.randint(1, 200)):
            run.step()
        run.desk.session.close()
        for _, _, waiter in run.calls:
            assert waiter.done(), f"seed {seed}"
