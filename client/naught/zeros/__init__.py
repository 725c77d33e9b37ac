"""Zeros in nested data: whether a value is one (`is_zero`), and a copy without them (`prune`).

Counts that came back to zero, empty strings, None and containers with nothing else in them pile up in
configurations, caches and documents. These functions find them in a program's own data; `prune` takes them out and
reports from where.

What is a zero
--------------
Numbers equal to 0 (NaN is not); empty str, bytes, bytearray and range; None; a dict, list, tuple, set, frozenset,
deque, OrderedDict, defaultdict or Counter with nothing but zeros in it; a named tuple, dataclass, attrs class,
SimpleNamespace or plain object whose attributes are all zero, also those that are no field of its class. False is an
answer and not a zero, and neither are enum members, dates, times and durations. Every other type is unknown: its
values are never zero, never looked into, never changed and never copied. `rules` changes this for a type, where it
can be followed. docs/zeros.md has a table of types.

A plain object is an instance of a class written in Python that has attributes and defines no protocol (length,
iteration, calls, its own way of copying or of setting attributes). With a protocol, only the class knows what its
attributes mean. For the same reason a subclass of dict or list is not treated as a dict or list. Of classes of the
standard library and of their subclasses, and of attributes that are stored under the name of a property or cached
property, nothing is known either.

How it works
------------
Most data is a tree of dicts and lists, and `prune` judges, copies and reports it in one walk. Where it finds anything
else, it walks once over everything that can be reached from the value, without recursion, and makes a node for each
container. Nodes are found by identity, so a shared container is one node, and a cycle ends. A container is nonzero if
and only if a nonzero leaf can be reached from it. So `prune` marks the containers of nonzero leaves, the containers
of those, and so on; an unmarked container is zero, even one in a cycle. Nothing is changed before all this is known,
so a rule that raises leaves the data as it was. Time and memory are in proportion to the size of the data. `is_zero`
needs no nodes: everything it finds can be reached from the value, so it stops at the first nonzero leaf.

Which zeros are taken out: entries of mappings, and items of lists, deques and sets. The places of a tuple and the
fields of an object stay, because a place or field has a meaning even when it holds a zero; values in them are pruned.
Keys of mappings are names, and are never examined. Members of a set are examined but not pruned inside, because their
hash must not change. Attributes whose name begins with an underscore are examined but not pruned inside, because they
are private to their object.

Modules: `judge` says what is a zero, by type and by rules; `pruning` takes zeros out, and `trees` does so for trees
of dicts and lists; `report` is what was taken out.
"""

from __future__ import annotations

from naught.zeros.judge import (
    EXEMPT,
    FALSE_IS_ZERO,
    SIGNIFICANT,
    TIMES_CAN_BE_ZERO,
    Rule,
    Rules,
    Step,
    Treat,
    is_zero,
)
from naught.zeros.pruning import Pruned, prune
from naught.zeros.report import Removed

__all__ = [
    "EXEMPT",
    "FALSE_IS_ZERO",
    "SIGNIFICANT",
    "TIMES_CAN_BE_ZERO",
    "Pruned",
    "Removed",
    "Rule",
    "Rules",
    "Step",
    "Treat",
    "is_zero",
    "prune",
]
