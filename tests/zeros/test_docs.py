"""The examples of docs/zeros.md, run as they stand."""

from __future__ import annotations

import doctest

from support.paths import DOCS


def test_the_examples() -> None:
    page = DOCS / "zeros.md"
    # Dataclasses made in the page ask for the module they are in.
    failed, tried = doctest.testfile(str(page), module_relative=False, globs={"__name__": "__main__"})
    assert tried > 10
    assert failed == 0
