"""The server's settings: their names, the values they may have, and one frozen `ServerConfig`.

A setting is one row of `SETTINGS`. Its name is the key in the file, the flag is the name with dashes
(`--drain-timeout-ms`), and the environment variable is the name in capitals (`NAUGHT_DRAIN_TIMEOUT_MS`). The kinds of
values are in `kinds.py`; `loading.py` reads flags, variables and the file.

Limits and defaults are in `limits.py`, each with its reason. This module opens no socket and imports neither store
nor engine; they import from here.
"""

from __future__ import annotations

import re
from collections.abc import Mapping
from dataclasses import dataclass, field, fields
from typing import Any, Final, Literal

from naught.wire.limits import DEFAULT_CACHE, DEFAULT_PORT
from naught_server.access import USERS_MAX, User
from naught_server.kinds import (
    Choice,
    FileMode,
    Kind,
    NumberOrOff,
    PortOrOff,
    Switch,
    Text,
    Whole,
    WholeOrNone,
    WholeOrZero,
    shown,
)
from naught_server.limits import (
    BUSY_AFTER_MS,
    BUSY_AFTER_MS_MAX,
    CACHE_NAME_CHARACTERS_MAX,
    CACHES_MAX,
    COMPACTION_BYTES_PER_ENTRY,
    COMPACTION_BYTES_PER_ENTRY_MAX,
    COMPACTION_BYTES_PER_ENTRY_MIN,
    CONNECTIONS_LIMIT,
    CONNECTIONS_MAX,
    DEFAULT_HTTP_PORT,
    DRAIN_TIMEOUT_MS_MAX,
    FILES_RESERVED,
    GC_THRESHOLD,
    GC_THRESHOLD_MAX,
    GC_THRESHOLD_MIN,
    HTTP_CONNECTIONS_MAX,
    MAX_COUNTERS_LIMIT,
    PARKED_BYTES_LIMIT,
    PARKED_BYTES_MAX,
    PARKED_BYTES_MIN,
    RATE_LIMIT,
    RATE_MIN,
    SESSIONS_OF_ADDRESS,
    SESSIONS_OF_ADDRESS_MIN,
    SESSIONS_PER_CONNECTION,
    SHARDS_MAX,
    SWEEP_BUDGET_MS_MAX,
    SWEEP_BUDGET_MS_MIN,
    SWEEP_INTERVAL_MS_MAX,
    SWEEP_INTERVAL_MS_MIN,
    SWEEP_PERIOD_MS,
    UNIX_PATH_BYTES_MAX,
)
from naught_server.quotas import Limits
from naught_server.rules import Rule

_NAME = re.compile(r"[A-Za-z0-9][A-Za-z0-9_.-]*", re.ASCII)
_NAME_RULE = (
    f"1 to {CACHE_NAME_CHARACTERS_MAX} letters, digits, dots, dashes or underscores, "
    "starting with a letter or a digit"
)


def check_name(name: str, what: str) -> None:
    """Raise ValueError unless a cache or a user may have this name."""
    if not _NAME.fullmatch(name) or len(name) > CACHE_NAME_CHARACTERS_MAX:
        raise ValueError(f"the name of {what} must be {_NAME_RULE}, not {shown(name)}")


class ConfigError(Exception):
    """The configuration is wrong. One sentence, which names the flag, variable or file that is at fault."""

    def __init__(self, sentence: str) -> None:
        """What it repeats of the input may have any characters; control characters are spelled out."""
        super().__init__(
            "".join(each if each.isprintable() else each.encode("unicode_escape").decode() for each in sentence)
        )


@dataclass(frozen=True)
class Setting:
    name: str
    """The key in the file, and the field of `ServerConfig`."""
    kind: Kind
    metavar: str
    help: str

    @property
    def flag(self) -> str:
        return "--" + self.name.replace("_", "-")

    @property
    def variable(self) -> str:
        return "NAUGHT_" + self.name.upper()


_PATH_BYTES_MAX = 4_096 - 1  # Linux's PATH_MAX; macOS allows a quarter of it and reports longer paths itself

