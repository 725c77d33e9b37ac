"""naught.SafeMap under threads: 8 of them against a model, the cleaning thread, its end, collection, fork.

Nothing sleeps here and nothing asserts a time: threads start together at a barrier and are joined. A join's
limit only turns a deadlock into a failure.
"""

from __future__ import annotations

import gc
import multiprocessing
import os
import queue
import random
import subprocess
import sys
import threading
import warnings
import weakref
from collections import Counter
from collections.abc import Callable, Iterator
from decimal import Decimal
from typing import Any

import pytest

from naught.safemap import SafeMap, cleaner, forks, shard
from naught.safemap.locks import Lock
from naught.safemap.shard import Shard
from support.seeds import slow, told

THREADS = 8
JOIN_S = 60.0
# How long two threads may take that would otherwise wait for each other for ever.
DEADLOCK_S = 20.0
A_DAY_S = 86_400.0
# From here on Python keeps no object of its own for a number, so that a key can be moved.
BIG = 10**6


@pytest.fixture(autouse=True)
def no_thread_is_left() -> Iterator[None]:
    before = set(threading.enumerate())
    yield
    gc.collect()
    for thread in set(threading.enumerate()) - before:
        # A map that was collected has put an item into its thread's stop queue, so the thread ends.
        thread.join(JOIN_S)
        assert not thread.is_alive(), f"{thread.name} was left behind"


@pytest.fixture(autouse=True)
def switch_often() -> Iterator[None]:
    """Make the interpreter change threads hundreds of times as often, so that a missing lock shows."""
    before_s = sys.getswitchinterval()
    sys.setswitchinterval(5e-6)
    yield
    sys.setswitchinterval(before_s)


def run_together(target: Callable[[int], None], count: int = THREADS) -> None:
    """Run target(0), target(1), ... in threads that start at once; raise the first exception of any."""
    barrier = threading.Barrier(count)
    failures: list[BaseException] = []

    def run(number: int) -> None:
        try:
            barrier.wait(JOIN_S)
            target(number)
        except BaseException as failure:
            failures.append(failure)

    threads = [threading.Thread(target=run, args=(number,)) for number in range(count)]
    for thread in threads:
        thread.start()
    for thread in threads:
        thread.join(JOIN_S)
        assert not thread.is_alive(), "a thread is stuck"
    if failures:
        raise failures[0]


def seeds() -> list[int]:
    """One seed per thread, printed so that a failure can be run again."""
    seed = int(told("NAUGHT_TEST_SEED") or random.randrange(2**32))
    print(f"NAUGHT_TEST_SEED={seed}")
    return [seed * 100 + number for number in range(THREADS)]


MAPS: list[dict[str, Any]] = [
    {"policy": "eager"},
    {"policy": "eager", "shard_count": 1},
    {"policy": "deferred", "clean_after_s": 0.0},
    {"policy": "deferred", "clean_after_s": 0.0, "shard_count": 1},
    {"policy": "deferred", "clean_after_s": A_DAY_S},
]


@pytest.fixture(params=[False, True], ids=["", "compacting all the time"])
def compaction(request: pytest.FixtureRequest, monkeypatch: pytest.MonkeyPatch) -> None:
    """As it is, and with every shard looked at, rebuilt and moved at every second eviction."""
    if request.param:
        monkeypatch.setattr(shard, "COMPACTION_EVICTIONS_MIN", 1)
        monkeypatch.setattr(shard, "SPARSE_BYTES_PER_ENTRY", 1)
        monkeypatch.setattr(shard, "SPARSE_BYTES_MIN", 0)
        monkeypatch.setattr(shard, "MOVE_KEYS_MIN", 1)
        monkeypatch.setattr(shard, "MOVE_BELOW", 100)


