"""What needs no server works where msgpack and uvloop are not installed: SafeMap, zeros and `naught lint`."""

from __future__ import annotations

import subprocess
import sys

import pytest

from support.surroundings import without_settings

BLOCK = """
import sys

class Missing:
    def find_spec(self, name, path=None, target=None):
        if name.partition(".")[0] in {"msgpack", "uvloop"}:
            raise ModuleNotFoundError(f"No module named {name!r}", name=name)

sys.meta_path.insert(0, Missing())
"""
RUN = "from naught.cli.main import main; sys.exit(main(sys.argv[1:]))"
COUNT = """
import naught
counters = naught.SafeMap(int, {"a": 1})
assert counters.decr("a") == (0, True)
try:
    counters.decr("a", strict=True)
except naught.Underflow:
    print("counted")
"""
PRUNE = "import naught.zeros; print(naught.zeros.prune({'a': 0, 'b': 1}).value)"
IMPORTS = "import naught.safemap, naught.zeros, naught.lint, naught.errors, naught.lint.flake8_plugin"


def run(program: str, *arguments: str) -> subprocess.CompletedProcess[str]:
    return subprocess.run(
        [sys.executable, "-c", BLOCK + program, *arguments],
        capture_output=True,
        text=True,
        timeout=60,
        env=without_settings(),
        check=False,
    )


@pytest.mark.parametrize(
    ("program", "printed"),
    [(COUNT, "counted\n"), (PRUNE, "{'b': 1}\n"), (IMPORTS, "")],
    ids=["SafeMap", "zeros", "all"],
)
def test_the_toolbox_works(program: str, printed: str) -> None:
    done = run(program)
    assert (done.returncode, done.stdout, done.stderr) == (0, printed, "")


def test_the_block_blocks() -> None:
    assert "No module named 'msgpack'" in run("import naught; naught.connect").stderr


@pytest.mark.parametrize(("words", "printed"), [(["--version"], "naught "), (["--help"], "usage: naught")])
def test_the_command_explains_itself(words: list[str], printed: str) -> None:
    done = run(RUN, *words)
    assert (done.returncode, done.stdout[: len(printed)], done.stderr) == (0, printed, "")


def test_lint_works(tmp_path: object) -> None:
    source = f"{tmp_path}/module.py"
    with open(source, "w", encoding="utf-8") as file:
        file.write(
            "COUNTS = {}\n\n\ndef up(key):\n    COUNTS[key] = COUNTS.get(key, 0) + 1\n\n\n"
            "def down(key):\n    COUNTS[key] -= 1\n"
        )
    done = run(RUN, "lint", source)
    assert (done.returncode, "Traceback" in done.stderr) == (1, False)
    assert "COUNTS" in done.stdout


def test_a_command_that_needs_a_server_says_what_is_missing() -> None:
    done = run(RUN, "get", "a")
    assert done.returncode == 1
    assert (
        done.stderr
        == "naught: this command needs the package msgpack, which is not installed; lint works without it\n"
    )
