"""Splits standard input into lines, whatever wrote it. Sans-IO.

Bytes go in as they arrive, and the lines that are complete come out. The last line may lack its end. The mark that
some editors put before UTF-8 is left out, and UTF-16, which some systems write, is refused: taken for UTF-8 its keys
would be others.
"""

from __future__ import annotations

from typing import Final

from naught.errors import InvalidRequest

LINE_BYTES_MAX: Final = 16 << 10
"""A key has 512 bytes, and each takes at most ten where it is spelled as an escape. A line is as long as somebody
sends, and is kept until its end has come."""

_UTF8_MARK: Final = b"\xef\xbb\xbf"
_UTF16_MARKS: Final = (b"\xff\xfe", b"\xfe\xff")


class Lines:
    """The lines of one stream."""

    def __init__(self) -> None:
        self._begun = False  # the first bytes were looked at
        self._rest = b""  # what has come of a line whose end has not
        self.count = 0  # lines that were given out

    def feed(self, data: bytes) -> list[bytes]:
        """The lines that are complete with these bytes, without their ends. Raises InvalidRequest for UTF-16."""
        data = self._rest + data
        if not self._begun:
            if len(data) < 4 and b"\n" not in data:
                self._rest = data
                return []
            data = self._begin(data)
        *lines, self._rest = data.split(b"\n")
        self.count += len(lines)
        return lines

    def check(self) -> None:
        """Raise InvalidRequest if the line whose end has not come is too long already."""
        if len(self._rest) > LINE_BYTES_MAX:
            raise InvalidRequest(f"line {self.count + 1} of standard input has more than {LINE_BYTES_MAX} bytes")

    def end(self) -> list[bytes]:
        """The last line, if it lacks its end."""
        rest = self._rest if self._begun else self._begin(self._rest)
        self._rest = b""
        if not rest:
            return []
        self.count += 1
        return [rest]

    def _begin(self, data: bytes) -> bytes:
        self._begun = True
        if data[:2] in _UTF16_MARKS and b"\0" in data[2:4]:
            raise InvalidRequest("standard input is in UTF-16; allowed is UTF-8")
        return data.removeprefix(_UTF8_MARK)
