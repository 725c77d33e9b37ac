"""The completion scripts of all three programs, in the shells that they are for."""

from __future__ import annotations

import contextlib
import io
import os
import pty
import re
import select
import subprocess
import time
from collections.abc import Callable
from pathlib import Path

import pytest

from naught.cli import main as naught
from naught_loadtest import __main__ as naught_loadtest
from naught_server import __main__ as naught_server
from support.programs import need

GUARD_S = 30
PROGRAMS: dict[str, Callable[[str], object]] = {
    "naught": lambda shell: naught.main(["completion", shell]),
    "naught-server": lambda shell: naught_server.main(["--completion", shell]),
    "naught-loadtest": lambda shell: naught_loadtest.main(["completion", shell]),
}

# What is typed -> what it can become, and nothing else.
CASES = [
    ("naught hol", {"holders"}),
    ("naught --url x sta", {"stat"}),
    ("naught get --j", {"--json"}),
    ("naught clear --y", {"--yes"}),
    ("naught run --when-lost ", {"go-on", "stop"}),
    ("naught completion ", {"bash", "zsh", "fish"}),
    ("naught sessions e", {"end"}),
    ("naught-server --print", {"--print-config"}),
    ("naught-server --completion ", {"bash", "zsh", "fish"}),
    ("naught-loadtest ver", {"versus"}),
    ("naught-loadtest run --scenario in", {"incr", "inflight"}),
]


def script(program: str, shell: str) -> str:
    out = io.StringIO()
    with contextlib.redirect_stdout(out), contextlib.suppress(SystemExit):
        PROGRAMS[program](shell)
    return out.getvalue()


@pytest.fixture(scope="module")
def scripts(tmp_path_factory: pytest.TempPathFactory) -> Callable[[str], list[str]]:
    """The files with the scripts for a shell."""
    folder = tmp_path_factory.mktemp("scripts")

    def made(shell: str) -> list[str]:
        need(shell)
        paths = []
        for program in PROGRAMS:
            path = folder / f"{program}.{shell}"
            path.write_text(script(program, shell))
            paths.append(str(path))
        return paths

    return made


def run(*command: str, **more: str) -> str:
    done = subprocess.run(
        command, capture_output=True, text=True, check=False, timeout=GUARD_S, env=os.environ | more
    )
    assert (done.returncode, done.stderr) == (0, ""), done.stderr
    return done.stdout


def test_bash(scripts: Callable[[str], list[str]]) -> None:
    program = "".join(f"source {path};" for path in scripts("bash"))
    for typed, _ in CASES:
        words = typed.split(" ")
        program += (
            f"COMP_WORDS=({' '.join(word or chr(34) * 2 for word in words)}); COMP_CWORD={len(words) - 1};"
            f'COMPREPLY=(); _{words[0].replace("-", "_")}; echo "${{COMPREPLY[*]}}";'
        )
    found = run("bash", "-c", program).splitlines()
    assert {typed: set(line.split()) for (typed, _), line in zip(CASES, found, strict=True)} == dict(CASES)


def test_bash_completes_the_program_of_run(scripts: Callable[[str], list[str]]) -> None:
    program = (
        f"source {scripts('bash')[0]}; COMP_WORDS=(naught run -- ech); COMP_CWORD=3; _naught; echo ${{COMPREPLY[0]}}"
    )
    assert run("bash", "-c", program) == "echo\n"


def test_fish(scripts: Callable[[str], list[str]], tmp_path: Path) -> None:
    program = "".join(f"source {path};" for path in scripts("fish"))
    program += "".join(f"complete -C '{typed}'; echo;" for typed, _ in CASES)
    found = run("fish", "--no-config", "-c", program, HOME=str(tmp_path)).split("\n\n")
    words = [{line.split("\t")[0] for line in each.splitlines() if line} for each in found[: len(CASES)]]
    assert {typed: each for (typed, _), each in zip(CASES, words, strict=True)} == dict(CASES)


class Zsh:
    """An interactive zsh in a terminal. It completes there only, and lists what is possible on the screen."""

    def __init__(self, home: Path) -> None:
        self._seen = ""  # what the terminal has shown since `type`
        self._pid, self._terminal = pty.fork()
        if self._pid == 0:
            os.execvpe("zsh", ["zsh", "-f", "-i"], os.environ | {"HOME": str(home), "TERM": "dumb", "PS1": "> "})

    def type(self, keys: str) -> None:
        self._seen = ""
        os.write(self._terminal, keys.encode())

    def until(self, pattern: str) -> None:
        """Read until the terminal has shown this."""
        end = time.monotonic() + GUARD_S
        while not re.search(pattern, self._seen):
            ready, _, _ = select.select([self._terminal], [], [], max(0.0, end - time.monotonic()))
            assert ready, f"no {pattern!r} in {self._seen!r}"
            self._seen += os.read(self._terminal, 4096).decode(errors="replace").replace("\r", "")

    def close(self) -> None:
        os.close(self._terminal)
        os.waitpid(self._pid, 0)


@pytest.mark.slow
def test_zsh(scripts: Callable[[str], list[str]], tmp_path: Path) -> None:
    paths = scripts("zsh")
    zsh = Zsh(tmp_path)
    with contextlib.closing(zsh):
        load = "".join(f" source {path};" for path in paths)
        zsh.type(f"autoload -Uz compinit; compinit -u; setopt auto_list no_list_ambiguous;{load} echo loa''ded\n")
        zsh.until("loaded")
        for typed, possible in CASES:
            zsh.type(f"\x15{typed}\t")
            if len(possible) == 1:
                zsh.until(re.escape(f"{typed.rpartition(' ')[0]} {min(possible)}"))
            for word in possible:
                zsh.until(rf"(?<![\w-]){re.escape(word)}\b")
