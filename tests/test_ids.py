"""The ids of tests are the same in every process, as `support.ids` has it."""

from __future__ import annotations

import os
import subprocess
import sys
from pathlib import Path

import pytest

from support import ids


def test_an_address_is_seen_wherever_it_stands() -> None:
    good = ["test_a.py::test_a[0x1f]", "test_a.py::test_a[object]", "test_a.py::test_a[0xffff-at once]"]
    bad = [f"test_a.py::test_a[{object()!r}]", f"test_a.py::test_a[1-{[object()]}-2]"]
    assert ids.unstable(good + bad) == bad


def collected(folder: Path, hash_seed: str) -> list[str]:
    done = subprocess.run(
        [sys.executable, "-m", "pytest", "--collect-only", "-q", "-p", "no:cacheprovider"],
        cwd=folder,
        env={**os.environ, "PYTHONHASHSEED": hash_seed},
        capture_output=True,
        text=True,
        timeout=300,
        check=False,
    )
    assert done.returncode == 0, done.stdout + done.stderr
    return [line for line in done.stdout.splitlines() if "::" in line]


@pytest.mark.slow
@pytest.mark.exhaustive  # the workers of each run have different hashes, and must collect the same
def test_they_do_not_depend_on_the_order_of_a_set(pytestconfig: pytest.Config) -> None:
    first, second = (collected(pytestconfig.rootpath, hash_seed) for hash_seed in ("1", "2"))
    assert len(first) > 1_000
    assert first == second
    assert len(set(first)) == len(first)
