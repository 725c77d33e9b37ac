"""What each command takes from its turn, in entries, and that its work is what it pays for."""

from __future__ import annotations

from typing import Any

import pytest

from naught.wire.codec import encode_request
from naught_server.commands import REQUEST_ENTRIES
from naught_server.config import TURN_ITEMS_MAX
from naught_server.holds import Holds
from simulation.peer import Peer, engine_of

KEYS = [b"%d" % number for number in range(100)]


def price_of(peer: Peer, method: str, *params: Any) -> int:
    """What a request takes from its turn, without its reply's bytes."""
    protocol = peer.protocol
    protocol._left = TURN_ITEMS_MAX
    before = TURN_ITEMS_MAX
    data = protocol.receive(encode_request(1, method, params), peer.now_ms)
    return before - protocol._left - (len(data) >> 8)


def opened(**policy: Any) -> Peer:
    """A peer with a session."""
    peer = Peer(engine_of(**policy))
    peer.call("hello", {"session": True})
    return peer


@pytest.mark.parametrize(
    ("method", "params", "entries"),
    [
        ("ping", (), 0),
        ("set", (b"k", 1), 0),
        ("get_many", (KEYS,), 200),
        ("take", (KEYS,), 300),
        ("try_incr", ([(key, 1, 9) for key in KEYS],), 600),
        ("try_incr", ([(key, 1, 0) for key in KEYS],), 600),
        ("acquire", ([(key, 1, 9) for key in KEYS],), 700),
        ("release", (1, [(key, 1) for key in KEYS]), 600),
        ("release", (1, [(b"0", 1)]), 6),
        ("release", (1,), 300),
        ("release", (7,), 0),
        ("held", (), 202),
        ("held", (1,), 0),
        ("count", (), 16),
        ("clear", (), 128 + 6),
        ("sessions", (), 2),
        ("info", (), 40),
        ("sweep", (), TURN_ITEMS_MAX),
    ],
)
def test_prices(method: str, params: tuple[Any, ...], entries: int) -> None:
    peer = opened()
    peer.call("acquire", [(key, 1, 9) for key in KEYS])
    assert price_of(peer, method, *params) == REQUEST_ENTRIES + entries


def test_clear_pays_for_the_slots_of_the_wheel() -> None:
    peer = opened()
    peer.call("incr", b"k", 1, 1_000)
    assert price_of(peer, "clear") > 5_000


def test_a_request_that_costs_more_than_a_turn_is_paid_by_later_turns() -> None:
    peer = Peer(engine_of())
    items = [(b"%d" % number, 1, 10**9) for number in range(1_000)]
    requests = [encode_request(number, "try_incr", (items,)) for number in range(20)]
    turns = [peer.take(peer.protocol.receive(b"".join(requests), peer.now_ms))]
    while peer.protocol.wants_turn:
        turns.append(peer.turn())
    assert sorted(peer.replies) == list(range(20))
    assert max(map(len, turns)) == 1
    # The last one is not paid for: the connection has nothing more to do.
    assert len(turns) >= 19 * 6_000 // TURN_ITEMS_MAX


def test_a_release_of_some_amounts_looks_at_those_only(monkeypatch: pytest.MonkeyPatch) -> None:
    peer = opened()
    number = peer.call("acquire", [(b"%d" % number, 2, 9) for number in range(1_000)])[2]
    looked_at = 0
    live_amount = Holds.live_amount

    def counted(*args: Any) -> int:
        nonlocal looked_at
        looked_at += 1
        return live_amount(*args)

    monkeypatch.setattr(Holds, "live_amount", counted)
    for key in range(100):
        assert peer.call("release", number, [(b"%d" % key, 1)]) == [1]
    assert looked_at == 100
    peer.call("clear")
    looked_at = 0
    assert peer.call("release", number, [(b"7", 1)]).code == "not_held"
    assert looked_at <= 2
    assert peer.protocol.session.holds.items == 999, "what was found ended is not counted as held any more"


def test_a_page_of_holds_ends_at_a_bound_and_forgets_what_has_ended() -> None:
    peer = opened()
    for start in range(0, 3_000, 300):
        peer.call("acquire", [(b"%d" % number, 1, 9) for number in range(start, start + 300)])
    seen: list[int] = []
    while page := peer.call("held", seen[-1] if seen else 0):
        assert len(page) <= 2
        seen += [number for number, _ in page]
    assert seen == list(range(1, 11))
    peer.call("clear")
    assert peer.call("held") == []
    assert peer.protocol.session.holds.items == 0
