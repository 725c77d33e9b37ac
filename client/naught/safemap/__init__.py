"""A mapping of counters inside one process, in which a value that reaches zero is gone, with its key.

A dict of counts keeps every key that ever counted: its value goes back to zero, and the key stays, in memory,
in `len` and in every loop. `SafeMap` is the map for that job: the step that brings a value to zero or below
takes its key out. It means what naught's server means by a counter, and both are held to one table of cases
(tests/cases_counters.py): a decrement stops at zero and never creates, reading never creates, absent and zero
are the same thing.

How it works
------------
The keys are spread by their hash over shards. A shard is a plain dict and a lock of its own, and every access
to the dict is made under that lock, so threads on different shards do not wait for one another, with or
without the interpreter's global lock. What needs the whole map at one instant (`snapshot`, `clear`, a fork)
takes all the locks, always in the order of the shards, so two such calls cannot wait for each other.

*Eager* eviction deletes the key in the decrement itself. *Deferred* eviction stores a zero and flags its key;
a background thread deletes what is flagged and still zero some time later. That is for counters that flap
between 0 and 1, whose keys would otherwise be deleted and made again each time. No method ever shows a
flagged zero. The thread is started by the first zero flagged, ends by itself when none is left, and holds the
map only weakly while it waits, so a map that nobody closed can be collected.

A dict does not shrink when its keys are deleted. So each shard counts its evictions, and when about half of
what was there has gone it looks at the size of its table, and rebuilds one that is mostly empty. The keys go
along where that is possible, as the memory of those that went is given back only where nothing else lies in it.

The locks can be taken again by the thread that holds them, because Python may run code anywhere: a key's
`__eq__`, a finalizer or a signal handler that uses this map while a method of it is under way finds it usable
and not deadlocked. Between reading a value and storing the new one there is no call and no allocation that
could let such code in, as long as the key's hash and comparison and the numbers' arithmetic are built in (all
but Fraction are); the comments say where that shaped the code.

`map` is the class, and `alias` what it is with types in brackets; `shard` one of its tables, `numbers` the types
it counts, `views` what `items` and `values` answer, `cleaner` the background thread, and `forks` what happens
to all maps when the process forks.
"""

from __future__ import annotations

from naught.safemap.map import Policy, SafeMap
from naught.safemap.numbers import Underflow

__all__ = ["Policy", "SafeMap", "Underflow"]
