"""Load, faults and checks together, for as long as one likes. `make soak` runs it.

    python tests/soak/soak.py --seconds 3600 [--seed N]

Two servers are under load from clients of this process. Every connection goes through a proxy that breaks it after
some bytes. One server is killed now and then and started again; the other one lives as long as the run, so that its
memory can be compared. Rounds of some seconds follow one another. In a round callers

    count        each on a counter of its own, and compare every answer with what they know
    record       calls on a few shared counters, for the judge of histories
    hold         permits of a semaphore, of which there must never be more than there are
    let expire   counters with a time to live

and faults are injected: cut, half-open and silent connections, a server that is stopped or killed, peers that send
garbage, half messages or nothing, that never read, or that come in a mass. At the end of a round everything is calm,
and compared: counters with what was acknowledged, histories, holds, waits, what the servers have left.

It reports operations, faults injected, lost, doubled, and the drift of memory. The exit status is 1 where anything
was lost or doubled, a history cannot be explained, something was left, or memory drifted.
"""

from __future__ import annotations

import argparse
import asyncio
import contextlib
import os
import random
import signal
import sys
import tempfile
import time
from collections import Counter
from collections.abc import Awaitable, Callable
from pathlib import Path
from typing import Final

if __name__ == "__main__":
    os.environ.setdefault("NAUGHT_PURE", "1")
    sys.path.insert(0, str(Path(__file__).parents[1]))

import naught
from naught.wire.codec import encode_request
from naught_loadtest.drivers.servers import reserved_port
from support.histories import History
from support.proxy import Proxy
from support.server_process import MIB, ServerProcess

ROUND_S: Final = 6.0
CLIENTS: Final = 4
COUNTING: Final = 8
"""Callers of each client that count on a counter of their own."""

RECORDED: Final = 120
"""Calls of a round that are recorded, on each server. More would take the judge long."""

SHARED: Final = [f"shared:{number}" for number in range(3)]
PERMITS: Final = 3
CALM_S: Final = 60.0
"""A round that does not come to rest in this time has failed."""

DRIFT_BYTES_MAX: Final = 8 * MIB
"""Growth of the server that lives, from the end of the second round to the end of the run. Rounds are alike, so what
grows with their number is a leak."""


class Figures:
    """What the run reports."""

    def __init__(self) -> None:
        self.operations = 0  # calls that were answered
        self.unknown = 0  # calls whose outcome is unknown
        self.faults: Counter[str] = Counter()  # injected, by kind
        self.lost = 0  # acknowledged changes that a counter does not have
        self.doubled = 0  # changes that a counter has beyond those that were made
        self.violations: list[str] = []  # anything else that must not be
        self.judged = 0  # operations of histories that were explained
        self.resident: list[int] = []  # of the server that lives, at the end of each round

    @property
    def drift_bytes(self) -> int:
        """How much the memory has grown since the second round."""
        return self.resident[-1] - self.resident[1] if len(self.resident) > 2 else 0

    @property
    def is_good(self) -> bool:
        """Whether nothing was violated."""
        return not (self.lost or self.doubled or self.violations) and self.drift_bytes <= DRIFT_BYTES_MAX

    def report(self, elapsed_s: float, rounds: int, seed: int) -> str:
        """All of it, as lines."""
        kinds = ", ".join(f"{count} {kind}" for kind, count in sorted(self.faults.items()))
        lines = [
            f"seed               {seed}",
            f"time               {elapsed_s:.0f} s, {rounds} rounds",
            f"operations         {self.operations:,} answered, {self.unknown:,} with an unknown outcome",
            f"faults injected    {self.faults.total():,}: {kinds}",
            f"lost               {self.lost}",
            f"doubled            {self.doubled}",
            f"histories          {self.judged:,} operations explained",
            f"memory             {self.resident[-1] / MIB:.1f} MiB, drift {self.drift_bytes / MIB:+.2f} MiB",
            f"violations         {len(self.violations)}",
        ]
        return "\n".join([*lines, *(f"  {each}" for each in self.violations[:20])])


class Own:
    """A counter that one caller counts on: what it must be."""

    def __init__(self) -> None:
        self.least = 0  # acknowledged
        self.most = 0  # with those whose outcome is unknown

    def forget(self) -> None:
        """The server was killed: the counter is gone."""
        self.least = 0


