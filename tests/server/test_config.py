"""The configuration: which source wins, which values are accepted, and the error for each mistake."""

from __future__ import annotations

import re
import tomllib
from dataclasses import replace
from pathlib import Path
from typing import Any

import pytest

from naught import _compiled
from naught._version import __version__
from naught_server.config import POLICY_KEYS, SETTINGS, CachePolicy, ConfigError, ServerConfig, needing_restart
from naught_server.kinds import shown
from naught_server.loading import USER_KEYS, load, to_toml
from naught_server.rules import DEFAULT_RULES, RULE_KEYS, Rule
from support.each import for_each

# Settings of every kind: flag, variable, key, and for each source a text and the value it means.
SOURCES = [
    ("--port", "NAUGHT_PORT", "port", ("7001", 7001), ("7002", 7002), ("7003", 7003)),
    ("--host", "NAUGHT_HOST", "host", ("127.0.0.2", "127.0.0.2"), ("::1", "::1"), ("localhost", "localhost")),
    ("--unix-socket", "NAUGHT_UNIX_SOCKET", "unix_socket", ("/a", "/a"), ("/b", "/b"), ("", None)),
    ("--ports-file", "NAUGHT_PORTS_FILE", "ports_file", ("/a", "/a"), ("", None), ("c d", "c d")),
    ("--log-level", "NAUGHT_LOG_LEVEL", "log_level", ("debug", "debug"), ("error", "error"), ("info", "info")),
    ("--log-format", "NAUGHT_LOG_FORMAT", "log_format", ("json", "json"), ("text", "text"), ("json", "json")),
    ("--connections-max", "NAUGHT_CONNECTIONS_MAX", "connections_max", ("1", 1), ("20", 20), ("300", 300)),
    (
        "--connections-per-address-max",
        "NAUGHT_CONNECTIONS_PER_ADDRESS_MAX",
        "connections_per_address_max",
        ("1", 1),
        ("", None),
        ("300", 300),
    ),
    (
        "--sessions-per-address-max",
        "NAUGHT_SESSIONS_PER_ADDRESS_MAX",
        "sessions_per_address_max",
        ("1", 1),
        ("20", 20),
        ("", None),
    ),
    ("--drain-timeout-ms", "NAUGHT_DRAIN_TIMEOUT_MS", "drain_timeout_ms", ("0", 0), ("20", 20), ("300", 300)),
    ("--sweep-budget-ms", "NAUGHT_SWEEP_BUDGET_MS", "sweep_budget_ms", ("0.1", 0.1), ("2", 2.0), ("10", 10.0)),
    ("--sweep-budget-ms", "NAUGHT_SWEEP_BUDGET_MS", "sweep_budget_ms", ("0", 0.0), ("0.0", 0.0), ("-0.0", 0.0)),
    ("--sweep-interval-ms", "NAUGHT_SWEEP_INTERVAL_MS", "sweep_interval_ms", ("4", 4), ("5", 5), ("1000", 1_000)),
    (
        "--compaction-bytes-per-entry",
        "NAUGHT_COMPACTION_BYTES_PER_ENTRY",
        "compaction_bytes_per_entry",
        ("64", 64),
        ("100", 100),
        ("4096", 4_096),
    ),
    ("--gc-threshold", "NAUGHT_GC_THRESHOLD", "gc_threshold", ("100", 100), ("5000", 5_000), ("1000000", 1_000_000)),
    ("--tuner", "NAUGHT_TUNER", "tuner", ("off", "off"), ("dry-run", "dry-run"), ("on", "on")),
]


def toml_of(key: str, value: Any) -> str:
    if value is None:
        return f'{key} = ""\n'
    return f"{key} = '{value}'\n" if isinstance(value, str) else f"{key} = {value}\n"


