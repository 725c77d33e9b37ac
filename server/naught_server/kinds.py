"""The kinds of values that settings have: how each is written as text, and which values are allowed."""

from __future__ import annotations

import re
from dataclasses import dataclass
from typing import Protocol, cast


class Kind(Protocol):
    """A type of settings: how a value is written as text, and which values are allowed."""

    def expects(self) -> str:
        """Which values are allowed, in words that follow "must be"."""

    def read(self, text: str) -> object:
        """The value that the text of a flag or variable means. Raises ValueError for text of another form."""

    def accept(self, value: object) -> object:
        """The value as it is kept. Raises ValueError for a value of the wrong type or out of range."""


@dataclass(frozen=True)
class Whole:
    minimum: int
    maximum: int

    def expects(self) -> str:
        return f"a whole number from {self.minimum} to {self.maximum}"

    def read(self, text: str) -> object:
        # int() also accepts blanks, underscores and the digits of other scripts, which here are likely mistakes.
        if not re.fullmatch(r"-?[0-9]{1,30}", text):
            raise ValueError
        return int(text)

    def accept(self, value: object) -> object:
        if type(value) is not int or not self.minimum <= value <= self.maximum:
            raise ValueError
        return value


@dataclass(frozen=True)
class Number:
    minimum: float
    maximum: float

    def expects(self) -> str:
        return f"a number from {self.minimum:g} to {self.maximum:g}"

    def read(self, text: str) -> object:
        if not re.fullmatch(r"-?[0-9]{1,30}(\.[0-9]{1,30})?", text):
            raise ValueError
        return float(text)

    def accept(self, value: object) -> object:
        if type(value) not in (int, float) or not self.minimum <= cast(float, value) <= self.maximum:
            raise ValueError
        return float(cast(float, value))


@dataclass(frozen=True)
class NumberOrOff(Number):
    """A number, or 0, which turns something off."""

    def expects(self) -> str:
        return f"{super().expects()}, or 0 for off"

    def accept(self, value: object) -> object:
        return 0.0 if type(value) in (int, float) and value == 0 else super().accept(value)


@dataclass(frozen=True)
class Choice:
    words: tuple[str, ...]

    def expects(self) -> str:
        return " or ".join((", ".join(self.words[:-1]), self.words[-1]))

    def read(self, text: str) -> object:
        return text

    def accept(self, value: object) -> object:
        if value not in self.words:
            raise ValueError
        return value


@dataclass(frozen=True)
class WholeOrNone(Whole):
    """A whole number, or none. The empty text means none, as TOML has no null."""

    def expects(self) -> str:
        return f"{super().expects()}, or empty"

    def read(self, text: str) -> object:
        return super().read(text) if text else None

    def accept(self, value: object) -> object:
        return None if value is None or value == "" else super().accept(value)


class WholeOrZero(Whole):
    """A whole number, or 0 for no bound."""

    def expects(self) -> str:
        return f"{super().expects()}, or 0 for no bound"

    def accept(self, value: object) -> object:
        return None if type(value) is int and value == 0 else super().accept(value)


class Switch:
    def expects(self) -> str:
        return "true or false"

    def read(self, text: str) -> object:
        return {"true": True, "1": True, "false": False, "0": False}[text.lower()]

    def accept(self, value: object) -> object:
        if type(value) is not bool:
            raise ValueError
        return value


@dataclass(frozen=True)
class PortOrOff(Whole):
    """A port, or none: `off`. The empty text means none too."""

    def expects(self) -> str:
        return f"{super().expects()}, or off"

    def read(self, text: str) -> object:
        return None if text in ("off", "") else super().read(text)

    def accept(self, value: object) -> object:
        return None if value in (None, "off", "") else super().accept(value)


class FileMode:
    """The permissions of a file, in octal digits, or none."""

    def expects(self) -> str:
        return "three or four octal digits, such as 0660"

    def read(self, text: str) -> object:
        return text

    def accept(self, value: object) -> object:
        if value is None or value == "":
            return None
        if not isinstance(value, str) or not re.fullmatch(r"0?[0-7]{3}", value):
            raise ValueError
        return value


@dataclass(frozen=True)
class Text:
    """A text, or none. The empty text means none, as TOML has no null."""

    what: str  # what the text is, for messages
    bytes_max: int

    def expects(self) -> str:
        return f"{self.what} of at most {self.bytes_max} bytes of UTF-8"

    def read(self, text: str) -> object:
        return text

    def accept(self, value: object) -> object:
        if value is None or value == "":
            return None
        # encode() raises a ValueError for a lone surrogate: a byte of the command line that is not UTF-8.
        if not isinstance(value, str) or "\0" in value or len(value.encode()) > self.bytes_max:
            raise ValueError
        return value


def shown(value: object) -> str:
    """A value as text for a message: in TOML's form for a bool, and cut to 80 characters."""
    if isinstance(value, bool):
        return "true" if value else "false"
    try:
        text = repr(value)
    except ValueError:  # Python writes no whole number of more than 4 300 digits
        text = "a value with an enormous number"
    return text if len(text) <= 80 else f"{text[:77]}..."
