"""Whether the server is alive, and whether it is ready: what /livez and /readyz answer, and the watchdog asks.

Alive: the event loop turns, which an answer alone shows, and the sweeper takes its steps. A server that is not alive
should be restarted. Ready: alive, and it serves; a server that is starting or draining should get no new clients, and
no restart.
"""

from __future__ import annotations

from typing import Final, Literal

from naught_server.engine import Engine

SWEEPER_STALLED_MS: Final = 10_000
"""Without a step for so long, the sweeper has stopped: its steps are at most 100 ms apart. Also the longest pause of
the process after which it is not taken for dead at once."""

State = Literal["starting", "serving", "draining"]


class Health:
    """The state of one server. Its owner says when it serves and when it drains; the rest is asked of the engine."""

    def __init__(self, engine: Engine) -> None:
        self._engine = engine
        self.state: State = "starting"

    def serve(self) -> None:
        """Connections are accepted from now on."""
        self.state = "serving"

    def drain(self) -> None:
        """The server stops."""
        self.state = "draining"

    def why_not_live(self, now_ms: int) -> str | None:
        """What is wrong; None while the server is alive."""
        if self.state == "starting":
            return None  # the sweeper has not begun
        since_ms = self._engine.since_step_ms(now_ms)
        if since_ms > SWEEPER_STALLED_MS:
            return f"the sweeper took its last step {since_ms} ms ago"
        return None

    def why_not_ready(self, now_ms: int) -> str | None:
        """Why there should be no new clients; None where they are welcome."""
        return self.why_not_live(now_ms) if self.state == "serving" else self.state