@pytest.mark.parametrize(("flag", "variable", "key", "of_flag", "of_variable", "of_file"), SOURCES)
def test_flags_win_over_the_environment_and_that_over_the_file(
    *, tmp_path: Path, flag: str, variable: str, key: str, of_flag: Any, of_variable: Any, of_file: Any
) -> None:
    path = tmp_path / "naught.toml"
    path.write_text(toml_of(key, of_file[1]))
    file_named = ["--config", str(path)]

    def value_of(arguments: list[str], environment: dict[str, str]) -> tuple[object, str | None]:
        loaded = load(arguments, environment)
        return getattr(loaded.config, key), loaded.sources.get(key)

    default = getattr(ServerConfig(), key)
    assert value_of([], {}) == (default, None)
    assert value_of(file_named, {}) == (of_file[1], str(path))
    assert value_of([], {"NAUGHT_CONFIG": str(path)}) == (of_file[1], str(path))
    assert value_of(file_named, {variable: of_variable[0]}) == (of_variable[1], variable)
    assert value_of([*file_named, flag, of_flag[0]], {variable: of_variable[0]}) == (of_flag[1], flag)
    assert value_of([f"{flag}={of_flag[0]}"], {}) == (of_flag[1], flag)


@pytest.mark.parametrize(
    ("arguments", "environment", "file", "insecure"),
    [
        ([], {}, "", False),
        (["--insecure"], {}, "", True),
        (["--insecure"], {"NAUGHT_INSECURE": "false"}, "", True),
        (["--no-insecure"], {"NAUGHT_INSECURE": "true"}, "", False),
        ([], {"NAUGHT_INSECURE": "1"}, "insecure = false", True),
        ([], {"NAUGHT_INSECURE": "0"}, "insecure = true", False),
        ([], {"NAUGHT_INSECURE": "TRUE"}, "", True),
        ([], {}, "insecure = true", True),
    ],
)
def test_a_switch_has_two_flags(
    tmp_path: Path, arguments: list[str], environment: dict[str, str], file: str, insecure: bool
) -> None:
    path = tmp_path / "naught.toml"
    path.write_text(file)
    assert load([*arguments, "--config", str(path)], environment).config.insecure is insecure


def test_the_file_a_flag_names_wins_over_the_one_a_variable_names(tmp_path: Path) -> None:
    (tmp_path / "flag.toml").write_text("port = 1")
    environment = {"NAUGHT_CONFIG": str(tmp_path / "missing.toml")}
    assert load(["--config", str(tmp_path / "flag.toml")], environment).config.port == 1
    assert load(["--config", ""], environment).config.port == 6480


def test_caches_come_from_the_file_and_default_is_always_there(tmp_path: Path) -> None:
    path = tmp_path / "naught.toml"
    path.write_text(
        "[caches.orders]\nshards = 1\neviction = 'lazy'\nmax_counters = 5\n[caches.\"a.b\"]\nshards = 65536\n"
    )
    assert load(["--config", str(path)], {}).config.caches == {
        "default": CachePolicy("default", 256, "eager", None),
        "orders": CachePolicy("orders", 1, "lazy", 5),
        "a.b": CachePolicy("a.b", 65536),
    }
    path.write_text("[caches.default]\nshards = 2\n")
    assert load(["--config", str(path)], {}).config.caches == {"default": CachePolicy("default", 2)}