SETTINGS: Final = (
    Setting(
        "host",
        Text("an address or a host name", 253),
        "HOST",
        "the address or host name TCP listens on; empty for no TCP; beyond loopback only with --insecure",
    ),
    Setting("port", Whole(0, 65_535), "PORT", "the TCP port; 0 picks a free one, see --ports-file"),
    Setting(
        "http_host",
        Text("an address or a host name", 253),
        "HOST",
        "the address or host name of the HTTP port; beyond loopback only with --insecure",
    ),
    Setting(
        "http_port",
        PortOrOff(0, 65_535),
        "PORT",
        "the HTTP port, for /metrics, health checks and the page; 0 picks a free one, off is none",
    ),
    Setting(
        "unix_socket",
        Text("a path", UNIX_PATH_BYTES_MAX),
        "PATH",
        "also listen on a Unix socket at this path",
    ),
    Setting(
        "unix_socket_mode",
        FileMode(),
        "MODE",
        "the permissions of that socket's file, such as 0660; empty for what the umask leaves",
    ),
    Setting(
        "unix_socket_owner",
        Text("a user, user:group or :group", 128),
        "OWNER",
        "the owner of that socket's file; empty for the server's own",
    ),
    Setting(
        "tls_certificate",
        Text("a path", _PATH_BYTES_MAX),
        "PATH",
        "the certificate of the server and its chain, in PEM: then TCP speaks TLS only",
    ),
    Setting(
        "tls_key",
        Text("a path", _PATH_BYTES_MAX),
        "PATH",
        "the key of that certificate, in PEM; empty where it is in the same file",
    ),
    Setting(
        "tls_client_ca",
        Text("a path", _PATH_BYTES_MAX),
        "PATH",
        "certificates of authorities, in PEM: a client may show a certificate of theirs, which can be that of a user",
    ),
    Setting("tls_client_required", Switch(), "", "refuse clients without such a certificate"),
    Setting("http_tls", Switch(), "", "the HTTP port speaks TLS too, with the same certificate"),
    Setting(
        "http_token_file",
        Text("a path", _PATH_BYTES_MAX),
        "PATH",
        "the first line of this file is what HTTP requests must say, but for /livez and /readyz",
    ),
    Setting(
        "ports_file",
        Text("a path", _PATH_BYTES_MAX),
        "PATH",
        "once ready, write the addresses listened on to this file, as JSON",
    ),
    Setting("log_level", Choice(("debug", "info", "warning", "error")), "LEVEL", "the lowest level that is logged"),
    Setting("log_format", Choice(("text", "json")), "FORMAT", "the format of log lines"),
    Setting("insecure", Switch(), "", "allow listening beyond loopback, where every client has full access"),
    Setting(
        "connections_max",
        Whole(1, CONNECTIONS_LIMIT),
        "N",
        f"connections served at once; at most the limit on open files minus {FILES_RESERVED}, and minus "
        f"{HTTP_CONNECTIONS_MAX} with an HTTP port",
    ),
    Setting(
        "connections_per_address_max",
        WholeOrNone(1, CONNECTIONS_LIMIT),
        "N",
        "connections served at once from one address; Unix sockets are exempt",
    ),
    Setting(
        "sessions_per_address_max",
        WholeOrNone(1, SESSIONS_PER_CONNECTION * CONNECTIONS_LIMIT),
        "N",
        f"sessions opened from one address; empty for 1 in {SESSIONS_OF_ADDRESS} of all, at least "
        f"{SESSIONS_OF_ADDRESS_MIN}; Unix sockets are exempt",
    ),
    Setting(
        "connections_per_user_max",
        WholeOrNone(1, CONNECTIONS_LIMIT),
        "N",
        "connections served at once of one user",
    ),
    Setting(
        "sessions_per_user_max",
        WholeOrNone(1, SESSIONS_PER_CONNECTION * CONNECTIONS_LIMIT),
        "N",
        "sessions opened by one user",
    ),
    Setting(
        "parked_bytes_per_address_max",
        WholeOrNone(1, PARKED_BYTES_LIMIT),
        "BYTES",
        "memory for requests that wait, of the clients of one address; Unix sockets are exempt",
    ),
    Setting(
        "parked_bytes_per_user_max",
        WholeOrNone(1, PARKED_BYTES_LIMIT),
        "BYTES",
        "memory for requests that wait, of one user",
    ),
    Setting(
        "rate_per_address_max",
        WholeOrNone(RATE_MIN, RATE_LIMIT),
        "N",
        "counters that the clients of one address may touch in a second; further requests are answered busy",
    ),
    Setting(
        "rate_per_user_max",
        WholeOrNone(RATE_MIN, RATE_LIMIT),
        "N",
        "counters that one user may touch in a second; further requests are answered busy",
    ),
    Setting(
        "busy_after_ms",
        Whole(0, BUSY_AFTER_MS_MAX),
        "MS",
        "how long requests may wait while there is more work than can be done, before long ones are answered busy;"
        " 0 is for ever",
    ),
    Setting(
        "parked_bytes_max",
        Whole(PARKED_BYTES_MIN, PARKED_BYTES_LIMIT),
        "BYTES",
        "memory for requests that wait, of all clients together; further ones are answered busy",
    ),
    Setting(
        "drain_timeout_ms",
        Whole(0, DRAIN_TIMEOUT_MS_MAX),
        "MS",
        "how long connections may take to finish after a signal to stop",
    ),
    Setting(
        "sweep_budget_ms",
        NumberOrOff(SWEEP_BUDGET_MS_MIN, SWEEP_BUDGET_MS_MAX),
        "MS",
        "work the background sweeper may do in each interval; up to a quarter of the time with a backlog."
        " 0 turns it off, and then memory grows without a bound",
    ),
    Setting(
        "sweep_interval_ms",
        Whole(SWEEP_INTERVAL_MS_MIN, SWEEP_INTERVAL_MS_MAX),
        "MS",
        "the interval of --sweep-budget-ms",
    ),
    Setting(
        "compaction_bytes_per_entry",
        Whole(COMPACTION_BYTES_PER_ENTRY_MIN, COMPACTION_BYTES_PER_ENTRY_MAX),
        "BYTES",
        "a table with more memory than this for each entry is rebuilt",
    ),
    Setting(
        "gc_threshold",
        Whole(GC_THRESHOLD_MIN, GC_THRESHOLD_MAX),
        "N",
        "new objects after which Python's garbage collector looks at the youngest",
    ),
    Setting(
        "tuner",
        Choice(("off", "dry-run", "on")),
        "MODE",
        "whether the server changes its own settings by its rules; dry-run only says what it would change",
    ),
    Setting(
        "watch_config",
        Switch(),
        "",
        "reread the file of --config when it changes, as SIGHUP does",
    ),
)
SETTING_OF_NAME: Final = {setting.name: setting for setting in SETTINGS}

