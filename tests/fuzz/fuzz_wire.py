"""Fuzzers of the decoder and of a whole server: random and mutated bytes, cut into pieces at random.

The decoder: any bytes are a message, the beginning of one, or a protocol error, the same for all cuts. The server: no
input makes it raise or log a fault; its replies are MessagePack-RPC, at most one for each request; its invariants
hold; replies and state are the same for all cuts.

    python tests/fuzz/fuzz_wire.py      runs for NAUGHT_FUZZ_SECONDS (default an hour), from NAUGHT_FUZZ_SEED

A failing round prints its seed. To repeat only this round: NAUGHT_FUZZ_SEED=that NAUGHT_FUZZ_SECONDS=0.
"""

from __future__ import annotations

import logging
import random
import sys
import time
from pathlib import Path
from typing import Any

sys.path.insert(0, str(Path(__file__).parents[1]))

import msgpack  # type: ignore[import-untyped]

from fuzz.wire_input import Source
from naught_server.bad_input import BadInput
from naught_server.config import CachePolicy
from naught_server.decoder import Input, Map
from naught_server.store import Cache
from support.conversation import NOW_MS, Conversation, byte_by_byte, cut, decoded, engine_of, random_cuts
from support.seeds import told

ROUNDS_BYTE_BY_BYTE = 3_000
"""Longer inputs are not fed byte by byte, because that would take most of the time."""


def cuts_of(data: bytes, source: random.Random) -> list[list[bytes]]:
    """Ways to cut an input, some of them at limits."""
    near = [limit + source.randrange(-3, 12) for limit in (8_192, 16_384, 65_536, 1 << 20)]
    ways = [random_cuts(data, source), cut(data, near), cut(data, range(0, len(data), source.randrange(500, 9_000)))]
    if len(data) <= ROUNDS_BYTE_BY_BYTE:
        ways.append(byte_by_byte(data))
    return ways


# ------------------------------------------------------------------------------------------------- the decoder


def flat(value: Any) -> list[Any]:
    """A value as one flat list, which can be compared without recursion."""
    found: list[Any] = []
    rest = [value]
    while rest:
        each = rest.pop()
        if isinstance(each, Map):
            found.append("map")
            each = tuple(each.pairs)
        if isinstance(each, tuple) and type(each) is tuple:
            found.append(("array of", len(each)))
            rest.extend(each)
        else:
            # By its text, because not-a-number does not equal itself.
            found.append((type(each).__name__, repr(each)))
    return found


def decode(pieces: list[bytes]) -> tuple[list[Any], Any]:
    """The messages, and the end: an error, or the number of bytes of an unfinished message."""
    received = Input()
    messages: list[Any] = []
    try:
        for piece in pieces:
            received.feed(piece)
            while (message := received.next_message()) is not None:
                messages.append(flat(message))
            assert received.pinned_bytes() <= 1 << 20
    except BadInput as fault:
        return messages, (fault.code, str(fault), fault.msgid)
    return messages, received.pinned_bytes()


def reference(data: bytes) -> tuple[list[Any], bool]:
    """What plain msgpack makes of it, without limits: messages, and whether it ended well."""
    unpacker = msgpack.Unpacker(
        raw=True, use_list=False, strict_map_key=False, object_pairs_hook=Map, max_buffer_size=0
    )
    unpacker.feed(data)
    messages = []
    try:
        while True:
            message = unpacker.unpack()
            messages.append(flat(() if message is None else message))  # as `Input` has it
    except msgpack.OutOfData:
        return messages, True
    except Exception:
        return messages, False


def decoder_round(seed: int) -> None:
    """One input through the decoder, whole and in pieces."""
    source = Source(seed)
    data = source.stream()
    expected = decode([data])
    for pieces in cuts_of(data, source):
        found = decode(pieces)
        assert found == expected, f"{[len(piece) for piece in pieces][:60]} gave {found[1]}, whole gave {expected[1]}"
    messages, good = reference(data)
    # The limits may end it sooner. What comes out before is what is there.
    assert expected[0] == messages[: len(expected[0])]
    if isinstance(expected[1], int):
        assert len(expected[0]) == len(messages)
    if not good:
        assert not isinstance(expected[1], int) or expected[1] > 0


# ------------------------------------------------------------------------------------------------- a server


class Faults(logging.Handler):
    """Keeps the errors that a server logs."""

    def __init__(self) -> None:
        super().__init__(logging.ERROR)
        self.found: list[str] = []

    def emit(self, record: logging.LogRecord) -> None:
        """Keep it."""
        self.found.append(self.format(record))


FAULTS = Faults()
TIMED = {b"info", b"sweep", b"top", b"count", b"holders"}
"""Methods whose replies depend on turns, and so on the cuts of the input."""


