"""Ctrl-C: once ends a run early with its whole report, twice stops at once. And the live line never waits."""

from __future__ import annotations

import json
import signal
import subprocess
import sys
import time
from collections.abc import Iterator
from pathlib import Path
from typing import Any

import pytest

from naught_loadtest.commands import status
from naught_loadtest.drivers import driver_for
from naught_loadtest.drivers.naught import request
from naught_loadtest.drivers.probe import Probe
from naught_loadtest.drivers.servers import Server, naught_server
from naught_loadtest.drivers.target import parse_target
from naught_loadtest.generate import watcher
from naught_loadtest.generate.watcher import Watcher
from naught_loadtest.processes import environment
from support.listening import listening
from support.misbehaving import Fault, Misbehaving, NeverAnswers
from support.seeds import exhaustive, slow
from support.server_process import wait_until

DEADLINE_S = 30.0


@pytest.fixture(scope="module")
def naught() -> Iterator[Server]:
    with naught_server() as server:
        yield server


def started(*words: str) -> subprocess.Popen[str]:
    command = [sys.executable, "-W", "error", "-m", "naught_loadtest", *words]
    return subprocess.Popen(command, stdout=subprocess.PIPE, stderr=subprocess.PIPE, text=True, env=environment())


def read_until(run: subprocess.Popen[str], text: str) -> None:
    """Read what it says on standard error, up to the line with this text. Fails where it ends without."""
    assert run.stderr is not None
    said = []
    while text not in (line := run.stderr.readline()):
        said.append(line)
        assert line, f"it ended after {said}"


def counters(server: Server, prefix: str) -> int:
    target = parse_target(server.url)
    with Probe(target, driver_for(target.kind)) as probe:
        count: int = probe.ask(request("count", prefix))[0]
    return count


@pytest.mark.parametrize(
    "loop",
    [*exhaustive((("-P", "4"),)), *slow((("--rate", "500"),))],
    ids=["closed", "open"],
)
def test_the_first_interrupt_ends_a_run_with_its_whole_report(
    loop: tuple[str, str], naught: Server, tmp_path: Path
) -> None:
    document, distribution = tmp_path / "report.json", tmp_path / "report.hgrm"
    words = (
        "--target",
        naught.url,
        "--duration",
        "120",
        "--warmup",
        "0.1",
        "-c",
        "4",
        "--keys",
        "40",
        "--no-ceiling",
    )
    with started("run", *words, *loop, "--json", str(document), "--hgrm", str(distribution)) as run:
        read_until(run, " s ")  # the first second is over
        run.send_signal(signal.SIGINT)
        out, err = run.communicate(timeout=DEADLINE_S)
    assert run.returncode == status.INTERRUPTED, out + err
    assert "Traceback" not in err
    assert "CUT SHORT" in out
    assert "of 120 s" in out
    report = json.loads(document.read_text())
    assert report["cut_short"]
    assert 0 < report["elapsed_s"] < 120
    assert report["offered"] == report["requests"] + report["missed"] > 0
    assert report["verification_before"]["passed"]
    assert report["verification"]["passed"]
    assert report["verification"]["left"] == 0
    assert "#[Mean" in distribution.read_text()
    assert counters(naught, report["plan"]["prefix"]) == 0


@pytest.mark.parametrize(
    "at_start", [*exhaustive(signal.default_int_handler), *slow(signal.SIG_IGN)], ids=["default", "ignored"]
)
def test_the_second_interrupt_stops_at_once(at_start: Any) -> None:
    """The server never answers, so the first one would wait for the timeout of ten minutes. A shell may have had the
    signal ignored, which a started program inherits."""
    before = signal.signal(signal.SIGINT, at_start)
    try:
        interrupt_twice()
    finally:
        signal.signal(signal.SIGINT, before)


def interrupt_twice() -> None:
    with listening(Misbehaving(NeverAnswers())) as server:
        words = ("--target", server.url, "--duration", "600", "--timeout", "600", "--warmup", "0", "--no-ceiling")
        with started("run", *words, "-c", "2") as run:
            read_until(run, " s ")  # behind what a slow machine says of encoding
            run.send_signal(signal.SIGINT)
            read_until(run, "Ctrl-C again")
            run.send_signal(signal.SIGINT)
            out, err = run.communicate(timeout=DEADLINE_S)
    assert run.returncode == status.INTERRUPTED, out + err
    assert "Traceback" not in err


class CountsOnce(Fault):
    """Answers the first question for the number of counters, then none on that connection, then every one."""

    asked = 0

    def count(self, prefix: bytes) -> int:
        self.asked += 1
        if self.asked == 2:
            # As long as the server stands still, nobody gets an answer. The watcher gives up before that.
            time.sleep(0.3)
        return super().count(prefix)


def test_the_live_counters_are_those_of_the_run_and_a_silent_server_is_asked_anew(
    monkeypatch: pytest.MonkeyPatch,
) -> None:
    monkeypatch.setattr(watcher, "ANSWER_S_MAX", 0.1)
    monkeypatch.setattr(watcher, "PAUSE_S", 0.01)
    monkeypatch.setattr(watcher, "PAUSE_FACTOR", 1)
    fault = CountsOnce()
    fault.counters = {b"a1b2c3d:1": 1, b"a1b2c3d:2": 1, b"theirs": 1}
    with listening(Misbehaving(fault)) as server:
        watching = Watcher(parse_target(server.url), "a1b2c3d:")
        try:
            seen: list[int | None] = []
            deadline = time.monotonic() + DEADLINE_S
            while seen[-3:] != [2, None, 2]:
                assert time.monotonic() < deadline, seen
                if not seen or seen[-1] != watching.live:
                    seen.append(watching.live)
                time.sleep(0.001)
        finally:
            watching.stop()
    assert server.accepted >= 2


@pytest.mark.parametrize("number", [signal.SIGTERM, signal.SIGHUP], ids=lambda number: number.name)
def test_no_server_is_left_where_it_is_told_to_end(number: signal.Signals, tmp_path: Path) -> None:
    """SIGHUP comes when the terminal is closed. The folder with the port is the last that goes."""
    where = {**environment(), "TMPDIR": str(tmp_path)}
    command = [sys.executable, "-W", "error", "-m", "naught_loadtest", "demo"]
    with subprocess.Popen(command, stdout=subprocess.PIPE, stderr=subprocess.PIPE, text=True, env=where) as run:
        wait_until(lambda: any(tmp_path.glob("*/ports.json")), "the server has started")
        run.send_signal(number)
        out, err = run.communicate(timeout=DEADLINE_S)
    assert run.returncode == status.INTERRUPTED, out + err
    assert "all processes that were started have been stopped" in err
    assert not list(tmp_path.iterdir())
