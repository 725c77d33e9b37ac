"""A process pool with a wait group: one process hands out work and waits until all is done, wherever it is done.

    naught-server &
    python examples/process_pool.py

A `Future` of the pool would do as long as all work is in this pool. A wait group also counts work that the workers
hand on, and work of other pools and machines.
"""

from __future__ import annotations

import multiprocessing
import os
from concurrent.futures import ProcessPoolExecutor

import naught.blocking

URL = os.environ.get("NAUGHT_URL", "naught://localhost:6480")
FOLDERS = {"a": 3, "b": 0, "c": 5}  # name -> how many files it has

counters: naught.blocking.Client  # of this process


def start_worker() -> None:
    """Once in each process of the pool."""
    global counters
    counters = naught.blocking.Client(URL)


def read_folder(name: str) -> None:
    """One piece of work, which finds more: a piece for each file, added before this one is done."""
    group = counters.wait_group("import")
    try:
        if FOLDERS[name]:
            group.add(FOLDERS[name])
        for _ in range(FOLDERS[name]):
            read_file()
    finally:
        group.done()


def read_file() -> None:
    """It could as well be sent to another pool."""
    try:
        counters.incr("imported")
    finally:
        counters.wait_group("import").done()


def main() -> None:
    """Import all folders."""
    with (
        naught.blocking.Client(URL) as ours,
        ProcessPoolExecutor(2, multiprocessing.get_context("spawn"), start_worker) as pool,
    ):
        group = ours.wait_group("import")
        group.add(len(FOLDERS))  # before any of them can be done
        for name in FOLDERS:
            pool.submit(read_folder, name)
        if not group.wait(timeout=60):
            raise SystemExit(f"{group.value()} pieces are not done after a minute")
        (imported,) = ours.take(["imported"])
        print(f"{imported} files of {len(FOLDERS)} folders are imported")


if __name__ == "__main__":
    main()
