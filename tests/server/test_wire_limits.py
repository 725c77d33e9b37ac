"""Every limit of the wire by number: the largest that is allowed, and one more. PROTOCOL.md has the same numbers."""

from __future__ import annotations

from typing import Any

import pytest

from naught.wire import limits
from naught.wire.codec import encode, encode_notification, encode_request
from naught_server import session as session_module
from naught_server import walk
from naught_server.access import Rights
from naught_server.limits import TURN_ITEMS_MAX
from support.conversation import Conversation, decoded, engine_of

KIB = 1 << 10
MIB = 1 << 20


def ask(conversation: Conversation, method: str, *params: Any) -> Any:
    """The result of a call, or the code of its error."""
    ((kind, msgid, error, result),) = decoded(conversation.send(encode_request(1, method, params)))
    assert (kind, msgid) == (1, 1)
    return result if error is None else error[0].decode()


@pytest.mark.parametrize(
    ("name", "value"),
    [
        ("KEY_BYTES_MAX", 512),
        ("VALUE_MAX", 2**63 - 1),
        ("BATCH_ITEMS_MAX", 4_096),
        ("ITEMS_AT_ONCE_MAX", 1_024),
        ("MESSAGE_BYTES_MAX", 1_048_576),
        ("REPLY_BYTES_MAX", 262_144),
        ("CURSOR_BYTES_MAX", 516),
        ("MSGID_MAX", 4_294_967_295),
        ("PARAMS_MAX", 5),
        ("TTL_MS_MAX", 315_360_000_000),
        ("WAIT_MS_MAX", 86_400_000),
        ("SESSION_ID_BYTES", 16),
        ("SERVER_TAG_BYTES", 4),
        ("NAME_BYTES_MAX", 128),
        ("UNACKNOWLEDGED_MAX", 1_024),
        ("UNACKNOWLEDGED_BYTES_MAX", 4_194_304),
        ("PARKED_MAX", 8_192),
        ("PARKED_ITEMS_MAX", 65_536),
        ("SLOW_TURNS_MAX", 128),
        ("PEER_SILENT_S", 5),
        ("PEER_PROBES", 5),
        ("PEER_UNACKNOWLEDGED_MS", 10_000),
        ("DEFAULT_PORT", 6480),
        ("DEFAULT_CACHE", "default"),
    ],
)
def test_numbers(name: str, value: object) -> None:
    assert getattr(limits, name) == value


def test_numbers_of_the_walk() -> None:
    assert walk.SMALL_BYTES == 8_192
    assert walk.SMALL_ELEMENTS == 64
    assert walk.METHOD_BYTES_MAX == 64
    assert walk.ITEM_PARTS_MAX == 3


def test_numbers_of_a_session() -> None:
    assert session_module.SLICES_MAX == 8
    assert TURN_ITEMS_MAX == 250


BATCHES = [
    ("apply", lambda keys: (keys, 1)),
    ("get_many", lambda keys: (keys,)),
    ("take", lambda keys: (keys,)),
]


@pytest.mark.parametrize(("method", "params_of"), BATCHES, ids=[method for method, _ in BATCHES])
def test_items_of_a_call(method: str, params_of: Any) -> None:
    conversation = Conversation()
    keys = [b"%d" % number for number in range(4_097)]
    result = ask(conversation, method, *params_of(keys[:4_096]))
    assert len(result) == 4_096
    ask(conversation, "clear")
    # One more is refused at the header of the array, and the connection ends.
    ((_, msgid, error, _),) = decoded(conversation.send(encode_request(1, method, params_of(keys))))
    assert (msgid, error) == (1, [b"too_large", b"an array has at most 4096 items"])
    assert conversation.closing
    assert not conversation.engine.store.caches["default"].raw_entries()


