"""All sessions of an engine: their figures, why they end, what is taken back then, and what operators see and do."""

from __future__ import annotations

from typing import Any, NamedTuple

import pytest

from naught.wire.codec import encode, encode_notification, encode_request
from naught.wire.limits import REPLY_BYTES_MAX, UNACKNOWLEDGED_MAX
from naught_server import commands
from naught_server import sessions as sessions_module
from naught_server.commands import REQUEST_ENTRIES
from naught_server.config import CachePolicy, ServerConfig
from naught_server.engine import Engine
from naught_server.holds import COUNTERS_NAMED_MAX, TakenBack
from naught_server.limits import LEASE_MS_DEFAULT, TURN_ITEMS_MAX
from naught_server.session import END_REASONS, Session
from naught_server.sweep import ShardCompaction
from support.conversation import Conversation, decoded, engine_of


class Taken(NamedTuple):
    """The report on a session whose holds were taken back."""

    number: int
    reason: str
    holds: int
    amounts: int
    total: int
    first: dict[bytes, int]


def watched(engine: Engine) -> list[Taken]:
    """The reports of an engine, as they come."""
    reports: list[Taken] = []

    def note(session: Session, reason: str, taken: TakenBack) -> None:
        reports.append(Taken(session.number, reason, taken.holds, taken.amounts, taken.total, taken.first))

    engine.watch(on_taken_back=note)
    return reports


def ask(here: Conversation, method: str, *params: Any, msgid: int = 1) -> Any:
    """The result of a request, or the code of its error. Other replies are ignored."""
    for _, its, error, result in decoded(here.send(encode_request(msgid, method, params))):
        if its == msgid:
            return result if error is None else error[0].decode()
    return None


def opened(engine: Engine, **words: Any) -> Conversation:
    """A conversation with a session."""
    here = Conversation(engine)
    answer = ask(here, "hello", {"session": True, **words})
    assert isinstance(answer, dict), answer
    return here


def lose(here: Conversation) -> None:
    """The connection breaks, and nobody comes back."""
    here.protocol.close(here.now_ms)


def figures(engine: Engine) -> dict[str, Any]:
    """The figures of the sessions. A walk over all sessions has found the same (`invariants`)."""
    engine.invariants(0)
    sessions = engine.sessions
    return {
        "open": len(sessions),
        "connected": sessions.connected,
        "opened": sessions.opened,
        "ended": {reason: count for reason, count in sessions.ended.items() if count},
        "holds": (sessions.holds, sessions.held_amounts),
        "taken_back": (sessions.holds_taken_back, sessions.held_amounts_taken_back),
        "parked": (sessions.parked, sessions.parked_keys),
    }


# ---------------------------------------------------------------------------------------- figures


def test_nothing_is_there_at_first() -> None:
    engine = engine_of()
    assert figures(engine) == {
        "open": 0,
        "connected": 0,
        "opened": 0,
        "ended": {},
        "holds": (0, 0),
        "taken_back": (0, 0),
        "parked": (0, 0),
    }
    assert set(engine.sessions.ended) == set(END_REASONS)


def test_sessions_and_their_connections_are_counted() -> None:
    engine = engine_of()
    first, second = opened(engine), opened(engine)
    Conversation(engine).send(encode_request(1, "ping", ()))  # which asks for no session
    assert (figures(engine)["open"], figures(engine)["connected"]) == (2, 2)
    ask(first, "ping")
    first.reconnect()
    assert (figures(engine)["open"], figures(engine)["connected"]) == (2, 1)
    ask(first, "hello", {"session": b"session number 1", "received": 0})
    assert (figures(engine)["open"], figures(engine)["connected"]) == (2, 2)
    thief = Conversation(engine)
    ask(thief, "hello", {"session": b"session number 2", "received": 0})  # while its old connection looks open
    assert second.protocol.aborted
    assert (figures(engine)["open"], figures(engine)["connected"]) == (2, 2)
    second.protocol.close(second.now_ms)
    assert (figures(engine)["open"], figures(engine)["connected"]) == (2, 2)
    ask(thief, "bye")
    assert (figures(engine)["open"], figures(engine)["connected"]) == (1, 1)
    assert figures(engine)["opened"] == 2


