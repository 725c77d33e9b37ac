"""`naught-loadtest run`: one run against a server that is already running.

Without --rate the run is a closed loop and measures capacity. With --rate it is an open loop and measures latency:
requests are due at fixed moments, and a request that had to wait is charged with its wait.
"""

from __future__ import annotations

import argparse
import random
import sys

from naught_loadtest.commands import status
from naught_loadtest.commands.outputs import add_csv_argument, add_html_argument, check_outputs, write_outputs
from naught_loadtest.generate.plan import (
    BATCH_MAX,
    CONNECTIONS_DEFAULT,
    DURATION_S_DEFAULT,
    TIMEOUT_S_DEFAULT,
    WARMUP_S_DEFAULT,
    Plan,
    staged_rate,
)
from naught_loadtest.generate.runner import Run, new_prefix
from naught_loadtest.generate.schedule import ARRIVALS, Stage, parse_stages
from naught_loadtest.generate.workload import SCENARIOS
from naught_loadtest.measure.ceiling import ceiling_of
from naught_loadtest.measure.progress import ProgressLine
from naught_loadtest.measure.report import text_lines, text_stream, to_json, write_hgrm, write_json
from naught_loadtest.measure.result import Result
from naught_loadtest.measure.slo import Objective, allow_errors, parse
from naught_loadtest.measure.stages import stage_lines

# Seeds that are drawn at random lie below this.
SEED_MAX = 1 << 31
# How long the generator is measured against an echo server after a run.
CEILING_S = 1.0


def add_load_arguments(parser: argparse.ArgumentParser) -> None:
    """Add the arguments that describe a load, which `run` and `search` share."""
    add = parser.add_argument
    add(
        "--target",
        required=True,
        metavar="URL",
        help="naught://host:port/cache, naught-session://, naught+unix:///path.sock, memcached://host:port,"
        " redis://host:port, and the same deleting at zero: redis-lua://, redis-function://, valkey-delifeq://,"
        " redis-delex://",
    )
    add("--scenario", choices=SCENARIOS, default="churn", help="which counters change, and how (%(default)s)")
    add("-c", "--connections", type=int, default=CONNECTIONS_DEFAULT, metavar="N", help="(%(default)s)")
    add(
        "-B",
        "--batch",
        type=int,
        default=1,
        metavar="N",
        help=f"counters in each request, 1 to {BATCH_MAX} (%(default)s)",
    )
    add("--arrival", choices=ARRIVALS, default="constant", help="open loop: gaps between requests (%(default)s)")
    add("--duration", type=float, default=DURATION_S_DEFAULT, metavar="S", help="measured time (%(default)g)")
    add("--warmup", type=float, default=WARMUP_S_DEFAULT, metavar="S", help="not in the figures (%(default)g)")
    add("--processes", type=int, default=1, metavar="N", help="load processes (%(default)s)")
    add("--keys", type=int, default=0, metavar="N", help="most counters at a time (default: by scenario)")
    add("--seed", type=int, help="makes a run repeatable (default: random, and printed)")
    add(
        "--timeout",
        type=float,
        default=TIMEOUT_S_DEFAULT,
        metavar="S",
        help="a request answered later has timed out (%(default)g)",
    )
    add("--json", metavar="FILE", help="the report as JSON; - for standard output")


def configure(parser: argparse.ArgumentParser) -> None:
    """Add the arguments of `run`."""
    add_load_arguments(parser)
    add = parser.add_argument
    add("-P", "--pipeline", type=int, default=1, metavar="N", help="requests in flight on each connection (1)")
    add("--rate", type=float, metavar="N", help="open loop: requests per second of all connections together")
    add("--stages", type=stages, metavar="10s@1000,1m@5000", help="open loop: rates, one after another")
    add("--hgrm", metavar="FILE", help="the latency distribution, for HdrHistogram's plotter")
    add_csv_argument(parser)
    add_html_argument(parser)
    add(
        "--slo",
        type=objective,
        action="append",
        default=[],
        metavar="'p99<2ms'",
        help="an objective, also errors<0.1%% or rate>50000; repeatable; a missed one makes the exit status 99",
    )
    add(
        "--verify",
        action=argparse.BooleanOptionalAction,
        default=True,
        help="compare the counters with what was acknowledged",
    )
    add(
        "--ceiling",
        action=argparse.BooleanOptionalAction,
        default=True,
        help="closed loop: also measure this generator against an echo server",
    )
    add("--keep", action="store_true", help="do not delete the run's counters afterwards")
    add("--server-pid", type=int, metavar="PID", help="a server on this machine: report how busy it was")


