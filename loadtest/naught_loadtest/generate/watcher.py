"""Asks a server how many counters of a run it has, for the line that shows how far the run is.

A thread and a connection of its own do that, so the run never waits for the answer. A server that does not answer in
time loses the connection, and later there is a new one. Counting costs the server time, so the pause between two
questions is at least twenty times as long as the last answer took.
"""

from __future__ import annotations

import threading
import time

from naught_loadtest.drivers.base import Inspector, ProtocolFaultError
from naught_loadtest.drivers.probe import open_probe
from naught_loadtest.drivers.target import Target

ANSWER_S_MAX = 0.5
PAUSE_S = 1.0
PAUSE_FACTOR = 20


class Watcher:
    """Keeps `live` up to date until `stop` is called."""

    def __init__(self, target: Target, prefix: str) -> None:
        self._target = target
        self._prefix = prefix
        # The latest answer; None before the first one, when an answer did not come in time, and where the server has
        # no cheap way to count.
        self.live: int | None = None
        self._stopped = threading.Event()
        self._thread = threading.Thread(target=self._watch, name="watcher", daemon=True)
        self._thread.start()

    def stop(self) -> None:
        """Ask no more. An answer that is on its way is not waited for."""
        self._stopped.set()

    def _watch(self) -> None:
        while not self._stopped.is_set():
            try:
                probe, inspector = open_probe(self._target, ANSWER_S_MAX)
                with probe:
                    self._ask(inspector)
            except (OSError, RuntimeError, ProtocolFaultError):
                self.live = None
            self._stopped.wait(PAUSE_S)

    def _ask(self, inspector: Inspector) -> None:
        """Ask again and again on one connection, until it fails."""
        pause_s = 0.0
        while not self._stopped.wait(pause_s):
            asked_s = time.monotonic()
            live = inspector.live(self._prefix)
            if live is None:
                self._stopped.set()
                return
            self.live = live
            pause_s = max(PAUSE_S, PAUSE_FACTOR * (time.monotonic() - asked_s))
