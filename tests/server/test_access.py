"""Who may do what: roles, caches and prefixes for every command of the table, log-ins, and changes at run time."""

from __future__ import annotations

import gc
import itertools
import random
from collections.abc import Callable
from typing import Any

import pytest

from naught.errors import Busy, Denied
from naught.wire.codec import encode_notification, encode_request
from naught.wire.limits import UNKNOWN_BYTES_MAX
from naught_server import access, secret_hash
from naught_server.access import Access, Attempt, Check, LoginPace, Names, Rights, Role, User, penalty_ms
from naught_server.commands import COMMANDS
from naught_server.config import CachePolicy, ServerConfig
from naught_server.engine import Engine
from naught_server.secret_hash import HashedSecret, hash_of
from naught_server.slowlog import SlowTurn
from support.conversation import Conversation, byte_by_byte, decoded, engine_of
from support.each import for_each
from support.seeds import seeds, slow
from support.users import SECRET, hello, logged_in, user

Params = tuple[Any, ...]


@pytest.fixture(autouse=True)
def _quick_refusals(monkeypatch: pytest.MonkeyPatch) -> None:
    """The hash that is computed where there is none takes 40 ms; here it takes none."""
    monkeypatch.setattr(secret_hash, "_NOBODYS", HashedSecret(HASH.replace("ln=14", "ln=1")))


HASH = hash_of(SECRET.encode(), b"salt" * 4)


def ask(here: Conversation, method: str, *params: Any, msgid: int = 1) -> Any:
    """The result of a request, or the code of its error."""
    (_, _, error, result), *_ = decoded(here.send(encode_request(msgid, method, params)))
    return result if error is None else error[0].decode()


# ------------------------------------------------------------------------------------------- every command

# For every method: parameters that name the key (or what it begins with). A new method must be added here.
WITH_KEY: dict[str, Callable[[str], list[Params]]] = {
    "incr": lambda key: [(key,), (key, 2, 1_000)],
    "decr": lambda key: [(key,), (key, 1, True)],
    "apply": lambda key: [([key, "mine:b", key], [1, 1, -2]), ([key], -9, 5_000)],
    "get": lambda key: [(key,)],
    "get_many": lambda key: [(["mine:a", key],)],
    "set": lambda key: [(key, 3), (key, 0)],
    "take": lambda key: [(["mine:a", key],)],
    "try_incr": lambda key: [([["mine:a", 1, 9], [key, 1, 99]],), ([[key, 1, 1]], 1_000)],
    "throttle": lambda key: [(key, 5, 1_000), (key, 5, 1_000, 5, 0)],
    "expire": lambda key: [(key, 1), (key, None)],
    "ttl": lambda key: [(key,)],
    "scan": lambda key: [(0, 10, key), (b"\0\0\0\0" + key.encode(), 10, key)],
    "top": lambda key: [(10, key)],
    "count": lambda key: [(key,)],
    "clear": lambda key: [()],
    "acquire": lambda key: [([["mine:a", 1, 99], [key, 1, 99]],), ([[key, 1, 1]], 0)],
    "release": lambda key: [(1, [[key, 1]]), (1, [["mine:a", 1], [key, 1]])],
    "held": lambda key: [()],
    "wait_zero": lambda key: [(key, 0)],
    "cancel": lambda key: [(1,)],
    "hello": lambda key: [({},)],
    "ack": lambda key: [(0,)],
    "bye": lambda key: [()],
    "sessions": lambda key: [()],
    "holders": lambda key: [(key,)],
    "end_session": lambda key: [(1,)],
    "trace": lambda key: [(None,)],
    "slowlog": lambda key: [()],
    "slowlog_reset": lambda key: [()],
    "ping": lambda key: [()],
    "info": lambda key: [()],
    "config_get": lambda key: [(), ("caches.default.eviction",)],
    "config_set": lambda key: [("caches.default.max_counters", 3)],
    "sweep": lambda key: [()],
}

# What a user that is bound to prefixes may ask although no key of its own is named: it concerns its session alone.
OF_ITS_OWN = {"held", "cancel", "hello", "ack", "bye", "trace", "ping"}

# What it may not ask at all.
OF_ALL = {
    "clear",
    "sessions",
    "end_session",
    "slowlog",
    "slowlog_reset",
    "info",
    "config_get",
    "config_set",
    "sweep",
}


def test_every_command_is_in_the_table() -> None:
    assert set(WITH_KEY) == {name.decode() for name in COMMANDS}
    assert not OF_ITS_OWN & OF_ALL


def test_every_command_has_a_rule() -> None:
    """The field has no default, so a row without one is a TypeError."""
    for name, command in COMMANDS.items():
        assert command.rule.role in access.ROLES, name
        assert isinstance(command.rule.names, Names), name
        assert command.rule.before_login == (name == b"hello")
    assert {name for name, c in COMMANDS.items() if c.rule.names is Names.OWN} == {n.encode() for n in OF_ITS_OWN}
    whole = {name for name, c in COMMANDS.items() if c.rule.names in (Names.CACHE, Names.SERVER)}
    assert whole == {name.encode() for name in OF_ALL}


class World:
    """A server with a user that is bound to `mine:`, an admin, and counters of others."""

    def __init__(self, values: tuple[int, int] = (7, 8), *, more: bool = False, role: Role = "admin") -> None:
        self.engine = engine_of(
            CachePolicy("orders"),
            users=[user("me", role, prefixes=("mine:", "m2:")), user("root", "admin")],
        )
        self.root = logged_in(self.engine, "root", session=True)
        for key, value in (("mine:a", 5), ("other:a", values[0]), ("mine", values[1])):
            ask(self.root, "set", key, value)
        if more:
            ask(self.root, "apply", [f"other:{number}" for number in range(50)], 3, 60_000)
            ask(self.root, "expire", "other:a", 50_000)
        if not more:
            ask(self.root, "acquire", [["other:b", 1, 99]])
        else:
            ask(self.root, "acquire", [["other:a", 1, 99_000_000], ["other:held", 2, 99]])
        self.me = logged_in(self.engine, "me", session=True)

    def outside(self) -> Any:
        """What is no counter of the user."""
        cache = self.engine.store.caches["default"]
        own = (b"mine:", b"m2:")
        tables = (*cache.tables, *cache.timed)
        counters = {key: value for table in tables for key, value in table.items() if not key.startswith(own)}
        held = {key: it.amounts() for key, it in cache.waiters.generations.items() if not key.startswith(own)}
        return counters, held, self.engine.settings.as_dict(), self.root.protocol.session.id