def objective(text: str) -> Objective:
    """An objective as an argparse type: what is wrong with it becomes a usage error."""
    try:
        return parse(text)
    except ValueError as error:
        raise argparse.ArgumentTypeError(str(error)) from None


def stages(text: str) -> list[Stage]:
    """An argparse type: the stages of a load."""
    try:
        return parse_stages(text)
    except ValueError as error:
        raise argparse.ArgumentTypeError(str(error)) from None


def rate_changes(arguments: argparse.Namespace) -> dict[str, object]:
    """The rate of the load and how long it takes, as fields of a plan."""
    if arguments.stages is None:
        return {"rate": arguments.rate}
    if arguments.rate is not None or arguments.duration != DURATION_S_DEFAULT:
        raise ValueError("--stages says the rates and how long they last, so --rate and --duration cannot go with it")
    rate, duration_s = staged_rate(arguments.stages)
    return {"stages": arguments.stages, "rate": rate, "duration_s": duration_s}


def plan_of(arguments: argparse.Namespace, **changes: object) -> Plan:
    """The plan that the arguments describe. ValueError says what is wrong with them."""
    seed = arguments.seed if arguments.seed is not None else random.randrange(SEED_MAX)
    settings = {
        "target": arguments.target,
        "prefix": new_prefix(),
        "scenario": arguments.scenario,
        "connections": arguments.connections,
        "batch": arguments.batch,
        "arrival": arguments.arrival,
        "duration_s": arguments.duration,
        "warmup_s": arguments.warmup,
        "processes": arguments.processes,
        "keys": arguments.keys,
        "seed": seed,
        "timeout_s": arguments.timeout,
        **changes,
    }
    return Plan.from_json(settings)


def execute(arguments: argparse.Namespace) -> int:
    """Run the whole command. Returns the exit status."""
    plan = plan_of(arguments, pipeline=arguments.pipeline, **rate_changes(arguments))
    check_outputs(arguments)
    out = text_stream(arguments.json)
    print(f"{plan}\n", file=out, flush=True)
    line = ProgressLine(sys.stderr)
    try:
        result = Run(
            plan,
            server_pid=arguments.server_pid,
            check=arguments.verify,
            clean=not arguments.keep,
            on_progress=line.show,
        ).execute()
    finally:
        line.end()
    if arguments.ceiling and not plan.open_loop:
        result.ceiling = ceiling_of(plan, CEILING_S)
    print(file=out)
    print("\n".join([*text_lines(result, arguments.slo), *stage_lines(plan.stages, result.series)]), file=out)
    document = to_json(result, arguments.slo)
    if arguments.json:
        write_json(document, arguments.json)
    write_outputs(arguments, document)
    if arguments.hgrm:
        write_hgrm(result.response, arguments.hgrm)
    return exit_status(result, arguments.slo)


def exit_status(result: Result, objectives: list[Objective]) -> int:
    """The exit status of a run. Wrong answers outrank INVALID figures, and these outrank missed objectives."""
    failed = bool(result.not_verified or (result.failures and not allow_errors(objectives)))
    if failed or (result.verification is not None and not result.verification.passed):
        return status.FAILED
    if result.invalid:
        return status.INVALID
    if not all(each.judge(result)[0] for each in objectives):
        return status.OBJECTIVE_MISSED
    return status.OK
