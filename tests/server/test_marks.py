"""Marks of keys that wait or are held: none is missing, and those that are of no use any more go."""

from __future__ import annotations

import random

from naught_server.hot import SHARD_SHIFT
from naught_server.marks import MARK_SHIFT, MARKED_MAX, MARKS, Marks


def place_of(key: bytes) -> int:
    return hash(key) >> MARK_SHIFT & (MARKS - 1)


def test_a_key_has_a_mark_from_the_first_time_on() -> None:
    marks = Marks()
    assert not any(marks.places)
    for key in (b"k", b"j", b"k"):
        marks.add(key)
        assert marks.places[place_of(key)] == 1
    assert sum(marks.places) == len({place_of(key) for key in (b"k", b"j")})


def test_keys_of_one_shard_have_different_marks() -> None:
    """Else a shard with one held key would have no benefit of them."""
    keys = [b"key:%d" % number for number in range(60_000)]
    of_one_shard = [key for key in keys if not hash(key) >> SHARD_SHIFT & 255]
    assert len({place_of(key) for key in of_one_shard}) > 0.8 * len(of_one_shard)


def test_marks_of_keys_that_have_left_go() -> None:
    """At random: after each `rebuild` exactly the keys in the tables have marks."""
    source = random.Random(1)
    marks, tables = Marks(), [dict[bytes, None](), dict[bytes, None](), dict[bytes, None]()]
    places = marks.places
    for _ in range(200):
        for _ in range(source.randrange(30)):
            table, key = source.choice(tables), b"%d" % source.randrange(500)
            if key in table:
                del table[key]
            else:
                marks.add(key)
                table[key] = None
        keys = set().union(*tables)
        assert all(places[place_of(key)] for key in keys)
        marks.rebuild([*tables])
        assert places is marks.places, "the hot path has this list"
        assert {place for place in range(MARKS) if places[place]} == {place_of(key) for key in keys}


def test_they_are_made_anew_once_for_each_change() -> None:
    marks, table = Marks(), {b"k": None, b"j": None}
    for key in table:
        marks.add(key)
    assert marks.rebuild([table]) == 2
    assert marks.rebuild([table]) == 0
    marks.add(b"k")
    assert marks.rebuild([table]) == 2
    del table[b"k"]
    assert marks.rebuild([table]) == 1
    assert marks.rebuild([table]) == 0


def test_too_many_are_left_as_they_are() -> None:
    marks = Marks()
    table = {b"%d" % number: None for number in range(MARKED_MAX + 1)}
    marks.add(b"gone")
    assert marks.rebuild([table]) == 0
    assert sum(marks.places) == 1
    table.popitem()
    assert marks.rebuild([table]) == MARKED_MAX
