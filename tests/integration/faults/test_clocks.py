"""The system clock is set while the server runs. Times to live, leases and waits are told by another one.

libfaketime gives a process another time of day, read from a file that the test writes.
"""

from __future__ import annotations

import os
import shutil
import signal
import time
from datetime import datetime, timedelta
from pathlib import Path

import pytest

from support.server_process import SERVER, SERVER_WITHOUT_UVLOOP, server_process, wait_until

LIBRARIES = sorted(Path("/usr/lib").glob("*/faketime/libfaketime.so.1"))
HOUR = timedelta(hours=1)

pytestmark = [
    pytest.mark.slow,
    pytest.mark.skipif(
        not LIBRARIES and "CI" not in os.environ, reason="libfaketime is missing: Debian's package faketime"
    ),
]


@pytest.mark.parametrize(
    ("by", "command"),
    [
        pytest.param(HOUR, SERVER, id="forward-uvloop"),
        pytest.param(-HOUR, SERVER_WITHOUT_UVLOOP, id="back-asyncio"),
        pytest.param(HOUR, SERVER_WITHOUT_UVLOOP, id="forward-asyncio", marks=pytest.mark.exhaustive),
        pytest.param(-HOUR, SERVER, id="back-uvloop", marks=pytest.mark.exhaustive),
    ],
)
def test_with_the_system_clock_set_by_an_hour_nothing_expires_early_or_late(
    tmp_path: Path, by: timedelta, command: list[str]
) -> None:
    time_file = tmp_path / "time"
    time_file.write_text("+0\n")
    environment = {
        "LD_PRELOAD": str(LIBRARIES[0]),
        "FAKETIME_TIMESTAMP_FILE": str(time_file),
        "FAKETIME_DONT_FAKE_MONOTONIC": "1",
        "FAKETIME_NO_CACHE": "1",
    }
    with server_process(tmp_path, command=command, environment=environment) as server, server.connect() as peer:
        opened = peer.call("hello", {"session": True, "lease_ms": 500})
        assert peer.call("incr", "late", 1, 600_000) == 1
        assert peer.call("incr", "soon", 1, 1_000) == 1
        assert peer.call("acquire", [["held", 1, 1]])[0] is True
        began = time.monotonic()
        time_file.write_text(f"{by.total_seconds():+.0f}\n")
        server.process.send_signal(signal.SIGHUP)  # writes a line
        wait_until(lambda: is_set(server.log(), by), "its log has the new time")
        assert peer.call("get_many", ["late", "soon", "held"]) == [1, 1, 1]
        left_ms = peer.call("ttl", "late")
        assert 0 <= 600_000 - left_ms - (time.monotonic() - began) * 1_000 + 50 < 5_000
        wait_until(lambda: peer.call("get", "soon") == 0, "what was due has expired")
        assert time.monotonic() - began >= 0.9, "it expired early"
        assert peer.call("get_many", ["late", "held"]) == [1, 1]
        assert opened[b"session"]
        # The session ends by its lease, in its time.
        peer.socket.close()
        with server.connect() as other:
            assert other.call("get", "held") == 1
            wait_until(lambda: other.call("get", "held") == 0, "the lease has ended")
            assert other.call("get", "late") == 1


def is_set(log: str, by: timedelta) -> bool:
    """Whether the last line of a log was written at about the other time."""
    said = datetime.fromisoformat(log.splitlines()[-1].split()[0].replace("Z", "+00:00"))
    return abs(said.timestamp() - time.time() - by.total_seconds()) < HOUR.total_seconds() / 2


def test_the_library_is_there() -> None:
    assert shutil.which("faketime"), ".ci/run installs faketime"
