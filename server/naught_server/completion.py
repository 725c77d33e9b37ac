"""`naught-server --completion bash`, `zsh` or `fish`: the completion script for the shell.

    source <(naught-server --completion bash)      # in ~/.bashrc
    source <(naught-server --completion zsh)       # in ~/.zshrc, behind compinit
    naught-server --completion fish | source       # in ~/.config/fish/config.fish

It is made from the parser, so it has all flags with their help. (The one of the command `naught` is made in
`naught.cli`, which this package does not import.)
"""

from __future__ import annotations

import argparse
from typing import Final

SHELLS: Final = ("bash", "zsh", "fish")

FILES: Final = {"FILE", "PATH"}
"""What flags are said to take whose value is a file."""

_BASH: Final = """_naught_server() {{
    local word=${{COMP_WORDS[COMP_CWORD]}} words=
    case ${{COMP_WORDS[COMP_CWORD-1]}} in
{values}
    esac
    if [[ $word == -* ]]; then
        words="{flags}"
    fi
    COMPREPLY=()
    if [[ -n $words ]]; then
        COMPREPLY=($(compgen -W "$words" -- "$word"))
    fi
}}
complete -o default -F _naught_server naught-server
"""

_ZSH: Final = """#compdef naught-server
_naught_server() {{
    _arguments \\
{flags}
}}
(( $+functions[compdef] )) || {{ autoload -Uz compinit && compinit }}
compdef _naught_server naught-server
"""


def script(shell: str, parser: argparse.ArgumentParser) -> str:
    """The script for one of SHELLS, for a program whose arguments are all flags."""
    return {"bash": _bash, "zsh": _zsh, "fish": _fish}[shell](parser)


def _flags(action: argparse.Action) -> list[str]:
    return [flag for flag in action.option_strings if flag.startswith("--")]


def _choices(action: argparse.Action) -> str:
    return " ".join(map(str, action.choices or ()))


def _bash(parser: argparse.ArgumentParser) -> str:
    values = [
        f'        {"|".join(_flags(action))}) words="{_choices(action)}" ;;'
        for action in parser._actions
        if action.choices
    ]
    flags = [flag for action in parser._actions for flag in _flags(action)]
    return _BASH.format(values="\n".join(values), flags=" ".join(flags))


def _zsh(parser: argparse.ArgumentParser) -> str:
    specs = []
    for action in parser._actions:
        summary = _summary(action)
        for mark in "\\[]:":
            summary = summary.replace(mark, f"\\{mark}")
        value = f":value:{f'({_choices(action)})' if action.choices else '_files'}" if action.nargs != 0 else ""
        specs += ["        " + _quoted(f"{flag}[{summary}]{value}", "'\\''") for flag in _flags(action)]
    return _ZSH.format(flags=" \\\n".join(specs))


def _fish(parser: argparse.ArgumentParser) -> str:
    lines = ["complete -c naught-server -e", "complete -c naught-server -f"]
    for action in parser._actions:
        summary = _quoted(_summary(action).replace("\\", "\\\\"), "\\'")
        for flag in _flags(action):
            line = f"complete -c naught-server -l {flag[2:]} -d {summary}"
            if action.choices:
                line += f" -x -a '{_choices(action)}'"
            elif action.nargs != 0:
                line += " -r -F" if action.metavar in FILES else " -x"
            lines.append(line)
    return "\n".join(lines) + "\n"


def _summary(action: argparse.Action) -> str:
    """Without the default that its help ends with."""
    return (action.help or "").partition(" (")[0]


def _quoted(text: str, quote: str) -> str:
    return "'" + text.replace("'", quote) + "'"
