"""Which files to read, and reading them: folders walked, other people's folders left out, several at a
time."""

from __future__ import annotations

import gc
import os
import sys
from collections.abc import Iterable, Iterator
from concurrent.futures import ProcessPoolExecutor
from contextlib import contextmanager
from fnmatch import fnmatch
from functools import partial
from multiprocessing import get_context
from pathlib import Path

from naught.lint.config import NEVER, Config
from naught.lint.engine import check_source
from naught.lint.finding import UNREADABLE, Finding

WORTH_PROCESSES = 50
"""Files from which on starting other processes pays: each costs about a tenth of a second, as do 20 files."""
CHUNK = 16
"""Files handed to a process at once: few enough that none waits long at the end."""


def python_files(paths: Iterable[str], config: Config) -> Iterator[str]:
    """The files to check, each once. A path given is always looked at; below it, what is excluded is not."""
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
            if not any(fnmatch(name, pattern) for pattern in NEVER)
            and not config.is_excluded(os.path.join(where, name))
        )
        for name in sorted(files):
            path = os.path.normpath(os.path.join(where, name))
            # Sockets and pipes have names that end in .py as well as any, and reading them waits for ever.
            if name.endswith((".py", ".pyw")) and os.path.isfile(path) and not config.is_excluded(path):
                yield path


def check_file(path: str, with_locals: bool = False) -> list[Finding]:
    """Everything found in one file; a file that cannot be read is a finding. `-` is standard input."""
    try:
        source = sys.stdin.buffer.read() if path == "-" else Path(path).read_bytes()
    except OSError as error:
        return [Finding(path, 1, 1, UNREADABLE, f"cannot be read: {error.strerror or error}", 1)]
    return check_source(source, path, with_locals=with_locals)


def check_files(paths: list[str], jobs: int, with_locals: bool = False) -> Iterator[Finding]:
    """Everything found in many files, in their order, with `jobs` processes where that pays."""
    if jobs == 1 or len(paths) < WORTH_PROCESSES:
        with _without_collector():
            for path in paths:
                yield from check_file(path, with_locals)
        return
    # Not forked: the caller may be a program with threads.
    with ProcessPoolExecutor(jobs, mp_context=get_context("spawn"), initializer=gc.disable) as pool:
        for findings in pool.map(partial(check_file, with_locals=with_locals), paths, chunksize=CHUNK):
            yield from findings


@contextmanager
def _without_collector() -> Iterator[None]:
    """Syntax trees are large and have no cycles worth looking for: a third of the time goes without this."""
    enabled = gc.isenabled()
    gc.disable()
    try:
        yield
    finally:
        if enabled:
            gc.enable()
