"""Processor cores: which ones servers and generators run on, so that neither takes the other's time.

Where the system can pin a process to cores (Linux) and at least two are usable, the server gets one and the
generator the others. Elsewhere both run wherever the system puts them, and the report says so.
"""

from __future__ import annotations

import contextlib
import os
from collections.abc import Iterator
from dataclasses import dataclass


@dataclass(frozen=True, slots=True)
class Cores:
    """The cores of servers and of generators. An empty list: not pinned."""

    server: list[int]
    generator: list[int]
    # One line for the report.
    note: str


def split_cores() -> Cores:
    """One core for the server and the others for the generator, where the system allows it and there are two."""
    if not hasattr(os, "sched_setaffinity"):
        return Cores([], [], "cores: this system cannot pin processes to cores; server and generator may share one")
    usable = sorted(os.sched_getaffinity(0))
    if len(usable) < 2:
        return Cores([], [], "cores: only one is usable; server and generator share it")
    server, generator = usable[:1], usable[1:]
    return Cores(server, generator, f"cores: server on {server[0]}, generator on {_span(generator)}")


def _span(cores: list[int]) -> str:
    return str(cores[0]) if len(cores) == 1 else f"{cores[0]}-{cores[-1]}"


def usable_core_count() -> int:
    """How many cores this process may run on."""
    return len(os.sched_getaffinity(0)) if hasattr(os, "sched_getaffinity") else os.cpu_count() or 1


@contextlib.contextmanager
def pinned_to(cores: list[int]) -> Iterator[None]:
    """Processes started in this block run on these cores only. The caller gets its own cores back afterwards.

    With an empty list nothing changes.
    """
    if not cores:
        yield
        return
    before = os.sched_getaffinity(0)
    os.sched_setaffinity(0, cores)
    try:
        yield
    finally:
        os.sched_setaffinity(0, before)
