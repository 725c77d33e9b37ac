"""The simulation of clients and a server, with a server that is stopped and continued, and one that is restarted.

While the server is stopped nothing of it happens: bytes, new connections and ends of connections wait in the order in
which they came, and clients give up on connections. When it goes on, its clock has not counted most of the time, and
it reads what has come before or after its first step. A restarted server has forgotten everything, and nothing that
it has sent arrives any more. Callers also change several counters by one message, on connections that break at any
byte of it: all of the message has happened, or nothing of it.

The same is checked as without: what callers were told is what is there, digit by digit.
"""

from __future__ import annotations

import itertools
import random
from collections import Counter
from collections.abc import Callable, Iterable
from typing import Any, Final

import pytest

from naught.core import calls
from naught_server import clock
from naught_server.batch import Batch
from naught_server.clock import Clock
from simulation.test_client_and_server import (
    ACTIONS,
    DIGITS,
    QUIET_S,
    Attempt,
    Callers,
    Client,
    UnreliableConnection,
    World,
    counter_of,
    digits_of,
)
from support.seeds import exhaustive, from_environment, slow

STOPS_S: Final = (0.03, 0.1, 0.4, 1.5, 5.0)
"""How long the server is stopped: shorter than anything, and longer than every lease and timeout."""


@pytest.fixture(autouse=True)
def clock_of_short_leases(monkeypatch: pytest.MonkeyPatch) -> None:
    """The server's clock takes a gap for a stop from 150 ms on, as the leases here are 200 ms and no seconds."""
    monkeypatch.setattr(clock, "STOPPED_NS", 150_000_000)
    monkeypatch.setattr(clock, "GAP_COUNTED_NS", 100_000_000)


class Outages(World):
    """A world whose server can be stopped, continued and restarted."""

    def __init__(self, seed: int, clients: int = 2) -> None:
        self.stopped = False
        self.connections: list[StoppableConnection] = []
        self._waiting: list[tuple[Callable[..., None], tuple[Any, ...]]] = []  # what reaches a stopped server
        self._clock: Clock | None = None  # the server's, which begins with the world
        self._continued = 0.0  # when the server went on the last time
        self._ids = random.Random(seed + 1)
        super().__init__(seed, clients)

    @property
    def now_ms(self) -> int:
        """The time by the server's clock."""
        if self._clock is None:
            self._clock = Clock(lambda: int(self.now * 1e9))
        return self._clock.now_ms()

    def connection_of(self, client: Client) -> UnreliableConnection:
        self.connections = [each for each in self.connections if each.server_open]
        self.connections.append(StoppableConnection(self, client))
        return self.connections[-1]

    def at_server(self, call: Callable[..., None], *arguments: Any) -> None:
        """Something reaches the server: now, or when it goes on."""
        if self.stopped:
            self._waiting.append((call, arguments))
        else:
            call(*arguments)

    def advance_engine(self) -> None:
        if not self.stopped:
            super().advance_engine()

    @property
    def has_settled(self) -> bool:
        """Whether its clients had the time to come back since the last stop."""
        return not self.stopped and self.now - self._continued > 0.2

    def stop(self, seconds: float) -> None:
        """Stop the server for so long."""
        if not self.stopped:
            self.stopped = True
            self.reached["stopped"] += 1
            self.later(seconds, self.go_on)

    def go_on(self) -> None:
        """The server goes on, and reads what has come."""
        if not self.stopped:
            return
        self.stopped = False
        self._continued = self.now
        waiting, self._waiting = self._waiting, []
        if self.random.random() < 0.5:
            self.advance_engine()
        for call, arguments in waiting:
            call(*arguments)

    def restart(self) -> None:
        """The server ends, whatever it is at, and another one takes its place."""
        self.stopped = False
        self._waiting.clear()
        for connection in self.connections:
            connection.die()
        self.reached["restarted"] += 1
        # Numbers of holds grow over restarts, as `server.py` sees to by the time of the start.
        self.engine = self.new_engine(self._ids, 4, first_hold=self.reached["restarted"] * 1_000_000)


