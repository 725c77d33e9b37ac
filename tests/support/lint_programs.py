"""Runs small programs through naught.lint. Each program says in comments what the checker must report.

A line with the comment `#! NZ101` must be reported for that rule, and no other line may be. Most programs have no
such comment, because a false alarm costs more than a missed finding.
"""

from __future__ import annotations

import re
from textwrap import dedent
from typing import Any

import pytest

from naught.lint import check_source

Tables = dict[str, dict[str, str]]
"""Name of a table -> name of a program -> program. Nothing may be reported in a table named "no …"."""


def programs(tables: Tables) -> list[Any]:
    """Return the programs as parameters of a test."""
    return [
        pytest.param(dedent(source), id=f"{table}: {name}")
        for table, named in tables.items()
        for name, source in named.items()
    ]


def expected(source: str) -> list[tuple[int, str]]:
    """Return the line numbers and rules in the comments of the program."""
    return [
        (number, rule)
        for number, line in enumerate(source.split("\n"), 1)
        for rule in re.findall(r"#! (NZ\d+)", line)
    ]


def check(source: str, *, with_all: bool = False) -> None:
    """Fail unless the checker reports exactly the lines and rules in the comments of the program."""
    found = [(finding.line, finding.rule) for finding in check_source(source, "program.py", with_all=with_all)]
    assert found == expected(source), found


def check_claims(tables: Tables) -> None:
    """Fail unless every program of a table has such a comment, or none in a table whose name begins with "no"."""
    for table, named in tables.items():
        for name, source in named.items():
            assert bool(expected(source)) == (not table.startswith("no")), name