@pytest.mark.usefixtures("compaction")
@pytest.mark.parametrize("rounds", [1_000, *slow(3_000)])
@pytest.mark.parametrize("options", MAPS, ids=str)
def test_eight_threads_against_a_model(options: dict[str, Any], rounds: int) -> None:
    """Each thread takes away only what it has added, so the end is the sum of all, whatever the order.

    And every life of a counter begins once and ends once: an incr by 1 that answers 1 began one, a decr that
    says it evicted ended one. A lost update, a zero seen, or an eviction told twice breaks one of the sums.
    """
    thread_seeds = seeds()
    nets = [Counter[int]() for _ in range(THREADS)]
    begun = [Counter[int]() for _ in range(THREADS)]
    ended = [Counter[int]() for _ in range(THREADS)]
    with SafeMap[int, int](int, **options) as counters:

        def work(number: int) -> None:
            chance = random.Random(thread_seeds[number])
            mine = nets[number]
            for _ in range(rounds):
                key = BIG + chance.randrange(6)
                if mine[key] and chance.random() < 0.55:
                    mine[key] -= 1
                    value, evicted = counters.decr(key, strict=True)
                    assert (value == 0) == evicted
                    ended[number][key] += evicted
                else:
                    mine[key] += 1
                    begun[number][key] += counters.incr(key) == 1

        run_together(work)
        expected = Counter[int]()
        for net in nets:
            expected.update(net)
        expected = +expected
        assert counters == expected
        assert len(counters) == len(expected)
        lives, deaths = sum(begun, Counter[int]()), sum(ended, Counter[int]())
        for key in range(BIG, BIG + 6):
            assert lives[key] - deaths[key] == (key in expected)
        counters.sweep()
        assert counters.raw_entries == len(expected)


@pytest.mark.usefixtures("compaction")
@pytest.mark.parametrize("rounds", [200, *slow(1_500)])
@pytest.mark.parametrize("options", MAPS, ids=str)
def test_everything_at_once_keeps_the_sum(options: dict[str, Any], rounds: int) -> None:
    """All operations at once. What went in is what came out plus what is left; no value below 1 is seen."""
    thread_seeds = seeds()
    put = [0] * THREADS
    got = [0] * THREADS
    with SafeMap[int, int](int, **options) as counters:

        def work(number: int) -> None:
            chance = random.Random(thread_seeds[number])
            for _ in range(rounds):
                key = BIG + chance.randrange(40)
                match chance.randrange(12):
                    case 0 | 1 | 2 | 3:
                        counters.incr(key)
                        put[number] += 1
                    case 4 | 5 | 6:
                        value, evicted = counters.decr(key)
                        got[number] += value > 0 or evicted
                    case 7:
                        got[number] += counters.take(key)
                    case 8:
                        value = chance.randrange(3)
                        got[number] += counters.set(key, value)
                        put[number] += value
                    case 9:
                        counters.merge({key: 2, key + 1: 1})
                        counters.add([(key, 1)])
                        put[number] += 4
                    case 10:
                        assert all(value >= 1 for value in counters.values())
                        assert all(value >= 1 for _, value in counters.items())
                        assert all(value >= 1 for value in counters.snapshot().values())
                        assert counters.get(key, 1) >= 1
                        assert 0 <= len(counters) <= 41
                    case 11:
                        counters.sweep()
                        counters.most_common(2)

        run_together(work)
        assert sum(counters.values()) == sum(put) - sum(got)
        assert all(value >= 1 for value in counters.values())


def test_a_snapshot_is_of_one_instant() -> None:
    """The writer keeps two counters of different shards equal, or the first one ahead by 1."""
    counters = SafeMap[int, int](int, shard_count=2)
    counters.merge({0: 1, 1: 1})
    done = threading.Event()
    seen: list[int] = []

    def work(number: int) -> None:
        if number == 0:
            for _ in range(4_000):
                counters.incr(0)
                counters.incr(1)
            done.set()
        else:
            while not done.is_set():
                copy = counters.snapshot()
                seen.append(copy[0] - copy[1])

    run_together(work, 3)
    assert set(seen) <= {0, 1}


