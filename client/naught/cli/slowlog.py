"""The table of `naught slowlog`: makes the result of `slowlog` into lines for people. Does no input or output.

A line has at most `LINE_COLUMNS` columns of a terminal, and a call with a trace has a second line. A client chooses
its name, and may be hostile: whatever is no printable character is shown as its code, so no name can send an escape
sequence to the terminal or break a line, and a name that is too long is cut. `--json` has everything.
"""

from __future__ import annotations

from collections.abc import Iterator, Sequence
from datetime import UTC, datetime, tzinfo
from typing import Any, Final

from naught.cli.text import clipped, visible, width_of

LINE_COLUMNS: Final = 80

_COLUMNS: Final = ("ms", "ended", "method", "work", "in", "out", "client")
_WIDTHS: Final = (9, 14, 13, 6, 5, 5, 16)
_TO_THE_RIGHT: Final = {"ms", "work", "in", "out"}

assert sum(_WIDTHS) + 2 * (len(_WIDTHS) - 1) == LINE_COLUMNS


def table(turns: Sequence[dict[str, Any]], zone: tzinfo | None = None) -> Iterator[str]:
    """The heading and the lines of turns, as `slowlog` returns them. Times are in `zone`, the local one if None."""
    yield _line(_COLUMNS)
    for turn in turns:
        ended = datetime.fromtimestamp(turn["time_ms"] / 1000, UTC).astimezone(zone)
        yield _line(
            (
                f"{turn['duration_us'] / 1000:.3f}",
                f"{ended:%m-%d %H:%M:%S}",
                turn["method"] or "-",
                str(turn["entries"]),
                _size(turn["received_bytes"]),
                _size(turn["sent_bytes"]),
                _client(turn),
            )
        )
        if turn["traceparent"] is not None:
            yield f"{'':{_WIDTHS[0]}}  trace {clipped(visible(turn['traceparent']), LINE_COLUMNS - _WIDTHS[0] - 8)}"


def _line(cells: Sequence[str]) -> str:
    shown = []
    for name, width, cell in zip(_COLUMNS, _WIDTHS, cells, strict=True):
        text = clipped(visible(cell), width)
        blanks = " " * (width - width_of(text))
        shown.append(blanks + text if name in _TO_THE_RIGHT else text + blanks)
    return "  ".join(shown).rstrip()


def _client(turn: dict[str, Any]) -> str:
    """Its name; else the number of its session, else where it comes from."""
    if turn["name"]:
        return str(turn["name"])
    if turn["session"] is not None:
        return f"session {turn['session']}"
    return turn["address"] or "-"


def _size(count: int) -> str:
    """Bytes in up to five columns."""
    for unit in ("", "K", "M"):
        if count < 10_000:
            return f"{count}{unit}"
        count //= 1024
    return f"{count}G"
