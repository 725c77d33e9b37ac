"""The command line: `naught-loadtest`, or `python -m naught_loadtest`.

Each subcommand is a module of `naught_loadtest.commands`. This module builds the argument parser from them, runs the
one that was named, and turns exceptions into a message on standard error and an exit status (`commands.status`).
"""

from __future__ import annotations

import argparse
import sys
from collections.abc import Callable
from types import ModuleType

from naught._version import __version__
from naught_loadtest.commands import bars, ceiling, compare, completion, demo, merge, search, status, versus, zeros
from naught_loadtest.commands import run as run_command
from naught_loadtest.commands.outputs import check_outputs
from naught_loadtest.drivers.base import UnsupportedError
from naught_loadtest.drivers.servers import MissingProgramError, ServerStartError
from naught_loadtest.generate.runner import RunError
from naught_loadtest.measure.report import paragraph
from naught_loadtest.processes import stopped_on_signals

# Each subcommand's module and its summary for --help.
COMMANDS: dict[str, tuple[ModuleType, str]] = {
    "run": (run_command, "one run against a server that is already running"),
    "demo": (demo, "start a server, ten seconds of load, the report"),
    "versus": (versus, "naught compared with Redis and memcached, all started here"),
    "search": (search, "the highest rate at which an objective holds"),
    "compare": (compare, "whether a second report is slower than a first, with intervals"),
    "merge": (merge, "the runs of several hosts as one"),
    "bars": (bars, "the speed bars, each with the figure reached on this machine"),
    "zeros": (zeros, "what zeros that are not deleted cost in Python: dicts, SafeMap, memory://"),
    "ceiling": (ceiling, "the most this generator can do, against an echo server"),
    "completion": (completion, "print the completion script for bash, zsh or fish"),
}


def parser() -> argparse.ArgumentParser:
    """The parser of the whole command line."""
    result = argparse.ArgumentParser(
        prog="naught-loadtest",
        description="Load tests for naught, and the same load for Redis and memcached.",
        epilog="Exit status: 0 success; 1 the run or requests failed, or counters are wrong; 2 wrong usage;"
        " 3 the generator made the figures INVALID; 99 an objective was missed; 130 interrupted.",
    )
    result.add_argument("--version", action="version", version=f"naught-loadtest {__version__}")
    commands = result.add_subparsers(dest="command", required=True, metavar="COMMAND")
    for name, (module, summary) in COMMANDS.items():
        command = commands.add_parser(name, help=summary, description=described(module.__doc__ or summary),
                                      formatter_class=argparse.RawDescriptionHelpFormatter)  # fmt: skip
        module.configure(command)
        command.set_defaults(execute=module.execute, commands=commands.choices)
    return result


def described(docstring: str) -> str:
    """A docstring for --help: its paragraphs in lines of a terminal's width. Examples stay as they are."""
    paragraphs = docstring.strip().split("\n\n")
    return "\n\n".join(part if "  " in part else paragraph(" ".join(part.split())) for part in paragraphs)


def main(argv: list[str] | None = None) -> int:
    """Run the subcommand that the arguments name. Returns the exit status."""
    arguments = parser().parse_args(argv)
    execute: Callable[[argparse.Namespace], int] = arguments.execute
    try:
        with stopped_on_signals():
            check_outputs(arguments)
            return execute(arguments)
    except KeyboardInterrupt:
        print("\ninterrupted; all processes that were started have been stopped", file=sys.stderr)
        return status.INTERRUPTED
    except ValueError as error:
        print(f"naught-loadtest {arguments.command}: {error}", file=sys.stderr)
        return status.USAGE
    except (RunError, MissingProgramError, UnsupportedError, ServerStartError, OSError) as error:
        print(f"naught-loadtest: {error}", file=sys.stderr)
        return status.FAILED


if __name__ == "__main__":
    sys.exit(main())
