"""The room of a table, against dicts that grow."""

from __future__ import annotations

import sys

from naught_server.tables import capacity, is_sparse


def test_the_room_is_what_a_dict_takes_without_growing() -> None:
    table: dict[bytes, int] = {}
    size = sys.getsizeof(table)
    seen = set()
    for number in range(100_000):
        room = capacity(table)
        assert len(table) <= room
        table[b"%d" % number] = number
        if sys.getsizeof(table) != size:
            assert len(table) == room + 1, "it grew when there was no room"
            size = sys.getsizeof(table)
            seen.add(size)
    assert len(seen) > 10


def test_a_table_is_sparse_when_less_than_two_fifths_of_it_are_used() -> None:
    table = {b"%d" % number: number for number in range(1_000)}
    room = capacity(table)
    assert not is_sparse(table, room)
    for number in range(1_000):
        del table[b"%d" % number]
        assert is_sparse(table, room) == (len(table) < 0.4 * room)


def test_a_small_table_is_never_sparse() -> None:
    assert not is_sparse({}, capacity({}))
    table = {b"%d" % number: number for number in range(20)}
    room = capacity(table)
    table.clear()
    assert not is_sparse(table, room)
