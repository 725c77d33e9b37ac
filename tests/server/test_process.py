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


def groups(folder: Path, lines: str, limits: dict[str, str]) -> tuple[Path, Path]:
    """A process in control groups with these limits: its folder in /proc, and the tree of groups."""
    proc, cgroups = folder / "proc", folder / "cgroup"
    proc.mkdir()
    (proc / "cgroup").write_text(lines)
    for path, text in limits.items():
        file = cgroups / path
        file.parent.mkdir(parents=True, exist_ok=True)
        file.write_text(text)
    return proc, cgroups


@pytest.mark.parametrize(
    ("lines", "limits", "limit"),
    [
        ("0::/\n", {"memory.max": "max\n"}, None),
        ("0::/\n", {"memory.max": "268435456\n"}, 268435456),
        ("0::/system.slice/naught.service\n", {"system.slice/naught.service/memory.max": "5000000\n"}, 5_000_000),
        (
            "0::/a/b\n",
            {"a/b/memory.max": "9000000\n", "a/memory.max": "7000000\n"},
            7_000_000,
        ),
        ("0::/not/there\n", {"memory.max": "6000000\n"}, 6_000_000),
        ("0::/../../x\n", {}, None),
        ("4:memory:/x\n2:cpu:/y\n", {"memory/x/memory.limit_in_bytes": "8000000\n"}, 8_000_000),
        ("4:memory:/\n", {"memory/memory.limit_in_bytes": "9223372036854771712\n"}, None),
        ("", {}, None),
        ("nonsense\n", {}, None),
    ],
)
def test_the_limits_of_the_control_groups(
    tmp_path: Path, lines: str, limits: dict[str, str], limit: int | None
) -> None:
    assert memory_limit_bytes(*groups(tmp_path, lines, limits)) == limit


def test_without_control_groups(tmp_path: Path) -> None:
    assert memory_limit_bytes(tmp_path / "absent", tmp_path / "absent") is None


def test_the_least_limit_counts(monkeypatch: pytest.MonkeyPatch, tmp_path: Path) -> None:
    monkeypatch.setattr(process.resource, "getrlimit", lambda which: (5_000, 5_000))
    proc, cgroups = groups(tmp_path, "0::/\n", {"memory.max": "9000"})
    assert memory_limit_bytes(proc, cgroups) == 5_000
    (cgroups / "memory.max").write_text("4000")
    assert memory_limit_bytes(proc, cgroups) == 4_000


def test_no_limit_on_files_is_no_number(monkeypatch: pytest.MonkeyPatch) -> None:
    infinity = resource.RLIM_INFINITY
    monkeypatch.setattr(process.resource, "getrlimit", lambda which: (infinity, infinity))
    assert process_figures().max_fds is None
