"""Workloads: which requests a connection sends, seeded, repeatable, and with known right answers.

A workload gives every connection a *script*: a cycle of steps that is sent in order, again and again. Each step is
a key and a delta (+n, -n, or 0 to read). Three properties make it possible to check the counters after a run:

- The seed, the scenario and the number of the connection determine the script completely. So the parent process knows
  what a worker sent from the number of its requests alone.
- On every key, the first n steps of a connection add up to 0 or more, for every n. A server executes the steps of a
  connection in order, so no decrement can reach below zero, in whatever order the connections are served. The final
  value of a key is therefore the sum of what was acknowledged.
- All scenarios but `incr` return to zero with each cycle. They are *up-and-down* workloads and must leave no counter.

Where one connection owns a key (`churn`, `mixed`, and all scenarios when there is only one connection), the value
that each step must answer is known beforehand too, and the generator compares every reply.

A connection that is lost is opened anew, for another *life*, and begins its script again. Nobody knows whether the
requests in flight were executed. So in its next life it has other keys where it owns its keys.

| scenario | keys | steps |
| --- | --- | --- |
| churn | each connection has its own | up twice, then down to zero and gone: the life of a counter, again and again |
| inflight | few, shared | up when a request starts, down when it ends: a gauge of requests in flight |
| hotkey | one, shared | all connections on the same counter |
| zipf | many, shared, skewed | as inflight, with most steps on few keys |
| incr | many, shared | only increments; the counters stay |
| mixed | each connection has its own | incr, decr, get, and applies of several counters |
| ttl | each connection has its own | as churn, and every counter is created with a time to live |
| quota | each connection has its own | up to a limit by try_incr, one try that is refused, and down to zero |
| semaphore | few, shared | permits that are waited for in a queue, held and given back; see `generate.semaphore` |

The last three are for naught only, as no other server here has these commands.

A request carries one step, or several as one `apply` (batch above 1).

Pure: no clock, no input or output.
"""

from __future__ import annotations

import functools
import itertools
import random
from collections.abc import Callable, Iterator
from dataclasses import dataclass, replace

from naught_loadtest.drivers.naught_calls import QUOTA_LIMIT, REFUSED

SCENARIOS = ("churn", "inflight", "hotkey", "zipf", "incr", "mixed", "ttl", "quota", "semaphore")
# The scenarios whose commands only naught has.
NAUGHT_ONLY = ("ttl", "quota", "semaphore")
# The scenarios in which each connection has keys of its own.
OWNING = ("churn", "mixed", "ttl", "quota")

# Counters that exist at most, unless --keys says otherwise. `inflight` is about a few gauges.
KEYS_DEFAULT = {
    "churn": 10_000,
    "inflight": 16,
    "hotkey": 1,
    "zipf": 10_000,
    "incr": 10_000,
    "mixed": 10_000,
    "ttl": 10_000,
    "quota": 10_000,
    "semaphore": 5,
}

# Steps in a cycle of the scenarios that draw at random: enough for their statistics to be right, and few enough to
# encode fifty connections in well under a second. With many connections each has fewer, as their sum counts.
CYCLE_STEPS = 4096
CYCLE_STEPS_ALL = 64 * CYCLE_STEPS
CYCLE_STEPS_MIN = 64
# Connections that share their keys share their scripts too: there are at most this many different ones.
SHARED_SCRIPTS = 16
# The most steps in all scripts together. A step takes some hundred bytes of memory.
STEPS_MAX = 20_000_000
# How many increments each key gets in `churn` before its decrements.
CHURN_HEIGHT = 2
# Steps of a cycle for each key of the scenarios that take all keys of a connection up and down.
STEPS_PER_KEY = {"churn": 2 * CHURN_HEIGHT, "ttl": 2 * CHURN_HEIGHT, "quota": 2 * QUOTA_LIMIT + 1}
# Requests in flight that one connection of `inflight` and `zipf` counts at most.
IN_FLIGHT_MAX = 16
# The exponent of `zipf`; 0.99 is the custom since YCSB.
ZIPF_EXPONENT = 0.99
# Counters in one apply of `mixed`, unless --batch says otherwise.
MIXED_BATCH = 8