def test_clear_takes_every_counter_exactly_once() -> None:
    counters = SafeMap[tuple[int, int], int](int)
    added, cleared = [0] * THREADS, [0] * THREADS

    def work(number: int) -> None:
        for key in range(1_000):
            added[number] += counters.incr((number, key)) == 1
            if key % 100 == number:
                cleared[number] += counters.clear()

    run_together(work)
    assert sum(cleared) + len(counters) == sum(added) == THREADS * 1_000


def test_compaction_loses_nothing() -> None:
    """Threads fill and drain one shard, which is rebuilt all the time, beside a counter that must survive."""
    counters = SafeMap[object, int](int, shard_count=1)
    kept = "kept"

    def work(number: int) -> None:
        for start in range(0, 3_000, 300):
            keys = [(number, start + i) for i in range(300)]
            for key in keys:
                counters.incr(key)
            counters.incr(kept)
            for key in keys:
                assert counters.decr(key) == (0, True)

    run_together(work)
    assert counters == {kept: THREADS * 10}


# The cleaning thread.


def cleaner_of(counters: SafeMap[Any, Any]) -> threading.Thread | None:
    return counters._cleaner


def test_the_thread_starts_with_the_first_zero_and_ends_with_the_last() -> None:
    counters = SafeMap[str, int](int, policy="deferred", clean_after_s=0.0)
    assert cleaner_of(counters) is None
    for _ in range(20):
        counters.incr("a", 2)
        counters.decr("a")
        assert cleaner_of(counters) is None
        counters.decr("a")
        thread = cleaner_of(counters)
        if thread is not None:  # it may have finished already
            thread.join(JOIN_S)
        assert cleaner_of(counters) is None
        assert counters.raw_entries == 0


def test_eager_never_starts_a_thread(monkeypatch: pytest.MonkeyPatch) -> None:
    monkeypatch.setattr(threading.Thread, "start", lambda self: pytest.fail("a thread was started"))
    counters = SafeMap[int, int](int)
    for key in range(100):
        counters.incr(key)
        counters.decr(key)
    counters.close()


def test_one_thread_serves_all_shards() -> None:
    with SafeMap[int, int](int, policy="deferred", clean_after_s=A_DAY_S) as counters:
        before = threading.active_count()
        for key in range(1_000):
            counters.incr(key)
            counters.decr(key)
        assert threading.active_count() == before + 1


def test_close_stops_the_thread_and_clears_what_is_flagged() -> None:
    counters = SafeMap[str, int](int, policy="deferred", clean_after_s=A_DAY_S)
    counters.incr("a")
    counters.incr("b")
    counters.decr("a")
    thread = cleaner_of(counters)
    assert thread is not None
    assert thread.daemon
    assert counters.raw_entries == 2
    counters.close()
    assert not thread.is_alive()
    assert cleaner_of(counters) is None
    assert counters.raw_entries == 1
    counters.close()  # again is harmless
    # A closed map is still a map; it now evicts at once.
    assert counters.decr("b") == (0, True)
    assert counters.raw_entries == 0
    assert cleaner_of(counters) is None


def test_leaving_the_with_block_closes_also_on_an_exception() -> None:
    counters = SafeMap[str, int](int, policy="deferred", clean_after_s=A_DAY_S)
    counters.incr("a")
    counters.decr("a")
    thread = cleaner_of(counters)
    with pytest.raises(KeyError), counters:
        counters["a"]
    assert thread is not None
    assert not thread.is_alive()


def test_close_while_others_count() -> None:
    counters = SafeMap[int, int](int, policy="deferred", clean_after_s=0.0)

    def work(number: int) -> None:
        for i in range(2_000):
            counters.incr(number)
            counters.decr(number)
            if i == 1_000 and number % 2:
                counters.close()

    run_together(work)
    assert counters.raw_entries == 0
    assert cleaner_of(counters) is None


