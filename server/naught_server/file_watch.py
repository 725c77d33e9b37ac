"""Notices that a file has changed: `--watch-config`. Sans-IO but for `stat`; the owner calls `look` now and then.

A file counts as changed when what `stat` says of it has changed and has stayed the same for one more look, so that a
file that is being written is not read half. Links are followed: Kubernetes replaces a ConfigMap by moving the link
that all its files go through, and never writes into a file.
"""

from __future__ import annotations

import os
from collections.abc import Callable
from typing import Final, NamedTuple

LOOK_EVERY_S: Final = 1.0
"""How often the file is looked at: a `stat` takes some microseconds, and an operator waits for nothing longer."""


class Identity(NamedTuple):
    """What tells two states of a file apart."""

    device: int
    inode: int
    size: int
    modified_ns: int
    changed_ns: int
    """Of its owner and mode too: a file that could not be read is read once it can be. And a copy that keeps the
    time of the original is seen."""


def identity_of(path: str) -> Identity | None:
    """The state of the file that a path leads to; None where there is no such file, or it cannot be seen."""
    try:
        found = os.stat(path)
    except (OSError, ValueError):
        return None
    return Identity(found.st_dev, found.st_ino, found.st_size, found.st_mtime_ns, found.st_ctime_ns)


class FileWatch:
    """Watches one file."""

    def __init__(self, path: str, identity: Callable[[str], Identity | None] = identity_of) -> None:
        self.path: Final = path
        self._identity = identity
        self._known = identity(path)  # the state that was read, or that was said to be gone
        self._seen = self._known  # the state at the last look

    def look(self) -> str | None:
        """ "changed", "gone", or None where nothing is new."""
        found = self._identity(self.path)
        settled = found == self._seen
        self._seen = found
        if not settled or found == self._known:
            return None
        self._known = found
        return "gone" if found is None else "changed"
