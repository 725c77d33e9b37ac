"""`naught completion bash`, `zsh` or `fish`: print a completion script for the shell.

    source <(naught completion bash)         # in ~/.bashrc
    source <(naught completion zsh)          # in ~/.zshrc, behind compinit
    naught completion fish | source          # in ~/.config/fish/config.fish

The script is generated from the parsers of the commands, so it has all their options with their help. It does not
complete keys of counters, because that would send a request at every press of the tab key. `script` makes such a
script for any program with commands; `naught-loadtest` uses it too.
"""

from __future__ import annotations

import argparse
from collections.abc import Mapping, Sequence
from typing import Final, NamedTuple

from naught.cli.arguments import COMMANDS, Parser, parser_of
from naught.cli.streams import show

SHELLS: Final = ("bash", "zsh", "fish")


class Option(NamedTuple):
    """An option of a command, or a word that it takes."""

    names: tuple[str, ...]  # none for a word
    summary: str
    takes_value: bool
    choices: tuple[str, ...]  # the values it can have, where they are known


class Completed(NamedTuple):
    """A command."""

    summary: str
    options: list[Option]
    runs_program: bool = False  # behind `--` stands another program with its arguments


def main(words: Sequence[str]) -> int:
    """Print the script for one shell. Returns the exit status."""
    parser = _parser()
    shell = parser.parse_args(words).shell
    show(script(shell, "naught", commands(), before=("--url", "--user", "--secret-file", "--timeout")))
    return 0


def _parser() -> argparse.ArgumentParser:
    parser = Parser("naught completion", description="Print a completion script for the shell.")
    parser.add_argument("shell", choices=SHELLS, help="load it as its comment says")
    return parser


def commands() -> dict[str, Completed]:
    """The commands of `naught`."""
    from naught.cli import main as dispatch
    from naught.cli import run
    from naught.lint.command import parser as lint_parser

    parsers = {name: parser_of(name) for name in COMMANDS}
    others = {"run": run.parser(), "completion": _parser(), "lint": lint_parser()}
    return {
        name: completed(summary, (parsers | others)[name], runs_program=name == "run")
        for name, (_, summary) in dispatch.COMMANDS.items()
    }


def completed(summary: str, parser: argparse.ArgumentParser, *, runs_program: bool = False) -> Completed:
    """What a shell should know of a command with this parser."""
    return Completed(summary, [_option(action, parser) for action in parser._actions], runs_program)


def _option(action: argparse.Action, parser: argparse.ArgumentParser) -> Option:
    choices = tuple(str(choice) for choice in action.choices or ())
    summary = (action.help or "") % {**vars(action), "prog": parser.prog}
    summary = summary.partition(" (")[0]  # without defaults, which are those of the one who makes the script
    return Option(tuple(action.option_strings), summary, action.nargs != 0, choices)


def script(shell: str, program: str, commands: Mapping[str, Completed], before: Sequence[str] = ()) -> str:
    """The script for one of SHELLS. `before`: options with a value that may stand before the command."""
    make = {"bash": _bash, "zsh": _zsh, "fish": _fish}[shell]
    return make(program, commands, before)


# ------------------------------------------------------------------------------------------------------- bash

_BASH: Final = """# Completion of {program} for bash: source <({program} completion bash)
{function}() {{
    local word=${{COMP_WORDS[COMP_CWORD]}} previous=${{COMP_WORDS[COMP_CWORD-1]}}
    local command= at options= words= each
    COMPREPLY=()
    for ((at = 1; at < COMP_CWORD; at++)); do
        each=${{COMP_WORDS[at]}}
        if [[ -z $command ]]; then
            case $each in
                {names}) command=$each ;;
            esac
        elif [[ $command == run && $each == -- ]]; then
            ((at + 1 == COMP_CWORD)) && COMPREPLY=($(compgen -c -- "$word"))
            return
        fi
    done
    case $command:$previous in
{values}
    esac
    if [[ -n $words ]]; then
        COMPREPLY=($(compgen -W "$words" -- "$word"))
        return
    fi
    case $command in
        "") words="{commands}"; options="--help{version} {before}" ;;
{cases}
    esac
    if [[ $word == -* ]]; then
        COMPREPLY=($(compgen -W "$options" -- "$word"))
    elif [[ -n $words ]]; then
        COMPREPLY=($(compgen -W "$words" -- "$word"))
    fi
}}
complete -o default -F {function} {program}
"""


