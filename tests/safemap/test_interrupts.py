"""No lock of a SafeMap is left held, whatever interrupts a method and wherever.

Three kinds of interrupts: a trace function that raises before each opcode of each method, one after the other;
signals whose handler raises; and exceptions that another thread has raised in this one. The second and third are
drawn, with the seed printed; the first needs no luck.
"""

from __future__ import annotations

import copy
import ctypes
import itertools
import os
import pickle
import random
import signal
import sys
import threading
import time
import weakref
from collections.abc import Callable
from contextlib import suppress
from decimal import Decimal
from functools import partial
from pathlib import Path
from types import CodeType, FrameType
from typing import Any

import pytest

import naught.safemap
from naught.safemap import SafeMap, forks
from naught.safemap.locks import Lock, settle, with_locks
from support.seeds import exhaustive, slow, told

FOLDER = str(Path(naught.safemap.__file__).parent)
A_DAY_S = 86_400.0
JOIN_S = 60.0


class Struck(BaseException):
    """The interrupt."""


Method = Callable[[SafeMap[Any, Any]], Any]


def counted(counters: SafeMap[Any, Any]) -> None:
    with counters as entered:
        entered.incr("new")


# Every public method and every special one, by what they are called with where that makes a difference.
METHODS: dict[str, Method] = {
    "incr": lambda counters: counters.incr("a"),
    "incr by a checked amount": lambda counters: counters.incr("a", 10**20),
    "incr, new": lambda counters: counters.incr("new"),
    "incr, refused": lambda counters: counters.incr("a", 0),
    "decr": lambda counters: counters.decr("b"),
    "decr to zero": lambda counters: counters.decr("a"),
    "decr, absent": lambda counters: counters.decr("absent"),
    "decr, underflow": lambda counters: counters.decr("a", 5, strict=True),
    "decr, absent, underflow": lambda counters: counters.decr("absent", strict=True),
    "add": lambda counters: counters.add({"a": -1, "b": 1, "new": 1}),
    "merge": lambda counters: counters.merge({"a": 1, "new": 1}),
    "merge with itself": lambda counters: counters.merge(counters),
    "set": lambda counters: counters.set("a", 5),
    "set to zero": lambda counters: counters.set("a", 0),
    "take": lambda counters: counters.take("a"),
    "clear": lambda counters: counters.clear(),
    "subscript": lambda counters: counters["a"],
    "subscript, absent": lambda counters: counters["absent"],
    "get": lambda counters: counters.get("a"),
    "in": lambda counters: "a" in counters,
    "len": len,
    "bool": bool,
    "iter": list,
    "keys": lambda counters: counters.keys() & {"a"},
    "values": lambda counters: 3 in counters.values(),
    "items": lambda counters: dict(counters.items()),
    "equality": lambda counters: counters == {"a": 1},
    "snapshot": lambda counters: counters.snapshot(),
    "most_common": lambda counters: counters.most_common(1),
    "most_common of all": lambda counters: counters.most_common(),
    "raw_entries": lambda counters: counters.raw_entries,
    "table_bytes": lambda counters: counters.table_bytes,
    "sweep": lambda counters: counters.sweep(),
    "close": lambda counters: counters.close(),
    "with": counted,
    "copy": lambda counters: counters.copy(),
    "copy.copy": copy.copy,
    "deepcopy": copy.deepcopy,
    "pickle": lambda counters: pickle.loads(pickle.dumps(counters)),
    "repr": repr,
}

OPTIONS: dict[str, dict[str, Any]] = {
    "eager": {},
    "eager, 3 shards": {"shard_count": 3},
    "deferred": {"policy": "deferred", "clean_after_s": A_DAY_S},
    "deferred, 3 shards": {"policy": "deferred", "clean_after_s": A_DAY_S, "shard_count": 3},
    "Decimal": {"value_type": Decimal},
}