def test_an_unclosed_map_is_collected_and_its_thread_ends() -> None:
    counters = SafeMap[str, int](int, policy="deferred", clean_after_s=A_DAY_S)
    counters.incr("a")
    counters.decr("a")
    thread = cleaner_of(counters)
    assert thread is not None
    assert thread.is_alive()
    gone = weakref.ref(counters)
    del counters
    assert gone() is None  # by its reference count: nothing of ours goes round in a circle
    thread.join(JOIN_S)
    assert not thread.is_alive()


def test_a_map_in_a_cycle_is_collected_and_its_thread_ends() -> None:
    counters = SafeMap[str, int](int, policy="deferred", clean_after_s=A_DAY_S)
    holder: dict[str, Any] = {"counters": counters}
    holder["self"] = holder
    counters.incr("a")
    counters.decr("a")
    thread = cleaner_of(counters)
    gone = weakref.ref(counters)
    del counters, holder
    gc.collect()
    assert gone() is None
    assert thread is not None
    thread.join(JOIN_S)
    assert not thread.is_alive()


def test_a_zero_flagged_while_the_thread_is_about_to_end_is_not_forgotten(
    monkeypatch: pytest.MonkeyPatch,
) -> None:
    with SafeMap[str, int](int, policy="deferred", clean_after_s=A_DAY_S) as counters:
        counters.merge({"a": 1, "late": 1})
        counters.decr("a")

        def sweep_and_then_one_more() -> int:
            cleared = SafeMap.sweep(counters)
            counters.decr("late")  # finds a thread there, so it starts none
            return cleared

        monkeypatch.setattr(counters, "sweep", sweep_and_then_one_more)
        assert counters._clean_once()  # has to come again
        monkeypatch.undo()
        assert not counters._clean_once()
        assert counters.raw_entries == 0


def test_without_a_thread_to_be_had_the_caller_cleans(monkeypatch: pytest.MonkeyPatch) -> None:
    def refuse(self: threading.Thread) -> None:
        raise RuntimeError("can't start new thread")

    counters = SafeMap[str, int](int, policy="deferred", clean_after_s=0.0)
    with monkeypatch.context() as patched:
        patched.setattr(threading.Thread, "start", refuse)
        counters.incr("a")
        assert counters.decr("a") == (0, True)
        assert counters.raw_entries == 0
        assert cleaner_of(counters) is None
    counters.incr("a")
    assert counters.decr("a") == (0, True)
    counters.close()


def test_a_key_that_fails_to_compare_does_not_end_the_cleaning() -> None:
    class Moody:
        angry = False

        def __hash__(self) -> int:
            return 1

        def __eq__(self, other: object) -> bool:
            if Moody.angry:
                raise ValueError("not now")
            return self is other

    with SafeMap[object, int](int, policy="deferred", clean_after_s=A_DAY_S, shard_count=1) as counters:
        keys = [Moody(), Moody(), Moody()]
        for key in keys:
            counters.incr(key)
        for key in keys:
            counters.decr(key)
        Moody.angry = True
        with pytest.raises(ValueError, match="not now"):
            counters.sweep()
        Moody.angry = False
        counters.sweep()
        assert (len(counters), counters.raw_entries) == (0, 0)


def test_an_interpreter_ends_with_a_map_unclosed() -> None:
    program = (
        "import sys; from naught.safemap import SafeMap\n"
        "kept = SafeMap(int, policy='deferred', clean_after_s=86400)\n"
        "kept.incr('a'); kept.decr('a'); sys.modules['keep'] = kept\n"
        "print(kept.raw_entries)"
    )
    done = subprocess.run(
        [sys.executable, "-X", "dev", "-W", "error", "-c", program],
        capture_output=True,
        text=True,
        timeout=JOIN_S,
        env={**os.environ, "PYTHONPATH": os.pathsep.join(sys.path)},
        check=False,
    )
    assert (done.returncode, done.stdout, done.stderr) == (0, "1\n", "")


# Fork.


