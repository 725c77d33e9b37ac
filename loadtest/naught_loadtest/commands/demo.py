"""`naught-loadtest demo`: a first look at naught. `make demo` runs it.

It starts a server on a free port, takes counters up and down for ten seconds from other processes, prints the report,
and stops the server. Nothing is left running, even when the demonstration is interrupted or fails.
"""

from __future__ import annotations

import argparse
import os
import sys
from collections.abc import Iterator
from pathlib import Path

from naught_loadtest.commands import status
from naught_loadtest.drivers.servers import naught_server
from naught_loadtest.generate.plan import Plan
from naught_loadtest.generate.runner import Run, new_prefix
from naught_loadtest.measure.progress import ProgressLine
from naught_loadtest.measure.report import paragraph, text_lines
from naught_loadtest.measure.result import Result

PROCESSES = 2


def configure(parser: argparse.ArgumentParser) -> None:
    """Add the arguments of `demo`."""
    parser.add_argument("--duration", type=float, default=10.0, metavar="S", help="default: %(default)g")
    parser.add_argument("--seed", type=int, default=1, help="default: %(default)s")


def execute(arguments: argparse.Namespace) -> int:
    """Run the whole demonstration. Returns the exit status."""
    print("naught is a counter server: a counter that reaches zero is gone.\n", flush=True)
    with naught_server(arguments=("--http-port", "0")) as server:
        print(f"{server.version} is up at {server.url} (process {server.pid})")
        print(f"Its page, while it runs: {server.page}")
        plan = Plan(
            target=server.url,
            prefix=new_prefix(),
            duration_s=arguments.duration,
            processes=PROCESSES,
            seed=arguments.seed,
        )
        load = (
            f"{plan.connections} connections from {PROCESSES} other processes take"
            f" {plan.workload.keys:,} counters up and down, again and again, for {plan.duration_s:g} s:"
        )
        print(f"{paragraph(load)}\n", flush=True)
        line = ProgressLine(sys.stdout)
        try:
            result = Run(plan, server_pid=server.pid, on_progress=line.show).execute()
        finally:
            line.end()
        print()
        print("\n".join(text_lines(result)))
        server_status = server.stop()
    print()
    if server_status == 0:
        print("The server stopped cleanly.")
    else:
        print(f"The server ended with status {server_status}.")
    good = server_status == 0 and _is_good(result)
    print("\n".join(_closing_lines(good)))
    return status.OK if good else status.FAILED


def _is_good(result: Result) -> bool:
    check = result.verification
    honest = not (result.failures or result.other_failures or result.wrong)
    return honest and check is not None and check.left == 0


def _closing_lines(good: bool) -> Iterator[str]:
    """What to do next, or that something went wrong."""
    if not good:
        yield "\nSomething is wrong: the lines above say what. This should not happen."
        return
    programs = _short(Path(sys.executable).parent)
    steps = (
        (f"{programs}naught-server", "a server; its page is http://localhost:6481/"),
        (f"{programs}naught-loadtest run", "load for it; --help lists the options"),
        ("make demo DEMO_SECONDS=60", "this again, with time to open the page"),
        ("make bench", "how fast it is, compared with Redis"),
        ("make test", "the tests"),
    )
    width = max(len(command) for command, _ in steps)
    yield "\nNext:"
    for command, purpose in steps:
        yield f"  {command:<{width}}   {purpose}"


def _short(directory: Path) -> str:
    """The shortest prefix with which programs of this directory can be called: empty where it is on PATH."""
    if str(directory) in os.environ.get("PATH", "").split(os.pathsep):
        return ""
    relative = os.path.relpath(directory)
    return f"{relative}/" if not relative.startswith("..") else f"{directory}/"
