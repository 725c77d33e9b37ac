"""The background thread of a SafeMap with deferred eviction: it deletes the flagged zeros, and ends with the last.

The map starts the thread (`SafeMap._start_cleaner`), which runs `clean`. The thread and the map share the stop
queue; everything else stays with the map.
"""

from __future__ import annotations

import logging
import queue
import weakref
from typing import Protocol

# Long enough for a flapping counter to come back before its key is deleted, short enough for memory to come back
# soon. At 0.1 the tables grew, as keys were deleted and came back, and the rate of decrements fell by 2 %.
CLEAN_AFTER_S = 1.0
# How often in `CLEAN_AFTER_S` the thread checks whether many keys are flagged. A drain flags a million keys a
# second, and their memory should not wait for the full time: peak memory was half as much again without these
# checks.
CHECKS = 10
# From this number of flagged keys on, the thread sweeps at once. Such a sweep takes a few milliseconds.
MANY_FLAGGED = 10_000

_logger = logging.getLogger("naught")


class CleanedMap(Protocol):
    """What the thread calls of its map."""

    def _flagged_count(self) -> int:
        """Return how many keys are flagged."""

    def _clean_once(self) -> bool:
        """Delete the flagged zeros; return whether the thread must go on, as keys are flagged again."""


def clean(owner: weakref.ref[CleanedMap], stop: queue.SimpleQueue[None], clean_after_s: float) -> None:
    """Sweep every `clean_after_s` seconds, or as soon as many keys are flagged, until none is flagged.

    An item in `stop` ends the thread, and so does the end of the map: only a sweep holds a strong reference to it.
    """
    wait_s = clean_after_s / CHECKS
    checks = 0
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
        checks += 1
        if checks < CHECKS and counters._flagged_count() < MANY_FLAGGED:
            del counters
            continue
        checks = 0
        try:
            if not counters._clean_once():
                return
        except Exception:
            # A key's own comparison has raised. Its zero stays flagged and hidden, and the next sweep tries again,
            # not sooner than the default time from now.
            _logger.exception("clearing the zeros of a SafeMap failed, trying again")
            wait_s = max(clean_after_s, CLEAN_AFTER_S) / CHECKS
        del counters
