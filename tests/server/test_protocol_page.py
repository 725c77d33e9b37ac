"""PROTOCOL.md is normative: its examples are run, and its numbers and words are compared with the code."""

from __future__ import annotations

import json
import re
from collections.abc import Iterator
from pathlib import Path
from typing import Any

import pytest

import naught_server
from naught import errors
from naught.wire import limits
from naught.wire.codec import encode_request
from naught_server import commands, config, hot
from naught_server import session as session_module
from naught_server.commands import COMMANDS
from naught_server.walk import METHOD_BYTES_MAX, SMALL_BYTES, SMALL_ELEMENTS
from support.conversation import Conversation, decoded, engine_of

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
        ("scan", [0], [0, 100, ""]),
        ("top", [3], [3, ""]),
        ("count", [], [""]),
        ("config_get", [], [None]),
        ("hello", [], [{}]),
        ("acquire", [[["k", 1, 99]]], [[["k", 1, 99]], 0]),
        ("sessions", [], [0]),
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
        ("reply", limits.REPLY_BYTES_MAX),
        ("requests of a client that work in slices at the same time", session_module.SLICES_MAX),
        ("an unfinished message", config.MESSAGE_MS_MAX),
        ("undecoded input of one connection", 1 << 20),
        ("replies a client leaves unread", config.OUTPUT_BYTES_MAX),
        ("work for one connection in one turn", config.TURN_ITEMS_MAX),
        ("connections", config.CONNECTIONS_MAX),
        ("replies of a session not acknowledged", limits.UNACKNOWLEDGED_MAX),
        (PARKED, limits.PARKED_MAX),
        ("keys that the waiting requests of a client wait for, together", limits.PARKED_ITEMS_MAX),
        ("amounts a session holds", config.HELD_ITEMS_MAX),
    ],
)
def test_the_limits(limit: str, expected: int) -> None:
    table = {first: value for first, value, *_ in rows(section("## 2. Limits"))}
    assert number_of(table[limit]) == expected


@pytest.mark.parametrize(
    ("found", "expected", "sentence"),
    [
        ((SMALL_BYTES, SMALL_ELEMENTS), (8_192, 64), "has up to 8 192 bytes and 64 elements"),
        (config.INPUT_BYTES_MAX, 1_114_112, "| 1 MiB and 64 KiB (1 114 112 bytes) |"),
        (config.MESSAGE_MS_MAX, 30_000, "unfinished message for 30 s from its first byte"),
        (config.OUTPUT_PAUSED_MS_MAX, 10_000, "after 10 s of that the connection ends"),
        (limits.DEFAULT_PORT, 6480, "Default port 6480."),
        (limits.TTL_MS_MAX, 315_360_000_000, "from 1 to 315 360 000 000 (ten years)"),
        (hot._TABLED, 16_384, "Ids below 16 384"),
        (limits.UNACKNOWLEDGED_BYTES_MAX, 4_194_304, "1 024, and 4 MiB (4 194 304 bytes)"),
        (limits.WAIT_MS_MAX, 86_400_000, "`wait_ms` is 0 to 86 400 000 (a day)"),
        (limits.SESSION_ID_BYTES, 16, "the id of 16 bytes"),
        (config.LEASE_MS_DEFAULT, 10_000, "(default 10 000; the server limits it to the range 100\n  to 300 000)"),
        ((config.LEASE_MS_MIN, config.LEASE_MS_MAX), (100, 300_000), "limits it to the range 100\n  to 300 000"),
        (
            (config.SESSIONS_OF_ADDRESS, config.SESSIONS_OF_ADDRESS_MIN),
            (10, 32),
            "a tenth of all sessions and at least 32",
        ),
        (config.SESSIONS_PER_CONNECTION, 2, "| sessions | twice the connections |"),
        (limits.PEER_SILENT_S, 5, "by TCP keepalive after 5 s of silence"),
        (limits.PEER_UNACKNOWLEDGED_MS, 10_000, "ends\nabout ten seconds later, and its holds"),
        (commands._SESSIONS_LISTED_MAX, 512, "at most 512, each with the words"),
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
    assert set(re.findall(r"`(\w+)`", described["`sessions`"])) == {word.decode() for word in found[b"sessions"]}
    assert set(re.findall(r"`(\w+)`", described["`sweeper`"])) == {word.decode() for word in found[b"sweeper"]}
    assert found[b"caches"][b"default"][b"counters"] == 1


def test_the_settings() -> None:
    text = section("### config_get, config_set")
    words = engine_of().settings.as_dict()
    assert all(f"`{word}`" in text for word in words)
    assert f"`sweep_budget_ms` ({config.SWEEP_BUDGET_MS_MIN} to {config.SWEEP_BUDGET_MS_MAX:g})" in text
    assert "`drain_timeout_ms` (0 to 3 600 000)" in text
    assert config.DRAIN_TIMEOUT_MS_MAX == 3_600_000