def child_uses(counters: SafeMap[Any, int], answer: Any) -> None:
    counters.incr("child")
    answer.send(
        (
            counters.incr("a"),
            counters.decr("a", 9),
            len(counters),
            counters.raw_entries,
            threading.active_count(),
        )
    )
    counters.close()


@pytest.mark.skipif(not hasattr(os, "fork"), reason="this system has no fork")
@pytest.mark.parametrize("policy", ["eager", "deferred"])
def test_a_forked_child_is_never_stuck_on_a_lock_of_a_thread_it_does_not_have(policy: Any) -> None:
    context = multiprocessing.get_context("fork")
    counters = SafeMap[object, int](int, policy=policy, clean_after_s=0.0, shard_count=1)
    counters.incr("a")
    stop = threading.Event()

    def flap() -> None:
        while not stop.is_set():
            counters.incr("flapping")
            counters.decr("flapping")

    threads = [threading.Thread(target=flap) for _ in range(3)]
    for thread in threads:
        thread.start()
    try:
        for _ in range(5):
            receiving, sending = context.Pipe(duplex=False)
            child = context.Process(target=child_uses, args=(counters, sending))
            with warnings.catch_warnings():
                # Python 3.12 warns of any fork in a process with threads. Here such a fork must work.
                warnings.simplefilter("ignore", DeprecationWarning)
                child.start()
            assert receiving.poll(JOIN_S), "the child is stuck"
            after_incr, after_decr, length, _, _ = receiving.recv()
            assert (after_incr, after_decr) == (2, (0, True))
            assert length in (1, 2)  # "child", and "flapping" if it was up at that instant
            child.join(JOIN_S)
            assert child.exitcode == 0
            receiving.close()
            sending.close()
    finally:
        stop.set()
        for thread in threads:
            thread.join(JOIN_S)
    counters.close()
    assert counters == {"a": 1}


# Locks taken in another order than usual: whatever runs inside a method (a key's comparison, a finalizer, a signal
# handler) may use any map, and any shard of this one.


class Waiting:
    """A key whose first comparison waits until it may use the maps."""

    def __init__(self, work: Callable[[], object]) -> None:
        self.work = work
        self.compared = threading.Event()
        self.go_on = threading.Event()

    def __hash__(self) -> int:
        return 0

    def __eq__(self, other: object) -> bool:
        if not self.compared.is_set():
            self.compared.set()
            assert self.go_on.wait(JOIN_S)
            self.work()
        return self is other


def let_it_take(lock: Lock) -> None:
    """Wait until another thread holds this lock, or has had many occasions to take it and release it again."""
    for _ in range(20_000):
        if not lock.acquire(blocking=False):
            return
        lock.release()


class ForkUnderWay(SafeMap[Any, int]):
    """A map that lets a key's comparison go on when a fork asks for its locks."""

    waiting: Waiting

    def _every_lock(self) -> tuple[Lock, ...]:
        self.waiting.go_on.set()
        return super()._every_lock()


def deadlock_is_left(inside: Callable[[], object], beside: Callable[[], object]) -> bool:
    """Run both in threads; whether they wait for each other."""
    threads = [threading.Thread(target=work, daemon=True) for work in (inside, beside)]
    for thread in threads:
        thread.start()
    for thread in threads:
        thread.join(DEADLOCK_S)
    return any(thread.is_alive() for thread in threads)


def test_a_fork_waits_for_no_map_while_it_holds_another_that_is_asked_for(monkeypatch: pytest.MonkeyPatch) -> None:
    monkeypatch.setattr(forks, "living", weakref.WeakValueDictionary())
    other: SafeMap[str, int] = SafeMap()
    counters = ForkUnderWay()
    forks.living = weakref.WeakValueDictionary({1: other, 2: counters})

    def use_the_other() -> None:
        let_it_take(other._locks[0])
        other.incr("a")

    counters.waiting = Waiting(use_the_other)
    counters.incr(counters.waiting)

    def fork() -> None:
        assert counters.waiting.compared.wait(JOIN_S)
        forks._before_fork()
        forks._after_fork_in_parent()
        forks._after_fork_in_parent()

    assert not deadlock_is_left(lambda: counters.incr(Waiting(lambda: None)), fork)
    assert other == {"a": 1}
    assert [lock.depth() for each in (other, counters) for lock in each._every_lock()] == [0] * 4