class Side:
    """One server, its proxy, and the clients that are at work on it."""

    def __init__(self, name: str, folder: Path, port: int, seed: int, figures: Figures) -> None:
        self.name = name
        self._folder = folder
        self._port = port
        self._seed = seed
        self._figures = figures
        self.server = self._start()
        self.random = random.Random(f"{seed} {name}")
        self.generation = 0  # how often the server was started again
        self.history = History()
        self._owns: dict[str, Own] = {}  # of this round

    def _start(self) -> ServerProcess:
        with contextlib.suppress(FileNotFoundError):
            (self._folder / "ports.json").unlink()
        return ServerProcess(self._folder, "--port", str(self._port), "--log-level", "warning")

    @property
    def url(self) -> str:
        """Of the server, without the proxy."""
        return f"naught://127.0.0.1:{self._port}"

    def violated(self, what: str) -> None:
        """Something is not as it must be."""
        self._figures.violations.append(f"{self.name}: {what}")

    # -- callers

    async def count(self, client: naught.Client, key: str, own: Own, until: float) -> None:
        """Add to a counter of its own, and compare each answer."""
        while time.monotonic() < until:
            generation = self.generation
            own.most += 1
            try:
                value = await client.incr(key)
            except naught.OutcomeUnknown:
                self._figures.unknown += 1
                continue
            except naught.NaughtError:
                own.most -= 1
                continue
            self._figures.operations += 1
            if generation != self.generation:
                continue  # answered by the server that was killed, or by the next one
            own.least += 1
            if value < own.least:
                self._figures.lost += own.least - value
                own.least = value
            if value > own.most:
                self._figures.doubled += value - own.most
            own.least = own.most = value

    async def record(self, client: naught.Client, who: str, until: float) -> None:
        """Make recorded calls on shared counters."""
        draw = random.Random(f"{self._seed} {who} {until}")
        for _ in range(RECORDED // CLIENTS):
            if time.monotonic() >= until:
                break
            await self.history.call(client, draw, draw.choice(SHARED), who)
            await asyncio.sleep(draw.random() * ROUND_S * CLIENTS / RECORDED)

    async def hold(self, client: naught.Client, until: float) -> None:
        """Take a permit, and give it back. Never do more callers have one than there are."""
        semaphore = client.semaphore("permits", limit=PERMITS)
        while time.monotonic() < until:
            with contextlib.suppress(naught.NaughtError):
                permit = await semaphore.acquire(timeout=1.0)
                try:
                    if not permit.lost:
                        await asyncio.sleep(0.01)
                finally:
                    await permit.release()
                self._figures.operations += 2

    async def let_expire(self, client: naught.Client, until: float) -> None:
        """Create counters that expire in this round."""
        number = 0
        while time.monotonic() < until:
            number += 1
            with contextlib.suppress(naught.NaughtError):
                await client.apply([f"mortal:{number}:{item}" for item in range(50)], 1, ttl_ms=300)
                self._figures.operations += 50
            await asyncio.sleep(0.02)

    # -- faults

    async def inject(self, proxy: Proxy, until: float, kills: bool) -> None:
        """One fault after the other, drawn."""
        faults: dict[str, Callable[[Proxy], Awaitable[None]]] = {
            "cut": self._cut,
            "half open": self._half_open,
            "silent": self._silent,
            "stopped": self._stop,
            "garbage": self._garbage,
            "unread": self._unread,
            "mass": self._mass,
            "reread": self._reread,
        }
        if kills:
            faults["killed"] = self._kill
        while True:
            await asyncio.sleep(self.random.uniform(0.1, 0.5))
            if time.monotonic() >= until:
                return
            kind = self.random.choice(list(faults))
            self._figures.faults[kind] += 1
            await faults[kind](proxy)

    async def _cut(self, proxy: Proxy) -> None:
        proxy.cut()

    async def _half_open(self, proxy: Proxy) -> None:
        proxy.cut_the_clients_side()

    async def _silent(self, proxy: Proxy) -> None:
        proxy.swallow()

    async def _stop(self, proxy: Proxy) -> None:
        self.server.process.send_signal(signal.SIGSTOP)
        try:
            await asyncio.sleep(self.random.uniform(0.05, 1.0))
        finally:
            self.server.process.send_signal(signal.SIGCONT)

    async def _kill(self, proxy: Proxy) -> None:
        self.generation += 1
        called = time.monotonic()
        self.server.kill()
        for own in self._owns.values():
            own.forget()
        self.history.crash(SHARED, called)
        self.server = await asyncio.get_running_loop().run_in_executor(None, self._start)

    async def _reread(self, proxy: Proxy) -> None:
        self.server.process.send_signal(signal.SIGHUP)

    async def _garbage(self, proxy: Proxy) -> None:
        await self._send(self.random.choice([self.random.randbytes(500), b"\xdd\xff\xff\xff\xff", b"\x91" * 9_000]))

    async def _send(self, data: bytes, *, linger_s: float = 0.05) -> None:
        """A peer that sends bytes, reads nothing and goes."""
        with contextlib.suppress(OSError):
            _, writer = await asyncio.open_connection("127.0.0.1", self._port, limit=1 << 10)
            writer.write(data)
            await asyncio.sleep(linger_s)
            writer.transport.abort()

    async def _unread(self, proxy: Proxy) -> None:
        await self._send(encode_request(1, "scan", (0, 2_000, b"")) * 400, linger_s=0.5)

    async def _mass(self, proxy: Proxy) -> None:
        hello = encode_request(1, "hello", ({"session": True, "lease_ms": 100},))
        half = encode_request(2, "acquire", ([[b"mass", 1, 1_000_000]],)) + encode_request(3, "get", (b"k",))[:5]
        await asyncio.gather(*(self._send(hello + half) for _ in range(100)))

    # -- a round

    async def round(self, number: int, *, kills: bool) -> None:
        """Load and faults for some seconds, then calm, then compare."""
        figures = self._figures
        until = time.monotonic() + ROUND_S
        self.history = History()
        self._owns = owns = {
            f"own:{number}:{client}:{at}": Own() for client in range(CLIENTS) for at in range(COUNTING)
        }
        async with contextlib.AsyncExitStack() as stack:
            proxy = await stack.enter_async_context(Proxy(self._port, self.random.randrange(1 << 30), 60_000))
            clients = [
                await stack.enter_async_context(naught.connect(proxy.url, timeout=CALM_S, lease=5.0))
                for _ in range(CLIENTS)
            ]
            work: list[Awaitable[None]] = [self.inject(proxy, until, kills)]
            for key, own in owns.items():
                work.append(self.count(clients[int(key.split(":")[2])], key, own, until))
            for at, client in enumerate(clients):
                work += [self.record(client, str(at), until), self.let_expire(client, until)]
                work += [self.hold(client, until) for _ in range(3)]
            await asyncio.gather(*work)
            figures.faults["cut by the proxy"] += proxy.cuts
            proxy.calm()
            await self._compare(owns, clients[0])
        await self._come_to_rest()

    async def _compare(self, owns: dict[str, Own], client: naught.Client) -> None:
        """Counters with what their callers know, and the histories."""
        figures = self._figures
        values = await client.take(list(owns))
        for (key, own), value in zip(owns.items(), values, strict=True):
            if value < own.least:
                figures.lost += own.least - value
                self.violated(f"{key} is {value}, and {own.least} were acknowledged")
            if value > own.most:
                figures.doubled += value - own.most
                self.violated(f"{key} is {value}, and {own.most} were made")
        await client.take(SHARED)
        wrong = self.history.explain()
        for key, why in wrong.items():
            self.violated(f"no order explains {key}: {why}")
        if not wrong:
            figures.judged += len(self.history.operations)
        figures.operations += len(self.history.operations)

    async def _come_to_rest(self) -> None:
        """When all clients are gone nothing is left of them."""
        end = time.monotonic() + CALM_S
        async with naught.connect(self.url, timeout=CALM_S) as asking:
            while True:
                info = await asking.info()
                left = await asking.count()
                sessions = info["sessions"]
                if not left and sessions["open"] == 1 and not sessions["holds"] and not sessions["parked"]:
                    break
                if time.monotonic() > end:
                    keys = [key async for key, _ in asking.scan_iter()]
                    self.violated(f"{left} counters are left, {sessions}: {keys[:5]}")
                    await asking.clear()
                    break
                await asyncio.sleep(0.1)
        if "Traceback" in self.server.log():
            self.violated(f"its log has a traceback: {self.server.log()[-2_000:]}")


async def soak(seconds: float, seed: int, figures: Figures) -> int:
    """Rounds until the time is over. Returns how many."""
    end = time.monotonic() + seconds
    rounds = 0
    with contextlib.ExitStack() as ending:
        sides = []
        for name in ("the server that lives", "the server that is killed"):
            folder = Path(ending.enter_context(tempfile.TemporaryDirectory()))
            side = Side(name, folder, ending.enter_context(reserved_port()), seed, figures)
            ending.callback(lambda side=side: side.server.kill())  # type: ignore[misc]
            sides.append(side)
        while not rounds or time.monotonic() + ROUND_S < end:
            rounds += 1
            await asyncio.gather(*(side.round(rounds, kills=at == 1) for at, side in enumerate(sides)))
            await asyncio.sleep(1.2)  # the server returns memory at most once a second
            figures.resident.append(sides[0].server.resident_bytes())
            print(
                f"round {rounds}: {figures.operations:,} operations, {figures.faults.total():,} faults, "
                f"lost {figures.lost}, doubled {figures.doubled}, {figures.resident[-1] / MIB:.1f} MiB",
                flush=True,
            )
        for side in sides:
            side.server.process.terminate()
            if side.server.process.wait(30) != 0:
                side.violated("it did not end well")
    return rounds


def main() -> int:
    """Run, and report. Returns the exit status."""
    parser = argparse.ArgumentParser(description=__doc__.splitlines()[0])
    parser.add_argument("--seconds", type=float, default=3600)
    parser.add_argument("--seed", type=int, default=random.SystemRandom().randrange(2**32))
    given = parser.parse_args()
    print(f"seed {given.seed}", flush=True)
    figures = Figures()
    began = time.monotonic()
    rounds = asyncio.run(soak(given.seconds, given.seed, figures))
    print(figures.report(time.monotonic() - began, rounds, given.seed))
    return 0 if figures.is_good else 1


if __name__ == "__main__":
    sys.exit(main())
