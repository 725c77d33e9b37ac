"""`naught run`: a program holds a permit while it runs. Real processes, signals and terminals."""

from __future__ import annotations

import os
import re
import signal
import subprocess
import sys
from collections.abc import Iterator
from pathlib import Path

import pytest

from support.pseudo_terminal import PseudoTerminal
from support.seeds import slow
from support.server_process import ServerProcess, server_process, wait_until
from support.shell import GUARD_S, NAUGHT, Shell

RUN = ["run", "--semaphore", "gpu", "--limit", "1"]
needs_linux = pytest.mark.skipif(sys.platform != "linux", reason="a mechanism of Linux")

# Says the signals that it gets, and ends at SIGTERM with 7. It blocks them and asks for the next one: with handlers
# and `pause`, one that comes just before `pause` waits there for another signal.
LISTENER = """
import signal, sys
names = ("SIGHUP", "SIGINT", "SIGQUIT", "SIGTERM", "SIGUSR1", "SIGUSR2", "SIGWINCH")
signals = {getattr(signal, name) for name in names}
signal.pthread_sigmask(signal.SIG_BLOCK, signals)
print("ready", flush=True)
number = None
while number != signal.SIGTERM:
    number = signal.Signals(signal.sigwait(signals))
    print(number.name, flush=True)
sys.exit(7)
"""


@pytest.fixture(scope="module")
def server(tmp_path_factory: pytest.TempPathFactory) -> Iterator[ServerProcess]:
    with server_process(tmp_path_factory.mktemp("server")) as server:
        yield server


@pytest.fixture
def shell(server: ServerProcess) -> Shell:
    wait_until(lambda: server.call("count") == 0, "the permits of other tests are back")
    return Shell(server)


def ended(process: subprocess.Popen[bytes]) -> tuple[int, bytes, bytes]:
    out, err = process.communicate(timeout=GUARD_S)
    assert b"Traceback" not in err, err.decode()
    return process.returncode, out, err


def line_of(process: subprocess.Popen[bytes]) -> bytes:
    assert process.stdout is not None
    return process.stdout.readline()


@pytest.mark.parametrize(
    ("program", "status"),
    [
        (["sh", "-c", "exit 7"], 7),
        (["sh", "-c", "kill -KILL $$"], 137),
        (["no-such-program"], 127),
        ([""], 127),
        *slow((["true"], 0), (["sh", "-c", "kill -TERM $$"], 143), (["/"], 126), (["/etc/passwd"], 126)),
    ],
    ids=lambda value: " ".join(value) if isinstance(value, list) else "",
)
def test_the_status_is_the_program_s_and_the_permit_is_given_back(
    shell: Shell, server: ServerProcess, program: list[str], status: int
) -> None:
    found, out, err = ended(shell.start(*RUN, "--", *program))
    assert (found, out) == (status, b"")
    assert err.count(b"\n") == (status in (126, 127)), err
    assert server.call("get", "gpu") == 0


def test_it_holds_the_permit_while_it_runs(shell: Shell, server: ServerProcess) -> None:
    process = shell.start(*RUN, "cat")  # without --, where the program has no options
    assert process.stdin is not None
    process.stdin.write(b"hello\n")
    process.stdin.flush()
    assert line_of(process) == b"hello\n", "its streams are those of the program"
    assert server.call("get", "gpu") == 1
    status, _, err = ended(shell.start(*RUN, "--wait", "0", "--", "true"))
    assert (status, err) == (124, b"naught: no permit of gpu within 0.0 s\n")
    waiting = shell.start(*RUN, "--", "true")
    wait_until(lambda: parked(shell) == 1, "another one waits")
    assert ended(process)[0] == 0
    assert ended(waiting)[0] == 0
    assert server.call("get", "gpu") == 0


def parked(shell: Shell) -> int:
    """How many calls wait at the server."""
    return shell.run("sessions", "--json").out.count('"waits": [["')


@pytest.mark.parametrize("number", [signal.SIGINT, *slow(signal.SIGTERM, signal.SIGHUP)])
def test_a_signal_ends_the_wait_for_a_permit(shell: Shell, server: ServerProcess, number: signal.Signals) -> None:
    server.call("incr", "gpu")
    process = shell.start(*RUN, "--", "touch", "/never")
    wait_until(lambda: parked(shell) == 1, "it waits")
    process.send_signal(signal.SIGWINCH)  # means nothing here
    process.send_signal(number)
    assert ended(process) == (128 + number, b"", b"")
    assert server.call("decr", "gpu") == 0


def test_signals_are_passed_on(shell: Shell, server: ServerProcess) -> None:
    process = shell.start(*RUN, "--", sys.executable, "-c", LISTENER)
    assert line_of(process) == b"ready\n"
    for name in ("SIGHUP", "SIGINT", "SIGQUIT", "SIGUSR1", "SIGUSR2", "SIGWINCH", "SIGTERM"):
        process.send_signal(getattr(signal, name))
        assert line_of(process) == name.encode() + b"\n"
    assert ended(process) == (7, b"", b"")
    assert server.call("get", "gpu") == 0


@needs_linux
def test_the_program_ends_with_it(shell: Shell, server: ServerProcess) -> None:
    """Killed without a chance to say anything, it leaves no program behind that runs without a permit."""
    process = shell.start(*RUN, "--", sys.executable, "-c", LISTENER)
    assert line_of(process) == b"ready\n"
    assert server.call("get", "gpu") == 1
    process.kill()
    assert line_of(process) == b"SIGTERM\n"
    assert process.stdout is not None
    assert process.stdout.read() == b"", "its output has ended"
    ended(process)
    (number,) = re.findall(r'"session": (\d+), "name": "[^"]*", "amount"', shell.run("holders", "gpu", "--json").out)
    assert shell.run("sessions", "end", number).status == 0, "the lease would end it too"
    assert server.call("get", "gpu") == 0


