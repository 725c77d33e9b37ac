"""What the operating system says about this process: memory, descriptors, CPU time, and their limits.

Read when somebody asks, a few small files of /proc each time: about 0.1 ms. Where there is no /proc (macOS), what
`resource` cannot tell is None, and is left out of what is shown.
"""

from __future__ import annotations

import os
import resource
import sys
import time
from dataclasses import dataclass
from pathlib import Path
from typing import Final

_PAGE_BYTES: Final = resource.getpagesize()

_NO_LIMIT_BYTES: Final = 1 << 60
"""A control group without a limit has one near 2^63."""

_CGROUPS: Final = Path("/sys/fs/cgroup")


@dataclass(frozen=True)
class ProcessFigures:
    """This process at one moment. None where the system does not say."""

    pid: int
    cpu_s: float
    """CPU time used, in user and kernel mode."""
    start_time_s: float
    """When it started, in seconds since 1970."""
    resident_bytes: int | None
    virtual_bytes: int | None
    open_fds: int | None
    max_fds: int | None
    """None where there is no limit."""
    memory_limit_bytes: int | None
    """The least of the limits of the control group and of RLIMIT_AS; None where there is none."""


def process_figures(proc: Path = Path("/proc/self")) -> ProcessFigures:
    """The figures of this process now. `proc` is for tests."""
    usage = resource.getrusage(resource.RUSAGE_SELF)
    virtual, resident = _memory(proc)
    return ProcessFigures(
        pid=os.getpid(),
        cpu_s=usage.ru_utime + usage.ru_stime,
        start_time_s=_STARTED_S,
        resident_bytes=resident,
        virtual_bytes=virtual,
        open_fds=_open_fds(proc),
        max_fds=_soft_limit(resource.RLIMIT_NOFILE),
        memory_limit_bytes=memory_limit_bytes(proc),
    )


def _soft_limit(which: int) -> int | None:
    limit = resource.getrlimit(which)[0]
    return None if limit == resource.RLIM_INFINITY else limit


def memory_limit_bytes(proc: Path = Path("/proc/self"), cgroups: Path = _CGROUPS) -> int | None:
    """The most memory this process may have: the least limit of its address space, of its control group, and of the
    groups that this one is in. None where there is none."""
    limits = [_soft_limit(resource.RLIMIT_AS), *map(_cgroup_limit, _cgroup_files(proc, cgroups))]
    return min((limit for limit in limits if limit is not None and 0 < limit < _NO_LIMIT_BYTES), default=None)


def _cgroup_files(proc: Path, cgroups: Path) -> list[Path]:
    """The files with the limits of the process's control groups, of both versions: `0::/a/b`, `4:memory:/a/b`."""
    try:
        lines = (proc / "cgroup").read_text(encoding="utf-8", errors="replace").splitlines()
    except OSError:
        return []
    files: list[Path] = []
    for line in lines:
        _, _, rest = line.partition(":")
        controllers, _, path = rest.partition(":")
        if not controllers:
            root, name = cgroups, "memory.max"
        elif "memory" in controllers.split(","):
            root, name = cgroups / "memory", "memory.limit_in_bytes"
        else:
            continue
        group = root / path.strip("/")
        # In a container the path may be that of the host, which is not there: then the root is the group itself.
        files += [each / name for each in (group, *group.parents) if each.is_relative_to(root)]
    return files


def _cgroup_limit(path: Path) -> int | None:
    try:
        return int(path.read_text(encoding="ascii"))
    except (OSError, ValueError):  # "max" is no number
        return None


def _memory(proc: Path) -> tuple[int | None, int | None]:
    """Virtual and resident memory, in bytes."""
    try:
        virtual, resident, *_ = (proc / "statm").read_bytes().split()
    except (OSError, ValueError):
        return None, None
    return int(virtual) * _PAGE_BYTES, int(resident) * _PAGE_BYTES


def _open_fds(proc: Path) -> int | None:
    try:
        # Linux says it since 6.2. Listing ten thousand takes 8 ms.
        return os.stat(proc / "fd").st_size or len(os.listdir(proc / "fd")) - 1  # without the one that lists them
    except OSError:
        return None


def _started_s() -> float:
    """When this process was started, by the kernel; where it does not say, now."""
    try:
        fields = Path("/proc/self/stat").read_text(encoding="utf-8", errors="replace").rpartition(")")[2].split()
        boot_s = time.clock_gettime(time.CLOCK_REALTIME) - time.clock_gettime(time.CLOCK_BOOTTIME)
        return boot_s + int(fields[19]) / os.sysconf("SC_CLK_TCK")
    except (OSError, ValueError, IndexError, AttributeError):
        return time.time()


_STARTED_S: Final = _started_s() if sys.platform == "linux" else time.time()
