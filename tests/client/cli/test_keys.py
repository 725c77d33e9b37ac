"""Keys as text: what is printed is read back as the same key, and a line that could mean another key is refused."""

from __future__ import annotations

import json
import random
import re

import pytest

from naught.cli.keys import read_line, written
from naught.cli.lines import LINE_BYTES_MAX, Lines
from naught.errors import InvalidRequest, NaughtError
from naught.wire.codec import decode_key
from support.each import for_each
from support.seeds import seeds

# Keys that some form of a line, a shell, an editor or a terminal takes for something else.
AWKWARD = (
    b"a", b"seats:42", b"a\nb", b"a\tb", b"my key", b" a", b"a ", b"\t", b" ", b"a\\b", b"C:\\new", b'"',
    b'a"b', b'"a"', b"{", b"{}", b'{"key":"a"}', b"{ ", b'{ "', b"{user}:1", b"\\", b"\r", b"a\r", b"\r\n",
    b"\x00", b"\x1b[2J", b"\x7f", b"\xff\xfe", b"\x9b31m", b"\xc2\x9b31m", b"\xed\xb3\xbf",
    "\u202eevil".encode(), "\ufeffa".encode(), b"-", b"--", b"#a", "\u00a0".encode(), "\u3000".encode(),
    "\u00e9".encode(), "\u65e5\u672c".encode(), "\U000e0001".encode(), "\U0001f600".encode(),
    "\u2028".encode(), b"5", b"a 5", b"a\t5", b"'a'", b"$(a)",
)  # fmt: skip


def as_text(key: bytes, *, ascii_only: bool = False) -> bytes:
    return written(decode_key(key), ascii_only=ascii_only).encode("ascii" if ascii_only else "utf-8")


@for_each("key", AWKWARD)
def test_a_key_that_is_printed_is_read_back(key: bytes) -> None:
    for ascii_only in (False, True):
        text = as_text(key, ascii_only=ascii_only)
        assert text.decode().isprintable()
        assert not text.startswith(b"\xef\xbb\xbf")
        for line, amount in ((text, 1), (text + b"\t7", 7), (text + b" 7\r", 7), (b" " + text + b"  ", 1)):
            assert read_line(line) == (key, amount), line
    line = json.dumps({"key": decode_key(key), "value": 7}).encode()
    assert read_line(line) == (key, 7)
    assert read_line(json.dumps({"key": decode_key(key)}, ensure_ascii=True).encode(), amounts=False) == (key, 1)


def random_key(draw: random.Random) -> bytes:
    """Bytes of any kind, text of any kind, and what is between."""
    pieces = [
        lambda: draw.choice(AWKWARD),
        lambda: draw.randbytes(draw.randrange(1, 4)),
        lambda: chr(draw.randrange(0xD800)).encode(),
        lambda: chr(0xE000 + draw.randrange(0x110000 - 0xE000)).encode(),
        lambda: draw.choice([b" ", b"\\", b'"', b"{", b"\t", b"\n", b"\\x41", b"\\u202e", b"abc"]),
    ]  # fmt: skip
    return b"".join(draw.choice(pieces)() for _ in range(draw.randrange(1, 8)))[:512]


@pytest.mark.parametrize("seed", seeds((1, 2), (3, 4, 5, 6)))
def test_random_keys_come_back_from_both_formats(seed: int) -> None:
    draw = random.Random(seed)
    for _ in range(3_000):
        key, amount = random_key(draw), draw.choice([1, draw.randrange(1, 2**63)])
        pair = {"key": decode_key(key), "value": amount}
        lines = [f"{as_text(key, ascii_only=ascii_only).decode()}\t{amount}" for ascii_only in (False, True)]
        for line in [*lines, json.dumps(pair), json.dumps(pair, separators=(",", ":"))]:
            assert "\n" not in line
            assert read_line(line.encode()) == (key, amount), ascii(line)


@pytest.mark.parametrize(
    ("line", "found"),
    [
        (b"a", (b"a", 1)),
        (b"a 5", (b"a", 5)),
        (b"a\t \t5 ", (b"a", 5)),
        (b"a\r", (b"a", 1)),
        (b"a 5\r", (b"a", 5)),
        (b"", None),
        (b" \t\r", None),
        (b"C:\\new 2", (b"C:\\new", 2)),
        (b"{user}:1 2", (b"{user}:1", 2)),
        (b"\xff 3", (b"\xff", 3)),
        (b'"my key"', (b"my key", 1)),
        (b'"my key" 5', (b"my key", 5)),
        (b'"\\ud83d\\ude00"', "\U0001f600".encode()),
        (b'"\\/\\b\\f"', b"/\b\f"),
        (b'"\\xc3\\xa9"', "\u00e9".encode()),
        (b'{"key": "a"}', (b"a", 1)),
        (b'{"value": 9, "key": "a"}', (b"a", 9)),
    ],
)
def test_lines_that_are_read(line: bytes, found: object) -> None:
    assert read_line(line) == ((found, 1) if isinstance(found, bytes) else found)


