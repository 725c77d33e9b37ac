"""`apply` under way: many keys in one message, done in portions so that a turn is never longer than its price.

Each item is a command of its own, so nobody sees half of anything when a batch goes on in a later turn. Items that
are plain are done by the hot path (hot.py) where the cache lets it; every other item goes to `Cache.apply_item`,
which checks everything and says what was wrong with it.
"""

from __future__ import annotations

from collections.abc import Sequence
from typing import Any, Final

from naught.errors import CommandError
from naught.wire.codec import encode
from naught_server.access import Rights
from naught_server.hot import PlainApply, encode_value, head_of
from naught_server.store import Cache
from naught_server.waiters import SETTLED_AT_ONCE

PORTION_ITEMS_MIN: Final = 256
"""A portion has at least this number of items, whatever is left of its turn: a batch of about a turn is not divided,
and a turn becomes longer by 50 us at most (compiled)."""

CHECKED_PER_ENTRY: Final = 16
"""Items that the hot path checks for an entry, before the first is done: 0.011 us each, where doing one takes 0.13 to
0.2."""

CAREFUL_ENTRIES: Final = 4
"""An item that is done with every check, and its place in the message."""

PREPARE_ENTRIES: Final = 2
"""Going back to the hot path behind such an item."""


class DecodedItems:
    """The items of an `apply` that was decoded. Here each is still to be checked."""

    __slots__ = ("_delta", "_deltas", "_keys", "count", "done")

    def __init__(self, keys: Sequence[Any], deltas: Sequence[Any] | int) -> None:
        """`deltas`: one for each key, or one for all."""
        self._keys: Final = keys
        self._deltas: Final[Sequence[Any]] = [] if isinstance(deltas, int) else deltas
        self._delta: Final = deltas if isinstance(deltas, int) else 0
        self.count: Final = len(keys)
        self.done = 0

    def take(self) -> tuple[Any, Any]:
        """The key and the delta of the next item, which is done with this."""
        number = self.done
        self.done += 1
        return self._keys[number], self._deltas[number] if self._deltas else self._delta

    def next_keys(self, count: int) -> Sequence[Any]:
        """The keys of the next items, up to `count` of them."""
        return self._keys[self.done : self.done + count]


class Batch:
    """An `apply` under way. Its session owns it: it goes on when the connection is another one."""

    __slots__ = ("_items", "_plain", "_results", "_rights", "_ttl_ms", "msgid")

    def __init__(
        self,
        items: PlainApply | DecodedItems,
        ttl_ms: int | None = None,
        msgid: int | None = None,
        *,
        rights: Rights | None = None,
    ) -> None:
        """`rights`: of a user that is bound to prefixes: each key is looked at."""
        self.msgid: int | None = msgid  # where the results go; None for a notification
        self._items: Final = items
        self._plain: Final = items if isinstance(items, PlainApply) else None  # the same, for the hot path
        self._ttl_ms: Final = ttl_ms
        self._rights: Final = rights
        self._results: list[bytes] = []  # of the items that are done, encoded

    @property
    def done(self) -> int:
        """How many items are done."""
        return self._items.done

    @property
    def finished(self) -> bool:
        """Whether all items are done."""
        return self._items.done == self._items.count

    def next_keys(self, entries_max: int) -> Sequence[Any]:
        """The keys of the next portion."""
        return self._items.next_keys(self._portion(entries_max))

    def _portion(self, entries_max: int) -> int:
        """How many items the next portion has at the most."""
        return max(PORTION_ITEMS_MIN, entries_max // CAREFUL_ENTRIES if self._plain is None else entries_max)

    def go_on(self, cache: Cache, now_ms: int, entries_max: int, *, direct: bool) -> int:
        """Do items, for up to about `entries_max` entries of work. Returns how many entries were done. The caller has
        seen to the shards of their keys. `direct`: the cache is prepared for the hot path."""
        items, plain = self._items, self._plain
        begin = done = items.done
        stop = min(items.count, begin + self._portion(entries_max))
        waiters = cache.waiters
        enough = waiters.worked + SETTLED_AT_ONCE  # a portion ends early where it answers many waiters
        entries = 0
        while items.done < stop and waiters.worked < enough:
            if direct and plain is not None:
                self._do_plain(plain, cache, stop)
                entries += plain.done - done
                if plain.done == stop:
                    break
            self._do_one(cache, now_ms)
            done = items.done
            entries += CAREFUL_ENTRIES
            if plain is not None:
                direct = cache.prepare(now_ms)
                entries += PREPARE_ENTRIES
            if entries >= entries_max and items.done - begin >= PORTION_ITEMS_MIN:
                break
        return entries

    def _do_plain(self, plain: PlainApply, cache: Cache, stop: int) -> None:
        """Do items up to this one, or to the first that is not plain."""
        plain.run(cache.hot, stop, self._results)
        cache.collect_evicted()

    def _do_one(self, cache: Cache, now_ms: int) -> None:
        """Do the next item with every check there is."""
        key, delta = self._items.take()
        result: int | CommandError
        if self._rights is not None and not self._rights.may_name(key):
            result = self._rights.refuse_item()
        else:
            result = cache.apply_item(key, delta, self._ttl_ms, now_ms)
        if isinstance(result, CommandError):
            self._results.append(encode((result.code, str(result))))
        else:
            self._results.append(encode_value(result))

    def reply(self) -> bytes:
        """The reply, once all items are done."""
        assert self.msgid is not None, "a notification has no reply"
        count = len(self._results)
        array = bytes([0x90 + count]) if count < 16 else b"\xdc" + count.to_bytes(2, "big")
        return b"".join((head_of(self.msgid), array, *self._results))
