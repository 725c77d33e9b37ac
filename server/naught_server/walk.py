"""Where a message ends, found by walking over its bytes without building anything. Sans-IO; compiled where possible.

`walk_small` takes a message of any content, as long as it is small. `LargeWalk` holds a large one to the grammar of
requests, and goes on where it stopped when more has arrived. `decoder.py` says which is used when, and why.
"""

from __future__ import annotations

from typing import TYPE_CHECKING, Final, final

from naught.wire.limits import BATCH_ITEMS_MAX, CURSOR_BYTES_MAX, MESSAGE_BYTES_MAX, PARAMS_MAX

if TYPE_CHECKING:
    from mypy_extensions import i64

SMALL_BYTES: Final = 8 << 10
"""The size of a small message, which may have any content. Decoding one costs some tens of microseconds at most."""

SMALL_ELEMENTS: Final = 64
"""Elements of a small message: values, and the containers they are in. `hello` has at most 14."""

METHOD_BYTES_MAX: Final = 64
"""The length of the method of a large message. The longest name of a method has 11 bytes."""

ITEM_PARTS_MAX: Final = 3
"""An item of a large message is a scalar, or an array of up to 3 scalars: [key, by, limit]."""

LARGE_ELEMENTS: Final = SMALL_ELEMENTS + (1 + ITEM_PARTS_MAX) * BATCH_ITEMS_MAX
"""Elements of a large message: an array of the most items, each of them an array, and some more. No request has more,
and walking over five such arrays would take 35 ms where this module is not compiled."""

assert ITEM_PARTS_MAX < SMALL_ELEMENTS < BATCH_ITEMS_MAX
assert SMALL_BYTES < MESSAGE_BYTES_MAX

# Returned by the walks instead of the end of a message.
UNFINISHED: Final = -1
LARGE: Final = -2
BAD: Final = -3
TOO_LARGE: Final = -4


def walk_small(data: bytes, start: int) -> int:
    """The end of the message at an offset if it is small and complete; else LARGE, UNFINISHED or BAD.

    O(SMALL_ELEMENTS), whatever lengths the message declares.
    """
    begin: i64 = start
    at: i64 = start
    end: i64 = len(data)
    limit: i64 = begin + SMALL_BYTES
    missing: i64 = 1  # elements that must follow
    seen: i64 = 0
    while missing > 0:
        if at >= end:
            return UNFINISHED
        seen += 1
        if seen > SMALL_ELEMENTS:
            return LARGE
        missing -= 1
        kind: i64 = data[at]
        at += 1
        size: i64 = 0  # bytes that belong to the element behind its header
        children: i64 = 0
        if kind < 0x80 or kind >= 0xE0:
            continue
        if kind < 0x90:
            children = 2 * (kind - 0x80)
        elif kind < 0xA0:
            children = kind - 0x90
        elif kind < 0xC0:
            size = kind - 0xA0
        elif kind == 0xC1:
            return BAD
        elif kind < 0xC4:
            continue
        else:
            width: i64 = _HEADER_BYTES[kind - 0xC4]
            if at + width > end:
                return UNFINISHED
            size = _FIXED_BYTES[kind - 0xC4]
            if size < 0:
                declared: i64 = 0
                for _ in range(width):
                    declared = declared * 256 + data[at]
                    at += 1
                if kind >= 0xDE:
                    children = 2 * declared
                    size = 0
                elif kind >= 0xDC:
                    children = declared
                    size = 0
                else:
                    size = declared
                    if kind < 0xCA and kind >= 0xC7:
                        size += 1  # the type of an extension
        if children > SMALL_ELEMENTS:
            return LARGE
        missing += children
        at += size
        if at > limit:
            return LARGE
    if at > end:
        return UNFINISHED
    return at


_HEADER_BYTES: Final[list[int]] = [1, 2, 4, 1, 2, 4] + [0] * 15 + [1, 2, 4, 2, 4, 2, 4]
"""From 0xc4 on, where a size is declared: how many bytes it has."""

_FIXED_BYTES: Final[list[int]] = [-1] * 6 + [4, 8, 1, 2, 4, 8, 1, 2, 4, 8, 2, 3, 5, 9, 17] + [-1] * 7
"""From 0xc4 on: the bytes behind the first one, -1 where a size is declared."""

assert len(_HEADER_BYTES) == len(_FIXED_BYTES) == 0xE0 - 0xC4

# The places in a large message, by depth. Below the items are their parts.
_MESSAGE: Final = 0
_FIELDS: Final = 1
_PARAMS: Final = 2
_ITEMS: Final = 3


