"""The unit for systemd: systemd knows its words, its limits fit the server's, and what it forbids is not needed."""

from __future__ import annotations

import contextlib
import os
import re
import shutil
import signal
import subprocess
import sys
from pathlib import Path

import pytest

from naught_server.config import ServerConfig
from naught_server.health import SWEEPER_STALLED_MS
from naught_server.limits import FILES_RESERVED, HTTP_CONNECTIONS_MAX
from naught_server.loading import load
from naught_server.notify import WATCHDOG_SHARE
from support.alerting import DEPLOY
from support.paths import DOCS
from support.programs import need
from support.server_process import server_process, wait_until

FOLDER = DEPLOY / "systemd"
UNIT = (FOLDER / "naught.service").read_text("utf-8")
SETTINGS: list[tuple[str, str]] = re.findall(r"^(\w+)=(.*)$", UNIT, re.MULTILINE)
PROGRAM = "/opt/naught/bin/naught-server"
EXAMPLE = load(["--config", str(FOLDER / "naught.toml")], {}).config


def setting(name: str) -> str:
    """The last value of a setting of the unit."""
    return [value for each, value in SETTINGS if each == name][-1]


def analyze(*arguments: str | Path) -> subprocess.CompletedProcess[str]:
    """systemd-analyze, without a look at this machine's own units."""
    need("systemd-analyze")
    return subprocess.run(
        ["systemd-analyze", *map(str, arguments)],
        capture_output=True,
        text=True,
        check=False,
        timeout=60,
        env={**os.environ, "SYSTEMD_LOG_LEVEL": "info", "SYSTEMD_COLORS": "0", "SYSTEMD_EMOJI": "0"},
    )


def unit_file(folder: Path, text: str = UNIT) -> Path:
    """A unit in a folder, whose program is one of this machine."""
    assert PROGRAM in text
    file = folder / "naught.service"
    file.write_text(text.replace(PROGRAM, shutil.which("true") or sys.executable))
    return file


# ------------------------------------------------------------------------------------------- by systemd


@pytest.mark.peer
def test_systemd_has_nothing_to_say_of_the_unit(tmp_path: Path) -> None:
    done = analyze("verify", "--man=no", unit_file(tmp_path))
    assert (done.returncode, done.stdout, done.stderr) == (0, "", "")


@pytest.mark.peer
@pytest.mark.parametrize(
    ("old", "new", "says"),
    [
        ("NoNewPrivileges=yes", "NoNewPriviliges=yes", "'NoNewPriviliges'"),
        ("ProtectSystem=strict", "ProtectSystem=strickt", "Failed to parse protect system value"),
        ("WatchdogSec=60", "WatchdogSec=soon", "ignoring: soon"),
        ("@system-service", "@system-sevice", "Unknown system call group"),
        ("[Service]", "[Srevice]", "Unknown section 'Srevice'"),
    ],
    ids=["key", "value", "time", "system calls", "section"],
)
def test_a_wrong_unit_is_found_though_the_exit_status_may_be_0(old: str, new: str, says: str, tmp_path: Path) -> None:
    assert old in UNIT
    assert says in analyze("verify", "--man=no", unit_file(tmp_path, UNIT.replace(old, new))).stderr


@pytest.mark.peer
def test_the_score_is_what_the_page_says(tmp_path: Path) -> None:
    done = analyze("security", "--offline=yes", "--no-pager", "--threshold=100", unit_file(tmp_path))
    found = re.search(r"Overall exposure level for naught\.service: (\d+\.\d) (\w+)", done.stdout)
    assert found is not None, done.stderr
    page = (DOCS / "deployment.md").read_text("utf-8")
    quoted = re.search(r"Overall exposure level for naught\.service: (\d+\.\d) (\w+)", page)
    assert quoted is not None
    # Another systemd may weigh otherwise, and may know more that could be forbidden.
    assert float(found[1]) <= float(quoted[1]) + 0.5
    assert found[2] in ("SAFE", "OK")


@pytest.mark.peer
def test_a_unit_without_its_bounds_scores_worse(tmp_path: Path) -> None:
    bare = "\n".join(line for line in UNIT.splitlines() if not re.match(r"(Protect|Private|Restrict|System)", line))
    done = analyze("security", "--offline=yes", "--no-pager", "--threshold=20", unit_file(tmp_path, bare))
    assert done.returncode != 0, "2.0 is the threshold, in tenths"


# ------------------------------------------------------------------------------------------- and by the server


def test_the_server_has_the_time_that_it_needs_to_stop() -> None:
    most_s = max(EXAMPLE.drain_timeout_ms, ServerConfig().drain_timeout_ms) / 1_000
    assert float(setting("TimeoutStopSec")) >= most_s + 5
    assert setting("KillMode") == "mixed"


