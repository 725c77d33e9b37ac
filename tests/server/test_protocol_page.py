"""PROTOCOL.md is normative: its examples are run, and its numbers and words are compared with the code."""

from __future__ import annotations

import asyncio
import json
import re
from collections.abc import Iterator
from pathlib import Path
from typing import Any

import pytest

import naught_server
from naught import errors
from naught.wire import limits
from naught.wire.codec import encode_notification, encode_request
from naught.wire.traceparent import TRACEPARENT_BYTES
from naught_server import commands, config, holds
from naught_server import connection as connection_module
from naught_server import limits as server_limits
from naught_server import session as session_module
from naught_server.commands import COMMANDS
from naught_server.connection import Connection
from naught_server.engine import Engine
from naught_server.slowlog import SLOW_NS_MIN
from naught_server.stats import TIMED_ENTRIES, TIMED_OF_SMALL
from naught_server.turns import Turns
from naught_server.walk import LARGE_ELEMENTS, METHOD_BYTES_MAX, SMALL_BYTES, SMALL_ELEMENTS
from support.conversation import Conversation, decoded, engine_of
from support.transport import FakeTransport, turns_taken

PAGE = Path(naught_server.__file__).with_name("PROTOCOL.md").read_text()
EXAMPLE = re.compile(r"^-> (?P<request>\[.*?\])\s+<- (?P<reply>\[.*\])(?:  +.*)?$", re.MULTILINE)
SIGNATURE = re.compile(r"`(?P<name>[a-z_]+)\((?P<params>[^`]*)\)` -> ")
PARKED = (
    "requests of a client that may wait (`acquire` and `wait_zero` with a time other than 0), "
    "not answered or not acknowledged"
)
EXAMPLES = [(found["request"], found["reply"]) for found in EXAMPLE.finditer(PAGE)]


def section(title: str) -> str:
    """The text under a heading, up to the next heading of the same level."""
    level, _, _ = title.partition(" ")
    _, _, after = PAGE.partition(f"\n{title}\n")
    assert after, f"the page has no heading {title!r}"
    return re.split(rf"^#{{1,{len(level)}}} ", after, maxsplit=1, flags=re.MULTILINE)[0]


def rows(text: str) -> Iterator[list[str]]:
    """The cells of a table's rows, without its header."""
    lines = [line for line in text.splitlines() if line.startswith("|")]
    for line in lines[2:]:
        yield [cell.strip() for cell in line.strip("|").split("|")]


def value_of(text: str) -> Any:
    return json.loads(text.replace("nil", "null"))


def like(expected: Any, found: Any) -> bool:
    """Whether they are equal; "..." in `expected` matches any text."""
    if isinstance(expected, list):
        return (
            isinstance(found, list)
            and len(expected) == len(found)
            and all(like(one, other) for one, other in zip(expected, found, strict=True))
        )
    if isinstance(found, bytes):
        return expected == "..." or expected == found.decode()
    return type(expected) is type(found) and bool(expected == found)


def test_the_examples() -> None:
    """All examples, in the order of the page, on one server."""
    assert len(EXAMPLES) == PAGE.count("\n-> "), "an example is not understood"
    assert len(EXAMPLES) >= 6
    conversation = Conversation()
    for request, reply in EXAMPLES:
        kind, msgid, method, params = value_of(request)
        assert kind == 0
        (found,) = decoded(conversation.send(encode_request(msgid, method, params)))
        assert like(value_of(reply), found), f"{request} gave {found}"


def test_every_method_has_its_signature() -> None:
    methods = section("## 5. Methods")
    headings = re.findall(r"^### (.*)$", methods, re.MULTILINE)
    described = [name for heading in headings for name in heading.split(", ")]
    assert sorted(described) == sorted(name.decode() for name in COMMANDS)
    signatures = {found["name"]: found["params"] for found in SIGNATURE.finditer(methods)}
    assert sorted(signatures) == sorted(described)
    for name, params in signatures.items():
        # A map counts as one parameter. The page says in words that the map of `hello` may be left out.
        listed = [each for each in re.sub(r"\{.*?\}", "map", params).split(", ") if each]
        needed = [each for each in listed if "=" not in each and each != "map"]
        command = COMMANDS[name.encode()]
        assert (command.params_min, command.params_max) == (len(needed), len(listed)), name
        assert len(listed) <= limits.PARAMS_MAX


def test_the_defaults() -> None:
    """Leaving out a parameter is the same as sending the default on the page."""
    steps: list[tuple[str, list[Any], list[Any]]] = [
        ("incr", ["k"], ["k", 1, None]),
        ("decr", ["k"], ["k", 1, False]),
        ("apply", [["k"], 2], [["k"], 2, None]),
        ("set", ["k", 9], ["k", 9, None]),
        ("try_incr", [[["k", 1, 99]]], [[["k", 1, 99]], None]),
        ("throttle", ["t", 3, 1_000], ["t", 3, 1_000, 3, 1]),
        ("scan", [0], [0, 100, ""]),
        ("top", [3], [3, ""]),
        ("count", [], [""]),
        ("config_get", [], [None]),
        ("hello", [], [{}]),
        ("acquire", [[["k", 1, 99]]], [[["k", 1, 99]], 0]),
        ("sessions", [], [0]),
        ("holders", ["k"], ["k", 0]),
        ("slowlog", [], [32]),
    ]
    short, full = Conversation(engine_of(shards=1)), Conversation(engine_of(shards=1))
    for method, left_out, given in steps:
        assert short.send(encode_request(1, method, left_out)) == full.send(encode_request(1, method, given)), method


def test_the_errors() -> None:
    table = section("## 3. Errors")
    codes = [code for first, *_ in rows(table) for code in re.findall(r"`(\w+)`", first)]
    assert sorted(codes) == sorted(errors.CommandError._class_of_code)
    assert len(set(codes)) == len(codes)


def number_of(text: str) -> int:
    """The first number of a cell: 1 048 576, 64 KiB, 10 s."""
    found = re.search(r"(\d[\d ]*\d|\d)(?: ?(KiB|MiB|s)\b)?", text)
    assert found, text
    return int(found[1].replace(" ", "")) * {"KiB": 1 << 10, "MiB": 1 << 20, "s": 1_000}.get(found[2], 1)


