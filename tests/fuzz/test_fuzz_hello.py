"""What strangers send before they have logged in, seeded: mutated log-ins, other requests, bytes of all kinds.

The invariant: a server with users keeps everything as it was, whatever a stranger sends, and tells nothing of it."""

from __future__ import annotations

import logging
import random
from collections.abc import Callable
from typing import Any

import pytest

from naught.wire.codec import encode, encode_notification, encode_request
from naught.wire.limits import UNKNOWN_BYTES_MAX
from naught_server import secret_hash
from naught_server.access import User
from naught_server.commands import COMMANDS
from naught_server.config import CachePolicy
from naught_server.secret_hash import HashedSecret, hash_of
from support.conversation import Conversation, decoded, engine_of, random_cuts
from support.seeds import seeds
from support.users import logged_in, user

SECRET = "a secret that no random bytes are"
KEY = b"the key of a counter"
VALUE = 987_654_321


def any_value(source: random.Random, depth: int = 0) -> Any:
    """Anything that MessagePack can say, mostly what is nearly right."""
    kinds: list[Callable[[], Any]] = [
        lambda: source.choice(["me", "root", "", "u" * 64, "u" * 65, b"\xff\xfe", SECRET[:-1], SECRET + "\0", KEY]),
        lambda: source.choice([0, 1, -1, 2**32, 2**63 - 1, True, False, None, 1.0]),
        lambda: source.randbytes(source.choice([0, 1, 16, 16, 100, 5_000])),
        lambda: [any_value(source, depth + 1) for _ in range(source.randrange(4))],
        lambda: words(source, depth + 1),
    ]
    return source.choice(kinds if depth < 3 else kinds[:3])()


def words(source: random.Random, depth: int = 0) -> dict[Any, Any]:
    """The map of a hello, nearly."""
    right: dict[Any, Any] = {
        "user": source.choice(["me", "root", "nobody"]),
        "secret": source.choice([SECRET[:-1], SECRET.upper(), SECRET + " ", "", "x" * 4_096, "x" * 4_097]),
        "session": source.choice([True, b"session number 1", b"0123456789abcdef"]),
        "received": source.choice([0, 1, -1, 2**63]),
        "cache": source.choice(["default", "orders", "none"]),
        "name": "me",
        "lease_ms": 5,
    }
    found = {key: value for key, value in right.items() if source.random() < 0.6}
    if source.random() < 0.4:
        found[source.choice([*right, "word", 5, b"\xff"])] = any_value(source, depth)
    return found


def message(source: random.Random) -> bytes:
    """One message, or nearly one."""
    kind = source.random()
    if kind < 0.5:
        data = encode_request(source.randrange(100), "hello", (words(source),))
    elif kind < 0.7:
        method = source.choice(sorted(COMMANDS)).decode()
        params = tuple(source.choice([KEY, any_value(source)]) for _ in range(source.randrange(4)))
        is_request = source.random() < 0.5
        data = encode_request(7, method, params) if is_request else encode_notification(method, params)
    elif kind < 0.9:
        data = bytes(encode(any_value(source)))
    else:
        data = source.randbytes(source.randrange(1, 200))
    if source.random() < 0.3 and data:
        at = source.randrange(len(data))
        data = data[:at] + source.randbytes(source.randrange(3)) + data[at + source.randrange(2) :]
    return data


@pytest.mark.parametrize("seed", seeds(range(3), range(3, 40)))
def test_a_stranger_changes_and_learns_nothing(
    seed: int, caplog: pytest.LogCaptureFixture, monkeypatch: pytest.MonkeyPatch
) -> None:
    source = random.Random(seed)
    cheap = hash_of(SECRET.encode(), b"salt" * 4).replace("ln=14", "ln=1")  # nobody's secret, and quick to refuse
    monkeypatch.setattr(secret_hash, "_NOBODYS", HashedSecret(cheap))
    users = [user("root", "admin", secret=SECRET), User("me", "write", (HashedSecret(cheap),))]
    engine = engine_of(CachePolicy("orders"), users=users)
    root = logged_in(engine, "root", SECRET, session=True)
    root.send(encode_request(1, "set", (KEY, VALUE)))
    kept = [(engine.settings.as_dict(), len(engine.sessions), root.protocol.session.id)]
    heard = b""
    for number in range(60):
        here = Conversation(engine, address=f"10.0.{number}.1")
        data = b"".join(message(source) for _ in range(source.randrange(1, 8)))
        if source.random() < 0.2:
            data += source.randbytes(source.choice([UNKNOWN_BYTES_MAX, 3 * UNKNOWN_BYTES_MAX]))
        for piece in random_cuts(data, source):
            if here.closing:
                break
            heard += here.send(piece)
            assert here.protocol.pinned_bytes() <= UNKNOWN_BYTES_MAX + 1
        assert here.protocol.login is None
        here.protocol.close(here.now_ms)
    kept.append((engine.settings.as_dict(), len(engine.sessions), root.protocol.session.id))
    assert kept[0] == kept[1]
    assert decoded(root.send(encode_request(2, "top", (9,))))[0][3] == [[KEY], [VALUE]]
    assert encode(VALUE) not in heard
    assert SECRET.encode() not in heard
    answers = decoded(heard)
    assert {answer[2][0] for answer in answers} <= {b"unauthenticated", b"invalid", b"too_large", b"busy"}
    assert [record for record in caplog.records if record.levelno >= logging.ERROR] == []
    engine.invariants(root.now_ms)
