"""When a server is alive, and when it is ready."""

from __future__ import annotations

from naught_server.health import SWEEPER_STALLED_MS, Health
from support.conversation import engine_of


def test_a_server_from_start_to_end() -> None:
    engine = engine_of()
    health = Health(engine)
    assert health.why_not_live(1_000) is None, "it should not be restarted because it starts"
    assert health.why_not_ready(1_000) == "starting"
    engine.advance(1_000, 10)
    health.serve()
    assert health.why_not_ready(1_000) is None
    late = 1_000 + SWEEPER_STALLED_MS
    assert health.why_not_live(late) is None
    assert health.why_not_live(late + 1) == f"the sweeper took its last step {SWEEPER_STALLED_MS + 1} ms ago"
    assert health.why_not_ready(late + 1) == health.why_not_live(late + 1)
    engine.advance(late + 2, 10)
    assert health.why_not_ready(late + 3) is None
    health.drain()
    assert health.why_not_ready(late + 3) == "draining"
    assert health.why_not_live(late + 3) is None
    assert health.why_not_live(late + 3 + SWEEPER_STALLED_MS) is not None
