"""The commands `naught get`, `naught stat` and so on, against a server process. They run in this process, with
streams of their own, except where the process is the point: its entry, its exit status, signals, terminals, pipes."""

from __future__ import annotations

import io
import json
import os
import pty
import signal
import subprocess
import sys
from collections.abc import Iterator
from pathlib import Path
from typing import Any

import pytest

from naught.cli import completion, counters
from naught.cli import main as dispatch
from naught.cli.stat import Stat
from support.infos import info_of, later
from support.server_process import ServerProcess, server_process, wait_until
from support.surroundings import without_settings

GUARD_S = 30
NAUGHT = [sys.executable, "-W", "error", "-m", "naught"]


class Result:
    """Exit status and output of a command that has ended."""

    def __init__(self, status: int, out: str, err: str) -> None:
        assert "Traceback" not in err, err
        self.status = status
        self.out = out
        self.err = err

    @property
    def found(self) -> tuple[int, str]:
        return self.status, self.out


class Stream(io.TextIOWrapper):
    """A standard stream that is no file; the bytes in it."""

    def __init__(self, data: bytes = b"") -> None:
        self._bytes = io.BytesIO(data)
        super().__init__(self._bytes, encoding="utf-8", newline="\n")

    def text(self) -> str:
        """What was written."""
        self.flush()
        return self._bytes.getvalue().decode(errors="surrogateescape")


class Shell:
    """Runs commands against one server."""

    def __init__(self, server: ServerProcess) -> None:
        self.url = f"naught://127.0.0.1:{server.port}"
        self.environment = without_settings()
        self.environment["NAUGHT_URL"] = self.url

    def run(self, *words: str, given: str = "") -> Result:
        """Run a command here."""
        out, err = Stream(), Stream()
        with pytest.MonkeyPatch.context() as patch:
            patch.setenv("NAUGHT_URL", self.url)
            patch.setattr(sys, "stdin", Stream(given.encode(errors="surrogateescape")))
            patch.setattr(sys, "stdout", out)
            patch.setattr(sys, "stderr", err)
            try:
                status: Any = dispatch.main(words)
            except SystemExit as leaving:  # argparse has said what it does not understand
                status = leaving.code
        return Result(status, out.text(), err.text())

    def process(self, *words: str, given: str = "") -> Result:
        """Run a command in a process of its own."""
        done = subprocess.run(
            [*NAUGHT, *words],
            input=given,
            capture_output=True,
            text=True,
            timeout=GUARD_S,
            check=False,
            env=self.environment,
            errors="surrogateescape",
        )
        return Result(done.returncode, done.stdout, done.stderr)


@pytest.fixture(scope="module")
def server(tmp_path_factory: pytest.TempPathFactory) -> Iterator[ServerProcess]:
    with server_process(tmp_path_factory.mktemp("server")) as server:
        yield server


@pytest.fixture
def shell(server: ServerProcess) -> Shell:
    server.call("clear")
    return Shell(server)


def test_counting_and_looking(shell: Shell) -> None:
    assert shell.run("incr", "seats").found == (0, "1\n")
    assert shell.run("incr", "seats", "4", "--ttl", "100").found == (0, "5\n")
    assert shell.run("decr", "seats", "--strict", "2").found == (0, "3\n")
    assert shell.run("get", "seats").found == (0, "3\n")
    assert shell.run("get", "seats", "absent").found == (0, "seats\t3\nabsent\t0\n")
    assert shell.run("set", "rows", "9", "--ttl", "50.5").found == (0, "0\n")
    assert shell.run("top", "1").found == (0, "rows\t9\n")
    assert shell.run("count").found == (0, "2\n")
    assert shell.run("count", "ro").found == (0, "1\n")
    assert shell.run("scan", "se").found == (0, "seats\t3\n")
    assert shell.run("take", "seats", "rows").found == (0, "seats\t3\nrows\t9\n")
    assert shell.run("wait-zero", "seats").found == (0, "")


