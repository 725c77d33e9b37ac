"""Known faults that tests put into the code: a simulation that claims to find bugs must find each of these.

A fault is a replacement in the source text of one function, so this table shows it as the mistake a programmer would
make. A text that is not in the function any more is an error: the table must be changed with the code.
"""

from __future__ import annotations

import inspect
import sys
import textwrap
from typing import Any, NamedTuple

import pytest

from naught_server import commands
from naught_server.expiry import DeadlineWheel
from naught_server.hot import HotCounters
from naught_server.locks import ShardClaim, ShardLocks
from naught_server.protocol import ServerProtocol
from naught_server.store import Cache
from naught_server.sweep import ShardCompaction, ShardWork, ZeroRemoval


class Fault(NamedTuple):
    """A mistake: in this class or module, in this function, this text becomes that text."""

    name: str
    owner: Any
    function: str
    text: str
    mistake: str

    def put_in(self, monkeypatch: pytest.MonkeyPatch) -> None:
        """Put the fault in until the test ends."""
        found = inspect.getattr_static(self.owner, self.function)
        is_property = isinstance(found, property)
        function = found.fget if is_property else found
        source = textwrap.dedent(inspect.getsource(function))
        assert source.count(self.text) == 1, f"{self.name}: {source.count(self.text)} times {self.text!r}"
        namespace: dict[str, Any] = {}
        module = sys.modules[function.__module__]
        exec(compile(source.replace(self.text, self.mistake), "<fault>", "exec"), vars(module), namespace)
        monkeypatch.setattr(self.owner, self.function, namespace[self.function])
        for method, command in commands.COMMANDS.items():
            if command.run is function:
                monkeypatch.setitem(commands.COMMANDS, method, command._replace(run=namespace[self.function]))


