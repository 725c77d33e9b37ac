"""What is asked of a server: seeded, repeatable, and with a known right answer.

A workload gives every connection a *script*: a cycle of steps, each one key and a delta (+n, -n, or 0 for
reading), sent over and over in order. Three properties make a run checkable afterwards:

- The seed, the scenario and the number of the connection decide the script completely, so the parent
  process can rebuild what a worker sent from nothing but the number of its requests that were answered.
- On every key, every prefix of a connection's own steps adds up to 0 or more. A server executes the steps of
  a connection in order, so no decrement can meet zero, however the connections interleave, and the final
  value of a key is simply the sum of what was acknowledged.
- All scenarios but `incr` return to zero with each cycle: an *up-and-down* workload, which must leave
  nothing behind.

Where the keys of a connection are its own (`churn`, `mixed`) the value each step answers is known beforehand
as well, and the generator compares every single reply.

| scenario | keys | what it is like |
| --- | --- | --- |
| churn | each connection's own | up twice, then down to zero and gone: the life of a counter, over and over |
| inflight | few, shared | one up at a start, one down at its end: requests in flight |
| hotkey | one, shared | everybody on the same counter |
| zipf | many, shared, skewed | as inflight, a few keys taking most of it |
| incr | many, shared | only increments; the counters stay |
| mixed | each connection's own | incr, decr, get, and applies of several counters |

A step's request is made of one step, or of several that travel as one `apply` (batch above 1).

Pure: no clock, no input or output.
"""

from __future__ import annotations

import functools
import itertools
import random
from collections.abc import Callable, Iterator
from dataclasses import dataclass

SCENARIOS = ("churn", "inflight", "hotkey", "zipf", "incr", "mixed")

# Counters that exist at most, where --keys does not say. `inflight` is about a handful of gauges.
KEYS_DEFAULT = {"churn": 10_000, "inflight": 16, "hotkey": 1, "zipf": 10_000, "incr": 10_000, "mixed": 10_000}

# Steps in a cycle of the scenarios that draw at random: long enough that their statistics are right, short
# enough that fifty connections are encoded in well under a second.
CYCLE_STEPS = 4096
# How often `churn` takes each key up before it goes down.
CHURN_HEIGHT = 2
# What one connection has in flight at most in `inflight` and `zipf`.
IN_FLIGHT_MAX = 16
# The exponent of `zipf`; 0.99 is what YCSB made the custom.
ZIPF_EXPONENT = 0.99
# Counters of one apply in `mixed`, where --batch does not say.
MIXED_BATCH = 8


@dataclass(frozen=True, slots=True)
class Workload:
    """A scenario with its numbers. `keys` is for all connections together."""

    scenario: str
    keys: int
    connections: int
    batch: int
    seed: int

    def __post_init__(self) -> None:
        if self.scenario not in SCENARIOS:
            raise ValueError(f"scenario is one of {', '.join(SCENARIOS)}, not {self.scenario!r}")
        for name in ("keys", "connections", "batch"):
            if getattr(self, name) < 1:
                raise ValueError(f"{name} is at least 1, not {getattr(self, name)}")

    @property
    def key_numbers(self) -> range:
        """The number of every key the workload can touch."""
        if self.scenario in ("churn", "mixed"):
            return range(self.own_keys(self.connections - 1).stop)
        return range(1 if self.scenario == "hotkey" else self.keys)

    @property
    def up_and_down(self) -> bool:
        """Whether the workload ends with no counter left."""
        return self.scenario != "incr"

    def script(self, connection: int) -> Script:
        """The cycle of connection number `connection`, from 0."""
        source = random.Random(f"{self.seed}:{self.scenario}:{connection}")
        return _BUILDERS[self.scenario](self, connection, source)

    def own_keys(self, connection: int) -> range:
        """The keys only this connection uses in `churn` and `mixed`: an equal share, at least one."""
        share = max(1, self.keys // self.connections)
        return range(connection * share, (connection + 1) * share)


@dataclass(frozen=True, slots=True)
class Script:
    """One connection's cycle, as parallel lists: a step is (keys[i], deltas[i])."""

    # The number of each step's key; `key_name` makes the name.
    keys: list[int]
    # What is added; below 0 a decrement, 0 a read.
    deltas: list[int]
    # The value each step must answer, or None where other connections use the same keys.
    values: list[int] | None
    # How many steps each request carries, in order; 1 is a plain incr, decr or get, more is one `apply`.
    sizes: list[int]

    def flattened(self) -> Script:
        """The same steps, each a request of its own: for servers without a command for many counters."""
        return Script(self.keys, self.deltas, self.values, [1] * len(self.keys))

    def requests(self) -> Iterator[tuple[int, int]]:
        """(first step, end) of each request of the cycle."""
        ends = list(itertools.accumulate(self.sizes))
        return zip([0, *ends[:-1]], ends, strict=True)

    def remaining(self, requests: int) -> dict[int, int]:
        """What this connection has added to each key, and not taken off, after so many requests.

        Keys at zero are left out.
        """
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
        """(key, delta) of the steps in the request with this running number."""
        place = request % len(self.sizes)
        start = sum(self.sizes[:place])
        end = start + self.sizes[place]
        return list(zip(self.keys[start:end], self.deltas[start:end], strict=True))


def key_name(prefix: str, number: int) -> str:
    """The name of key `number` in a run. With a prefix of eight characters it has sixteen."""
    return f"{prefix}{number:08d}"


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
    """Cumulated, so that a draw is one bisection."""
    return list(itertools.accumulate(1 / rank**ZIPF_EXPONENT for rank in range(1, keys + 1)))


def _in_and_out(workload: Workload, source: random.Random, pick: Callable[[], int]) -> Script:
    """Starts and ends at random, never more than `IN_FLIGHT_MAX` begun and not ended."""
    keys: list[int] = []
    deltas: list[int] = []
    begun: list[int] = []
    while len(keys) < CYCLE_STEPS:
        must_end = len(keys) + len(begun) >= CYCLE_STEPS or len(begun) == IN_FLIGHT_MAX
        if begun and (must_end or source.random() < 0.5):
            keys.append(begun.pop(source.randrange(len(begun))))
            deltas.append(-1)
        else:
            begun.append(pick())
            keys.append(begun[-1])
            deltas.append(1)
    return Script(keys, deltas, None, _sizes(len(keys), workload.batch))


def _incr(workload: Workload, _connection: int, source: random.Random) -> Script:
    keys = [source.randrange(workload.keys) for _ in range(CYCLE_STEPS)]
    return Script(keys, [1] * CYCLE_STEPS, None, _sizes(CYCLE_STEPS, workload.batch))


def _mixed(workload: Workload, connection: int, source: random.Random) -> Script:
    """Three quarters incr and decr, 15 % get, 10 % apply, then everything down to zero."""
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

    while len(script.keys) < CYCLE_STEPS:
        draw = source.random()
        if draw < 0.15 and held:
            # Only keys that exist are read: what an absent one answers differs between the peers.
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
}
