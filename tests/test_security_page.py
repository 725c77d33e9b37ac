"""SECURITY.md names the tests that hold its promises: they exist."""

from __future__ import annotations

import re

import pytest

from support.paths import ROOT

PAGE = (ROOT / "SECURITY.md").read_text("utf-8")
FILES = sorted(set(re.findall(r"`(tests/[\w/]+\.py)`", PAGE)))
NAMES = sorted(set(re.findall(r"`(test_\w+)`", PAGE)))


def test_the_page_names_some() -> None:
    assert len(FILES) >= 5
    assert len(NAMES) >= 3


@pytest.mark.parametrize("file", FILES)
def test_a_file_that_it_names_is_there(file: str) -> None:
    assert (ROOT / file).is_file()


def test_the_tests_that_it_names_are_there() -> None:
    defined = {
        name
        for path in (ROOT / "tests").rglob("test_*.py")
        for name in re.findall(r"^(?:async )?def (test_\w+)", path.read_text("utf-8"), re.MULTILINE)
    }
    assert set(NAMES) <= defined