@dataclass(frozen=True, slots=True)
class Workload:
    """A scenario and its settings."""

    scenario: str
    # Counters of all connections together.
    keys: int
    connections: int
    # Steps in one request.
    batch: int
    seed: int

    def __post_init__(self) -> None:
        if self.scenario not in SCENARIOS:
            raise ValueError(f"the scenario must be one of {', '.join(SCENARIOS)}, not {self.scenario!r}")
        for name in ("keys", "connections", "batch"):
            if getattr(self, name) < 1:
                raise ValueError(f"{name} must be at least 1, not {getattr(self, name)}")
        most = STEPS_MAX // STEPS_PER_KEY.get(self.scenario, 1)
        if self.scenario in STEPS_PER_KEY and self.keys > most:
            raise ValueError(
                f"{self.scenario} can have {most:,} keys at most, not {self.keys:,}; zipf and incr can have more"
            )

    @property
    def owned(self) -> bool:
        """Whether each key is used by one connection only."""
        return self.scenario in OWNING or self.connections == 1

    @property
    def key_numbers(self) -> range:
        """The numbers of all keys that the workload can touch."""
        if self.scenario in OWNING:
            return range(self.own_keys(self.connections - 1).stop)
        return range(1 if self.scenario == "hotkey" else self.keys)

    @property
    def up_and_down(self) -> bool:
        """Whether each cycle returns to zero."""
        return self.scenario != "incr"

    @property
    def permits(self) -> int:
        """Permits of each semaphore: together about half as many as connections."""
        return max(1, self.connections // (2 * self.keys))

    @property
    def cycle_steps(self) -> int:
        """Steps in a cycle of `mixed`, about."""
        return max(CYCLE_STEPS_MIN, min(CYCLE_STEPS, CYCLE_STEPS_ALL // self.connections))

    def script_number(self, connection: int) -> int:
        """Connections with the same number have the same script."""
        return connection if self.owned else connection % SHARED_SCRIPTS

    def script(self, connection: int, life: int = 0) -> Script:
        """The script of this connection in this life. Connections and lives are numbered from 0."""
        number = self.script_number(connection)
        source = random.Random(f"{self.seed}:{self.scenario}:{number}")
        script = _BUILDERS[self.scenario](self, number, source)
        if not self.owned:
            return script
        keys = self.keys_in_life(range(0), life).start
        moved = [key + keys for key in script.keys] if keys else script.keys
        values = script.values
        if values is None and self.up_and_down:
            values = _values(script.keys, script.deltas)
        return Script(moved, script.deltas, values, script.sizes, owned=True)

    def keys_of(self, connection: int, life: int) -> range:
        """The keys that a connection uses in this life and no other connection uses. Empty if it shares its keys."""
        if not self.owned:
            return range(0)
        own = self.own_keys(connection) if self.scenario in OWNING else self.key_numbers
        return self.keys_in_life(own, life)

    def keys_in_life(self, keys: range, life: int) -> range:
        """The keys that stand for these keys of the first life in another one."""
        first = life * len(self.key_numbers) if self.owned else 0
        return range(keys.start + first, keys.stop + first)

    def own_keys(self, connection: int) -> range:
        """The keys that only this connection uses in `OWNING`: an equal share, and at least one."""
        share = max(1, self.keys // self.connections)
        return range(connection * share, (connection + 1) * share)


@dataclass(frozen=True, slots=True)
class Script:
    """The cycle of one connection, as parallel lists: step i is (keys[i], deltas[i])."""

    # The number of each step's key. `key_name` makes the key of it.
    keys: list[int]
    # What is added to the key: below 0 for a decrement, 0 for a read.
    deltas: list[int]
    # The value that each step must answer. None where other connections use the same keys, and where the values are
    # others in each cycle (`incr`).
    values: list[int] | None
    # How many steps each request carries, in order. With 1 it is an incr, decr or get, with more an apply.
    sizes: list[int]
    # Whether no other connection uses these keys.
    owned: bool = False

    def flattened(self) -> Script:
        """The same steps with one request each, for servers without a command for many counters."""
        return replace(self, sizes=[1] * len(self.keys))

    def requests(self) -> Iterator[tuple[int, int]]:
        """For each request of the cycle the index of its first step, and the index after its last one."""
        ends = list(itertools.accumulate(self.sizes))
        return zip([0, *ends[:-1]], ends, strict=True)

    def remaining(self, requests: int) -> dict[int, int]:
        """The sum of this connection's deltas on each key after this many requests, without keys whose sum is 0."""
        cycles, rest = divmod(requests, len(self.sizes))
        sums: dict[int, int] = {}
        steps = sum(self.sizes[:rest])
        for key, delta in zip(self.keys[:steps], self.deltas[:steps], strict=True):
            sums[key] = sums.get(key, 0) + delta
        if cycles:
            for key, delta in zip(self.keys, self.deltas, strict=True):
                sums[key] = sums.get(key, 0) + delta * cycles
        return {key: value for key, value in sums.items() if value}

    def request_steps(self, request: int) -> list[tuple[int, int]]:
        """The steps (key, delta) of a request. Requests are numbered from 0 and go on with the next cycle."""
        index = request % len(self.sizes)
        start = sum(self.sizes[:index])
        end = start + self.sizes[index]
        return list(zip(self.keys[start:end], self.deltas[start:end], strict=True))


def key_name(prefix: str, number: int) -> str:
    """The key with this number. It has sixteen characters if the prefix has eight."""
    return f"{prefix}{number:08d}"


def _values(keys: list[int], deltas: list[int]) -> list[int]:
    """The values that the steps of the only connection must answer."""
    sums: dict[int, int] = {}
    values = []
    for key, delta in zip(keys, deltas, strict=True):
        sums[key] = sums.get(key, 0) + delta
        values.append(sums[key])
    return values


def _sizes(steps: int, batch: int) -> list[int]:
    whole, rest = divmod(steps, batch)
    return [batch] * whole + ([rest] if rest else [])


def _churn(workload: Workload, connection: int, source: random.Random) -> Script:
    own = list(workload.own_keys(connection))
    keys: list[int] = []
    deltas: list[int] = []
    values: list[int] = []
    for value in (*range(1, CHURN_HEIGHT + 1), *range(CHURN_HEIGHT - 1, -1, -1)):
        source.shuffle(own)
        keys += own
        deltas += [1 if len(values) < CHURN_HEIGHT * len(own) else -1] * len(own)
        values += [value] * len(own)
    return Script(keys, deltas, values, _sizes(len(keys), workload.batch))


def _quota(workload: Workload, connection: int, source: random.Random) -> Script:
    own = list(workload.own_keys(connection))
    keys: list[int] = []
    deltas: list[int] = []
    values: list[int] = []
    for delta, value in (
        *((1, value) for value in range(1, QUOTA_LIMIT + 1)),
        (0, REFUSED + QUOTA_LIMIT),
        *((-1, value) for value in range(QUOTA_LIMIT - 1, -1, -1)),
    ):
        source.shuffle(own)
        keys += own
        deltas += [delta] * len(own)
        values += [value] * len(own)
    return Script(keys, deltas, values, [1] * len(keys))


def _semaphore(workload: Workload, _connection: int, source: random.Random) -> Script:
    keys = [key for _ in range(CYCLE_STEPS // 2) for key in [source.randrange(workload.keys)] * 2]
    return Script(keys, [1, -1] * (CYCLE_STEPS // 2), None, [1] * CYCLE_STEPS)


def _hotkey(workload: Workload, _connection: int, _source: random.Random) -> Script:
    keys = [0] * CYCLE_STEPS
    return Script(keys, [1, -1] * (CYCLE_STEPS // 2), None, _sizes(CYCLE_STEPS, workload.batch))


def _inflight(workload: Workload, _connection: int, source: random.Random) -> Script:
    return _in_and_out(workload, source, lambda: source.randrange(workload.keys))


def _zipf(workload: Workload, _connection: int, source: random.Random) -> Script:
    weights = _zipf_weights(workload.keys)
    drawn = iter(source.choices(range(workload.keys), cum_weights=weights, k=CYCLE_STEPS))
    return _in_and_out(workload, source, lambda: next(drawn))


@functools.lru_cache(maxsize=2)
def _zipf_weights(keys: int) -> list[float]:
    """Cumulative weights, so that a draw is one bisection."""
    return list(itertools.accumulate(1 / rank**ZIPF_EXPONENT for rank in range(1, keys + 1)))


def _in_and_out(workload: Workload, source: random.Random, pick: Callable[[], int]) -> Script:
    """Starts and ends in random order, with at most `IN_FLIGHT_MAX` started and not ended."""
    keys: list[int] = []
    deltas: list[int] = []
    started: list[int] = []
    while len(keys) < CYCLE_STEPS:
        must_end = len(keys) + len(started) >= CYCLE_STEPS or len(started) == IN_FLIGHT_MAX
        if started and (must_end or source.random() < 0.5):
            keys.append(started.pop(source.randrange(len(started))))
            deltas.append(-1)
        else:
            started.append(pick())
            keys.append(started[-1])
            deltas.append(1)
    return Script(keys, deltas, None, _sizes(len(keys), workload.batch))


def _incr(workload: Workload, _connection: int, source: random.Random) -> Script:
    keys = [source.randrange(workload.keys) for _ in range(CYCLE_STEPS)]
    return Script(keys, [1] * CYCLE_STEPS, None, _sizes(CYCLE_STEPS, workload.batch))


def _mixed(workload: Workload, connection: int, source: random.Random) -> Script:
    """Three quarters incr and decr, 15 % get, 10 % apply; at the end of the cycle all counters go down to zero."""
    own = workload.own_keys(connection)
    batch = workload.batch if workload.batch > 1 else MIXED_BATCH
    script = Script([], [], [], [])
    held: dict[int, int] = {}

    def step(key: int, delta: int) -> None:
        value = held.get(key, 0) + delta
        script.keys.append(key)
        script.deltas.append(delta)
        assert script.values is not None
        script.values.append(value)
        if value:
            held[key] = value
        else:
            del held[key]

    def change() -> None:
        key = own[source.randrange(len(own))]
        step(key, -1 if key in held and source.random() < 0.6 else 1)

    while len(script.keys) < workload.cycle_steps:
        draw = source.random()
        if draw < 0.15 and held:
            # Only existing keys are read, because servers answer differently for absent ones.
            step(source.choice(list(held)), 0)
            script.sizes.append(1)
        elif draw < 0.25:
            for _ in range(batch):
                change()
            script.sizes.append(batch)
        else:
            change()
            script.sizes.append(1)
    for key, value in list(held.items()):
        step(key, -value)
        script.sizes.append(1)
    return script


_BUILDERS: dict[str, Callable[[Workload, int, random.Random], Script]] = {
    "churn": _churn,
    "inflight": _inflight,
    "hotkey": _hotkey,
    "zipf": _zipf,
    "incr": _incr,
    "mixed": _mixed,
    "ttl": _churn,
    "quota": _quota,
    "semaphore": _semaphore,
}
