"""A whole server without sockets and clock, driven by a seeded random source: clients, sweeper and time, interleaved.

    World(seed, ...).run(steps)    raises AssertionError at the first answer that differs from the model's

Whatever can happen between two turns of an event loop happens here in random order: input in pieces of any size,
turns, bounded steps of the sweeper, time that passes by a millisecond or by laps of the wheel, connections that close
in the middle of a message.
"""

from __future__ import annotations

import functools
import itertools
import zlib
from random import Random
from typing import Any

from naught_server.config import CachePolicy, ServerConfig
from naught_server.engine import Engine
from naught_server.hot import SHARD_SHIFT
from naught_server.sweep import SHARDS_PER_ENTRY
from simulation.model import ModelCache
from simulation.talker import BAD_REQUESTS, Talker

TURNS_MAX = 3_000
"""Turns after the last request in which all work must be done."""


@functools.cache
def keys_for(shards: int, count: int) -> list[bytes]:
    """So many keys of each prefix, spread over the shards in the same way whatever Python's hash is in this process:
    so a seed that fails in one of them fails in nearly all others, too."""
    keys = []
    for name in (b"%s%d" % (prefix, number) for prefix in (b"a:", b"b:", b"") for number in range(count)):
        shard = zlib.crc32(name) & (shards - 1)
        salted = (b"%s.%d" % (name, salt) for salt in itertools.count(1_000))  # of one length
        keys.append(next(key for key in salted if hash(key) >> SHARD_SHIFT & (shards - 1) == shard))
    return keys


POLICY_STEPS = 170
"""After so many steps each cache evicts the other way."""


def change_evictions(engine: Engine) -> None:
    """Have each cache evict the other way, as an operator or the tuner may: no answer may show it."""
    for name, cache in engine.store.caches.items():
        other = "lazy" if cache.policy.eviction == "eager" else "eager"
        engine.change_setting(f"caches.{name}.eviction", other)


