"""The bar of overload: what a server still does when it is asked for twice what it can do.

The load is an open loop of `apply` with 300 keys over 50 connections. A call counts as good when its answer comes
within a second of the moment it was due. Like the client library, a connection has at most 1 024 requests on their
way; what waits longer than a second to be sent is given up and never sent. A refusal (`busy`) is no good answer, and
is not repeated here.

First the capacity is measured in a closed loop. The knee is a little below it: there nearly every call is good. Then
twice the knee is offered. A server that queues without end answers each call too late, and does nothing good any
more. For comparison the same is measured once with `busy_after_ms` 0, which turns the refusals off.

The capacity is measured again between the two and after them. Where it has changed, the machine became faster or
slower, and what was taken for the knee was not it: such a trial is INVALID (capacities of 6,620 to 10,869 within a
minute gave parts of 0.63 to 1.58). The generator writes what is due once a millisecond. A trial in which it came
late is INVALID as well.
"""

from __future__ import annotations

import asyncio
import statistics
import time
from collections import deque
from dataclasses import dataclass, field
from functools import partial
from time import monotonic
from typing import Final

import msgpack  # type: ignore[import-untyped]

from naught_loadtest.bars.bar import INVALID, REPORTED, Bar, Bench, at_least
from naught_loadtest.drivers.target import Target, parse_target
from naught_loadtest.measure.cores import pinned_to
from naught_loadtest.measure.rounds import spread, started

GROUP: Final = "overload"
CONNECTIONS: Final = 50
KEYS: Final = 300
# Requests of a connection on their way at most, as in a session.
WINDOW: Final = 1024
# The part of the capacity at which an open loop still gets nearly every answer in time.
KNEE_PART: Final = 0.9
GOOD_S: Final = 1.0
PART_MIN: Final = 0.9
TICK_S: Final = 0.001
# A tick that comes later than this was not the server's fault.
LATE_S_MAX: Final = 0.1
# The machine's speed has changed when the largest capacity of a round is more than this many times the least.
CAPACITY_SPREAD_MAX: Final = 1.12
# In each round, so that they are short: a shared machine changes its speed every few seconds.
TRIALS: Final = 6
# Of a round, this number must be valid.
VALID_MIN: Final = 3
PAUSE_S: Final = 0.2
# In a closed loop each connection has this number of requests in flight.
DEPTH: Final = 4


@dataclass(slots=True)
class Figures:
    """What a phase has counted, after its warm-up."""

    offered: int = 0
    good: int = 0
    late: int = 0
    refused: int = 0
    # Given up before they were sent.
    unsent: int = 0
    elapsed_s: float = 0.0
    # The longest time between two ticks.
    late_s: float = 0.0

    @property
    def goodput(self) -> float:
        """Good answers in a second."""
        return self.good / max(self.elapsed_s, 1e-9)


class _Connection(asyncio.Protocol):
    """One connection: requests on their way, in order, and those that are due and not sent."""

    def __init__(self, number: int) -> None:
        keys = [f"overload:{number}:{key}" for key in range(KEYS)]
        # Up and down in turns, so that values stay small. The msgid says nothing: replies come in order.
        self._requests = [bytes(msgpack.packb([0, 1, "apply", [keys, delta]])) for delta in (1, -1)]
        self._unpacker = msgpack.Unpacker(raw=True)
        self._turn = 0
        self._transport: asyncio.Transport | None = None
        self._writing = True
        self.on_their_way: deque[float] = deque()  # when each was due
        self.waiting: deque[float] = deque()
        self.figures = Figures()
        self.closed_loop = False

    def connection_made(self, transport: asyncio.BaseTransport) -> None:
        assert isinstance(transport, asyncio.Transport)
        self._transport = transport

    def pause_writing(self) -> None:
        self._writing = False

    def resume_writing(self) -> None:
        self._writing = True

    def send(self, now: float) -> None:
        """Write what is due, as far as the window allows. What is too old is given up."""
        pieces = []
        waiting = self.waiting
        while waiting and self._writing and len(self.on_their_way) < WINDOW:
            due = waiting.popleft()
            if now - due > GOOD_S:
                self.figures.unsent += 1
                continue
            self.on_their_way.append(due)
            pieces.append(self._requests[self._turn])
            self._turn ^= 1
        while waiting and now - waiting[0] > GOOD_S:
            waiting.popleft()
            self.figures.unsent += 1
        if pieces and self._transport is not None:
            self._transport.write(b"".join(pieces))

    def data_received(self, data: bytes) -> None:
        now = monotonic()
        self._unpacker.feed(data)
        figures = self.figures
        for _, _, error, _ in self._unpacker:
            due = self.on_their_way.popleft()
            if error is not None:
                figures.refused += 1
            elif now - due <= GOOD_S:
                figures.good += 1
            else:
                figures.late += 1
            if self.closed_loop:
                self.waiting.append(now)
        if self.closed_loop:
            self.send(now)

    def close(self) -> None:
        if self._transport is not None:
            self._transport.abort()


async def _connected(target: Target) -> list[_Connection]:
    loop = asyncio.get_running_loop()
    connections = []
    for number in range(CONNECTIONS):
        _, protocol = await loop.create_connection(partial(_Connection, number), target.host, target.port)
        connections.append(protocol)
    return connections


async def _capacity(target: Target, seconds: float) -> float:
    """Answers in a second, in a closed loop."""
    connections = await _connected(target)
    now = monotonic()
    for each in connections:
        each.closed_loop = True
        each.waiting.extend([now] * DEPTH)
        each.send(now)
    await asyncio.sleep(seconds / 2)
    before, began = sum(each.figures.good for each in connections), monotonic()
    await asyncio.sleep(seconds)
    rate = (sum(each.figures.good for each in connections) - before) / (monotonic() - began)
    for each in connections:
        each.close()
    return rate


