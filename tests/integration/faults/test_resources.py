"""A machine that runs out: of memory, of descriptors, of disk. And standard streams that are gone."""

from __future__ import annotations

import contextlib
import os
import re
import resource
import shutil
import signal
import subprocess
import sys
from collections.abc import Iterator
from pathlib import Path

import pytest

from naught.wire.codec import encode_notification, encode_request
from support.conversation import decoded
from support.seeds import slow
from support.server_process import SERVER, SERVER_WITHOUT_UVLOOP, RawPeer, ServerProcess, server_process, wait_until
from support.surroundings import without_settings

DEADLINE_S = 30.0
MIB = 1 << 20
LOOPS = pytest.mark.parametrize("command", [SERVER, SERVER_WITHOUT_UVLOOP], ids=["uvloop", "asyncio"])

# ------------------------------------------------------------------------------------------------- memory


@pytest.mark.slow
@pytest.mark.skipif(sys.platform != "linux", reason="only Linux has limits on memory that hold")
@pytest.mark.parametrize("what", ["counters", "holds", "waits"])
@LOOPS
def test_out_of_memory_the_process_ends_and_every_answer_before_was_right(
    tmp_path: Path, command: list[str], what: str
) -> None:
    """Nobody is told a wrong number, or that half of a request has failed."""
    server = ServerProcess(tmp_path, command=command)
    try:
        free_mib = 8
        now = int(Path(f"/proc/{server.process.pid}/statm").read_text().split()[0]) * resource.getpagesize()
        resource.prlimit(server.process.pid, resource.RLIMIT_AS, (now + free_mib * MIB,) * 2)
        with server.connect() as peer:
            if what != "counters":
                assert peer.call("hello", {"session": True})
            ask_for_more(peer, what)
        assert server.process.wait(DEADLINE_S) in {71, -signal.SIGABRT}
        if server.process.returncode == 71:
            assert "out of memory: the process ends" in server.log()
    finally:
        server.kill()


def ask_for_more(peer: RawPeer, what: str) -> None:
    """Until the server ends. Each answer is checked."""
    for turn in range(400):
        keys = [b"%d:%0500d" % (turn, number) for number in range(1_000)]
        if what == "counters":
            data = encode_request(turn, "apply", (keys, 3))
            right = [[3] * 1_000]
        elif what == "holds":
            data = b"".join(encode_request(turn, "acquire", ([[key, 2, 5]],)) for key in keys[:100])
            data = encode_notification("ack", (100 * turn,)) + data
            right = [None] * 100
        else:
            waits = [
                encode_request(1_000 * (turn + 1) + number, "acquire", ([[key, 1, 1]], 600_000))
                for number, key in enumerate(keys[:100])
            ]
            data = encode_request(turn, "apply", (keys[:100], 1)) + b"".join(waits)
            right = [[1] * 100]
        peer.send(data)
        received = b""
        answers: list[list[object]] = []
        while len(answers) < len(right):
            try:
                piece = peer.socket.recv(1 << 16)
            except ConnectionResetError:
                return
            if not piece:
                return
            received += piece
            with contextlib.suppress(AssertionError):
                answers = decoded(received)
        for (_, msgid, error, result), expected in zip(answers, right, strict=False):
            assert msgid == turn
            assert error is None or error[0] in (b"busy", b"too_large"), error
            assert error is not None or expected is None or result == expected
    raise AssertionError("there was enough memory")


# ------------------------------------------------------------------------------------------------- descriptors


@pytest.mark.parametrize("command", [SERVER, *slow(SERVER_WITHOUT_UVLOOP)], ids=["uvloop", "asyncio"])
def test_with_every_descriptor_used_the_connected_are_served_new_ones_refused_and_the_log_is_short(
    tmp_path: Path, command: list[str]
) -> None:
    limited = ["/bin/sh", "-c", 'ulimit -n 48; exec "$@"', "sh", *command]
    with server_process(tmp_path, command=limited) as server, contextlib.ExitStack() as stack:
        served = []
        for _ in range(16):  # 48, without the reserve of 32
            peer = stack.enter_context(server.connect())
            assert peer.call("ping") == b"pong"
            served.append(peer)
        for _ in range(300):
            with server.connect() as refused:
                assert refused.read_to_end() == b"", "it learns at once that there is no room"
        for peer in served:
            assert peer.call("incr", "k") > 0
        assert served[0].call("info")[b"connections_refused"] == 300
        for peer in served[8:]:
            peer.socket.close()

        def accepted() -> bool:
            with server.connect() as peer, contextlib.suppress(AssertionError, ConnectionError):
                return peer.call("ping") == b"pong"
            return False

        wait_until(accepted, "it accepts again", deadline_s=1.0)
        lines = [line for line in server.log().splitlines() if "refused" in line]
        assert sum(int(re.findall(r"count=(\d+)", line)[0]) for line in lines) <= 300
        assert len(lines) <= 10, "one line a second says how many"


# ------------------------------------------------------------------------------------------------- disk


@pytest.fixture
def small_disk(tmp_path: Path) -> Iterator[Path]:
    """A file system with room for some kilobytes."""
    folder = tmp_path / "disk"
    folder.mkdir()
    mounted = subprocess.run(
        ["mount", "-t", "tmpfs", "-o", "size=16k", "naught-test", str(folder)],
        check=False,
        capture_output=True,
        text=True,
    )
    if mounted.returncode and "CI" not in os.environ:
        pytest.skip(f"no small disk: {mounted.stderr.strip()}")
    assert mounted.returncode == 0, mounted.stderr
    try:
        yield folder
    finally:
        subprocess.run(["umount", "--lazy", str(folder)], check=False, capture_output=True)


