"""Standard input and output of `naught` in real pipes: input that pauses, interrupts, readers that have enough, and
keys that come back."""

from __future__ import annotations

import asyncio
import contextlib
import os
import random
import signal
import subprocess
import threading
from collections.abc import Iterator
from pathlib import Path
from typing import IO

import pytest

from naught.wire.codec import decode_key
from support.client_helpers import ScriptedServer
from support.pseudo_terminal import PseudoTerminal
from support.seeds import seeds, slow
from support.server_process import ServerProcess, server_process, wait_until
from support.shell import GUARD_S, NAUGHT, OBEYING, Shell

# Of the kinds that went to another key: a line feed, a tab, a blank, a backslash, a character that turns text around;
# and bytes that are no text, a carriage return, a quote, what looks like the other format.
KEYS = [
    b"a\nb", b"a\tb", b"my key", b"a\\b", "\u202eabc".encode(), b"\xff\xfe", b"plain", "\u00e9".encode(),
    b"\r", b'"q"', b'{"key":"a"}', b"a 5", b"-", b"\x00"
]  # fmt: skip


@pytest.fixture(scope="module")
def server(tmp_path_factory: pytest.TempPathFactory) -> Iterator[ServerProcess]:
    with server_process(tmp_path_factory.mktemp("server")) as server:
        yield server


@pytest.fixture
def shell(server: ServerProcess) -> Shell:
    server.call("clear")
    return Shell(server)


def ended(process: subprocess.Popen[bytes]) -> tuple[int, bytes, bytes]:
    """Status and streams of a process, at the end of its input."""
    out, err = process.communicate(timeout=GUARD_S)
    assert b"Traceback" not in err, err.decode()
    return process.returncode, out, err


def ended_after(process: subprocess.Popen[bytes], data: bytes) -> tuple[int, bytes, bytes]:
    """As `ended`, with these bytes at the end of the input."""
    out, err = process.communicate(data, timeout=GUARD_S)
    return process.returncode, out, err


def line_of(stream: IO[bytes] | None) -> bytes:
    assert stream is not None
    return stream.readline()


def write(process: subprocess.Popen[bytes], data: bytes) -> None:
    assert process.stdin is not None
    process.stdin.write(data)
    process.stdin.flush()


# -- input


def test_what_is_there_counts_when_the_input_pauses(shell: Shell) -> None:
    process = shell.start("incr", "-")
    for number in (1, 2, 3):
        write(process, b"views\n")
        assert line_of(process.stdout) == b"views\t%d\n" % number
    write(process, b"views\nhalf a line")  # a line counts when it has ended
    assert line_of(process.stdout) == b"views\t4\n"
    status, out, err = ended(process)
    assert (status, out) == (2, b"")
    assert err.startswith(b"naught: line 5 of standard input: ")
    assert err.endswith(b"; 4 lines were counted, up to line 4\n")


@pytest.mark.parametrize(("number", "status"), [(signal.SIGINT, 130), (signal.SIGTERM, 143)])
def test_the_first_signal_ends_it_and_says_how_far_it_came(
    shell: Shell, server: ServerProcess, number: signal.Signals, status: int
) -> None:
    process = shell.start("incr", "-")
    write(process, b"a\n\nb 4\n")
    assert line_of(process.stdout) == b"a\t1\n"
    assert line_of(process.stdout) == b"b\t4\n"
    process.send_signal(number)
    assert process.wait(GUARD_S) == status
    assert process.stderr is not None
    assert process.stderr.read() == b"naught: interrupted; 2 lines were counted, up to line 3\n"
    assert (server.call("get", "a"), server.call("get", "b")) == (1, 4)
    ended(process)


def test_what_ignores_the_signal_goes_on(shell: Shell) -> None:
    """As a shell has it for a command in the background."""
    process = subprocess.Popen(
        ["sh", "-c", 'trap "" INT; exec "$@"', "sh", *NAUGHT, "incr", "-"],
        env=shell.environment, stdin=subprocess.PIPE, stdout=subprocess.PIPE,
    )  # fmt: skip
    write(process, b"a\n")
    assert line_of(process.stdout) == b"a\t1\n"
    process.send_signal(signal.SIGINT)
    write(process, b"a\n")
    assert line_of(process.stdout) == b"a\t2\n"
    assert process.communicate(timeout=GUARD_S)[0] == b""
    assert process.returncode == 0