PORT_RULE = "must be a whole number from 0 to 65535, not"
FLAG_AND_VARIABLE_MISTAKES: list[tuple[list[str], dict[str, str], str]] = [
    # unknown words
    (["--prot", "1"], {}, "unknown flag --prot; did you mean --port?"),
    (["--drain-timeout=3"], {}, "unknown flag --drain-timeout; did you mean --drain-timeout-ms?"),
    (["--por", "1"], {}, "unknown flag --por; did you mean --port?"),
    (["--zzzz"], {}, "unknown flag --zzzz; see --help"),
    (["6480"], {}, "unexpected argument '6480'; settings are given by flags, see --help"),
    ([], {"NAUGHT_PROT": "1"}, "unknown environment variable NAUGHT_PROT; did you mean NAUGHT_PORT?"),
    ([], {"NAUGHT_URI": "1"}, "unknown environment variable NAUGHT_URI; did you mean NAUGHT_URL?"),
    ([], {"NAUGHT_QQQQQQQQQQ": "1"}, "unknown environment variable NAUGHT_QQQQQQQQQQ"),
    # wrong values, with their source
    (["--port", "x"], {}, f"--port {PORT_RULE} 'x'"),
    (["--port", "65536"], {}, f"--port {PORT_RULE} 65536"),
    (["--port", "-1"], {}, f"--port {PORT_RULE} -1"),
    (["--port", ""], {}, f"--port {PORT_RULE} ''"),
    (["--port", "1_0"], {}, f"--port {PORT_RULE} '1_0'"),
    (["--port", " 1"], {}, f"--port {PORT_RULE} ' 1'"),
    (["--port", "\u0661"], {}, f"--port {PORT_RULE} '\u0661'"),
    (["--port", "9" * 5000], {}, f"--port {PORT_RULE} '{'9' * 76}..."),
    (["--port"], {}, "--port: expected one argument"),
    ([], {"NAUGHT_PORT": "http"}, f"NAUGHT_PORT {PORT_RULE} 'http'"),
    ([], {"NAUGHT_PORT": ""}, f"NAUGHT_PORT {PORT_RULE} ''"),
    (["--log-level", "loud"], {}, "--log-level must be debug, info, warning or error, not 'loud'"),
    ([], {"NAUGHT_LOG_FORMAT": "xml"}, "NAUGHT_LOG_FORMAT must be text or json, not 'xml'"),
    ([], {"NAUGHT_INSECURE": "yes"}, "NAUGHT_INSECURE must be true or false, not 'yes'"),
    (["--insecure=yes"], {}, "--insecure/--no-insecure: ignored explicit argument 'yes'"),
    (["--connections-max", "0"], {}, "--connections-max must be a whole number from 1 to 1000000, not 0"),
    (
        ["--sessions-per-address-max", "0"],
        {},
        "--sessions-per-address-max must be a whole number from 1 to 2000000, or empty, not 0",
    ),
    (["--drain-timeout-ms", "-5"], {}, "--drain-timeout-ms must be a whole number from 0 to 3600000, not -5"),
    (["--sweep-budget-ms", "0.09"], {}, "--sweep-budget-ms must be a number from 0.1 to 10, or 0 for off, not 0.09"),
    (["--sweep-budget-ms", "nan"], {}, "--sweep-budget-ms must be a number from 0.1 to 10, or 0 for off, not 'nan'"),
    (["--sweep-budget-ms", "1e0"], {}, "--sweep-budget-ms must be a number from 0.1 to 10, or 0 for off, not '1e0'"),
    (["--ports-file", "\udcff"], {}, "--ports-file must be a path of at most 4095 bytes of UTF-8, not '\\udcff'"),
    # settings that exclude each other
    (["--host", ""], {}, "nothing to listen on: --host turns TCP off, and there is no Unix socket"),
    ([], {"NAUGHT_HOST": ""}, "nothing to listen on: NAUGHT_HOST turns TCP off, and there is no Unix socket"),
    # the file itself
    (["--config", "/nowhere/x"], {}, "--config: cannot read '/nowhere/x': No such file or directory"),
    ([], {"NAUGHT_CONFIG": "/nowhere/x"}, "NAUGHT_CONFIG: cannot read '/nowhere/x': No such file or directory"),
    (["--config", "/"], {}, "--config: cannot read '/': Is a directory"),
]


@for_each(("arguments", "environment", "message"), FLAG_AND_VARIABLE_MISTAKES)
def test_a_mistake_in_flags_or_environment(arguments: list[str], environment: dict[str, str], message: str) -> None:
    with pytest.raises(ConfigError) as caught:
        load(arguments, environment)
    assert str(caught.value) == message


def test_a_unix_path_is_no_longer_than_the_kernel_takes() -> None:
    with pytest.raises(ConfigError, match=r"^--unix-socket must be a path of at most 10[37] bytes of UTF-8, not"):
        load(["--unix-socket", "/" + "x" * 107], {})