class StoppableConnection(UnreliableConnection):
    """A connection to a server that may be stopped."""

    world: Outages

    def arrive_up(self, piece: bytes) -> None:
        self.world.at_server(super().arrive_up, piece)

    def turn(self) -> None:
        self.world.at_server(super().turn)

    def server_gone(self) -> None:
        self.world.at_server(super().server_gone)

    def die(self) -> None:
        """The server's process is gone. The client learns it soon, unless the machine is gone too."""
        self.server_open = False
        self.room["down"] = 0
        if self.world.random.random() < 0.8:
            self.world.later(self.world.random.choice([0.0, 0.002, 0.02]), self.client.gone, self)


class OutageCallers(Callers):
    """Callers in such a world."""

    world: Outages

    def __init__(self, world: Outages, *, stops: bool, restarts: bool) -> None:
        super().__init__(world)
        self._stops = stops
        self._restarts = restarts
        self._outdated: set[Attempt] = set()  # asked before the last restart: their changes are on no account
        self._groups: list[range] = []  # changes of one message whose outcome is unknown

    def act(self) -> None:
        choice = self.random.random()
        if choice < 0.1:
            self.change_many(self.random.choice(self.world.clients))
        elif choice < 0.12 and self._stops:
            self.world.stop(self.random.choice(STOPS_S))
        elif choice < 0.127 and self._restarts:
            self._restart()
        else:
            super().act()

    def act_without_breaking(self) -> None:
        """The same on connections that only a stop of the server ends."""
        client = self.random.choice(self.world.clients)
        kinds = [self.change, self.change, self.read, self.store, self.acquire, self.release, self.wait_zero]
        self.random.choice([*kinds, self.change_many])(client)
        if self.random.random() < 0.15 and self.world.has_settled:
            connection = client.connection
            if connection is not None and self.random.random() < 0.7:
                connection.cut()
                connection.server_gone()  # so a lease runs while the server is stopped
                self.world.run(0.002)
            self.world.stop(self.random.choice(STOPS_S))
        self.look(0.7)

    def change_many(self, client: Client) -> None:
        """Add several digits by one message."""
        first = next(self._changes)
        numbers = range(first, first + self.random.choice([2, 5, 40, 400]))
        self._changes = itertools.count(numbers.stop)
        for number in numbers:
            self.digits[number] = None
        self._groups.append(numbers)

        def settle(attempt: Attempt) -> None:
            if attempt.answered:
                for number, value in zip(numbers, attempt.waiter.result, strict=True):
                    digits = digits_of(value)
                    assert set(digits) <= {0, 1}, f"the counter of change {number} is {digits}"
                    assert digits[number % DIGITS], f"change {number} is not in the answer to it"
                self.world.reached["several changes answered"] += 1
            if attempt.answered or attempt.unsent:
                self._groups.remove(numbers)
                self.digits.update(dict.fromkeys(numbers, attempt.answered))

        call = calls.apply([counter_of(each) for each in numbers], [4 ** (each % DIGITS) for each in numbers], None)
        self._ask(Attempt(client, "change", settle), call, self._timeout())

    def _restart(self) -> None:
        """From now on other counters are used: what is under way may reach the new server, or not."""
        self.look()
        self._outdated.update(self.active)
        self.world.restart()
        first = next(self._changes)
        self._changes = itertools.count(first + DIGITS - first % DIGITS)
        self.digits.clear()
        self._groups.clear()
        for key in self.stored:
            self.stored[key] = None

    def _check_end(self, attempt: Attempt) -> None:
        if attempt in self._outdated and attempt.kind in {"change", "store"}:
            attempt.settle = lambda attempt: None
        super()._check_end(attempt)

    def _check_counters(self) -> None:
        super()._check_counters()
        cache = self.world.engine.store.caches["default"]
        for numbers in self._groups:
            there = {digits_of(cache.get(counter_of(each), self.world.now_ms))[each % DIGITS] for each in numbers}
            assert len(there) == 1, f"a part of the message with the changes {numbers}"
            self.world.reached["a message in doubt"] += 1