@pytest.mark.parametrize(
    ("line", "message"),
    [
        (b"a 1 2", "a key and an optional amount; a key with blanks stands in quotes"),
        (b"my key", "an amount is from 1 to 9223372036854775807, not 'key'"),
        (b"a 0", "not '0'"),
        (b"a -1", "not '-1'"),
        (b"a 1_000", "not '1_000'"),
        (b"a +5", "not '+5'"),
        (b"a 9223372036854775808", "not '9223372036854775808'"),
        (b"a " + b"9" * 5000, "an amount is from 1"),
        (b"a\rb", "a carriage return within a line"),
        (b"x" * 513, "a key has at most 512 bytes, not 513"),
        (b'"a', "none at its end"),
        (b'"a"b', "a key and an optional amount"),
        (b'"a\\q"', "\\q means nothing within quotes"),
        (b'"\\ud800"', "a surrogate that stands alone"),
        (b'"\\U00110000"', "is no character"),
        (b'""', "a key has at least 1 byte"),
        (b'{"key": "a"', "no JSON object on one line"),
        (b"{", "no JSON object on one line"),
        (b'{"key": 5}', '"key" is missing, or no string'),
        (b'{"value": 5}', '"key" is missing, or no string'),
        (b'{"key": "a", "by": 5}', '"by" is not known; allowed are "key" and "value"'),
        (b'{"key": "a", "value": 1.5}', '"value" is no whole number'),
        (b'{"key": "a", "value": true}', '"value" is no whole number'),
        (b'{"key": "a", "value": 0}', "an amount is from 1"),
        (b'{"key": "\\ud800"}', "a surrogate that stands alone"),
        (b'{"key": ' + b"[" * 20_000, "no JSON object on one line"),
        (b'{"key": "\xff"}', "no JSON object on one line"),
    ],
    ids=lambda value: repr(value)[:40],
)
def test_lines_that_are_refused(line: bytes, message: str) -> None:
    with pytest.raises(NaughtError, match=re.escape(message)):
        read_line(line)


def test_keys_alone_may_be_followed_by_what_a_command_has_printed() -> None:
    for line in (b"a", b"a\t0", b"a\t5", b'{"key": "a", "value": 0}', b'{"key": "a"}'):
        assert read_line(line, amounts=False) == (b"a", 0 if b"0" in line else 5 if b"5" in line else 1)
    for line in (b"my 5", b"a b", b"a\t1 2", b"a\tx"):
        with pytest.raises(InvalidRequest):
            read_line(line, amounts=False)


@pytest.mark.parametrize("size", [1, 2, 3, 1000])
def test_lines_are_the_same_however_they_arrive(size: int) -> None:
    data = b"\xef\xbb\xbfa\r\n\nb 2\n\xef\xbb\xbfc\nlast"
    lines, found = Lines(), []
    for start in range(0, len(data), size):
        found += lines.feed(data[start : start + size])
    found += lines.end()
    assert found == [b"a\r", b"", b"b 2", b"\xef\xbb\xbfc", b"last"]
    assert lines.count == 5


def test_the_ends_of_streams() -> None:
    for data, found in (
        (b"", []),
        (b"\n", [b""]),
        (b"a", [b"a"]),
        (b"\xef\xbb\xbf", []),
        (b"\xff\xfe", [b"\xff\xfe"]),
    ):
        lines = Lines()
        assert lines.feed(data) + lines.end() == found


def test_another_encoding_and_a_line_without_end_are_refused() -> None:
    for encoding in ("utf-16-le", "utf-16-be"):
        with pytest.raises(InvalidRequest, match="UTF-16"):
            Lines().feed("\ufeffa\nb\n".encode(encoding))
    lines = Lines()
    assert lines.feed(b"good\n" + b"x" * LINE_BYTES_MAX) == [b"good"]
    lines.check()
    lines.feed(b"x")
    with pytest.raises(InvalidRequest, match=f"line 2 of standard input has more than {LINE_BYTES_MAX} bytes"):
        lines.check()
