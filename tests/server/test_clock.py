"""The server's clock leaves out the time in which the process was stopped."""

from __future__ import annotations

from naught_server.clock import GAP_COUNTED_NS, STOPPED_NS, Clock
from naught_server.limits import SWEEP_INTERVAL_MS_MAX

SECOND_NS = 1_000_000_000


def test_it_is_its_source_while_it_is_read() -> None:
    source = [0]
    clock = Clock(lambda: source[0])
    for _ in range(100):
        source[0] += STOPPED_NS
        assert clock.now_ns() == source[0]
    source[0] += 1_234_567_891
    assert clock.now_ms() == source[0] // 1_000_000
    assert isinstance(clock.now_ms(), int)
    assert clock.stopped_ns == 0


def test_of_a_stop_only_a_second_counts() -> None:
    source = [2 * SECOND_NS]
    clock = Clock(lambda: source[0])
    before = clock.now_ns()
    source[0] += 5 * SECOND_NS
    assert clock.now_ns() == before + GAP_COUNTED_NS
    source[0] += 5
    assert clock.now_ns() == before + GAP_COUNTED_NS + 5, "it goes on from there"
    source[0] += STOPPED_NS + 1
    assert clock.now_ns() == before + 2 * GAP_COUNTED_NS + 5
    assert clock.stopped_ns == 4 * SECOND_NS + STOPPED_NS + 1 - GAP_COUNTED_NS


def test_milliseconds_are_whole_ones_that_have_passed() -> None:
    for now_ns, now_ms in ((999_999, 0), (1_000_000, 1), (999_999_999_999, 999_999), (10**15, 10**9)):
        source = iter([now_ns, now_ns])
        assert Clock(source.__next__).now_ms() == now_ms


def test_idleness_is_no_stop() -> None:
    assert SWEEP_INTERVAL_MS_MAX * 1_000_000 < STOPPED_NS
    assert (GAP_COUNTED_NS, STOPPED_NS) == (1_000_000_000, 1_500_000_000)
