"""The machine a figure was measured on: without it a figure says little."""

from __future__ import annotations

import importlib.metadata
import os
import platform
from collections.abc import Iterator
from pathlib import Path

PACKAGES = ("naught", "uvloop", "msgpack", "redis", "hiredis", "valkey-glide")


def machine_lines() -> Iterator[str]:
    """Processor, system, Python, and the packages that matter here."""
    yield f"machine: {_processor()}, {os.cpu_count()} cores, {_memory()}"
    python = f"{platform.python_implementation()} {platform.python_version()}"
    yield f"system: {platform.system()} {platform.release()}, {python}"
    found = [f"{name} {version}" for name in PACKAGES if (version := _version(name))]
    yield f"packages: {', '.join(found)}"


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
