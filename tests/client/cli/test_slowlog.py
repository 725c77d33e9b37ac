"""The table of `naught slowlog`: its columns, and what it makes of hostile names."""

from __future__ import annotations

from datetime import UTC
from typing import Any

import pytest

from naught.cli.slowlog import LINE_COLUMNS, table

TRACE = "00-4bf92f3577b34da6a3ce929d0e0e4736-00f067aa0ba902b7-01"


def turn_of(**others: Any) -> dict[str, Any]:
    return {
        "duration_us": 12_345,
        "time_ms": 1_796_000_000_123,
        "method": "get_many",
        "entries": 2_010,
        "received_bytes": 9_999,
        "sent_bytes": 10_000,
        "session": 17,
        "name": "web-1:4711",
        "address": "192.0.2.7",
        "traceparent": None,
    } | others


def lines(*turns: dict[str, Any]) -> list[str]:
    return list(table(turns, UTC))


def client_shown(**others: Any) -> str:
    _, line = lines(turn_of(**others))
    return line[64:]


def test_the_table() -> None:
    assert lines(turn_of(traceparent=TRACE), turn_of(duration_us=1_001, method=None, entries=0)) == [
        "       ms  ended           method           work     in    out  client",
        "   12.345  11-30 00:53:20  get_many         2010   9999     9K  web-1:4711",
        f"           trace {TRACE}",
        "    1.001  11-30 00:53:20  -                   0   9999     9K  web-1:4711",
    ]


@pytest.mark.parametrize(
    ("others", "client"),
    [
        ({}, "web-1:4711"),
        ({"name": None}, "session 17"),
        ({"name": ""}, "session 17"),
        ({"name": None, "session": None}, "192.0.2.7"),
        ({"name": None, "session": None, "address": "2001:db8:0:7::/64"}, "2001:db8:0:7::/\u2026"),
        ({"name": None, "session": None, "address": None}, "-"),
    ],
)
def test_who_it_was(others: dict[str, Any], client: str) -> None:
    assert client_shown(**others) == client


@pytest.mark.parametrize(
    ("count", "shown"),
    [(0, "0"), (9_999, "9999"), (10_000, "9K"), (1 << 20, "1024K"), (10_000 << 10, "9M"), (10_000 << 20, "9G")],
)
def test_bytes_take_five_columns(count: int, shown: str) -> None:
    _, line = lines(turn_of(received_bytes=count))
    assert line[50:55].strip() == shown


HOSTILE = {
    "escape": ("\x1b[2J\x1b]0;title\x07", "\\x1b[2J\\x1b]0;t\u2026"),
    "a control sequence in one byte": ("\x9b2J", "\\x9b2J"),
    "the same as a byte that is no UTF-8": ("\udc9b2J", "\\x9b2J"),
    "lines": ("a\nb\r\u2028c", "a\\x0ab\\x0d\\u202\u2026"),
    "from right to left": ("\u202eabc\u2066", "\\u202eabc\\u2066"),
    "a tab and a null": ("\t\x00", "\\x09\\x00"),
    "too long": ("n" * 128, "n" * 15 + "\u2026"),
    "just long enough": ("n" * 16, "n" * 16),
    "wide characters": ("\u540d" * 42, "\u540d" * 7 + "\u2026"),
    "characters without a width": ("e\u0301" * 8, "e\u0301" * 8),
}


@pytest.mark.parametrize("name", HOSTILE)
def test_hostile_names(name: str) -> None:
    given, shown = HOSTILE[name]
    assert client_shown(name=given) == shown
    assert client_shown(name=None, session=None, address=given) == shown
    for line in lines(turn_of(name=given, method=given, traceparent=given)):
        assert line.isprintable()


def test_a_line_fits_the_terminal() -> None:
    largest = turn_of(
        duration_us=99_999_999,
        method="slowlog_reset",
        entries=999_999,
        received_bytes=1 << 20,
        sent_bytes=1 << 20,
        name="n" * 128,
        traceparent=TRACE,
    )
    shown = lines(largest, turn_of(method="m" * 99, traceparent="t" * 99))
    assert max(map(len, shown)) == LINE_COLUMNS == 80
    assert min(map(len, shown)) > 60