def test_as_processes(shell: Shell) -> None:
    """What differs there: the streams and their encoding, and the exit status."""
    assert shell.process("incr", "-", given="\udcff\udcfe\nseats 4\n").found == (0, "\udcff\udcfe\t1\nseats\t4\n")
    assert sorted(shell.process("scan").out.splitlines()) == ["seats\t4", "\udcff\udcfe\t1"]
    assert shell.process("get", "seats", "--json").found == (0, "4\n")
    for words, status in ((["decr", "nobody", "--strict"], 1), (["incr", "a", "x"], 2), (["config", "nothing"], 2), (["config", "--reset"], 2)):
        ran = shell.process(*words)
        assert ran.found == (status, "")
        assert ran.err.splitlines()[-1].startswith("naught"), ran.err


def test_json_everywhere(shell: Shell) -> None:
    def values(*words: str, given: str = "") -> list[Any]:
        ran = shell.run(*words, "--json", given=given)
        assert ran.status == 0, ran.err
        return [json.loads(line) for line in ran.out.splitlines()]

    assert values("incr", "a") == [1]
    assert values("decr", "b") == [0]
    assert values("set", "b", "2") == [0]
    assert values("get", "a") == [1]
    assert values("get", "a", "b") == [{"key": "a", "value": 1}, {"key": "b", "value": 2}]
    assert sorted(pair["key"] for pair in values("scan")) == ["a", "b"]
    assert values("top") == [{"key": "b", "value": 2}, {"key": "a", "value": 1}]
    assert values("incr", "-", given="a 3\n") == [{"key": "a", "value": 4}]
    assert values("take", "-", given="a\nb\n") == [{"key": "a", "value": 4}, {"key": "b", "value": 2}]
    assert values("count") == [0]
    assert values("wait-zero", "a") == [True]
    assert values("ping")[0]["ms"] > 0
    assert values("info")[0]["server"] == "naught"
    assert values("sessions")[0]["connected"] is True
    assert values("config", "log_level") == ["info"]
    assert {"sweep_budget_ms", "tuner", "caches.default.eviction"} < set(values("config")[0])
    assert values("config", "sweep_budget_ms", "2") == [2.0]
    assert values("config", "sweep_budget_ms", "--reset") == [1.0]
    assert values("info")[0]["tuner"]["pinned"] == {}
    assert values("config", "gc_freeze", "true") == [True]
    assert values("config", "gc_freeze", "false") == [False]
    assert values("clear", "--yes") == [0]
    assert set(values("stat", "--lines", "1", "--interval", "0.05")[0]) >= {"commands_per_s", "lag_p99_ms"}


def test_who_holds_what(shell: Shell, server: ServerProcess) -> None:
    with server.connect() as worker:
        number = number_of(worker.call("hello", {"session": True, "name": "worker"}), server)
        assert worker.call("acquire", [["gpu", 2, 4], ["db", 1, 9]])[0]
        heading, *lines = shell.run("sessions").out.splitlines()
        assert heading.split()[:5] == ["#", "name", "address", "age", "commands"]
        (line,) = [line for line in lines if line.split()[:2] == [str(number), "worker"]]
        assert line.split()[2] == "127.0.0.1"
        assert line.endswith("gpu=2 db=1")
        assert all(len(each) <= 80 for each in (heading, *lines))
        assert [line.split() for line in shell.run("holders", "gpu").out.splitlines()] == [
            ["#", "amount", "address", "name"],
            [str(number), "2", "127.0.0.1", "worker"],
        ]
        (holder,) = map(json.loads, shell.run("holders", "db", "--json").out.splitlines())
        assert holder == {"session": number, "name": "worker", "amount": 1, "address": "127.0.0.1"}
        assert shell.run("holders", "nothing").found == (0, "")
        assert shell.run("sessions", "end", str(number)).found == (0, f"session {number} has ended\n")
        assert worker.read(1) == b"", "its connection is closed"
        assert shell.run("get", "gpu").out == "0\n"
        gone = shell.run("sessions", "end", str(number))
        assert (gone.found, gone.err) == ((1, ""), f"naught: there is no session {number}\n")
        assert shell.run("sessions", "end", str(number), "--json").found == (1, "false\n")


