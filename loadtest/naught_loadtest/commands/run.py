"""`naught-loadtest run`: one run against a server that is already running.

Without --rate the run is a closed loop and measures capacity. With --rate it is an open loop and measures latency:
requests are due at fixed moments, and a request that had to wait is charged with its wait.
"""

from __future__ import annotations

import argparse
import random
import sys

from naught_loadtest.commands import status
from naught_loadtest.commands.outputs import add_csv_argument, add_html_argument, write_outputs
from naught_loadtest.drivers.target import default_target, without_its_secret
from naught_loadtest.generate.plan import (
    BATCH_MAX,
    CONNECTIONS_DEFAULT,
    DURATION_S_DEFAULT,
    TIMEOUT_S_DEFAULT,
    WARMUP_S_DEFAULT,
    Plan,
    staged_rate,
)
from naught_loadtest.generate.runner import Run, new_prefix, reach
from naught_loadtest.generate.schedule import ARRIVALS, Stage, parse_stages
from naught_loadtest.generate.workload import SCENARIOS
from naught_loadtest.measure.ceiling import Ceiling
from naught_loadtest.measure.progress import ProgressLine
from naught_loadtest.measure.report import paragraph, text_lines, text_stream, to_json, write_hgrm, write_json
from naught_loadtest.measure.result import Result
from naught_loadtest.measure.slo import Objective, allow_errors, parse
from naught_loadtest.measure.stages import stage_lines
from naught_loadtest.processes import first_interrupt

# Seeds that are drawn at random lie below this.
SEED_MAX = 1 << 31


def add_load_arguments(parser: argparse.ArgumentParser) -> None:
    """Add the arguments that describe a load, which `run` and `search` share."""
    add = parser.add_argument
    add(
        "--target",
        metavar="URL",
        help="the server (default: NAUGHT_URL, or naught://localhost);"
        " naught://user@host:port/cache (its secret in NAUGHT_SECRET), naughts:// with TLS, naught-session://,"
        " naughts-session://, naught+unix:///path.sock, memcached://host:port,"
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


def add_pipeline_argument(parser: argparse.ArgumentParser) -> None:
    """Add `-P`."""
    parser.add_argument(
        "-P",
        "--pipeline",
        type=int,
        default=1,
        metavar="N",
        help="requests in flight on each connection, with a rate at most (%(default)s)",
    )


def configure(parser: argparse.ArgumentParser) -> None:
    """Add the arguments of `run`."""
    add_load_arguments(parser)
    add = parser.add_argument
    add_pipeline_argument(parser)
    add("--rate", type=float, metavar="N", help="open loop: requests per second of all connections together")
    add("--stages", type=stages, metavar="10s@1000,1m@5000", help="open loop: rates, one after another")
    add(
        "--hgrm",
        metavar="FILE",
        help="the latencies in us, for HdrHistogram's plotter; open loop: also FILE with .service",
    )
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
    add(
        "--server-pid",
        type=int,
        metavar="PID",
        help="the server's process (default: the one that listens there, on this machine)",
    )


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
        "target": without_its_secret(arguments.target or default_target()),
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
    out = text_stream(arguments.json)
    print(f"{paragraph(str(plan))}\n", file=out, flush=True)
    # Before the ceiling is measured: a server that is not there is said at once.
    reach(plan.parsed_target)[0].close()
    ceiling = Ceiling(plan) if arguments.ceiling and not plan.open_loop else None
    if ceiling is not None:
        ceiling.measure()
    result = _load(plan, arguments)
    if ceiling is not None:
        if not result.cut_short:
            ceiling.measure()
        ceiling.judge(result)
    print(file=out)
    print("\n".join([*text_lines(result, arguments.slo), *stage_lines(plan.stages, result.series)]), file=out)
    document = to_json(result, arguments.slo)
    if arguments.json:
        write_json(document, arguments.json)
    write_outputs(arguments, document)
    if arguments.hgrm:
        write_hgrm(result, arguments.hgrm)
    return exit_status(result, arguments.slo)


def _load(plan: Plan, arguments: argparse.Namespace) -> Result:
    """The run itself. The first Ctrl-C ends it early."""
    line = ProgressLine(sys.stderr)
    run = Run(
        plan,
        server_pid=arguments.server_pid,
        check=arguments.verify,
        clean=not arguments.keep,
        objectives=arguments.slo,
        on_progress=line.show,
        on_encoding=line.encoding,
    )

    def end_early() -> None:
        run.interrupt()
        line.note("ending early; Ctrl-C again stops at once")

    try:
        with first_interrupt(end_early):
            return run.execute()
    finally:
        line.end()


def exit_status(result: Result, objectives: list[Objective]) -> int:
    """The exit status of a run.

    Wrong answers outrank an interruption, that outranks INVALID figures, and these outrank missed objectives. An
    objective about errors allows failed requests, but no wrong answers.
    """
    failed = bool(result.failures or result.other_failures) and not allow_errors(objectives)
    if failed or result.not_verified or result.wrong or result.lies:
        return status.FAILED
    if result.cut_short:
        return status.INTERRUPTED
    if result.invalid:
        return status.INVALID
    if not all(each.judge(result)[0] for each in objectives):
        return status.OBJECTIVE_MISSED
    return status.OK