FAULTS: list[Fault] = [
    Fault(
        "a zero that becomes a counter again is still counted as a zero",
        Cache,
        "_create",
        "self.zeros[shard] -= 1",
        "pass",
    ),
    Fault("a new counter gets no time to live", Cache, "_create", "if ttl_ms is None:", "if True:"),
    Fault("a new counter leaves a zero behind", Cache, "_create", "if ttl_ms is not None:", "if False:"),
    Fault("a read does not see expiry", Cache, "_value", "<= now_ms", "<= now_ms - 1"),
    Fault("expiry comes a millisecond late", Cache, "counters_of", "> now_ms", ">= now_ms"),
    Fault("an evicted counter stays in the wheel", Cache, "_drop_timed", "self.wheel.discard(", "bool("),
    Fault("a lazy zero keeps its deadline", Cache, "on_zero", "self._drop_timed(shard, key)", "pass"),
    Fault("a counter that gets a deadline is there twice", Cache, "_replace", "if not was_timed:", "if False:"),
    Fault("a change clears the time to live", Cache, "_change", "if packed:", "if False:"),
    Fault("a decrement goes one too far", Cache, "decr", "left > 0", "left >= 0"),
    Fault("strict refuses to decrement by the whole value", Cache, "decr", "if strict and left:", "if strict:"),
    Fault(
        "set keeps the old time to live",
        Cache,
        "set",
        "self._replace(shard, key, value, ttl_ms, now_ms)",
        "self._change(shard, key, value)",
    ),
    Fault(
        "an increment renews the time to live",
        Cache,
        "incr",
        "self._change(shard, key, value)",
        "self._replace(shard, key, value, ttl_ms, now_ms)",
    ),
    Fault("take reads and does not evict", Cache, "take", 'self._evict(shard, key, "taken")', "pass"),
    Fault(
        "try_incr judges items alone",
        Cache,
        "add_within",
        "values[key] + sums[key] > limit for key, _, limit",
        "values[key] + by > limit for key, by, limit",
    ),
    Fault("throttle forgets a part of a millisecond", Cache, "throttle", "- -value % limit", ""),
    Fault("throttle grants one too many", Cache, "throttle", "after > room", "after > room + per_ms"),
    Fault(
        "throttle leaves an earlier deadline",
        Cache,
        "throttle",
        "self._replace(shard, key, after, reset_ms, now_ms)",
        "self._change(shard, key, after)",
    ),
    Fault("one more than max_counters", Cache, "_need_room", "< missing", "< missing - 1"),
    Fault(
        "expired counters do not make room",
        Cache,
        "_need_room",
        "self.wheel.due(now_ms, missing) < missing",
        "True",
    ),
    Fault("the hot path ignores max_counters", HotCounters, "incr", "if self.creations <= 0:", "if False:"),
    Fault(
        "the hot path does not look for expired ones", Cache, "prepare", "backlog = timed and", "backlog = False and"
    ),
    Fault(
        "a hot increment does not find what has a deadline",
        HotCounters,
        "incr",
        "if self.has_timed and key in self.timed[shard]:",
        "if False:",
    ),
    Fault(
        "a hot decrement does not find what has a deadline",
        HotCounters,
        "decr",
        "if self.has_timed and key in self.timed[shard]:",
        "if False:",
    ),
    Fault("a hot read does not find what has a deadline", HotCounters, "get", "and self.has_timed", "and False"),
    Fault("the hot path leaves a deadline", HotCounters, "_decr_timed", "before <= by", "before < by"),
    Fault("a hot increment moves a deadline", HotCounters, "_incr_timed", "packed + (", "packed + 1 + ("),
    Fault("a hot decrement moves a deadline", HotCounters, "_decr_timed", "packed - (", "packed + 1 - ("),
    Fault(
        "the hot path ignores overflow of what has a deadline",
        HotCounters,
        "_incr_timed",
        "by > PLAIN_MAX or before > PLAIN_MAX or ",
        "",
    ),
    Fault("a scan goes on after the wrong key", commands, "short_page", "item[0] > after", "item[0] >= after"),
    Fault("a scan forgets where it was", commands, "short_page", "if after:", "if False:"),
    Fault("clear leaves the deadlines", Cache, "clear", "if timed:", "if False:"),
    Fault("clear forgets the zeros", Cache, "clear", "self.zeros[shard] = 0", "pass"),
    Fault(
        "the hot path keeps no account of zeros",
        HotCounters,
        "incr",
        "if self.has_zeros and key in table:",
        "if False:",
    ),
    Fault(
        "a cache that becomes eager forgets its zeros",
        Cache,
        "change_policy",
        "self.has_zeros = self.has_zeros or self._lazy",
        "self.has_zeros = self._lazy",
    ),
    Fault(
        "the hot path does not hear of a new policy",
        Cache,
        "change_policy",
        "self.hot.keep_zeros(lazy=self._lazy, has_zeros=self.has_zeros)",
        "pass",
    ),
    Fault("a hot decrement leaves a zero", HotCounters, "decr", "after > 0", "after >= 0"),
    Fault(
        "the hot path ignores overflow", HotCounters, "incr", "if by > PLAIN_MAX or before > PLAIN_MAX:", "if False:"
    ),
    Fault("what the hot path has evicted is counted twice", Cache, "collect_evicted", ", evicted)", ", 2 * evicted)"),
    Fault("equal values in the top have any order", commands, "_top", "and key < best[0][2]", "and False"),
    Fault("the top of one slice only", commands, "_top", "entered = 0\n", "entered = 0; best.clear()\n"),
    Fault("a compaction loses deadlines", ShardCompaction, "_finish", "self._timed.update(copies)", "pass"),
    Fault(
        "a compaction does not subtract its zeros",
        ShardCompaction,
        "_finish",
        "cache.zeros[self.shard] -= self._zeros",
        "pass",
    ),
    Fault(
        "a compaction leaves the last entry behind",
        ShardCompaction,
        "_finish",
        "table.update(new)",
        "new and new.popitem(); table.update(new)",
    ),
    Fault("a sweep of zeros counts one off", ZeroRemoval, "_finish", "-= count", "-= count - 1"),
    Fault("a compaction takes a shard that is held", ShardWork, "begin", "is not None", "is False"),
    Fault(
        "a shard's work never gives its lock back",
        ShardWork,
        "step",
        "if finished:\n            self._cache",
        "if False:\n            self._cache",
    ),
    Fault("requests do not look at locks", ShardClaim, "make", "if not any(", "if True or any("),
    Fault("the hot path does not look at locks", Cache, "prepare", "if self.locks.held:", "if False:"),
    Fault("a lock's queue is forgotten", ShardLocks, "release", "if lock.queue:", "if False:"),
    Fault("a connection keeps its lock", ShardClaim, "release", "locks.withdraw(shard, self)", "pass"),
    Fault("a closed connection keeps its lock", ServerProtocol, "_forget", "self._claim.release()", "pass"),
    Fault("a waiter that left is granted", ShardLocks, "withdraw", "if entry[0] is not owner", "if entry"),
    Fault(
        "the wheel drops deadlines of later laps",
        DeadlineWheel,
        "_pour",
        "self._kept[key] = None",
        "self.count -= 1",
    ),
    Fault(
        "the wheel takes out a lap too early", DeadlineWheel, "_pour", "deadline_ms >> GRAIN_BITS > grain", "False"
    ),
    Fault("the wheel takes out a grain too early", DeadlineWheel, "_pour", "if deadline_ms <= now_ms:", "if True:"),
    Fault("a near deadline is put into the later wheel", DeadlineWheel, "add", "<= SLOTS", "<= 0"),
    Fault("a later deadline is put into the near wheel", DeadlineWheel, "add", "<= SLOTS", "<= 2 * SLOTS"),
    Fault(
        "a grain is skipped with its deadlines",
        DeadlineWheel,
        "_skip_grains",
        "self._poured = grain - 1",
        "self._poured = grain",
    ),
    Fault("a near deadline is not counted", DeadlineWheel, "add", "self._near_count += 1", "pass"),
    Fault("a poured deadline is not counted", DeadlineWheel, "_pour", "self._near_count += 1", "pass"),
    Fault(
        "the wheel skips a millisecond",
        DeadlineWheel,
        "_skip_empty",
        "self.passed_ms = at - 1",
        "self.passed_ms = at",
    ),
    Fault(
        "due deadlines of a millisecond are not counted",
        DeadlineWheel,
        "_due_places",
        "self.passed_ms + 1,",
        "self.passed_ms + 2,",
    ),
    Fault(
        "due deadlines of a grain are not counted",
        DeadlineWheel,
        "_due_places",
        "self._poured + 1,",
        "self._poured + 2,",
    ),
]
