"""SafeMap: a thread-safe mapping of counters in one process. A counter that reaches zero is deleted with its key.

A dict of counts keeps every key that it ever counted: a value goes back to zero, and its key stays in memory, in
`len` and in every loop. `SafeMap` deletes the key in the step that brings its value to zero or below. A counter
means the same here as on naught's server, and both are tested against one table of cases
(tests/support/cases_counters.py): a decrement stops at zero and never creates a counter, reading never creates
one, and an absent counter is the same as a counter of zero.

How it works
------------
A shard is a plain dict with its own lock, and every access to the dict holds that lock. Where the interpreter has a
global lock, a map has one shard unless told otherwise. Without it keys are spread over 31 shards by their hash, so
that threads which use different shards do not wait for each other. An operation on the whole map at one instant
(`snapshot`, `clear`, a fork) takes all the locks, always in the order of the shards, so two such operations cannot
deadlock. And it waits for a second lock only so long before it releases the first and begins again, because what runs
inside a method may ask for locks in any order.

*Eager* eviction deletes the key in the decrement itself. *Deferred* eviction stores a zero and flags its key; a
background thread deletes the keys that are flagged and still zero some time later. It is for counters that flap
between 0 and 1, whose keys would otherwise be deleted and created again each time. No method ever shows a flagged
zero. The first flagged zero starts the thread, and the thread ends when no zero is left. While it waits it holds
only a weak reference to the map, so a map that was never closed can be collected.

A dict does not shrink when keys are deleted from it. So each shard counts its evictions, and when about half of
its entries have gone it checks the size of its table and rebuilds one that is mostly empty. Where it can, it also
copies the keys, because the allocator returns memory only where no surviving key is left in it.

The locks are reentrant, because Python may run other code at almost any point: a key's `__eq__`, a finalizer or a
signal handler may use this map while one of its methods is running in the same thread, and must not deadlock.
Between reading a value and storing the new one there is no call and no allocation that could run such code, as
long as the key's hash and comparison and the arithmetic of the numbers are built in (true of all types but
Fraction). Comments mark the lines that are written as they are for this reason.

No lock is left held, whatever interrupts a method and wherever: `locks` says how.

Modules: `map` has the class, `alias` is `SafeMap[K, V]`, `shard` is one table, `locks` its lock, `numbers`
describes the types that can be counted, `views` has the results of `items` and `values`, `cleaner` is the
background thread, and `forks` keeps every map consistent when the process forks.
"""

from __future__ import annotations

from naught.errors import Underflow
from naught.safemap.map import Policy, SafeMap

__all__ = ["Policy", "SafeMap", "Underflow"]