def test_a_snapshot_waits_for_no_shard_while_it_holds_another_that_is_asked_for() -> None:
    counters: SafeMap[Any, int] = SafeMap(shard_count=2)
    first, second = counters._locks

    def use_the_first_shard() -> None:
        let_it_take(first)
        counters.incr(2)

    waiting = Waiting(use_the_first_shard)
    second_key = type("Second", (Waiting,), {"__hash__": lambda self: 1})
    waiting = second_key(use_the_first_shard)
    counters.incr(waiting)

    def snapshot() -> None:
        assert waiting.compared.wait(JOIN_S)
        waiting.go_on.set()
        counters.snapshot()

    assert not deadlock_is_left(lambda: counters.incr(second_key(lambda: None)), snapshot)
    assert counters[2] == 1
    assert [first.depth(), second.depth()] == [0, 0]


def test_the_cleaning_thread_is_started_with_no_lock_of_a_shard_held(monkeypatch: pytest.MonkeyPatch) -> None:
    """Starting waits for the new thread, in which a finalizer may use the map."""
    held: list[bool] = []
    start = SafeMap._start_locked

    def start_and_tell(counters: SafeMap[Any, Any]) -> bool:
        held.append(any(lock.owned for lock in counters._locks))
        return start(counters)

    monkeypatch.setattr(SafeMap, "_start_locked", start_and_tell)
    with SafeMap(Decimal, policy="deferred", clean_after_s=A_DAY_S) as counters:
        counters.add([("a", 1), ("a", -1), ("b", 1)])
        assert cleaner_of(counters) is not None
    assert held == [False]


def test_a_child_frees_a_map_that_was_made_while_the_fork_began(monkeypatch: pytest.MonkeyPatch) -> None:
    monkeypatch.setattr(forks, "living", weakref.WeakValueDictionary())
    forks._before_fork()
    late: SafeMap[str, int] = SafeMap()
    thread = threading.Thread(target=late._locks[0].acquire)  # and it is gone in the child
    thread.start()
    thread.join()
    forks._after_fork_in_child()
    assert late._locks[0].acquire(blocking=False)
    late._locks[0].release()


def test_maps_are_known_for_fork_only_while_they_live() -> None:
    before = len(forks.living)
    counters = SafeMap[str, int](int)
    assert len(forks.living) == before + 1
    del counters
    assert len(forks.living) == before


def test_a_finalizer_that_counts_while_an_empty_table_is_replaced_is_heard() -> None:
    """Making the new table can have the collector run, which can run anything."""
    emptied = Shard()

    class Garbage:
        def __init__(self) -> None:
            self.itself = self

        def __del__(self) -> None:
            emptied.table["counted"] = 1

    thresholds = gc.get_threshold()
    gc.collect()
    gc.disable()
    try:
        Garbage()
        compact = emptied.compact
        gc.set_threshold(1)
        gc.enable()
        compact()
    finally:
        gc.set_threshold(*thresholds)
        gc.enable()
    gc.collect()
    assert emptied.table == {"counted": 1}


class Impatient(queue.SimpleQueue[None]):
    """A stop queue whose `get` times out without waiting, and ends the thread after `waits_max` calls."""

    def __init__(self, waits_max: int) -> None:
        super().__init__()
        self.waits: list[float] = []
        self.waits_max = waits_max

    def get(self, block: bool = True, timeout: float | None = None) -> None:
        assert timeout is not None
        self.waits.append(timeout)
        if len(self.waits) <= self.waits_max:
            raise queue.Empty


