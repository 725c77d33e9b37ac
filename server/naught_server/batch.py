"""`apply` under way: many keys in one message, done in portions so that a turn is never longer than its price.

Each item is a command of its own, so nobody sees half of anything when a batch goes on in a later turn. Items that
are plain are done by the hot path (hot.py) where the cache lets it; every other item goes to `Cache.apply_item`,
which checks everything and says what was wrong with it.
"""

from __future__ import annotations

from collections.abc import Sequence
from typing import Any, Final, cast

from naught.errors import CommandError
from naught.wire.codec import encode
from naught_server.access import Rights
from naught_server.hot import apply_items, encode_value, head_of
from naught_server.store import Cache
from naught_server.waiters import SETTLED_AT_ONCE

PORTION_ITEMS_MIN: Final = 256
"""A portion has at least this number of items, whatever is left of its turn: few batches are divided, and a turn
becomes longer by 50 us at most (compiled)."""

CAREFUL_ENTRIES: Final = 4
"""An item that is done with every check, and its place in the message."""

PREPARE_ENTRIES: Final = 2
"""Going back to the hot path behind such an item."""


class Batch:
    """An `apply` under way. Its session owns it: it goes on when the connection is another one."""

    __slots__ = ("_delta", "_deltas", "_keys", "_plain", "_results", "_rights", "_ttl_ms", "done", "msgid")

    def __init__(
        self,
        keys: Sequence[Any],
        deltas: Sequence[Any] | int,
        ttl_ms: int | None = None,
        msgid: int | None = None,
        *,
        plain: bool = False,
        rights: Rights | None = None,
    ) -> None:
        """`plain`: the hot path has found that all keys and deltas are good, and put them into lists. `rights`: of a
        user that is bound to prefixes: each key is looked at."""
        self.msgid: int | None = msgid  # where the results go; None for a notification
        self._keys: Final = keys
        self._deltas: Final[Sequence[Any]] = [] if isinstance(deltas, int) else deltas  # one for each key, or
        self._delta: Final = deltas if isinstance(deltas, int) else 0  # one for all
        self._ttl_ms: Final = ttl_ms
        self._plain: Final = plain
        self._rights: Final = rights
        self.done = 0  # how many items
        self._results: list[bytes] = []  # of those, encoded

    @property
    def finished(self) -> bool:
        """Whether all items are done."""
        return self.done == len(self._keys)

    def next_keys(self, entries_max: int) -> Sequence[Any]:
        """The keys of the next portion."""
        return self._keys[self.done : self._stop(entries_max)]

    def _stop(self, entries_max: int) -> int:
        """Where the next portion ends at the latest."""
        items_max = entries_max if self._plain else entries_max // CAREFUL_ENTRIES
        return min(len(self._keys), self.done + max(PORTION_ITEMS_MIN, items_max))

    def go_on(self, cache: Cache, now_ms: int, entries_max: int, *, direct: bool) -> int:
        """Do items, for up to about `entries_max` entries of work. Returns how many entries were done. The caller has
        seen to the shards of their keys. `direct`: the cache is prepared for the hot path."""
        begin = self.done
        stop = self._stop(entries_max)
        waiters = cache.waiters
        enough = waiters.worked + SETTLED_AT_ONCE  # a portion ends early where it answers many waiters
        entries = 0
        while self.done < stop and waiters.worked < enough:
            if direct and self._plain:
                entries -= self.done
                self._do_plain(cache, stop)
                entries += self.done
                if self.done == stop:
                    break
            self._do_one(cache, now_ms)
            entries += CAREFUL_ENTRIES
            if self._plain:
                direct = cache.prepare(now_ms)
                entries += PREPARE_ENTRIES
            if entries >= entries_max and self.done - begin >= PORTION_ITEMS_MIN:
                break
        return entries

    def _do_plain(self, cache: Cache, stop: int) -> None:
        """Do items up to this one, or to the first that is not plain."""
        keys = cast("list[bytes]", self._keys)
        deltas = cast("list[int]", self._deltas)
        self.done = apply_items(cache.hot, keys, deltas, self._delta, self.done, stop, self._results)
        cache.collect_evicted()

    def _do_one(self, cache: Cache, now_ms: int) -> None:
        """Do the next item with every check there is."""
        delta = self._deltas[self.done] if self._deltas else self._delta
        key = self._keys[self.done]
        result: int | CommandError
        if self._rights is not None and not self._rights.may_name(key):
            result = self._rights.refuse_item()
        else:
            result = cache.apply_item(key, delta, self._ttl_ms, now_ms)
        if isinstance(result, CommandError):
            self._results.append(encode((result.code, str(result))))
        else:
            self._results.append(encode_value(result))
        self.done += 1

    def reply(self) -> bytes:
        """The reply, once all items are done."""
        assert self.msgid is not None, "a notification has no reply"
        count = len(self._results)
        array = bytes([0x90 + count]) if count < 16 else b"\xdc" + count.to_bytes(2, "big")
        return b"".join((head_of(self.msgid), array, *self._results))
