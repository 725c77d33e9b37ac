"""`naught-loadtest demo`: what `make demo` shows to somebody who has never seen naught.

A server on a free port, counters going up and down for ten seconds from other processes, the report, and
the server stopped. Nothing is left running, whatever happens.
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
from naught_loadtest.measure.progress import Live
from naught_loadtest.measure.report import text_lines
from naught_loadtest.measure.result import Result

PROCESSES = 2


def configure(parser: argparse.ArgumentParser) -> None:
    """The arguments of `demo`."""
    parser.add_argument("--duration", type=float, default=10.0, metavar="S", help="default: %(default)g")
    parser.add_argument("--seed", type=int, default=1, help="default: %(default)s")


def execute(arguments: argparse.Namespace) -> int:
    """The whole demonstration. Its exit status."""
    print("naught is a counter server: a counter that reaches zero is gone.\n", flush=True)
    with naught_server() as server:
        print(f"{server.version} is up at {server.url} (process {server.pid})")
        plan = Plan(
            target=server.url,
            prefix=new_prefix(),
            duration_s=arguments.duration,
            processes=PROCESSES,
            seed=arguments.seed,
        )
        print(
            f"{plan.connections} connections from {PROCESSES} other processes take"
            f" {plan.workload.keys:,} counters up and down, again and again, for {plan.duration_s:g} s:\n",
            flush=True,
        )
        live = Live(sys.stdout)
        try:
            result = Run(plan, server_pid=server.pid, on_progress=live.show).execute()
        finally:
            live.end()
        print()
        for line in text_lines(result):
            print(line)
        server_status = server.stop()
    print()
    stopped = "The server stopped cleanly." if server_status == 0 else f"The server ended with {server_status}."
    print(stopped)
    good = server_status == 0 and _good(result)
    print("\n".join(_next_lines(good)))
    return status.OK if good else status.FAILED


def _good(result: Result) -> bool:
    check = result.verification
    return not result.failures and check is not None and check.passed and check.left == 0


def _next_lines(good: bool) -> Iterator[str]:
    if not good:
        yield "\nSomething is wrong: the lines above say what. This should not happen."
        return
    programs = _short(Path(sys.executable).parent)
    steps = (
        (f"{programs}naught-server", "a server of your own, on port 6480"),
        (f"{programs}naught-loadtest run --target naught://localhost", "load for it; --help says what else"),
        ("make bench", "how fast it is, beside Redis"),
        ("make test", "the tests"),
    )
    width = max(len(command) for command, _ in steps)
    yield "\nNext:"
    for command, purpose in steps:
        yield f"  {command:<{width}}   {purpose}"


def _short(directory: Path) -> str:
    """A directory as a person in the current one would write it, with a slash at its end."""
    if str(directory) in os.environ.get("PATH", "").split(os.pathsep):
        return ""
    relative = os.path.relpath(directory)
    return f"{relative}/" if not relative.startswith("..") else f"{directory}/"
