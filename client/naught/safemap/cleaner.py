"""The background thread of a SafeMap whose policy is deferred: it evicts what was flagged, and ends."""

from __future__ import annotations

import logging
import queue
import weakref
from typing import TYPE_CHECKING, Any

if TYPE_CHECKING:
    from naught.safemap.map import SafeMap

# Long enough for a flapping counter to come back before its key is deleted, short enough that nobody waits
# for the memory. At 0.1 the keys that were deleted and came back made the tables grow, and a decrement lost 2 %.
CLEAN_AFTER_S = 1.0
# It is looked so often in that time whether many are flagged. A drain flags a million keys a second, whose memory
# somebody would wait for: peak memory was half as much again without.
LOOKS = 10
# So many are. A sweep of them takes a few milliseconds.
MANY_FLAGGED = 10_000

_logger = logging.getLogger("naught")


def clean(owner: weakref.ref[SafeMap[Any, Any]], stop: queue.SimpleQueue[None], clean_after_s: float) -> None:
    """The cleaning thread: wait, sweep, and again while something is flagged. Holds the map only to sweep."""
    wait_s = clean_after_s / LOOKS
    looks = 0
    while True:
        try:
            stop.get(timeout=wait_s)
        except queue.Empty:
            pass
        else:
            return
        counters = owner()
        if counters is None:
            return
        looks += 1
        if looks < LOOKS and counters._flagged_count() < MANY_FLAGGED:
            del counters
            continue
        looks = 0
        try:
            if not counters._clean_once():
                return
        except Exception:
            # A key's own comparison has failed. Its zero stays flagged, and hidden; it is tried again,
            # unhurried.
            _logger.exception("clearing the zeros of a SafeMap failed, trying again")
            wait_s = max(clean_after_s, CLEAN_AFTER_S) / LOOKS
        del counters
