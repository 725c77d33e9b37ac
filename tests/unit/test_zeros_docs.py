"""The examples of docs/zeros.md, run as they stand."""

from __future__ import annotations

import doctest
from pathlib import Path


def test_the_examples() -> None:
    page = Path(__file__).resolve().parents[2] / "docs" / "zeros.md"
    # Dataclasses made in the page ask for the module they are in.
    failed, tried = doctest.testfile(str(page), module_relative=False, globs={"__name__": "__main__"})
    assert tried > 10
    assert failed == 0