def test_the_watchdog_is_slower_than_the_servers_own_look() -> None:
    watchdog_s = float(setting("WatchdogSec"))
    assert watchdog_s - watchdog_s / WATCHDOG_SHARE > SWEEPER_STALLED_MS / 1_000
    assert setting("Type") == "notify"


def test_there_are_descriptors_for_all_connections() -> None:
    needed = ServerConfig().connections_max + FILES_RESERVED + HTTP_CONNECTIONS_MAX
    assert int(setting("LimitNOFILE")) >= needed


def test_the_example_has_its_socket_where_the_unit_makes_a_folder() -> None:
    assert EXAMPLE.unix_socket == f"/run/{setting('RuntimeDirectory')}/naught.sock"
    assert EXAMPLE.host == "127.0.0.1"
    assert not EXAMPLE.insecure
    assert setting("ExecStart") == f"{PROGRAM} --config /etc/naught/naught.toml"


def test_the_user_is_made_before() -> None:
    (line,) = [
        each for each in (FOLDER / "naught.sysusers.conf").read_text().splitlines() if not each.startswith("#")
    ]
    kind, name, *_ = line.split()
    assert (kind, name) == ("u", setting("User"))
    assert setting("Group") == name


# ------------------------------------------------------------------------------------------- what the server does


def allowed_calls() -> set[str]:
    """The system calls that the unit allows, by systemd's own lists."""
    allowed: set[str] = set()
    for name, value in SETTINGS:
        if name == "SystemCallFilter":
            calls = {call for word in value.removeprefix("~").split() for call in calls_of(word)}
            allowed = allowed - calls if value.startswith("~") else allowed | calls
    return allowed


def calls_of(word: str) -> set[str]:
    if not word.startswith("@"):
        return {word}
    done = analyze("syscall-filter", "--no-pager", word)
    assert done.returncode == 0, done.stderr
    lines = [line.strip() for line in done.stdout.splitlines()[1:]]
    return {call for line in lines if line and not line.startswith("#") for call in calls_of(line)}


@pytest.mark.peer
@pytest.mark.slow
def test_what_the_unit_forbids_the_server_does_not_do(tmp_path: Path) -> None:
    """A server is started, used, reloaded and stopped under strace."""
    need("strace")
    allowed = allowed_calls()
    assert {"epoll_wait", "accept4", "prlimit64"} <= allowed
    assert not {"mount", "setuid", "ptrace", "sched_setaffinity"} & allowed
    trace = tmp_path / "trace"
    config = tmp_path / "naught.toml"
    config.write_text("connections_max = 1000\nwatch_config = true\n")
    command = ["strace", "-f", "-qq", "-o", str(trace), sys.executable, "-m", "naught_server"]
    socket = tmp_path / "naught.sock"
    arguments = ("--http-port", "0", "--unix-socket", str(socket), "--config", str(config))
    # An installed package has its bytecode already.
    environment = {"PYTHONDONTWRITEBYTECODE": "1"}
    with server_process(tmp_path, *arguments, command=command, environment=environment) as server:
        wait_until(lambda: "pid=" in server.log(), "it says who it is")
        (pid,) = map(int, re.findall(r"pid=(\d+)", server.log()))  # server.process is strace
        try:
            assert server.call("incr", "a") == 1
            assert isinstance(server.call("info"), dict)
            os.kill(pid, signal.SIGHUP)
            wait_until(lambda: "configuration reread" in server.log(), "it has read its file again")
            os.kill(pid, signal.SIGTERM)
            assert server.process.wait(60) == 0
        finally:
            with contextlib.suppress(ProcessLookupError):
                os.kill(pid, signal.SIGKILL)
    lines = trace.read_text("utf-8", "replace").splitlines()
    calls = {found[1] for line in lines if (found := re.match(r"\d+ +(\w+)\(", line))}
    assert {"bind", "listen"} <= calls, "it was traced"
    assert calls - allowed - {"execve"} == set()
    assert [line for line in lines if "PROT_WRITE|PROT_EXEC" in line] == [], "MemoryDenyWriteExecute"
    families = {found[1] for line in lines if (found := re.search(r" socket\((\w+),", line))}
    assert families <= set(setting("RestrictAddressFamilies").split())
    # ProtectSystem=strict, and the read-only root of a container: nothing is written but what this test asked for.
    written = {
        found[1]
        for line in lines
        if (found := re.search(r' openat?\(.*?"([^"]*)", [^,]*(?:O_WRONLY|O_RDWR|O_CREAT)', line))
    }
    assert {path for path in written if not path.startswith(str(tmp_path))} <= {"/dev/null"}