def made(options: str) -> SafeMap[Any, Any]:
    """A map with counters and, if it defers eviction, a flagged zero. No thread cleans it."""
    counters = SafeMap(**{"value_type": int, **OPTIONS[options]})
    counters._cleaning = True
    counters.merge({"a": 1, "b": 3, "zero": 1})
    counters.decr("zero")
    return counters


def assert_free(counters: SafeMap[Any, Any], where: object) -> None:
    """Assert that no lock of the map is held, and that the map still counts."""
    assert [lock.depth() for lock in counters._every_lock()] == [0] * (counters.shard_count + 1), where
    assert all(repr(lock).startswith("<unlocked") for lock in counters._every_lock()), where
    assert all(value > 0 for value in counters.snapshot().values()), where
    before = counters.get("b", 0)
    assert counters.incr("b") == before + 1, where
    assert counters.decr("b")[0] == before, where


class Tracer:
    """Counts the opcodes that modules of SafeMap run in this thread, and raises Struck before one of them."""

    def __init__(self, number: int | None = None) -> None:
        self.number = number
        # The place of each opcode that was reached: its code and its offset in it.
        self.places: list[tuple[CodeType, int]] = []

    def __call__(self, frame: FrameType, event: str, argument: object) -> Any:
        if frame.f_code.co_filename.startswith(FOLDER):
            frame.f_trace_opcodes = True
            if event == "opcode":
                self.places.append((frame.f_code, frame.f_lasti))
                if len(self.places) - 1 == self.number:
                    raise Struck
        return self

    def run(self, work: Callable[[], Any]) -> None:
        before = sys.gettrace()
        sys.settrace(self)
        try:
            with suppress(Struck, ArithmeticError, LookupError, ValueError):
                work()
        finally:
            sys.settrace(before)


def strikes(method: Method, options: str, already: set[Any]) -> int:
    """Raise before each opcode of a method whose place is not in `already`, one after the other; return how often."""
    tracer = Tracer()
    tracer.run(partial(method, made(options)))
    assert len(tracer.places) > 10, "nothing was traced"
    count = 0
    for number, place in enumerate(tracer.places):
        if place in already:
            continue
        already.add(place)
        counters = made(options)
        struck = Tracer(number)
        struck.run(partial(method, counters))
        code, offset = struck.places[-1]
        assert_free(counters, f"struck in {code.co_qualname} before offset {offset}")
        count += 1
    return count


@pytest.mark.parametrize(
    "options", ["deferred, 3 shards", *slow("eager", "Decimal"), *exhaustive("deferred", "eager, 3 shards")]
)
def test_an_exception_before_any_opcode_leaves_no_lock_held(options: str) -> None:
    """Each opcode that any method reaches, when it is first reached."""
    already: set[Any] = set()
    assert sum(strikes(method, options, already) for method in METHODS.values()) > 1_000


EACH = list(zip(METHODS, itertools.cycle(OPTIONS), strict=False))
"""Each method with the options in their turn."""


@pytest.mark.parametrize(
    ("name", "options"),
    [*slow(*EACH), *exhaustive(*(pair for pair in itertools.product(METHODS, OPTIONS) if pair not in EACH))],
)
def test_an_exception_before_any_opcode_of_each_method_leaves_no_lock_held(name: str, options: str) -> None:
    assert strikes(METHODS[name], options, set()) > 10


class Everywhere(set[Any]):
    """A set of places that takes none, so that a place is struck each time it is reached."""

    def add(self, place: Any) -> None:
        pass


@pytest.mark.parametrize(
    "name", [*slow("snapshot", "clear", "add", "len"), *exhaustive("most_common", "copy", "pickle", "iter")]
)
def test_an_exception_before_an_opcode_that_is_reached_again_leaves_no_lock_held(name: str) -> None:
    assert strikes(METHODS[name], "deferred, 3 shards", Everywhere()) > 100


# A method inside a method: a key's comparison uses the map.


