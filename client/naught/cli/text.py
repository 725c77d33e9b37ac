"""Texts for a terminal. Keys and names come from clients and may be hostile: no text may send a control sequence,
break a line, or make a table ragged. (Keys that can be read back are in `keys.py`.)
"""

from __future__ import annotations

import unicodedata
from typing import Final

from naught.wire.codec import decode_key

WIDTH_MIN: Final = 80
"""A table is never made for a terminal that is narrower."""


def visible(text: str | bytes | None) -> str:
    """A text of a client for a terminal, with the characters spelled out that it would not show as they are."""
    if text is None:
        return ""
    if isinstance(text, bytes):
        text = decode_key(text)
    if text.isprintable():
        return text
    return "".join(each if each.isprintable() else _spelled(each) for each in text)


def shown(value: object) -> str:
    """A value of the server for a terminal: a text, a number, true, false, or none, as they are also read."""
    if isinstance(value, bool):
        return str(value).lower()
    return "none" if value is None else visible(str(value))


def _spelled(character: str) -> str:
    code = ord(character)
    if 0xDC80 <= code <= 0xDCFF:  # a byte that is no UTF-8
        return f"\\x{code - 0xDC00:02x}"
    if code < 0x100:
        return f"\\x{code:02x}"
    return f"\\u{code:04x}" if code < 0x10000 else f"\\U{code:08x}"


def width_of(text: str) -> int:
    """Columns of a terminal that a printable text takes."""
    if text.isascii():
        return len(text)
    return sum(_width(each) for each in text)


def _width(character: str) -> int:
    if unicodedata.category(character) in ("Mn", "Me"):
        return 0
    return 2 if unicodedata.east_asian_width(character) in ("W", "F") else 1


def clipped(text: str, columns: int) -> str:
    """The text, cut to this number of columns. A cut text ends with `…`."""
    if width_of(text) <= columns:
        return text
    kept, used = [], 0
    for each in text:
        used += _width(each)
        if used > columns - 1:
            break
        kept.append(each)
    return "".join(kept) + "…" if columns > 0 else ""


def padded(text: str, columns: int, *, right: bool = False) -> str:
    """The text in exactly this number of columns: clipped, or filled with blanks."""
    text = clipped(text, columns)
    blank = " " * (columns - width_of(text))
    return blank + text if right else text + blank
