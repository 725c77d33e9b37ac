"""The distributions, built and installed as a user does it: for each Python that is at hand, in an empty environment.

What they need is installed from the package index, as `make` does.
"""

from __future__ import annotations

import os
import shutil
import subprocess
import sys
from pathlib import Path

import pytest

from naught._version import __version__
from support.paths import ROOT

pytestmark = pytest.mark.slow

PYTHONS = ("3.11", "3.12", "3.13")

ROUND_TRIP = """
import asyncio, os, signal, subprocess, sys, tempfile

import naught, naught.blocking

async def round_trip(url):
    async with naught.connect(url) as counters:
        async with asyncio.TaskGroup() as group:
            calls = [group.create_task(awaited(counters.incr("seats"))) for _ in range(100)]
        assert sorted(call.result() for call in calls) == list(range(1, 101))
        assert await counters.decr("seats", 40) == 60
        assert await counters.apply(["seats", "other"], [-60, 1]) == [0, 1]
        async with counters.semaphore("gpu", limit=1):
            assert await counters.top(5) == [("gpu", 1), ("other", 1)]
        assert await counters.count() == 1
        return (await counters.info())["compiled"]

async def awaited(call):
    return await call

compiled = sys.argv[1] == "compiled"
assert asyncio.run(round_trip("memory://")) is compiled
with tempfile.TemporaryDirectory() as folder:
    path = os.path.join(folder, "socket")
    program = [os.path.join(os.path.dirname(sys.executable), "naught-server")]
    program += ["--host=", "--http-port=off", "--unix-socket", path]
    server = subprocess.Popen(program, stderr=subprocess.PIPE)
    try:
        assert b"listening" in server.stderr.readline()
        url = "naught+unix://" + path
        assert asyncio.run(round_trip(url)) is compiled
        with naught.blocking.Client(url) as counters:
            assert counters.incr("seats") == 1
    finally:
        server.send_signal(signal.SIGTERM)
        server.communicate()
assert server.returncode == 0, server.returncode

import naught.core.session, naught_server.hot, naught_server.store
from naught import _compiled

for package in ("naught", "naught_server"):
    assert _compiled.is_compiled(package) is compiled
for module in (naught.core.session, naught_server.hot, naught_server.store):
    assert module.__file__.endswith(_compiled.SUFFIX if compiled else ".py"), module.__file__
top = {name.partition(".")[0] for name in sys.modules}
assert "msgpack" in top
assert not top & {"mypy", "mypyc", "mypy_extensions", "librt", "setuptools", "hatchling"}, top
print("good")
"""


def find_python(version: str) -> str | None:
    """The program of this version of Python, if it is at hand."""
    if version == "{}.{}".format(*sys.version_info):
        return sys.executable
    pyenv = sorted(map(str, Path.home().glob(f".pyenv/versions/{version}.*/bin/python")))
    found = pyenv[-1] if pyenv else shutil.which(f"python{version}")
    # A shim of pyenv is there for each version that any of its environments has, and runs only those in use.
    return None if found is None or "shims" in Path(found).parts else found


AT_HAND = {version: program for version in PYTHONS if (program := find_python(version)) is not None}


def run(*command: str | Path, pure: bool = False, cwd: Path | None = None) -> str:
    """What the command prints. Nothing of this checkout is in its environment."""
    environment = {name: value for name, value in os.environ.items() if not name.startswith(("NAUGHT_", "PYTHON"))}
    if pure:
        environment["NAUGHT_PURE"] = "1"
    done = subprocess.run(command, env=environment, capture_output=True, text=True, check=False, cwd=cwd)
    assert done.returncode == 0, f"{command}\n{done.stdout}{done.stderr}"
    return done.stdout


class Environment:
    """A virtual environment, empty but for pip."""

    def __init__(self, folder: Path, program: str) -> None:
        run(program, "-m", "venv", folder)
        self.folder = folder
        self.python = folder / "bin" / "python"

    def pip(self, *arguments: str | Path, pure: bool = False) -> None:
        run(self.python, "-m", "pip", "-q", "--disable-pip-version-check", *arguments, pure=pure)

    def build(self, source: Path, *, pure: bool = False) -> Path:
        """Build a wheel for this interpreter, and install it with what it requires."""
        wheels = self.folder / "wheels"
        self.pip("wheel", "--no-deps", "--wheel-dir", wheels, source, pure=pure)
        (wheel,) = wheels.iterdir()
        self.pip("install", wheel)
        return wheel

    def has(self) -> set[str]:
        """The names of the distributions in it."""
        return set(run(self.python, "-m", "pip", "list", "--format=freeze").replace("==", "\n").split()[::2])


@pytest.fixture(scope="module")
def sdist(tmp_path_factory: pytest.TempPathFactory) -> Path:
    folder = tmp_path_factory.mktemp("sdist")
    program = "from hatchling.build import build_sdist; import sys; build_sdist(sys.argv[1])"
    maker = Environment(folder / "maker", sys.executable)
    maker.pip("install", "hatchling")
    run(maker.python, "-c", program, folder, cwd=ROOT)
    (file,) = folder.glob("*.tar.gz")
    return file


@pytest.mark.parametrize("version", AT_HAND)
def test_a_compiled_wheel(version: str, sdist: Path, tmp_path: Path) -> None:
    environment = Environment(tmp_path / "environment", AT_HAND[version])
    wheel = environment.build(sdist)
    tag = f"cp{version.replace('.', '')}"
    assert wheel.name.startswith(f"naught-{__version__}-{tag}-{tag}-")
    assert environment.has() - {"pip", "setuptools"} == {"naught", "msgpack", "uvloop"}
    shown = run(environment.folder / "bin" / "naught-server", "--version")
    assert shown == f"naught-server {__version__} (compiled)\n"
    assert run(environment.python, "-W", "error", "-c", ROUND_TRIP, "compiled") == "good\n"
    # Its own sources run too, and where one has changed nothing else does.
    assert run(environment.python, "-W", "error", "-c", ROUND_TRIP, "interpreted", pure=True) == "good\n"
    (source,) = environment.folder.glob("lib/python*/site-packages/naught_server/hot.py")
    source.touch()
    assert run(environment.python, "-W", "error", "-c", "import naught_server") == ""
    with source.open("a") as file:
        file.write("# changed\n")
    told = run(
        environment.python,
        "-c",
        "import warnings\n"
        "with warnings.catch_warnings(record=True) as found:\n"
        "    import naught_server.hot\n"
        "print(found[0].message, naught_server.hot.__file__)",
    )
    assert told.startswith("naught_server.hot has changed since naught_server was compiled")
    assert told.endswith(f"{source}\n")


def test_a_wheel_without_a_compiler(sdist: Path, tmp_path: Path) -> None:
    environment = Environment(tmp_path / "environment", sys.executable)
    wheel = environment.build(sdist, pure=True)
    assert wheel.name == f"naught-{__version__}-py3-none-any.whl"
    shown = run(environment.folder / "bin" / "naught-server", "--version")
    assert shown == f"naught-server {__version__} (interpreted)\n"
    assert run(environment.python, "-W", "error", "-c", ROUND_TRIP, "interpreted") == "good\n"
