"""The server's half of a session, edge by edge: windows, resumption, holds and waits; and that nothing of it depends
on how the input was cut."""

from __future__ import annotations

from random import Random
from typing import Any

import pytest

from naught.wire import (
    PARKED_MAX,
    UNACKNOWLEDGED_BYTES_MAX,
    UNACKNOWLEDGED_MAX,
    encode_notification,
    encode_request,
)
from support.conversation import Conversation, byte_by_byte, decoded, engine_of, random_cuts

OPEN = encode_request(1, "hello", [{"session": True}])


def requests(method: str, *params: Any, start: int = 10, count: int = 1) -> bytes:
    """The same request some times over, with msgids from `start`."""
    return b"".join(encode_request(start + number, method, params) for number in range(count))


def replies_to(data: bytes, engine: Any = None) -> list[Any]:
    """What a conversation of these bytes gives, in one piece."""
    return decoded(Conversation(engine).send(data))


def codes(replies: list[Any]) -> list[str | None]:
    """Of replies: the code of the error, None where there is none."""
    return [None if error is None else error[0].decode() for _, _, error, _ in replies]


def resumption(msgid: int = 1, received: int = 0) -> bytes:
    """The hello that resumes the first session of an engine."""
    return encode_request(msgid, "hello", [{"session": b"session number 1", "received": received}])


# ---------------------------------------------------------------------------------------- windows


def full_windows() -> dict[str, list[bytes]]:
    """Conversations at the edge of a window, as the pieces that are sent together."""
    large = 2**62
    keys = [b"%d" % number for number in range(4_096)]
    # Lists of 7.5 KiB each, of which one turn makes several.
    held = requests("acquire", [[key, large, large] for key in keys[:500]])
    lists = requests("held", start=20_000, count=UNACKNOWLEDGED_BYTES_MAX // 7_500 + 20)
    batches = requests("apply", keys, 1, start=20_000, count=UNACKNOWLEDGED_BYTES_MAX // (4_096 * 9) + 5)
    woken = b"".join(
        requests("incr", b"k", start=start)
        + requests("wait_zero", b"k", None, start=start + 1)
        # Both are answered here: the one that waited first, so every third reply is one of those.
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


@pytest.mark.parametrize("name", full_windows())
def test_a_window_is_full_at_the_same_request_however_the_input_is_cut(name: str) -> None:
    pieces = full_windows()[name]
    whole = Conversation()
    right = [whole.send(piece) for piece in pieces]
    assert "busy" in codes(decoded(right[-1]))
    assert None in codes(decoded(right[-1]))
    one_by_one = Conversation()
    for piece, replies in zip(pieces, right, strict=True):
        if len(piece) < 100_000:
            assert one_by_one.send(*byte_by_byte(piece)) == replies
        else:
            assert one_by_one.send(*random_cuts(piece, Random(1))) == replies


# ---------------------------------------------------------------------------------------- expiry and who waits


def waiting_for_an_expired_counter() -> tuple[Conversation, Conversation]:
    """One waits for room on a counter that has just expired, which nobody has looked at; and somebody else."""
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


@pytest.mark.parametrize("ends", ["at its timeout", "cancelled"])
def test_a_wait_for_zero_that_ends_after_its_counter_expired_is_true(ends: str) -> None:
    here = Conversation()
    here.send(requests("incr", b"k", 1, 5) + requests("wait_zero", b"k", 8, start=20))
    here.now_ms += 10
    if ends == "at its timeout":
        here.engine.alarms.step(here.now_ms, 1)  # before anybody looks for expired counters
        assert decoded(here.send(requests("ping", start=30)))[0] == [1, 20, None, True]
    else:
        assert decoded(here.send(requests("cancel", 20, start=30)))[0] == [1, 20, None, True]


def test_nobody_is_said_to_sleep_before_the_expired_counter_was_found() -> None:
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
    """A client has to know beforehand. What cannot wait counts with the rest, and neither is in the other's way."""
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
