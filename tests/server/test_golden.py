"""The server replies to the bytes in `golden.txt` with exactly the bytes there, for any cuts of the input."""

from __future__ import annotations

import random
import re
from pathlib import Path
from typing import NamedTuple

from naught._version import __version__
from naught.wire.codec import encode
from naught_server.commands import COMMANDS
from naught_server.config import CachePolicy
from support.conversation import Conversation, byte_by_byte, decoded, engine_of, random_cuts, split_messages
from support.each import hold_for_each

GOLDEN = Path(__file__).with_name("golden.txt")
TOKEN = re.compile(r"""(?P<byte>[0-9a-f]{2})|(?P<version>version)|(?P<text>'[^']*'|"[^"]*")(?:\*(?P<times>\d+))?""")
PING = bytes.fromhex("9400cdffeea470696e6790")
PONG = bytes.fromhex("9401cdffeec0a4706f6e67")


class Stretch(NamedTuple):
    """Requests and replies between two changes of time, and whether the connection closes after them."""

    broken: bool  # the last connection broke, and this is a new one
    passed_ms: int
    requests: tuple[bytes, ...]
    replies: tuple[bytes, ...]
    closes: bool


class Golden(NamedTuple):
    name: str
    stretches: tuple[Stretch, ...]

    @property
    def counted(self) -> bool:
        """Whether one more message would change the counts."""
        return "session" in self.name

    @property
    def any_order(self) -> bool:
        return "any order" in self.name


def bytes_of(notation: str) -> bytes:
    data = b""
    assert not TOKEN.sub("", notation).strip(), f"not understood: {notation}"
    for found in TOKEN.finditer(notation):
        if found["byte"]:
            data += bytes.fromhex(found["byte"])
        elif found["version"]:
            data += encode(__version__)
        else:
            data += found["text"][1:-1].encode() * int(found["times"] or 1)
    return data


def conversations() -> list[Golden]:
    """Parse the file."""
    golden: list[Golden] = []
    _explanation, _, text = GOLDEN.read_text().partition("\n\n\n")
    for line in text.splitlines():
        if line.startswith("# "):
            golden.append(Golden(line[2:], (Stretch(False, 0, (), (), False),)))
        elif line:
            golden[-1] = golden[-1]._replace(stretches=extended(golden[-1].stretches, line[:2], line[3:]))
    return golden


def extended(stretches: tuple[Stretch, ...], kind: str, rest: str) -> tuple[Stretch, ...]:
    *before, last = stretches
    if kind == "->":
        last = last._replace(requests=(*last.requests, bytes_of(rest)))
    elif kind == "<-":
        last = last._replace(replies=(*last.replies, bytes_of(rest)))
    elif kind == "!!":
        last = last._replace(closes=True)
    elif kind == "~~":
        return (*stretches, Stretch(True, 0, (), (), False))
    else:
        assert kind == "..", f"{kind} begins no line"
        return (*stretches, Stretch(False, int(rest), (), (), False))
    return (*before, last)


GOLDENS = conversations()
NAMED = [(each.name, each) for each in GOLDENS]


def fresh() -> Conversation:
    return Conversation(engine_of(CachePolicy("orders", shards=1), shards=1))


def go_on(conversation: Conversation, stretch: Stretch) -> None:
    """Do what comes before a stretch: let time pass, or break the connection."""
    conversation.now_ms += stretch.passed_ms
    conversation.engine.timers.fire_due(conversation.now_ms, 1_000)
    if stretch.broken:
        conversation.reconnect()


def check(golden: Golden, cuts: list[list[bytes]]) -> Conversation:
    """Send each stretch in the given pieces, and compare."""
    conversation = fresh()
    for stretch, pieces in zip(golden.stretches, cuts, strict=True):
        go_on(conversation, stretch)
        replies = conversation.send(*pieces)
        if golden.any_order:
            assert sorted(split_messages(replies)) == sorted(stretch.replies)
        else:
            assert replies == b"".join(stretch.replies)
        assert conversation.closing == stretch.closes
        conversation.engine.invariants(conversation.now_ms)
    return conversation


def one_request_at_a_time(golden: Golden) -> None:
    conversation = fresh()
    for stretch in golden.stretches:
        go_on(conversation, stretch)
        replies = list(stretch.replies)
        for request in stretch.requests:
            answers = split_messages(conversation.send(request))
            assert [decoded(answer) for answer in answers] == [decoded(reply) for reply in replies[: len(answers)]]
            assert answers == replies[: len(answers)]
            del replies[: len(answers)]
        assert not replies
        assert conversation.closing == stretch.closes


def in_random_pieces(golden: Golden) -> None:
    source = random.Random(golden.name)
    for _ in range(3):
        check(golden, [random_cuts(b"".join(stretch.requests), source) for stretch in golden.stretches])


def with_more_behind_it(golden: Golden) -> None:
    """A message and a half after each stretch change nothing before them; after a close they are not read."""
    conversation = fresh()
    for stretch in golden.stretches:
        go_on(conversation, stretch)
        behind = conversation.send(b"".join(stretch.requests) + PING + PING[:5])
        expected = [*stretch.replies] if stretch.closes else [*stretch.replies, PONG]
        assert sorted(split_messages(behind)) == sorted(expected)
        if not stretch.closes:
            assert conversation.send(PING[5:]) == PONG


def test_one_request_at_a_time() -> None:
    hold_for_each(NAMED, one_request_at_a_time)


def test_whole() -> None:
    hold_for_each(NAMED, lambda golden: check(golden, [[b"".join(each.requests)] for each in golden.stretches]))


def test_byte_by_byte() -> None:
    hold_for_each(
        NAMED, lambda golden: check(golden, [byte_by_byte(b"".join(each.requests)) for each in golden.stretches])
    )


def test_in_random_pieces() -> None:
    hold_for_each(NAMED, in_random_pieces)


def test_with_more_behind_it() -> None:
    hold_for_each([(name, golden) for name, golden in NAMED if not golden.counted], with_more_behind_it)


def test_every_method_is_there() -> None:
    asked = {
        message[2]
        for golden in GOLDENS
        if not golden.name.startswith("refused")
        for stretch in golden.stretches
        for request in stretch.requests
        for message in decoded(request)
        if message[0] == 0
    }
    # The reply of `info` has changing figures; its words are tested in test_protocol_page.py.
    assert set(COMMANDS) - asked == {b"info"}


def test_the_notation() -> None:
    assert bytes_of("""94 'ab' "c'd" 'x'*3 00""") == b"\x94abc'dxxx\x00"