def _bash(program: str, commands: Mapping[str, Completed], before: Sequence[str]) -> str:
    values, cases = [], []
    for name, command in commands.items():
        options = [long for option in command.options for long in option.names if long.startswith("--")]
        words = [choice for option in command.options if not option.names for choice in option.choices]
        cases.append(f'        {name}) options="{" ".join(options)}" words="{" ".join(words)}" ;;')
        for option in command.options:
            if option.names and option.choices:
                places = "|".join(f"{name}:{each}" for each in option.names)
                values.append(f'        {places}) words="{" ".join(option.choices)}" ;;')
    return _BASH.format(
        program=program,
        function=_function(program),
        names="|".join(commands),
        commands=" ".join(commands),
        values="\n".join(values) or "        -) ;;",
        cases="\n".join(cases),
        version=" --version" if program == "naught" else "",
        before=" ".join(before) + (" --json" if program == "naught" else ""),
    )


def _function(program: str) -> str:
    return "_" + program.replace("-", "_")


# -------------------------------------------------------------------------------------------------------- zsh

_ZSH: Final = """#compdef {program}
# Completion of {program} for zsh: source <({program} completion zsh), behind compinit
{function}() {{
    local curcontext=$curcontext state line
    local -a commands
    commands=(
{commands}
    )
    _arguments -C \\
        '(- *)--help[print the help]' \\
{before}        '1:command:->command' '*::argument:->argument'
    case $state in
        command) _describe -t commands command commands ;;
        argument)
            case $line[1] in
{cases}
            esac ;;
    esac
}}
(( $+functions[compdef] )) || {{ autoload -Uz compinit && compinit }}
compdef {function} {program}
"""


def _zsh(program: str, commands: Mapping[str, Completed], before: Sequence[str]) -> str:
    listed = "\n".join(f"        {_quote(f'{name}:{command.summary}')}" for name, command in commands.items())
    cases = []
    for name, command in commands.items():
        specs = [spec for option in command.options for spec in _zsh_specs(option)]
        if command.runs_program:
            specs.append("'*:::program:_normal'")
        elif not any(option.choices and not option.names for option in command.options):
            specs.append("'*:argument:_default'")
        arguments = " ".join(specs)
        cases.append(f"                {name}) _arguments {arguments} ;;")
    options = "".join(f"        {_quote(f'{each}=:value:')} \\\n" for each in before)
    return _ZSH.format(
        program=program,
        function=_function(program),
        commands=listed,
        before=options,
        cases="\n".join(cases),
    )


def _zsh_specs(option: Option) -> list[str]:
    summary = option.summary.replace("\\", "\\\\").replace("[", "\\[").replace("]", "\\]").replace(":", "\\:")
    choices = f"({' '.join(option.choices)})" if option.choices else "_default"
    if not option.names:
        return [_quote(f"::word:{choices}")] if option.choices else []
    value = f":value:{choices}" if option.takes_value else ""
    return [_quote(f"{name}[{summary}]{value}") for name in option.names]


def _quote(text: str) -> str:
    return "'" + text.replace("'", "'\\''") + "'"


# ------------------------------------------------------------------------------------------------------- fish


def _fish(program: str, commands: Mapping[str, Completed], before: Sequence[str]) -> str:
    names = " ".join(commands)
    none = f"not __fish_seen_subcommand_from {names}"
    lines = [f"# Completion of {program} for fish: {program} completion fish | source", f"complete -c {program} -e"]
    lines += [f"complete -c {program} -n {_fish_quote(none)} -l help -s h -d 'print the help'"]
    lines += [f"complete -c {program} -n {_fish_quote(none)} -l {each[2:]} -x" for each in before]
    for name, command in commands.items():
        lines.append(f"complete -c {program} -f -n {_fish_quote(none)} -a {name} -d {_fish_quote(command.summary)}")
        for option in command.options:
            if line := _fish_line(option):
                lines.append(f"complete -c {program} -n '__fish_seen_subcommand_from {name}' {line}")
        if command.runs_program:
            lines.append(
                f"complete -c {program} -n '__fish_seen_subcommand_from {name}' -x -a '(__fish_complete_subcommand)'"
            )
    return "\n".join(lines) + "\n"


def _fish_line(option: Option) -> str:
    words = [f"-l {name[2:]}" if name.startswith("--") else f"-s {name[1:]}" for name in option.names]
    if option.choices:
        words.append(f"{'-x' if option.names else '-f'} -a {_fish_quote(' '.join(option.choices))}")
    elif not option.names:
        return ""
    elif option.takes_value:
        words.append("-r")
    return " ".join([*words, f"-d {_fish_quote(option.summary)}"])


def _fish_quote(text: str) -> str:
    return "'" + text.replace("\\", "\\\\").replace("'", "\\'") + "'"