@pytest.mark.parametrize("number", [signal.SIGINT, *slow(signal.SIGTERM)])
def test_the_signal_while_nobody_takes_the_output(shell: Shell, number: signal.Signals) -> None:
    """The write waits for the reader: it must end too."""
    theirs, ours = os.pipe()
    process = shell.start("incr", "-", stdin=theirs)
    os.close(theirs)
    feeding = threading.Thread(target=_write_all, args=(ours, b"key\n" * 50_000))
    feeding.start()
    assert line_of(process.stdout)  # the pipe fills from here on

    def it_has_stopped() -> bool:
        before = shell.run("get", "key").out
        return int(before) > 2_000 and shell.run("get", "key").out == before == shell.run("get", "key").out

    wait_until(it_has_stopped, "the pipe is full")
    process.send_signal(number)
    assert process.wait(GUARD_S) == 128 + number
    feeding.join(GUARD_S)
    assert process.stderr is not None
    counted = int(shell.run("get", "key").out)
    assert process.stderr.read() == b"naught: interrupted; %d lines were counted, up to line %d\n" % (
        counted,
        counted,
    )
    for stream in (process.stdout, process.stderr):
        assert stream is not None
        stream.close()


def _write_all(descriptor: int, data: bytes) -> None:
    with contextlib.suppress(BrokenPipeError):
        while data:
            data = data[os.write(descriptor, data) :]
    os.close(descriptor)


@pytest.mark.slow  # the moment is a second
async def test_the_signal_in_a_call_without_an_answer() -> None:
    """It is waited for no longer than a moment, and what is not known is said."""
    async with ScriptedServer() as server:
        process = await asyncio.create_subprocess_exec(
            *OBEYING, "incr", "-", "--url", server.url, "--timeout", "1000",
            stdin=asyncio.subprocess.PIPE, stderr=asyncio.subprocess.PIPE,
        )  # fmt: skip
        assert process.stdin is not None
        process.stdin.write(b"a\nb\n")
        peer = await server.peer()
        assert (await peer.request())[2] == "apply"
        process.send_signal(signal.SIGINT)
        ending = asyncio.ensure_future(process.communicate())
        await peer.ended()
        peer.close()
        _, err = await asyncio.wait_for(ending, GUARD_S)
        assert process.returncode == 130
        assert err == b"naught: interrupted; 0 lines were counted; it is not known whether the next 2 were\n"


@pytest.mark.slow
async def test_at_a_terminal(shell: Shell, server: ServerProcess) -> None:
    """Lines that are typed count one by one, and Ctrl-C ends it."""
    async with PseudoTerminal(["incr", "-", "--json"], {**shell.environment, "TERM": "xterm"}) as terminal:
        for number in (1, 2):
            terminal.type("typed\n")
            await terminal.until(rf'"typed", "value": {number}')
        terminal.type("\x03")
        assert await terminal.ended() == 130
        assert "naught: interrupted; 2 lines were counted, up to line 2" in terminal.screen.text()
    assert server.call("get", "typed") == 2


@pytest.mark.slow
def test_the_server_is_lost(tmp_path: Path) -> None:
    server = ServerProcess(tmp_path)
    try:
        process = Shell(server).start("incr", "-", "--timeout", "0.3")
        write(process, b"a\n")
        assert line_of(process.stdout) == b"a\t1\n"
    finally:
        server.kill()
    status, _, err = ended_after(process, b"b\nc\n")
    assert status == 1
    assert err.splitlines()[-1].endswith(
        b"; 1 line was counted, up to line 1; it is not known whether the next 2 were"
    )


def test_all_lines_count_when_the_reader_has_enough(shell: Shell, server: ServerProcess) -> None:
    command = 'seq 5000 | sed s/.*/key/ | "$@" incr - | head -n 1'
    done = subprocess.run(
        ["bash", "-o", "pipefail", "-c", command, "bash", *NAUGHT],
        env=shell.environment, capture_output=True, timeout=GUARD_S, check=False,
    )  # fmt: skip
    assert (done.returncode, done.stdout, done.stderr) == (0, b"key\t1\n", b"")
    assert server.call("get", "key") == 5_000


@pytest.mark.parametrize(
    ("data", "found"),
    [
        (b"a\r\nb\r\n", "a\t1\nb\t1\n"),
        (b"\xef\xbb\xbfa\nb", "a\t1\nb\t1\n"),
        (b"\n\n  \na\n\n", "a\t1\n"),
        (b"\ta 2 \n", "a\t2\n"),
        (b"", ""),
    ],
)
def test_what_editors_and_other_systems_write(shell: Shell, data: bytes, found: str) -> None:
    assert shell.run("incr", "-", given=data.decode("utf-8", "surrogateescape")).found == (0, found)


def test_utf16_is_refused(shell: Shell) -> None:
    ran = shell.run("incr", "-", given="\ufeffa\n".encode("utf-16-le").decode("utf-8", "surrogateescape"))
    assert ran.found == (2, "")
    assert ran.err == "naught: standard input is in UTF-16; allowed is UTF-8; 0 lines were counted\n"