async def _offer(target: Target, rate: float, seconds: float, warmup_s: float) -> Figures:
    """So many calls in a second, whatever becomes of them."""
    connections = await _connected(target)
    total = Figures()
    began = last = monotonic()
    due = began
    number = 0
    measured_from = began + warmup_s
    measuring = False
    while last < began + warmup_s + seconds:
        await asyncio.sleep(TICK_S)
        now = monotonic()
        if not measuring and now >= measured_from:
            measuring = True
            measured_from = now
            for each in connections:
                each.figures = Figures()
        if measuring:
            total.late_s = max(total.late_s, now - last)
        last = now
        while due <= now:
            connections[number % CONNECTIONS].waiting.append(due)
            total.offered += measuring
            number += 1
            due += 1 / rate
        for each in connections:
            each.send(now)
    total.elapsed_s = last - measured_from
    for each in connections:
        figures = each.figures
        total.good += figures.good
        total.late += figures.late
        total.refused += figures.refused
        total.unsent += figures.unsent
        each.close()
    return total


@dataclass(slots=True)
class Trial:
    """One time at the knee, and at twice the knee."""

    knee: Figures
    twice: Figures
    # Before, between and after the two.
    capacities: list[float]

    @property
    def part(self) -> float:
        """The goodput at twice the knee, as a part of that at the knee."""
        return self.twice.goodput / max(self.knee.goodput, 1e-9)

    @property
    def invalid(self) -> list[str]:
        """Why the figures must not be believed."""
        reasons = []
        late_s = max(self.knee.late_s, self.twice.late_s)
        if late_s > LATE_S_MAX:
            reasons.append(f"the generator was late by {late_s * 1000:.0f} ms")
        least, most = min(self.capacities), max(self.capacities)
        if most > least * CAPACITY_SPREAD_MAX:
            reasons.append(
                f"the capacity went from {least:,.0f} to {most:,.0f} a second: the machine's speed changed"
            )
        return reasons

    def __str__(self) -> str:
        return (
            f"capacity {self.capacities[0]:,.0f}/s, good at the knee {self.knee.goodput:,.0f}/s, at twice that "
            f"{self.twice.goodput:,.0f}/s ({self.part:.2f}x{', INVALID' if self.invalid else ''})"
        )


@dataclass(slots=True)
class Trials:
    """All of one setting."""

    trials: list[Trial] = field(default_factory=list)

    @property
    def valid(self) -> list[Trial]:
        return [each for each in self.trials if not each.invalid]


def _trial(target: Target, seconds: float) -> Trial:
    """On a server that runs. Between the phases the connections of the last one end."""
    capacities = [asyncio.run(_capacity(target, seconds / 2))]
    knee = capacities[0] * KNEE_PART
    time.sleep(PAUSE_S)
    at_knee = asyncio.run(_offer(target, knee, seconds, seconds / 2))
    time.sleep(PAUSE_S)
    capacities.append(asyncio.run(_capacity(target, seconds / 2)))
    time.sleep(PAUSE_S)
    at_twice = asyncio.run(_offer(target, knee * 2, seconds, seconds))
    time.sleep(PAUSE_S)
    capacities.append(asyncio.run(_capacity(target, seconds / 2)))
    return Trial(at_knee, at_twice, capacities)


def measure(bench: Bench) -> list[Bar]:
    """The bar, and the same without refusals."""
    seconds, count = (0.5, 1) if bench.quick else (1.5, TRIALS)
    busy, never = Trials(), Trials()
    for number in range(bench.rounds):
        with started("naught", bench.cores.server) as server, pinned_to(bench.cores.generator):
            for _ in range(count):
                trial = _trial(parse_target(server.url), seconds)
                busy.trials.append(trial)
                bench.say(f"round {number + 1}/{bench.rounds}  {trial}")
    arguments = ("--busy-after-ms", "0")
    with started("naught", bench.cores.server, arguments) as server, pinned_to(bench.cores.generator):
        trial = _trial(parse_target(server.url), seconds * 2)  # its queue takes longer to grow
        never.trials.append(trial)
        bench.say(f"never busy  {trial}")
    return [bar(busy, never)]


def bar(busy: Trials, never: Trials) -> Bar:
    """The bar of the trials with refusals; those without are shown beside."""
    valid = busy.valid
    parts = [each.part for each in valid]
    reasons = [reason for each in busy.trials for reason in each.invalid]
    verdict = at_least(statistics.median(parts), PART_MIN) if len(parts) >= VALID_MIN else INVALID
    notes = [f"{len(valid)} of {len(busy.trials)} trials are valid"]
    for name, trials in (("at twice the knee", busy), ("with busy_after_ms 0", never)):
        for each in trials.trials[:1]:
            twice = each.twice
            notes.append(
                f"{name}, first trial: {twice.goodput:,.0f} good a second of {twice.offered / twice.elapsed_s:,.0f}; "
                f"{twice.late:,} late, {twice.refused:,} refused, {twice.unsent:,} never sent"
            )
    notes.extend(f"with busy_after_ms 0: {each.part:.2f}x" for each in never.trials)
    return Bar(
        GROUP,
        "goodput at twice the knee, as a part of the knee's",
        f"at least {PART_MIN:g}x" if verdict != REPORTED else "",
        str(spread(parts)) if parts else "no valid trial",
        verdict,
        {"parts": parts, "never_busy": [each.part for each in never.trials]},
        [*notes, *dict.fromkeys(reasons[:3])],
    )