def number_of(hello: Any, server: ServerProcess) -> int:
    """The number of the session that a raw peer has just opened: the last one."""
    assert b"session" in hello
    return int(server.call("sessions")[-1][b"session"])


def test_a_health_check(shell: Shell) -> None:
    ran = shell.process("ping", "--check")
    assert ran.status == 0
    assert ran.out.startswith("pong in ")
    assert ran.err == ""


def test_standard_input_travels_in_batches(shell: Shell) -> None:
    lines = [f"key{place % 1500}" for place in range(4000)]
    ran = shell.run("incr", "-", given="\n".join(lines))
    assert ran.status == 0
    assert len(ran.out.splitlines()) == 4000
    assert shell.run("count").out == "1500\n"
    assert shell.run("decr", "-", given="".join(f"key{place} 99\n" for place in range(1500))).status == 0
    assert shell.run("count").out == "0\n"
    assert shell.run("incr", "-", given="\n \n\n").found == (0, "")


@pytest.mark.parametrize(
    ("line", "message"),
    [
        ("a 1 2", "line 2 of standard input has 3 words"),
        ("a x", "line 2 of standard input"),
        ("a 0", "line 2 of standard input: an amount is from 1"),
        ("x" * 513, "line 2 of standard input: a key has at most 512 bytes"),
    ],
)
def test_a_bad_line_is_named(shell: Shell, line: str, message: str) -> None:
    ran = shell.run("incr", "-", given=f"good\n{line}\n")
    assert ran.status == 2
    assert message in ran.err


def test_items_that_fail_are_named_and_the_others_count(shell: Shell) -> None:
    assert shell.run("set", "full", str(2**63 - 1)).status == 0
    ran = shell.run("incr", "-", given="full\nother\n")
    assert ran.found == (1, "other\t1\n")
    assert ran.err == "naught: full: the value would pass 2^63 - 1\n"


def test_keys_that_are_no_text_come_out_as_they_are(shell: Shell) -> None:
    assert shell.run("incr", "-", given="\udcff\udcfe\n").found == (0, "\udcff\udcfe\t1\n")
    assert shell.run("incr", "a\nb").status == 0
    assert sorted(shell.run("scan").out.splitlines()) == ["a\\x0ab\t1", "\udcff\udcfe\t1"]


@pytest.mark.parametrize(
    ("words", "status"),
    [
        (["get"], 2),
        (["get", "a", "--url", "bogus"], 2),
        (["get", "a", "--timeout", "-1"], 2),
        (["incr", "a", "0"], 2),
        (["incr", "a", "x"], 2),
        (["decr", "-", "--strict"], 2),
        (["decr", "absent", "--strict"], 1),
        (["get", "a", "--url", "naught://127.0.0.1:1", "--timeout", "0.1"], 1),
        (["get", "a", "--url", "naught+unix:///nowhere", "--timeout", "0.1"], 1),
        (["config", "nothing"], 2),
        (["sessions", "end"], 2),
        (["sessions", "end", "0"], 2),
        (["sessions", "end", "x"], 2),
        (["sessions", "7"], 2),
        (["sessions", "end", "999999"], 1),
        (["holders"], 2),
        (["holders", ""], 2),
        (["ping", "--check", "--url", "bogus"], 1),
        (["wait-zero", "here", "--for", "0.01"], 1),
        (["completion", "fish"], 2),
    ],
)
def test_exit_status_and_one_clear_line(shell: Shell, words: list[str], status: int) -> None:
    shell.run("incr", "here")
    ran = shell.run(*words)
    assert ran.status == status
    assert ran.out == ""
    assert ran.err.splitlines()[-1].startswith("naught"), ran.err