@final
class LargeWalk:
    """A large message that is not complete: its bytes so far, and the position of the walk."""

    def __init__(self, data: bytes) -> None:
        # A bytearray grows in place. Bytes would be copied for each piece, a MiB for each byte of a slow sender.
        self.data: bytearray = bytearray(data)
        self.fault: str = ""  # why it is refused
        self.elements: int = 0  # values and arrays walked over
        self._at: int = 0  # offset of the next element
        self._depth: int = _MESSAGE
        self._missing: list[int] = [1, 0, 0, 0, 0]  # by depth: elements that must follow
        self._answer: int = UNFINISHED  # of the walk so far

    def feed(self, data: bytes) -> None:
        """Take received bytes."""
        self.data += data

    def go_on(self) -> int:
        """Continue the walk. UNFINISHED; or from then on the same, the end of the message, BAD or TOO_LARGE."""
        if self._answer == UNFINISHED:
            self._answer = self._walk_on()
        return self._answer

    def _walk_on(self) -> int:
        data = self.data
        end = len(data)
        missing = self._missing
        depth = self._depth
        at = self._at
        elements = self.elements
        answer = UNFINISHED
        while True:
            if elements > LARGE_ELEMENTS:
                return self._too_large("a message", LARGE_ELEMENTS, "elements")
            while missing[depth] == 0:
                if depth == _MESSAGE:
                    self.elements = elements
                    return at if at <= MESSAGE_BYTES_MAX else self._too_large("a message", MESSAGE_BYTES_MAX, "bytes")
                depth -= 1
            if at >= end:
                break
            if at > MESSAGE_BYTES_MAX:
                return self._too_large("a message", MESSAGE_BYTES_MAX, "bytes")
            kind = data[at]
            if 0x90 <= kind < 0xA0 or kind == 0xDC or kind == 0xDD:
                width = 0 if kind < 0xA0 else 2 if kind == 0xDC else 4
                if at + 1 + width > end:
                    break
                count = kind - 0x90 if not width else int.from_bytes(data[at + 1 : at + 1 + width], "big")
                answer = self._enter(depth, count)
                if answer != UNFINISHED:
                    return answer
                missing[depth] -= 1
                depth += 1
                missing[depth] = count
                at += 1 + width
                elements += 1
                continue
            if depth == _MESSAGE:
                return self._bad()
            size = self._scalar(depth, kind, at, end)
            if size == UNFINISHED:
                break
            if size < 0:
                return size
            missing[depth] -= 1
            at += size
            elements += 1
        self._at = at
        self._depth = depth
        self.elements = elements
        return answer

    def _enter(self, depth: int, count: int) -> int:
        """An array begins at this depth. Returns UNFINISHED if the grammar allows it, else why not."""
        if depth == _MESSAGE:
            return UNFINISHED if count in (3, 4) else self._bad()
        if depth == _FIELDS:
            if self._missing[_FIELDS] != 1:
                return self._bad()
            return UNFINISHED if count <= PARAMS_MAX else self._too_large("a request", PARAMS_MAX, "parameters")
        if depth == _PARAMS:
            return UNFINISHED if count <= BATCH_ITEMS_MAX else self._too_large("an array", BATCH_ITEMS_MAX, "items")
        if depth == _ITEMS:
            return UNFINISHED if count <= ITEM_PARTS_MAX else self._too_large("an item", ITEM_PARTS_MAX, "parts")
        return self._bad()

    def _scalar(self, depth: int, kind: int, at: int, end: int) -> int:
        """The size of a scalar at this depth, or UNFINISHED, or why the grammar does not allow it."""
        if kind < 0x80 or kind >= 0xE0:
            return self._integer(depth, 1)
        if 0xCC <= kind <= 0xD3:
            size = 1 + _FIXED_BYTES[kind - 0xC4]
            return self._integer(depth, size) if at + size <= end else UNFINISHED
        if 0xA0 <= kind < 0xC0:
            width, size = 0, kind - 0xA0
        elif kind in (0xC4, 0xD9, 0xC5, 0xDA, 0xC6, 0xDB):
            width = _HEADER_BYTES[kind - 0xC4]
            if at + 1 + width > end:
                return UNFINISHED
            size = int.from_bytes(self.data[at + 1 : at + 1 + width], "big")
        elif kind in (0xC0, 0xC2, 0xC3) and depth == _PARAMS:
            return 1
        else:
            return self._bad()
        if depth == _FIELDS and self._missing[_FIELDS] != 2:
            return self._bad()
        size_max = METHOD_BYTES_MAX if depth == _FIELDS else CURSOR_BYTES_MAX
        if size > size_max:
            return self._too_large("a method" if depth == _FIELDS else "a string", size_max, "bytes")
        size += 1 + width
        return size if at + size <= end else UNFINISHED

    def _integer(self, depth: int, size: int) -> int:
        """An integer stands where one may: a message has those before its method, and parameters have them
        anywhere."""
        return self._bad() if depth == _FIELDS and self._missing[_FIELDS] <= 2 else size

    def _bad(self) -> int:
        self.fault = (
            f"a message of more than {SMALL_BYTES} bytes or {SMALL_ELEMENTS} elements is a request of integers, "
            "strings and arrays of them"
        )
        return BAD

    def _too_large(self, what: str, most: int, unit: str) -> int:
        self.fault = f"{what} has at most {most} {unit}"
        return TOO_LARGE