@pytest.mark.parametrize(
    ("limit", "expected"),
    [
        ("key", limits.KEY_BYTES_MAX),
        ("items of one call", limits.BATCH_ITEMS_MAX),
        ("items of a call that does all or none: `try_incr`, `acquire`, `release`", limits.ITEMS_AT_ONCE_MAX),
        ("message", limits.MESSAGE_BYTES_MAX),
        ("one string or binary of a large message", limits.CURSOR_BYTES_MAX),
        ("method of a large message", METHOD_BYTES_MAX),
        ("elements of a large message", LARGE_ELEMENTS),
        ("reply", limits.REPLY_BYTES_MAX),
        ("requests of a client that work in slices at the same time", session_module.SLICES_MAX),
        ("an unfinished message", server_limits.MESSAGE_MS_MAX),
        ("undecoded input of one connection", 1 << 20),
        ("replies a client leaves unread", server_limits.OUTPUT_BYTES_MAX),
        ("work for one connection in one turn", server_limits.TURN_ITEMS_MAX),
        ("connections", server_limits.CONNECTIONS_MAX),
        ("replies of a session not acknowledged", limits.UNACKNOWLEDGED_MAX),
        (PARKED, limits.PARKED_MAX),
        ("keys that the waiting requests of a client wait for, together", limits.PARKED_ITEMS_MAX),
        ("amounts a session holds", server_limits.HELD_ITEMS_MAX),
        ("the name of a client", limits.NAME_BYTES_MAX),
    ],
)
def test_the_limits(limit: str, expected: int) -> None:
    table = {first: value for first, value, *_ in rows(section("## 2. Limits"))}
    assert number_of(table[limit]) == expected


@pytest.mark.parametrize(
    ("found", "expected", "sentence"),
    [
        ((SMALL_BYTES, SMALL_ELEMENTS), (8_192, 64), "has up to 8 192 bytes and 64 elements"),
        (server_limits.INPUT_BYTES_MAX, 1_114_112, "| 1 MiB and 64 KiB (1 114 112 bytes) |"),
        (server_limits.MESSAGE_MS_MAX, 30_000, "unfinished message for 30 s from its first byte"),
        (server_limits.OUTPUT_PAUSED_MS_MAX, 10_000, "after 10 s of that the connection ends"),
        (limits.DEFAULT_PORT, 6480, "Default port 6480."),
        (limits.TTL_MS_MAX, 315_360_000_000, "from 1 to 315 360 000 000 (ten years)"),
        (limits.UNACKNOWLEDGED_BYTES_MAX, 4_194_304, "1 024, and 4 MiB (4 194 304 bytes)"),
        (limits.WAIT_MS_MAX, 86_400_000, "`wait_ms` is 0 to 86 400 000 (a day)"),
        (limits.SESSION_ID_BYTES, 16, "the id of 16 bytes"),
        (
            server_limits.LEASE_MS_DEFAULT,
            10_000,
            "(default 10 000; the server limits it to the range 100\n  to 300 000)",
        ),
        (
            (server_limits.LEASE_MS_MIN, server_limits.LEASE_MS_MAX),
            (100, 300_000),
            "limits it to the range 100\n  to 300 000",
        ),
        (
            (server_limits.SESSIONS_OF_ADDRESS, server_limits.SESSIONS_OF_ADDRESS_MIN),
            (10, 32),
            "a tenth of all sessions and at least 32",
        ),
        (server_limits.SESSIONS_PER_CONNECTION, 2, "| sessions | twice the connections |"),
        (limits.PEER_SILENT_S, 5, "by TCP keepalive after 5 s of silence"),
        (limits.PEER_UNACKNOWLEDGED_MS, 10_000, "ends\nabout ten seconds later, and its holds"),
        (limits.NAME_BYTES_MAX, 128, "a name that is not a string or binary of 1 to 128 bytes of UTF-8"),
        (commands.HOLDERS_LISTED_MAX, 1_024, "beginning with the\nfirst above `after`; at most 1 024"),
        (session_module.HELD_SHOWN_MAX, 10, "the first counters that it holds, up to 10, as"),
        (holds.LOOKED_AT_MAX, 32, "Of its holds the first 32 amounts are looked at"),
        (session_module.WAITS_SHOWN_MAX, 5, "the first of them, up to 5, as"),
        (session_module.WAIT_KEYS_SHOWN_MAX, 3, "and the first keys, up to 3"),
        (commands._SLOW_TURNS_LISTED, 32, "`slowlog(n=32)`"),
        (limits.SLOW_TURNS_MAX, 128, "The server keeps the 128 slowest"),
        (SLOW_NS_MIN, 1_000_000, "of the turns that took more than 1 ms."),
        (
            (TIMED_ENTRIES, TIMED_OF_SMALL),
            (64, 8),
            "of 64 or more entries of work, and of the others about one in eight.",
        ),
        (TRACEPARENT_BYTES, 55, "a string or binary of 55 characters"),
    ],
)
def test_numbers_within_sentences(found: object, expected: object, sentence: str) -> None:
    assert found == expected
    assert sentence in PAGE


def test_the_words_of_info() -> None:
    words = [word for first, *_ in rows(section("### info")) for word in re.findall(r"`(\w+)`", first)]
    conversation = Conversation()
    conversation.send(encode_request(1, "incr", ["k"]) + encode_request(2, "nothing", []))
    ((_, _, _, found),) = decoded(conversation.send(encode_request(3, "info", [])))
    assert [word.decode() for word in found] == words
    assert found[b"commands"] == {b"incr": 1}
    assert found[b"errors"] == {b"unknown_method": 1}
    described = {first: value for first, value, *_ in rows(section("### info"))}
    assert set(re.findall(r"`(\w+)`", described["`caches`"])) >= {
        word.decode() for word in found[b"caches"][b"default"]
    }
    assert {word.decode() for word in found[b"caches"][b"default"][b"evictions"]} <= set(
        re.findall(r"`(\w+)`", described["`caches`"])
    )
    words_of_sessions = {word.decode() for word in found[b"sessions"]}
    assert set(re.findall(r"`(\w+)`", described["`sessions`"])) == {*words_of_sessions, "bye"}
    assert set(re.findall(r"`(\w+)`", described["`sweeper`"])) == {word.decode() for word in found[b"sweeper"]}
    assert found[b"caches"][b"default"][b"counters"] == 1


