"""`naught completion bash` and `naught completion zsh`: print a completion script for the shell.

    source <(naught completion bash)

The script is generated from the parsers of the commands, so it has all their options. It does not complete keys of
counters, because that would send a request at every press of the tab key.
"""

from __future__ import annotations

import argparse
import sys
from collections.abc import Sequence

from naught.cli.arguments import COMMANDS, parser_of

SHELLS = ("bash", "zsh")

_BASH = """_naught() {{
    local word=${{COMP_WORDS[COMP_CWORD]}} options=
    if ((COMP_CWORD == 1)); then
        COMPREPLY=($(compgen -W "{commands} --help --version" -- "$word"))
        return
    fi
    case ${{COMP_WORDS[1]}} in
{cases}
    esac
    [[ $word == -* ]] && COMPREPLY=($(compgen -W "$options" -- "$word"))
}}
complete -o default -F _naught naught
"""


def main(words: Sequence[str]) -> int:
    """Print the script for one shell. Returns the exit status."""
    parser = argparse.ArgumentParser("naught completion", description=__doc__.partition("\n")[0])
    parser.add_argument("shell", choices=SHELLS)
    shell = parser.parse_args(words).shell
    sys.stdout.write(script(shell))
    return 0


def script(shell: str) -> str:
    """The script for a shell. The one for zsh loads zsh's support for bash scripts, and then the bash script."""
    cases = "\n".join(f'        {name}) options="{" ".join(_options(name))}" ;;' for name in COMMANDS)
    bash = _BASH.format(commands=" ".join([*COMMANDS, "completion", "lint"]), cases=cases)
    if shell == "bash":
        return bash
    return "autoload -U +X compinit && compinit -u\nautoload -U +X bashcompinit && bashcompinit\n" + bash


def _options(name: str) -> list[str]:
    return [
        option for action in parser_of(name)._actions for option in action.option_strings if option.startswith("--")
    ]