def fill(file: Path) -> None:
    """Write to this file until its disk is full."""
    with file.open("ab", buffering=0) as filler, contextlib.suppress(OSError):
        while True:
            filler.write(bytes(64))


def start(
    ports_file: Path, stderr: int | None, *, prefix: list[str] | None = None
) -> tuple[subprocess.Popen[bytes], int]:
    """A server whose log goes there, and its port."""
    command = [*(prefix or []), *SERVER, "--port", "0", "--http-port", "off", "--ports-file", str(ports_file)]
    process = subprocess.Popen(command, stdin=subprocess.DEVNULL, stderr=stderr, env=without_settings())
    try:
        wait_until(lambda: ports_file.exists() or process.poll() is not None, "it started")
        assert process.poll() is None
        return process, int(re.findall(rb'"port": (\d+)', ports_file.read_bytes())[0])
    except BaseException:
        process.kill()
        process.wait()
        raise


def make_lines(process: subprocess.Popen[bytes], port: int, lines: int) -> None:
    """Have a server write to its log, and see that it serves on."""
    with RawPeer(port) as peer:
        for number in range(lines):
            process.send_signal(signal.SIGHUP)
            assert peer.call("incr", "k") == number + 1
        assert peer.call("take", [b"k"]) == [lines]


def end(process: subprocess.Popen[bytes]) -> None:
    try:
        process.terminate()
        assert process.wait(DEADLINE_S) == 0
    finally:
        if process.poll() is None:
            process.kill()
            process.wait()


@pytest.mark.slow
def test_with_the_disk_full_under_its_log_it_serves_on_and_the_log_goes_on_when_there_is_room(
    tmp_path: Path, small_disk: Path
) -> None:
    log = small_disk / "log"
    with log.open("ab") as stream:
        process, port = start(tmp_path / "ports.json", stream.fileno())
    try:
        fill(small_disk / "filler")
        fill(log)  # what is left of its last page
        make_lines(process, port, 40)
        with RawPeer(port) as peer:  # the log is written by a thread of its own
            wait_until(lambda: dict(peer.call("info"))[b"log_lines_dropped"], "lines are dropped")
        (small_disk / "filler").unlink()
        process.send_signal(signal.SIGHUP)
        wait_until(lambda: b"log lines dropped" in log.read_bytes(), "the log says how many lines were lost")
    finally:
        end(process)


def test_with_the_disk_full_or_gone_under_its_ports_file_it_serves_on_and_ends(
    tmp_path: Path, small_disk: Path
) -> None:
    process, port = start(small_disk / "ports.json", subprocess.DEVNULL)
    try:
        fill(small_disk / "filler")
        make_lines(process, port, 2)
        subprocess.run(["umount", "--lazy", str(small_disk)], check=True)
        make_lines(process, port, 2)
    finally:
        end(process)


def test_with_the_disk_full_at_the_start_it_says_that_it_cannot_write_the_ports_file(small_disk: Path) -> None:
    """Nobody would learn its port."""
    fill(small_disk / "filler")
    ended = subprocess.run(
        [*SERVER, "--port", "0", "--http-port", "off", "--ports-file", str(small_disk / "ports.json")],
        check=False,
        capture_output=True,
        text=True,
        timeout=DEADLINE_S,
        env=without_settings(),
    )
    assert ended.returncode == 1
    assert ended.stderr.splitlines()[-1].startswith("naught-server: cannot write the ports file")
    assert "No space left on device" in ended.stderr
    assert [each.name for each in small_disk.iterdir()] == ["filler"]


def test_with_a_full_device_for_its_log_it_serves_on(tmp_path: Path) -> None:
    with open("/dev/full", "wb", buffering=0) as full:
        process, port = start(tmp_path / "ports.json", full.fileno())
    try:
        make_lines(process, port, 10)
    finally:
        end(process)


@pytest.mark.slow
def test_with_a_slow_disk_under_its_log_it_serves_on(tmp_path: Path) -> None:
    """The log is a pipe that takes a line in a while."""
    reader, writer = os.pipe()
    process, port = start(tmp_path / "ports.json", writer)
    os.close(writer)
    try:
        make_lines(process, port, 100)
        assert b" info listening " in os.read(reader, 4_096)
        make_lines(process, port, 100)
    finally:
        end(process)
        os.close(reader)


@pytest.mark.parametrize("closed", ["1>&-", "2>&-", "0<&- 1>&- 2>&-"], ids=["stdout", "stderr", "all"])
def test_with_closed_standard_streams_it_serves_on_and_nothing_of_the_log_reaches_a_client(
    tmp_path: Path, closed: str
) -> None:
    """A descriptor that is free is the next connection's: what is written to 2 must not go there."""
    assert shutil.which("sh")
    process, port = start(tmp_path / "ports.json", None, prefix=["/bin/sh", "-c", f'exec "$@" {closed}', "sh"])
    try:
        for number in (0, 1, 2):
            target = os.readlink(f"/proc/{process.pid}/fd/{number}")
            assert not target.startswith("socket:"), f"descriptor {number} is {target}"
        with contextlib.ExitStack() as stack:
            peers = [stack.enter_context(RawPeer(port)) for _ in range(4)]
            for _ in range(5):
                process.send_signal(signal.SIGHUP)
                for peer in peers:
                    assert peer.call("ping") == b"pong"
    finally:
        end(process)