SHARDS_RULE = "shards must be a power of two from 1 to 65536, not"
NAME_RULE = "must be 1 to 64 letters, digits, dots, dashes or underscores, starting with a letter or a digit, not"
# None: it is not TOML, and the message is tomllib's, which differs between versions.
FILE_MISTAKES = [
    ("prot = 1", "unknown key 'prot'; did you mean port?"),
    ("drain-timeout-ms = 1", "unknown key 'drain-timeout-ms'; did you mean drain_timeout_ms?"),
    ("config = 'x'", "unknown key 'config'; did you mean watch_config?"),
    ("[cache.orders]", "unknown key 'cache'; did you mean caches?"),
    ("port = '6480'", f"port {PORT_RULE} '6480'"),
    ("port = true", f"port {PORT_RULE} true"),
    ("port = 1.0", f"port {PORT_RULE} 1.0"),
    ("port = 99999", f"port {PORT_RULE} 99999"),
    ("host = 1", "host must be an address or a host name of at most 253 bytes of UTF-8, not 1"),
    ("insecure = 1", "insecure must be true or false, not 1"),
    ("log_level = []", "log_level must be debug, info, warning or error, not []"),
    ("sweep_budget_ms = nan", "sweep_budget_ms must be a number from 0.1 to 10, or 0 for off, not nan"),
    ("sweep_budget_ms = true", "sweep_budget_ms must be a number from 0.1 to 10, or 0 for off, not true"),
    ('ports_file = "a\\u0000b"', "ports_file must be a path of at most 4095 bytes of UTF-8, not 'a\\x00b'"),
    ("port = ", None),
    ("port = 1\nport = 2", None),
    ("caches = 3", "caches must be tables [caches.NAME], not 3"),
    ("[[caches]]\nshards = 1", "caches must be tables [caches.NAME], not [{'shards': 1}]"),
    ("[caches]\nshards = 8", "caches.shards must be a table, not 8; it belongs in a table [caches.NAME]"),
    ("[caches]\norders = 8", "caches.orders must be a table, not 8"),
    ("[caches.orders]\nshard = 8", "unknown key 'caches.orders.shard'; did you mean shards?"),
    ("[caches.orders]\nname = 'x'", "unknown key 'caches.orders.name'; a cache has shards, eviction, max_counters"),
    ("[caches.orders]\nshards = 3", f"caches.orders: {SHARDS_RULE} 3"),
    ("[caches.orders]\nshards = 0", f"caches.orders: {SHARDS_RULE} 0"),
    ("[caches.orders]\nshards = -2", f"caches.orders: {SHARDS_RULE} -2"),
    ("[caches.orders]\nshards = 131072", f"caches.orders: {SHARDS_RULE} 131072"),
    ("[caches.orders]\nshards = true", f"caches.orders: {SHARDS_RULE} true"),
    ("[caches.orders]\nshards = '8'", f"caches.orders: {SHARDS_RULE} '8'"),
    ("[caches.orders]\neviction = 'never'", "caches.orders: eviction must be eager or lazy, not 'never'"),
    ("[caches.orders]\neviction = []", "caches.orders: eviction must be eager or lazy, not []"),
    (
        "[caches.orders]\nmax_counters = 0",
        "caches.orders: max_counters must be a whole number from 1 to 1099511627776, not 0",
    ),
    ("[caches.'']", f"caches.: the name of a cache {NAME_RULE} ''"),
    ("[caches.'a/b']", f"caches.a/b: the name of a cache {NAME_RULE} 'a/b'"),
    ("[caches.-a]", f"caches.-a: the name of a cache {NAME_RULE} '-a'"),
    ("[caches.é]", None),
    (f"[caches.{'x' * 65}]", f"caches.{'x' * 65}: the name of a cache {NAME_RULE} '{'x' * 65}'"),
    ("".join(f"[caches.c{n}]\n" for n in range(128)), "there can be at most 128 caches, not 129"),
]


@for_each(("text", "message"), FILE_MISTAKES)
def test_a_mistake_in_the_file(tmp_path: Path, text: str, message: str | None) -> None:
    path = tmp_path / "naught.toml"
    path.write_text(text, encoding="utf-8")
    with pytest.raises(ConfigError) as caught:
        load(["--config", str(path)], {})
    if message is None:
        assert str(caught.value).startswith(f"{path}: not TOML: ")
    else:
        assert str(caught.value) == f"{path}: {message}"


@pytest.mark.parametrize("text", ["x = " + "[" * 5_000, "x = " + "{a=" * 5_000])
def test_nesting_without_end_is_a_mistake_in_the_file(tmp_path: Path, text: str) -> None:
    path = tmp_path / "naught.toml"
    path.write_text(text)
    with pytest.raises(ConfigError) as caught:
        load(["--config", str(path)], {})
    assert str(caught.value) == f"{path}: not TOML: it is nested too deeply"