def test_clear_asks_unless_told(shell: Shell) -> None:
    shell.run("incr", "a")
    refused = shell.run("clear", given="y\n")
    assert refused.status == 2
    assert "--yes" in refused.err
    assert shell.run("count").out == "1\n"
    for answer, left in ((b"n\n", "1\n"), (b"y\n", "0\n")):
        ours, theirs = pty.openpty()
        process = subprocess.Popen([*NAUGHT, "clear"], stdin=theirs, stderr=subprocess.PIPE, env=shell.environment)
        os.write(ours, answer)
        _, err = process.communicate(timeout=GUARD_S)
        assert b"evict all 1 counters" in err
        assert process.returncode == (0 if answer == b"y\n" else 1)
        assert shell.run("count").out == left
        os.close(ours)
        os.close(theirs)


def test_a_reader_that_has_enough_ends_it_quietly(shell: Shell) -> None:
    shell.run("incr", "-", given="".join(f"key{place}\n" for place in range(20_000)))
    process = subprocess.Popen(
        [*NAUGHT, "scan"], stdout=subprocess.PIPE, stderr=subprocess.PIPE, env=shell.environment
    )
    assert process.stdout is not None
    assert process.stderr is not None
    process.stdout.readline()
    process.stdout.close()
    assert process.wait(GUARD_S) == 0
    with process.stderr:
        assert process.stderr.read() == b""


def test_control_c_ends_it_quietly(shell: Shell) -> None:
    shell.run("incr", "here")
    # If the tests run in the background, they may ignore SIGINT, and child processes inherit that.
    as_in_a_terminal = "import runpy, signal; signal.signal(signal.SIGINT, signal.default_int_handler); "
    process = subprocess.Popen(
        [
            *NAUGHT[:-2],
            "-c",
            as_in_a_terminal + "runpy.run_module('naught', run_name='__main__')",
            "wait-zero",
            "here",
        ],
        stderr=subprocess.PIPE,
        env=shell.environment,
    )

    def it_waits() -> bool:
        sessions = shell.run("sessions", "--json").out.splitlines()
        return any(json.loads(session)["parked"] == 1 for session in sessions)

    wait_until(it_waits, "the command waits at the server")
    process.send_signal(signal.SIGINT)
    _, err = process.communicate(timeout=GUARD_S)
    assert (process.returncode, err) == (130, b"")


def test_colours_only_on_a_terminal_and_never_with_no_color() -> None:
    info = info_of(commands={"incr": 10}, caches={"default": (2, 2)})
    after = later(info, seconds=2)
    after |= {"commands": {"incr": 30}, "errors": {"full": 4}}
    after["caches"]["default"]["raw_entries"] = 3
    after["loop_lag"]["histogram"][10] = 5
    for coloured in (False, True):
        stat = Stat(coloured=coloured)
        assert stat.sample(info) is None
        sample = stat.sample(after)
        assert sample is not None
        assert (sample["commands_per_s"], sample["errors_per_s"], sample["deviation"]) == (10.0, 2.0, 0.5)
        assert sample["lag_p99_ms"] == 1.024
        assert ("\x1b[" in stat.line(sample)) is coloured
        assert stat.sample(info) is None, "the server was restarted"


def test_the_table_of_commands_knows_them_all() -> None:
    listed = {name: text for name, (module, text) in dispatch.COMMANDS.items() if module == "naught.cli.counters"}
    assert listed == {name: text for name, (_, _, text) in counters.COMMANDS.items()}


@pytest.mark.parametrize("words", [["get"], ["incr", "--"], ["clear", "--y"]])
def test_the_shell_completes_what_there_is(words: list[str], tmp_path: Path) -> None:
    script = tmp_path / "naught.bash"
    script.write_text(completion.script("bash"))
    place = 1 if len(words) == 1 else 2
    typed = " ".join(["naught", *words])
    program = f'source {script}; COMP_WORDS=({typed}); COMP_CWORD={place}; _naught; echo "${{COMPREPLY[@]}}"'
    done = subprocess.run(["bash", "-c", program], capture_output=True, text=True, check=True, timeout=GUARD_S)
    assert done.stderr == ""
    assert done.stdout.split() == {"get": ["get"], "--": ["--help", "--ttl", "--url", "--json", "--timeout"]}.get(
        words[-1], ["--yes"]
    )
    assert "bashcompinit" in completion.script("zsh")
