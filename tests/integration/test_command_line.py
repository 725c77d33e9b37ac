"""The commands `naught get`, `naught stat` and so on, against a server process. They run in this process, with
streams of their own, except where the process is the point: its entry, its exit status, signals, terminals, pipes."""

from __future__ import annotations

import json
import os
import pty
import signal
import subprocess
from collections.abc import Iterator
from typing import Any

import pytest

from naught.cli import arguments, counters
from naught.cli import main as dispatch
from naught.cli.stat import Stat
from support.infos import info_of, later
from support.server_process import ServerProcess, server_process, wait_until
from support.shell import GUARD_S, NAUGHT, Shell


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


def test_every_setting_is_printed_as_it_is_read(shell: Shell) -> None:
    settings = dict(line.split("\t") for line in shell.run("config").out.splitlines())
    assert len(settings) > 9
    try:
        for name, value in settings.items():
            assert shell.run("config", name).found == (0, f"{value}\n")
            assert shell.run("config", name, value).found == (0, f"{value}\n"), name
    finally:
        for name in settings:
            shell.run("config", name, "--reset")


def test_as_processes(shell: Shell) -> None:
    """What differs there: the streams and their encoding, and the exit status."""
    assert shell.process("incr", "-", given="\udcff\udcfe\nseats 4\n").found == (0, '"\\xff\\xfe"\t1\nseats\t4\n')
    assert sorted(shell.process("scan").out.splitlines()) == ['"\\xff\\xfe"\t1', "seats\t4"]
    assert shell.process("get", "seats", "--json").found == (0, "4\n")
    for words, status in (
        (["decr", "nobody", "--strict"], 1),
        (["incr", "a", "x"], 2),
        (["config", "nothing"], 2),
        (["config", "--reset"], 2),
    ):
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
        ("a 1 2", "line 2 of standard input: allowed is a key and an optional amount"),
        ("a x", "line 2 of standard input"),
        ("a 0", "line 2 of standard input: an amount is from 1"),
        ("x" * 513, "line 2 of standard input: a key has at most 512 bytes"),
    ],
)
def test_a_bad_line_is_named(shell: Shell, line: str, message: str) -> None:
    ran = shell.run("incr", "-", given=f"good\n{line}\n")
    assert ran.status == 2
    assert message in ran.err
    assert ran.err.endswith("; 1 line was counted, up to line 1\n")
    assert ran.out == "good\t1\n"


def test_items_that_fail_are_named_and_the_others_count(shell: Shell) -> None:
    assert shell.run("set", "full", str(2**63 - 1)).status == 0
    ran = shell.run("incr", "-", given="full\nother\n")
    assert ran.found == (1, "other\t1\n")
    assert ran.err == "naught: full: the value would pass 2^63 - 1\n"


def test_keys_that_are_no_text_come_out_in_quotes(shell: Shell) -> None:
    assert shell.run("incr", "-", given="\udcff\udcfe\n").found == (0, '"\\xff\\xfe"\t1\n')
    assert shell.run("incr", "a\nb").status == 0
    assert sorted(shell.run("scan").out.splitlines()) == ['"\\xff\\xfe"\t1', '"a\\nb"\t1']


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
        (["get", "k" * 513], 2),
        (["set", "-", "5"], 2),
        (["ttl", "-"], 2),
        (["expire", "-", "5"], 2),
        (["wait-zero", "-"], 2),
        (["holders", "-"], 2),
        (["incr", "here", "--tt", "5"], 2),
        (["get", "", "--url", "naught://127.0.0.1:1"], 2),  # it is not connected for that
        (["incr", "here", "1_000"], 2),
        (["incr", "here", "\u0661"], 2),
        (["top", " 5"], 2),
        (["set", "here", "9" * 5000], 2),
        (["expire", "here", "1e300"], 2),
        (["wait-zero", "here", "--for", "1e300"], 2),
        (["run", "--semaphore", "", "--limit", "1", "--", "true"], 2),
        (["run", "--semaphore", "s", "--limit", "1", "--wait", "1e9", "--", "true"], 2),
        (["ping", "--check", "--url", "bogus"], 1),
        (["wait-zero", "here", "--for", "0.01"], 1),
        (["completion", "tcsh"], 2),
        (["ttl", "absent"], 1),
        (["expire", "absent", "5"], 1),
        (["expire", "here", "0"], 2),
        (["set", "here", "3", "--ttl", "0"], 2),
        (["incr", "here", "--ttl", "0.0001"], 2),
        (["incr", "here", "--ttl", "soon"], 2),
        (["incr", "-", "5"], 2),
        (["stat", "--lines", "0"], 2),
        (["stat", "--lines", "-1"], 2),
        (["watch", "--lines", "0"], 2),
        (["stat", "--interval", "0"], 2),
        (["ping", "--url", "naught://127.0.0.1:1"], 1),
        (["ping", "--url", "bogus"], 2),
        (["ping", "--url", "memory://"], 2),
        (["--url", "bogus", "get", "a"], 2),
        (["--url"], 2),
        (["--json"], 2),
        (["--json=yes", "get", "a"], 2),
        (["run", "--semaphore", "s", "--limit", "1"], 2),
        (["run", "--semaphore", "s", "--limit", "0", "--", "true"], 2),
        (["run", "--", "true"], 2),
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
    process = shell.start("wait-zero", "here", stdin=None, stdout=None)

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