@pytest.mark.parametrize("number", [f"0x{'f' * 6_000}", f"-{'9' * 400}", "9" * 400], ids=["hex", "minus", "plus"])
def test_an_enormous_number_is_a_mistake_of_its_key(tmp_path: Path, number: str) -> None:
    """Python does not write a number of more than 4 300 digits, nor make a float of one of 400."""
    head = 'metric = "deviation"\nset = "gc_threshold"\n'
    texts = {setting.name: f"{setting.name} = {number}" for setting in SETTINGS}
    texts |= {key: f"[caches.a]\n{key} = {number}" for key in POLICY_KEYS}
    texts |= {key: f'[users.a]\nrole = "read"\n{key} = {number}' for key in USER_KEYS if key != "role"}
    texts |= {key: f"[rules.a]\n{head}{key} = {number}" for key in RULE_KEYS if key not in ("metric", "set")}
    texts["metric"] = f'[rules.a]\nset = "gc_threshold"\nmetric = {number}'
    texts["set"] = f'[rules.a]\nmetric = "deviation"\nset = {number}'
    texts["to"] += "\nabove = 1"
    texts["limit"] += "\nabove = 1\ntimes = 2"
    texts["cache"] += "\nabove = 1\nto = 700"
    path = tmp_path / "naught.toml"
    for key, text in texts.items():
        path.write_text(text)
        with pytest.raises(ConfigError, match=rf"\b{key}\b") as raised:
            load(["--config", str(path)], {})
        assert len(str(raised.value)) < 500


def test_a_file_is_not_read_without_end(tmp_path: Path) -> None:
    path = tmp_path / "naught.toml"
    with path.open("wb") as file:
        file.truncate(1 << 40)
    with pytest.raises(ConfigError) as caught:
        load(["--config", str(path)], {})
    assert str(caught.value) == f"--config: {shown(str(path))} has more than 4194304 bytes"


def test_a_byte_order_mark_is_no_part_of_a_file(tmp_path: Path) -> None:
    (tmp_path / "naught.toml").write_text(
        f'port = 7\n[users.me]\nrole = "read"\nsecret_file = "{tmp_path}/secret"', encoding="utf-8-sig"
    )
    (tmp_path / "secret").write_text("a secret of mine\n", encoding="utf-8-sig")
    config = load(["--config", str(tmp_path / "naught.toml")], {}).config
    assert config.port == 7
    assert config.users["me"].secrets[0].matches(b"a secret of mine")


def test_a_file_that_is_no_text(tmp_path: Path) -> None:
    path = tmp_path / "naught.toml"
    path.write_bytes(b"port = 1 # \xff")
    with pytest.raises(ConfigError) as caught:
        load(["--config", str(path)], {})
    assert str(caught.value).startswith(f"{path}: not TOML: 'utf-8' codec can't decode byte 0xff")


@pytest.mark.parametrize(
    "environment",
    [
        {"NAUGHT_URL": "naught://localhost"},
        {"NAUGHTY": "1", "naught_port": "1", "PORT": "1"},
        # variables that Kubernetes puts into every container for services named naught and naught-server
        {
            "NAUGHT_SERVICE_HOST": "10.0.0.1",
            "NAUGHT_SERVICE_PORT": "6480",
            "NAUGHT_SERVICE_PORT_COUNTERS": "6480",
            "NAUGHT_PORT": "tcp://10.0.0.1:6480",
            "NAUGHT_PORT_6480_TCP": "tcp://10.0.0.1:6480",
            "NAUGHT_PORT_6480_TCP_PROTO": "tcp",
            "NAUGHT_PORT_6480_TCP_PORT": "6480",
            "NAUGHT_PORT_6480_TCP_ADDR": "10.0.0.1",
            "NAUGHT_SERVER_SERVICE_HOST": "10.0.0.1",
            "NAUGHT_SERVER_PORT": "tcp://10.0.0.1:6480",
            "NAUGHT_SERVER_PORT_6480_TCP_ADDR": "10.0.0.1",
        },
    ],
)
def test_variables_of_other_programs_are_ignored(environment: dict[str, str]) -> None:
    assert load([], environment).config == ServerConfig()


