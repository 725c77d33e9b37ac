"""The figures of this process, from files of another."""

from __future__ import annotations

import os
import resource
import time
from pathlib import Path

import pytest

from naught_server import process
from naught_server.process import memory_limit_bytes, process_figures

on_linux = pytest.mark.skipif(not Path("/proc/self/statm").exists(), reason="there is no /proc")


@on_linux
def test_this_process() -> None:
    found = process_figures()
    assert found.pid == os.getpid()
    assert found.cpu_s > 0
    assert found.resident_bytes is not None
    assert found.resident_bytes > 1 << 20
    assert found.virtual_bytes is not None
    assert found.resident_bytes < found.virtual_bytes
    assert time.time() - 86_400 < found.start_time_s <= time.time()
    assert found.max_fds == resource.getrlimit(resource.RLIMIT_NOFILE)[0]
    before = found.open_fds
    reader, writer = os.pipe()
    try:
        after = process_figures().open_fds
    finally:
        os.close(reader)
        os.close(writer)
    assert before is not None
    assert after == before + 2


def test_what_the_system_does_not_say_is_none(tmp_path: Path) -> None:
    found = process_figures(tmp_path)
    assert (found.resident_bytes, found.virtual_bytes, found.open_fds) == (None, None, None)


@pytest.mark.parametrize(
    ("texts", "limit"),
    [
        (["max\n"], None),
        (["268435456\n"], 268435456),
        (["9223372036854771712\n"], None),
        (["", "1000000\n"], 1_000_000),
        ([], None),
    ],
)
def test_the_limit_of_the_control_group(tmp_path: Path, texts: list[str], limit: int | None) -> None:
    files = []
    for number, text in enumerate(texts):
        files.append(str(tmp_path / str(number)))
        Path(files[-1]).write_text(text)
    assert memory_limit_bytes((*files, str(tmp_path / "absent"))) == limit


def test_the_least_limit_counts(monkeypatch: pytest.MonkeyPatch, tmp_path: Path) -> None:
    monkeypatch.setattr(process.resource, "getrlimit", lambda which: (5_000, 5_000))
    (tmp_path / "limit").write_text("9000")
    assert memory_limit_bytes((str(tmp_path / "limit"),)) == 5_000
    (tmp_path / "limit").write_text("4000")
    assert memory_limit_bytes((str(tmp_path / "limit"),)) == 4_000
