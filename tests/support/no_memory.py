"""Run commands while one allocation after another fails. A program, because the interpreter itself may not survive.

    python tests/support/no_memory.py GROUP [NUMBER...]     tries the calls of a group, without these attempts

It writes the number of each attempt before it makes it, so that it can be started again without an attempt that has
ended the process. `_testcapi.set_nomemory` makes one allocation of the interpreter fail.
"""

from __future__ import annotations

import itertools
import sys
from collections.abc import Callable, Iterator
from pathlib import Path
from typing import Any, NamedTuple

if __name__ == "__main__":
    sys.path.insert(0, str(Path(__file__).parents[1]))

import _testcapi

from naught.wire.codec import encode_request
from naught_server.engine import Engine
from naught_server.fatal import FATAL
from support.conversation import NOW_MS, Conversation, decoded, engine_of

GOOD_IN_A_ROW = 12
"""So many allocations later without an effect, none is left to fail."""


class Call(NamedTuple):
    """A request, and what is there when it comes."""

    name: str
    method: str
    params: tuple[Any, ...] = ()
    before: tuple[tuple[str, tuple[Any, ...]], ...] = ()


KEYS = [b"k%d" % number for number in range(12)]
SOME = (("apply", (KEYS[:6], [1, 2, 3, 4, 5, 6])), ("set", (b"mortal", 3, 50_000)))
SESSION = (("hello", ({"session": True},)), *SOME)
HELD = (*SESSION, ("acquire", ([[b"held", 2, 5], [b"also", 1, 5]],)))

CALLS = [
    Call("incr creates", "incr", (b"new",)),
    Call("incr creates with a time to live", "incr", (b"new", 5, 1_000)),
    Call("incr", "incr", (KEYS[0], 2**40), SOME),
    Call("decr", "decr", (KEYS[5], 1), SOME),
    Call("decr evicts", "decr", (KEYS[0],), SOME),
    Call("decr evicts a mortal one", "decr", (b"mortal", 3), SOME),
    Call("decr strict", "decr", (KEYS[0], 5, True), SOME),
    Call("apply", "apply", (KEYS, [1, -2, 3, -4, 5, -6, 7, -8, 9, -10, 11, 1 << 40]), SOME),
    Call("apply with a time to live", "apply", (KEYS, 1, 5_000), SOME),
    Call("get", "get", (KEYS[3],), SOME),
    Call("get_many", "get_many", (KEYS,), SOME),
    Call("set", "set", (b"new", 7, 100)),
    Call("set evicts", "set", (b"mortal", 0), SOME),
    Call("take", "take", ([*KEYS, b"mortal"],), SOME),
    Call("try_incr", "try_incr", ([[key, 1, 10] for key in KEYS], 1_000), SOME),
    Call("throttle", "throttle", (b"calls", 10, 1_000), SOME),
    Call("expire", "expire", (KEYS[1], 1_000), SOME),
    Call("ttl", "ttl", (b"mortal",), SOME),
    Call("scan", "scan", (0, 10, b"k"), SOME),
    Call("top", "top", (3,), SOME),
    Call("count", "count", (b"k",), SOME),
    Call("clear", "clear", (), HELD),
    Call("acquire", "acquire", ([[b"a", 1, 5], [b"b", 2, 5], [KEYS[5], 1, 10]],), SESSION),
    Call("acquire waits", "acquire", ([[b"held", 1, 2]], 10_000), HELD),
    Call("release", "release", (1,), HELD),
    Call("release a part", "release", (1, [[b"held", 1]]), HELD),
    Call("held", "held", (), HELD),
    Call("wait_zero", "wait_zero", (KEYS[5], 10_000), SESSION),
    Call("cancel", "cancel", (9,), HELD),
    Call("hello", "hello", ({"session": True, "name": "me", "lease_ms": 500},)),
    Call("ack", "ack", (2,), SESSION),
    Call("bye", "bye", (), HELD),
    Call("sessions", "sessions", (), HELD),
    Call("holders", "holders", (b"held",), HELD),
    Call("end_session", "end_session", (7,), HELD),
    Call("trace", "trace", (None,)),
    Call("slowlog", "slowlog"),
    Call("slowlog_reset", "slowlog_reset"),
    Call("ping", "ping"),
    Call("info", "info", (), HELD),
    Call("config_get", "config_get"),
    Call("config_set", "config_set", ("drain_timeout_ms", 50)),
    Call("sweep", "sweep", (), SOME),
]
GROUPS = {
    "changes": {"incr", "decr", "apply", "set", "take", "try_incr"},
    "others": {"get", "get_many", "throttle", "expire", "ttl", "scan", "top", "count", "clear"},
    "holds": {"acquire", "release", "held", "wait_zero", "cancel", "holders", "end_session", "sessions"},
    "administration": {
        *("hello", "ack", "bye", "trace", "slowlog", "slowlog_reset", "ping", "info", "config_get", "config_set"),
        "sweep",
    },
}