def test_from_a_file_and_from_nothing(shell: Shell, tmp_path: os.PathLike[str]) -> None:
    path = os.path.join(tmp_path, "keys.txt")
    with open(path, "wb") as file:
        file.write(b"a\n" * 3_000 + b"last")
    with open(path, "rb") as file:
        process = shell.start("decr", "-", stdin=file)
        assert ended(process)[0] == 0
    with open(path, "rb") as file:
        process = shell.start("incr", "-", stdin=file, stdout=subprocess.DEVNULL)
        assert ended(process)[0] == 0
    assert shell.run("get", "a", "last").out == "a\t3000\nlast\t1\n"
    assert ended(shell.start("incr", "-", stdin=subprocess.DEVNULL)) == (0, b"", b"")


def test_get_and_take_read_keys(shell: Shell) -> None:
    shell.run("incr", "-", given="a 5\nb 2\n")
    assert shell.run("get", "-", given="a\nnone\nb\n").found == (0, "a\t5\nnone\t0\nb\t2\n")
    assert shell.run("get", "-", given=shell.run("scan", "--json").out).status == 0
    ran = shell.run("get", "-", given="a\nb 5\n")
    assert ran.found == (2, "a\t5\n")
    assert ran.err.endswith("; 1 line was read, up to line 1\n")
    assert shell.run("get", "-", "a").found == (0, "-\t0\na\t5\n"), "among others it is a key"
    assert shell.run("take", "-", given=shell.run("scan").out).status == 0
    assert shell.run("count").out == "0\n"


def test_refused_lines_are_not_among_those_that_were_counted(shell: Shell) -> None:
    shell.run("set", "full", str(2**63 - 1))
    ran = shell.run("incr", "-", given="full\na\n\nb x\n")
    assert ran.found == (2, "a\t1\n")
    assert ran.err.splitlines()[0] == "naught: full: the value would pass 2^63 - 1"
    assert ran.err.splitlines()[1].endswith("; 1 line was counted, up to line 3")


# -- keys


@pytest.mark.parametrize("options", [[], ["--json"]], ids=["text", "json"])
def test_what_scan_prints_decr_takes_back(shell: Shell, server: ServerProcess, options: list[str]) -> None:
    for place, key in enumerate(KEYS):
        server.call("incr", key, place + 1)
    server.call("incr", b"stays", 1)
    listed = shell.run("scan", *options)
    assert all(line.replace("\t", "").isprintable() for line in listed.out.splitlines())
    kept = "".join(f"{line}\n" for line in listed.out.splitlines() if "stays" not in line)
    ran = shell.run("decr", "-", *options, given=kept)
    assert (ran.status, ran.err) == (0, "")
    assert shell.run("scan").out == "stays\t1\n"


@pytest.mark.slow
@pytest.mark.parametrize("seed", seeds((1, 2), rest=(3, 4)))
def test_random_keys_come_back_through_processes_in_any_locale(
    shell: Shell, server: ServerProcess, seed: int
) -> None:
    draw = random.Random(seed)
    keys = {draw.randbytes(draw.randrange(1, 6)) for _ in range(300)} | set(KEYS)
    given = b"".join(b'"' + b"".join(b"\\x%02x" % byte for byte in key) + b'"\n' for key in sorted(keys))
    assert shell.run("incr", "-", given=given.decode()).status == 0
    assert server.call("count") == len(keys)
    for options in ("", "--json"):
        command = f'"$@" scan {options} | "$@" incr - {options} | "$@" get - {options} | "$@" decr -'
        environment = shell.environment | (
            {"LC_ALL": "C", "PYTHONUTF8": "0", "PYTHONCOERCECLOCALE": "0"}
            if options
            else {"PYTHONIOENCODING": "latin-1"}
        )
        done = subprocess.run(
            ["bash", "-o", "pipefail", "-c", command, "bash", *NAUGHT],
            env=environment, capture_output=True, timeout=GUARD_S, check=False,
        )  # fmt: skip
        assert (done.returncode, done.stderr) == (0, b"")
        assert server.call("count") == 0
        assert shell.run("incr", "-", given=given.decode()).status == 0


def test_keys_of_arguments_are_their_bytes(shell: Shell, server: ServerProcess) -> None:
    for variables in ({}, {"LC_ALL": "C", "PYTHONUTF8": "0", "PYTHONCOERCECLOCALE": "0"}, {"PYTHONUTF8": "1"}):
        done = subprocess.run(
            [*(word.encode() for word in NAUGHT), b"incr", b"caf\xc3\xa9\xff"],
            env=shell.environment | variables, capture_output=True, timeout=GUARD_S, check=False,
        )  # fmt: skip
        assert (done.returncode, done.stderr) == (0, b"")
    assert server.call("get", b"caf\xc3\xa9\xff") == 3
    assert decode_key(b"caf\xc3\xa9\xff") == "caf\u00e9\udcff"