LIVE_SETTINGS: Final = (
    "sweep_budget_ms",
    "sweep_interval_ms",
    "compaction_bytes_per_entry",
    "gc_threshold",
    "drain_timeout_ms",
    "log_level",
    "tuner",
)
"""Settings that change while the server runs: by `config_set`, by rereading, and some by the tuner."""

REREAD_FILES: Final = ("tls_certificate", "tls_key", "tls_client_ca", "tls_client_required", "http_token_file")
"""Settings whose files are read again with the configuration. They change while the server runs, too, as long as TLS
and the token are not turned on or off."""

CONFIG_FILE: Final = Setting(
    "config", Text("a path", _PATH_BYTES_MAX), "FILE", "read settings and caches from this TOML file"
)

# ------------------------------------------------------------------------------------------- the configuration


@dataclass(frozen=True)
class CachePolicy:
    """How one cache keeps its counters. Raises ValueError, which names the field that is out of range."""

    name: str
    """The name that clients use in `hello`, and the label of its metrics."""
    shards: int = 256
    """The number of tables that its keys are distributed over: a power of two from 1 to 65 536."""
    eviction: Literal["eager", "lazy"] = "eager"
    """Whether a counter that reaches zero leaves its table at once, or later when the sweeper visits it."""
    max_counters: int | None = None
    """The most counters it may have; creating one more is the error `full`. None for no bound."""

    def __post_init__(self) -> None:
        check_name(self.name, "a cache")
        shards = self.shards
        if type(shards) is not int or not 1 <= shards <= SHARDS_MAX or shards & (shards - 1):
            raise ValueError(f"shards must be a power of two from 1 to {SHARDS_MAX}, not {shown(shards)}")
        if self.eviction not in ("eager", "lazy"):
            raise ValueError(f"eviction must be eager or lazy, not {shown(self.eviction)}")
        bound = self.max_counters
        if bound is not None and (type(bound) is not int or not 1 <= bound <= MAX_COUNTERS_LIMIT):
            raise ValueError(
                f"max_counters must be a whole number from 1 to {MAX_COUNTERS_LIMIT}, not {shown(bound)}"
            )


