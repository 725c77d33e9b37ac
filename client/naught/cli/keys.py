r"""Keys as text: how the commands print them, and how a line of standard input is read. Sans-IO.

What is printed can be read back. A key is printed as it is where that is safe, and else in quotes:

    seats:42        a key as it is: printable, with no blank
    "my key"        a key with a blank
    "a\tb\n"        a tab, a line feed; \r for a carriage return, \" for a quote, \\ for a backslash
    "\xff"          a byte that is no UTF-8, or a control character
    "\u202e"        a character that a terminal must not see; \U and eight digits above U+FFFF

A backslash means something between quotes only, so a key like C:\new is printed and read as it is. Every JSON
string is also such a text in quotes.

A line of standard input is one of these:

    KEY                          a key, which counts 1
    KEY AMOUNT                   with a blank or tabs between
    {"key": KEY, "value": N}     as `--json` prints it; 1 without "value"

A carriage return at the end of a line is none of the key, and neither are blanks around it.
"""

from __future__ import annotations

import re
from typing import Final

from naught.errors import InvalidRequest
from naught.wire.codec import encode_key
from naught.wire.limits import VALUE_MAX

# What is printed as it is. A first character that a line in another form has is quoted.
_SAFE_ASCII: Final = re.compile(r"""(?!["{])[!-~]+|\{(?![ \t]*"|[ \t]*\Z)[!-~]*""")

_SHORT: Final = {"\n": "\\n", "\t": "\\t", "\r": "\\r", '"': '\\"', "\\": "\\\\"}
_LONG: Final = {"n": "\n", "t": "\t", "r": "\r", "b": "\b", "f": "\f", '"': '"', "\\": "\\", "/": "/"}

_QUOTED: Final = re.compile(r'"((?:[^"\\]|\\.)*)"(.*)', re.DOTALL)
_ESCAPE: Final = re.compile(
    r'\\(?:x([0-9a-fA-F]{2})|u([0-9a-fA-F]{4})|U([0-9a-fA-F]{8})|([nrtbf"\\/]))|(\\.)', re.DOTALL
)
_PAIR: Final = re.compile("[\ud800-\udbff][\udc00-\udfff]")
_JSON: Final = re.compile(rb'\{[ \t]*(?:"|\Z)')
_BLANKS: Final = " \t"


def written(key: str, *, ascii_only: bool = False) -> str:
    """A key as it is printed. Any text is allowed; only `read_line` is strict.

    `ascii_only`: for a stream that is not in UTF-8, in which other characters would be other bytes.
    """
    if _SAFE_ASCII.fullmatch(key):
        return key
    if not ascii_only and not key.isascii() and key.isprintable() and " " not in key and key[0] not in '"{':
        return key
    return '"' + "".join(_spelled(each, ascii_only) for each in key) + '"'


def _spelled(character: str, ascii_only: bool) -> str:
    if character in _SHORT:
        return _SHORT[character]
    if character.isprintable() and (character.isascii() or not ascii_only):
        return character
    code = ord(character)
    if code < 0x80 or 0xDC80 <= code <= 0xDCFF:  # the latter is a byte that is no UTF-8
        return f"\\x{code & 0xFF:02x}"
    return f"\\u{code:04x}" if code < 0x10000 else f"\\U{code:08x}"


def read_line(line: bytes, *, amounts: bool = True) -> tuple[bytes, int] | None:
    """A line of standard input: the key and the amount. None for a line with nothing in it.

    Without `amounts`, for commands that take keys alone, an amount is refused, unless it stands as a command would
    have printed it, behind a tab or in JSON: there it is not looked at. Raises InvalidRequest, and TooLarge for a key
    of more than 512 bytes.
    """
    line = line.strip(b" \t\r\n")
    if not line:
        return None
    if b"\r" in line:
        raise InvalidRequest("a carriage return within a line; allowed is one at its end")
    if line[:1] == b"{" and _JSON.match(line):
        return _read_json(line, amounts)
    if line[:1] == b'"':
        key, rest = _read_quoted(line.decode("utf-8", "surrogateescape"))
    elif b" " not in line and b"\t" not in line:
        return encode_key(line), 1
    else:
        words = line.replace(b"\t", b" ").split(b" ", 1)
        key = encode_key(words[0])
        rest = line[len(words[0]) :].decode("utf-8", "surrogateescape")
    text = rest.strip(_BLANKS)
    if not text:
        return key, 1
    if rest[0] not in _BLANKS or len(text.split()) > 1 or not (amounts or rest[0] == "\t"):
        allowed = "a key and an optional amount" if amounts else "a key"
        raise InvalidRequest(f'allowed is {allowed}; a key with blanks stands in quotes, as in "my key"')
    return key, _amount(text, amounts)


def _read_quoted(line: str) -> tuple[bytes, str]:
    """The key that a line begins with, and what follows."""
    found = _QUOTED.fullmatch(line)
    if found is None:
        raise InvalidRequest("a key begins with a quote and has none at its end")
    return _bytes_of(_ESCAPE.sub(_meant, found[1])), found[2]


def _meant(escape: re.Match[str]) -> str:
    byte, short, long, letter, bad = escape.groups()
    if bad is not None:
        raise InvalidRequest(f'{bad} means nothing within quotes; allowed are \\" \\\\ \\n \\t \\r \\xHH \\uHHHH')
    if letter is not None:
        return _LONG[letter]
    code = int(byte or short or long, 16)
    if code > 0x10FFFF:
        raise InvalidRequest(f"{escape[0]} is no character")
    return chr(code if byte is None or code < 0x80 else 0xDC00 + code)


def _bytes_of(text: str) -> bytes:
    """The key that a text with escapes stands for. JSON has characters above U+FFFF as pairs of surrogates."""
    whole = _PAIR.sub(lambda pair: pair[0].encode("utf-16", "surrogatepass").decode("utf-16"), text)
    return encode_key(whole)


def _read_json(line: bytes, amounts: bool) -> tuple[bytes, int]:
    import json  # it takes a good part of the time in which a command starts

    try:
        found = json.loads(line.decode())
    except (ValueError, RecursionError) as error:
        raise InvalidRequest(f"no JSON object on one line: {error}") from None
    key = found.get("key")
    if not isinstance(key, str):
        raise InvalidRequest('"key" is missing, or no string')
    if unknown := found.keys() - {"key", "value"}:
        raise InvalidRequest(f'"{min(unknown)}" is not known; allowed are "key" and "value"')
    value = found.get("value", 1)
    if not isinstance(value, int) or isinstance(value, bool):
        raise InvalidRequest('"value" is no whole number')
    return _bytes_of(key), _amount(str(value), amounts)


def _amount(text: str, amounts: bool) -> int:
    # By digits, because `int` also takes blanks, underscores and the digits of other scripts.
    number = int(text) if re.fullmatch("-?[0-9]{1,19}", text) else None
    if number is None or (amounts and not 1 <= number <= VALUE_MAX):
        raise InvalidRequest(f"an amount is from 1 to {VALUE_MAX}, not {text[:40]!r}")
    return number
