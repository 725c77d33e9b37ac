"""What the size of a dict says about its room. For the figures of the shards' tables.

CPython grows a dict in steps, and `sys.getsizeof` tells which step it is at: a header, 2^n indices, and entries for
two thirds of them. The steps are computed here once; a test grows real dicts and compares.
"""

from __future__ import annotations

import sys
from typing import Any, Final

_HEADER_BYTES: Final = sys.getsizeof({})
_KEYS_BYTES: Final = 32
_ENTRY_BYTES: Final = 24  # hash, key, value
_SMALLEST_LOG2: Final = 3
_LARGEST_LOG2: Final = 40

SPARSE_BYTES_MIN: Final = 1 << 10
"""A smaller table is never sparse: it has a few entries at most, and its room costs nothing."""

SPARSE_SHARE: Final = 0.4
"""A table with fewer entries than this part of its room is sparse."""


def _index_bytes(log2: int) -> int:
    """The size of an index of a table with 2^log2 of them."""
    return 1 if log2 <= 7 else 2 if log2 <= 15 else 4 if log2 <= 31 else 8


def _steps() -> dict[int, int]:
    """By size in bytes: for how many entries there is room."""
    steps = {_HEADER_BYTES: 0}
    for log2 in range(_SMALLEST_LOG2, _LARGEST_LOG2 + 1):
        entries = (2 << log2) // 3
        steps[_HEADER_BYTES + _KEYS_BYTES + (_index_bytes(log2) << log2) + entries * _ENTRY_BYTES] = entries
    return steps


_CAPACITY_OF_SIZE: Final = _steps()


def capacity(table: dict[bytes, Any]) -> int:
    """For how many entries a table has room, before it grows. O(1)."""
    size = sys.getsizeof(table)
    found = _CAPACITY_OF_SIZE.get(size)
    # An interpreter whose dicts have other sizes: about what an entry takes with its share of the indices.
    return (size - _HEADER_BYTES) // (_ENTRY_BYTES + 6) if found is None else found


def is_sparse(table: dict[bytes, int], room: int) -> bool:
    """Whether a table that has room for this number of entries is mostly empty."""
    return len(table) < SPARSE_SHARE * room and room * _ENTRY_BYTES > SPARSE_BYTES_MIN