def test_holds_and_their_amounts_are_counted() -> None:
    engine = engine_of()
    here, other = opened(engine), opened(engine)
    ask(here, "acquire", [["a", 2, 9], ["b", 1, 9]])
    ask(here, "acquire", [["a", 1, 9]])
    ask(other, "acquire", [["a", 1, 9], ["a", 1, 9], ["c", 1, 9]])
    assert figures(engine)["holds"] == (3, 5)
    assert ask(here, "release", 1, [["a", 1]]) == [4]
    assert figures(engine)["holds"] == (3, 5), "a part is left of that amount"
    ask(here, "release", 1, [["a", 1]])
    assert figures(engine)["holds"] == (3, 4)
    ask(here, "release", 1)
    assert figures(engine)["holds"] == (2, 3)
    ask(other, "set", "c", 0)
    assert figures(engine)["holds"] == (2, 3), "that it has ended is not found yet"
    ask(other, "release", 3, [["c", 1]])
    assert figures(engine)["holds"] == (2, 2)
    ask(other, "clear")
    assert ask(here, "held") == ask(other, "held") == []
    assert figures(engine)["holds"] == (0, 0)


def test_a_hold_of_ended_generations_only_is_no_hold_once_it_is_released() -> None:
    engine = engine_of()
    here = opened(engine)
    ask(here, "acquire", [["a", 1, 9]])
    ask(here, "take", ["a"])
    assert ask(here, "release", 1) == "not_held"
    assert figures(engine)["holds"] == (0, 0)
    ask(here, "acquire", [["a", 1, 9]])
    ask(here, "take", ["a"])
    assert ask(here, "release", 2, [["a", 1]]) == "not_held"
    assert figures(engine)["holds"] == (0, 0)


def test_what_waits_is_counted_without_a_session_too() -> None:
    engine = engine_of()
    here, other = opened(engine), Conversation(engine)
    ask(here, "apply", ["a", "b", "c"], 1)
    ask(here, "acquire", [["a", 1, 1], ["b", 1, 1], ["a", 1, 1]], None, msgid=11)
    ask(here, "wait_zero", "c", None, msgid=12)
    ask(other, "wait_zero", "a", None, msgid=13)
    ask(other, "wait_zero", "c", 5, msgid=14)
    assert figures(engine)["parked"] == (3, 3), "an acquire with an amount above its limit does not wait"
    ask(here, "acquire", [["a", 1, 1], ["b", 1, 1]], None, msgid=15)
    assert figures(engine)["parked"] == (4, 5)
    ask(here, "cancel", 12)
    assert figures(engine)["parked"] == (3, 4)
    here.now_ms += 5
    engine.advance(here.now_ms, 100)
    assert figures(engine)["parked"] == (2, 3)
    ask(here, "set", "a", 0)
    assert figures(engine)["parked"] == (1, 2), "b has no room yet"
    lose(other)
    ask(here, "bye")
    assert figures(engine)["parked"] == (0, 0)


def test_what_clear_wakes_waits_until_it_is_answered() -> None:
    engine = engine_of()
    here = Conversation(engine)
    keys = [b"%d" % number for number in range(1_000)]
    ask(here, "apply", keys, 1)
    for number, key in enumerate(keys):
        ask(here, "wait_zero", key, None, msgid=100 + number)
    assert figures(engine)["parked"] == (1_000, 1_000)
    ask(here, "clear")
    assert 0 < engine.sessions.parked < 1_000, "a step answers so many and no more"
    engine.invariants(here.now_ms)
    while engine.sessions.parked:
        assert engine.advance(here.now_ms, 1_000)
    engine.invariants(here.now_ms)


def test_a_wait_that_is_refused_is_not_counted() -> None:
    engine = Engine(ServerConfig(parked_bytes_max=1 << 20))
    here = opened(engine)
    ask(here, "incr", "full")
    wide = [[b"full", 1, 1], *([b"%d" % number, 1, 9] for number in range(999))]
    refused = [ask(here, "acquire", wide, None, msgid=10 + number) for number in range(12)]
    assert "busy" in refused
    waiting = refused.count(None)
    assert figures(engine)["parked"] == (waiting, 1_000 * waiting)


def test_the_invariants_see_a_figure_that_is_off() -> None:
    engine = engine_of()
    here = opened(engine)
    ask(here, "acquire", [["a", 1, 1]])
    ask(here, "acquire", [["a", 1, 1]], None, msgid=10)
    engine.invariants(here.now_ms)
    sessions = engine.sessions
    for spoil, mend in (
        (lambda: sessions.hold_counts.change(1, 0), lambda: sessions.hold_counts.change(-1, 0)),
        (lambda: sessions.hold_counts.change(0, 1), lambda: sessions.hold_counts.change(0, -1)),
        (lambda: sessions.add_parked(1, 1), lambda: sessions.remove_parked(1, 1)),
    ):
        spoil()
        with pytest.raises(AssertionError, match=r"is off|parked is"):
            engine.invariants(here.now_ms)
        mend()
        engine.invariants(here.now_ms)