def test_the_tables_of_commands_agree() -> None:
    """One says which module runs a command, one has the arguments, one the functions."""
    listed = {name: text for name, (module, text) in dispatch.COMMANDS.items() if module == "naught.cli.command"}
    assert listed == {name: text for name, (_, text) in arguments.COMMANDS.items()}
    assert listed.keys() - {"ping"} == counters.COMMANDS.keys()


def test_a_time_to_live(shell: Shell) -> None:
    assert shell.run("incr", "a", "--ttl", "100").status == 0
    left = shell.run("ttl", "a")
    assert left.status == 0
    assert 90 < float(left.out) <= 100
    assert shell.run("expire", "a", "5000").found == (0, "")
    assert 4_900 < json.loads(shell.run("ttl", "a", "--json").out) <= 5_000
    assert shell.run("expire", "a", "none", "--json").found == (0, "true\n")
    assert shell.run("ttl", "a").found == (0, "none\n")
    assert shell.run("ttl", "a", "--json").found == (0, "-1\n")
    assert shell.run("ttl", "b", "--json").found == (1, "null\n")
    assert shell.run("expire", "b", "5", "--json").found == (1, "false\n")
    assert shell.run("ttl", "my key").err == 'naught: there is no counter "my key"\n'


def test_options_before_the_command(shell: Shell, monkeypatch: pytest.MonkeyPatch) -> None:
    assert shell.run("--json", "incr", "a").found == (0, "1\n")
    assert shell.run("--timeout=4", "--url", shell.url, "--json", "get", "a", "b").out.count('"key"') == 2
    there, shell.url = shell.url, "naught://127.0.0.1:1"
    assert shell.run(f"--url={there}", "get", "a").found == (0, "1\n")
    assert shell.run("--url", there, "get", "--url", "bogus", "a").status == 2, "the last one counts"


def test_keys_that_look_like_options(shell: Shell) -> None:
    assert shell.run("incr", "--json", "--", "-x", "3").found == (0, "3\n")
    assert shell.run("get", "a", "--", "-x", "--url").found == (0, "a\t0\n-x\t3\n--url\t0\n")
    assert shell.run("get", "a", "--json", "b").status == 0, "without it options may stand anywhere"
    assert shell.run("decr", "-", given="-x 3\n").found == (0, "-x\t0\n")


def test_a_ping_that_is_refused_is_said_at_once(shell: Shell, own_port: int) -> None:
    """There is one attempt. Others would go on until the deadline."""
    ran = shell.run("ping", "--url", f"naught://127.0.0.1:{own_port}", "--timeout", "3000000")
    assert ran.found == (1, "")
    assert ran.err == f"naught: naught://127.0.0.1:{own_port} does not answer: Connection refused\n"
    ran = shell.run("ping", "--url", f"{shell.url}/nothing")
    assert (ran.status, "nothing" in ran.err) == (2, True), "it asks for the cache"
