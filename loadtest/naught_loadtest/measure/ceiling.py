"""The generator's ceiling: the most it can do on this machine, measured against a server that only echoes.

A throughput close to the ceiling says more about the generator than about the server, so reports show both. The echo
server costs time too, as it shares the kernel's work of moving bytes, so the true ceiling is somewhat higher.
"""

from __future__ import annotations

from naught_loadtest.drivers.servers import echo_server
from naught_loadtest.generate.plan import Plan
from naught_loadtest.generate.runner import Run, new_prefix
from naught_loadtest.measure.cores import Cores
from naught_loadtest.measure.result import Result
from naught_loadtest.measure.rounds import Setting, Table, run_rounds, started

# The settings of the command `ceiling` and of the bars of capacity.
SETTINGS = [
    Setting("depth 1", 1),
    Setting("depth 16", 16),
    Setting("depth 100", 100),
    Setting("apply of 1000", 1, 1000),
]
WARMUP_S = 0.3
# How long the generator is measured before a run, and again after it.
CEILING_S = 0.5


def ceilings(cores: Cores, base: Plan, settings: list[Setting]) -> Table:
    """One run against the echo server for each setting."""
    with started("echo", cores.server) as echo:
        return run_rounds([echo], settings, 1, base)


class Ceiling:
    """The ceiling of one run's generator, measured before the run and after it: the machine may change meanwhile."""

    def __init__(self, plan: Plan) -> None:
        self._plan = plan
        # What the generator reached with an echo server in the server's place, each time.
        self._results: list[Result] = []

    def measure(self) -> None:
        """Measure once."""
        with echo_server() as echo:
            changes = {"target": echo.url, "prefix": new_prefix(), "duration_s": CEILING_S, "warmup_s": WARMUP_S}
            plan = Plan.from_json({**self._plan.to_json(), **changes})
            self._results.append(Run(plan, server_pid=echo.pid).execute())

    def judge(self, result: Result) -> None:
        """Note the ceiling in the result of the run."""
        result.judge_by_ceiling(self._results)


def ceiling_lines(table: Table) -> list[str]:
    """One line for each setting."""
    rows = []
    for (setting, contender), results in table.results.items():
        share = results[0].generator_share
        rate = table.throughput(setting, contender)
        rows.append(f"{setting:<16}{rate:>14,.0f} operations/s   generator {share:.0%} of a core")
    return rows