def test_the_settings() -> None:
    rows = re.findall(r"^\| `([\w.]+)` \| ([^|]+) \|", section("### config_get, config_set"), re.M)
    described = dict(rows)
    words = engine_of().settings.as_dict()
    assert {word.replace("caches.default.", "caches.NAME.") for word in words} == set(described)
    whole = {
        "sweep_interval_ms": (server_limits.SWEEP_INTERVAL_MS_MIN, server_limits.SWEEP_INTERVAL_MS_MAX),
        "compaction_bytes_per_entry": (
            server_limits.COMPACTION_BYTES_PER_ENTRY_MIN,
            server_limits.COMPACTION_BYTES_PER_ENTRY_MAX,
        ),
        "gc_threshold": (server_limits.GC_THRESHOLD_MIN, server_limits.GC_THRESHOLD_MAX),
        "drain_timeout_ms": (0, server_limits.DRAIN_TIMEOUT_MS_MAX),
    }
    for name, (low, high) in whole.items():
        assert described[name] == f"{low} to {high:,}".replace(",", " ")
    assert described["sweep_budget_ms"] == (
        f"{server_limits.SWEEP_BUDGET_MS_MIN} to {server_limits.SWEEP_BUDGET_MS_MAX:g}, or 0 for off"
    )
    assert f"{server_limits.MAX_COUNTERS_LIMIT:,}".replace(",", " ") in described["caches.NAME.max_counters"]


# ------------------------------------------------------------------------------------------- a test for each sentence


def says(sentence: str) -> None:
    """The page has this sentence, however its lines are broken."""
    assert " ".join(sentence.split()) in " ".join(PAGE.split()), f"the page does not say: {sentence}"


def ask(here: Conversation, method: str, *params: Any, msgid: int = 1) -> Any:
    """The result of a request, or the code of its error. The only reply, but for `hello` that resumes."""
    (_, _, error, result), *_ = decoded(here.send(encode_request(msgid, method, params)))
    return result if error is None else error[0].decode()


def test_a_msgid_in_use_is_refused_for_waits() -> None:
    says("a request that would wait is `invalid` while another one with the same msgid waits")
    here = Conversation()
    ask(here, "incr", "k")
    assert here.send(encode_request(7, "wait_zero", ("k", None))) == b""
    assert ask(here, "wait_zero", "k", None, msgid=7) == "invalid"
    assert ask(here, "get", "k", msgid=7) == 1, "what does not wait is not checked"
    assert ask(here, "wait_zero", "nothing", None, msgid=7) is True, "nor what is answered at once"
    assert [reply[1] for reply in decoded(here.send(encode_request(8, "decr", ("k",))))] == [7, 8]


def test_a_notification_does_not_wait() -> None:
    says("It does not wait and does not work in slices: what cannot be done at once is not done.")
    says("`acquire` as a notification is granted at once or not at all (`held` shows the hold)")
    says("`wait_zero` has no effect")
    here = Conversation()
    ask(here, "hello", {"session": True})
    for _ in range(2):  # the second one would have to wait
        assert here.send(encode_notification("acquire", ([["k", 1, 1]], None))) == b""
    assert here.send(encode_notification("wait_zero", ("k", None)) + encode_notification("top", (1,))) == b""
    session = here.protocol.session
    assert not session.parked
    assert not session.slices
    ((hold, items),) = ask(here, "held")
    assert items == [[b"k", 1]]
    assert ask(here, "release", hold) == [0]
    assert ask(here, "held") == [], "the one that would have had to wait left nothing in a queue"


@pytest.mark.parametrize("method", ["wait_zero", "top"])
def test_work_under_way_keeps_a_session_from_being_opened(method: str) -> None:
    says("to open a session where the connection has one, or has requests that wait or work in slices")
    engine = engine_of()
    here = Conversation(engine)
    ask(here, "apply", [b"%d" % number for number in range(4_096)], 1)
    ask(here, "apply", [b"%d" % number for number in range(4_096, 8_192)], 1)
    params: dict[str, tuple[Any, ...]] = {"wait_zero": ("1", None), "top": (1,)}
    assert ask(here, "acquire", [["1", 1, 1]], None) == "no_session", "without a session it does not wait"
    hello = encode_request(9, "hello", ({"session": True},))
    replies = decoded(here.send(encode_request(7, method, params[method]) + hello))
    (refused,) = (reply for reply in replies if reply[1] == 9)
    assert refused[2][0] == b"invalid"
    assert len(engine.sessions) == 0
    if method == "wait_zero":
        here.send(encode_request(8, "cancel", (7,)))
    assert isinstance(ask(here, "hello", {"session": True}), dict)
    assert here.protocol.session.replied == 0, "no reply of before is counted in the session"


def test_waits_stay_with_their_cache() -> None:
    says("requests that wait or work in slices go on with the cache that they were sent for")
    here = Conversation(engine_of(config.CachePolicy("other")))
    ask(here, "incr", "k")
    here.send(encode_request(7, "wait_zero", ("k", None)))
    ask(here, "hello", {"cache": "other"})
    assert ask(here, "set", "k", 0) == 0, "the counter of the other cache wakes nobody"
    ask(here, "hello", {"cache": "default"})
    assert [reply[1] for reply in decoded(here.send(encode_request(8, "decr", ("k",))))] == [7, 8]


@pytest.mark.parametrize("params", [(None,), ("k", None), ("k", 1, 1, 1)])
def test_nil_is_no_default(params: tuple[Any, ...]) -> None:
    says("nil is no default: it is `invalid` where the page does not allow it.")
    here = Conversation()
    assert ask(here, "incr", *params) == "invalid"
    assert ask(here, "decr", "k", 1, None) == "invalid"
    assert ask(here, "scan", 0, None) == "invalid"
    assert ask(here, "count", None) == "invalid"
    assert ask(here, "incr", "k", 1, None) == 1


@pytest.mark.parametrize("key", [b"\xff\xfe", b"\x80", b"a\x00b", "\u00e9".encode("latin-1")])
def test_any_bytes_are_a_key(key: bytes) -> None:
    says("any bytes are a key. In replies keys are binaries, so bytes that are no UTF-8 come back as they were sent")
    here = Conversation()
    as_string = b"\x94\x00\x01\xa4incr\x91" + bytes([0xA0 + len(key)]) + key
    as_binary = b"\x94\x00\x01\xa4incr\x91\xc4" + bytes([len(key)]) + key
    assert [reply[3] for reply in decoded(here.send(as_string + as_binary))] == [1, 2]
    assert b"\xc4" + bytes([len(key)]) + key in here.send(encode_request(1, "scan", (0,)))


WIDTHS = [
    "05",
    "cc05",
    "cd0005",
    "ce00000005",
    "cf0000000000000005",
    "d005",
    "d10005",
    "d200000005",
    "d30000000000000005",
]


