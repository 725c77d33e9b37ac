"""HTML and SVG as strings in which every text is escaped.

`tag` makes an element. What it is given as a child or as an attribute is text and is escaped, unless it is `Markup`,
which only this module makes. So no text of a report (a URL, the name of a host, an error of a server) can become
markup, of any author. The result is well-formed XML too: each element is closed, each attribute quoted, and
characters that XML does not allow are replaced.

Pure: no clock, no input or output.
"""

from __future__ import annotations

import html
import re
from collections.abc import Iterable

# What no XML document may have, not even escaped.
_FORBIDDEN = re.compile("[^\t\n\r\x20-\ud7ff\ue000-\ufffd\U00010000-\U0010ffff]")
# HTML elements that have no end; XML closes them in the same tag.
_VOID = frozenset({"br", "meta", "link"})


class Markup(str):
    """A string that is markup already."""

    __slots__ = ()


Child = str | int | float | None | Iterable["Child"]


def escaped(text: str) -> Markup:
    """The text as markup."""
    return Markup(html.escape(_FORBIDDEN.sub("\N{REPLACEMENT CHARACTER}", text)))


def joined(*children: Child) -> Markup:
    """All children one after another. None is nothing."""
    parts: list[str] = []
    for child in children:
        if child is None:
            continue
        if isinstance(child, Markup):
            parts.append(child)
        elif isinstance(child, (str, int, float)):
            parts.append(escaped(str(child)))
        else:
            parts.append(joined(*child))
    return Markup("".join(parts))


def tag(name: str, /, *children: Child, **attributes: str | int | float | None) -> Markup:
    """An element. An attribute's name is written with `_` for `-`, and `class_` for class; None leaves it out."""
    words = [name]
    for attribute, value in attributes.items():
        if value is not None:
            written = attribute.rstrip("_").replace("_", "-")
            words.append(f'{written}="{escaped(number(value) if isinstance(value, float) else str(value))}"')
    inside = joined(*children)
    if not inside and name in _VOID:
        return Markup(f"<{' '.join(words)} />")
    return Markup(f"<{' '.join(words)}>{inside}</{name}>")


def style_of(css: str) -> Markup:
    """A style element. The sheet is a file of this package and no text of a report."""
    if "<" in css or "&" in css:
        raise ValueError("a style sheet with < or & is read differently in HTML and in XML")
    return Markup(f"<style>{css}</style>")


def number(value: float) -> str:
    """A coordinate: two digits behind the point, and no more characters than it needs."""
    text = f"{value:.2f}".rstrip("0").rstrip(".")
    return "0" if text in ("-0", "") else text
