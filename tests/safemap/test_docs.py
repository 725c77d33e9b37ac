"""The examples of docs/safemap.md, run as they stand."""

from __future__ import annotations

import doctest

import pytest

import naught
from naught.safemap import SafeMap
from support.paths import DOCS


def test_the_examples(monkeypatch: pytest.MonkeyPatch) -> None:
    # At the top of the package in any installation; the documentation is also tested before it is put there.
    monkeypatch.setattr(naught, "SafeMap", SafeMap, raising=False)
    page = DOCS / "safemap.md"
    failed, tried = doctest.testfile(str(page), module_relative=False)
    assert tried > 15
    assert failed == 0