class Curious:
    """A key whose comparison counts in the map, while the map is comparing."""

    def __init__(self, counters: SafeMap[Any, Any], number: int, work: Method) -> None:
        self.counters, self.number, self.work = counters, number, work
        # How often this thread held the map's lock before and after the work, if it has been done.
        self.depths: list[int] = []

    def __hash__(self) -> int:
        return 1

    def __eq__(self, other: object) -> bool:
        if not self.depths:
            lock = self.counters._locks[0]
            self.depths.append(lock.depth())
            try:
                Tracer(self.number).run(partial(self.work, self.counters))
            finally:
                self.depths.append(lock.depth())
        return self is other


@pytest.mark.parametrize("name", ["incr", "decr to zero", "decr, absent, underflow", "snapshot", "take", "get"])
def test_a_method_inside_another_leaves_the_lock_of_the_other_held(name: str) -> None:
    reached = Tracer()
    reached.run(partial(METHODS[name], made("eager")))
    for number in range(len(reached.places) + 1):
        counters = made("eager")
        key, other = Curious(counters, number, METHODS[name]), Curious(counters, number, METHODS[name])
        counters.incr(key)
        counters.incr(other)  # compares, in `key`
        assert key.depths == [1, 1], reached.places[number:][:1]
        assert_free(counters, number)


# Signals and other threads.


def seeded() -> random.Random:
    seed = int(told("NAUGHT_TEST_SEED") or random.randrange(2**32))
    print(f"NAUGHT_TEST_SEED={seed}")
    return random.Random(seed)


def many() -> dict[str, SafeMap[Any, Any]]:
    """Maps that are large enough for an interrupt to fall into each part of a method."""
    maps = {}
    for options in OPTIONS:
        maps[options] = made(options)
        maps[options].merge({f"key:{number}": 1 for number in range(300)})
    return maps


def outsider_can_take(locks: tuple[Lock, ...]) -> bool:
    """Whether another thread finds all these locks free."""
    found: list[bool] = []

    def take() -> None:
        for lock in locks:
            found.append(lock.acquire(timeout=JOIN_S))
            if found[-1]:
                lock.release()

    thread = threading.Thread(target=take)
    thread.start()
    thread.join()
    return all(found)


@pytest.fixture
def no_complaint(monkeypatch: pytest.MonkeyPatch) -> None:
    """Say nothing of an interrupt that falls into a finalizer, from which nothing can be raised."""
    hook = sys.unraisablehook

    def unless_struck(unraisable: Any) -> None:
        if not isinstance(unraisable.exc_value, Struck):
            hook(unraisable)

    monkeypatch.setattr(sys, "unraisablehook", unless_struck)


def struck_anyhow(counters: SafeMap[Any, Any], method: Method) -> bool:
    """Call a method; whether it was interrupted."""
    try:
        with suppress(ArithmeticError, LookupError, ValueError):
            method(counters)
    except Struck:
        return True
    return False


@pytest.mark.skipif(not hasattr(signal, "setitimer"), reason="this system has no timers")
@pytest.mark.usefixtures("no_complaint")
@pytest.mark.parametrize("rounds", [400, *slow(5_000), *exhaustive(20_000)])
def test_a_signal_leaves_no_lock_held(rounds: int) -> None:
    chance = seeded()
    maps = many()
    names = list(METHODS)
    armed = False

    def raise_struck(number: int, frame: FrameType | None) -> None:
        if armed:
            raise Struck

    before = signal.signal(signal.SIGALRM, raise_struck)
    struck = 0
    try:
        for _ in range(rounds):
            name, options = chance.choice(names), chance.choice(list(OPTIONS))
            counters = maps[options]
            hit = False
            try:
                armed = True
                signal.setitimer(signal.ITIMER_REAL, chance.uniform(5e-6, 400e-6), 50e-6)
                for _ in range(8):
                    if struck_anyhow(counters, METHODS[name]):
                        hit = True
                        break
                armed = False
            except Struck:
                hit = True
            armed = False
            signal.setitimer(signal.ITIMER_REAL, 0)
            struck += hit
            assert_free(counters, name)
    finally:
        armed = False
        signal.setitimer(signal.ITIMER_REAL, 0)
        signal.signal(signal.SIGALRM, before)
    assert struck
    for counters in maps.values():
        assert outsider_can_take(counters._every_lock())
        counters.close()