@pytest.mark.parametrize(
    ("values", "message"),
    [
        ({"port": "6480"}, f"port {PORT_RULE} '6480'"),
        ({"caches": {"a": CachePolicy("b")}}, "the cache 'a' has a policy with the name 'b'"),
        ({"caches": {f"c{n}": CachePolicy(f"c{n}") for n in range(128)}}, "there can be at most 128 caches, not 129"),
    ],
)
def test_a_configuration_made_in_code_is_checked_too(values: dict[str, Any], message: str) -> None:
    with pytest.raises(ValueError, match=f"^{re.escape(message)}$"):
        ServerConfig(**values)


def test_configurations_do_not_change() -> None:
    config = ServerConfig()
    with pytest.raises(AttributeError):
        config.port = 1  # type: ignore[misc]
    with pytest.raises(AttributeError):
        config.caches["default"].shards = 1  # type: ignore[misc]


def test_what_is_printed_makes_the_same_configuration(tmp_path: Path) -> None:
    config = ServerConfig(
        host=None,
        port=0,
        unix_socket='/tmp/a "quoted"\\ \t\x7f socket é \U0001f4a5',
        log_format="json",
        insecure=True,
        sweep_budget_ms=0.25,
        tuner="dry-run",
        rules={
            "quiet": replace(DEFAULT_RULES["quiet"], off=True),
            "a.b": Rule("a.b", "deviation", "eviction", above=1e-9, to="eager", cache="a.b"),
        },
        caches={
            "a.b": CachePolicy("a.b", 1, "lazy", 7),
            "true": CachePolicy("true"),
        },
    )
    for text in (to_toml(config), to_toml(config, {"port": "--port", "host": "x\ny"}), to_toml(ServerConfig())):
        path = tmp_path / "printed.toml"
        path.write_text(text, encoding="utf-8")
        again = load(["--config", str(path)], {}).config
        assert again == (ServerConfig() if text == to_toml(ServerConfig()) else config)
        # Every setting has its line, whether it is at its default or not.
        assert set(tomllib.loads(text)) == set(vars(config)) - {"users"} - ({"rules"} if not again.rules else set())


def test_what_is_printed_says_where_each_value_came_from() -> None:
    loaded = load(["--port", "7"], {"NAUGHT_LOG_LEVEL": "debug"})
    lines = to_toml(loaded.config, loaded.sources).splitlines()
    assert "port = 7  # --port" in lines
    assert 'log_level = "debug"  # NAUGHT_LOG_LEVEL' in lines
    assert 'log_format = "text"  # default' in lines


@pytest.mark.parametrize(
    ("arguments", "action"),
    [
        ([], "serve"),
        (["--check-config"], "check"),
        (["--print-config"], "print"),
        (["--print-config", "--check-config"], "print"),
    ],
)
def test_the_action(arguments: list[str], action: str) -> None:
    assert load(arguments, {}).action == action


def test_version_and_help_print_and_end(capsys: pytest.CaptureFixture[str]) -> None:
    version = f"naught-server {__version__} ({_compiled.running('naught_server')})\n"
    for flag, expected in (("--version", version), ("--help", "usage: naught-server ")):
        with pytest.raises(SystemExit) as caught:
            load([flag], {})
        assert caught.value.code == 0
        assert capsys.readouterr().out.startswith(expected)


@pytest.mark.parametrize(
    ("one", "other", "expected"),
    [
        ({}, {}, []),
        ({}, {"port": 7, "log_level": "debug", "tuner": "off"}, ["port"]),
        ({"caches": {"a": CachePolicy("a")}}, {"caches": {"a": CachePolicy("a", shards=2)}}, ["caches.a.shards"]),
        ({"caches": {"a": CachePolicy("a")}}, {"caches": {"b": CachePolicy("b")}}, ["caches.a", "caches.b"]),
        ({}, {"caches": {"default": CachePolicy("default", eviction="lazy", max_counters=1)}}, []),
    ],
)
def test_what_of_two_configurations_needs_a_restart(
    one: dict[str, Any], other: dict[str, Any], expected: list[str]
) -> None:
    assert needing_restart(ServerConfig(**one), ServerConfig(**other)) == expected
