"""The machine that figures were measured on, for the heading of a report: without it a figure says little."""

from __future__ import annotations

import importlib.metadata
import os
import platform
from collections.abc import Iterator
from pathlib import Path

# Packages whose version changes the figures. Those that are not installed are left out.
PACKAGES = ("naught", "uvloop", "msgpack", "redis", "hiredis", "valkey-glide")


def machine_lines() -> Iterator[str]:
    """The processor, the memory, the operating system, Python, and the packages that matter."""
    yield f"machine: {_processor()}, {os.cpu_count()} cores, {_memory()}"
    python = f"{platform.python_implementation()} {platform.python_version()}"
    yield f"system: {platform.system()} {platform.release()}, {python}"
    installed = [f"{name} {version}" for name in PACKAGES if (version := _version(name))]
    yield f"packages: {', '.join(installed)}"


def load_average() -> str:
    """How many processes wanted to run in the last minute; "unknown" where the system does not report it."""
    try:
        return f"{os.getloadavg()[0]:.2f}"
    except OSError:
        return "unknown"


def available_bytes() -> int | None:
    """Memory that can be used without swapping. None where the system does not report it."""
    try:
        for line in Path("/proc/meminfo").read_text().splitlines():
            if line.startswith("MemAvailable:"):
                return int(line.split()[1]) * 1024
    except OSError:
        pass
    return None


def _processor() -> str:
    try:
        for line in Path("/proc/cpuinfo").read_text().splitlines():
            if line.startswith("model name"):
                return line.partition(":")[2].strip()
    except OSError:
        pass
    return platform.processor() or platform.machine()


def _memory() -> str:
    try:
        return f"{os.sysconf('SC_PAGE_SIZE') * os.sysconf('SC_PHYS_PAGES') / 2**30:.0f} GiB"
    except (ValueError, OSError):
        return "memory unknown"


def _version(name: str) -> str | None:
    try:
        return importlib.metadata.version(name)
    except importlib.metadata.PackageNotFoundError:
        return None
