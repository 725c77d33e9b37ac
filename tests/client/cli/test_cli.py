"""The dispatch of the command `naught`: commands, version, help, and errors for unknown commands and options."""

from __future__ import annotations

import subprocess
import sys
from pathlib import Path

import pytest

from naught import __version__
from naught.cli.main import COMMANDS, main

KNOWN = ", ".join(COMMANDS)
LEAK = "OPEN = {}\ndef start(key):\n    OPEN[key] = OPEN.get(key, 0) + 1\ndef stop(key):\n    OPEN[key] -= 1\n"


def test_version(capsys: pytest.CaptureFixture[str]) -> None:
    assert main(["--version"]) == 0
    assert capsys.readouterr().out == f"naught {__version__}\n"


@pytest.mark.parametrize("word", ["--help", "-h"])
def test_help_names_every_command(word: str, capsys: pytest.CaptureFixture[str]) -> None:
    assert main([word]) == 0
    out, err = capsys.readouterr()
    assert out.startswith("usage: naught COMMAND")
    assert all(f"  {name} " in out for name in COMMANDS)
    assert err == ""


@pytest.mark.parametrize(
    ("words", "message"),
    [
        ([], f"naught: no command; the commands are {KNOWN}; naught --help explains them"),
        (["lnit"], f"naught: unknown command 'lnit'; the commands are {KNOWN}"),
        (["--nope"], "naught: unknown option --nope; see naught --help"),
        (["new\nline"], f"naught: unknown command 'new\\nline'; the commands are {KNOWN}"),
    ],
)
def test_what_is_not_known_is_one_line_and_exits_2(
    words: list[str], message: str, capsys: pytest.CaptureFixture[str]
) -> None:
    assert main(words) == 2
    out, err = capsys.readouterr()
    assert out == ""
    assert err == message + "\n"


def test_lint_gets_its_arguments_and_answers_with_its_status(
    tmp_path: Path, monkeypatch: pytest.MonkeyPatch, capsys: pytest.CaptureFixture[str]
) -> None:
    monkeypatch.chdir(tmp_path)
    (tmp_path / "pool.py").write_text(LEAK)
    assert main(["lint", "--isolated", "pool.py"]) == 1
    assert "pool.py:5:5: NZ101" in capsys.readouterr().out
    assert main(["lint", "--isolated", "--ignore", "NZ101", "pool.py"]) == 0
    assert main(["lint"]) == 2


def run(*command: str) -> subprocess.CompletedProcess[str]:
    return subprocess.run(command, capture_output=True, text=True, check=False, timeout=60)


def test_as_a_module_and_as_a_script() -> None:
    script = Path(sys.executable).with_name("naught")
    assert script.exists(), "the package is not installed, or not as pyproject.toml says"
    for command in ([sys.executable, "-W", "error", "-m", "naught"], [str(script)]):
        assert run(*command, "--version").stdout == f"naught {__version__}\n"
        assert run(*command, "no-such").returncode == 2
        assert run(*command, "lint", "--rules").stdout.startswith("NZ100 ")


def test_a_command_is_imported_when_it_is_asked_for() -> None:
    """The modules of the other commands do not slow it down."""
    code = (
        "import sys, naught.cli.main as command; command.main(['--help']); command.main(['--version']);"
        "sys.exit(any(name in sys.modules for name, _ in command.COMMANDS.values()))"
    )
    assert run(sys.executable, "-c", code).returncode == 0