@pytest.mark.parametrize("five", WIDTHS)
def test_integers_of_any_width(five: str) -> None:
    says("Its width is free: 5 may be sent in any format of MessagePack from one byte to 64 bits, signed or unsigned")
    number = bytes.fromhex(five)
    for careful in (False, True):
        here = Conversation(careful=careful)
        requests = b"\x94\x00" + number + b"\xa4incr\x92\xa1k" + number
        requests += b"\x94\x00" + number + b"\xa5apply\x92\x91\xa1k\x91" + number
        requests += b"\x94\x00" + number + b"\xa3set\x92\xa1k" + number
        assert decoded(here.send(requests)) == [[1, 5, None, 5], [1, 5, None, [10]], [1, 5, None, 10]]


def test_a_hold_is_an_integer() -> None:
    says("| hold | an integer from 1 to 2^63-1, to be sent back as an integer.")
    says("a float is `invalid`")
    here = Conversation()
    ask(here, "hello", {"session": True})
    granted, _, hold = ask(here, "acquire", [["k", 1, 1]])
    assert granted
    assert ask(here, "release", float(hold)) == "invalid"
    assert ask(here, "release", str(hold)) == "invalid"
    assert ask(here, "release", 0) == "invalid"
    assert ask(here, "release", 2**63) == "invalid"
    assert ask(here, "release", 2**63 - 1) == "not_held"
    assert ask(here, "release", -1) == "invalid"
    assert ask(here, "release", 2**63) == "invalid"
    assert ask(here, "release", 2**63 - 1) == "not_held"
    assert ask(here, "release", hold) == [0]
    assert limits.VALUE_MAX == 2**63 - 1


@pytest.mark.parametrize(
    ("bad", "msgid"),
    [
        ("94 00 07 c1", 7),
        ("94 00 cc 07 c1", 7),
        ("94 00 cd 0007 c1", 7),
        ("94 00 ce 00000007 c1", 7),
        ("94 00 ce ffffffff c1", 2**32 - 1),
        ("94 00 cf 0000000000000007 c1", None),
        ("94 00 d0 07 c1", None),
        ("dc0004 00 07 c1", None),
        ("94 cc00 07 c1", None),
        # These can be decoded to their end.
        ("94 00 d0 07 01 90", 7),
        ("dc0004 cc00 cf 0000000000000007 a1 6b 01", 7),
        ("94 00 ff a1 6b 90", None),
        ("94 00 cf 0000000100000000 a1 6b 90", None),
        ("94 00 ca 3f800000 a1 6b 90", None),
        ("94 05 07 a1 6b 90", None),
        ("93 00 07 a1 6b", None),
    ],
)
def test_which_msgid_can_be_read(bad: str, msgid: int | None) -> None:
    says("A msgid can be read where it is an integer from 0 to 2^32-1, and stands in an array of four elements")
    says("the array and the 0 in one byte each, the msgid in the unsigned format")
    here = Conversation()
    replies = decoded(here.send(encode_request(1, "ping", ()) + bytes.fromhex(bad)))
    assert replies[0] == [1, 1, None, b"pong"]
    assert [(reply[1], reply[2][0]) for reply in replies[1:]] == ([] if msgid is None else [(msgid, b"invalid")])
    assert here.closing


# ------------------------------------------------------------------------------------------- hello, ack and bye

SESSION_ID = b"session number 1"

BAD_HELLOS: dict[str, tuple[Any, ...]] = {
    "a parameter that is no map": ("default",),
    "an array": ([["cache", "default"]],),
    "nil for the map": (None,),
    "two parameters": ({}, {}),
    "an unknown word": ({"cachE": "default"},),
    "a word that is no string": ({1: "default"},),
    "nil for the cache": ({"cache": None},),
    "nil for the session": ({"session": None},),
    "nil for the lease": ({"session": True, "lease_ms": None},),
    "an empty name": ({"cache": ""},),
    "a name of 65 bytes": ({"cache": "c" * 65},),
    "a cache that is not configured": ({"cache": "nothing"},),
    "a cache that is a number": ({"cache": 1},),
    "false for the session": ({"session": False},),
    "a number for the session": ({"session": 1},),
    "nil for the name": ({"name": None},),
    "an empty name of a client": ({"name": ""},),
    "a name of a client of 129 bytes": ({"name": "n" * 129},),
    "a name of a client of 130 bytes in 65 characters": ({"name": "é" * 65},),
    "a name that is a number": ({"name": 1},),
    "a name that is no UTF-8": ({"name": b"\xff"},),
    "a name with half of a pair of surrogates": ({"name": b"\xed\xa0\x80"},),
    "a name with a line feed": ({"name": "a\nb"},),
    "a name with an escape": ({"name": "\x1b[2J"},),
    "a name with a zero byte": ({"name": "a\x00"},),
    "a name with a delete": ({"name": "a\x7f"},),
    "a name with a control character of 8 bits": ({"name": "a\x9b"},),
    "a bad name for a session": ({"session": True, "name": "\n"},),
    "an id of 15 bytes": ({"session": b"x" * 15, "received": 0},),
    "an id of 17 bytes": ({"session": b"x" * 17, "received": 0},),
    "received without a session": ({"received": 0},),
    "a lease without a session": ({"lease_ms": 1_000},),
    "a lease of 0": ({"session": True, "lease_ms": 0},),
    "a lease that is a float": ({"session": True, "lease_ms": 1_000.0},),
    "a lease above 2^63-1": ({"session": True, "lease_ms": 2**63},),
    "resuming with a cache": ({"session": SESSION_ID, "received": 0, "cache": "default"},),
    "resuming with a lease": ({"session": SESSION_ID, "received": 0, "lease_ms": 1_000},),
    "resuming with a name": ({"session": SESSION_ID, "received": 0, "name": "n"},),
    "resuming without received": ({"session": SESSION_ID},),
    "received that is a float": ({"session": SESSION_ID, "received": 0.0},),
    "received below 0": ({"session": SESSION_ID, "received": -1},),
    "more received than was sent": ({"session": SESSION_ID, "received": 3},),
}


@pytest.mark.parametrize("name", BAD_HELLOS)
def test_a_hello_that_is_invalid_changes_nothing(name: str) -> None:
    says("Where it fails, cache, session and name of the connection stay as they were. It is `invalid`")
    engine = engine_of(config.CachePolicy("other"))
    owner = Conversation(engine)
    ask(owner, "hello", {"session": True})
    ask(owner, "ping")
    ask(owner, "ping")
    here = Conversation(engine)
    ask(here, "hello", {"cache": "other", "name": "before"})
    assert ask(here, "hello", *BAD_HELLOS[name]) == "invalid"
    assert ask(here, "hello")[b"cache"] == b"other"
    assert here.protocol.session.name == "before"
    assert here.protocol.session.id is None
    assert len(engine.sessions) == 1
    assert ask(owner, "ping") == b"pong"


