"""The server's half of a session in detail: windows, resumption, leases, holds and waits. None of it depends on how
the input is cut."""

from __future__ import annotations

import itertools
from random import Random
from typing import Any

import pytest

from naught.wire.codec import encode_notification, encode_request
from naught.wire.limits import PARKED_MAX, REPLY_BYTES_MAX, UNACKNOWLEDGED_BYTES_MAX, UNACKNOWLEDGED_MAX
from naught_server import commands
from naught_server.config import CachePolicy, ServerConfig
from naught_server.engine import Engine
from naught_server.limits import HELD_ITEMS_MAX, LEASE_MS_DEFAULT, LEASE_MS_MAX, LEASE_MS_MIN, TURN_ITEMS_MAX
from naught_server.sweep import ShardCompaction
from naught_server.waiters import SETTLED_AT_ONCE
from support.conversation import Conversation, byte_by_byte, decoded, engine_of, random_cuts
from support.seeds import seeds, slow

OPEN = encode_request(1, "hello", [{"session": True}])


def requests(method: str, *params: Any, start: int = 10, count: int = 1) -> bytes:
    """The same request several times, with msgids from `start`."""
    return b"".join(encode_request(start + number, method, params) for number in range(count))


def opened(engine: Engine | None = None) -> Conversation:
    """A conversation with a session."""
    here = Conversation(engine)
    here.send(OPEN)
    return here


def result_of(here: Conversation, method: str, *params: Any) -> Any:
    """The result of one more request, or the code of its error. Other replies are ignored."""
    for _, msgid, error, result in decoded(here.send(requests(method, *params, start=999_999))):
        if msgid == 999_999:
            return result if error is None else error[0].decode()
    raise AssertionError(f"no reply to {method}")


def codes(replies: list[Any]) -> list[str | None]:
    """For each reply the code of its error, or None."""
    return [None if error is None else error[0].decode() for _, _, error, _ in replies]


def resumption(msgid: int = 1, received: int = 0) -> bytes:
    """The hello that resumes the first session of an engine."""
    return encode_request(msgid, "hello", [{"session": b"session number 1", "received": received}])


# ---------------------------------------------------------------------------------------- windows