@pytest.mark.parametrize("method", ["try_incr", "acquire", "release"])
def test_items_of_a_call_that_does_all_or_none(method: str) -> None:
    conversation = Conversation()
    ask(conversation, "hello", {"session": True})
    items = [[b"%d" % number, 1, 5] for number in range(1_025)]
    if method == "release":
        assert ask(conversation, "acquire", items[:1_024])[2] == 1
        assert ask(conversation, method, 1, [item[:2] for item in items]) == "too_large"
        assert ask(conversation, method, 1, [item[:2] for item in items[:1_024]]) == [0] * 1_024
    else:
        assert ask(conversation, method, items) == "too_large"
        assert ask(conversation, method, items[:1_024])[:2] == [True, [1] * 1_024]


@pytest.mark.parametrize("method", ["incr", "decr", "get", "ttl"])
def test_bytes_of_a_key(method: str) -> None:
    conversation = Conversation()
    assert ask(conversation, method, "x" * 512) in (0, 1, None)
    assert ask(conversation, method, "x" * 513) == "too_large"
    # Bytes count, not characters.
    assert ask(conversation, method, "é" * 256) in (0, 1, None)
    assert ask(conversation, method, "é" * 257) == "too_large"


def test_a_full_batch_of_the_longest_keys_does_not_fit_a_message() -> None:
    """4 096 keys of 512 bytes do not fit into a message; 2 000 do."""
    keys = [b"%0512d" % number for number in range(2_000)]
    assert len(encode_request(1, "apply", (keys, 1))) < MIB
    assert ask(Conversation(), "apply", keys, 1) == [1] * 2_000


