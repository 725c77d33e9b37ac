"""The command: `naught COMMAND …`, or `python -m naught COMMAND …`.

A command is a line of `COMMANDS` and a module with a `main` that takes its words, those of `_NAMED` with the
command's name first, and answers the exit status. The module is imported when its command is asked for and not
before, so that none pays for another. Exit status: the command's own; 2 for words that mean nothing here; 130 when
interrupted.
"""

from __future__ import annotations

import sys
from collections.abc import Sequence
from importlib import import_module

from naught._version import __version__

WRONG_USAGE, INTERRUPTED = 2, 130

# Name -> the module that does it, and what the help says of it.
COMMANDS: dict[str, tuple[str, str]] = {
    "get": ("naught.cli.counters", "values; 0 for what is absent"),
    "incr": ("naught.cli.counters", "add, and print the value after"),
    "decr": ("naught.cli.counters", "take away, and print the value after; a counter that reaches zero is gone"),
    "set": ("naught.cli.counters", "replace, and print the value before"),
    "take": ("naught.cli.counters", "read and evict in one step"),
    "scan": ("naught.cli.counters", "all counters under a prefix"),
    "top": ("naught.cli.counters", "the largest counters"),
    "count": ("naught.cli.counters", "how many counters there are"),
    "wait-zero": ("naught.cli.counters", "wait until a counter is gone"),
    "info": ("naught.cli.counters", "what the server says about itself"),
    "sessions": ("naught.cli.counters", "the sessions of the server"),
    "clear": ("naught.cli.counters", "evict every counter of the cache"),
    "ping": ("naught.cli.counters", "ask for a sign of life"),
    "stat": ("naught.cli.counters", "a line a second: rates, counters, deviation, loop lag"),
    "config": ("naught.cli.counters", "settings that change while the server runs"),
    "completion": ("naught.cli.completion", "print what makes bash or zsh complete these commands"),
    "lint": ("naught.lint.command", "find where zeros pile up in Python source, and where they are misread"),
}

# Modules that do several commands, and are told which.
_NAMED = {"naught.cli.counters"}


def main(words: Sequence[str] | None = None) -> int:
    """Do what the words (those of the process, unless given) say. The exit status."""
    given = list(sys.argv[1:] if words is None else words)
    if not given:
        return _wrong(f"which command? one of {', '.join(COMMANDS)}; naught --help explains them")
    name, rest = given[0], given[1:]
    if name in ("-h", "--help"):
        print(_help())
        return 0
    if name == "--version":
        print(f"naught {__version__}")
        return 0
    if name.startswith("-"):
        return _wrong(f"there is no option {name}; naught --help shows what there is")
    if name not in COMMANDS:
        return _wrong(f"there is no command {name!r}; there are {', '.join(COMMANDS)}")
    try:
        module = COMMANDS[name][0]
        status: int = import_module(module).main(given if module in _NAMED else rest)
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
            "naught COMMAND --help explains one of them; naught --version says which naught this is.",
        )
    )


def _wrong(message: str) -> int:
    print(f"naught: {message}", file=sys.stderr)
    return WRONG_USAGE


if __name__ == "__main__":
    sys.exit(main())
