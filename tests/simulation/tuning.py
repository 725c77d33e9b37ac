"""A machine that runs an engine on random workloads, with its tuner and without.

    python -m simulation.tuning 0 10 15    # the seeds from 0 to 9, each for 15 seconds of its time

A machine with one processor and a clock of its own runs an engine: requests arrive at random, each has its price, and
the sweeper's steps take the time of the entries they work on. A request waits for what is under way. Each workload is
run twice, with the tuner and without. Printed is, for each seed, the p99 with the tuner for that without.

The shard of a key is its hash, which Python draws anew in each process. The tests run this with a fixed one, so that
a seed means the same workload everywhere.
"""

from __future__ import annotations

import sys
from random import Random
from typing import Any

from naught_server.config import CachePolicy, ServerConfig
from naught_server.engine import Engine
from naught_server.tuner import Decision

REQUEST_NS = 6_000
"""What a request costs, as measured for a lone one with its socket."""

ITEM_NS = 300
ENTRY_NS = 300
"""An entry of the sweeper's work."""

TURN_NS = 1_000
"""A turn of one of its jobs."""


class Machine:
    """Runs one workload. Everything is drawn from the seed, and nothing depends on the time that the test takes."""

    def __init__(self, seed: int, mode: str) -> None:
        self.random = random = Random(seed)
        eviction: Any = random.choice(["lazy", "lazy", "eager"])
        policy = CachePolicy("default", shards=random.choice([4, 16, 64]), eviction=eviction)
        self.engine = Engine(ServerConfig(caches={"default": policy}, tuner=mode))  # type: ignore[arg-type]
        self.cache = self.engine.store.cache("default")
        self.decisions: list[Decision] = []
        self.engine.watch(on_tuned=self.decisions.append)
        self.now_ns = 1_000_000_000
        self.latencies_ns: list[int] = []
        self.live: list[bytes] = []
        self.made = 0  # counters ever created
        self._turn = self.engine.sweep._turn
        self.engine.sweep._turn = self._priced_turn

    def _priced_turn(self, index: int, now_ms: int, entries_max: int) -> int:
        done = self._turn(index, now_ms, entries_max)
        self.now_ns += TURN_NS + done * ENTRY_NS
        return done

    def run(self, seconds: int) -> None:
        """Serve what arrives in this time, in phases."""
        end_ns = self.now_ns + seconds * 1_000_000_000
        while self.now_ns < end_ns:
            self._phase()

    def _phase(self) -> None:
        """Some seconds of one kind of load."""
        random = self.random
        kind = random.choice(["churn", "fill", "drain", "flood", "mortal", "quiet"])
        rate = {"quiet": 20}.get(kind, random.choice([50, 200, 500]))
        until_ns = self.now_ns + random.randint(1, 4) * 1_000_000_000
        arrival_ns = self.now_ns
        while True:
            arrival_ns += int(random.expovariate(rate) * 1e9)
            if arrival_ns > until_ns:
                return self._sweep_until(until_ns)
            self._sweep_until(arrival_ns)
            self.now_ns = max(self.now_ns, arrival_ns)
            while self.cache.locks.held:  # a request waits for a shard that is worked on
                self._sweep_until(self.engine.next_due(self.now_ns // 1_000_000) * 1_000_000 + 1)
            items = self._serve(kind)
            self.engine.stats.commands["apply"] += 1
            self.now_ns += REQUEST_NS + items * ITEM_NS
            self.latencies_ns.append(self.now_ns - arrival_ns)

    def _sweep_until(self, until_ns: int) -> None:
        """Take the steps of the sweeper that are due before then."""
        while (due_ns := self.engine.next_due(self.now_ns // 1_000_000) * 1_000_000) < until_ns:
            self.now_ns = max(self.now_ns, due_ns)
            self.engine.advance_within(self.now_ns // 1_000_000, lambda: self.now_ns)
            if self.now_ns >= until_ns:
                return

    def _serve(self, kind: str) -> int:
        """Change counters as this kind of load does. Returns how many."""
        random, cache, now_ms = self.random, self.cache, self.now_ns // 1_000_000
        flood = random.choice([60, 250])
        count = {"fill": 30, "drain": 40, "flood": flood, "mortal": 20}.get(kind, random.randint(1, 5))
        ttl_ms = random.choice([5, 500, 3_000]) if kind == "mortal" else None
        for _ in range(count):
            if kind == "drain":
                if self.live:
                    cache.decr(self.live.pop(), 1, False, now_ms)
                continue
            self.made += 1
            key = b"%d" % self.made
            cache.incr(key, 1, ttl_ms, now_ms)
            if kind in ("flood", "churn"):
                cache.decr(key, 1, False, now_ms)
            elif ttl_ms is None:
                self.live.append(key)
        return count

    @property
    def p99_ns(self) -> int:
        return sorted(self.latencies_ns)[len(self.latencies_ns) * 99 // 100]


def compare(seed: int, seconds: int) -> tuple[float, int, int]:
    """Run a workload both ways. The p99 with the tuner for that without, that p99 in nanoseconds, and the changes."""
    without, with_it = Machine(seed, "off"), Machine(seed, "on")
    for machine in (without, with_it):
        machine.run(seconds)
        machine.engine.invariants(machine.now_ns // 1_000_000)
    assert not without.decisions
    changes = sum(each.what == "changed" for each in with_it.decisions)
    return with_it.p99_ns / without.p99_ns, without.p99_ns, changes


if __name__ == "__main__":
    first, last, seconds = map(int, sys.argv[1:])
    for seed in range(first, last):
        print(seed, *compare(seed, seconds))
