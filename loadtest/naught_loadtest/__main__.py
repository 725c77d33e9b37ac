"""The command line: `naught-loadtest`, or `python -m naught_loadtest`.

Exit status: 0 all well; 1 the run failed, requests failed, or the counters are not what was acknowledged;
2 wrong usage; 3 the figures are INVALID, spoiled by the generator itself; 99 an objective (--slo) was missed;
130 interrupted.
"""

from __future__ import annotations

import argparse
import sys
from collections.abc import Callable
from types import ModuleType

from naught_loadtest import bars
from naught_loadtest.commands import ceiling, demo, search, status, versus
from naught_loadtest.commands import run as run_command
from naught_loadtest.drivers.servers import MissingProgramError, ServerStartError
from naught_loadtest.generate.runner import RunError
from naught_loadtest.processes import stopped_on_signals
from naught_loadtest.zeros import command as zeros

COMMANDS: dict[str, tuple[ModuleType, str]] = {
    "run": (run_command, "one run against a server"),
    "demo": (demo, "a server of its own, ten seconds of load, the report"),
    "versus": (versus, "naught beside Redis and memcached, started here, in one run"),
    "search": (search, "the highest rate at which an objective holds"),
    "bars": (bars, "the speed bars, each with the figure reached here"),
    "zeros": (zeros, "what zeros that stay cost in Python: dicts, SafeMap, the engine in process"),
    "ceiling": (ceiling, "the most this generator can do, against an echo"),
}


def parser() -> argparse.ArgumentParser:
    """The whole grammar of the command line."""
    result = argparse.ArgumentParser(
        prog="naught-loadtest",
        description="Load tests for naught, and for Redis and memcached beside it.",
        epilog="Exit status: 0 all well, 1 failed, 2 usage, 3 figures invalid, 99 objective missed.",
    )
    commands = result.add_subparsers(dest="command", required=True, metavar="COMMAND")
    for name, (module, summary) in COMMANDS.items():
        command = commands.add_parser(name, help=summary, description=(module.__doc__ or summary).strip(),
                                      formatter_class=argparse.RawDescriptionHelpFormatter)  # fmt: skip
        module.configure(command)
        command.set_defaults(execute=module.execute)
    return result


def main(words: list[str] | None = None) -> int:
    """Do what the words say. The exit status."""
    arguments = parser().parse_args(words)
    execute: Callable[[argparse.Namespace], int] = arguments.execute
    try:
        with stopped_on_signals():
            return execute(arguments)
    except KeyboardInterrupt:
        print("\ninterrupted; everything that was started has been stopped", file=sys.stderr)
        return status.INTERRUPTED
    except ValueError as error:
        print(f"naught-loadtest {arguments.command}: {error}", file=sys.stderr)
        return status.USAGE
    except (RunError, MissingProgramError, ServerStartError, OSError) as error:
        print(f"naught-loadtest: {error}", file=sys.stderr)
        return status.FAILED


if __name__ == "__main__":
    sys.exit(main())
