"""The tables of `naught sessions` and `naught holders`: what is in them, and that they fit a width."""

from __future__ import annotations

import random
import unicodedata
from typing import Any

import pytest

from naught.cli.tables import WIDTH_MIN, age, holders_table, sessions_table, short
from naught.cli.text import clipped, width_of
from naught.core.calls import Holder


def session(**other: Any) -> dict[str, Any]:
    """A row of `sessions`, as a client has it."""
    row: dict[str, Any] = {
        "session": 1,
        "name": "web-7:4711",
        "address": "127.0.0.1",
        "age_ms": 754_000,
        "commands": 1_234,
        "connected": True,
        "holds": 0,
        "held": [],
        "parked": 0,
        "waits": [],
    }
    return row | other


def last_cells(*rows: dict[str, Any]) -> list[str]:
    """What the last column shows of sessions."""
    heading, *lines = sessions_table(rows, 200)
    begin = heading.index("holds, and waits for")
    return [line[begin:] for line in lines]


def test_the_sessions() -> None:
    rows = [
        session(holds=2, held=[("gpu", 3), ("db", 1)], parked=1, waits=[("room", ["cpu"])]),
        session(session=12, name="", address="", age_ms=3 * 3_600_000, commands=15_345_678, connected=False),
    ]
    assert sessions_table(rows) == [
        " #  name        address    age  commands  holds, and waits for",
        " 1  web-7:4711  127.0.0.1  12m     1.23k  gpu=3 db=1; waits for room in cpu",
        "12  -           -           3h     15.3M  no connection",
    ]
    assert sessions_table([]) == ["#  name  address  age  commands  holds, and waits for"]


def test_the_sessions_of_a_server_with_users() -> None:
    rows = [
        session(user="orders"),
        session(session=2, user=None, name="checkout-worker-9:771"),
        session(session=3, user="a user with a long name", connected=False),
    ]
    assert sessions_table(rows) == [
        "#  name            user        address    age  commands  holds, and waits for",
        "1  web-7:4711      orders      127.0.0.1  12m     1.23k",
        "2  checkou\u2026-9:771  -           127.0.0.1  12m     1.23k",
        "3  web-7:4711      a use\u2026name  127.0.0.1  12m     1.23k  no connection",
    ]


def test_the_sessions_of_a_server_without_users_have_no_such_column() -> None:
    assert sessions_table([session(user=None)]) == sessions_table([session()])


def test_the_holders() -> None:
    holders = [Holder(1, "me", 2**63 - 1, "127.0.0.1"), Holder(22, "", 1, "unix")]
    assert holders_table(holders) == [
        " #               amount  address    name",
        " 1  9223372036854775807  127.0.0.1  me",
        "22                    1  unix       -",
    ]


def test_what_a_session_does() -> None:
    assert last_cells(
        session(),
        session(connected=False, holds=1, held=[("api", 312)]),
        session(holds=40),
        session(parked=2, waits=[("room", ["a", "b"]), ("zero", ["c"])]),
        session(parked=9, waits=[("zero", ["c"])]),
        session(holds=1, held=[("a\nb", 1)]),
    ) == [
        "",
        "no connection; api=312",
        "40 holds",
        "waits for room in a b, zero of c",
        "waits for zero of c and 8 more",
        "a\\x0ab=1",
    ]


@pytest.mark.parametrize("width", [WIDTH_MIN, 100, 237])
def test_lines_fit_the_width_whatever_is_in_them(width: int) -> None:
    source = random.Random(7)
    texts = [
        "",
        "a",
        "web-7:4711",
        "n" * 128,
        "\u4e2d" * 42,
        "e\u0301" * 40,
        "\u00e9" * 64,
        "\udcff" * 9,
        "a\tb\x1b[2J",
    ]
    for _ in range(300):
        rows = [
            session(
                session=source.choice([1, 99, 12_345_678]),
                name=source.choice(texts),
                user=source.choice([None, *texts]) if source.random() < 0.5 else None,
                address=source.choice(["unix", "", "192.168.100.200", "2001:db8:1234:5678:9abc:def0:1234:5678%eth0"]),
                age_ms=source.choice([0, 59_999, 10**10]),
                commands=source.choice([0, 999, 1_000, 999_999, 2**63 - 1]),
                connected=source.random() < 0.5,
                holds=source.choice([0, 9]),
                held=[
                    (source.choice(texts), source.choice([1, 2**63 - 1])) for _ in range(source.choice([0, 1, 10]))
                ],
                parked=source.choice([0, 9]),
                waits=[("room", [source.choice(texts)])] * source.choice([0, 5]),
            )
            for _ in range(source.choice([1, 3]))
        ]
        lines = sessions_table(rows, width)
        assert len(lines) == len(rows) + 1
        assert all(width_of(line) <= width for line in lines), lines
        assert all(line.lstrip().startswith(f"{row['session']} ") for line, row in zip(lines[1:], rows, strict=True))
        assert all("\n" not in line and "\x1b" not in line for line in lines)
        holders = [Holder(row["session"], row["name"], 2**63 - 1, row["address"]) for row in rows]
        assert all(width_of(line) <= width for line in holders_table(holders, width))


def test_the_ends_of_a_long_name_stay() -> None:
    names = [f"payments-7d9f8b6c5d-x2x4z:{process}" for process in (1, 4_711)]
    _, *lines = sessions_table([session(name=name) for name in names])
    assert [line.split()[1] for line in lines] == ["payments-7d\u20265d-x2x4z:1", "payments-7d\u2026x2x4z:4711"]


def test_columns_begin_at_the_same_place() -> None:
    heading, *lines = sessions_table(
        [session(name="a", held=[("k", 1)]), session(name="\u4e2d\u4e2d", held=[("k", 1)])]
    )
    begin = heading.index("holds, and")
    assert lines[0][begin:] == "k=1"
    assert lines[1][begin - 2 :] == "k=1", "two of its letters take two places each"


@pytest.mark.parametrize(
    ("seconds", "text"),
    [
        (0, "0s"),
        (59, "59s"),
        (60, "1m"),
        (3_599, "59m"),
        (3_600, "1h"),
        (86_399, "23h"),
        (86_400, "1d"),
        (10**8, "1157d"),
    ],
)
def test_ages(seconds: int, text: str) -> None:
    assert age(seconds * 1_000) == age(seconds * 1_000 + 999) == text


@pytest.mark.parametrize(
    ("number", "text"),
    [
        (0, "0"),
        (999, "999"),
        (1_000, "1.00k"),
        (1_239, "1.23k"),
        (12_399, "12.3k"),
        (123_999, "123k"),
        (999_999, "999k"),
        (10**6, "1.00M"),
        (999_999_999, "999M"),
        (10**15, "1.00P"),
        (2**63 - 1, "9223P"),
    ],
)
def test_numbers(number: int, text: str) -> None:
    assert short(number) == text


@pytest.mark.parametrize(
    ("text", "columns", "cut_text"),
    [
        ("abc", 3, "abc"),
        ("abcd", 3, "ab\u2026"),
        ("\u4e2d\u4e2d", 4, "\u4e2d\u4e2d"),
        ("\u4e2d\u4e2d", 3, "\u4e2d\u2026"),
        ("\u4e2d\u4e2d\u4e2d", 4, "\u4e2d\u2026"),
        ("e\u0301e\u0301", 2, "e\u0301e\u0301"),
        ("abcd", 1, "\u2026"),
    ],
)
def test_cutting(text: str, columns: int, cut_text: str) -> None:
    assert unicodedata.combining("\u0301")
    assert clipped(text, columns) == cut_text