@pytest.mark.parametrize(("flagged", "sweeps"), [(1, 3), (cleaner.MANY_FLAGGED, 30)])
def test_zeros_wait_their_time_unless_they_are_many(flagged: int, sweeps: int) -> None:
    """So that a drain does not hold its memory for the sake of counters that flap."""

    class Counters:
        swept = 0

        def _flagged_count(self) -> int:
            return flagged

        def _clean_once(self) -> bool:
            self.swept += 1
            return True

    counters: Any = Counters()
    stop = Impatient(3 * cleaner.CHECKS)
    cleaner.clean(weakref.ref(counters), stop, 5.0)
    assert counters.swept == sweeps
    assert sum(stop.waits[: cleaner.CHECKS]) == pytest.approx(5.0)


def flapped(keys: range) -> SafeMap[int, int]:
    """A deferred map with one shard. Enough of its keys are zeros for all to count as flagged."""
    counters = SafeMap[int, int](int, policy="deferred", clean_after_s=A_DAY_S, shard_count=1)
    for key in keys:
        counters.incr(key)
    for key in keys:
        assert counters.decr(key) == (0, True)
        assert counters.decr(key) == (0, False)
    return counters


def test_zeros_of_a_map_that_flaps_as_a_whole_are_hidden_and_swept() -> None:
    with flapped(range(100)) as counters:
        counters.incr(7)
        assert (dict(counters), len(counters), counters.raw_entries) == ({7: 1}, 1, 100)
        assert counters.sweep() == 99
        assert (dict(counters), len(counters), counters.raw_entries) == ({7: 1}, 1, 1)
        assert counters.sweep() == 0


def test_a_sweep_looks_at_the_whole_table_once_though_others_flag_meanwhile(monkeypatch: pytest.MonkeyPatch) -> None:
    """Otherwise it would do so for each batch, in a map where many flap all the time."""
    walks = 0
    clear_flagged, flag_each = Shard.clear_flagged, Shard._flag_each

    def clear_and_flag_all(self: Shard, keys_max: int) -> int:
        cleared = clear_flagged(self, keys_max)
        self.all_flagged = True  # as a decrement of another thread does, where more than one in four is flagged
        return cleared

    def count(self: Shard) -> None:
        nonlocal walks
        walks += bool(self.table)
        flag_each(self)

    with flapped(range(10_000)) as counters:
        with monkeypatch.context() as patched:
            patched.setattr(Shard, "clear_flagged", clear_and_flag_all)
            patched.setattr(Shard, "_flag_each", count)
            cleared = counters.sweep()
        assert (cleared, walks) == (10_000, 1)
        assert counters.sweep() == 0


def test_a_map_that_flapped_and_was_emptied_flags_each_zero_again() -> None:
    """With no key left nothing is to be cleared, and yet the shard has to forget that all were flagged.

    Otherwise no decrement would start the thread again, which has ended because nothing was flagged.
    """
    with flapped(range(100)) as counters:
        for key in range(100):
            counters.take(key)
        counters.sweep()
        assert not counters._shards[0].all_flagged
        counters.incr(1)
        counters.decr(1)
        assert list(counters._shards[0].flagged) == [1]
        assert counters.sweep() == 1


def test_a_comparison_that_fails_while_all_are_flagged_loses_no_zero() -> None:
    class Key:
        fails = False

        def __init__(self, number: int) -> None:
            self.number = number

        def __hash__(self) -> int:
            return 1

        def __eq__(self, other: object) -> bool:
            if Key.fails:
                raise OSError("compared")
            return isinstance(other, Key) and self.number == other.number

    counters = SafeMap[Key, int](int, policy="deferred", clean_after_s=A_DAY_S, shard_count=1)
    keys = [Key(number) for number in range(20)]
    for key in keys:
        counters.incr(key)
    for key in keys:
        counters.decr(key)
    Key.fails = True
    with pytest.raises(OSError, match="compared"):
        counters.sweep()
    Key.fails = False
    counters.sweep()
    assert counters.raw_entries == 0
    counters.close()
