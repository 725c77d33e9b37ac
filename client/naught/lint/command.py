"""The command line of the checker, for `python -m naught.lint PATH…` and `naught lint PATH…`."""

from __future__ import annotations

import argparse
import os
import sys
from collections.abc import Sequence
from io import StringIO
from pathlib import Path
from typing import TextIO

from naught.lint import config as configuration
from naught.lint.files import check_files, python_files
from naught.lint.finding import RULES
from naught.lint.output import FORMS, Progress, print_all

FOUND_NOTHING, FOUND_SOMETHING, WRONG_USAGE = 0, 1, 2


def main(argv: Sequence[str] | None = None) -> int:
    """Check the paths in `argv` (without the program's name), print the findings, and return the exit status.

    0: no findings. 1: findings. 2: the arguments or the configuration are wrong; standard error says why.
    """
    try:
        arguments = parser().parse_args(argv)
    except SystemExit as exit_request:  # argparse ends the program, and this function must return
        return exit_request.code if isinstance(exit_request.code, int) else WRONG_USAGE
    if arguments.rules:
        print("\n".join(f"{rule}  {meaning}" for rule, meaning in RULES.items()))
        return FOUND_NOTHING
    try:
        config = _configured(arguments)
    except configuration.ConfigError as error:
        return _wrong(str(error))
    for path in arguments.paths:
        if path != "-" and not os.path.exists(path):
            return _wrong(f"there is no {path}")
    files = list(python_files(arguments.paths, config))
    with_locals, with_all = config.with_locals or arguments.locals, config.with_all or arguments.all
    checked = map(config.wanted, check_files(files, arguments.jobs, with_locals, with_all))
    out = _open_stream(sys.stdout)
    progress = Progress(_open_stream(sys.stderr), len(files))
    try:
        _, count = print_all(checked, FORMS[arguments.output](out), progress, out)
    except BrokenPipeError:
        # The reader has closed the pipe. The rest of the buffer must not raise at exit either.
        os.dup2(os.open(os.devnull, os.O_WRONLY), out.fileno())
        return FOUND_SOMETHING
    return FOUND_SOMETHING if count else FOUND_NOTHING


def parser() -> argparse.ArgumentParser:
    parser = argparse.ArgumentParser(
        prog="naught lint",
        description="Find where zeros pile up in Python source, and where they are misread.",
        epilog="Exit status: 0 nothing found, 1 findings, 2 wrong usage. docs/lint.md explains the rules.",
    )
    parser.add_argument("paths", nargs="*", metavar="PATH", help="a file, a folder, or - for standard input")
    parser.add_argument("--select", metavar="RULES", help="only these rules (NZ101,NZ103, or NZ10)")
    parser.add_argument("--ignore", metavar="RULES", help="not these rules, besides those the project ignores")
    parser.add_argument("--exclude", metavar="PATTERNS", help="not these files or folders (vendored,gen/*.py)")
    parser.add_argument(
        "--locals", action="store_true", help="also check maps that end with the call that makes them"
    )
    parser.add_argument(
        "--all", action="store_true", help="also report findings for which the source gives less reason"
    )
    parser.add_argument("--output", choices=tuple(FORMS), default="text", help="how findings are printed")
    parser.add_argument("--config", metavar="FILE", help="read this file instead of the nearest pyproject.toml")
    parser.add_argument("--isolated", action="store_true", help="read no configuration at all")
    parser.add_argument(
        "--jobs",
        type=int,
        default=os.cpu_count() or 1,
        metavar="N",
        help="processes (default: one for each core)",
    )
    parser.add_argument("--rules", action="store_true", help="list the rules and exit")
    return parser


def _configured(arguments: argparse.Namespace) -> configuration.Config:
    """Return the configuration for the arguments; ConfigError where they are wrong."""
    if not arguments.paths:
        raise configuration.ConfigError("name at least one file or folder")
    if arguments.jobs < 1:
        raise configuration.ConfigError("--jobs is at least 1")
    if arguments.isolated:
        found = configuration.Config()
    elif arguments.config is not None:
        found = configuration.load(Path(arguments.config)) or configuration.Config()
    else:
        found = configuration.find(arguments.paths)
    return found.with_arguments(arguments.select, arguments.ignore, arguments.exclude)


def _open_stream(stream: TextIO | None) -> TextIO:
    """Return the stream; for one that was closed before the program began, one that forgets what is written."""
    return StringIO() if stream is None else stream


def _wrong(message: str) -> int:
    print(f"naught lint: {message}", file=sys.stderr)
    return WRONG_USAGE