@pytest.mark.usefixtures("no_complaint")
@pytest.mark.parametrize("rounds", [100, *slow(500), *exhaustive(2_000)])
def test_an_exception_of_another_thread_leaves_no_lock_held(rounds: int) -> None:
    """`PyThreadState_SetAsyncExc` again and again, while the thread runs drawn methods and threads switch often."""
    chance = seeded()
    maps = many()
    names = list(METHODS)
    done = threading.Event()
    struck = 0

    def work() -> None:
        nonlocal struck
        while not done.is_set():
            # The exception may come anywhere in here, also while an earlier one is handled.
            with suppress(Struck):
                while not done.is_set():
                    name, options = chance.choice(names), chance.choice(list(OPTIONS))
                    struck += struck_anyhow(maps[options], METHODS[name])

    def work_on() -> None:
        while True:
            try:
                work()
            except Struck:
                continue
            return

    interval_s = sys.getswitchinterval()
    sys.setswitchinterval(5e-6)
    thread = threading.Thread(target=work_on, daemon=True)
    thread.start()
    raise_in = ctypes.pythonapi.PyThreadState_SetAsyncExc
    try:
        until_s = time.monotonic() + JOIN_S
        while struck < rounds and time.monotonic() < until_s:
            raise_in(ctypes.c_ulong(thread.ident or 0), ctypes.py_object(Struck))
        done.set()
        thread.join(JOIN_S)
        assert not thread.is_alive(), "the thread waits for a lock that it has left held"
    finally:
        done.set()
        sys.setswitchinterval(interval_s)
    assert struck >= rounds
    for counters in maps.values():
        assert_free(counters, "after all")
        counters.close()


# The parts.


def test_with_locks_releases_what_it_has_taken_when_waiting_is_interrupted() -> None:
    first, second, third = Lock(), Lock(), Lock()
    taken = threading.Event()
    free = threading.Event()

    def hold() -> None:
        with second:
            taken.set()
            free.wait(JOIN_S)

    thread = threading.Thread(target=hold)
    thread.start()
    taken.wait(JOIN_S)

    def raise_struck(number: int, frame: FrameType | None) -> None:
        raise Struck

    before = signal.signal(signal.SIGALRM, raise_struck)
    try:
        signal.setitimer(signal.ITIMER_REAL, 0.01)
        with pytest.raises(Struck):
            with_locks((first, second, third), lambda: pytest.fail("not all locks were taken"))
    finally:
        signal.setitimer(signal.ITIMER_REAL, 0)
        signal.signal(signal.SIGALRM, before)
        free.set()
        thread.join()
    assert [lock.depth() for lock in (first, second, third)] == [0, 0, 0]


def test_settle_knows_how_often_a_lock_is_held() -> None:
    lock = Lock()
    assert lock.depth() == 0
    assert lock.acquired
    assert lock.acquire()
    assert (lock.depth(), lock.owned) == (2, True)
    settle(lock)
    assert (lock.depth(), lock.owned, repr(lock).startswith("<unlocked")) == (0, False, True)


@pytest.mark.skipif(not hasattr(os, "fork"), reason="this system has no fork")
def test_a_fork_that_is_interrupted_leaves_no_lock_held(monkeypatch: pytest.MonkeyPatch) -> None:
    """The functions around it, struck before each opcode; those that run after it run twice, as registered."""
    for functions in (
        (forks._before_fork, forks._after_fork_in_parent, forks._after_fork_in_parent),
        (forks._before_fork, forks._after_fork_in_child, forks._after_fork_in_child),
    ):
        monkeypatch.setattr(forks, "living", weakref.WeakValueDictionary())
        counters = made("deferred, 3 shards")

        def run(functions: Any = functions) -> None:
            for function in functions:
                with suppress(Struck):
                    function()

        reached = Tracer()
        reached.run(run)
        for number in range(len(reached.places)):
            Tracer(number).run(run)
            assert_free(counters, reached.places[number])
