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

_CGROUP_LIMITS: Final = ("/sys/fs/cgroup/memory.max", "/sys/fs/cgroup/memory/memory.limit_in_bytes")
"""The limit of the process's own control group, where the process sees it as the root of its tree: in a container."""


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
    max_fds: int
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
        max_fds=resource.getrlimit(resource.RLIMIT_NOFILE)[0],
        memory_limit_bytes=memory_limit_bytes(),
    )


def memory_limit_bytes(cgroup_files: tuple[str, ...] = _CGROUP_LIMITS) -> int | None:
    """The most memory this process may have, or None."""
    limits = [_cgroup_limit(path) for path in cgroup_files]
    address_space = resource.getrlimit(resource.RLIMIT_AS)[0]
    if address_space != resource.RLIM_INFINITY:
        limits.append(address_space)
    found = [limit for limit in limits if limit is not None and 0 < limit < _NO_LIMIT_BYTES]
    return min(found, default=None)


def _cgroup_limit(path: str) -> int | None:
    try:
        return int(Path(path).read_text(encoding="ascii"))
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
        return len(os.listdir(proc / "fd")) - 1  # without the one that lists them
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
