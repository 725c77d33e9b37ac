"""A long `apply` is done in portions: the others have their turns between, and it loses nothing on the way."""

from __future__ import annotations

from typing import Any

import pytest

from naught.wire.codec import encode_notification, encode_request
from naught_server.batch import PORTION_ITEMS_MIN
from naught_server.limits import TURN_ITEMS_MAX
from naught_server.protocol import ServerProtocol
from simulation.peer import Peer, engine_of
from support.conversation import Conversation, decoded

COUNT = 3 * TURN_ITEMS_MAX + 7
KEYS = [b"key:%d" % place for place in range(COUNT)]


@pytest.mark.parametrize("deltas", [2, [2] * COUNT], ids=["one delta", "each its own"])
@pytest.mark.parametrize("ttl", [(), (5_000,)], ids=["for good", "for a while"])
def test_others_come_between_the_portions_and_nothing_of_its_own_does(deltas: Any, ttl: tuple[int, ...]) -> None:
    engine = engine_of(shards=4)
    peer, other = Peer(engine), Peer(engine)
    data = encode_request(1, "apply", (KEYS, deltas, *ttl)) + encode_request(2, "get", (KEYS[-1],))
    peer.take(peer.protocol.receive(data, peer.now_ms))
    assert peer.replies == {}
    portion = other.call("count")
    assert 0 < portion <= max(TURN_ITEMS_MAX, PORTION_ITEMS_MIN), "one portion is done, which is a turn's work"
    turns = 1
    while 2 not in peer.replies:
        assert peer.protocol.wants_turn
        peer.turn()
        turns += 1
    assert turns >= COUNT // portion
    assert peer.replies == {1: [2] * COUNT, 2: 2}
    assert other.call("count") == COUNT
    assert (other.call("ttl", KEYS[-1]) == -1) is not bool(ttl)
    assert engine.stats.commands["apply"] == 1
    engine.invariants(peer.now_ms)


def test_items_that_fail_fail_alone_in_any_portion() -> None:
    peer = Peer(engine_of(max_counters=COUNT - 1))
    keys: list[Any] = list(KEYS)
    keys[0] = keys[-1] = b""
    keys[TURN_ITEMS_MAX] = 5
    results = peer.call("apply", keys, 1)
    assert [place for place, result in enumerate(results) if result != 1] == [0, TURN_ITEMS_MAX, COUNT - 1]
    assert peer.call("incr", b"a") == 1
    assert peer.call("incr", b"b") == 1
    assert peer.call("apply", KEYS, 1)[-1][0] == b"full"


def test_a_notification_is_done_to_its_end_and_not_answered() -> None:
    peer = Peer(engine_of())
    peer.take(peer.protocol.receive(encode_notification("apply", (KEYS, 1)), peer.now_ms))
    while peer.protocol.wants_turn:
        peer.turn()
    assert peer.protocol.idle
    assert peer.replies == {}
    assert peer.call("count") == COUNT


def test_it_waits_for_a_shard_that_is_held_in_the_middle() -> None:
    engine = engine_of(shards=1)
    peer = Peer(engine)
    peer.take(peer.protocol.receive(encode_request(1, "apply", (KEYS, 1)), peer.now_ms))
    locks = peer.protocol.session.cache.locks
    assert locks.acquire(0, "a worker")
    assert peer.turn() == []
    assert not peer.protocol.wants_turn
    locks.release(0, "a worker")
    assert peer.woken == 1
    while peer.protocol.wants_turn or 1 not in peer.replies:
        peer.turn()
    assert peer.replies[1] == [1] * COUNT
    assert locks.held == 0


@pytest.mark.parametrize("method", ["apply", "get_many", "take"])
def test_a_request_that_waited_for_a_shard_goes_on_although_its_turn_is_spent(method: str) -> None:
    """Decoding it has cost more than the turn, so the turn after the grant does nothing but pay."""
    engine = engine_of(shards=1)
    peer = Peer(engine)
    locks = peer.protocol.session.cache.locks
    assert locks.acquire(0, "a worker")
    params = (KEYS * 5, 1) if method == "apply" else (KEYS * 5,)
    peer.take(peer.protocol.receive(encode_request(1, method, params), peer.now_ms))
    assert peer.protocol.spent > 2 * TURN_ITEMS_MAX
    assert not peer.protocol.wants_turn
    locks.release(0, "a worker")
    assert peer.woken == 1
    peer.turn()
    while peer.protocol.wants_turn:
        peer.turn()
    assert len(peer.replies[1]) == 5 * COUNT
    assert peer.protocol.idle


def test_a_session_takes_it_along_to_its_next_connection() -> None:
    conversation = Conversation()
    (opened,) = decoded(conversation.send(encode_request(0, "hello", ({"session": True},))))
    data = encode_request(1, "apply", (KEYS, 1)) + encode_request(2, "incr", (KEYS[0],))
    assert conversation.protocol.receive(data, conversation.now_ms) == b""
    conversation.protocol.close(conversation.now_ms)
    conversation.protocol = ServerProtocol(conversation.engine, lambda: None)
    hello = {"session": opened[3][b"session"], "received": 0}
    resumed, applied = decoded(conversation.send(encode_request(0, "hello", (hello,))))
    assert resumed[3][b"accepted"] == 1, "the batch; what came behind it had not begun"
    assert applied == [1, 1, None, [1] * COUNT]
    ((_, _, _, counters),) = decoded(conversation.send(encode_request(3, "count", ())))
    assert counters == COUNT


def test_without_a_session_the_rest_goes_with_the_connection() -> None:
    engine = engine_of()
    peer, other = Peer(engine), Peer(engine)
    peer.take(peer.protocol.receive(encode_request(1, "apply", (KEYS, 1)), peer.now_ms))
    peer.protocol.close(peer.now_ms)
    assert 0 < other.call("count") < COUNT
    engine.invariants(peer.now_ms)


def test_what_is_no_message_behind_it_is_answered_after_it() -> None:
    conversation = Conversation()
    messages = decoded(conversation.send(encode_request(1, "apply", (KEYS, 1)) + b"\x94\x00\x02\xc0\xc0"))
    assert [message[1] for message in messages] == [1, 2]
    assert conversation.closing