def test_a_hello_that_is_invalid_on_a_connection_with_a_session() -> None:
    engine = engine_of(config.CachePolicy("other"))
    owner = Conversation(engine)
    ask(owner, "hello", {"session": True})
    here = Conversation(engine)
    ask(here, "hello", {"session": True})
    resumption = {"session": SESSION_ID, "received": 0}
    assert ask(here, "hello", {"session": True}) == "invalid"
    assert ask(here, "hello", resumption) == "invalid"
    assert ask(here, "hello", {"cache": "other"}) == "invalid"
    assert ask(owner, "hello", resumption) == "invalid", "it has that session"
    assert ask(here, "hello", {"cache": "default"})[b"cache"] == b"default"
    parked = Conversation(engine)
    ask(parked, "incr", "k")
    parked.send(encode_request(7, "wait_zero", ("k", None)))
    assert ask(parked, "hello", resumption) == "invalid"


def test_which_ack_is_invalid() -> None:
    says("`invalid` where `received` is not an integer, below the number acknowledged before, or above the number of")
    here = Conversation()
    assert ask(here, "ack", 0) == "no_session"
    ask(here, "hello", {"session": True})
    for _ in range(3):
        ask(here, "ping")
    assert ask(here, "ack", 2) is None
    for received in (1, 4, -1, 2.0, "2", None, True):
        assert ask(here, "ack", received) == "invalid", received
    assert ask(here, "ack") == ask(here, "ack", 2, 2) == "invalid"
    assert ask(here, "ack", 2) is None
    assert ask(here, "ack", 3) is None


def test_bye() -> None:
    says("Without a session it drops the waiting requests of the connection. It is `invalid` with a parameter.")
    here = Conversation()
    assert ask(here, "bye", 1) == "invalid"
    ask(here, "incr", "k")
    here.send(encode_request(7, "wait_zero", ("k", None)))
    assert ask(here, "bye") is None
    assert ask(here, "decr", "k") == 0, "its reply is the only one"
    ask(here, "hello", {"session": True})
    assert ask(here, "bye", None) == "invalid"
    assert here.protocol.session.id is not None


def test_the_old_connection_is_silent_after_a_resumption() -> None:
    says("once the client has said `received`, it must ignore what arrives on the old connection")
    says("The server sends nothing on it any more")
    engine = engine_of()
    old = Conversation(engine)
    ask(old, "hello", {"session": True})
    ask(old, "incr", "k")
    old.send(encode_request(7, "wait_zero", ("k", None)))
    new = Conversation(engine)
    replies = decoded(new.send(encode_request(1, "hello", ({"session": SESSION_ID, "received": 0},))))
    assert [reply[1] for reply in replies] == [1, 1], "the reply to hello, and that to incr again"
    assert old.protocol.aborted
    assert old.protocol.receive(encode_request(2, "incr", ("k",)), old.now_ms) == b""
    assert old.protocol.turn(old.now_ms) == b""
    assert [reply[1] for reply in decoded(new.send(encode_request(8, "decr", ("k",))))] == [7, 8]


# ------------------------------------------------------------------------------------------- for the operator


@pytest.mark.parametrize("name", ["web-7:4711", "n" * 128, "é" * 64, "two words", "\u4e2d\u6587", " ", "\xa0"])
def test_which_names_are_good(name: str) -> None:
    says("1 to 128 bytes of UTF-8, or has a control character (U+0000 to U+001F, U+007F to U+009F)")
    says("Names need not be different.")
    engine = engine_of()
    for text in (name, name.encode()):
        here = Conversation(engine)
        ask(here, "hello", {"session": True, "name": text})
        assert here.protocol.session.name == name
    assert [row[b"name"].decode() for row in ask(here, "sessions")] == [name, name]


def test_a_name_stays_until_another_is_said() -> None:
    says("It is kept with the session, or without one with the connection, until another `hello` says another name.")
    here = Conversation()
    ask(here, "hello", {"name": "first"})
    ask(here, "hello", {"session": True})
    (row,) = ask(here, "sessions")
    assert row[b"name"] == b"first"
    ask(here, "hello")
    here.reconnect()
    ask(here, "hello", {"session": SESSION_ID, "received": 1})
    assert here.protocol.session.name == "first"
    ask(here, "hello", {"name": "second"})
    assert here.protocol.session.name == "second"
    ask(here, "bye")
    ask(here, "hello", {"session": True})
    (row,) = ask(here, "sessions")
    assert row[b"name"] == b"", "empty where it has not said"


def test_the_words_of_sessions() -> None:
    words = [word for first, *_ in rows(section("### sessions")) for word in re.findall(r"`(\w+)`", first)]
    here = Conversation()
    ask(here, "hello", {"session": True})
    (row,) = ask(here, "sessions")
    assert sorted(word.decode() for word in row) == sorted(words)


def test_sessions_come_in_the_order_of_their_numbers_until_a_page_is_empty() -> None:
    says("in the order of their numbers, as many as fit a reply and half a millisecond of work (some 200).")
    says("An empty page means that there are no more.")
    engine = Engine(config.ServerConfig())
    for _ in range(1_000):
        ask(Conversation(engine), "hello", {"session": True})
    here = Conversation(engine)
    seen: list[int] = []
    sizes = []
    while page := ask(here, "sessions", seen[-1] if seen else 0):
        seen += [row[b"session"] for row in page]
        sizes.append(len(page))
    assert seen == list(range(1, 1_001))
    assert all(150 <= size <= 250 for size in sizes[:-1]), sizes


def test_a_session_shows_who_it_is_and_what_it_did() -> None:
    says("its number. Its id is never shown, because that is the credential")
    says("what its client calls itself, empty where it has not said; where its latest connection came from")
    says("requests accepted since it was opened")
    here = Conversation(peer="10.0.0.1")
    ask(here, "ping")
    ask(here, "hello", {"session": True, "name": "me"})
    ask(here, "ping")
    ask(here, "nothing")
    here.send(encode_notification("ping", ()))
    (row,) = ask(here, "sessions")
    assert (row[b"session"], row[b"name"], row[b"address"]) == (1, b"me", b"10.0.0.1")
    assert row[b"commands"] == 2, "and the one that asks is not accepted before it is answered"
    assert SESSION_ID not in here.send(encode_request(1, "sessions", ()))


