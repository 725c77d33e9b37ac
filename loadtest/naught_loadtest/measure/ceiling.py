"""The generator's ceiling: the most it can do on this machine, measured against a server that only echoes.

A throughput close to the ceiling says more about the generator than about the server, so reports show both. The echo
server costs time too, as it shares the kernel's work of moving bytes, so the true ceiling is somewhat higher.
"""

from __future__ import annotations

from naught_loadtest.drivers.servers import echo_server
from naught_loadtest.generate.plan import Plan
from naught_loadtest.generate.runner import Run, new_prefix
from naught_loadtest.measure.cores import Cores
from naught_loadtest.measure.rounds import Setting, Table, run_rounds, started

# The settings of the command `ceiling` and of the bars of capacity.
SETTINGS = [
    Setting("depth 1", 1),
    Setting("depth 16", 16),
    Setting("depth 100", 100),
    Setting("apply of 1000", 1, 1000),
]
WARMUP_S = 0.3


def ceilings(cores: Cores, base: Plan, settings: list[Setting]) -> Table:
    """One run against the echo server for each setting."""
    with started("echo", cores.server) as echo:
        return run_rounds([echo], settings, 1, base)


def ceiling_of(plan: Plan, duration_s: float) -> float:
    """Operations per second that the generator of this plan reaches with an echo server in the server's place."""
    with echo_server() as echo:
        changes = {"target": echo.url, "prefix": new_prefix(), "duration_s": duration_s, "warmup_s": WARMUP_S}
        return Run(Plan.from_json({**plan.to_json(), **changes})).execute().throughput


def ceiling_lines(table: Table) -> list[str]:
    """One line for each setting."""
    rows = []
    for (setting, contender), results in table.results.items():
        share = results[0].generator_share
        rate = table.throughput(setting, contender)
        rows.append(f"{setting:<16}{rate:>14,.0f} operations/s   generator {share:.0%} of a core")
    return rows