@for_each("method", sorted(WITH_KEY))
@pytest.mark.parametrize("key", ["other:a", *slow("mine", "", "\0", "mine\0:a", "MINE:a")])
def test_a_key_outside_of_the_prefixes_is_denied(method: str, key: str) -> None:
    for params in WITH_KEY[method](key):
        world = World()
        before = world.outside()
        answer = world.me.send(encode_request(1, method, params))
        (_, _, error, result), *_ = decoded(answer)
        if method == "apply":
            assert all(item[0] == b"denied" for item, name in zip(result, params[0], strict=True) if name == key)
            assert [item for item, name in zip(result, params[0], strict=True) if name != key] in ([], [1])
        elif method not in OF_ITS_OWN:
            assert error is not None
            assert error[0] == b"denied", error
            assert b"other" not in error[1]
        assert world.outside() == before
        assert ask(world.me, "get", "mine:a") == 5
        world.engine.invariants(world.me.now_ms)


@for_each("method", sorted(set(WITH_KEY) - OF_ALL - {"release"}))
def test_its_own_keys_are_its_own(method: str) -> None:
    for params in WITH_KEY[method]("mine:key"):
        world = World()
        (_, _, error, _), *_ = decoded(world.me.send(encode_request(1, method, params)))
        assert error is None or error[0] in (b"underflow", b"invalid"), error


@for_each(
    ("method", "params", "answer"),
    [
        ("scan", (0, 10), "denied"),
        ("top", (10,), "denied"),
        ("count", (), "denied"),
        ("count", (None,), "invalid"),
        ("get", (), "invalid"),
        ("get", (7,), "invalid"),
        ("get_many", (), "invalid"),
        ("get_many", ("other:a",), "invalid"),
        ("incr", ("mine:a", "other:a"), "invalid"),
        ("take", (7,), "invalid"),
        ("try_incr", ([[]],), "invalid"),
        ("try_incr", (["other:a"],), "invalid"),
        ("acquire", (), "invalid"),
        ("release", (), "invalid"),
        ("release", (1,), "not_held"),
        ("release", (1, []), "invalid"),
    ],
)
def test_parameters_that_are_wrong_or_left_out_are_for_the_command_to_refuse(
    method: str, params: Params, answer: str
) -> None:
    """But without a prefix a listing is of all keys."""
    assert ask(World().me, method, *params) == answer


def test_a_whole_hold_of_its_own_is_given_back() -> None:
    here = World().me
    granted, values, hold = ask(here, "acquire", [["mine:a", 1, 9]])
    assert (granted, values) == (True, [6])
    assert ask(here, "release", hold) == [5]


@for_each("method", sorted(WITH_KEY))
@pytest.mark.parametrize("role", access.ROLES)
def test_each_role_may_do_what_its_rule_says(method: str, role: Role) -> None:
    engine = engine_of(users=[user("me", role)])
    here = logged_in(engine, "me", session=True)
    needed = COMMANDS[method.encode()].rule.role
    for params in WITH_KEY[method]("key"):
        answer = ask(here, method, *params)
        refused = access.ROLES.index(role) < access.ROLES.index(needed)
        assert (answer == "denied") == refused, answer
        if refused:
            assert not engine.store.caches["default"].raw_entries()


@for_each("method", sorted(WITH_KEY))
def test_another_cache_is_denied(method: str) -> None:
    """Also the default one, before `hello` has named another: it is one like any other."""
    engine = engine_of(CachePolicy("orders"), users=[user("me", "admin", caches=("orders",))])
    here = logged_in(engine, "me")
    for params in WITH_KEY[method]("key"):
        answer = ask(here, method, *params)
        assert (answer == "denied") == (method not in OF_ITS_OWN), answer
    assert not engine.store.caches["default"].raw_entries()
    assert ask(here, "hello", {"cache": "default"}) == "denied"
    assert ask(here, "hello", {"cache": "there is none"}) == "denied", "it does not say which there are"
    assert ask(here, "hello", {"cache": "orders"})[b"cache"] == b"orders"
    assert ask(here, "incr", "key") == 1
    assert ask(here, "clear") == 1, "the cache is its own"
    assert ask(here, "info") == "denied", "it says something of all caches"


def random_request(source: random.Random) -> tuple[str, Params]:
    """A request of any method with keys in and outside of the prefixes, in places where there may be one or not."""
    keys = ["mine:a", "mine:b", "m2:", "other:a", "mine", "other:7", "other:held", ""]
    method = source.choice(sorted(set(WITH_KEY) - {"bye", "hello"}))
    params = list(source.choice(WITH_KEY[method](source.choice(keys))))
    if source.random() < 0.3:
        junk: list[Any] = [*keys, 0, -1, None, True, [], [["other:a", 1, 9]], ["other:a"], 1 << 40, b"\0\0\0\0other:"]
        place = source.randrange(len(params) + 1)
        params[place : place + source.randrange(2)] = [source.choice(junk)]
    return method, tuple(params)


@pytest.mark.parametrize("seed", seeds(range(2), range(2, 24)))
def test_nothing_outside_can_be_learnt_or_changed(seed: int) -> None:
    """Two servers that differ in what is outside of the prefixes give the same replies, to the byte, and keep it."""
    source = random.Random(seed)
    role: Role = source.choice(access.ROLES)
    worlds = [World(role=role), World((9_000_000, 1), more=True, role=role)]
    before = [world.outside() for world in worlds]
    for msgid in range(1, 400):
        method, params = random_request(source)
        request = encode_request(msgid, method, params)
        one, other = (world.me.send(request) for world in worlds)
        assert one == other, (method, params)
        for world in worlds:
            world.me.send(encode_notification("ack", (world.me.protocol.session.replied,)))
        if source.random() < 0.1:
            for world in worlds:
                world.me.now_ms += 100
                world.engine.advance(world.me.now_ms, 500)
    assert [world.outside() for world in worlds] == before
    for world in worlds:
        world.engine.invariants(world.me.now_ms)


def test_a_batch_goes_on_with_the_rights_it_began_with() -> None:
    """An `apply` is done in portions. Each looks at its keys."""
    engine = engine_of(users=[user("me", "write", prefixes=("mine:",))])
    here = logged_in(engine, "me")
    keys = [f"{('mine', 'other')[number % 3 == 0]}:{number}" for number in range(4_096)]
    result = ask(here, "apply", keys, 1)
    assert [each == 1 for each in result] == [key.startswith("mine") for key in keys]
    assert engine.store.caches["default"].raw_entries() == sum(key.startswith("mine") for key in keys)


# ------------------------------------------------------------------------------------------- before a log-in


@for_each("method", sorted(set(WITH_KEY) - {"hello"}))
@pytest.mark.parametrize("encode", [encode_request, None], ids=["request", "notification"])
def test_before_the_log_in_there_is_nothing(method: str, encode: Any) -> None:
    world = World()
    before = world.outside()
    here = Conversation(world.engine)
    for params in WITH_KEY[method]("other:a"):
        if encode is None:
            assert here.send(encode_notification(method, params)) == b""
        else:
            assert ask(here, method, *params) == "unauthenticated"
    assert ask(here, "nothing of this name") == "unauthenticated"
    assert ask(here, "get") == "unauthenticated", "before its parameters are looked at"
    assert world.outside() == before
    assert not here.closing, "its client may still log in"


