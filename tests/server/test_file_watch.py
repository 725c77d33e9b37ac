"""Noticing that a file has changed: what `stat` says comes in, look by look."""

from __future__ import annotations

import os
from pathlib import Path

import pytest

from naught_server.file_watch import FileWatch, Identity, identity_of

A, B, C = (Identity(1, inode, 10, 5, 5) for inode in (1, 2, 3))


@pytest.mark.parametrize(
    ("looks", "found"),
    [
        ([A, A, A], [None, None, None]),
        ([B, B, B], [None, "changed", None]),
        ([B, C, C, C], [None, None, "changed", None]),
        ([B, A, A], [None, None, None]),
        ([None, B, B], [None, None, "changed"]),
        ([None, None, None, B, B], [None, "gone", None, None, "changed"]),
        ([None, None, A, A], [None, "gone", None, "changed"]),
    ],
    ids=["still", "changed", "being-written", "back", "replaced", "gone-and-new", "gone-and-back"],
)
def test_looks(looks: list[Identity | None], found: list[str | None]) -> None:
    states = iter([A, *looks])
    watch = FileWatch("file", lambda path: next(states))
    assert [watch.look() for _ in looks] == found


def test_what_tells_two_states_apart(tmp_path: Path) -> None:
    path = tmp_path / "file"
    assert identity_of(str(path)) is None
    assert identity_of("\0") is None
    path.write_text("one")
    first = identity_of(str(path))
    assert first == identity_of(str(path))
    path.write_text("other")
    assert identity_of(str(path)) != first, "the size"
    path.write_text("two")
    os.utime(path, ns=(0, 0))
    assert identity_of(str(path)) != first, "the time"
    before = identity_of(str(path))
    path.write_text("six")
    os.utime(path, ns=(0, 0))
    assert identity_of(str(path)) != before, "a copy that keeps size and time"
    before = identity_of(str(path))
    while identity_of(str(path)) == before:  # the clock of the file system has a grain
        path.chmod(0o600)
    link = tmp_path / "link"
    link.symlink_to(path)
    assert identity_of(str(link)) == identity_of(str(path)), "links are followed"
