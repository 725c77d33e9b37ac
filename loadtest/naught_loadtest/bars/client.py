"""The bar of the client library: calls a second of 100 tasks in one process, beside redis-py and valkey-glide.

Each client runs in a process of its own, from a script in `loadtest/peers` of the checkout (an installed package
has none, as nothing here may import another library). They are alike: 100 tasks, each taking its own counter
up and down, every call with a deadline of one second.
"""

from __future__ import annotations

import json
import os
import statistics
import subprocess
import sys
from pathlib import Path

from naught_loadtest.bars.bar import REPORTED, Bar, Bench, at_least, skipped
from naught_loadtest.processes import MissingProgramError, held_to
from naught_loadtest.rounds import Spread, spread, started

GROUP = "client"
BAR = 12.0
TASKS = 100
# Script, the server it drives, and how people call it.
CLIENTS = (
    ("naught_client.py", "naught", "naught.connect"),
    ("redis_py_client.py", "redis", "redis-py asyncio"),
    ("glide_client.py", "redis", "valkey-glide"),
)
PEERS_FOLDER = Path(__file__).resolve().parents[2] / "peers"
# What a script says when its library is not installed.
NOT_INSTALLED_STATUS = 77


def measure(bench: Bench) -> list[Bar]:
    """The bar of the client, and valkey-glide beside it."""
    if not PEERS_FOLDER.is_dir():
        return [skipped(GROUP, "client calls", "needs the checkout: there is no loadtest/peers folder here")]
    rates: dict[str, list[float]] = {}
    absent: dict[str, str] = {}
    try:
        with started("naught", bench.cores.server) as naught, started("redis", bench.cores.server) as redis:
            urls = {"naught": naught.url, "redis": redis.url}
            for number in range(bench.rounds):
                turn = number % len(CLIENTS)
                for script, server, name in CLIENTS[turn:] + CLIENTS[:turn]:
                    if name in absent:
                        continue
                    outcome = _run(script, urls[server], bench)
                    if isinstance(outcome, str):
                        absent[name] = outcome
                        continue
                    rates.setdefault(name, []).append(outcome)
                    bench.say(f"round {number + 1}/{bench.rounds}  {name:<18} {outcome:>11,.0f} calls/s")
    except MissingProgramError as error:
        return [skipped(GROUP, "client calls", str(error))]
    return _bars(rates, absent)


def _run(script: str, url: str, bench: Bench) -> float | str:
    """Calls a second, or why there are none."""
    words = [sys.executable, str(PEERS_FOLDER / script), url, str(TASKS), "1" if bench.quick else "3"]
    path = os.pathsep.join(folder for folder in sys.path if folder)
    with held_to(bench.cores.generator):
        done = subprocess.run(
            words, capture_output=True, text=True, check=False, timeout=60, env={**os.environ, "PYTHONPATH": path}
        )
    if done.returncode:
        said = done.stderr.strip().splitlines() or [f"status {done.returncode}"]
        return said[-1] if done.returncode == NOT_INSTALLED_STATUS else f"failed: {said[-1]}"
    rate: float = json.loads(done.stdout)["calls_per_s"]
    return rate


def _bars(rates: dict[str, list[float]], absent: dict[str, str]) -> list[Bar]:
    mine = rates.get("naught.connect")
    if mine is None:
        return [skipped(GROUP, "client calls", f"naught.connect: {absent['naught.connect']}")]
    bars = []
    for _, _, name in CLIENTS[1:]:
        what = f"calls of {TASKS} tasks against {name}"
        its = rates.get(name)
        if its is None:
            bars.append(skipped(GROUP, what, absent[name]))
            continue
        ratio = _ratio(mine, its)
        asked = name == "redis-py asyncio"
        bars.append(
            Bar(
                GROUP,
                what,
                f"at least {BAR:g}x" if asked else "",
                str(ratio),
                at_least(ratio.median, BAR) if asked else REPORTED,
                {"ratio": ratio.to_json(), "naught_calls_per_s": mine, "peer_calls_per_s": its},
                [f"naught {statistics.median(mine):,.0f} calls/s, {name} {statistics.median(its):,.0f}"],
            )
        )
    return bars


def _ratio(mine: list[float], its: list[float]) -> Spread:
    return spread([one / other for one, other in zip(mine, its, strict=True)])
