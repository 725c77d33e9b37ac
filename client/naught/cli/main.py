"""The dispatch of `naught COMMAND ...`: finds the module of the command, imports it and calls its `main`.

Each command is a row of `COMMANDS`. Its module is imported only when the command is used, so a new command does not
slow down the others. The options `--url`, `--user`, `--secret-file`, `--timeout` and `--json` may stand before the
command too. The exit status is that of the command; see also `exit_status.py`.
"""

from __future__ import annotations

import sys
from collections.abc import Sequence
from importlib import import_module
from typing import Final

from naught._version import __version__
from naught.cli.exit_status import FAILED, INTERRUPTED, OK, WRONG_USAGE
from naught.cli.streams import flush_streams, open_missing, say, show

_SERVER: Final = "naught.cli.command"

# Command -> the module that runs it, and its line in the help.
COMMANDS: Final[dict[str, tuple[str, str]]] = {
    "get": (_SERVER, "print values; 0 for a key without a counter"),
    "incr": (_SERVER, "add to a counter and print the value after"),
    "decr": (_SERVER, "subtract from a counter and print the value after; at zero the counter is gone"),
    "set": (_SERVER, "replace the value of a counter and print the value before"),
    "take": (_SERVER, "read and evict counters in one step"),
    "ttl": (_SERVER, "print how many seconds a counter has to live, or none for no limit"),
    "expire": (_SERVER, "change the time to live of a counter"),
    "scan": (_SERVER, "print all counters, or those with a prefix"),
    "top": (_SERVER, "print the largest counters"),
    "count": (_SERVER, "print the number of counters"),
    "wait-zero": (_SERVER, "wait until a counter is gone"),
    "run": ("naught.cli.run", "run a program while it holds a permit of a semaphore"),
    "info": (_SERVER, "print the statistics of the server"),
    "sessions": (_SERVER, "list the sessions of the server with what they hold, or end one"),
    "holders": (_SERVER, "print which sessions hold how much of a counter"),
    "slowlog": (_SERVER, "list the slowest turns of the server's connections"),
    "clear": (_SERVER, "evict every counter of the cache"),
    "ping": (_SERVER, "measure one round trip to the server, or only check that it answers"),
    "stat": (_SERVER, "print a line per second: rates, counters, deviation, loop lag"),
    "watch": (_SERVER, "show rates, counters, sessions and who holds what, on a full screen"),
    "config": (_SERVER, "print or change settings of the running server"),
    "completion": ("naught.cli.completion", "print the completion script for bash, zsh or fish"),
    "lint": ("naught.lint.command", "find where zeros pile up in Python source, and where they are misread"),
}

# Options that may stand before the command, and whether a value follows.
_BEFORE: Final = {"--url": True, "--user": True, "--secret-file": True, "--timeout": True, "--json": False}


def main(arguments: Sequence[str] | None = None) -> int:
    """Run the command that `arguments` name, by default those of the process. Returns the exit status."""
    given = list(sys.argv[1:] if arguments is None else arguments)
    open_missing()
    for stream in (sys.stdout, sys.stderr):
        reconfigure = getattr(stream, "reconfigure", None)
        if reconfigure is not None:
            reconfigure(errors="backslashreplace")  # what the encoding does not have is spelled out
    try:
        status = _dispatch(given)
    except KeyboardInterrupt:
        status = INTERRUPTED
    except SystemExit as leaving:  # argparse has said what it does not understand, or printed the help
        status = leaving.code if isinstance(leaving.code, int) else OK if leaving.code is None else FAILED
    except BrokenPipeError:  # nobody reads the output any more
        status = OK
    except ModuleNotFoundError as error:
        if error.name != "msgpack":
            raise
        say("this command needs the package msgpack, which is not installed; lint works without it")
        status = FAILED
    except OSError as error:  # what a command does not expect of the system
        say(str(error))
        status = FAILED
    why = flush_streams()
    if why is not None and status == OK:
        say(why)
        status = FAILED
    return status


def _dispatch(given: list[str]) -> int:
    before = _take_options(given)
    if not given:
        return _wrong(f"no command; the commands are {', '.join(COMMANDS)}; naught --help explains them")
    name, rest = given[0], given[1:]
    if name in ("-h", "--help"):
        show(_help() + "\n")
        return OK
    if name == "--version":
        show(f"naught {__version__}\n")
        return OK
    if name.startswith("-"):
        return _wrong(f"unknown option {name}; see naught --help")
    if name not in COMMANDS:
        return _wrong(f"unknown command {name!r}; the commands are {', '.join(COMMANDS)}")
    module = COMMANDS[name][0]
    words = [*before, *rest]
    status: int = import_module(module).main([name, *words] if module == _SERVER else words)
    return status


def _take_options(given: list[str]) -> list[str]:
    """Remove the options that stand before the command, and return them."""
    taken = []
    while given:
        option, equals, _ = given[0].partition("=")
        if option not in _BEFORE or bool(equals) > _BEFORE[option]:
            break
        taken.append(given.pop(0))
        if _BEFORE[option] and not equals and given:
            taken.append(given.pop(0))
    return taken


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
            "naught COMMAND --help explains one command; naught --version prints the version. The options --url,",
            "--user, --secret-file, --timeout and --json may stand before the command too.",
        )
    )


def _wrong(message: str) -> int:
    say(message)
    return WRONG_USAGE