# ---------------------------------------------------------------------------------------- ends


def overrun(here: Conversation) -> None:
    """Leave more than twice the window unacknowledged."""
    here.send(b"".join(encode_request(100 + number, "ping", ()) for number in range(2 * UNACKNOWLEDGED_MAX + 10)))


def out_of_lease(here: Conversation) -> None:
    """Lose the connection, and do not come back in time."""
    lose(here)
    here.now_ms += LEASE_MS_DEFAULT
    here.engine.advance(here.now_ms, 1_000)


ENDS: dict[str, Any] = {
    "bye": lambda here: ask(here, "bye"),
    "lease": out_of_lease,
    "overrun": overrun,
    "protocol": lambda here: here.send(b"\xc1"),
}


@pytest.mark.parametrize("reason", ENDS)
def test_an_end_is_counted_by_its_reason_and_reported_unless_it_is_bye(reason: str) -> None:
    engine = engine_of()
    reports = watched(engine)
    here, other = opened(engine), opened(engine)
    ask(other, "incr", "shared")
    ask(here, "acquire", [["shared", 2, 9], ["own", 3, 9]])
    ask(here, "acquire", [["own", 1, 9]])
    ENDS[reason](here)
    engine.invariants(here.now_ms)
    assert figures(engine)["ended"] == {reason: 1}
    assert figures(engine)["holds"] == (0, 0)
    assert ask(other, "get_many", ["shared", "own"]) == [1, 0]
    evictions = engine.store.caches["default"].evictions
    assert (evictions["session"], evictions["zero"]) == (1, 0), "own, not shared"
    if reason == "bye":
        assert reports == []
        assert figures(engine)["taken_back"] == (0, 0)
    else:
        assert reports == [Taken(1, reason, 2, 3, 6, {b"shared": 2, b"own": 4})]
        assert figures(engine)["taken_back"] == (2, 3)


def test_a_session_that_makes_room_is_displaced() -> None:
    engine = Engine(ServerConfig(connections_max=1))
    first = opened(engine)
    lose(first)
    opened(engine)
    opened(engine)
    assert figures(engine)["ended"] == {"displaced": 1}


def test_a_release_evicts_for_another_reason() -> None:
    engine = engine_of()
    here = opened(engine)
    ask(here, "acquire", [["a", 1, 1]])
    ask(here, "acquire", [["b", 1, 1]])
    ask(here, "release", 1)
    ask(here, "release", 2, [["b", 1]])
    evictions = engine.store.caches["default"].evictions
    assert (evictions["session"], evictions["zero"]) == (0, 2)


@pytest.mark.parametrize("eviction", ["eager", "lazy"])
def test_an_eviction_by_the_end_of_a_session_is_counted_with_either_policy(eviction: Any) -> None:
    engine = engine_of(eviction=eviction)
    here = opened(engine)
    ask(here, "acquire", [["a", 1, 1]])
    out_of_lease(here)
    assert engine.store.caches["default"].evictions["session"] == 1
    engine.invariants(here.now_ms)


def test_what_has_ended_before_is_not_taken_back() -> None:
    engine = engine_of()
    reports = watched(engine)
    here, other = opened(engine), opened(engine)
    ask(here, "acquire", [["gone", 1, 9]])
    ask(here, "acquire", [["gone", 1, 9], ["there", 1, 9]])
    ask(other, "set", "gone", 0)
    ask(other, "incr", "gone")
    out_of_lease(here)
    assert reports == [Taken(1, "lease", 1, 1, 1, {b"there": 1})]
    assert ask(other, "get", "gone") == 1


@pytest.mark.parametrize("held", [False, True], ids=["nothing held", "all of it gone"])
def test_a_session_from_which_nothing_was_taken_back_is_not_reported(held: bool) -> None:
    engine = engine_of()
    reports = watched(engine)
    here = opened(engine)
    if held:
        ask(here, "acquire", [["a", 1, 9]])
        ask(here, "clear")
    ask(here, "incr", "b")
    ask(here, "wait_zero", "b", None, msgid=10)
    out_of_lease(here)
    assert reports == []
    assert figures(engine)["taken_back"] == (0, 0)
    assert figures(engine)["parked"] == (0, 0)


def test_the_first_few_counters_are_named_whole() -> None:
    engine = engine_of()
    reports = watched(engine)
    here = opened(engine)
    for _ in range(3):
        ask(here, "acquire", [[b"%d" % number, 2, 99] for number in range(COUNTERS_NAMED_MAX + 2)])
    out_of_lease(here)
    ((_, _, holds, amounts, total, first),) = reports
    assert (holds, amounts, total) == (3, 3 * (COUNTERS_NAMED_MAX + 2), 6 * (COUNTERS_NAMED_MAX + 2))
    assert first == {b"%d" % number: 6 for number in range(COUNTERS_NAMED_MAX)}


