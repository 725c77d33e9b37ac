"""Finds the Python files below the given paths, and checks them, in several processes if there are many."""

from __future__ import annotations

import gc
import os
import sys
from collections.abc import Iterable, Iterator
from contextlib import contextmanager
from fnmatch import fnmatch
from functools import partial
from pathlib import Path
from typing import TextIO

from naught.lint.config import ALWAYS_EXCLUDED, Config
from naught.lint.engine import check_source
from naught.lint.finding import UNREADABLE, Finding

WORTH_PROCESSES = 50
"""From this number of files on, several processes are faster: starting one takes as long as checking 20 files, about
a tenth of a second."""
CHUNK = 16
"""How many files a process gets at once: few enough that no process has much left to do when the others are done."""


def python_files(paths: Iterable[str], config: Config) -> Iterator[str]:
    """Return the files to check, each once. Excluded files are left out below a given path, but not if given."""
    seen: set[str] = set()
    for path in paths:
        for file in _below(path, config) if os.path.isdir(path) else [path]:
            real = os.path.realpath(file)
            if real not in seen:
                seen.add(real)
                yield file


def _below(folder: str, config: Config) -> Iterator[str]:
    for where, folders, files in os.walk(folder):
        folders[:] = sorted(
            name
            for name in folders
            if not any(fnmatch(name, pattern) for pattern in ALWAYS_EXCLUDED)
            and not config.is_excluded(os.path.join(where, name))
        )
        for name in sorted(files):
            path = os.path.normpath(os.path.join(where, name))
            # A socket or pipe may have such a name too, and reading it could wait for ever.
            if name.endswith((".py", ".pyw")) and os.path.isfile(path) and not config.is_excluded(path):
                yield path


def check_file(path: str, with_locals: bool = False, with_all: bool = False) -> list[Finding]:
    """Return the findings in one file; that it cannot be read is a finding. `-` is standard input."""
    if path.endswith(".ipynb"):
        # Its JSON would often parse as an expression of Python, and so look clean.
        return [_unread(path, "it is a notebook, export it as a script")]
    try:
        source = _standard_input() if path == "-" else Path(path).read_bytes()
    except OSError as error:
        return [_unread(path, str(error.strerror or error))]
    return check_source(source, path, with_locals=with_locals, with_all=with_all)


def _standard_input() -> bytes:
    stream: TextIO | None = sys.stdin
    if stream is None:
        raise OSError("standard input is closed")
    return stream.buffer.read()


def _unread(path: str, why: str) -> Finding:
    return Finding(path, 1, 1, UNREADABLE, f"cannot be read: {why}", 1)


def check_files(
    paths: list[str], jobs: int, with_locals: bool = False, with_all: bool = False
) -> Iterator[list[Finding]]:
    """Return the findings of each file, in the order of the files, using `jobs` processes where that is faster."""
    if jobs == 1 or len(paths) < WORTH_PROCESSES:
        with _without_collector():
            for path in paths:
                yield check_file(path, with_locals, with_all)
        return
    # Imported here, because it takes as long as checking several files.
    from concurrent.futures import ProcessPoolExecutor
    from multiprocessing import get_context

    # Spawned and not forked, because the caller may be a program with threads.
    with ProcessPoolExecutor(jobs, mp_context=get_context("spawn"), initializer=_begin_worker) as pool:
        checking = partial(check_file, with_locals=with_locals, with_all=with_all)
        yield from pool.map(checking, paths, chunksize=CHUNK)


def _begin_worker() -> None:
    """In a process of its own: no collector. And no end later than the program's, which may be killed."""
    from multiprocessing import parent_process
    from threading import Thread

    gc.disable()
    program = parent_process()
    assert program is not None

    def end_with_program() -> None:
        program.join()
        os._exit(1)

    Thread(target=end_with_program, daemon=True).start()


@contextmanager
def _without_collector() -> Iterator[None]:
    """Switch the cyclic garbage collector off: it takes a third of the time, and syntax trees have few cycles."""
    enabled = gc.isenabled()
    gc.disable()
    try:
        yield
    finally:
        if enabled:
            gc.enable()