POLICY_KEYS: Final = tuple(item.name for item in fields(CachePolicy) if item.name != "name")

LIVE_OF_CACHE: Final = ("eviction", "max_counters")
"""Settings of a cache that change while the server runs. Its shards do not: every counter would have to move."""

_LIVE_KINDS: Final[Mapping[str, Kind]] = {
    **{name: SETTING_OF_NAME[name].kind for name in LIVE_SETTINGS},
    "gc_freeze": Switch(),
    "eviction": Choice(("eager", "lazy")),
    "max_counters": WholeOrZero(1, MAX_COUNTERS_LIMIT),
}


def accepted_live(name: str, value: object, raises: type[Exception], source: str | None = None) -> Any:
    """The value of a live setting as it is kept; `source` stands for the name in the message. Raises `raises`, saying
    what is allowed."""
    kind = _LIVE_KINDS[name.rpartition(".")[2]]
    if isinstance(value, bytes):
        value = value.decode("utf-8", "replace")
    try:
        return kind.accept(value)
    except ValueError:
        raise raises(f"{source or name} must be {kind.expects()}, not {shown(value)}") from None


@dataclass(frozen=True)
class ServerConfig:
    """All settings of a server, checked. Raises ValueError, which names the field that is out of range."""

    host: str | None = "127.0.0.1"
    """The address or host name TCP listens on; None for no TCP."""
    port: int = DEFAULT_PORT
    """The TCP port; 0 picks a free one."""
    http_host: str | None = "127.0.0.1"
    """The address or host name of the HTTP port."""
    http_port: int | None = DEFAULT_HTTP_PORT
    """The HTTP port; 0 picks a free one, None is no HTTP."""
    unix_socket: str | None = None
    """The path of a Unix socket to listen on."""
    unix_socket_mode: str | None = None
    """The permissions of that socket's file, in octal digits."""
    unix_socket_owner: str | None = None
    """The owner of that socket's file: user, user:group or :group."""
    tls_certificate: str | None = None
    """The file of the server's certificate: with it TCP speaks TLS only."""
    tls_key: str | None = None
    """The file of its key; None where it is in the same file."""
    tls_client_ca: str | None = None
    """The file of the authorities whose certificates clients may show."""
    tls_client_required: bool = False
    """Whether clients must show such a certificate."""
    http_tls: bool = False
    """Whether the HTTP port speaks TLS too."""
    http_token_file: str | None = None
    """The file of the secret that HTTP requests must say."""
    ports_file: str | None = None
    """The file to which the addresses listened on are written, once ready."""
    log_level: str = "info"
    """debug, info, warning or error."""
    log_format: str = "text"
    """text or json."""
    insecure: bool = False
    """Whether TCP may listen beyond loopback."""
    connections_max: int = CONNECTIONS_MAX
    """The most connections served at once; fewer where there are not enough file descriptors."""
    connections_per_address_max: int | None = None
    """The most connections served at once from one address; None for no bound of its own."""
    sessions_per_address_max: int | None = None
    """The most sessions opened from one address; None for a share of all."""
    connections_per_user_max: int | None = None
    """The most connections served at once of one user; None for no bound of its own."""
    sessions_per_user_max: int | None = None
    """The most sessions opened by one user; None for no bound of its own."""
    parked_bytes_per_address_max: int | None = None
    """Bytes for requests that wait, of the clients of one address; None for no bound of its own."""
    parked_bytes_per_user_max: int | None = None
    """Bytes for requests that wait, of one user; None for no bound of its own."""
    rate_per_address_max: int | None = None
    """Counters that the clients of one address may touch in a second; None for no bound."""
    rate_per_user_max: int | None = None
    """Counters that one user may touch in a second; None for no bound."""
    busy_after_ms: int = BUSY_AFTER_MS
    """How long requests may wait while there is more work than can be done; 0 for ever. See `overload.py`."""
    parked_bytes_max: int = PARKED_BYTES_MAX
    """Bytes for requests that wait, of all clients together; see `waiters.WAIT_BYTES`."""
    drain_timeout_ms: int = 10_000
    """How long connections may take to finish when the server stops."""
    sweep_budget_ms: float = 1.0
    """Milliseconds of work the sweeper may do in any `sweep_interval_ms`; a backlog gets up to a quarter. 0 turns the
    sweeper off."""
    sweep_interval_ms: int = SWEEP_PERIOD_MS
    """The interval of that budget. Steps follow sooner, with less work in each, while clients may wait for one: every
    100 ms where there are sessions or deadlines, every 10 ms where there are waits for what expires."""
    compaction_bytes_per_entry: int = COMPACTION_BYTES_PER_ENTRY
    """A table with more bytes than this per entry is rebuilt."""
    gc_threshold: int = GC_THRESHOLD
    """The collector's threshold for the youngest generation."""
    tuner: Literal["off", "dry-run", "on"] = "on"
    """Whether the server changes its settings by `rules`."""
    watch_config: bool = False
    """Whether the configuration is reread when its file changes."""
    caches: Mapping[str, CachePolicy] = field(default_factory=dict)
    """The caches by name. There is always one named `default`."""
    rules: Mapping[str, Rule] = field(default_factory=dict)
    """The tuner's rules by name, besides the default ones; one of the same name replaces the default."""
    users: Mapping[str, User] = field(default_factory=dict)
    """Who may connect, by name. With none, everybody who can connect may do everything."""

    def __post_init__(self) -> None:
        for setting in SETTINGS:
            value = accepted(setting, getattr(self, setting.name), setting.name, ValueError)
            object.__setattr__(self, setting.name, value)
        caches = {DEFAULT_CACHE: CachePolicy(DEFAULT_CACHE), **self.caches}
        if len(caches) > CACHES_MAX:
            raise ValueError(f"there can be at most {CACHES_MAX} caches, not {len(caches)}")
        for name, policy in caches.items():
            if policy.name != name:
                raise ValueError(f"the cache {name!r} has a policy with the name {policy.name!r}")
        object.__setattr__(self, "caches", caches)
        for name, rule in self.rules.items():
            _check_rule(name, rule, caches)
        _check_users(self.users, caches)
        for name in ("tls_key", "tls_client_ca", "http_tls"):
            if getattr(self, name) and self.tls_certificate is None:
                raise ValueError(f"{name} is of no use without tls_certificate")
        if self.tls_client_required and self.tls_client_ca is None:
            raise ValueError("tls_client_required is of no use without tls_client_ca")
        for name in ("unix_socket_mode", "unix_socket_owner"):
            if getattr(self, name) is not None and self.unix_socket is None:
                raise ValueError(f"{name} is of no use without unix_socket")

    @property
    def serves_http(self) -> bool:
        """Whether there is an HTTP port."""
        return self.http_host is not None and self.http_port is not None

    @property
    def files_read(self) -> list[str]:
        """The files whose content belongs to the configuration: secrets, certificates, the token of HTTP."""
        files = [self.tls_certificate, self.tls_key, self.tls_client_ca, self.http_token_file]
        files += [user.secret_file for user in self.users.values()]
        return [file for file in files if file is not None]

    @property
    def files_reserved(self) -> int:
        """Descriptors that connections of clients may not use."""
        return FILES_RESERVED + (HTTP_CONNECTIONS_MAX if self.serves_http else 0)

    @property
    def limits_of_address(self) -> Limits:
        """What the clients of one address may use, beside `connections_per_address_max` and
        `sessions_of_address_max`, which are counted where connections are accepted and sessions opened."""
        return Limits(parked_bytes=self.parked_bytes_per_address_max, rate=self.rate_per_address_max)

    @property
    def limits_of_user(self) -> Limits:
        """What one user may use."""
        return Limits(
            self.connections_per_user_max,
            self.sessions_per_user_max,
            self.parked_bytes_per_user_max,
            self.rate_per_user_max,
        )

    @property
    def sessions_max(self) -> int:
        """The most sessions there may be."""
        return SESSIONS_PER_CONNECTION * self.connections_max

    @property
    def sessions_of_address_max(self) -> int:
        """The most sessions that may have been opened from one address."""
        if self.sessions_per_address_max is not None:
            return self.sessions_per_address_max
        return max(self.sessions_max // SESSIONS_OF_ADDRESS, SESSIONS_OF_ADDRESS_MIN)


def _check_users(users: Mapping[str, User], caches: Mapping[str, CachePolicy]) -> None:
    """Raise ValueError unless the users are of caches there are, and no two are let in by the same."""
    if len(users) > USERS_MAX:
        raise ValueError(f"there can be at most {USERS_MAX} users, not {len(users)}")
    owners: dict[tuple[str, str | int], str] = {}
    for name, user in users.items():
        check_name(name, "a user")
        if user.name != name:
            raise ValueError(f"the user {name!r} has the name {user.name!r}")
        for cache in user.caches or ():
            if cache not in caches:
                raise ValueError(
                    f"users.{name}: there is no cache named {shown(cache)}; there are: {', '.join(caches)}"
                )
        shared: list[tuple[str, str | int]] = [("certificate", each) for each in user.certificates]
        shared += [("uid", each) for each in user.uids]
        for each in shared:
            other = owners.setdefault(each, name)
            if other != name:
                raise ValueError(f"users.{name}: the {each[0]} {each[1]} lets in the user {other} already")


def _check_rule(name: str, rule: Rule, caches: Mapping[str, CachePolicy]) -> None:
    """Raise ValueError unless a rule sets what its setting allows, and names a cache there is."""
    if rule.name != name:
        raise ValueError(f"the rule {name!r} has the name {rule.name!r}")
    if rule.cache is not None and rule.cache not in caches:
        raise ValueError(f"rules.{name}: there is no cache named {rule.cache!r}; there are: {', '.join(caches)}")
    if rule.set == "sweep_budget_ms" and rule.to == 0:
        raise ValueError(f"rules.{name}: to must not be 0: a rule cannot turn the sweeper off")
    for key, value in (("to", rule.to), ("limit", rule.limit)):
        if value is not None:
            accepted_live(rule.set, value, ValueError, f"rules.{name}: {key} of {rule.set}")


def needing_restart(one: ServerConfig, other: ServerConfig) -> list[str]:
    """The names of the settings that two configurations have with different values and that a running server cannot
    change; of caches `caches.NAME` or `caches.NAME.shards`."""
    names = [
        setting.name
        for setting in SETTINGS
        if setting.name not in LIVE_SETTINGS
        and getattr(one, setting.name) != getattr(other, setting.name)
        and (setting.name not in REREAD_FILES or _is_turned(setting.name, one, other))
    ]
    for name in {**one.caches, **other.caches}:
        before, after = one.caches.get(name), other.caches.get(name)
        if before is None or after is None:
            names.append(f"caches.{name}")
        elif before.shards != after.shards:
            names.append(f"caches.{name}.shards")
    return names


def _is_turned(name: str, one: ServerConfig, other: ServerConfig) -> bool:
    """Whether what a file is for is turned on or off."""
    if name not in ("tls_certificate", "http_token_file"):
        return False
    return (getattr(one, name) is None) != (getattr(other, name) is None)


def accepted(setting: Setting, value: object, source: str, raises: type[Exception]) -> object:
    try:
        return setting.kind.accept(value)
    except ValueError:
        raise raises(must_be(source, setting, value)) from None


def must_be(source: str, setting: Setting, value: object) -> str:
    return f"{source} must be {setting.kind.expects()}, not {shown(value)}"
