"""Runs one command that talks to a server: reads its arguments, and makes what goes wrong into a sentence and a
status.

The event loop and the client are imported only when the arguments are good and the command needs them.
"""

from __future__ import annotations

import argparse
import sys
from collections.abc import Sequence
from typing import Final

from naught.cli.arguments import parser_of
from naught.cli.exit_status import FAILED, OK, WRONG_USAGE
from naught.cli.output import Output, OutputClosed, OutputFailed
from naught.cli.streams import say
from naught.errors import InvalidRequest, NaughtError

_STATUS_SAYS_ALL: Final = {"expire", "ping", "wait-zero"}
"""Commands that are useful where standard output is closed. Others would lose their result, and are not begun."""

_CHANGES: Final = {"clear", "config", "decr", "incr", "sessions", "set", "take"}
"""Commands after which it matters that they were executed, though their result could not be printed."""


def main(words: Sequence[str]) -> int:
    """Run a command. `words`: its name and its arguments. Returns the exit status."""
    name, *rest = words
    parser = parser_of(name)
    # Options may stand between keys. But where that is allowed, argparse forgets what `--` means.
    arguments = parser.parse_args(rest) if "--" in rest else parser.parse_intermixed_args(rest)
    output = Output(sys.stdout, as_json=arguments.json)
    if sys.stdout is None:
        if name not in _STATUS_SAYS_ALL:
            say("standard output is closed")
            return FAILED
        output.discard()
    try:
        status = _run(name, arguments, output)
    except OutputClosed:
        return OK
    except (NaughtError, OutputFailed) as error:
        say(str(error))
        return WRONG_USAGE if isinstance(error, InvalidRequest) else FAILED
    try:
        output.flush()
    except OutputClosed:
        return status
    except OutputFailed as error:
        say(f"{error}; the command is executed" if name in _CHANGES else str(error))
        return FAILED
    return status


def _run(name: str, arguments: argparse.Namespace, output: Output) -> int:
    if name == "ping":
        from naught.cli.check import ping  # it needs no event loop

        return ping(arguments, output)
    import asyncio

    from naught.cli.counters import run

    return asyncio.run(run(name, arguments, output))