def test_a_session_is_reported_once_when_all_of_it_is_back() -> None:
    engine = engine_of(shards=2)
    cache = engine.store.caches["default"]
    reports = watched(engine)
    here = opened(engine)
    keys = [next(b"%d" % n for n in range(99) if cache.shard_of(b"%d" % n) == shard) for shard in range(2)]
    for key in (keys[1], keys[0]):
        ask(here, "acquire", [[key, 1, 1]])
    work = ShardCompaction.begin(cache, 0)
    assert work is not None
    out_of_lease(here)
    assert cache.peek(keys, here.now_ms) == [1, 0]
    assert reports == [], "a hold is on a shard with work under way"
    assert figures(engine)["holds"] == (1, 1)
    while not work.step(10)[1]:
        pass
    engine.advance(here.now_ms, 100)
    assert [taken.holds for taken in reports] == [2]
    engine.advance(here.now_ms, 100)
    assert len(reports) == 1
    assert figures(engine)["taken_back"] == (2, 2)


def test_a_hold_of_a_notification_is_taken_back_too() -> None:
    engine = engine_of()
    reports = watched(engine)
    here = opened(engine)
    here.send(encode_notification("acquire", ([["a", 1, 1]],)))
    out_of_lease(here)
    assert [taken.first for taken in reports] == [{b"a": 1}]


# ---------------------------------------------------------------------------------------- for operators


def of_many(count: int) -> tuple[Engine, list[Conversation]]:
    """An engine with this number of sessions."""
    engine = Engine(ServerConfig())
    return engine, [opened(engine, name=f"client {number}") for number in range(count)]


def spent_by(here: Conversation, method: str, *params: Any) -> int:
    """What a request takes from its turn, without its reply's bytes."""
    protocol = here.protocol
    protocol._left = TURN_ITEMS_MAX
    data = protocol.receive(encode_request(1, method, params), here.now_ms)
    return TURN_ITEMS_MAX - protocol._left - (len(data) >> 8)


def test_a_list_fits_a_reply_whatever_names_and_keys_are() -> None:
    engine = Engine(ServerConfig())
    for number in range(60):
        here = Conversation(engine, peer="f" * 63)
        ask(here, "hello", {"session": True, "name": "\u00e9" * 64})
        ask(here, "acquire", [[b"%02d%0510d" % (number, place), 2**55, 2**63 - 1] for place in range(12)])
        ask(here, "incr", b"%0512d" % number)
        wanted = [[b"%0512d" % number, 1, 1], *([b"w%0511d" % place, 1, 1] for place in range(4))]
        for msgid in range(10, 17):
            assert ask(here, "acquire", wanted, None, msgid=msgid) is None
    here = Conversation(engine)
    after = 0
    sizes = [1]
    while sizes[-1]:
        reply = here.send(encode_request(1, "sessions", (after,)))
        assert len(reply) <= REPLY_BYTES_MAX
        ((_, _, error, page),) = decoded(reply)
        assert error is None
        sizes.append(len(page))
        after = page[-1][b"session"] if page else after
    *full, last, none = sizes[1:]
    assert (sum(full) + last, none) == (60, 0)
    assert min(full) >= 15, "a page is far from full"
    for session in engine.sessions:
        row = session.as_dict(here.now_ms)
        assert len(row["held"]) == 10
        assert len(row["waits"]) == 5
        size = len(encode(row))
        assert size <= sessions_module._row_bytes(row) <= size + 256, "what it may take is near what it takes"


def test_a_row_of_the_largest_figures_fits() -> None:
    engine = Engine(ServerConfig(caches={"c" * 64: CachePolicy("c" * 64)}))
    here = opened(engine, cache="c" * 64)
    row = here.protocol.session.as_dict(2**63 - 1)
    largest = {word: 2**63 - 1 for word, value in row.items() if type(value) is int}
    assert len(encode(row | largest | {"waits": [("room", ())] * 5})) <= sessions_module.ROW_BYTES


def test_a_list_costs_what_it_shows_and_little_for_what_it_passes_over() -> None:
    _, everyone = of_many(640)
    assert spent_by(everyone[0], "sessions", 640) == REQUEST_ENTRIES + 640 // 32
    assert spent_by(everyone[0], "sessions", 639) == REQUEST_ENTRIES + 640 // 32 + 5
    whole = spent_by(everyone[0], "sessions")
    assert 1_000 <= whole <= 1_000 + REQUEST_ENTRIES + 5, "half a millisecond"