@pytest.mark.parametrize("extra", [0, 1])
def test_bytes_of_a_message(extra: int) -> None:
    head = b"\x94\x00\x01\xa7nothing\x91\xdc"
    room = MIB + extra - len(head) - 2
    sizes = [503] * (room // 503 - 1)
    room -= sum(sizes)
    sizes += [room // 2, room - room // 2]
    keys = b"".join(b"\xda" + (size - 3).to_bytes(2, "big") + b"x" * (size - 3) for size in sizes)
    data = head + len(sizes).to_bytes(2, "big") + keys
    assert len(data) == MIB + extra
    conversation = Conversation()
    ((_, msgid, error, _),) = decoded(conversation.send(data))
    assert (msgid, error[0]) == (1, b"too_large" if extra else b"unknown_method")
    assert conversation.closing == bool(extra)


@pytest.mark.parametrize("extra", [0, 1])
def test_bytes_of_a_string(extra: int) -> None:
    """A small message may have a string of any length, which is too long for a key; a large one may not."""
    conversation = Conversation()
    data = encode_request(1, "get", ["x" * (8 * KIB - len(encode_request(1, "get", ["x" * 300])) + 300 + extra)])
    assert len(data) == 8 * KIB + extra
    ((_, msgid, error, _),) = decoded(conversation.send(data))
    assert (msgid, error[0]) == (1, b"too_large")
    assert conversation.closing == bool(extra)


def test_a_string_is_refused_before_it_has_arrived() -> None:
    conversation = Conversation()
    head = b"\x94\x00\x05\xa3get\x91\xdb\xff\xff\xff"
    assert conversation.send(head) == b""
    assert not conversation.closing
    ((_, msgid, error, _),) = decoded(conversation.send(b"\xff"))
    assert (msgid, error) == (5, [b"too_large", b"a string has at most 516 bytes"])
    assert conversation.closing


@pytest.mark.parametrize("extra", [0, 1])
def test_elements_of_a_small_message(extra: int) -> None:
    """Nesting is no limit of its own: a level is an element."""
    conversation = Conversation()
    # The message, its kind, msgid, method and parameters are five elements.
    deep = b"\x91" * (64 - 5 - 1 + extra) + b"\xc0"
    ((_, msgid, error, _),) = decoded(conversation.send(b"\x94\x00\x01\xa3get\x91" + deep))
    assert (msgid, error[0]) == (1, b"invalid")
    assert conversation.closing == bool(extra)


@pytest.mark.parametrize("extra", [0, 1])
def test_a_map_in_a_long_message(extra: int) -> None:
    size = 8 * KIB + extra
    rest = size - len(encode_request(1, "hello", [{}, b"x" * 300])) + 300
    data = encode_request(1, "hello", [{}, b"x" * rest])
    assert len(data) == size
    conversation = Conversation()
    ((_, msgid, error, _),) = decoded(conversation.send(data))
    assert (msgid, error[0]) == (1, b"invalid")
    assert conversation.closing == bool(extra)


@pytest.mark.parametrize(("msgid", "closes"), [(2**32 - 1, False), (2**32, True), (-1, True)])
def test_msgids(msgid: int, closes: bool) -> None:
    conversation = Conversation()
    replies = conversation.send(encode_request(msgid, "ping", ()))
    assert conversation.closing == closes
    assert decoded(replies) == ([] if closes else [[1, msgid, None, b"pong"]])


def test_values_and_times_to_live() -> None:
    conversation = Conversation()
    assert ask(conversation, "set", "k", 2**63 - 1, 315_360_000_000) == 0
    assert ask(conversation, "get", "k") == 2**63 - 1
    assert ask(conversation, "ttl", "k") == 315_360_000_000
    assert ask(conversation, "set", "k", 2**63) == "invalid"
    assert ask(conversation, "expire", "k", 315_360_000_001) == "invalid"
    assert ask(conversation, "incr", "k") == "overflow"


def test_a_scan_ends_its_page_before_the_reply_is_too_large() -> None:
    conversation = Conversation()
    keys = {b"%0512d" % number for number in range(1_500)}
    assert ask(conversation, "apply", sorted(keys), 2**63 - 1) == [2**63 - 1] * 1_500
    cursor: Any = 0
    pages = []
    while True:
        reply = conversation.send(encode_request(2**32 - 1, "scan", (cursor, 4_096)))
        assert len(reply) <= 256 * KIB
        ((_, _, error, (cursor, page, _)),) = decoded(reply)
        assert error is None
        pages.append(page)
        if cursor == 0:
            break
    assert sorted(key for page in pages for key in page) == sorted(keys)
    assert max(map(len, pages)) > 480, "a page is far from full"


def test_a_reply_that_would_be_too_large() -> None:
    conversation = Conversation()
    keys = [b"%0512d" % number for number in range(600)]
    ask(conversation, "apply", keys, 1)
    assert len(ask(conversation, "top", 500)[0]) == 500
    assert ask(conversation, "top", 600) == "too_large"
    assert conversation.engine.stats.errors == {"too_large": 1}
    assert ask(conversation, "ping") == b"pong"


def test_work_in_slices_at_the_same_time() -> None:
    conversation = Conversation()
    replies = conversation.send(b"".join(encode_request(number, "top", (1,)) for number in range(10)))
    errors = {msgid: error and error[0] for _, msgid, error, _ in decoded(replies)}
    assert errors == {**dict.fromkeys(range(8)), 8: b"busy", 9: b"busy"}
    # A notification that would work in slices is dropped, because it has no result.
    conversation.send(b"".join([encode_notification("top", (1,))] * 9))
    assert ask(conversation, "top", 1) == [[], []]


def test_the_longest_reply_of_a_batch_fits() -> None:
    """A command that changes counters must not fail because its reply is too large: it has been executed by then."""
    sentences = [
        b"the cache holds max_counters already",
        b"the value would pass 2^63 - 1",
        b"a delta is an integer, not 0",
        str(Rights.refuse_item()).encode(),
    ]
    conversation = Conversation(engine_of(max_counters=1))
    full = ask(conversation, "apply", [b"%d" % number for number in range(4_096)], 1)
    assert full == [1] + [[b"full", sentences[0]]] * 4_095
    assert len(encode([[b"unknown_method", max(sentences, key=len)]] * 4_096)) < 256 * KIB