class World:
    """Two caches of one engine, some clients, and the model of both caches."""

    def __init__(self, seed: int, eviction: Any, shards: int, limit: int | None = None, talkers: int = 4) -> None:
        self.random = Random(seed)
        policies = {
            "default": CachePolicy("default", shards=shards, eviction=eviction, max_counters=limit),
            "other": CachePolicy("other", shards=2, eviction="lazy" if eviction == "eager" else "eager"),
        }
        self.failures: list[str] = []  # jobs of the sweeper that raised
        self.engine = Engine(ServerConfig(caches=policies, compaction_bytes_per_entry=100))
        self.engine.sweep._failed = lambda job, fault: self.failures.append(f"{job}: {fault!r}")
        self.models = {name: ModelCache(policy.max_counters) for name, policy in policies.items()}
        self.now_ms = 1_000_000
        self.clock_ns = 0  # what the sweeper measures its jobs with
        pool = 80 if limit else self.random.choice([5, 80])
        self.keys = keys_for(max(policy.shards for policy in policies.values()), pool)
        self.draining = False  # most requests decrement, so that tables become almost empty
        self.talkers = [self._talker() for _ in range(talkers)]
        self.held_steps = 0  # steps that found a shard held
        self.stalls = 0
        self.answered = 0

    def _talker(self) -> Talker:
        return Talker(self.engine, self.models, self.random)

    def run(self, steps: int) -> None:
        """Take random steps, then finish all work, then check the final state."""
        for step in range(steps):
            if not step % 150:
                self.draining = self.random.random() < 0.5
            if not (step + 1) % POLICY_STEPS:
                change_evictions(self.engine)
            self._step()
            assert not self.failures, f"a job of the sweeper raised: {self.failures}"
            if not step % 7:
                self.engine.store.invariants(self.now_ms)
        self._rest()
        self._check_end_state()

    def _step(self) -> None:
        random = self.random
        what = random.random()
        self.held_steps += any(cache.locks.held for cache in self.engine.store.caches.values())
        if what < 0.45:
            talker = random.choice(self.talkers)
            for _ in range(random.choice([1, 1, 3, 30])):
                self._ask(talker)
            size = len(talker._outbox)
            talker.push(self.now_ms, random.choice([size, size, random.randint(0, size)]))
        elif what < 0.60:
            talker = random.choice(self.talkers)
            if talker.woken or talker.protocol.wants_turn or random.random() < 0.2:
                talker.turn(self.now_ms)
        elif what < 0.85:
            self.engine.advance(self.now_ms, random.choice([1, 2, 4, 20, 200, 2_000]))
        elif what < 0.87:
            self.engine.advance_within(self.now_ms, self._clock_ns)
        elif what < 0.995:
            self.now_ms += random.choice([0, 1, 1, 2, 5, 20, 50, 300])
        elif what < 0.998:
            self.now_ms += random.choice([255, 256, 257, 600, 20_000, 70_000])
        else:
            index = random.randrange(len(self.talkers))
            self._retire(self.talkers[index])
            self.talkers[index] = self._talker()

    def _clock_ns(self) -> int:
        """A clock for the sweeper: its jobs take any time at all."""
        self.clock_ns += self.random.choice([0, 1_000, 30_000, 600_000, 90_000_000])
        return self.clock_ns

    def _retire(self, talker: Talker) -> None:
        talker.close(self.now_ms)
        self.stalls += talker.stalls
        self.answered += talker.answered

    # ------------------------------------------------------------------------------------- requests

    def _key(self) -> bytes:
        return self.random.choice(self.keys)

    def _ttl(self) -> int | None:
        return self.random.choice([None, None, 1, 3, 20, 100, 400, 66_000, 140_000])

    def _ask(self, talker: Talker) -> None:
        random = self.random
        what = random.random()
        if what < 0.40:
            self._ask_single(talker)
        elif what < 0.62:
            self._ask_batch(talker)
        elif what < 0.86:
            method = random.choice(["get", "ttl", "expire", "set", "set", "incr", "throttle"])
            if method == "throttle":
                self._throttle(talker)
                return
            params: tuple[Any, ...] = (self._key(),)
            if method == "expire":
                params += (self._ttl(),)
            elif method == "set":
                params += (random.choice([0, 1, 5, 300, 2**40, 2**63 - 1]), self._ttl())
            elif method == "incr":
                params += (random.choice([1, 7, 2**63 - 1]), self._ttl())
            talker.ask(method, params)
        elif what < 0.97:
            prefix = random.choice([b"", b"a:", b"b:", b"a:1", b"nobody"])
            method = random.choice(["top", "count", "count_all", "scan", "scan", "scan"])
            if method == "scan":
                talker.ask_scan(prefix, random.choice([1, 3, 10, 1_000]))
            elif method == "top":
                talker.ask("top", (random.choice([1, 3, 1_000]), prefix))
            else:
                talker.ask("count", (prefix,) if prefix and method == "count" else ())
        elif what < 0.985:
            talker.ask(*random.choice(BAD_REQUESTS))
        elif what < 0.995:
            talker.switch(random.choice(["default", "default", "other"]))
        else:
            talker.ask(random.choice(["clear", "ping"]), ())

    def _ask_single(self, talker: Talker) -> None:
        random = self.random
        up = random.random() < (0.15 if self.draining else 0.7)
        by = random.choice([(), (), (1,), (3,), (1_000,)])
        if not up and random.random() < 0.2:
            talker.ask("decr", (self._key(), random.choice([1, 2, 1_000]), random.random() < 0.7))
        else:
            talker.ask("incr" if up else "decr", (self._key(), *by))

    def _throttle(self, talker: Talker) -> None:
        random = self.random
        limit, per_ms = random.choice([(1, 50), (3, 100), (7, 10), (1_000, 7)])
        more = random.choice([(), (), (2,), (5, 2), (5, 0)])
        talker.ask("throttle", (self._key(), limit, per_ms, *more))

    def _ask_batch(self, talker: Talker) -> None:
        random = self.random
        keys = random.choices(self.keys, k=random.choice([0, 1, 2, 5, 40, 200]))
        method = random.choice(["apply", "apply", "take" if self.draining else "apply", "get_many", "try_incr"])
        if method == "try_incr":
            items = [[key, random.choice([1, 2]), random.choice([3, 20, 2**63 - 1])] for key in keys[:5]]
            talker.ask("try_incr", (items or [[self._key(), 1, 0]], self._ttl()))
        elif method == "apply":
            down = self.draining and random.random() < 0.8
            one = random.random() < 0.5
            deltas: Any = [random.choice([1, 2, -1, -3]) for _ in keys]
            if one:
                deltas = random.choice([-1, -1, -3, -20] if down else [1, 1, 2])
            talker.ask("apply", (keys, deltas) if random.random() < 0.6 else (keys, deltas, self._ttl()))
        else:
            talker.ask(method, (keys,))

    # ------------------------------------------------------------------------------------- the end

    def _rest(self) -> None:
        """Send no more requests, and let all be answered."""
        for talker in self.talkers:
            talker.push(self.now_ms)
        # A step that did nothing has looked at some shards only: at four, where its job has one entry left.
        shards_max = max(len(cache.tables) for cache in self.engine.store.caches.values())
        idle_steps = 0
        for _ in range(TURNS_MAX):
            for talker in self.talkers:
                if talker.woken or talker.protocol.wants_turn:
                    talker.turn(self.now_ms)
            done = self.engine.advance(self.now_ms, 50)
            self.now_ms += 1
            idle_steps = 0 if done or any(talker.busy for talker in self.talkers) else idle_steps + 1
            if idle_steps * SHARDS_PER_ENTRY > shards_max:
                break
        else:
            raise AssertionError(f"never answered: {[talker._requests for talker in self.talkers]}")
        assert all(talker.protocol.idle for talker in self.talkers)

    def _check_end_state(self) -> None:
        for talker in self.talkers:
            self._retire(talker)
        for name, cache in self.engine.store.caches.items():
            model = self.models[name]
            model.purge(self.now_ms)
            cache.expire(self.now_ms, 1_000_000)
            cache.invariants(self.now_ms)
            left: dict[bytes, int] = {}
            for shard in range(len(cache.tables)):
                left.update(cache.counters_of(shard, self.now_ms, b""))
            assert left == model.values
            assert cache.deadlines() == model.deadlines
            assert {reason: count for reason, count in cache.evictions.items() if count} == model.evictions
            assert cache.locks.held == 0, "a lock is still held"
            assert sum(cache.zeros) == 0
            assert not cache.cleared_tables
