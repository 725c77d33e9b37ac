"""Small programs for the rules of naught.lint, each of which says itself what must be found in it.

A line that must be found has a comment `#! NZ101`; every other line must be silent. A program with no such
comment is one the checker must not say a word about, and most are: a false alarm costs more than a miss.
"""

from __future__ import annotations

import re
from textwrap import dedent
from typing import Any

import pytest

from naught.lint import check_source

Tables = dict[str, dict[str, str]]
"""Programs by their names, in tables by theirs; the name of a table of silence begins with "no"."""


def programs(tables: Tables) -> list[Any]:
    """The programs as parameters of a test."""
    return [
        pytest.param(dedent(source), id=f"{table}: {name}")
        for table, named in tables.items()
        for name, source in named.items()
    ]


def expected(source: str) -> list[tuple[int, str]]:
    """The line numbers and rules that the program's own comments announce."""
    return [
        (number, rule)
        for number, line in enumerate(source.split("\n"), 1)
        for rule in re.findall(r"#! (NZ\d+)", line)
    ]


def check(source: str) -> None:
    """Fail unless exactly what the program announces is found in it."""
    found = [(finding.line, finding.rule) for finding in check_source(source, "program.py")]
    assert found == expected(source)


def check_claims(tables: Tables) -> None:
    """Fail unless a table of finds has one in every program, and a table of silence in none."""
    for table, named in tables.items():
        for name, source in named.items():
            assert bool(expected(source)) == (not table.startswith("no")), name