def prepared(call: Call, eviction: str, careful: bool) -> Conversation:
    conversation = Conversation(engine_of(shards=2, eviction=eviction), careful=careful)
    for number, (method, params) in enumerate(call.before):
        for _, _, error, _ in decoded(conversation.send(encode_request(100 + number, method, params))):
            assert error is None
    return conversation


def state_of(engine: Engine) -> Any:
    """Counters, deadlines, holds and waits: all that a command may change and a client can see."""
    cache = engine.store.caches["default"]
    live = [found for shard in range(len(cache.tables)) for found in cache.counters_of(shard, NOW_MS, b"")]
    deadlines = sorted(cache.deadlines().items())
    held = sorted((key, cache.waiters.held_by(key)) for key in cache.waiters.generations)
    sessions = [(session.number, sorted(session.parked)) for session in engine.sessions]
    settings = engine.settings.as_dict()
    return sorted(live), deadlines, held, sessions, settings


def without_memory(conversation: Conversation, request: bytes, which: int) -> bytes | None:
    """The replies to a request while this allocation fails; None where that ends the process."""
    failed = False
    replies = b""
    receive, now_ms = conversation.protocol.receive, conversation.now_ms
    _testcapi.set_nomemory(which, which + 1)
    try:
        replies = receive(request, now_ms)
    except FATAL:
        failed = True
    finally:
        _testcapi.remove_mem_hooks()
    return None if failed else replies + conversation.send(b"")


def answer_of(replies: bytes) -> Any:
    """What a request was told: its result, or None for an error; `[]` for nothing yet."""
    answers = [None if error is not None else [result] for _, msgid, error, result in decoded(replies) if msgid == 1]
    return answers[0] if answers else []


def ways(group: str) -> Iterator[tuple[Call, str, bool]]:
    """Each call as it is; those of the hot path with all checks too, those that evict with zeros that stay too."""
    for call in CALLS:
        if call.method in GROUPS[group]:
            yield call, "eager", False
            if call.method in {"incr", "decr", "apply"}:
                yield call, "eager", True
            if "evicts" in call.name or call.method in {"apply", "take", "sweep"}:
                yield call, "lazy", False


def try_call(call: Call, eviction: str, careful: bool, begin: Callable[[], bool]) -> int:
    """Make one attempt after the other, each with a later allocation that fails, until none does.

    `begin` says whether the next one can be made, or is known to end the process. Returns how many ended it. Raises
    AssertionError where half of a command has happened, or something else than was said.
    """
    request = encode_request(1, call.method, call.params)
    whole = prepared(call, eviction, careful)
    before = state_of(whole.engine)
    right = answer_of(whole.send(request))
    after = state_of(whole.engine)
    ended = good = which = 0
    while good < GOOD_IN_A_ROW:
        which += 1 + which // 50  # `clear` makes thousands
        conversation = prepared(call, eviction, careful)
        replies = without_memory(conversation, request, which) if begin() else None
        if replies is None:
            ended += 1
            good = 0
            continue
        where = f"{call.name}, {eviction}{', carefully' if careful else ''}, allocation {which}"
        answer = answer_of(replies)
        state = state_of(conversation.engine)
        conversation.engine.invariants(conversation.now_ms)
        if answer is None and right is not None:
            good = 0
            assert state == before, f"{where}: an error, and something has happened: {before} {state}"
        else:
            good += 1
            # `info` and the like have figures of this process in them; what they say is not at stake here.
            assert call.method in {"info", "sessions", "slowlog"} or answer == right, f"{where}: {answer} {right}"
            assert state == after, f"{where}: success, and not all has happened: {after} {state}"
    return ended


def main() -> None:
    """Make the attempts of a group."""
    left_out = set(map(int, sys.argv[2:]))
    numbers = itertools.count(1)

    def begin() -> bool:
        number = next(numbers)
        print(number, flush=True)
        return number not in left_out

    for way in ways(sys.argv[1]):
        ended = try_call(*way, begin)
        assert ended, f"{way[0].name}: no allocation failed"


if __name__ == "__main__":
    main()
