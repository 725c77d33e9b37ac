"""`naught-loadtest completion bash`, `zsh` or `fish`: print a completion script for the shell.

source <(naught-loadtest completion bash)        # in ~/.bashrc
source <(naught-loadtest completion zsh)         # in ~/.zshrc, behind compinit
naught-loadtest completion fish | source         # in ~/.config/fish/config.fish
"""

from __future__ import annotations

import argparse
import sys

from naught.cli.completion import SHELLS, completed, script
from naught_loadtest.commands import status


def configure(parser: argparse.ArgumentParser) -> None:
    """Add the arguments."""
    parser.add_argument("shell", choices=SHELLS, help="load it as said above")


def execute(arguments: argparse.Namespace) -> int:
    """Print the script for one shell. Returns the exit status."""
    parsers: dict[str, argparse.ArgumentParser] = arguments.commands  # of all commands, this one too
    commands = {
        name: completed((parser.description or name).partition("\n")[0].partition(": ")[2].rstrip("."), parser)
        for name, parser in parsers.items()
    }
    sys.stdout.write(script(arguments.shell, "naught-loadtest", commands))
    return status.OK