@pytest.mark.patches
def test_who_holds_a_counter_is_looked_for_in_slices(monkeypatch: pytest.MonkeyPatch) -> None:
    monkeypatch.setattr(commands, "SLICE_ENTRIES", 10)
    monkeypatch.setattr(commands, "HOLDERS_LISTED_MAX", 7)
    engine, everyone = of_many(45)
    for here in reversed(everyone):
        ask(here, "acquire", [["gpu", 1, 99]])
    here = everyone[0]
    assert here.protocol.receive(encode_request(9, "holders", ("gpu",)), here.now_ms) == b""
    turns = 1
    replies = b""
    while here.protocol.wants_turn:
        turns += 1
        if turns == 3:  # after those that it has seen
            lose(everyone[1])
            everyone[1].now_ms += LEASE_MS_DEFAULT
            engine.advance(everyone[1].now_ms, 1_000)
        replies += here.protocol.turn(here.now_ms)
    ((_, _, _, page),) = decoded(replies)
    assert [number for number, *_ in page] == [1, 3, 4, 5, 6, 7], "the second has ended since"
    assert turns == 1 + 45 // 10 + 1


@pytest.mark.patches
def test_a_page_of_holders_that_have_all_ended_since_is_not_the_last(monkeypatch: pytest.MonkeyPatch) -> None:
    monkeypatch.setattr(commands, "SLICE_ENTRIES", 10)
    monkeypatch.setattr(commands, "HOLDERS_LISTED_MAX", 3)
    _, everyone = of_many(20)
    for here in everyone:
        ask(here, "acquire", [["gpu", 1, 99]])
    here = everyone[-1]
    here.protocol.receive(encode_request(9, "holders", ("gpu",)), here.now_ms)
    for other in everyone[:5]:
        ask(other, "bye")
    replies = here.send(b"")
    ((_, _, _, page),) = decoded(replies)
    assert [number for number, *_ in page] == [6], "the first page had 1, 2 and 3, the next one 4, 5 and 6"


def test_a_session_is_ended_for_what_its_end_costs() -> None:
    engine = engine_of()
    here, operator = opened(engine), opened(engine)
    for start in range(0, 3_000, 100):
        ask(here, "acquire", [[b"%d" % (start + place), 1, 9] for place in range(100)])
    ask(here, "incr", "full")
    for msgid in range(100, 110):
        here.send(encode_request(msgid, "acquire", ([["full", 1, 1]], None)))
    spent = spent_by(operator, "end_session", 1)
    assert 1_000 <= spent - REQUEST_ENTRIES <= 1_000 + 3 * 100 + 50, "a turn's work, and one hold more"
    assert engine.sessions.unfinished
    assert engine.sessions.ended["operator"] == 1
    while engine.sessions.unfinished:
        engine.advance(operator.now_ms, 1_000)
    assert engine.sessions.held_amounts_taken_back == 3_000
    engine.invariants(operator.now_ms)


@pytest.mark.parametrize("away", [False, True], ids=["connected", "without a connection"])
def test_the_operator_ends_a_session(away: bool) -> None:
    engine = engine_of()
    reports = watched(engine)
    here, operator = opened(engine, name="worker"), opened(engine)
    ask(here, "acquire", [["gpu", 1, 1]])
    ask(operator, "acquire", [["gpu", 1, 1]], None, msgid=7)
    old = here.protocol
    if away:
        here.reconnect()
    assert ask(operator, "end_session", 1) is True
    assert reports == [Taken(1, "operator", 1, 1, 1, {b"gpu": 1})]
    assert figures(engine)["connected"] == 1
    assert old.aborted is not away
    assert [row[0] for row in ask(operator, "holders", "gpu")] == [2], "the next in the queue has it"
    assert len(engine.timers) == 0, "no lease is left"
    old.close(here.now_ms)
    assert figures(engine)["ended"] == {"operator": 1}


def test_a_session_is_ended_in_the_middle_of_its_work() -> None:
    engine = engine_of(shards=1)
    cache = engine.store.caches["default"]
    here, operator = opened(engine), opened(engine)
    ask(here, "incr", "k")
    work = ShardCompaction.begin(cache, 0)
    assert work is not None
    here.send(encode_request(5, "incr", ("k",)), encode_request(6, "top", (1,)))
    assert cache.locks.queue_length(0) == 1, "it waits for the shard"
    assert ask(operator, "end_session", 1) is True
    assert cache.locks.queue_length(0) == 0
    while not work.step(10)[1]:
        pass
    assert here.send(encode_request(7, "incr", ("k",))) == b""
    engine.invariants(here.now_ms)
