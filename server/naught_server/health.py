"""Whether the server is alive, and whether it is ready: what /livez and /readyz answer, and the watchdog asks.

Alive: the event loop turns, which an answer alone shows, and the sweeper takes its steps. A server that is not alive
should be restarted. Ready: alive, and it serves; a server that is starting or draining should get no new clients, and
no restart. A sweeper that has failed is started again by the server, which is not ready before it has taken a step.
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
        self._failed_ms: int | None = None  # when the sweeper failed the last time
        self.state: State = "starting"

    def serve(self) -> None:
        """Connections are accepted from now on."""
        self.state = "serving"

    def drain(self) -> None:
        """The server stops."""
        self.state = "draining"

    def sweeper_failed(self, now_ms: int) -> None:
        """The sweeper has raised, and will be started again."""
        self._failed_ms = now_ms

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
        if self.state != "serving":
            return self.state
        if self._failed_ms is not None and self._engine.since_step_ms(now_ms) >= now_ms - self._failed_ms:
            return "the sweeper has failed, and has taken no step since"
        return self.why_not_live(now_ms)
