"""Users in the file of a configuration: what is accepted, the error for each mistake, and no secret in any of it."""

from __future__ import annotations

import re
from pathlib import Path
from typing import Any

import pytest

from naught_server.access import User
from naught_server.config import CachePolicy, ConfigError, ServerConfig
from naught_server.listeners import resolve, resolve_http
from naught_server.loading import load, to_toml
from naught_server.secret_hash import PlainSecret, hash_of
from support.users import user

HASH = hash_of(b"correct horse", b"salt" * 4)
OTHER = hash_of(b"another horse", b"salt" * 4)


def loaded(tmp_path: Path, text: str, environment: dict[str, str] | None = None) -> dict[str, User]:
    path = tmp_path / "naught.toml"
    path.write_text(text)
    return dict(load(["--config", str(path)], environment or {}).config.users)


def test_a_user_as_a_file_has_it(tmp_path: Path) -> None:
    (tmp_path / "secret").write_text("in a file, 12\n")
    users = loaded(
        tmp_path,
        f"""
        [caches.orders]
        [users.orders]
        role = "write"
        secret = "{HASH}"
        caches = ["orders"]
        prefixes = ["seats:", "holds:"]
        [users.ops]
        role = "admin"
        secret = ["{HASH}", "{OTHER}"]
        secret_file = "{tmp_path}/secret"
        secret_env = "OPS_SECRET"
        certificates = "ops.example"
        uids = 1000
        [users."a.b"]
        role = "read"
        uids = [0, 7]
        """,
        {"OPS_SECRET": "in the environment"},
    )
    orders, ops = users["orders"], users["ops"]
    assert (orders.role, orders.caches, orders.prefixes) == ("write", ("orders",), ("seats:", "holds:"))
    assert [each.matches(b"correct horse") for each in orders.secrets] == [True]
    assert [each.matches(b"in a file, 12") for each in ops.secrets] == [False, False, True, False]
    assert [each.matches(b"in the environment") for each in ops.secrets] == [False, False, False, True]
    assert (ops.certificates, ops.uids) == (("ops.example",), (1000,))
    assert ops.rights.caches is None
    assert users["a.b"].uids == (0, 7)


@pytest.mark.parametrize("text", [HASH, f"{HASH}\n", f"{HASH}\r\n"], ids=["none", "lf", "crlf"])
def test_a_file_may_have_the_hash(tmp_path: Path, text: str) -> None:
    (tmp_path / "secret").write_bytes(text.encode())
    users = loaded(tmp_path, f'[users.me]\nrole = "read"\nsecret_file = "{tmp_path}/secret"')
    assert users["me"].secrets[0].matches(b"correct horse")


WRONG: list[tuple[str, str]] = [
    ("users = 1", "users must be tables [users.NAME]"),
    ('[users]\nrole = "read"', "users.role must be a table; it belongs in a table [users.NAME]"),
    ("[users.me]", "users.me: role must be given: read, write or admin"),
    ('[users.me]\nrole = "root"', "users.me: role must be read, write or admin"),
    ('[users.me]\nrole = ["read"]', "users.me: role must be read, write or admin"),
    ('[users.me]\nrole = "read"', "users.me: a user needs a secret, secret_file, secret_env, certificates or uids"),
    (
        '[users.me]\nrole = "read"\nuids = 1\nsecrets = "hunter2"',
        "unknown key 'users.me.secrets'; did you mean secret?",
    ),
    ('[users.me]\nrole = "read"\nsecret = "hunter2 hunter2"', "users.me: secret is a hash that"),
    ('[users.me]\nrole = "read"\nsecret = "$scrypt$hunter2"', "users.me: a hash is what"),
    ('[users.me]\nrole = "read"\nsecret = 7', "users.me: secret must be a text or an array of texts"),
    ('[users.me]\nrole = "read"\nsecret = [""]', "users.me: secret must be a text or an array of texts"),
    (
        '[users.me]\nrole = "read"\nuids = 1\nprefixes = []',
        "users.me: prefixes names at least one; left out, the user",
    ),
    ('[users.me]\nrole = "read"\nuids = 1\ncaches = []', "users.me: caches names at least one cache; left out, the"),
    ('[users.me]\nrole = "read"\nsecret_file = 7', "users.me: secret_file must be a text"),
    (
        '[users.me]\nrole = "read"\nsecret_file = "/nowhere/x"',
        "users.me: secret_file: cannot read '/nowhere/x': No such file",
    ),
    ('[users.me]\nrole = "read"\nsecret_file = "TMP/two"', "must have one line, the secret or its hash"),
    ('[users.me]\nrole = "read"\nsecret_file = "TMP/none"', "must have one line, the secret or its hash"),
    ('[users.me]\nrole = "read"\nsecret_file = "TMP/short"', "secret_file: a secret has 8 to 4096 bytes, not 7"),
    (
        '[users.me]\nrole = "read"\nsecret_env = "HUNTER"',
        "secret_env: there is no variable HUNTER in the environment",
    ),
    ('[users.me]\nrole = "read"\nsecret_env = "SHORT"', "secret_env: a secret has 8 to 4096 bytes, not 7"),
    ('[users.me]\nrole = "read"\nsecret_env = "NAUGHT_URL"', "secret_env: a variable that begins with NAUGHT_"),
    ('[users.me]\nrole = "read"\nuids = [-1]', "users.me: uids must be whole numbers"),
    ('[users.me]\nrole = "read"\nuids = [true]', "users.me: uids must be whole numbers"),
    ('[users.me]\nrole = "read"\nuids = 1\ncaches = []', "users.me: caches names at least one cache"),
    (
        '[users.me]\nrole = "read"\nuids = 1\ncaches = ["x"]',
        "users.me: there is no cache named 'x'; there are: default",
    ),
    ('[users.me]\nrole = "read"\nuids = 1\nprefixes = ""', "users.me: prefixes must be a text or an array"),
    (f'[users.me]\nrole = "read"\nuids = 1\nprefixes = "{"p" * 513}"', "users.me: a prefix has 1 to 512 bytes"),
    ('[users."m e"]\nrole = "read"\nuids = 1', "the name of a user must be 1 to 64 letters"),
    (
        '[users.me]\nrole = "read"\nuids = 1\n[users.you]\nrole = "read"\nuids = 1',
        "users.you: the uid 1 lets in the user me already",
    ),
]