def outcome_of(pieces: list[bytes], eviction: str) -> tuple[list[Any], bool, dict[str, Any]]:
    """The replies in order, whether the connection closed, and the counters of each cache then."""
    small = CachePolicy("small", shards=2, eviction=eviction, max_counters=3)  # type: ignore[arg-type]
    conversation = Conversation(engine_of(small, shards=1, eviction=eviction))
    replies = conversation.send(*pieces)
    conversation.engine.store.invariants(conversation.now_ms)
    assert not conversation.protocol.wants_turn
    assert all(not cache.locks.held for cache in conversation.engine.store.caches.values())
    held = {name: live_of(cache) for name, cache in conversation.engine.store.caches.items()}
    return decoded(replies), conversation.closing, held


def live_of(cache: Cache) -> list[tuple[bytes, int]]:
    """A cache's counters."""
    return sorted(found for shard in range(len(cache.tables)) for found in cache.counters_of(shard, NOW_MS, b""))


def requests_of(data: bytes) -> tuple[dict[Any, int], set[Any]]:
    """The number of requests by msgid, up to the first bad input; and the msgids of those with a method in TIMED."""
    counts: dict[Any, int] = {}
    timed = set()
    received = Input()
    received.feed(data)
    try:
        while (message := received.next_message()) is not None:
            if message.__class__ is tuple and len(message) == 4 and message[1].__class__ is int:
                counts[message[1]] = counts.get(message[1], 0) + 1
                if message[2] in TIMED:
                    timed.add(message[1])
    except BadInput as fault:
        if fault.msgid is not None:
            counts[fault.msgid] = counts.get(fault.msgid, 0) + 1
    return counts, timed


def check_replies(replies: list[Any], counts: dict[Any, int]) -> None:
    answered: dict[int, int] = {}
    for kind, msgid, error, result in replies:
        assert kind == 1
        assert error is None or result is None
        if error is not None:
            code, sentence = error
            assert code != b"unavailable"
            assert sentence.decode()
        answered[msgid] = answered.get(msgid, 0) + 1
    assert all(count <= counts.get(msgid, 0) for msgid, count in answered.items()), "a reply without a request"


def session_round(seed: int) -> None:
    """One input through a server, whole and in pieces."""
    source = Source(seed)
    data = source.stream()
    eviction = source.choice(["eager", "lazy"])
    FAULTS.found.clear()
    whole, closed, held = outcome_of([data], eviction)
    counts, timed = requests_of(data)
    check_replies(whole, counts)
    for pieces in cuts_of(data, source)[: 2 if len(data) > ROUNDS_BYTE_BY_BYTE else 4]:
        replies, also_closed, also_held = outcome_of(pieces, eviction)
        check_replies(replies, counts)
        assert also_closed == closed
        assert comparable(replies, timed) == comparable(whole, timed)
        assert also_held == held
    assert not FAULTS.found, FAULTS.found[0]


def comparable(replies: list[Any], timed: set[Any]) -> list[str]:
    """Replies that do not depend on turns, in their order."""
    return [repr(reply) for reply in replies if reply[1] not in timed]


# ------------------------------------------------------------------------------------------------- running


ROUNDS = {"decoder": decoder_round, "session": session_round}


def fuzz(target: str, seed: int, seconds: float) -> int:
    """Run rounds from this seed on until the time is over, at least one. Returns how many."""
    logger = logging.getLogger("naught.server")
    logger.addHandler(FAULTS)
    propagate, logger.propagate = logger.propagate, False
    end = time.monotonic() + seconds
    count = 0
    try:
        while True:
            try:
                ROUNDS[target](seed + count)
            except BaseException:
                print(f"{target} failed: NAUGHT_FUZZ_SEED={seed + count} NAUGHT_FUZZ_SECONDS=0", file=sys.stderr)
                raise
            count += 1
            if time.monotonic() >= end:
                return count
    finally:
        logger.removeHandler(FAULTS)
        logger.propagate = propagate


def seed_of_environment() -> int:
    """The seed to start from: NAUGHT_FUZZ_SEED, or a random one. Printed, so that a failure can be repeated."""
    seed = int(told("NAUGHT_FUZZ_SEED") or random.SystemRandom().randrange(2**40))
    print(f"NAUGHT_FUZZ_SEED={seed}")
    return seed


def main() -> None:
    """Both targets in turns."""
    seed = seed_of_environment()
    end = time.monotonic() + float(told("NAUGHT_FUZZ_SECONDS") or 3600)
    rounds = 0
    while True:
        for target in ROUNDS:
            left = min(10.0, end - time.monotonic())
            rounds = max(rounds, fuzz(target, seed, left))
        seed += rounds
        if time.monotonic() >= end:
            break
        print(f"up to seed {seed}", flush=True)


if __name__ == "__main__":
    main()
