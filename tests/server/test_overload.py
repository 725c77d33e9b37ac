"""More work than can be done is refused early where refusing is cheap; a principal has limits of its own."""

from __future__ import annotations

from collections.abc import Callable
from typing import Any

import pytest

from naught.errors import Busy
from naught.wire.codec import encode_notification, encode_request
from naught_server.admission import REFUSED_BYTES_MIN
from naught_server.config import CachePolicy, ServerConfig
from naught_server.decoder import Input, peek_method
from naught_server.engine import Engine
from naught_server.limits import BUSY_AFTER_MS, PARKED_BYTES_MAX, TURN_ITEMS_MAX
from naught_server.memory_bounds import memory_bounds, memory_lines
from naught_server.overload import CONNECTIONS_MIN, LOOK_MS, Queue
from naught_server.protocol import ServerProtocol
from naught_server.quotas import ADDRESS, FORGET_ABOVE, NO_LIMIT, USER, Limits, Quota, Quotas
from support.conversation import decoded
from support.users import hello, user

NOW_MS = 1_000_000
KEYS = [b"%0100d" % number for number in range(TURN_ITEMS_MAX * 9 // 10)]
LONG = ("apply", (KEYS, 1))
SHORT = ("incr", (b"k",))


def engine_of(**settings: Any) -> Engine:
    return Engine(ServerConfig(caches={"default": CachePolicy("default", shards=2)}, **settings))


def users_engine(**settings: Any) -> Engine:
    return engine_of(users={name: user(name) for name in ("me", "you")}, **settings)


class Client:
    """A connection whose requests are sent together, and whose turns the test gives."""

    def __init__(
        self, engine: Engine, address: str | None = None, *, unread_bytes: Callable[[], int] | None = None
    ) -> None:
        self.protocol = ServerProtocol(engine, lambda: None, address=address, unread_bytes=unread_bytes)
        self.replies: list[Any] = []

    def send(self, now_ms: int, *requests: tuple[str, tuple[Any, ...]]) -> None:
        data = b"".join(encode_request(number, method, params) for number, (method, params) in enumerate(requests))
        self.take(self.protocol.receive(data, now_ms))

    def turn(self, now_ms: int) -> None:
        self.take(self.protocol.turn(now_ms))

    def turns(self, now_ms: int) -> None:
        while self.protocol.wants_turn:
            self.turn(now_ms)

    def take(self, data: bytes) -> None:
        self.replies += decoded(data)

    @property
    def codes(self) -> list[str]:
        return ["ok" if error is None else error[0].decode() for _, _, error, _ in self.replies]


def logged_in_client(engine: Engine, address: str) -> Client:
    client = Client(engine, address)
    client.take(client.protocol.receive(hello("me"), NOW_MS))
    assert client.codes == ["ok"]
    client.replies.clear()
    return client


SERVE_MS = BUSY_AFTER_MS // 2
"""How long a turn takes in these tests, which serves one long request."""


def behind(engine: Engine, count: int = CONNECTIONS_MIN, *requests: tuple[str, tuple[Any, ...]]) -> list[Client]:
    """Clients that have asked for more than a turn does: three long requests, and these."""
    clients = [Client(engine) for _ in range(count)]
    for client in clients:
        client.send(NOW_MS, LONG, LONG, LONG, *requests)
        assert client.protocol.backlog
    return clients


def test_long_requests_that_would_wait_for_too_long_are_answered_busy() -> None:
    engine = engine_of()
    clients = behind(engine, CONNECTIONS_MIN + 3, LONG, LONG, SHORT)
    for client in clients:
        client.turn(NOW_MS + SERVE_MS)
        assert "busy" not in client.codes, "nothing is known yet"
    for number, client in enumerate(clients):
        client.turn(NOW_MS + 2 * SERVE_MS)
        client.turns(NOW_MS + 2 * SERVE_MS)
        assert client.codes[-1] == "ok", "a short one is done: refusing it would cost as much"
        # Those that catch up keep the others waiting no longer.
        assert client.codes.count("busy") == (2 if number < 4 else 0), number
        assert [msgid for _, msgid, _, _ in client.replies] == list(range(6)), "in their order"
    assert engine.overload.refused == 8
    assert engine.info(NOW_MS)["errors"]["busy"] == 8
    assert engine.store.caches["default"].live_count(NOW_MS)[0] == len(KEYS) + 1, "those that were done"
    engine.invariants(NOW_MS)
    for client in clients:  # they have caught up
        client.replies.clear()
        client.send(NOW_MS + 3 * SERVE_MS, LONG)
        assert client.codes == ["ok"]
    assert engine.overload._behind == 0


def test_what_waits_for_a_short_time_is_served() -> None:
    engine = engine_of()
    clients = behind(engine, 8, LONG, LONG)
    for turn in range(8):
        for client in clients:
            client.turn(NOW_MS + 60 * turn)
    assert all(set(client.codes) == {"ok"} for client in clients)


def test_what_lies_in_the_kernel_counts_and_is_refused_when_it_comes() -> None:
    engine = engine_of()
    unread = 40 * len(encode_request(0, *LONG))
    clients = [Client(engine, unread_bytes=lambda: unread) for _ in range(8)]
    for client in clients:
        client.send(NOW_MS, LONG, LONG, LONG, LONG)
    now_ms = NOW_MS + 60
    for client in clients:
        client.turn(now_ms)
    client = clients[0]
    client.turn(now_ms + 60)
    client.turns(now_ms + 60)
    assert client.codes == ["ok", "ok", "ok", "busy"]
    client.send(now_ms + 70, *[LONG] * 30)
    client.turns(now_ms + 70)
    assert set(client.codes[4:]) == {"busy"}
    client.send(now_ms + 80, *[LONG] * 20)
    client.turns(now_ms + 80)
    assert client.codes[34:].count("busy") == 6, "what is left of it, and what came later, is served"
    assert client.codes[-1] == "ok"


def test_fewer_connections_are_never_refused() -> None:
    engine = engine_of()
    clients = behind(engine, CONNECTIONS_MIN - 1, *[LONG] * 5)
    for turn in range(10):
        for client in clients:
            client.turn(NOW_MS + SERVE_MS * turn)
    assert all(set(client.codes) == {"ok"} for client in clients)


def test_a_connection_that_was_not_behind_is_served() -> None:
    engine = engine_of()
    behind(engine)
    other = Client(engine)
    other.send(NOW_MS + BUSY_AFTER_MS, LONG, ("top", (1,)))
    other.turns(NOW_MS + BUSY_AFTER_MS)
    assert other.codes == ["ok", "ok"]


def test_zero_turns_it_off() -> None:
    engine = engine_of(busy_after_ms=0)
    clients = behind(engine, 8, *[LONG] * 3)
    for turn in range(10):
        for client in clients:
            client.turn(NOW_MS + 100_000 * turn)
    assert all(set(client.codes) == {"ok"} for client in clients)


def overloaded(*requests: tuple[str, tuple[Any, ...]]) -> Client:
    """A client in a session whose requests have waited for too long, these the last of them."""
    engine = engine_of()
    clients = [Client(engine) for _ in range(CONNECTIONS_MIN + 1)]
    for client in clients:
        client.send(NOW_MS, ("hello", ({"session": True},)), ("acquire", ([[b"held", 1, 100]],)))
        client.replies.clear()
        client.send(NOW_MS, LONG, LONG, LONG, ("top", (3,)), ("release", (1,)), LONG, LONG, LONG, *requests)
    for turn in (1, 2):
        for client in clients:
            client.turn(NOW_MS + turn * SERVE_MS)
    client = clients[0]
    client.turns(NOW_MS + 2 * SERVE_MS)
    return client


def test_what_gives_back_is_never_refused_and_what_walks_is() -> None:
    client = overloaded(("ack", (1,)), ("bye", ()))
    by_msgid = dict(zip([reply[1] for reply in client.replies], client.codes, strict=True))
    refused = [msgid for msgid, code in by_msgid.items() if code == "busy"]
    assert refused == [3, 5, 6, 7], "top and the long ones"
    assert len(by_msgid) == 10


def test_refused_requests_count_in_the_streams_of_a_session() -> None:
    client = overloaded(LONG)
    assert client.codes.count("busy") == 4
    assert client.codes[-1] == "ok", "the youngest is done"
    session = client.protocol.session
    assert session.accepted == session.replied == 1 + 9, "the acquire too"


def test_a_closed_connection_is_not_behind() -> None:
    engine = engine_of()
    clients = behind(engine)
    assert engine.overload.many
    clients[0].protocol.close(NOW_MS)
    assert not engine.overload.many
    for client in clients[1:]:
        client.protocol.close(NOW_MS)
    assert engine.overload._behind == 0


def test_how_long_a_queue_waits_is_told_by_what_was_served() -> None:
    queue = Queue()
    queue.fed_bytes = 10_000
    queue.begin(10_000, 7)
    assert not queue.is_due(7 + LOOK_MS - 1)
    assert queue.is_due(7 + LOOK_MS)
    queue.look(9_000, 1_000, 57, 500)  # a thousand in 50 ms: ten thousand take 500, and no longer
    assert not queue.refused_until
    assert (LOOK_MS, CONNECTIONS_MIN) == (50, 4)
    queue.look(8_000, 2_001, 107, 500)  # and ten thousand 500
    assert queue.refused_until == 12_001 - 5_000, "what is kept takes 250 ms"
    queue.refused_until = 0
    queue.look(8_000, 100_000, 157, 500)
    assert not queue.refused_until, "nothing was served: nothing is known"
    queue.look(7_999, 0, 207, 500)  # a single byte
    assert queue.refused_until == 10_000 - 5


def test_of_a_queue_nothing_has_come_and_nothing_is_refused() -> None:
    queue = Queue()
    assert (queue.fed_bytes, queue.refused_until) == (0, 0)


@pytest.mark.parametrize(
    ("head", "method"),
    [
        (encode_request(0, "incr", ()), b"incr"),
        (encode_request(200, "apply", ()), b"apply"),
        (encode_request(70_000, "get_many", ()), b"get_many"),
        (encode_request(7, "x" * 40, ()), b"x" * 40),
        (b"\x94\x00\x05\xc4\x04incr\x90", b"incr"),
        (encode_notification("incr", ()), b""),
        (b"\x94\x00", b""),
        (b"\x94\x00\xcc\x05", b""),
        (b"\x94\x00\x05\x07", b""),
    ],
)
def test_the_method_is_found_without_decoding(head: bytes, method: bytes) -> None:
    assert peek_method(head) == method


def test_the_end_of_a_message_is_found_without_decoding() -> None:
    messages = [encode_request(number, *(LONG if number % 3 else SHORT)) for number in range(9)]
    data = b"".join(messages)
    received = Input()
    received.feed(data[:-5])
    for number, message in enumerate(messages[:-1]):
        end = received.end_of_message()
        assert end == received.at + len(message)
        assert received.end_of_message() == end, "nothing was taken"
        if number % 2:
            received.advance(end)
        else:  # it may be decoded instead
            assert received.next_message()[1] == number  # type: ignore[index]
    assert received.end_of_message() == -1, "the last one is not whole"
    received.feed(data[-5:])
    end = received.end_of_message()
    received.advance(end)
    assert received.empty
    assert received.end_of_message() == -1
    received.feed(b"\xc1")
    assert received.end_of_message() == -1
    large = encode_request(7, "apply", (["k" * 200] * 100, 1))
    received = Input()
    received.feed(large[:-5])
    assert received.next_message() is None
    assert received.end_of_message() == -1, "the walk over it has begun, and goes on where it stopped"
    received.feed(large[-5:])
    assert received.end_of_message() == -1
    assert received.next_message()[1] == 7  # type: ignore[index]
    assert len(messages[0]) < REFUSED_BYTES_MIN < len(messages[1])


# ------------------------------------------------------------------------------------------- principals


def test_the_rate_of_an_address_is_kept_over_all_its_connections() -> None:
    engine = engine_of(rate_per_address_max=200)
    one, two, other = Client(engine, "a"), Client(engine, "a"), Client(engine, "b")
    one.send(NOW_MS, *[SHORT] * 120)
    two.send(NOW_MS, *[SHORT] * 120)
    assert set(one.codes + two.codes) == {"ok"}, "the turn that overdraws is done"
    one.send(NOW_MS, SHORT, ("hello", ()))
    assert one.codes[-2:] == ["busy", "ok"]
    other.send(NOW_MS, *[SHORT] * 120)
    assert set(other.codes) == {"ok"}
    two.send(NOW_MS + 199, SHORT)
    assert two.codes[-1] == "busy"
    two.send(NOW_MS + 460, SHORT)
    assert two.codes[-1] == "ok", "0.45 s are 90"


def test_coming_back_does_not_fill_the_bucket() -> None:
    engine = engine_of(rate_per_address_max=1_000)
    one = Client(engine, "a")
    one.send(NOW_MS, *[SHORT] * 1_000)
    one.turns(NOW_MS)
    one.protocol.close(NOW_MS)
    again = Client(engine, "a")
    again.send(NOW_MS, SHORT)
    assert again.codes == ["busy"]


def test_waits_of_an_address_have_a_bound_of_their_own() -> None:
    engine = engine_of(parked_bytes_per_address_max=3_000)
    one, other = Client(engine, "a"), Client(engine, "b")
    wait = ("wait_zero", (b"full", 10_000))
    one.send(NOW_MS, ("set", (b"full", 1)), wait, wait, wait)
    assert one.codes == ["ok", "busy"]
    other.send(NOW_MS, ("ping", ()), wait)
    assert other.codes == ["ok"]
    one.protocol.close(NOW_MS)
    again = Client(engine, "a")
    again.send(NOW_MS, ("ping", ()), wait, wait)
    assert again.codes == ["ok"], "what the closed connection waited for counts no more"
    quotas = engine.quotas._by_name
    again.protocol.close(NOW_MS)
    other.protocol.close(NOW_MS)
    assert all(quota.parked_bytes == quota.connections == 0 for quota in quotas.values())


def test_a_wait_that_is_refused_is_counted_nowhere() -> None:
    wait = ("wait_zero", (b"full", 10_000))
    engine = users_engine(parked_bytes_per_address_max=10_000, parked_bytes_per_user_max=1_500)
    one = logged_in_client(engine, "a")
    one.send(NOW_MS, ("set", (b"full", 1)), wait, wait, wait)
    assert one.codes == ["ok", "busy", "busy"]
    parked = one.protocol.session.parked
    charged = sum(waiter.memory_bytes for waiter in parked.values())
    assert len(parked) == 1
    assert [quota.parked_bytes for quota in one.protocol.quotas] == [charged, charged]
    engine = users_engine(parked_bytes_per_address_max=10_000)
    engine.sessions.add_parked(1, PARKED_BYTES_MAX - 1_500)
    one = logged_in_client(engine, "a")
    one.send(NOW_MS, ("set", (b"full", 1)), wait, wait, wait)
    assert one.codes == ["ok", "busy", "busy"]
    assert [quota.parked_bytes for quota in one.protocol.quotas] == [charged]
    one.protocol.close(NOW_MS)
    engine.advance(NOW_MS, 1_000)
    assert [quota.parked_bytes for quota in engine.quotas._by_name.values()] == [0]


def test_a_session_that_is_refused_is_counted_nowhere() -> None:
    open_one = ("hello", ({"session": True},))
    engine = users_engine(parked_bytes_per_address_max=10_000, sessions_per_user_max=1)
    first, second = logged_in_client(engine, "a"), logged_in_client(engine, "b")
    first.send(NOW_MS, open_one)
    second.send(NOW_MS, open_one)
    assert (first.codes, second.codes) == (["ok"], ["busy"])
    of_address, of_user = second.protocol.quotas
    assert (of_address.sessions, of_user.sessions) == (0, 1)
    engine = users_engine(sessions_per_user_max=8, sessions_per_address_max=1)
    first, second = logged_in_client(engine, "a"), logged_in_client(engine, "a")
    first.send(NOW_MS, open_one)
    second.send(NOW_MS, open_one)
    assert (first.codes, second.codes) == (["ok"], ["busy"])
    (of_user,) = second.protocol.quotas
    assert of_user.sessions == 1
    first.send(NOW_MS, ("bye", ()))
    assert of_user.sessions == 0


def test_a_connection_that_logs_in_again_counts_for_the_other_user() -> None:
    engine = users_engine(connections_per_user_max=2)
    client = logged_in_client(engine, "a")
    (before,) = client.protocol.quotas
    assert (before.name, before.connections) == ((USER, "me"), 1)
    client.take(client.protocol.receive(hello("you"), NOW_MS))
    (after,) = client.protocol.quotas
    assert (after.name, after.connections, before.connections) == ((USER, "you"), 1, 0)
    client.protocol.close(NOW_MS)
    assert after.connections == 0


def test_a_connection_that_logs_in_again_as_the_same_user_needs_no_second_place() -> None:
    engine = users_engine(connections_per_user_max=1)
    client = logged_in_client(engine, "a")
    quotas = client.protocol.quotas
    reply = client.protocol.receive(hello("me"), NOW_MS)
    assert b"busy" not in reply
    assert client.protocol.quotas == quotas
    assert quotas[0].connections == 1
    client.protocol.close(NOW_MS)
    assert quotas[0].connections == 0


def test_without_limits_nothing_is_counted() -> None:
    engine = engine_of()
    client = Client(engine, "a")
    client.send(NOW_MS, SHORT)
    assert client.protocol.quotas == ()
    assert len(engine.quotas) == 0


def test_a_user_has_so_many_connections_and_sessions() -> None:
    quotas = Quotas(Limits(), Limits(connections=2, sessions=1))
    one = quotas.enter(USER, "me", 0)
    assert one is not None
    assert quotas.enter(USER, "me", 0) is one
    with pytest.raises(Busy, match="the user of this client may have 2 connections"):
        quotas.enter(USER, "me", 0)
    quotas.leave(one)
    assert quotas.enter(USER, "me", 0) is one
    one.open_session()
    with pytest.raises(Busy, match="1 sessions"):
        one.open_session()
    two = Quotas(Limits(sessions=2), Limits()).enter(ADDRESS, "a", 0)
    assert two is not None
    two.open_session()
    two.open_session()
    assert two.sessions == 2
    with pytest.raises(Busy, match="2 sessions, and has them"):
        two.open_session()
    assert quotas.enter(ADDRESS, "a", 0) is None


def test_principals_that_have_nothing_are_forgotten() -> None:
    quotas = Quotas(Limits(rate=100), Limits())
    for number in range(FORGET_ABOVE):
        quota = quotas.enter(ADDRESS, str(number), 0)
        assert quota is not None
        quota.room(0)
        quota.spend(1 if number else 50)
        quotas.leave(quota)
    quotas.enter(ADDRESS, "new", 20)
    assert len(quotas) == 2, "the one that has asked for much is remembered"


def test_a_principal_is_forgotten_only_when_nothing_of_it_would_be_missed() -> None:
    quotas = Quotas(Limits(connections=1, sessions=5, parked_bytes=50, rate=100), Limits())

    def entered(name: str) -> Quota:
        quota = quotas.enter(ADDRESS, name, 0)
        assert quota is not None
        return quota

    for number in range(FORGET_ABOVE - 5):
        quotas.leave(entered(f"filler {number}"))
    entered("connected")
    kept = [entered("in a session"), entered("waiting"), entered("in debt")]
    kept[0].open_session()
    kept[1].park(1)
    kept[2].room(0)
    kept[2].spend(1)
    for quota in kept:
        quotas.leave(quota)
    quotas.leave(entered("the last"))
    assert len(quotas) == FORGET_ABOVE, "as many as are remembered"
    entered("one more")
    assert {name for _, name in quotas._by_name} == {"connected", "in a session", "waiting", "in debt", "one more"}
    assert quotas.enter(ADDRESS, None, 0) is None


def test_a_principal_that_comes_back_is_the_same() -> None:
    quotas = Quotas(Limits(connections=1), Limits(rate=3))
    quota = quotas.enter(ADDRESS, "a", 0)
    assert quota is not None
    assert quota.name == (ADDRESS, "a")
    quotas.leave(quota)
    assert quota.connections == 0
    assert quotas.enter(ADDRESS, "a", 0) is quota
    other = quotas.enter(USER, "a", 0)
    assert other is not None
    assert other is not quota
    assert (other.limits.rate, quota.limits.rate) == (3, None)
    assert len(quotas) == 2


# ------------------------------------------------------------------------------------------- memory


def test_the_limits_add_up() -> None:
    def config_of(size: int) -> ServerConfig:
        cache = CachePolicy("default", max_counters=10 * size)
        return ServerConfig(connections_max=size, parked_bytes_max=size << 20, caches={"default": cache})

    one, three = memory_bounds(config_of(1)), memory_bounds(config_of(3))
    for name in ("connections", "sessions", "requests in slices", "requests that wait", "counters"):
        first, last = one[name], three[name]
        assert first is not None
        assert last == 3 * first
    assert memory_bounds(ServerConfig())["counters"] is None
    assert memory_lines(ServerConfig())[-1].endswith("and the counters")
    assert all(line.startswith("# ") for line in memory_lines(config_of(1)))


def test_bytes_of_waits_may_reach_their_bound_and_not_pass_it() -> None:
    quotas = Quotas(Limits(parked_bytes=1_000, rate=None), Limits())
    quota = quotas.enter(ADDRESS, "a", 0)
    assert quota is not None
    quota.park(333)
    quota.park(667)
    assert quota.parked_bytes == 1_000
    with pytest.raises(Busy, match="1000 bytes"):
        quota.park(1)
    assert quota.parked_bytes == 1_000, "nothing was counted"
    assert quota.room(0) == NO_LIMIT == 1 << 60


def test_a_bucket_fills_with_the_time_and_never_empties_by_it() -> None:
    quota = Quotas(Limits(rate=1_000), Limits()).enter(ADDRESS, "a", 0)
    assert quota is not None
    assert quota.room(5_000) == 1_000
    quota.spend(1_500)
    assert quota.room(5_007) == -493
    assert quota.room(5_000) == -493, "a clock that goes back takes nothing"
    assert quota.room(5_008) == -492
    assert quota.room(60_000) == 1_000, "no more than a second's worth"
    fast = Quotas(Limits(rate=1_000_000), Limits()).enter(ADDRESS, "b", 0)
    assert fast is not None
    assert fast.room(0) == 1_000_000
    fast.spend(1_000_000)
    assert fast.room(1) == 1_000, "a thousandth of it in a millisecond"
    assert FORGET_ABOVE == 1_024
