"""The tables of `naught sessions` and `naught holders`: lines that fit a width. Does no input or output.

     #  name        address        age  commands  holds, and waits for
     1  web-7:4711  127.0.0.1      12m     1.23k  gpu=3 db=1; waits for room in cpu
    12  web-8:1203  192.168.7.200   3h     15.3M  no connection; api=312

Where the server has users, a column beside the name says whose session it is.

A column is as wide as what is in it, up to a limit. A text that is longer has an ellipsis: names and addresses in the
middle, because their ends tell them apart, and the last column at its end. Numbers are never cut. Text is measured as
a terminal shows it, where letters of East Asia take two places, and accents that are characters of their own take
none.
"""

from __future__ import annotations

from collections.abc import Iterable, Sequence
from typing import Any, Final

from naught.cli.text import WIDTH_MIN, clipped, visible, width_of
from naught.core.calls import Holder

_UNITS: Final = ((86_400, "d"), (3_600, "h"), (60, "m"), (1, "s"))
_POWERS: Final = ((10**15, "P"), (10**12, "T"), (10**9, "G"), (10**6, "M"), (10**3, "k"))


def sessions_table(sessions: Iterable[dict[str, Any]], width: int = WIDTH_MIN) -> list[str]:
    """A line for each of the sessions that `sessions` has returned, under a heading."""
    listed = list(sessions)
    with_users = any(session.get("user") is not None for session in listed)
    rows = [
        (
            str(session["session"]),
            session["name"] or "-",
            *([session.get("user") or "-"] if with_users else []),
            session["address"] or "-",
            age(session["age_ms"]),
            short(session["commands"]),
            _does(session),
        )
        for session in listed
    ]
    user = ["user"] if with_users else []
    return _table(("#", "name", *user, "address", "age", "commands", "holds, and waits for"), rows, width)


def holders_table(holders: Iterable[Holder], width: int = WIDTH_MIN) -> list[str]:
    """A line for each of the sessions that `holders` has returned, under a heading."""
    rows = [
        (str(holder.session), str(holder.amount), holder.address or "-", holder.name or "-") for holder in holders
    ]
    return _table(("#", "amount", "address", "name"), rows, width)


def age(milliseconds: int) -> str:
    """A time in at most five characters: seconds, minutes, hours or days, whichever is the largest that it has."""
    seconds = milliseconds // 1000
    for size, unit in _UNITS:
        if seconds >= size:
            return f"{seconds // size}{unit}"
    return "0s"


def short(number: int) -> str:
    """A number in at most five characters: from a thousand on rounded down to three digits and a unit."""
    for size, unit in _POWERS:
        if number >= size:
            whole, rest = divmod(number, size)
            digits = f"{whole}.{rest * 100 // size:02d}"[:4].rstrip(".") if whole < 1000 else str(whole)
            return f"{digits}{unit}"
    return str(number)


def _does(session: dict[str, Any]) -> str:
    """What a session holds and waits for; that it has no connection, where it has none."""
    parts = [] if session["connected"] else ["no connection"]
    held = [f"{key}={amount}" for key, amount in session["held"]]
    if held:
        parts.append(" ".join(held))
    elif session["holds"]:
        parts.append(f"{session['holds']} holds")
    waits = [f"{'room in' if what == 'room' else 'zero of'} {' '.join(keys)}" for what, keys in session["waits"]]
    more = session["parked"] - len(waits)
    if waits:
        parts.append("waits for " + ", ".join(waits) + (f" and {more} more" if more > 0 else ""))
    return "; ".join(parts)


_TEXTS: Final = {"name": 22, "user": 10, "address": 15}
"""Columns of text, flush left, with the places that they take at most in a table of WIDTH_MIN. The others are
short."""

_NAME_BESIDE_USER: Final = 14
"""The places of the name where there is a user: together about as many as without."""


def _table(heading: Sequence[str], rows: Sequence[Sequence[str]], width: int) -> list[str]:
    """Lines with the cells in columns. The last column has what the others leave of the width."""
    lines = [heading, *([visible(cell) for cell in row] for row in rows)]
    widths = []
    for place, name in enumerate(heading[:-1]):
        widest = max(width_of(line[place]) for line in lines)
        most = _text_columns(name, heading, width) if name in _TEXTS else widest
        widths.append(min(widest, most))
    left = width - sum(widths) - 2 * len(widths)
    return [
        "  ".join(
            [
                *(_padded(line[place], each, text=heading[place] in _TEXTS) for place, each in enumerate(widths)),
                clipped(line[-1], left),
            ]
        ).rstrip()
        for line in lines
    ]


def _text_columns(name: str, heading: Sequence[str], width: int) -> int:
    """The most places that a column of text takes."""
    if "user" not in heading:
        return _TEXTS[name] + (width - WIDTH_MIN) // 4
    return (_NAME_BESIDE_USER if name == "name" else _TEXTS[name]) + (width - WIDTH_MIN) // 6


def _padded(cell: str, columns: int, *, text: bool) -> str:
    """A text with blanks behind it, or as much of it as fits; a number with blanks before it."""
    if not text:
        return " " * (columns - width_of(cell)) + cell
    if width_of(cell) > columns:
        end = clipped(cell[::-1], columns // 2)[-2::-1]  # without its ellipsis
        cell = clipped(cell, columns - width_of(end)) + end
    return cell + " " * (columns - width_of(cell))