def test_a_session_shows_what_it_holds() -> None:
    says("each with all that the session holds of it, at most 2^63-1.")
    engine = engine_of()
    here, other = Conversation(engine), Conversation(engine)
    for each in (here, other):
        ask(each, "hello", {"session": True})
    for _ in range(3):
        ask(here, "acquire", [["gpu", 2, 99], ["db", 1, 99]])
    ask(other, "acquire", [["gpu", 1, 99]])
    ask(other, "incr", "gpu", 7)
    first, second = ask(here, "sessions")
    assert (first[b"holds"], first[b"held"]) == (3, [[b"gpu", 6], [b"db", 3]])
    assert (second[b"holds"], second[b"held"]) == (1, [[b"gpu", 1]])
    ask(here, "release", 1, [["gpu", 1]])
    ask(here, "release", 2)
    ask(other, "set", "db", 0)
    first, _ = ask(here, "sessions")
    assert (first[b"holds"], first[b"held"]) == (2, [[b"gpu", 3]])
    ask(other, "clear")
    first, second = ask(here, "sessions")
    assert first[b"held"] == second[b"held"] == []


def test_the_first_counters_that_a_session_holds() -> None:
    says("the first counters that it holds, up to 10, as `[[key, amount], ...]`")
    says("Of its holds the first 32 amounts are looked at, so some counters may be missing")
    here = Conversation()
    ask(here, "hello", {"session": True})
    ask(here, "acquire", [[b"%02d" % number, 1, 99] for number in range(32)])
    (row,) = ask(here, "sessions")
    assert row[b"held"] == [[b"%02d" % number, 1] for number in range(10)]
    ask(here, "clear")
    for _ in range(40):
        ask(here, "acquire", [["api", 1, 99]])
    ask(here, "acquire", [["later", 1, 99]])
    (row,) = ask(here, "sessions")
    assert row[b"held"] == []
    ask(here, "held")  # which finds those that have ended
    (row,) = ask(here, "sessions")
    assert row[b"held"] == [[b"api", 40]]


def test_a_sum_of_amounts_that_no_integer_can_say() -> None:
    says("The amount is that of all holds of the session together, at most 2^63-1")
    here = Conversation()
    ask(here, "hello", {"session": True})
    ask(here, "incr", "other")
    for _ in range(5):
        assert ask(here, "acquire", [["k", 2**62, 2**63 - 1]])[0]
        ask(here, "decr", "k", 2**62 - 1)
    (row,) = ask(here, "sessions")
    assert row[b"held"] == [[b"k", 2**63 - 1]]
    assert ask(here, "holders", "k") == [[1, b"", 2**63 - 1, b""]]


def test_a_session_shows_what_it_waits_for() -> None:
    says("`room` (`acquire`) or `zero` (`wait_zero`), and the first keys, up to 3")
    says("the first of them, up to 5, as `[[what, keys], ...]`")
    engine = engine_of()
    here, other = Conversation(engine), Conversation(engine)
    ask(here, "hello", {"session": True})
    ask(here, "incr", "k")
    here.send(encode_request(11, "acquire", ([["k", 1, 1], ["a", 1, 1], ["b", 1, 1], ["c", 1, 1]], None)))
    for msgid in range(12, 18):
        here.send(encode_request(msgid, "wait_zero", ("k", None)))
    (row,) = ask(other, "sessions")
    assert row[b"parked"] == 7
    assert row[b"waits"] == [[b"room", [b"k", b"a", b"b"]], *[[b"zero", [b"k"]]] * 4]
    ask(other, "set", "k", 0)
    (row,) = ask(other, "sessions")
    assert (row[b"parked"], row[b"waits"]) == (0, [])


def test_the_reasons_for_an_end() -> None:
    """`tests/server/test_sessions.py` has an end of each."""
    says("Unless the reason is `bye`, the server logs whose holds it has taken back")
    _, _, after = section("## 6. Sessions").partition("**The end.**")
    reasons = [found[1] for first, *_ in rows(after) if (found := re.fullmatch(r"`(\w+)`", first))]
    assert reasons == list(session_module.END_REASONS)
    here = Conversation()
    assert [word.decode() for word in ask(here, "info")[b"sessions"][b"ended"]] == reasons


def test_who_holds_a_counter() -> None:
    says("which sessions hold how much of a counter of this cache, in the order of their numbers")
    says("so the amounts together may be less than the value, and more where others have decremented it")
    engine = engine_of(config.CachePolicy("other"))
    peers = [Conversation(engine, peer=f"10.0.0.{number}") for number in range(3)]
    for number, peer in enumerate(peers):
        ask(peer, "hello", {"session": True, "name": f"client {number}"})
    elsewhere = Conversation(engine)
    ask(elsewhere, "hello", {"session": True, "cache": "other"})
    ask(elsewhere, "acquire", [["gpu", 1, 99]])
    ask(peers[2], "acquire", [["gpu", 3, 99]])
    ask(peers[0], "acquire", [["gpu", 1, 99], ["db", 1, 9]])
    ask(peers[0], "acquire", [["gpu", 1, 99]])
    ask(peers[1], "incr", "gpu", 9)
    assert ask(peers[1], "holders", "gpu") == [
        [1, b"client 0", 2, b"10.0.0.0"],
        [3, b"client 2", 3, b"10.0.0.2"],
    ]
    assert ask(peers[1], "holders", "gpu", 1) == [[3, b"client 2", 3, b"10.0.0.2"]]
    assert ask(peers[1], "holders", "gpu", 3) == []
    assert ask(elsewhere, "holders", "gpu") == [[4, b"", 1, b""]]
    ask(peers[1], "set", "gpu", 1)
    assert len(ask(peers[1], "holders", "gpu")) == 2, "more than its value is held"
    ask(peers[0], "release", 3)
    ask(peers[2], "bye")
    assert ask(peers[1], "holders", "gpu") == [], "the release has evicted it"
    assert ask(peers[1], "holders", "absent") == []


def test_a_session_that_has_ended_holds_nothing_any_more() -> None:
    says("each amount was true when the first one began, and a session that has ended since is left out.")
    engine = engine_of()
    here, other = Conversation(engine), Conversation(engine)
    for peer in (here, other):
        ask(peer, "hello", {"session": True})
        ask(peer, "acquire", [["k", 1, 9]])
    assert here.protocol.receive(encode_request(7, "holders", ("k",)), here.now_ms) == b"", "its first slice"
    ask(other, "acquire", [["k", 1, 9]])
    ask(other, "bye")
    replies = decoded(here.send(encode_request(8, "acquire", ([["k", 1, 9]],))))
    assert [reply[3] for reply in replies if reply[1] == 7] == [[[1, b"", 1, b""]]]
    assert ask(here, "holders", "k") == [[1, b"", 2, b""]]