@pytest.mark.parametrize(
    "words",
    [{}, {"session": True}, {"session": b"session number 1", "received": 0}, {"cache": "none"}, {"name": "me"}],
)
def test_hello_without_a_secret_opens_nothing(words: dict[str, Any]) -> None:
    world = World()
    here = Conversation(world.engine)
    assert ask(here, "hello", words) == "unauthenticated"
    assert here.protocol.session.id is None
    assert len(world.engine.sessions) == 2


@pytest.mark.parametrize(
    "words",
    [
        {"user": "me"},
        {"secret": SECRET},
        {"user": "", "secret": SECRET},
        {"user": "u" * 65, "secret": SECRET},
        {"user": 7, "secret": SECRET},
        {"user": "me", "secret": ""},
        {"user": "me", "secret": "s" * 4_097},
        {"user": "me", "secret": [SECRET]},
        {"user": "me", "secret": None},
        {"user": "me", "secret": SECRET, "word": 1},
    ],
)
def test_a_hello_that_is_no_log_in(words: dict[str, Any]) -> None:
    world = World()
    here = Conversation(world.engine)
    (_, _, error, _), *_ = decoded(here.send(encode_request(1, "hello", (words,))))
    assert error[0] == b"invalid"
    assert SECRET.encode() not in error[1]
    assert here.protocol.is_unknown
    assert ask(here, "get", "mine:a") == "unauthenticated"


@pytest.mark.parametrize(("name", "secret"), [("me", "wrong horse"), ("nobody", SECRET), ("root\0", SECRET)])
def test_a_wrong_secret_closes_the_connection(name: str, secret: str) -> None:
    """With one and the same message, whatever was wrong; nothing behind it is executed."""
    world = World()
    here = Conversation(world.engine)
    ((_, _, error, _),) = decoded(here.send(hello(name, secret) + encode_request(2, "incr", ("mine:a",))))
    assert error == [b"unauthenticated", b"the user or the secret is wrong"]
    assert here.closing
    assert world.engine.access.refused == 1
    assert ask(world.root, "get", "mine:a") == 5


def test_what_is_behind_the_hello_is_executed_after_it() -> None:
    world = World()
    here = Conversation(world.engine)
    requests = hello("me", session=True) + encode_request(2, "incr", ("mine:a",)) + encode_request(3, "get", ("x",))
    replies = decoded(here.send(*byte_by_byte(requests)))
    assert [
        (msgid, error and error[0], error is None and msgid == 2 and result) for _, msgid, error, result in replies
    ] == [
        (0, None, False),
        (2, None, 6),
        (3, b"denied", False),
    ]