async def test_in_a_terminal(shell: Shell, server: ServerProcess) -> None:
    """The program is in its foreground. It reads the terminal, and what is typed reaches it once."""
    program = "import os, sys; print('foreground', os.tcgetpgrp(0) == os.getpgrp());" + LISTENER
    environment = {**shell.environment, "TERM": "xterm"}
    async with PseudoTerminal([*RUN, "--", sys.executable, "-c", program], environment) as terminal:
        await terminal.until("foreground True\n+ready")
        terminal.type("\x03")
        await terminal.until(r"\^C\s*SIGINT")
        terminal.process.send_signal(signal.SIGUSR1)
        assert (await terminal.until("SIGUSR1")).count("SIGINT") == 1
        terminal.resize(90, 31)
        await terminal.until("SIGWINCH")
        terminal.process.send_signal(signal.SIGUSR2)
        assert (await terminal.until("SIGUSR2")).count("SIGWINCH") == 1
        terminal.process.send_signal(signal.SIGTERM)
        assert await terminal.ended() == 7
    assert server.call("get", "gpu") == 0


@pytest.mark.slow
async def test_a_program_that_ends_at_control_c(shell: Shell, server: ServerProcess) -> None:
    # No shell: dash loses a SIGINT that comes while it starts a command.
    program = "import signal; signal.signal(signal.SIGINT, signal.SIG_DFL); print('got', input()); signal.pause()"
    environment = {**shell.environment, "TERM": "xterm"}
    async with PseudoTerminal([*RUN, "--", sys.executable, "-c", program], environment) as terminal:
        terminal.type("hello\n")
        await terminal.until("got hello")
        terminal.type("\x03")
        assert await terminal.ended() == 130
    assert server.call("get", "gpu") == 0


def test_what_is_ignored_stays_ignored(shell: Shell) -> None:
    """As after `nohup`."""
    program = 'trap "" HUP; exec "$@"'
    process = subprocess.Popen(
        ["sh", "-c", program, "sh", *NAUGHT, *RUN, "--", "cat"],
        env=shell.environment, stdin=subprocess.PIPE, stdout=subprocess.PIPE, stderr=subprocess.PIPE,
    )  # fmt: skip
    assert process.stdin is not None
    for word in (b"a\n", b"b\n"):
        process.stdin.write(word)
        process.stdin.flush()
        assert line_of(process) == word
        process.send_signal(signal.SIGHUP)
    assert ended(process) == (0, b"", b"")


@pytest.mark.parametrize("option", ["go-on", "stop"])
def test_a_permit_that_is_lost(shell: Shell, server: ServerProcess, option: str) -> None:
    process = shell.start(*RUN, "--when-lost", option, "--", sys.executable, "-c", LISTENER)
    assert line_of(process) == b"ready\n"
    (number,) = re.findall(r'"session": (\d+), "name": "[^"]*", "amount"', shell.run("holders", "gpu", "--json").out)
    assert shell.run("sessions", "end", number).status == 0
    assert process.stderr is not None
    if option == "stop":
        assert line_of(process) == b"SIGTERM\n"
        assert ended(process) == (7, b"", b"naught: the permit of gpu is lost; the program is stopped\n")
        return
    assert process.stderr.readline() == (
        b"naught: the permit of gpu is lost; the program goes on, and waits for another one\n"
    )
    assert process.stderr.readline() == b"naught: the program has a permit of gpu again\n"
    assert server.call("get", "gpu") == 1
    process.send_signal(signal.SIGTERM)
    assert ended(process)[0] == 7
    assert server.call("get", "gpu") == 0


def test_without_a_server_the_program_does_not_run(shell: Shell, own_port: int, tmp_path: Path) -> None:
    url = f"naught://127.0.0.1:{own_port}"
    process = shell.start(*RUN, "--url", url, "--timeout", "0.01", "--", "touch", str(tmp_path / "ran"))
    status, _, err = ended(process)
    assert status == 125
    assert err.startswith(b"naught: no connection to ")
    assert os.listdir(tmp_path) == []


@needs_linux
def test_a_child_that_is_killed_before_the_program_begins(shell: Shell, server: ServerProcess) -> None:
    server.call("set", "gpu", 1)
    process = shell.start(*RUN, "--", "true")
    wait_until(lambda: parked(shell) == 1, "it waits")
    (child,) = Path(f"/proc/{process.pid}/task/{process.pid}/children").read_text().split()
    os.kill(int(child), signal.SIGKILL)
    server.call("set", "gpu", 0)
    assert ended(process)[0] == 137
    assert server.call("get", "gpu") == 0


@needs_linux
def test_without_descriptors_it_says_so(shell: Shell) -> None:
    limited = ["sh", "-c", 'ulimit -n 8; exec "$@"', "sh", *NAUGHT, *RUN, "--", "true"]
    done = subprocess.run(limited, env=shell.environment, capture_output=True, timeout=GUARD_S, check=False)
    assert (done.returncode, done.stdout) == (125, b"")
    assert b"Too many open files" in done.stderr
    assert done.stderr.count(b"\n") == 1, done.stderr