def test_nobody_holds_a_counter_that_has_expired() -> None:
    here = Conversation()
    ask(here, "hello", {"session": True})
    ask(here, "acquire", [["k", 1, 1]])
    ask(here, "expire", "k", 5)
    assert len(ask(here, "holders", "k")) == 1
    here.now_ms += 5
    (row,) = ask(here, "sessions")
    assert row[b"held"] == []
    assert ask(here, "holders", "k") == []


def test_holders_come_in_pages() -> None:
    says("beginning with the first above `after`; at most 1 024. An empty page means that there are no more.")
    engine = Engine(config.ServerConfig())
    for _ in range(2_500):
        here = Conversation(engine)
        ask(here, "hello", {"session": True})
        here.send(encode_notification("acquire", ([["k", 1, 9_999]],)))
    seen: list[int] = []
    sizes = []
    while page := ask(here, "holders", "k", seen[-1] if seen else 0):
        seen += [number for number, *_ in page]
        sizes.append(len(page))
    assert seen == list(range(1, 2_501))
    assert sizes == [1_024, 1_024, 452]


def test_the_operator_ends_a_session() -> None:
    says("ends the session of this number. Its holds are given back, its waiting requests are dropped, and its")
    says("connection is closed at once; replies that were not sent are lost.")
    says("Its client can connect again and open another session.")
    says("It is `invalid` for the session of the connection that asks, which `bye` ends.")
    engine = engine_of()
    here, operator = Conversation(engine), Conversation(engine)
    ask(here, "hello", {"session": True})
    ask(here, "acquire", [["k", 1, 1]])
    ask(here, "incr", "other")
    here.send(encode_request(11, "wait_zero", ("other", None)))
    ask(operator, "hello", {"session": True})
    assert ask(operator, "end_session", 2) == "invalid"
    assert ask(operator, "end_session", 3) is False
    for bad in (0, -1, "1", 1.0, None, True, 2**63):
        assert ask(operator, "end_session", bad) == "invalid", bad
    assert ask(operator, "end_session", 1) is True
    assert ask(operator, "end_session", 1) is False
    assert ask(operator, "get", "k") == 0
    assert here.protocol.aborted
    assert here.send(encode_request(2, "incr", ("k",))) == b""
    assert engine.sessions.parked == 0
    engine.invariants(here.now_ms)
    here.reconnect()
    hello = {"session": SESSION_ID, "received": 0}
    assert ask(here, "hello", hello) == "no_session"
    assert isinstance(ask(here, "hello", {"session": True}), dict)
    assert [row[b"session"] for row in ask(here, "sessions")] == [2, 3]


# ------------------------------------------------------------------------------------------- trace and slowlog

TRACE = "00-4bf92f3577b34da6a3ce929d0e0e4736-00f067aa0ba902b7-01"


def slow(here: Conversation, *messages: bytes, times: int = 1) -> Any:
    """What `slowlog` says about the turns of these messages, if they were slow."""
    for _ in range(times):
        here.protocol.receive(b"".join(messages), here.now_ms)
        here.protocol.note_slow_turn(SLOW_NS_MIN + 1, 1_796_000_000_123, 40, 5)
    found = here.engine.stats.slow_log.slowest(times)
    here.engine.stats.slow_log.reset()
    return [turn.as_dict() for turn in found]


def traceparent_of(here: Conversation) -> Any:
    """Under which trace the next request is shown."""
    (turn,) = slow(here, encode_request(1, "get_many", (["a", "b", "c"],)))
    return turn["traceparent"]


def test_a_trace_belongs_to_what_follows_on_the_connection() -> None:
    says("to which trace of the client's own the requests belong that follow on this connection, until the next")
    says("nil ends it")
    says(f"`{TRACE}`")
    here = Conversation()
    assert traceparent_of(here) is None
    assert ask(here, "trace", TRACE) is None
    assert [traceparent_of(here), traceparent_of(here)] == [TRACE, TRACE]
    other = TRACE.replace("4bf9", "aaaa")
    assert ask(here, "trace", other.encode()) is None
    assert traceparent_of(here) == other
    assert ask(here, "trace", None) is None
    assert traceparent_of(here) is None


def test_a_new_connection_has_no_trace() -> None:
    says("A new connection has none, also one that resumes a session.")
    here = Conversation()
    ask(here, "hello", {"session": True})
    here.send(encode_notification("trace", (TRACE,)))
    here.reconnect()
    assert traceparent_of(here) is None
    ask(here, "hello", {"session": SESSION_ID, "received": 0})
    assert traceparent_of(here) is None


BAD_TRACEPARENTS: list[Any] = [
    *("", TRACE[:-1], TRACE + "0", TRACE.upper(), f" {TRACE[1:]}", TRACE.replace("-", "_"), f"{TRACE[:-1]}\n"),
    *(f"ff{TRACE[2:]}", f"00-{'0' * 32}-00f067aa0ba902b7-01", f"{TRACE[:36]}{'0' * 16}-01", f"{TRACE[:-1]}g"),
    *(TRACE[:-2] + "\u0660\u0661", 1, True, [TRACE], {"traceparent": TRACE}, b"\x1b[2J" + b"0" * 51, 0.0),
]


@pytest.mark.parametrize("bad", BAD_TRACEPARENTS, ids=str)
def test_a_bad_traceparent_changes_nothing(bad: Any) -> None:
    says("Its digits are lowercase, its version is not `ff`, and neither of its ids has only zeros.")
    says("Anything else is `invalid` and changes nothing.")
    says("as a notification: then one that is `invalid` is ignored, as unknown notifications are")
    here = Conversation()
    ask(here, "trace", TRACE)
    assert ask(here, "trace", bad) == "invalid"
    assert traceparent_of(here) == TRACE
    assert here.send(encode_notification("trace", (bad,)) + encode_notification("trace", ())) == b""
    assert traceparent_of(here) == TRACE
    assert not here.closing


def test_a_version_to_come_is_taken() -> None:
    here = Conversation()
    assert ask(here, "trace", f"01{TRACE[2:]}") is None
    assert traceparent_of(here) == f"01{TRACE[2:]}"


def test_a_trace_passes_the_window() -> None:
    says("`ack`, `cancel`, `release`, `bye` and `trace` are always executed")
    here = Conversation()
    ask(here, "hello", {"session": True})
    here.send(*(encode_request(2, "get", ("k",)) for _ in range(limits.UNACKNOWLEDGED_MAX)))
    assert ask(here, "get", "k") == "busy"
    here.send(encode_notification("trace", (TRACE,)))
    here.send(encode_notification("ack", (limits.UNACKNOWLEDGED_MAX + 1,)))
    assert traceparent_of(here) == TRACE