def run_seed(seed: int, *, stops: bool = True, restarts: bool = True, breaks: bool = True) -> Counter[str]:
    """One run; with `breaks`, connections break by themselves too."""
    world = Outages(seed)
    world.calm = not breaks
    callers = OutageCallers(world, stops=stops, restarts=restarts)
    for _ in range(ACTIONS):
        if breaks:
            callers.act()
        else:
            callers.act_without_breaking()
        world.run(world.random.choice([0.0, 0.001, 0.003, 0.01]))
    world.go_on()
    world.calm_down()
    world.run(QUIET_S)
    world.still = True
    world.run(0.1)
    callers.look()
    callers.check_quiet()
    return world.reached


def run_seeds(seeds: Iterable[int], **how: bool) -> Counter[str]:
    reached: Counter[str] = Counter()
    for seed in seeds:
        try:
            reached += run_seed(seed, **how)
        except BaseException as error:
            error.add_note(f"seed {seed}")
            raise
    return reached


SEEDS_QUICK: Final = 8
SEEDS_PER_TEST: Final = 60
FURTHER_SEEDS = [SEEDS_PER_TEST * seed for seed in from_environment()]
FIRST_SEEDS = [0, *slow(SEEDS_QUICK), *exhaustive(*range(68, 248, SEEDS_PER_TEST)), *FURTHER_SEEDS]


@pytest.mark.patches
@pytest.mark.parametrize("first_seed", FIRST_SEEDS)
def test_counters_are_what_the_callers_were_told_whatever_happens_to_the_server(first_seed: int) -> None:
    reached = run_seeds(range(first_seed, first_seed + (SEEDS_PER_TEST if first_seed else SEEDS_QUICK)))
    wanted = {
        "stopped",
        "restarted",
        "a session that was lost",
        "acquire answered",
        "change answered",
        "in doubt",
        "resumed with calls under way",
        "several changes answered",
        "taken over",
    }
    if first_seed:
        wanted.add("a message in doubt")
    assert wanted <= set(reached), "the runs do not reach these situations"


@pytest.mark.patches
@pytest.mark.parametrize("first_seed", FIRST_SEEDS)
def test_a_server_that_is_stopped_and_continued_loses_no_session(first_seed: int) -> None:
    """Though leases run meanwhile, and its clients give up on their connections."""
    count = SEEDS_PER_TEST if first_seed else SEEDS_QUICK
    reached = run_seeds(range(first_seed, first_seed + count), restarts=False, breaks=False)
    assert reached["stopped"] > count
    assert reached["a silent connection"] > 0
    assert reached["a session that was lost"] == reached["in doubt"] == 0


# ------------------------------------------------------------------------------------------------- faults put in


@pytest.mark.patches
def test_a_clock_that_counts_the_time_of_a_stop_is_found(monkeypatch: pytest.MonkeyPatch) -> None:
    monkeypatch.setattr(clock, "STOPPED_NS", 10**18)
    reached = run_seeds(range(2 * SEEDS_QUICK), restarts=False, breaks=False)
    assert reached["a session that was lost"] > 0


@pytest.mark.patches
def test_a_batch_that_is_done_in_part_is_found(monkeypatch: pytest.MonkeyPatch) -> None:
    """Of a message whose connection has gone before its answer came."""
    go_on = Batch.go_on

    def faulty(self: Batch, *arguments: Any, **named: Any) -> int:
        keys = self._items.next_keys(40)
        done = go_on(self, *arguments, **named)
        if self._items.count == 40 and self.finished:
            arguments[0].decr(keys[-1], 1, False, arguments[1])
        return done

    monkeypatch.setattr(Batch, "go_on", faulty)
    with pytest.raises(AssertionError) as caught:
        run_seeds(range(SEEDS_QUICK))
    assert caught.value.__notes__[0].startswith("seed ")