@pytest.mark.parametrize("cut", [False, True])
def test_a_client_that_is_not_known_has_16_kib(cut: bool) -> None:
    def answer(extra: bytes) -> tuple[Any, Conversation]:
        here = Conversation(World().engine)
        notification = encode_notification("x", ("n" * (UNKNOWN_BYTES_MAX // 2 - 8),))
        data = notification * 2 + extra
        assert len(data) == UNKNOWN_BYTES_MAX + len(extra)
        replies = here.send(*([data] if not cut else byte_by_byte(data)))
        return decoded(replies), here

    _, here = answer(b"")
    assert not here.closing
    assert here.protocol.pinned_bytes() == 0
    replies, here = answer(b"\x94")
    assert here.closing
    assert replies == []
    assert here.engine.stats.errors["too_large"] == 1


def test_a_large_message_before_the_log_in_is_not_waited_for() -> None:
    here = Conversation(World().engine)
    here.send(encode_request(1, "apply", (["k" * 200] * 200, 1))[:UNKNOWN_BYTES_MAX])
    assert not here.closing
    assert here.protocol.pinned_bytes() <= UNKNOWN_BYTES_MAX
    here.send(b"x" * 10)
    assert here.closing


@pytest.mark.parametrize("key_bytes", [1, 500])
def test_what_came_beyond_the_limit_before_the_log_in_ends_the_connection_after_it(key_bytes: int) -> None:
    """What is cut off lies between two requests, or within a key."""
    here = Conversation(engine_of(users=[user("me")]))
    one = encode_request(2, "incr", ("k" * key_bytes,))
    greeting = hello("me")
    count = (UNKNOWN_BYTES_MAX - len(greeting)) // len(one)
    replies = decoded(here.send(greeting + one * (count + 20)))
    assert here.closing
    assert [(msgid, error) for _, msgid, error, _ in replies[: count + 1]] == [(0, None)] + [(2, None)] * count
    assert [error[0] for _, _, error, _ in replies[count + 1 :]] in ([], [b"too_large"])
    assert here.engine.stats.errors == {"too_large": 1}
    assert here.engine.store.cache("default").get(b"k" * key_bytes, here.now_ms) == count


def test_a_batch_of_keys_that_are_all_refused_is_answered() -> None:
    here = logged_in(engine_of(users=[user("u" * 64, prefixes=("mine:",))]), "u" * 64)
    keys = ["mine:k", *(f"{number}" for number in range(4_095))]
    assert ask(here, "apply", keys, 1) == [1] + [[b"denied", b"the key begins with no prefix of the user"]] * 4_095


def test_a_method_there_is_not_is_unknown_to_every_user() -> None:
    engine = engine_of(users=[user("me", prefixes=("a:",)), user("root", "admin")])
    for name in ("me", "root"):
        here = logged_in(engine, name)
        assert here.protocol._principal.careful is (name == "me")
        assert ask(here, "nothing", "b:k") == "unknown_method"
        assert not here.closing


def test_input_has_its_usual_limits_after_the_log_in() -> None:
    here = logged_in(engine_of(users=[user("me")]), "me")
    assert ask(here, "apply", [f"{number:0250}" for number in range(4_000)], 1) == [1] * 4_000


def test_who_may_not_ask_does_not_queue_for_a_shard() -> None:
    """A connection that waits for a shard keeps others from working on it. A stranger must not."""
    world = World()
    locks = world.engine.store.caches["default"].locks
    for shard in range(256):
        assert locks.acquire(shard, "a worker")
    assert ask(Conversation(world.engine), "incr", "k") == "unauthenticated"
    assert ask(world.me, "incr", "other:a") == "denied"
    assert ask(world.me, "get_many", ["mine:a", "other:a"]) == "denied"
    assert not any(locks.queue_length(shard) for shard in range(256))
    assert world.me.send(encode_request(1, "incr", ("mine:a",))) == b"", "its own keys wait"
    for shard in range(256):
        locks.release(shard, "a worker")
    assert decoded(world.me.send(b""))[0][3] == 6


# ------------------------------------------------------------------------------------------- the hot path


@pytest.mark.parametrize(
    ("rights", "hot"),
    [
        (Rights("u", "write", None, ()), True),
        (Rights("u", "admin", None, ()), True),
        (Rights("u", "write", ("default",), ()), True),
        (Rights("u", "write", ("orders",), ()), False),
        (Rights("u", "read", None, ()), False),
        (Rights("u", "write", None, (b"mine:",)), False),
    ],
)
def test_who_is_served_on_the_hot_path(rights: Rights, hot: bool) -> None:
    assert rights.serves_hot("default") is hot


def test_the_hot_path_is_taken_again_when_the_cache_is_the_users() -> None:
    engine = engine_of(CachePolicy("orders"), users=[user("me", "write", caches=("orders",))])
    here = logged_in(engine, "me")
    careful = [here.protocol._principal.careful]
    ask(here, "hello", {"cache": "orders"})
    careful.append(here.protocol._principal.careful)
    assert careful == [True, False]
    assert ask(here, "clear") == "denied", "the careful path asks for the role"


def test_a_reader_changes_nothing_by_plain_requests() -> None:
    engine = engine_of(users=[user("me", "read"), user("root", "admin")])
    root, here = logged_in(engine, "root"), logged_in(engine, "me")
    ask(root, "incr", "k", 5)
    plain = (("incr", "k"), ("decr", "k"), ("incr", "k", 2), ("apply", ["k"], [1]), ("apply", ["k"], -1))
    for method, *params in plain:
        assert ask(here, method, *params) == "denied"
    assert ask(here, "get", "k") == 5


# ------------------------------------------------------------------------------------------- sessions


def test_a_session_is_resumed_by_its_user_only() -> None:
    engine = engine_of(users=[user("me"), user("you")])
    mine = logged_in(engine, "me", session=True)
    ask(mine, "acquire", [["k", 1, 9]])
    session = mine.protocol.session
    resume = {"session": session.id, "received": 1}
    thief = logged_in(engine, "you")
    assert ask(thief, "hello", resume) == ask(thief, "hello", resume | {"session": b"x" * 16}) == "no_session"
    assert session.outlet is mine.protocol
    mine.reconnect()
    assert ask(mine, "hello", resume) == "unauthenticated"
    ((_, _, error, answer),) = decoded(mine.send(hello("me", **resume)))
    assert error is None
    assert answer[b"accepted"] == 1
    assert mine.protocol.session is session


def test_sessions_says_whose_they_are() -> None:
    world = World()
    assert [row[b"user"] for row in ask(world.root, "sessions")] == [b"root", b"me"]


def test_another_user_takes_another_connection_where_there_is_a_session() -> None:
    engine = engine_of(users=[user("me"), user("you")])
    here = logged_in(engine, "me")
    assert decoded(here.send(hello("you")))[0][3][b"user"] == b"you"
    ask(here, "hello", {"session": True})
    assert decoded(here.send(hello("me")))[0][2][0] == b"invalid"
    assert here.protocol.login is not None
    assert here.protocol.login.rights.user == "you"


# ------------------------------------------------------------------------------------------- users change


def reread(engine: Engine, *users: User) -> None:
    """What a server does when its configuration was reread."""
    engine.access.take({each.name: each for each in users})
    for session in list(engine.sessions):
        if session.outlet is not None:
            session.outlet.renew_login(1_000_000)  # type: ignore[attr-defined]
    for session in engine.sessions.without_access(engine.access):
        engine.sessions.end_by_operator(session, 1_000_000, "access")


CHANGES: list[tuple[str, User, User, bool]] = [
    ("the same", user("me"), user("me"), True),
    ("a higher role", user("me", "read"), user("me", "admin"), True),
    ("a lower role", user("me", "admin"), user("me", "write"), False),
    ("more prefixes", user("me", prefixes=("a:",)), user("me", prefixes=("b:", "a:")), True),
    ("a shorter prefix", user("me", prefixes=("a:b",)), user("me", prefixes=("a:",)), True),
    ("a longer prefix", user("me", prefixes=("a:",)), user("me", prefixes=("a:b",)), False),
    ("other prefixes", user("me", prefixes=("a:",)), user("me", prefixes=("b:",)), False),
    ("no prefixes", user("me", prefixes=("a:",)), user("me"), True),
    ("prefixes now", user("me"), user("me", prefixes=("a:",)), False),
    ("all caches", user("me", caches=("default",)), user("me"), True),
    ("fewer caches", user("me"), user("me", caches=("default",)), False),
    ("another secret", user("me"), user("me", secret="a newer one"), False),
    ("gone", user("me"), user("you"), False),
    (
        "the same bounds",
        user("me", caches=("default",), prefixes=("a:",)),
        user("me", caches=("default",), prefixes=("a:",)),
        True,
    ),
    ("one cache more", user("me", caches=("default",)), user("me", caches=("orders", "default")), True),
    ("one cache less", user("me", caches=("orders", "default")), user("me", caches=("default",)), False),
    ("another cache", user("me", caches=("default",)), user("me", caches=("orders",)), False),
]


@pytest.mark.parametrize(
    ("before", "after", "stays"), [each[1:] for each in CHANGES], ids=[each[0] for each in CHANGES]
)
@pytest.mark.parametrize("connected", [True, False])
def test_a_change_of_a_user(before: User, after: User, stays: bool, connected: bool) -> None:
    engine = engine_of(CachePolicy("orders"), users=[before])
    here = logged_in(engine, "me", session=True)
    session = here.protocol.session
    if not connected:
        here.protocol.close(here.now_ms)
    reread(engine, after)
    assert (session.id in {each.id for each in engine.sessions}) is stays
    assert engine.sessions.ended["access"] == (not stays)
    if connected:
        assert here.protocol.aborted is not stays
    if stays:
        assert session.login is not None
        assert session.login.rights.role == after.role
        if connected:
            assert here.protocol._principal.careful is not after.rights.serves_hot("default")


class Changing:
    """A server whose users change at random, and connections that log in, take sessions over, and go."""

    NAMES = ("a", "b", "c")
    SECRETS = ("secret one", "secret two")

    def __init__(self, seed: int) -> None:
        self.source = random.Random(seed)
        self.engine = engine_of(CachePolicy("orders"), users=self.users())
        self.here: list[Conversation] = []
        self.sessions: list[bytes] = []

    def users(self) -> list[User]:
        return [self.user(name) for name in self.NAMES if name == "a" or self.source.random() < 0.8]

    def user(self, name: str) -> User:
        source = self.source
        bounds: dict[str, Any] = {"secret": source.choice(self.SECRETS)}
        if source.random() < 0.4:
            bounds["prefixes"] = tuple(source.sample(("x:", "x:y", "z:"), source.randint(1, 2)))
        if source.random() < 0.3:
            bounds["caches"] = (source.choice(("default", "orders")),)
        if source.random() < 0.5:
            bounds["uids"] = (self.NAMES.index(name),)
        return user(name, source.choice(access.ROLES), **bounds)

    def step(self) -> None:
        source = self.source
        what = source.choice(("connect", "hello", "hello", "ask", "ask", "close", "reread"))
        if what == "connect" or not self.here:
            self.connect()
        elif what == "hello":
            self.hello(source.choice(self.here))
        elif what == "ask":
            self.ask(source.choice(self.here))
        elif what == "close":
            here = self.here.pop(source.randrange(len(self.here)))
            here.protocol.close(here.now_ms)
        else:
            reread(self.engine, *self.users())
            for here in self.here:
                here.protocol.renew_login(here.now_ms)
        self.here = [each for each in self.here if not (each.protocol.aborted or each.closing)]

    def connect(self) -> None:
        here = Conversation(self.engine)
        login = self.engine.access.login_of_uid(self.source.randrange(6))
        if login is not None:
            here.protocol.take_login(login)
        self.here.append(here)

    def hello(self, here: Conversation) -> None:
        source, words = self.source, dict[str, Any]()
        if source.random() < 0.8:
            words |= {"user": source.choice(self.NAMES), "secret": source.choice((*self.SECRETS, "a guess"))}
        if source.random() < 0.3:
            words["cache"] = source.choice(("default", "orders"))
        elif source.random() < 0.3:
            words["session"] = True
        elif self.sessions:
            words |= {"session": source.choice(self.sessions), "received": 0}
        answer = ask(here, "hello", words)
        if isinstance(answer, dict) and b"session" in answer:
            self.sessions.append(answer[b"session"])

    def ask(self, here: Conversation) -> None:
        """A request is done only if the user may do it by the present configuration."""
        cache, key = here.protocol.session.cache.name, self.source.choice(("x:1", "x:y1", "z:1", "q"))
        login = here.protocol.login
        answer = ask(here, "incr", key)
        if answer.__class__ is int:
            assert login is not None
            now = self.engine.access.users[login.rights.user]
            assert now.role != "read"
            assert now.caches is None or cache in now.caches
            assert not now.prefixes or key.startswith(now.prefixes)

    def check(self) -> None:
        now = {name: each.rights for name, each in self.engine.access.users.items()}
        for here in self.here:
            login, session = here.protocol.login, here.protocol.session
            if login is None:
                assert here.protocol.is_unknown
                assert here.protocol._principal.careful
                continue
            rights = now[login.rights.user]
            assert rights.covers(login.rights)
            assert login.rights.covers(rights)
            assert here.protocol._principal.careful is not rights.serves_hot(session.cache.name)
            assert session.login is None or session.login.rights.user == rights.user
        for session in self.engine.sessions:
            assert session.login is not None
            assert session.login.rights.covers(now[session.login.rights.user])
        self.engine.invariants(1_000_000)


@pytest.mark.parametrize("seed", seeds(range(3), range(3, 60)))
def test_whatever_changes_each_may_do_what_its_user_may_do_now(seed: int) -> None:
    world = Changing(seed)
    for _ in range(300):
        world.step()
        world.check()
    assert world.engine.access.accepted


def test_a_secret_is_replaced_in_three_steps() -> None:
    """The new one beside the old one, then the clients, then without the old one: nobody is interrupted."""
    old, new = user("me"), user("me", secret="a newer one")
    both = User("me", "write", (*old.secrets, *new.secrets))
    engine = engine_of(users=[old])
    early = logged_in(engine, "me", session=True)
    reread(engine, both)
    late = logged_in(engine, "me", "a newer one", session=True)
    words: dict[str, Any] = {"session": early.protocol.session.id, "received": early.protocol.session.replied}
    early.reconnect()
    early.send(hello("me", "a newer one", **words))
    reread(engine, new)
    assert not early.protocol.aborted
    assert not late.protocol.aborted
    assert len(engine.sessions) == 2


def test_who_is_known_by_certificate_or_user_of_the_system_stays_as_long_as_it_is() -> None:
    name = "spiffe://example/m\udce9"
    users = {
        "machine": User("machine", "read", certificates=(name,)),
        "process": User("process", "read", uids=(7,)),
    }
    known = Access(users)
    machine, process = known.login_of_certificate(["other", name]), known.login_of_uid(7)
    assert machine is not None
    assert process is not None
    assert (machine.rights.user, process.rights.user) == ("machine", "process")
    assert known.login_of_certificate([]) is known.login_of_certificate(["other"]) is known.login_of_uid(8) is None
    assert known.as_dict()["accepted"] == 2
    assert known.renewed(machine) == machine._replace(rights=known.renewed(machine).rights)  # type: ignore[union-attr]
    known.take({"machine": users["process"], "process": users["machine"]} | users)
    assert known.renewed(process) is not None
    swapped = {
        "machine": User("machine", "read", uids=(7,)),
        "process": User("process", "read", certificates=(name,)),
    }
    known.take(swapped)
    assert known.renewed(machine) is known.renewed(process) is None


def test_users_that_come_end_what_nobody_has_logged_in() -> None:
    engine = engine_of()
    here, away = Conversation(engine), Conversation(engine)
    for each in (here, away):
        ask(each, "hello", {"session": True})
    away.protocol.close(away.now_ms)
    reread(engine, user("me"))
    assert here.protocol.aborted
    assert len(engine.sessions) == 0
    assert ask(Conversation(engine), "ping") == "unauthenticated"


def test_a_connection_without_a_session_has_the_new_rights_at_once() -> None:
    engine = engine_of(users=[user("me", "read")])
    here = logged_in(engine, "me")
    assert ask(here, "incr", "k") == "denied"
    reread(engine, user("me", "write"))
    here.protocol.renew_login(here.now_ms)
    assert not here.protocol.aborted
    assert ask(here, "incr", "k") == 1


def test_without_users_nobody_is_asked_who_it_is() -> None:
    engine = engine_of()
    here = Conversation(engine)
    result = ask(here, "hello", {"user": "me", "secret": "any secret at all", "session": True})
    assert b"user" not in result
    assert here.protocol.login is None
    reread(engine)
    assert not here.protocol.aborted
    assert len(engine.sessions) == 1
    assert ask(here, "incr", "k") == 1


def test_a_client_that_is_logging_in_is_left_alone() -> None:
    engine = engine_of(users=[user("me")])
    here = Conversation(engine)
    reread(engine, user("you"))
    here.protocol.renew_login(here.now_ms)
    assert not here.protocol.aborted
    assert decoded(here.send(hello("you")))[0][2] is None


# ------------------------------------------------------------------------------------------- log-ins by a hash


def hashed(name: str = "me", role: Role = "write") -> User:
    return User(name, role, (HashedSecret(HASH),))


class Hashing:
    """An engine whose hashes are computed when the test says so."""

    def __init__(self, *users: User) -> None:
        self.engine = engine_of(users=users)
        self.checks: list[Check] = []
        self.refused: list[Any] = []
        self.engine.access.watch(start_check=self.checks.append, on_refused=self.refused.append)

    def compute(self, now_ms: int = 1_000_000) -> None:
        checks, self.checks[:] = self.checks[:], []
        for check in checks:
            if not check.dropped:
                check.run()
                self.engine.access.finish(check, now_ms)


def test_a_log_in_waits_for_its_hash_and_so_does_what_is_behind_it() -> None:
    world = Hashing(hashed())
    here = Conversation(world.engine)
    assert here.send(hello("me"), encode_request(2, "incr", ("k",))) == b""
    assert here.protocol.backlog, "nothing more is read"
    assert here.protocol.is_checked
    world.compute()
    assert here.protocol.wants_turn or not here.protocol._waiting
    replies = decoded(here.protocol.turn(here.now_ms))
    assert [(msgid, error) for _, msgid, error, _ in replies] == [(0, None), (2, None)]


def test_a_secret_that_was_right_needs_no_hash_again() -> None:
    """So a thousand clients that come back after a restart cost one."""
    world = Hashing(hashed())
    waiting = [Conversation(world.engine, address=f"10.0.0.{number}") for number in range(20)]
    for each in waiting:
        assert each.send(hello("me", session=True)) == b""
    assert len(world.checks) == 1
    world.compute()
    assert all(decoded(each.protocol.turn(1_000_000))[0][2] is None for each in waiting)
    assert logged_in(world.engine, "me").protocol.login is not None
    assert world.checks == []
    assert world.engine.access.as_dict() == {"accepted": 21, "refused": 0, "busy": 0}


def test_what_was_right_is_wrong_when_the_user_has_another_secret() -> None:
    world = Hashing(hashed())
    here = Conversation(world.engine)
    here.send(hello("me"))
    world.compute()
    world.engine.access.take({"me": User("me", "write", (HashedSecret(hash_of(b"another one", b"pepp" * 4)),))})
    again = Conversation(world.engine)
    assert again.send(hello("me")) == b""
    world.compute()
    assert decoded(again.protocol.turn(1_000_000))[0][2][0] == b"unauthenticated"


def test_a_user_that_goes_while_its_hash_is_computed_is_not_let_in() -> None:
    world = Hashing(hashed())
    here = Conversation(world.engine)
    here.send(hello("me"))
    world.checks[0].run()
    world.engine.access.take({"you": user("you")})
    world.engine.access.finish(world.checks.pop(), 1_000_000)
    assert decoded(here.protocol.turn(1_000_000))[0][2][0] == b"unauthenticated"


@pytest.mark.parametrize("known", [False, True])
@pytest.mark.parametrize(
    ("after", "answer"),
    [
        (user("you"), [b"unauthenticated"]),
        (user("me", secret="a newer one"), [b"unauthenticated"]),
        (hashed("me", "read"), [None, b"denied"]),
        (hashed("me", "admin"), [None, None]),
    ],
    ids=["gone", "another secret", "less", "more"],
)
def test_users_that_change_between_the_hash_and_the_turn(after: User, answer: list[Any], known: bool) -> None:
    """The secret was right, and the connection has not come to its turn yet. `known`: it is one without a secret."""
    world = Hashing(hashed(), User("process", "read", uids=(7,)))
    here = Conversation(world.engine)
    if known:
        login = world.engine.access.login_of_uid(7)
        assert login is not None
        here.protocol.take_login(login)
    here.send(hello("me"), encode_request(2, "incr", ("k",)))
    world.compute()
    users = {after.name: after, "process": User("process", "read", uids=(7,))}
    world.engine.access.take(users)
    here.protocol.renew_login(1_000_000)
    replies = decoded(here.protocol.turn(1_000_000) + here.protocol.turn(1_000_000))
    assert [error and error[0] for _, _, error, _ in replies] == answer
    assert here.closing is (answer == [b"unauthenticated"])


def test_a_connection_that_goes_while_its_hash_is_computed() -> None:
    world = Hashing(hashed())
    here = Conversation(world.engine)
    here.send(hello("me"))
    here.protocol.close(1_000_000)
    assert not here.protocol.is_checked
    (check,) = world.checks
    assert here.protocol not in gc.get_referents(*gc.get_referents(*check.attempts)), "it is not kept by its hash"
    world.compute()
    assert len(world.engine.sessions) == 0


def test_unknown_users_cost_the_same_hash() -> None:
    world = Hashing(hashed(), user("plain"))
    for name in ("nobody", "plain", "me"):
        Conversation(world.engine, address=name).send(hello(name, "wrong horse"))
    assert [check._hashes for check in world.checks] == [1, 1, 1]
    world.compute()
    assert [each.user for each in world.refused] == [None, "plain", "me"]


def test_a_wrong_secret_costs_what_the_user_with_the_most_hashes_costs() -> None:
    two = User("two", "read", (HashedSecret(HASH), HashedSecret(hash_of(b"another one", b"pepp" * 4))))
    for users, hashes in (([user("plain")], 1), ([hashed(), two], 2)):
        world = Hashing(*users)
        Conversation(world.engine).send(hello("nobody", "wrong horse"))
        assert [check._hashes for check in world.checks] == [hashes]


def test_an_attempt_whose_connection_is_gone_tells_nobody() -> None:
    told: list[bool] = []
    for gone in (False, True):
        attempt = Attempt(None, lambda gone=gone: told.append(gone))  # type: ignore[misc]
        if gone:
            attempt.drop()
        attempt.settle(None, Denied("no"))
        assert attempt.settled
    assert told == [False]


def test_a_refused_log_in_tells_the_log_no_secret_in_the_place_of_a_user() -> None:
    world = Hashing(hashed())
    Conversation(world.engine, address="10.0.0.1").send(hello(SECRET, "me1234567"))
    world.compute()
    assert world.refused == [access.OnRefused(None, "10.0.0.1", "wrong user or secret")]


def test_many_log_ins_with_one_wrong_secret_are_told_once_for_each_address() -> None:
    """Ten thousand connections may wait for one hash. A line in the log for each would stop the loop for 0.1 s."""
    world = Hashing(hashed())
    for address in ("10.0.0.1", None, "10.0.0.1", "10.0.0.1"):
        Conversation(world.engine, address=address).send(hello("me", "wrong horse"))
    assert len(world.checks) == 1
    world.compute()
    assert [each[1:] for each in world.refused] == [
        ("10.0.0.1", "wrong user or secret", 3),
        (None, "wrong user or secret", 1),
    ]
    assert world.engine.access.refused == 4


def test_log_ins_that_wait_are_bounded_by_address_and_in_all() -> None:
    world = Hashing(hashed())
    guesses = itertools.count()

    def guess(address: str) -> str:
        here = Conversation(world.engine, address=address)
        answer = here.send(hello("me", f"guess number {next(guesses)}"))
        if answer:
            assert here.closing
            return str(decoded(answer)[0][2][0].decode())
        return "waits"

    assert [guess("10.0.0.1") for _ in range(6)] == ["waits"] * 4 + ["busy"] * 2
    answers = [guess(f"10.0.{number % 2}.{number}") for number in range(400)]
    assert answers == ["waits"] * (access.ATTEMPTS_MAX - 4) + ["busy"] * (400 - access.ATTEMPTS_MAX + 4)
    assert len(world.checks) == access.ATTEMPTS_MAX
    assert guess("10.9.9.9") == "busy"
    assert world.engine.access.busy == 2 + answers.count("busy") + 1
    for check in world.checks:
        check._secrets, check._hashes = (), 0  # type: ignore[misc]
    world.compute()
    assert guess("10.9.9.9") == "waits", "there is room again"


def waits_out_penalties(world: Hashing, addresses: int) -> None:
    """Have so many addresses guess twice: each has its four places taken by log-ins that are slowed."""
    for guesses in (range(4), range(4, 8)):
        for check in world.checks:
            check._secrets, check._hashes = (), 0  # type: ignore[misc]
        world.compute()
        for number, guess in itertools.product(range(addresses), guesses):
            here = Conversation(world.engine, address=f"10.0.1.{number}")
            assert here.send(hello("me", f"guess {guess} of {number}")) == b""


def test_addresses_that_guess_do_not_keep_all_places_taken() -> None:
    """64 addresses have as many places as there are. Another one takes the place of a log-in that is slowed."""
    world = Hashing(hashed())
    waits_out_penalties(world, access.ATTEMPTS_MAX // access.ATTEMPTS_OF_ADDRESS_MAX)
    assert len(world.checks) == access.ATTEMPTS_MAX
    assert {check.delay_ms for check in world.checks} == {800}
    here = Conversation(world.engine, address="10.9.9.9")
    assert here.send(hello("me")) == b"", "it waits"
    assert world.checks[-1].delay_ms == 0
    assert world.engine.access.busy == 1
    slowed = Conversation(world.engine, address="10.0.1.1")
    assert decoded(slowed.send(hello("me", "one more guess")))[0][2][0] == b"busy"
    dropped = [check for check in world.checks if check.dropped]
    assert len(dropped) == 1
    assert dropped[0].delay_ms == 800
    assert dropped[0].attempts[0].fault is not None
    world.checks.remove(dropped[0])
    for check in world.checks[:-1]:
        check._secrets, check._hashes = (), 0  # type: ignore[misc]
    world.compute()
    assert decoded(here.protocol.turn(here.now_ms))[0][2] is None
    assert world.engine.access._pace._waiting == {}
    world.engine.access.finish(dropped[0], here.now_ms)
    assert world.engine.access._pace._all == 0


def test_no_place_is_taken_for_an_address_that_has_all_of_its_own() -> None:
    world = Hashing(hashed())
    waits_out_penalties(world, access.ATTEMPTS_MAX // access.ATTEMPTS_OF_ADDRESS_MAX)
    dropped, answers = [], []
    for number in range(6):
        here = Conversation(world.engine, address="10.9.9.9")
        answers.append(here.send(hello("me", f"another guess {number}")) == b"")
        dropped.append(sum(check.dropped for check in world.checks))
    assert answers == [True] * 4 + [False] * 2
    assert dropped == [1, 2, 3, 4, 4, 4]


def test_no_place_is_taken_from_what_is_not_slowed() -> None:
    world = Hashing(hashed())
    waits_out_penalties(world, 1)
    for number in range(access.ATTEMPTS_MAX - 4):
        assert Conversation(world.engine, address=f"10.0.2.{number}").send(hello("me", f"guess {number}")) == b""
    answers = []
    for number in range(6):
        here = Conversation(world.engine, address=f"10.0.3.{number}")
        answers.append(here.send(hello("me", f"another guess {number}")))
    assert [answer == b"" for answer in answers] == [True] * 4 + [False] * 2
    assert sum(check.dropped for check in world.checks) == 4


def slowed(world: Hashing, address: str, name: str = "me") -> Conversation:
    """A client with the right secret whose address has guessed before: it waits out the penalty."""
    guess(world, address, "a wrong one")
    world.compute()
    late = Conversation(world.engine, address=address)
    assert late.send(hello(name)) == b""
    assert world.checks[-1].delay_ms == access.PENALTY_MS
    return late


def guess(world: Hashing, address: str, secret: str) -> Conversation:
    here = Conversation(world.engine, address=address)
    here.send(hello("me", secret))
    return here


def test_a_client_does_not_wait_for_the_penalty_of_another_address_with_the_same_secret() -> None:
    world = Hashing(hashed())
    late = slowed(world, "10.0.0.1")
    here = Conversation(world.engine, address="10.0.0.2")
    assert here.send(hello("me")) == b""
    old, new = world.checks
    assert (old.dropped, new.dropped, new.delay_ms) == (True, False, 0)
    assert world.engine.access._pace._waiting == {"10.0.0.2": 1}, "it has a place of its own address"
    world.compute()
    for each in (here, late):
        assert decoded(each.protocol.turn(each.now_ms))[0][2] is None
    assert (world.engine.access.accepted, world.engine.access._pace._all) == (2, 0)


def test_who_has_a_guess_of_a_slowed_address_checked_at_once_pays_for_it() -> None:
    """Else two addresses that guess the same would not be slowed: one waits, and the other is never refused."""
    world = Hashing(hashed())
    guess(world, "10.0.0.1", "a wrong one")
    delays = []
    for number in range(4):
        world.compute()
        for address in ("10.0.0.1", "10.0.0.2"):
            guess(world, address, f"guess number {number}")
        delays += [check.delay_ms for check in world.checks if not check.dropped]
    assert delays == [0, 100, 100, 200], "that of the address that has guessed less"


def test_who_has_no_place_waits_for_the_one_before_it_with_the_same_secret() -> None:
    world = Hashing(hashed())
    late = slowed(world, "10.0.0.1")
    for number in range(access.ATTEMPTS_OF_ADDRESS_MAX):
        guess(world, "10.0.0.2", f"guess number {number}")
    here = Conversation(world.engine, address="10.0.0.2")
    assert here.send(hello("me")) == b""
    assert not any(check.dropped for check in world.checks)
    world.compute()
    for each in (here, late):
        assert decoded(each.protocol.turn(each.now_ms))[0][2] is None


def test_users_of_the_system_at_a_unix_socket_do_not_slow_each_other() -> None:
    world = Hashing(hashed())
    guesses = itertools.count()

    def guess(uid: int | None, address: str | None = None) -> str:
        here = Conversation(world.engine, address=address)
        if uid is not None:
            here.protocol.take_uid(uid)
        answer = here.send(hello("me", f"guess number {next(guesses)}"))
        return str(decoded(answer)[0][2][0].decode()) if answer else "waits"

    assert [guess(7) for _ in range(6)] == ["waits"] * 4 + ["busy"] * 2
    assert [guess(8), guess(0), guess(None), guess(None, "10.0.0.1")] == ["waits"] * 4
    world.compute()
    said = [each.address for each in world.refused]
    assert said == ["uid 7"] * 4 + ["uid 8", "uid 0", None, "10.0.0.1"]
    assert [guess(7), guess(8), guess(9)] == ["waits"] * 3
    assert [check.delay_ms for check in world.checks] == [800, 100, 0]


def test_each_refused_log_in_makes_the_next_one_wait_longer() -> None:
    pace = LoginPace()
    now_ms = 0
    waits = []
    for _ in range(12):
        waits.append(pace.admit("a", now_ms))
        now_ms += waits[-1]
        pace.leave("a")
        pace.refuse("a", now_ms)
    assert waits == [0, 100, 200, 400, 800, 1_600, 3_200, 6_400, 10_000, 10_000, 10_000, 10_000]
    assert pace.admit("b", now_ms) == 0, "another address"
    pace.leave("b")
    pace.refuse("b", now_ms)
    assert [pace.admit("b", now_ms + late_ms) for late_ms in (99, 100, 101, 5_000)] == [1, 0, 0, 0]
    assert pace.admit("a", now_ms + 4_000) == 6_000
    pace.leave("a")
    now_ms += access.FORGET_MS
    assert pace.admit("a", now_ms) == 0
    pace.leave("a")
    pace.refuse("a", now_ms)
    assert pace.admit("a", now_ms) == 100, "it begins anew"
    assert [penalty_ms(number) for number in (1, 2, 100)] == [100, 200, 10_000]


def test_a_flood_from_many_addresses_is_remembered_within_a_bound() -> None:
    pace = LoginPace()
    for number in range(access.ADDRESSES_MAX + 100):
        pace.admit(f"{number}", 0)
        pace.leave(f"{number}")
        pace.refuse(f"{number}", number)
    assert len(pace._refused) == access.ADDRESSES_MAX
    assert pace._waiting == {}
    for _ in range(access.ATTEMPTS_OF_ADDRESS_MAX):
        pace.admit("x", 0)
    with pytest.raises(Busy):
        pace.admit("x", 0)


def test_known_digests_are_those_of_the_secrets_there_are(monkeypatch: pytest.MonkeyPatch) -> None:
    monkeypatch.setattr(secret_hash, "LOG2_N", 1)
    known = Access({})
    for number in range(20):
        secret = b"secret number %d" % number
        known.take({"me": User("me", "write", (HashedSecret(hash_of(secret)),))})
        assert known.attempt("me", secret, "a", number).login is not None
        assert known.attempt("me", secret, "a", number).login is not None
        assert len(known._known["me"]) == 1
    known.take({})
    assert known._known == {}


def test_each_of_two_secrets_that_were_right_needs_no_hash_again(monkeypatch: pytest.MonkeyPatch) -> None:
    monkeypatch.setattr(secret_hash, "LOG2_N", 1)
    secrets = (b"the old secret", b"the new secret")
    world = Hashing(User("me", "write", tuple(HashedSecret(hash_of(each)) for each in secrets)))
    known = world.engine.access
    attempts = [known.attempt("me", each, "a", 0) for each in secrets]
    assert len(world.checks) == 2
    world.compute()
    again = [known.attempt("me", each, "a", 0) for each in secrets]
    assert world.checks == []
    credentials = [attempt.login.credential for attempt in (*attempts, *again) if attempt.login is not None]
    assert credentials[:2] == credentials[2:]
    assert len(set(credentials)) == 2


def test_what_a_change_of_the_users_would_do() -> None:
    known = Access({each.name: each for each in (user("a"), user("b"), user("c"))})
    users = {each.name: each for each in (user("d"), user("b"), user("c", "read"))}
    assert known.differences(users) == ["a: removed", "c: changed", "d: added"]
    known.take(users)
    assert known.differences(users) == []


def test_the_bounds_by_number() -> None:
    assert (access.USERS_MAX, access.PREFIXES_MAX, access.SECRETS_MAX) == (1_024, 64, 4)
    assert access.PREFIXES_PER_ENTRY == 32
    assert (access.ATTEMPTS_MAX, access.ATTEMPTS_OF_ADDRESS_MAX, access.ADDRESSES_MAX) == (256, 4, 4_096)
    assert (access.PENALTY_MS, access.PENALTY_MS_MAX, access.FORGET_MS) == (100, 10_000, 60_000)


# ------------------------------------------------------------------------------------------- what is noted


def test_what_an_operator_may_be_asked_about_is_noted() -> None:
    world = World()
    noted: list[Any] = []
    world.engine.watch(on_audit=noted.append)
    ask(world.root, "hello", {"name": "terminal"})
    ask(world.root, "config_set", "tuner", "off")
    ask(world.root, "end_session", 2)
    ask(world.root, "end_session", 2)  # there is none any more
    ask(world.root, "clear")
    ask(world.root, "config_set", "tuner", "nonsense")
    world.engine.stats.slow_log.add(SlowTurn(10**9, 0, "top", 250, 10, 10, None, None, None, None))
    ask(world.root, "slowlog_reset")
    assert [each.event for each in noted] == ["config_set", "end_session", "clear", "slowlog_reset"]
    assert [each.details for each in noted] == [
        {"setting": "tuner", "value": "off"},
        {"ended": 2},
        {"cache": "default", "evicted": 4},
        {"removed": 1},
    ]
    assert {(each.user, each.session, each.name, each.address) for each in noted} == {
        ("root", 1, "terminal", "10.0.0.9")
    }


def test_every_command_of_operators_is_noted_or_changes_nothing() -> None:
    """`sweep` takes out what nobody sees, as the sweeper does by itself."""
    of_operators = {name for name, command in COMMANDS.items() if command.rule.role == "admin"}
    noted = {name for name, command in COMMANDS.items() if command.audit is not None}
    assert noted <= of_operators
    assert of_operators - noted == {b"config_get", b"sessions", b"slowlog", b"sweep"}


def test_no_secret_is_in_what_is_shown_of_a_user() -> None:
    config = ServerConfig(users={"me": hashed(), "plain": user("plain", secret="in the clear")})
    engine = Engine(config)
    check = Check("me", SECRET.encode(), b"", secrets=(), hashes=1, delay_ms=0)
    text = repr((config, engine.access.users, check, config.users["me"].secrets))
    assert "scrypt$" not in text
    assert "in the clear" not in text
    assert SECRET not in text


def test_denied_is_the_error_of_rights() -> None:
    rights = Rights("me", "write", ("orders",), ())
    with pytest.raises(Denied, match=r"^the user me may not use the cache 'default'$"):
        rights.check("get", COMMANDS[b"get"].rule, (b"k",), "default")
    with pytest.raises(Denied, match=r"^the user me has the role write, and clear takes admin$"):
        rights.check("clear", COMMANDS[b"clear"].rule, (), "orders")
