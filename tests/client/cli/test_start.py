"""A command imports what it needs and no more. Imports are most of the time in which it starts, and unlike the time
they can be counted."""

from __future__ import annotations

import subprocess
import sys

import pytest

from naught import _compiled
from support.surroundings import without_settings

# What takes long to import, and what belongs to commands of its own.
HEAVY = {
    "argparse", "asyncio", "dataclasses", "email", "hashlib", "importlib.util", "inspect", "json", "logging",
    "msgpack", "naught.aio", "naught.blocking", "naught.cli.counters", "naught.cli.screen", "naught.core",
    "naught.lint", "naught.patterns", "naught.safemap", "naught.zeros", "pathlib", "shutil", "socket", "ssl",
    "subprocess", "threading", "tomllib", "urllib",
}  # fmt: skip
NETWORK = {
    "asyncio",
    "ssl",
    "subprocess",
    "logging",
    "naught.aio",
    "naught.blocking",
    "naught.core",
    "naught.patterns",
}
TOOLS = {
    "naught.lint",
    "naught.safemap",
    "naught.zeros",
    "naught.blocking",
    "naught.cli.screen",
    "tomllib",
    "hashlib",
    "pathlib",
    "dataclasses",
    "shutil",
}

# Where modules of the package are compiled, it is made sure that they were compiled from the sources that are there.
FOR_COMPILED = {"importlib.util", "json"} if _compiled.is_compiled("naught") else set[str]()

PROGRAM = """
import sys
before = set(sys.modules)  # of the site
sys.argv[0] = "naught"
from naught.__main__ import main
main(sys.argv[1:])
print(*sorted(set(sys.modules) - before), file=sys.stderr)
"""


def imported_by(*words: str) -> set[str]:
    """The modules that a command imports, its package's among them."""
    done = subprocess.run(
        [sys.executable, "-I", "-c", PROGRAM, *words],
        capture_output=True,
        text=True,
        check=True,
        timeout=60,
        env=without_settings(),
    )
    return set(done.stderr.splitlines()[-1].split())


@pytest.mark.parametrize(
    ("words", "unwanted", "count_max"),
    [
        (["--version"], HEAVY, 40),
        (["--help"], HEAVY, 40),
        (["get", "--help"], HEAVY - {"argparse", "msgpack"}, 90),
        (["completion", "bash"], NETWORK - {"logging", "subprocess"}, 200),
        (["ping", "--check", "--url", "naught://127.0.0.1:1"], NETWORK | TOOLS, 200),
        (["get", "a", "--url", "naught://127.0.0.1:1", "--timeout", "0.001"], TOOLS | {"json"}, 250),
    ],
    ids=lambda value: " ".join(value[:2]) if isinstance(value, list) else "",
)
def test_what_a_command_imports(words: list[str], unwanted: set[str], count_max: int) -> None:
    found = imported_by(*words)
    assert "naught.cli.main" in found
    assert sorted(found & unwanted - FOR_COMPILED) == []
    assert len(found) <= count_max + 8 * len(FOR_COMPILED), sorted(found)


def test_the_package_is_imported_as_it_is_asked_for() -> None:
    program = (
        "import sys, naught; at_once = set(sys.modules);"
        "assert not {'asyncio', 'ssl', 'naught.safemap', 'naught.aio'} & at_once, at_once;"
        "missing = [name for name in naught.__all__ if getattr(naught, name) is None]; assert missing == [];"
        "assert set(naught.__all__) <= set(dir(naught));"
        "assert naught.asgi.InFlightLimit and naught.blocking.Client;"
        "assert naught.errors.NaughtError is naught.NaughtError;"
        "from naught import *; assert connect is naught.connect;"
        "assert not hasattr(naught, 'nothing')"
    )
    done = subprocess.run([sys.executable, "-W", "error", "-c", program], capture_output=True, text=True, check=False)
    assert (done.returncode, done.stderr) == (0, "")