def test_a_trace_has_no_other_effect() -> None:
    says("Only `slowlog` shows it; it has no other effect.")
    traced, untraced = Conversation(engine_of(shards=1)), Conversation(engine_of(shards=1))
    traced.send(encode_notification("trace", (TRACE,)))
    calls: list[tuple[str, tuple[Any, ...]]] = [("incr", ("k",)), ("ttl", ("k",)), ("sessions", ())]
    for request in (encode_request(1, *call) for call in calls):
        assert traced.send(request) == untraced.send(request)


def test_the_words_of_slowlog() -> None:
    says("`session` `name` | the number of the session (never its id, which is the credential)")
    table = rows(section("### slowlog, slowlog_reset"))
    words = [word for first, *_ in table for word in re.findall(r"`(\w+)`", first)]
    here = Conversation(peer="192.0.2.7")
    here.protocol.receive(encode_request(1, "incr", ["k"]) * 3, here.now_ms)
    here.protocol.note_slow_turn(SLOW_NS_MIN + 5_000, 1_796_000_000_123, 40, 5)
    (turn,) = ask(here, "slowlog")
    assert [word.decode() for word in turn] == words
    assert turn == {
        b"duration_us": 1_005,
        b"time_ms": 1_796_000_000_123,
        b"method": b"incr",
        b"entries": 3,
        b"received_bytes": 40,
        b"sent_bytes": 5,
        b"session": None,
        b"name": None,
        b"address": b"192.0.2.7",
        b"traceparent": None,
    }


def test_what_a_turn_is(monkeypatch: pytest.MonkeyPatch) -> None:
    says("A turn is what the server does for one connection at one time: from the bytes that have arrived to the")
    says("to the replies.")
    says("It times every turn of 64 or more entries of work, and of the others about one in eight.")
    says("`duration_us` | microseconds that the turn took")
    says("`address` | where the connection comes from, without the port (`unix` for a Unix socket)")
    readings = iter(range(7_000_000, 10**12, 2_000_000))  # each is 2 ms later
    monkeypatch.setattr(connection_module, "_clock_ns", lambda: next(readings))
    monkeypatch.setattr(connection_module, "_wall_clock_ns", lambda: 1_796_000_000_123_999_999)
    engine = engine_of()
    get = encode_request(1, "get", ("k",))

    async def scenario() -> None:
        connection = Connection(
            engine, Turns(asyncio.get_running_loop().call_soon), lambda gone: None, peer="192.0.2.7"
        )
        connection.connection_made(FakeTransport())
        connection.data_received(get * 64)
        await turns_taken(connection)
        for _ in range(20):
            connection.data_received(get * 63)

    asyncio.run(scenario())
    turns = ask(Conversation(engine), "slowlog")
    assert [turn[b"entries"] for turn in turns] == [64, 63, 63]
    for turn in turns:
        assert (turn[b"duration_us"], turn[b"time_ms"]) == (2_000, 1_796_000_000_123)
        assert turn[b"received_bytes"] == turn[b"entries"] * len(get)
        assert turn[b"sent_bytes"] == turn[b"entries"] * 5
        assert turn[b"address"] == b"192.0.2.7"


def test_which_method_a_slow_turn_has() -> None:
    says("of the request in it that was the most work, or of one that was continued in it")
    says("plain requests of one method count together. nil if there was none")
    says("its work: about one for each counter, ten for a request that is not plain")
    says("It may have many requests, or a part of one.")
    here = Conversation()
    keys = [b"%d" % number for number in range(60)]
    ping = encode_request(1, "ping", ())
    gets = encode_request(1, "get", ("k",)) * 11
    (turn,) = slow(here, ping, gets)
    assert (turn["method"], turn["entries"]) == ("get", 21)
    (turn,) = slow(here, ping, gets, encode_request(1, "take", (keys,)))
    assert turn["method"] == "take"
    first, second = slow(here, encode_request(1, "apply", (keys * 8, 1))), slow(here)
    assert [first[0]["method"], second[0]["method"]] == ["apply", "apply"]
    (turn,) = slow(Conversation())
    assert (turn["method"], turn["entries"]) == (None, 0)


def test_the_slowest_come_first_until_the_log_is_reset() -> None:
    says("the `n` (1 to 128) slowest turns of connections since the server started or the log was reset, the")
    says("the slowest first.")
    says("`slowlog_reset()` -> how many were forgotten")
    here = Conversation()
    for number in (3, 200, 1, *range(2, 199)):
        here.protocol.note_slow_turn(SLOW_NS_MIN + number * 1_000, 0, 0, 0)
    found = [turn[b"duration_us"] - 1_000 for turn in ask(here, "slowlog", 128)]
    assert found == sorted(found, reverse=True)
    assert (found[0], len(found)) == (200, 128)
    assert [turn[b"duration_us"] - 1_000 for turn in ask(here, "slowlog")] == found[:32]
    assert ask(here, "slowlog", 129) == ask(here, "slowlog", 0) == "invalid"
    assert ask(here, "slowlog_reset") == 128
    assert ask(here, "slowlog") == []


def test_a_sweeper_that_is_off() -> None:
    says("**With `sweep_budget_ms` 0 the sweeper is off, and memory grows without a bound.**")
    says("Zeros that lazy eviction leaves, cleared tables and tables that are mostly empty keep their memory")
    says("waits and leases end, holds are given back, counters expire.")
    says("`info` says `off`, the log warns, and `steps` does not grow.")
    says("Runs one bounded step of the background sweeper now, also while it is off.")
    engine = engine_of(eviction="lazy", shards=1)
    here = Conversation(engine)
    cache = engine.store.cache("default")
    assert ask(here, "config_set", "sweep_budget_ms", 0) == 0.0
    keys = [b"%d" % number for number in range(2_000)]
    ask(here, "apply", keys, 1)
    ask(here, "apply", keys, -1)
    ask(here, "incr", "k", 1, 5)
    here.send(encode_request(7, "wait_zero", ("k", None)))
    for _ in range(100):
        here.now_ms += 100
        engine.advance(here.now_ms, 1_000)
    assert [reply[1] for reply in decoded(here.send(encode_request(8, "count", ())))] == [7, 8], "it has expired"
    assert cache.raw_entries() == 2_000
    sweeper = ask(here, "info")[b"sweeper"]
    assert (sweeper[b"off"], sweeper[b"steps"]) == (True, 0)
    while ask(here, "sweep"):
        pass
    assert cache.raw_entries() == 0
    ask(here, "config_set", "sweep_budget_ms", 1)
    assert ask(here, "info")[b"sweeper"][b"off"] is False
