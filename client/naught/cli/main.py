"""The dispatch of `naught COMMAND ...`: finds the module of the command, imports it and calls its `main`.

Each command is a row of `COMMANDS`. Its module is imported only when the command is used, so a new command does not
slow down the others. Exit status: that of the command; see also `exit_status.py`.
"""

from __future__ import annotations

import sys
from collections.abc import Sequence
from importlib import import_module

from naught._version import __version__
from naught.cli.exit_status import INTERRUPTED, OK, WRONG_USAGE

_COUNTERS = "naught.cli.counters"

# Command -> the module that runs it, and its line in the help.
COMMANDS: dict[str, tuple[str, str]] = {
    "get": (_COUNTERS, "print values; 0 for a key without a counter"),
    "incr": (_COUNTERS, "add to a counter and print the value after"),
    "decr": (_COUNTERS, "subtract from a counter and print the value after; at zero the counter is gone"),
    "set": (_COUNTERS, "replace the value of a counter and print the value before"),
    "take": (_COUNTERS, "read and evict counters in one step"),
    "scan": (_COUNTERS, "print all counters, or those with a prefix"),
    "top": (_COUNTERS, "print the largest counters"),
    "count": (_COUNTERS, "print the number of counters"),
    "wait-zero": (_COUNTERS, "wait until a counter is gone"),
    "info": (_COUNTERS, "print the statistics of the server"),
    "sessions": (_COUNTERS, "list the sessions of the server with what they hold, or end one"),
    "holders": (_COUNTERS, "print which sessions hold how much of a counter"),
    "slowlog": (_COUNTERS, "list the slowest turns of the server's connections"),
    "clear": (_COUNTERS, "evict every counter of the cache"),
    "ping": (_COUNTERS, "measure one round trip to the server, or only check that it answers"),
    "stat": (_COUNTERS, "print a line per second: rates, counters, deviation, loop lag"),
    "watch": (_COUNTERS, "show rates, counters, sessions and who holds what, on a full screen"),
    "config": (_COUNTERS, "print or change settings of the running server"),
    "completion": ("naught.cli.completion", "print the completion script for bash or zsh"),
    "lint": ("naught.lint.command", "find where zeros pile up in Python source, and where they are misread"),
}

# Modules that run several commands: their `main` gets the name of the command as its first argument.
_RUN_SEVERAL = {_COUNTERS}


def main(arguments: Sequence[str] | None = None) -> int:
    """Run the command that `arguments` name, by default those of the process. Returns the exit status."""
    given = list(sys.argv[1:] if arguments is None else arguments)
    if not given:
        return _wrong(f"no command; the commands are {', '.join(COMMANDS)}; naught --help explains them")
    name, rest = given[0], given[1:]
    if name in ("-h", "--help"):
        print(_help())
        return OK
    if name == "--version":
        print(f"naught {__version__}")
        return OK
    if name.startswith("-"):
        return _wrong(f"unknown option {name}; see naught --help")
    if name not in COMMANDS:
        return _wrong(f"unknown command {name!r}; the commands are {', '.join(COMMANDS)}")
    module = COMMANDS[name][0]
    try:
        status: int = import_module(module).main(given if module in _RUN_SEVERAL else rest)
    except KeyboardInterrupt:
        return INTERRUPTED
    return status


def _help() -> str:
    width = max(map(len, COMMANDS))
    return "\n".join(
        (
            "usage: naught COMMAND ...",
            "",
            "Counters that are gone at zero.",
            "",
            *(f"  {name:{width}}  {summary}" for name, (_, summary) in COMMANDS.items()),
            "",
            "naught COMMAND --help explains one command; naught --version prints the version.",
        )
    )


def _wrong(message: str) -> int:
    print(f"naught: {message}", file=sys.stderr)
    return WRONG_USAGE