def full_windows() -> dict[str, list[bytes]]:
    """Inputs at the limit of a window, as pieces that are sent together."""
    large = 2**62
    keys = [b"%d" % number for number in range(4_096)]
    # Lists of 7.5 KiB each, of which one turn makes several.
    held = requests("acquire", [[key, large, large] for key in keys[:500]])
    lists = requests("held", start=20_000, count=UNACKNOWLEDGED_BYTES_MAX // 7_500 + 20)
    batches = requests("apply", keys, 1, start=20_000, count=UNACKNOWLEDGED_BYTES_MAX // (4_096 * 9) + 5)
    woken = b"".join(
        requests("incr", b"k", start=start)
        + requests("wait_zero", b"k", None, start=start + 1)
        # Both are answered here, the request that waited first. So every third reply is one to such a request.
        + requests("decr", b"k", start=start + 2)
        for start in range(10, 610, 3)
    )
    return {
        "many replies, some acknowledged": [
            OPEN + requests("incr", b"k", count=UNACKNOWLEDGED_MAX),
            encode_notification("ack", [UNACKNOWLEDGED_MAX // 2 + 100]),
            requests("incr", b"k", start=5_000, count=UNACKNOWLEDGED_MAX),
        ],
        "many replies, some of them to requests that waited": [
            OPEN + woken,
            encode_notification("ack", [250]) + requests("incr", b"k", start=5_000, count=UNACKNOWLEDGED_MAX),
        ],
        "long replies of a command": [OPEN + held + lists],
        "long replies of the fast loop": [OPEN + requests("apply", keys, large) + batches],
        "long replies, some acknowledged": [
            OPEN + held + lists,
            encode_notification("ack", [60]) + requests("held", start=30_000, count=70),
        ],
    }


SLOW_WINDOWS = {"long replies of a command", "long replies of the fast loop"}
"""The other one of long replies, of which some are acknowledged, begins with the same bytes."""


@pytest.mark.parametrize(
    "name", [each for name in full_windows() for each in (slow(name) if name in SLOW_WINDOWS else [name])]
)
def test_a_window_is_full_at_the_same_request_however_the_input_is_cut(name: str) -> None:
    pieces = full_windows()[name]
    whole = Conversation()
    right = [whole.send(piece) for piece in pieces]
    assert "busy" in codes(decoded(right[-1]))
    assert None in codes(decoded(right[-1]))
    one_by_one = Conversation()
    for piece, replies in zip(pieces, right, strict=True):
        if len(piece) < 20_000:
            assert one_by_one.send(*byte_by_byte(piece)) == replies
        else:
            assert one_by_one.send(*random_cuts(piece, Random(1))) == replies


@pytest.mark.parametrize("method", ["incr", "apply", "get", "set", "acquire", "held", "ping", "nothing"])
def test_a_full_window_answers_busy_and_executes_nothing(method: str) -> None:
    params: dict[str, tuple[Any, ...]] = {
        "incr": (b"k",),
        "apply": ([b"k"], 1),
        "get": (b"k",),
        "set": (b"k", 1),
        "acquire": ([[b"k", 1, 9]],),
        "held": (),
        "ping": (),
        "nothing": (),
    }
    here = opened()
    here.send(requests("ping", count=UNACKNOWLEDGED_MAX))
    expected = "unknown_method" if method == "nothing" else "busy"
    assert result_of(here, method, *params[method]) == expected
    here.send(encode_notification("ack", [UNACKNOWLEDGED_MAX + 1]))
    assert result_of(here, "count") == 0


def test_what_gives_back_passes_a_full_window() -> None:
    here = opened()
    here.send(requests("acquire", [[b"k", 1, 1]]) + requests("acquire", [[b"k", 1, 1]], None, start=20))
    here.send(requests("ping", start=30, count=UNACKNOWLEDGED_MAX))
    assert result_of(here, "ping") == "busy"
    assert result_of(here, "cancel", 20) is True
    assert result_of(here, "release", 1) == [0]
    assert result_of(here, "ack", 5) is None
    assert result_of(here, "bye") is None
    assert result_of(here, "ping") == b"pong"


def test_what_may_wait_needs_room_for_the_bytes_of_replies_too() -> None:
    here = opened()
    session = here.protocol.session
    while session.long_bytes <= UNACKNOWLEDGED_BYTES_MAX:
        session.reply(bytes(REPLY_BYTES_MAX))
    session.flush()
    here.send(requests("acquire", [[b"k", 1, 9]]))
    ((_, _, error, _),) = decoded(here.send(requests("wait_zero", b"k", None)))
    assert error == [
        b"busy",
        b"too many bytes of replies are not acknowledged; call ack with the number of those received",
    ]
    assert not session.parked
    here.send(encode_notification("ack", [session.replied]))
    assert decoded(here.send(requests("wait_zero", b"k", None)))[0][2:] == [None, True]


@pytest.mark.parametrize("with_session", [True, False])
def test_a_server_that_stops_executes_nothing_more(with_session: bool) -> None:
    engine = engine_of()
    here = opened(engine) if with_session else Conversation(engine)
    other = Conversation(engine)
    other.send(requests("incr", b"k"))
    assert here.send(requests("wait_zero", b"k", None, start=5)) == b""
    here.protocol.refuse()
    replies = decoded(here.protocol.turn(here.now_ms))
    replies += decoded(
        here.send(
            requests("incr", b"k")
            + encode_notification("incr", [b"k"])
            + encode_notification("ack", [0])
            + requests("nothing", start=11)
            + requests("hello", {}, start=12)
            + requests("ping", start=13)
        )
    )
    assert [msgid for _, msgid, _, _ in replies] == [5, 10, 11, 12, 13]
    assert set(codes(replies)) == {"shutting_down"}
    assert engine.stats.errors == {"shutting_down": 5}
    assert result_of(other, "get", b"k") == 1
    session = here.protocol.session
    counted = {"accepted": session.accepted, "replied": session.replied, "kept": session.kept_bytes > 0}
    assert counted == {"accepted": 4, "replied": 4, "kept": with_session}, "hello stands outside of the streams"


def test_at_twice_its_window_a_session_ends() -> None:
    engine = engine_of()
    here = opened(engine)
    here.send(requests("acquire", [[b"k", 1, 1]]))
    replies = decoded(here.send(requests("ping", start=20, count=3 * UNACKNOWLEDGED_MAX)))
    assert len(replies) == 2 * UNACKNOWLEDGED_MAX
    assert here.closing
    other = Conversation(engine)
    assert codes(decoded(other.send(resumption()))) == ["no_session"]
    assert result_of(other, "get", b"k") == 0


def test_waits_are_counted_apart_up_to_their_own_bound() -> None:
    here = opened()
    here.send(requests("acquire", [[b"k", 1, 1]]))
    here.send(requests("acquire", [[b"k", 1, 1]], None, start=20, count=PARKED_MAX))
    assert len(here.protocol.session.parked) == PARKED_MAX
    assert result_of(here, "acquire", [[b"k", 1, 1]], None) == "busy"
    assert result_of(here, "wait_zero", b"k", None) == "busy"
    assert result_of(here, "acquire", [[b"k", 1, 1]]) == [False, [1], None], (
        "an acquire that does not wait has no limit"
    )
    # With the most waiting requests it can still release, and the next waiter is granted.
    replies = decoded(here.send(requests("release", 1, start=15)))
    assert replies == [[1, 20, None, [True, [1], 2]], [1, 15, None, [0]]]
    assert result_of(here, "wait_zero", b"k", None) == "busy", "the wait that is over was not acknowledged"
    here.send(encode_notification("ack", [7]))
    here.send(requests("wait_zero", b"k", None, start=16))
    assert len(here.protocol.session.parked) == PARKED_MAX


def test_waits_that_are_over_leave_the_window_alone() -> None:
    here = opened()
    here.send(requests("incr", b"k") + requests("wait_zero", b"k", 1, start=20, count=3_000))
    here.now_ms += 1
    here.engine.advance(here.now_ms, 200_000)
    assert len(decoded(here.send(b"", requests("ping")))) == 3_001
    assert here.protocol.session.unacknowledged() == 2


def test_without_a_session_replies_are_neither_acknowledged_nor_kept() -> None:
    here = Conversation()
    for start in range(0, 3 * PARKED_MAX, PARKED_MAX):
        here.send(requests("incr", b"k") + requests("wait_zero", b"k", None, start=start, count=PARKED_MAX))
        assert result_of(here, "wait_zero", b"k", None) == "busy"
        here.send(requests("decr", b"k", 9))
        while here.protocol.session.parked:  # a step answers so many and no more
            before = len(here.protocol.session.parked)
            here.engine.advance(here.now_ms, 100_000)
            here.send(b"")
            assert len(here.protocol.session.parked) < before
    assert here.protocol.session.kept_bytes == 0


# ---------------------------------------------------------------------------------------- expiry and waiters


def waiting_for_an_expired_counter() -> tuple[Conversation, Conversation]:
    """A request waits for room on a counter that has just expired and is still in its table. Another client acts."""
    engine = engine_of()
    first, second = Conversation(engine), Conversation(engine)
    first.send(OPEN + requests("incr", b"k", 1, 5) + requests("acquire", [[b"k", 1, 1]], None, start=20))
    assert decoded(first.send(requests("ping", start=30)))[0][1] == 30
    first.now_ms += 5
    second.now_ms += 5
    return first, second


@pytest.mark.parametrize("cut", [lambda data: [data], byte_by_byte])
def test_who_waits_for_an_expired_counter_comes_before_what_arrives(cut: Any) -> None:
    first, second = waiting_for_an_expired_counter()
    data = requests("get", b"j", start=1) + requests("incr", b"k", start=2)
    assert decoded(second.send(*cut(data))) == [[1, 1, None, 0], [1, 2, None, 2]]
    assert decoded(first.send(requests("ping", start=40)))[0] == [1, 20, None, [True, [1], 1]]


def test_and_before_a_portion_of_a_batch_that_began_earlier() -> None:
    first, second = waiting_for_an_expired_counter()
    second.now_ms -= 5
    others = 2 * TURN_ITEMS_MAX
    data = requests("apply", [b"j"] * others + [b"k"], 1)
    assert second.protocol.receive(data, second.now_ms) == b""
    second.now_ms += 5
    ((_, _, _, values),) = decoded(second.send(b""))
    assert values == [*range(1, others + 1), 2]
    assert decoded(first.send(requests("ping", start=40)))[0] == [1, 20, None, [True, [1], 1]]


@pytest.mark.parametrize("ends", ["at its timeout", "cancelled"])
def test_a_wait_for_zero_that_ends_after_its_counter_expired_is_true(ends: str) -> None:
    here = Conversation()
    here.send(requests("incr", b"k", 1, 5) + requests("wait_zero", b"k", 8, start=20))
    here.now_ms += 10
    if ends == "at its timeout":
        here.engine.timers.fire_due(here.now_ms, 1)  # before expired counters are taken out
        assert decoded(here.send(requests("ping", start=30)))[0] == [1, 20, None, True]
    else:
        assert decoded(here.send(requests("cancel", 20, start=30)))[0] == [1, 20, None, True]


def test_invariants_hold_before_an_expired_counter_is_taken_out() -> None:
    first, _ = waiting_for_an_expired_counter()
    first.engine.invariants(first.now_ms)


# ---------------------------------------------------------------------------------------- resumption


@pytest.mark.parametrize(("received", "code"), [(2, "invalid"), (0, "no_session")])
def test_a_refused_resumption_leaves_the_connection_alone(received: int, code: str) -> None:
    engine = engine_of()
    first, second = Conversation(engine), Conversation(engine)
    first.send(OPEN + requests("incr", b"k"), encode_notification("ack", [1]))
    assert codes(decoded(second.send(resumption(received=received)))) == [code]
    assert not first.closing
    assert decoded(first.send(requests("incr", b"k", start=20))) == [[1, 20, None, 2]]


def test_a_takeover_drops_what_the_old_connection_has_read() -> None:
    engine = engine_of()
    old, new = opened(engine), Conversation(engine)
    old.protocol.feed(requests("incr", b"k"))
    (hello,) = decoded(new.send(resumption()))
    assert hello[3][b"accepted"] == 0
    assert old.protocol.aborted
    assert old.send(requests("incr", b"k")) == b""
    assert result_of(new, "get", b"k") == 0


def test_a_takeover_from_a_connection_that_waits_for_a_shard() -> None:
    engine = engine_of(shards=1)
    cache = engine.store.caches["default"]
    old, new = opened(engine), Conversation(engine)
    old.send(requests("incr", b"k", 4))
    work = ShardCompaction.begin(cache, 0)
    assert work is not None
    assert old.send(requests("incr", b"k", start=11), requests("incr", b"k", start=12)) == b""
    assert cache.locks.queue_length(0) == 1
    (hello, first) = decoded(new.send(resumption()))
    assert hello[3][b"accepted"] == 1, "a request that waits for a shard was not accepted"
    assert first == [1, 10, None, 4]
    assert cache.locks.queue_length(0) == 0
    while not work.step(10)[1]:
        pass
    assert cache.locks.held == 0
    assert result_of(new, "get", b"k") == 4


def test_replies_made_without_a_connection_come_first_and_in_order() -> None:
    engine = engine_of()
    here, other = opened(engine), Conversation(engine)
    here.send(requests("incr", b"k", 2) + requests("wait_zero", b"k", None, start=11))
    here.send(requests("acquire", [[b"k", 1, 2]], None, start=12))
    here.reconnect()
    other.send(requests("decr", b"k", 1, start=1) + requests("decr", b"k", 2, start=2))
    replies = decoded(here.send(resumption(received=1) + requests("ping", start=13)))
    assert replies[0][3][b"accepted"] == 3
    # The first decrement granted the waiter; the second evicted the counter and woke the wait for zero.
    assert [[msgid, result] for _, msgid, _, result in replies[1:]] == [
        [12, [True, [2], 1]],
        [11, True],
        [13, b"pong"],
    ]


def test_the_same_replies_come_again_as_often_as_they_are_lost() -> None:
    here = opened()
    first = here.send(requests("incr", b"k", count=50) + requests("get_many", [b"k"] * 100, start=80))
    for received in (0, 0, 7, 7, 50):
        here.reconnect()
        again = decoded(here.send(resumption(received=received)))
        assert again[1:] == decoded(first)[received:]
    here.reconnect()
    assert codes(decoded(here.send(resumption(received=49)))) == ["no_session"]


@pytest.mark.parametrize("method", ["top", "count"])
def test_slices_go_on_with_the_next_connection(method: str, monkeypatch: pytest.MonkeyPatch) -> None:
    monkeypatch.setattr(commands, "SLICE_ENTRIES", 10)
    here = opened(engine_of(shards=64))
    here.send(requests("apply", [b"k%d" % number for number in range(500)], 1))
    params = (1, b"k") if method == "top" else (b"k",)
    assert here.protocol.receive(requests(method, *params, start=11), here.now_ms) == b""
    assert here.protocol.wants_turn
    here.reconnect()
    replies = decoded(here.send(resumption(received=1)))
    assert replies[0][3][b"accepted"] == 2
    assert replies[1][1:3] == [11, None]
    assert replies[1][3] == ([[b"k0"], [1]] if method == "top" else 500)


def test_a_session_is_not_resumed_where_work_is_under_way() -> None:
    engine = engine_of()
    first, second = opened(engine), Conversation(engine)
    assert codes(decoded(first.send(resumption()))) == ["invalid"], "it has that session already"
    second.send(requests("incr", b"k") + requests("wait_zero", b"k", None, start=11))
    assert codes(decoded(second.send(resumption()))) == ["invalid"]
    second.send(requests("cancel", 11))
    assert codes(decoded(second.send(resumption()))) == [None]


# ---------------------------------------------------------------------------------------- leases


@pytest.mark.parametrize(
    ("asked", "lease_ms"),
    [
        (None, LEASE_MS_DEFAULT),
        (1, LEASE_MS_MIN),
        (LEASE_MS_MIN, LEASE_MS_MIN),
        (LEASE_MS_MIN + 1, LEASE_MS_MIN + 1),
        (LEASE_MS_MAX, LEASE_MS_MAX),
        (2**63 - 1, LEASE_MS_MAX),
    ],
)
def test_a_lease_is_moved_into_its_bounds_and_kept_to_the_millisecond(asked: int | None, lease_ms: int) -> None:
    words = {"session": True} if asked is None else {"session": True, "lease_ms": asked}
    here = Conversation()
    ((_, _, _, answer),) = decoded(here.send(encode_request(1, "hello", [words])))
    assert answer[b"lease_ms"] == lease_ms
    here.reconnect()
    here.now_ms += lease_ms - 1
    here.engine.advance(here.now_ms, 10)
    assert codes(decoded(here.send(resumption()))) == [None]
    here.reconnect()
    here.now_ms += lease_ms
    here.engine.advance(here.now_ms, 10)
    assert codes(decoded(here.send(resumption()))) == ["no_session"]


def test_no_lease_runs_while_there_is_a_connection() -> None:
    here = opened()
    here.reconnect()
    here.send(resumption())
    here.now_ms += 100 * LEASE_MS_DEFAULT
    here.engine.advance(here.now_ms, 10)
    assert result_of(here, "ping") == b"pong"
    assert len(here.engine.timers) == 0


def test_there_are_so_many_sessions_and_no_more() -> None:
    config = ServerConfig(caches={"default": CachePolicy("default")}, connections_max=2)
    numbers = itertools.count(1)
    engine = Engine(config, new_session_id=lambda: b"session number%2d" % next(numbers))
    all_of_them = [opened(engine) for _ in range(4)]
    fifth = Conversation(engine)
    assert codes(decoded(fifth.send(OPEN))) == ["busy"]
    assert result_of(fifth, "acquire", [[b"k", 1, 1]]) == "no_session"
    all_of_them[0].send(requests("bye"))
    assert codes(decoded(fifth.send(OPEN))) == [None]


def small_engine(**settings: Any) -> Engine:
    """An engine with room for eight sessions, three of them from one address."""
    numbers = itertools.count(1)
    return Engine(
        ServerConfig(**{"connections_max": 4, "sessions_per_address_max": 3, **settings}),
        new_session_id=lambda: b"session number%2d" % next(numbers),
    )


def opens(here: Conversation) -> str | None:
    """Open a session; None, or the code of the error."""
    ((_, _, error, _),) = decoded(here.send(OPEN))
    here.engine.invariants(here.now_ms)
    return None if error is None else error[0].decode()


def test_an_address_has_its_share_of_the_sessions() -> None:
    engine = small_engine()
    of_one = [Conversation(engine, address="10.0.0.1") for _ in range(4)]
    assert [opens(each) for each in of_one] == [None, None, None, "busy"]
    assert result_of(of_one[3], "incr", b"k") == 1, "a connection without a session goes on"
    assert opens(Conversation(engine, address="10.0.0.2")) is None
    of_one[0].send(requests("bye"))
    assert opens(of_one[3]) is None
    assert opens(of_one[0]) == "busy"


def test_a_share_is_kept_while_a_session_has_no_connection() -> None:
    engine = small_engine()
    for _ in range(3):
        here = Conversation(engine, address="10.0.0.1")
        assert opens(here) is None
        here.send(requests("ping"))
        here.reconnect()
    assert opens(Conversation(engine, address="10.0.0.1")) == "busy"
    engine.advance(here.now_ms + LEASE_MS_DEFAULT, 100)
    assert opens(Conversation(engine, address="10.0.0.1")) is None


def test_no_address_no_share() -> None:
    """A Unix socket, whose file says who may connect, and `memory://`."""
    engine = small_engine()
    assert [opens(Conversation(engine)) for _ in range(9)] == [None] * 8 + ["busy"]


def test_a_tenth_of_all_is_the_share() -> None:
    engine = Engine(ServerConfig(connections_max=200))
    peers = [Conversation(engine, address="10.0.0.1") for _ in range(41)]
    assert [codes(decoded(peer.send(OPEN))) for peer in peers] == [[None]] * 40 + [["busy"]]


def test_sessions_that_were_never_used_go_first() -> None:
    engine = small_engine(sessions_per_address_max=8)
    used, unused = [], []
    for number in range(8):
        here = Conversation(engine, address=f"10.0.0.{number % 2}")
        assert opens(here) is None
        if number >= 4:
            here.send(requests("acquire", [[b"k", 1, 9]]))
        (used if number >= 4 else unused).append((here, number + 1))
    for here, _ in used + unused[1:]:
        here.reconnect()
    opened_now = [opens(Conversation(engine, address="10.0.0.9")) for _ in range(4)]
    assert opened_now == [None] * 3 + ["busy"], "one that has a connection is not taken from its client"
    assert result_of(unused[0][0], "acquire", [[b"k", 1, 9]])[0] is True
    for here, number in unused[1:]:
        hello = {"session": b"session number%2d" % number, "received": 0}
        assert codes(decoded(here.send(encode_request(1, "hello", [hello])))) == ["no_session"]
    for here, number in used:
        hello = {"session": b"session number%2d" % number, "received": 1}
        assert codes(decoded(here.send(encode_request(1, "hello", [hello])))) == [None]
    engine.invariants(used[0][0].now_ms)


def test_within_a_share_too_sessions_that_were_never_used_go_first() -> None:
    engine = small_engine()
    other = Conversation(engine, address="10.0.0.2")
    assert opens(other) is None
    other.reconnect()
    peers = [Conversation(engine, address="10.0.0.1") for _ in range(3)]
    assert [opens(peer) for peer in peers] == [None] * 3
    peers[1].reconnect()
    assert opens(Conversation(engine, address="10.0.0.1")) is None
    assert opens(Conversation(engine, address="10.0.0.1")) == "busy"
    assert codes(decoded(other.send(resumption()))) == [None], "the sessions of others stay"


def test_a_session_that_was_resumed_is_not_idle() -> None:
    engine = small_engine(connections_max=1)
    here = Conversation(engine, address="10.0.0.1")
    assert opens(here) is None
    here.reconnect()
    here.send(resumption())
    assert opens(Conversation(engine, address="10.0.0.2")) is None
    assert opens(Conversation(engine, address="10.0.0.3")) == "busy"
    assert result_of(here, "ping") == b"pong"


# ---------------------------------------------------------------------------------------- holds


def test_held_comes_in_pages_and_a_hold_that_fits_none_ends_no_list() -> None:
    here = Conversation()
    here.send(OPEN)
    long_keys = [[b"%0512d" % number, 1, 1] for number in range(600)]
    for msgid, items in enumerate([[[b"a", 1, 9]], long_keys[:300], long_keys[300:], [[b"a", 2, 9]]], 10):
        here.send(requests("acquire", items, start=msgid))
    here.send(requests("acquire", [[b"%0500d" % number, 1, 1] for number in range(600)], start=20))
    here.send(requests("acquire", [[b"b", 1, 1]], start=21))

    def held(after: int) -> Any:
        ((_, _, error, result),) = decoded(here.send(requests("held", after, start=30)))
        return error[0] if error else [number for number, _ in result]

    assert held(0) == [1, 2]
    assert held(2) == [3, 4]
    assert held(4) == b"too_large"
    assert held(5) == [6]
    assert held(6) == []


@pytest.mark.parametrize("method", ["acquire", "wait_zero"])
def test_what_may_wait_counts_as_waiting_also_where_it_is_answered_at_once(method: str) -> None:
    """A client has to know the limit beforehand. Requests that cannot wait have the other limit."""
    conversation = Conversation()
    conversation.send(OPEN)

    def codes_of(count: int, wait_ms: int | None) -> list[str | None]:
        keys = [b"%d %d" % (count, number) for number in range(count)]
        subjects = [[[key, 1, 1]] for key in keys] if method == "acquire" else keys
        return codes(decoded(conversation.send(*(requests(method, subject, wait_ms) for subject in subjects))))

    assert codes_of(3 * UNACKNOWLEDGED_MAX, 60_000) == [None] * 3 * UNACKNOWLEDGED_MAX
    assert codes_of(UNACKNOWLEDGED_MAX + 2, 0) == [None] * UNACKNOWLEDGED_MAX + ["busy"] * 2
    left = PARKED_MAX - 3 * UNACKNOWLEDGED_MAX
    assert codes_of(left + 3, None) == [None] * left + ["busy"] * 3
    acknowledged = 4 * UNACKNOWLEDGED_MAX
    conversation.send(encode_notification("ack", [acknowledged]))
    assert codes_of(2, None) == [None, None]
    assert codes_of(1, 0) == [None]


def test_a_session_holds_so_much_and_no_more() -> None:
    here = opened()
    for start in range(0, HELD_ITEMS_MAX, 1_024):
        keys = [[b"%d" % (start + number), 1, 1] for number in range(1_024)]
        here.send(requests("acquire", keys), encode_notification("ack", [here.protocol.session.replied + 1]))
    assert result_of(here, "acquire", [[b"k", 1, 1]]) == "busy"
    assert result_of(here, "release", 1, [[b"7", 1]]) == [0]
    assert result_of(here, "acquire", [[b"k", 1, 2], [b"k", 1, 2]])[0] is True
    assert result_of(here, "acquire", [[b"k", 1, 9]], 5) == "busy"


@pytest.mark.parametrize("method", ["clear", "take", "set", "decr", "expire"])
@pytest.mark.parametrize("by_whom", ["the same session", "another session"])
def test_a_late_release_leaves_the_next_life_alone(method: str, by_whom: str) -> None:
    params: dict[str, tuple[Any, ...]] = {
        "clear": (),
        "take": ([b"k"],),
        "set": (b"k", 0),
        "decr": (b"k", 9),
        "expire": (b"k", 1),
    }
    engine = engine_of()
    here = opened(engine)
    other = here if by_whom == "the same session" else opened(engine)
    here.send(requests("acquire", [[b"k", 2, 9], [b"j", 1, 9]]))
    here.send(requests(method, *params[method]))
    here.now_ms += 1
    other.now_ms = here.now_ms
    assert result_of(other, "acquire", [[b"k", 1, 1]]) == [True, [1], 2]
    if method == "clear":
        assert result_of(here, "release", 1) == "not_held"
    else:
        assert result_of(here, "release", 1, [[b"k", 1]]) == "not_held"
        assert result_of(here, "held") == [[1, [[b"j", 1]]]] + ([[2, [[b"k", 1]]]] if other is here else [])
        assert result_of(here, "release", 1) == [0], "only the other counter is left of it"
    assert result_of(here, "release", 1) == "not_held"
    assert result_of(other, "get", b"k") == 1
    assert result_of(other, "release", 2) == [0]


def test_a_release_after_an_expiry_that_was_not_found_yet() -> None:
    engine = engine_of(shards=2)
    cache = engine.store.caches["default"]
    key = next(b"%d" % number for number in range(99) if cache.shard_of(b"%d" % number) == 1)
    here = opened(engine)
    here.send(requests("acquire", [[key, 1, 1]]) + requests("expire", key, 5, start=11))
    assert ShardCompaction.begin(cache, 0) is not None, "no counter is taken out while a shard is held"
    here.now_ms += 5
    assert result_of(here, "held") == []
    assert result_of(here, "release", 1) == "not_held"
    assert result_of(here, "acquire", [[key, 1, 1]]) == [True, [1], 2]


def test_parts_of_a_hold_are_released_until_nothing_is_left() -> None:
    here = opened()
    here.send(requests("incr", b"k", 5) + requests("acquire", [[b"k", 2, 9], [b"j", 1, 9], [b"k", 1, 9]]))
    assert result_of(here, "release", 1, [[b"k", 2], [b"k", 2]]) == "not_held", "amounts of one key are added up"
    assert result_of(here, "release", 1, [[b"k", 1], [b"j", 1], [b"k", 1]]) == [6, 0, 6]
    assert result_of(here, "release", 1, [[b"j", 1]]) == "not_held"
    assert result_of(here, "held") == [[1, [[b"k", 1]]]]
    assert result_of(here, "release", 1, [[b"k", 1]]) == [5]
    assert result_of(here, "release", 1, [[b"k", 1]]) == "not_held"
    assert here.protocol.session.holds.items == 0


def test_what_was_taken_away_meanwhile_is_not_given_back_from_others() -> None:
    here = opened()
    here.send(requests("acquire", [[b"k", 5, 9]]) + requests("decr", b"k", 3, start=11))
    assert result_of(here, "release", 1) == [0], "a decrement stops at zero"


def test_an_ended_session_gives_back_in_bounded_steps() -> None:
    engine = engine_of()
    here, other = opened(engine), Conversation(engine)
    key = [[b"k", 1, 10**6]]
    holds = 6_000
    for _ in range(0, holds, 1_000):
        here.send(requests("acquire", key, count=1_000))
        here.send(encode_notification("ack", [here.protocol.session.replied]))
    assert result_of(other, "get", b"k") == holds
    here.send(requests("bye"))
    left = result_of(other, "get", b"k")
    assert holds - SETTLED_AT_ONCE <= left < holds
    steps = 0
    while left:
        done = engine.advance(here.now_ms, 2_000)
        after = result_of(other, "get", b"k")
        assert 0 < left - after <= done <= 2_000 + 2
        left = after
        steps += 1
        engine.invariants(here.now_ms)
    assert steps >= holds // 2_000
    assert not engine.sessions.unfinished


def test_many_ended_sessions_take_turns_and_one_that_waits_for_a_shard_stops_no_other() -> None:
    engine = engine_of(shards=2)
    cache = engine.store.caches["default"]
    keys = [next(b"%d" % n for n in range(99) if cache.shard_of(b"%d" % n) == shard) for shard in range(2)]
    both = [opened(engine) for _ in keys]
    for here, key in zip(both, keys, strict=True):
        here.send(requests("acquire", [[key, 1, 1]]))
    work = ShardCompaction.begin(cache, 0)
    assert work is not None
    for here in both:
        here.send(requests("bye"))
    assert cache.peek(keys, both[0].now_ms) == [1, 0]
    assert engine.sessions.unfinished
    while not work.step(10)[1]:
        pass
    engine.advance(both[0].now_ms, 10)
    assert cache.peek(keys, both[0].now_ms) == [0, 0]


# ---------------------------------------------------------------------------------------- waits


def test_the_msgid_of_a_request_that_waits_is_not_taken_twice() -> None:
    here = opened()
    here.send(requests("incr", b"k") + requests("wait_zero", b"k", None, start=20))
    assert codes(decoded(here.send(requests("wait_zero", b"k", None, start=20)))) == ["invalid"]
    assert decoded(here.send(requests("get", b"k", start=20))) == [[1, 20, None, 1]], (
        "the server does not check whether a msgid is in use"
    )
    assert decoded(here.send(requests("decr", b"k", start=11))) == [[1, 20, None, True], [1, 11, None, 0]]
    assert result_of(here, "cancel", 20) is False


@pytest.mark.parametrize(
    ("items", "granted"),
    [
        ([[b"k", 2, 1]], [False, [0], None]),
        ([[b"k", 1, 1], [b"k", 1, 9]], [False, [0, 0], None]),
        ([[b"j", 1, 9], [b"k", 1, 0]], [False, [0, 0], None]),
        ([[b"k", 1, 1]], [True, [1], 1]),
        ([[b"k", 2**63 - 1, 2**63 - 1], [b"k", 1, 2**63 - 1]], [False, [0, 0], None]),
    ],
)
def test_what_could_never_be_granted_is_answered_at_once(items: list[Any], granted: Any) -> None:
    here = opened()
    assert result_of(here, "acquire", items, None) == granted


def test_who_does_not_wait_is_not_granted_while_anyone_queues() -> None:
    engine = engine_of()
    here, other = opened(engine), opened(engine)
    here.send(requests("incr", b"k", 2) + requests("acquire", [[b"k", 2, 3]], None, start=20))
    assert result_of(other, "acquire", [[b"k", 1, 3]]) == [False, [2], None]
    assert result_of(other, "try_incr", [[b"j", 1, 9], [b"k", 1, 3]]) == [False, [0, 2]]
    assert result_of(other, "incr", b"k") == 3, "incr does not queue"
    assert result_of(here, "cancel", 20) is True
    assert result_of(other, "acquire", [[b"k", 1, 4]]) == [True, [4], 1]


def test_a_wait_ends_with_full_and_changes_nothing() -> None:
    here = opened(engine_of(max_counters=2))
    here.send(requests("apply", [b"k", b"j"], 1))
    here.send(requests("acquire", [[b"k", 1, 1], [b"new", 1, 1]], None, start=20))
    here.send(requests("acquire", [[b"k", 1, 1]], None, start=21))
    replies = decoded(here.send(requests("decr", b"k", start=11)))
    assert [msgid for _, msgid, _, _ in replies] == [20, 21, 11]
    assert codes(replies) == ["full", None, None]
    assert result_of(here, "get_many", [b"k", b"j", b"new"]) == [1, 1, 0]


@pytest.mark.parametrize("cut", [lambda data: [data], byte_by_byte, lambda data: random_cuts(data, Random(7))])
def test_items_of_a_batch_wake_who_waits_one_by_one(cut: Any) -> None:
    engine = engine_of()
    here, other = opened(engine), Conversation(engine)
    here.send(requests("incr", b"k", 3))
    here.send(requests("acquire", [[b"k", 1, 3]], None, start=20, count=3))
    data = requests("apply", [b"k"] * 4, [-1, -1, 5, -1]) + requests("apply", [b"k", b"k"], -3, start=11)
    assert decoded(other.send(*cut(data))) == [
        # After each of the first two a waiter is granted; the fourth leaves no room.
        [1, 10, None, [2, 2, 8, 7]],
        [1, 11, None, [4, 1]],
    ]
    assert [[msgid, result[1]] for _, msgid, _, result in decoded(here.send(b""))] == [
        [20, [3]],
        [21, [3]],
        [22, [2]],
    ]


def test_notifications_are_executed_and_do_not_wait() -> None:
    here = Conversation()
    assert here.send(encode_notification("hello", [{"session": True}])) == b""
    assert here.protocol.session.id is not None
    session = here.protocol.session
    here.send(encode_notification("acquire", [[[b"k", 1, 1]]]))
    here.send(encode_notification("acquire", [[[b"k", 1, 1]], None]))
    here.send(encode_notification("wait_zero", [b"k", None]))
    here.send(encode_notification("release", [99]))
    assert (len(session.holds), len(session.parked)) == (1, 0)
    assert not here.engine.store.caches["default"].waiters.queues.by_key
    here.send(requests("wait_zero", b"k", None, start=20))
    assert [msgid for _, msgid, _, _ in decoded(here.send(encode_notification("cancel", [20])))] == [20]
    assert (session.accepted, session.replied) == (1, 1)
    here.send(encode_notification("ack", [1]))
    assert session.acknowledged == 1
    here.send(encode_notification("release", [1]))
    assert result_of(here, "get", b"k") == 0
    here.send(encode_notification("bye", []))
    assert here.protocol.session.id is None


def test_the_list_of_sessions_never_shows_an_id() -> None:
    engine = engine_of()
    everyone = [opened(engine) for _ in range(20)]
    everyone[3].send(requests("acquire", [[b"k", 1, 1]]))
    everyone[4].send(requests("wait_zero", b"k", None))
    everyone[5].reconnect()
    listed = everyone[0].send(requests("sessions", 0) + requests("info", start=11))
    assert b"session number" not in listed
    ((_, _, _, sessions), _) = decoded(listed)
    assert [each[b"session"] for each in sessions] == list(range(1, 21))
    assert [each[b"holds"] for each in sessions[2:5]] == [0, 1, 0]
    assert [each[b"parked"] for each in sessions[3:6]] == [0, 1, 0]
    assert [each[b"connected"] for each in sessions[4:7]] == [True, False, True]
    assert [each[b"session"] for each in result_of(everyone[0], "sessions", 18)] == [19, 20]


# ---------------------------------------------------------------------------------------- determinism


def conversation_of(seed: int) -> list[tuple[int, int, str, bytes]]:
    """Bytes of three peers and the events between them, from one random source."""
    random = Random(seed)
    script: list[tuple[int, int, str, bytes]] = []
    received = [0, 0, 0]
    for step in range(150):
        peer = random.randrange(3)
        what = random.random()
        if what < 0.06:
            hello = {"session": b"session number%2d" % (peer + 1), "received": received[peer]}
            script.append((peer, 0, "resume", encode_request(1, "hello", [hello])))
            continue
        data = b""
        for number in range(random.choice([1, 3, 10])):
            key = random.choice([b"a", b"b"])
            method, params = random.choice(
                [
                    ("incr", [key]),
                    ("decr", [key, random.choice([1, 5])]),
                    ("apply", [[b"a", b"b", key], random.choice([-1, 1])]),
                    ("acquire", [[[key, 1, 2]], random.choice([0, 7, None])]),
                    ("acquire", [[[b"a", 1, 2], [b"b", 1, 2]], None]),
                    ("release", [random.randrange(step + 2)]),
                    ("wait_zero", [key, random.choice([3, None])]),
                    ("cancel", [random.randrange(10, 10 + 10 * step + 1)]),
                    ("expire", [key, 2]),
                    ("held", []),
                ]
            )
            data += encode_request(10 + 10 * step + number, method, params)
        script.append((peer, random.choice([0, 0, 1, 3]), "send", data))
    return script


def replay(script: list[tuple[int, int, str, bytes]], cut: Any) -> list[bytes]:
    """By peer: all bytes it was sent."""
    engine = engine_of()
    peers = [opened(engine) for _ in range(3)]
    replies = [b"", b"", b""]
    now_ms = peers[0].now_ms
    for peer, passed_ms, kind, data in script:
        now_ms += passed_ms
        for each in peers:
            each.now_ms = now_ms
        if passed_ms:
            engine.advance(now_ms, 50)
        if kind == "resume":
            peers[peer].reconnect()
        replies[peer] += peers[peer].send(*cut(data))
        for at, each in enumerate(peers):
            replies[at] += each.send(b"") if each.protocol.wants_turn else b""
        engine.invariants(now_ms)
    return replies


@pytest.mark.parametrize("seed", seeds([0], [1, 2], range(3, 8)))
def test_the_same_bytes_and_times_give_the_same_replies_however_cut(seed: int) -> None:
    script = conversation_of(seed)
    right = replay(script, lambda data: [data])
    assert replay(script, lambda data: [data]) == right
    assert replay(script, byte_by_byte) == right
    assert replay(script, lambda data: random_cuts(data, Random(seed))) == right