@pytest.mark.parametrize(("text", "message"), WRONG)
def test_a_mistake(tmp_path: Path, text: str, message: str) -> None:
    (tmp_path / "two").write_text("hunter2 one\nhunter2 two\n")
    (tmp_path / "none").write_text("")
    (tmp_path / "short").write_text("hunter2")
    environment = {"SHORT": "hunter2", "NAUGHT_URL": "naught://me:hunter2x@host"}
    with pytest.raises(ConfigError, match=re.escape(message)) as refused:
        loaded(tmp_path, text.replace("TMP", str(tmp_path)), environment)
    assert "hunter2" not in str(refused.value), "no message shows what may be a secret"


def test_variables_of_secrets_and_of_clients_are_no_settings() -> None:
    load([], {"NAUGHT_SECRET_ORDERS": "x", "NAUGHT_USER": "me", "NAUGHT_SECRET": "y"})
    with pytest.raises(ConfigError, match="unknown environment variable NAUGHT_SECRETS"):
        load([], {"NAUGHT_SECRETS": "x"})


def test_what_is_printed_has_no_secret_and_can_be_read_without(tmp_path: Path) -> None:
    (tmp_path / "secret").write_text("in a file, 12")
    text = f"""
        [users.orders]
        role = "write"
        secret = ["{HASH}", "{OTHER}"]
        prefixes = ["a\\"b"]
        uids = [7]
        [users.ops]
        role = "admin"
        caches = ["default"]
        secret_file = "{tmp_path}/secret"
        secret_env = "OPS_SECRET"
        """
    path = tmp_path / "naught.toml"
    path.write_text(text)
    environment = {"OPS_SECRET": "in the environment"}
    config = load(["--config", str(path)], environment).config
    for printed in (to_toml(config), to_toml(config, {"port": "x"}), repr(config)):
        assert "$" not in printed
        assert "in a file" not in printed
        assert "in the env" not in printed
    assert "# secret: 2 in the file, not shown" in to_toml(config)
    path.write_text(to_toml(config))
    again = load(["--config", str(path)], environment).config
    assert again.users["ops"] == config.users["ops"]
    assert again.users["orders"].rights.prefixes == (b'a"b',)


def test_beyond_loopback_only_with_users() -> None:
    def refused(**settings: Any) -> str:
        with pytest.raises(ConfigError) as fault:
            resolve(ServerConfig(host="0.0.0.0", **settings))
        return str(fault.value)

    assert refused() == (
        "refusing to listen on 0.0.0.0: no users are configured, so every client that can connect has full access; "
        "add users to the file of --config ([users.NAME], with a secret from naught-server hash-secret); "
        "--insecure allows it"
    )
    assert resolve(ServerConfig(host="0.0.0.0", insecure=True))
    assert resolve(ServerConfig(host="0.0.0.0", users={"me": user("me")}))
    with pytest.raises(ConfigError, match="HTTP has no token"):
        resolve_http(ServerConfig(http_host="0.0.0.0", users={"me": user("me")}))


def test_bounds_of_a_user() -> None:
    with pytest.raises(ValueError, match="at most 4 secrets"):
        User("me", "read", tuple(PlainSecret(b"secret %d" % number) for number in range(5)))
    with pytest.raises(ValueError, match="at most 64 prefixes"):
        User("me", "read", uids=(1,), prefixes=tuple(map(str, range(65))))
    longest = ("p" * 512, "ä" * 256)
    assert User("me", "read", uids=(1,), prefixes=(*map(str, range(62)), *longest)).rights.prefixes[0] == b"0"
    for prefix in ("", "p" * 513, "ä" * 257):
        with pytest.raises(ValueError, match="a prefix has 1 to 512 bytes"):
            User("me", "read", uids=(1,), prefixes=(prefix,))
    with pytest.raises(ValueError, match="at most 1024 users"):
        ServerConfig(users={f"u{number}": User(f"u{number}", "read", uids=(number,)) for number in range(1_025)})
    with pytest.raises(ValueError, match="the user 'a' has the name 'b'"):
        ServerConfig(users={"a": user("b")}, caches={"x": CachePolicy("x")})
