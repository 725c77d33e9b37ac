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
    # The cores of a peer that has more than one; empty: it has those of the server.
    peer: tuple[int, ...] = ()


def split_cores(peer_cores: int = 1) -> Cores:
    """One core for the server and the others for the generator, where the system allows it and there are two.

    With `peer_cores` above 1 the first `peer_cores` cores are for a peer, and the server has the first of them.
    ValueError when that leaves none for the generator.
    """
    if not hasattr(os, "sched_setaffinity"):
        if peer_cores > 1:
            raise ValueError("this system cannot pin processes to cores, so a peer cannot be given a number of them")
        return Cores([], [], "cores: this system cannot pin processes to cores; server and generator may share one")
    usable = sorted(os.sched_getaffinity(0))
    if not 1 <= peer_cores < max(len(usable), 2):
        raise ValueError(
            f"a peer can have 1 to {max(len(usable) - 1, 1)} cores here, because one is for the generator, "
            f"not {peer_cores}"
        )
    if len(usable) < 2:
        return Cores([], [], "cores: only one is usable; server and generator share it")
    server, generator = usable[:1], usable[peer_cores:]
    note = f"cores: server on {server[0]}, generator on {_span(generator)}"
    if peer_cores > 1:
        note += f", peer on {_span(usable[:peer_cores])}"
    return Cores(server, generator, note, tuple(usable[:peer_cores]) if peer_cores > 1 else ())


def _span(cores: list[int]) -> str:
    return str(cores[0]) if len(cores) == 1 else f"{cores[0]}-{cores[-1]}"


def yield_to_others(cores: Cores) -> None:
    """Let this thread run on all these cores, but only in time that no other process wants, where the system can.

    The change is permanent, so the thread must be one that does nothing else.
    """
    if hasattr(os, "SCHED_IDLE"):
        with contextlib.suppress(OSError):
            os.sched_setscheduler(0, os.SCHED_IDLE, os.sched_param(0))
            os.sched_setaffinity(0, [*cores.server, *cores.generator] or os.sched_getaffinity(0))


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
