"""The programs of examples/ run, started as their first lines say."""

from __future__ import annotations

import ast
import json
import os
import re
import signal
import subprocess
import sys
import urllib.error
import urllib.request
from collections.abc import Iterator
from concurrent.futures import ThreadPoolExecutor
from contextlib import contextmanager
from pathlib import Path
from typing import Any

import pytest

from support.paths import ROOT
from support.server_process import ServerProcess, server_process, wait_until
from support.surroundings import without_settings

EXAMPLES = sorted((ROOT / "examples").glob("*.py"))
GUARD_S = 60


@pytest.fixture
def server(tmp_path: Path) -> Iterator[ServerProcess]:
    with server_process(tmp_path) as server:
        yield server


def environment(server: ServerProcess) -> dict[str, str]:
    return without_settings() | {"NAUGHT_URL": f"naught://127.0.0.1:{server.port}"}


def ran(name: str, *options: str, variables: dict[str, str]) -> str:
    """What an example prints."""
    done = subprocess.run(
        [sys.executable, *options, str(ROOT / "examples" / name)],
        capture_output=True, text=True, timeout=GUARD_S, check=False, env=variables, cwd=ROOT,
    )  # fmt: skip
    assert (done.returncode, done.stderr) == (0, ""), done.stdout + done.stderr
    return done.stdout


@contextmanager
def serving(command: list[str], port: int, variables: dict[str, str], log: Path) -> Iterator[str]:
    """The URL of a web server, which runs while the block does."""
    with log.open("w") as out:
        process = subprocess.Popen(
            [sys.executable, "-m", *command], env=variables, cwd=ROOT, stdout=out, stderr=out, start_new_session=True
        )
    url = f"http://127.0.0.1:{port}"
    try:
        wait_until(lambda: process.poll() is not None or asked(f"{url}/nothing")[0] == 404, "it serves", GUARD_S)
        assert process.poll() is None, log.read_text()
        yield url
        process.terminate()
        process.wait(GUARD_S)
    finally:
        if process.poll() is None:
            os.killpg(process.pid, signal.SIGKILL)
            process.wait()


def asked(url: str, method: str = "GET", **headers: str) -> tuple[int, Any, dict[str, str]]:
    """Status, content and headers of a response; status 0 where nobody answers."""
    request = urllib.request.Request(url, method=method, headers=headers)
    try:
        with urllib.request.urlopen(request, timeout=GUARD_S) as response:
            return response.status, json.load(response), dict(response.headers)
    except urllib.error.HTTPError as error:
        with error:
            return error.code, error.read(), dict(error.headers)
    except OSError:
        return 0, None, {}


def test_each_example_says_how_it_is_started_and_has_a_test() -> None:
    listed = (ROOT / "examples" / "README.md").read_text()
    tests = Path(__file__).read_text()
    for path in EXAMPLES:
        said = ast.get_docstring(ast.parse(path.read_text())) or ""
        (command,) = re.findall(rf"^ +((?:python|uvicorn|gunicorn|pytest) .*{path.stem}.*)$", said, re.MULTILINE)
        assert f"`{command}`" in listed
        assert f'"{path.name}"' in tests or f'"{path.stem}:app"' in tests
    assert len(EXAMPLES) == 5


@pytest.mark.slow
def test_pytest_without_a_server() -> None:
    done = subprocess.run(
        [sys.executable, "-m", "pytest", "-q", "-p", "no:cacheprovider", str(ROOT / "examples" / "test_seats.py")],
        capture_output=True, text=True, timeout=GUARD_S, check=False, env=without_settings(), cwd=ROOT,
    )  # fmt: skip
    assert done.returncode == 0, done.stdout
    assert "3 passed" in done.stdout


@pytest.mark.slow
def test_a_process_pool(server: ServerProcess) -> None:
    assert ran("process_pool.py", variables=environment(server)) == "8 files of 3 folders are imported\n"
    assert server.call("count") == 0


@pytest.mark.slow
def test_a_job_queue(server: ServerProcess) -> None:
    said = ran("job_queue.py", variables=environment(server))
    assert said == "15 jobs done by 3 workers, in time: True, held: 0\n"
    assert server.call("count") == 0


@pytest.mark.slow
def test_fastapi_with_two_workers(server: ServerProcess, own_port: int, tmp_path: Path) -> None:
    command = ["uvicorn", "--app-dir", "examples", "--workers", "2", "--port", str(own_port), "fastapi_app:app"]
    with serving(command, own_port, environment(server), tmp_path / "uvicorn.log") as url:
        with ThreadPoolExecutor(8) as pool:
            answers = list(pool.map(lambda _: asked(f"{url}/render", **{"X-User": "ann"}), range(8)))
        assert sorted(status for status, _, _ in answers) == [200] * 5 + [429] * 3, "five a minute, in both workers"
        assert all(1 <= int(headers["retry-after"]) <= 60 for status, _, headers in answers if status == 429)
        assert asked(f"{url}/render", **{"X-User": "ben"})[0] == 200
        server.call("incr", "requests", 100)
        status, _, headers = asked(f"{url}/render", **{"X-User": "cho"})
        assert (status, headers["retry-after"]) == (503, "1")
        server.call("decr", "requests", 100)
        assert asked(f"{url}/render", **{"X-User": "cho"})[0] == 200
    wait_until(lambda: server.call("get", "requests") == 0, "nothing is in flight")


@pytest.mark.slow
@pytest.mark.parametrize("preload", [[], ["--preload"]], ids=["", "preload"])
def test_flask_under_gunicorn(server: ServerProcess, own_port: int, tmp_path: Path, preload: list[str]) -> None:
    command = ["gunicorn", "--chdir", "examples", "--workers", "2", "--threads", "4", *preload]
    command += ["--bind", f"127.0.0.1:{own_port}", "flask_app:app"]
    with serving(command, own_port, environment(server), tmp_path / "gunicorn.log") as url:
        with ThreadPoolExecutor(8) as pool:
            answers = list(pool.map(lambda _: asked(f"{url}/flights/LH1/seats", "POST"), range(8)))
        assert sorted(status for status, _, _ in answers) == [201] * 5 + [409] * 3
        assert sorted(content["seat"] for status, content, _ in answers if status == 201) == [1, 2, 3, 4, 5]
        assert asked(f"{url}/report")[1] == {"flights": {"seats:LH1": 5}}
        assert [asked(f"{url}/flights/LH1/seats", "DELETE")[1]["taken"] for _ in range(5)] == [4, 3, 2, 1, 0]
        assert asked(f"{url}/report")[1] == {"flights": {}}
    wait_until(lambda: server.call("count") == 0, "nothing is left")
