"""The server's configuration and limits: flags, environment and a TOML file become one frozen `ServerConfig`.

A setting is one row of `_SETTINGS`. Its name is the key in the file, the flag is the name with dashes
(`--drain-timeout-ms`), and the environment variable is the name in capitals (`NAUGHT_DRAIN_TIMEOUT_MS`). Flags win
over the environment, the environment over the file, the file over the defaults. Only the file configures caches, each
in a table `[caches.NAME]`, and the tuner's rules, `[rules.NAME]`. An empty text (`unix_socket = ""`) means none.

A value out of range, an unknown key and an unknown `NAUGHT_` variable are errors that name their source: a misspelt
limit that is silently ignored would be noticed in production only. Two kinds of variables are ignored. `NAUGHT_URL`
and `NAUGHT_PURE` are no settings of the server. And Kubernetes puts variables for a service named `naught` into every
container (`NAUGHT_SERVICE_HOST`, `NAUGHT_PORT=tcp://10.0.0.1:6480`); they are recognized by their form.

The server's limits come first, each with its reason; those of the wire are in `naught.wire.limits`. This module opens
no socket and imports neither store nor engine; they import from here.
"""

from __future__ import annotations

import argparse
import difflib
import gc
import re
import sys
import tomllib
from collections.abc import Iterable, Mapping, Sequence
from dataclasses import dataclass, field, fields, replace
from typing import Any, Final, Literal, NoReturn, Protocol, cast

from naught import _compiled
from naught._version import __version__
from naught.wire.limits import BATCH_ITEMS_MAX, DEFAULT_CACHE, DEFAULT_PORT, MESSAGE_BYTES_MAX, REPLY_BYTES_MAX
from naught_server import completion
from naught_server.rules import DEFAULT_RULES, RULE_KEYS, RULES_MAX, Rule

# ------------------------------------------------------------------------------------------------- limits
# `tests/server/test_config_limits.py` checks the number of each.

CONNECTIONS_MAX: Final = 10_000
"""The default of the setting. A connection may have a message, a slice of input and its output buffered: at worst
about 2 MiB, in practice a few KiB."""

CONNECTIONS_LIMIT: Final = 1_000_000
"""The most that can be configured. One process with one event loop cannot serve more usefully."""

FILES_RESERVED: Final = 32
"""Descriptors that connections may not use: for the standard streams, listeners, the loop, and files opened for a
moment."""

HTTP_CONNECTIONS_MAX: Final = 32
"""Connections to the HTTP port: browsers open up to six, scrapers and probes one each. They do not count against
`connections_max`, so clients of counters cannot keep an operator from looking; their descriptors are reserved."""

DEFAULT_HTTP_PORT: Final = DEFAULT_PORT + 1
"""Beside the port of the counters."""

LISTEN_BACKLOG: Final = 4_096
"""Connections the kernel may queue: enough for a fleet of clients that reconnects at once. The kernel reduces it to
its own limit."""

ACCEPTS_PER_TURN_MAX: Final = 32
"""Connections accepted in one turn of the loop. Measured at 1.2 ms together: requests of open connections wait that
long when many clients connect at once."""

OUTPUT_BYTES_MAX: Final = 1 << 20
"""Unsent output of one peer above which its requests are no longer read: a few replies of the largest size."""

OUTPUT_PAUSED_MS_MAX: Final = 10_000
"""How long a peer may leave its output unread before its connection is aborted: as long as a silent peer is not taken
for dead (`PEER_UNACKNOWLEDGED_MS`)."""

MESSAGE_MS_MAX: Final = 30_000
"""How long a message may be unfinished: 1 MiB arrives in this time at 280 kbit/s. Without it, connections that
send half a message each would keep its bytes in memory until they close."""

INPUT_AHEAD_BYTES_MAX: Final = 64 << 10
"""Input that may wait for a turn before reading is paused. uvloop hands over up to 256 000 bytes at once, and several
such pieces in one turn of the loop."""

INPUT_BYTES_MAX: Final = MESSAGE_BYTES_MAX + INPUT_AHEAD_BYTES_MAX
"""Undecoded input that a connection keeps: an unfinished message, or what waits for a turn and one more piece."""

PEER_LOOK_MS: Final = 2_000
"""How often the kernel is asked about a peer while replies are on their way to it. Two looks that find it silent, the
second one `PEER_UNACKNOWLEDGED_MS` after its last answer or later, end its connection."""

PROBE_INTERVAL_MS_MAX: Final = 2_000
"""How far apart the kernel may send what the peer must answer: retransmissions, and probes of a closed window. Less
than `PEER_UNACKNOWLEDGED_MS`, so that a peer that is there has answered one by then. Linux allows 1 000 and more."""

LAME_DUCK_MS: Final = 100
"""How long a stopping server still reads from a connection, to answer `shutting_down`. A client with that answer
knows that its request was not executed and can ask another server; after a closed connection it could not know."""

TURN_ITEMS_MAX: Final = 1_000
"""Work for one peer in one turn of the loop, in counters touched: about half a millisecond, in which all other
connections wait."""

SWEEP_PERIOD_MS: Final = 10
"""The default of the setting `sweep_interval_ms`, which the budget is given for."""

SWEEP_INTERVAL_MS_MIN: Final = 4
"""With less, a budget would be a large part of the interval, whatever it is."""

SWEEP_INTERVAL_MS_MAX: Final = 1_000
"""With more, zeros and expired counters would be seen for seconds in the sizes of tables."""

SWEEP_SLICE_MS: Final = 1.0
"""The longest step of the sweeper, in which every request waits. A larger share of the time is more steps and no
longer ones."""

SWEEP_BUDGET_MS_MIN: Final = 0.1
"""Below this, starting a step costs more than the work in it. 0 is no budget of this range: it turns the sweeper
off."""

SWEEP_BUDGET_MS_MAX: Final = 10.0
"""A whole `SWEEP_PERIOD_MS`: with it the sweeper has all the time that requests leave."""

SWEEP_DUTIES_MS: Final = 1.0
"""The budget of the jobs that go on while the sweeper is off: the default of the setting."""

SWEEP_BACKLOG_SHARE: Final = 0.25
"""The part of the time that a backlog earns the sweeper, where `sweep_budget_ms` is less: 2.5 ms in 10. Requests
have three quarters."""

COMPACTION_BYTES_PER_ENTRY: Final = 128
"""The default of the setting: a table with more bytes than this per entry is mostly empty and is rebuilt. A rebuilt
one has 27 to 54."""

COMPACTION_BYTES_PER_ENTRY_MIN: Final = 64
"""With less, a table that was just rebuilt could be rebuilt again."""

COMPACTION_BYTES_PER_ENTRY_MAX: Final = 4_096
"""With more, a table would hardly ever be rebuilt."""

GC_THRESHOLD_MIN: Final = 100
"""With less, the garbage collector would run all the time."""

GC_THRESHOLD_MAX: Final = 1_000_000
"""With more, cycles of a million objects would wait for it."""

GC_THRESHOLD: Final = min(max(GC_THRESHOLD_MIN, gc.get_threshold()[0]), GC_THRESHOLD_MAX)
"""The default of the setting: Python's own. A program that uses `memory://` may have set it to anything, 0 included,
and keeps what it has set."""

STALE_SHARE_MAX: Final = 0.1
"""More than this part stale is a backlog: expired counters and lazy zeros of a cache's raw entries, entries of
cleared tables, ended sessions of all sessions."""

DRAIN_TIMEOUT_MS_MAX: Final = 3_600_000
"""An hour. Supervisors kill a process long before; a larger number is a mistake in units."""

LEASE_MS_DEFAULT: Final = 10_000
"""How long a session outlives its connection unless its client asks for another lease. Long enough for a short
failure of the network, and short enough for clients that wait for the holds of a dead process."""

LEASE_MS_MIN: Final = 100
"""With less, a session would end before a client that reconnects at once has resumed it."""

LEASE_MS_MAX: Final = 300_000
"""Five minutes. That long, the holds of a dead process are kept from other clients."""

SESSIONS_PER_CONNECTION: Final = 2
"""Sessions allowed for each allowed connection: when all clients restart, their old sessions stay until the leases
end."""

SESSIONS_OF_ADDRESS: Final = 10
"""One in ten of all sessions may be opened from one address, unless configured otherwise. So a single peer cannot
take all of them: a session outlives its connection, and opening one costs its client a few bytes."""

SESSIONS_OF_ADDRESS_MIN: Final = 32
"""Sessions that an address may have in any case: a tenth of a small server would be too few for a single host."""

HELD_ITEMS_MAX: Final = 65_536
"""Amounts a session may hold, in all its holds together: 20 MiB of the server's memory."""

LOG_LINES_QUEUED_MAX: Final = 1_000
"""Log lines that wait to be written. More are dropped and counted: logging must not stop the server."""

LOG_BYTES_QUEUED_MAX: Final = 1 << 20
"""Characters of these lines; a traceback may have some thousands."""

LOG_LINES_ALIKE_MAX: Final = 10
"""Log lines of the same event in a second. The others are left out, and one line says how many."""

PARKED_BYTES_MAX: Final = 256 << 20
"""The default of the setting: memory for requests that wait, of all clients together."""

PARKED_BYTES_MIN: Final = 1 << 20
"""Less would refuse waits that an ordinary client makes."""

PARKED_BYTES_LIMIT: Final = 1 << 40
"""More does not fit into any memory."""

SHARDS_MAX: Final = 65_536
"""Each shard costs a table, a lock and visits of the sweeper; more shards than this have no use."""

CACHES_MAX: Final = 128
"""Each cache has its own tables, metrics and rows in `info`. A cache is for a kind of counter, not for a customer."""

CACHE_NAME_CHARACTERS_MAX: Final = 64
"""A cache's name is part of URLs and a label of metrics."""

MAX_COUNTERS_LIMIT: Final = 2**40
"""More do not fit into any memory; a larger bound is a mistake."""

UNIX_PATH_BYTES_MAX: Final = 107 if sys.platform == "linux" else 103
"""The size of the path in the kernel's `sockaddr_un`, without its final zero byte."""

assert TURN_ITEMS_MAX <= BATCH_ITEMS_MAX, "only a batch may be more work than one turn allows"
assert INPUT_AHEAD_BYTES_MAX + 256_000 <= INPUT_BYTES_MAX
assert REPLY_BYTES_MAX < OUTPUT_BYTES_MAX, "a single reply must not be enough to pause a peer"
assert SWEEP_BUDGET_MS_MIN < SWEEP_BUDGET_MS_MAX <= SWEEP_PERIOD_MS
assert SWEEP_BUDGET_MS_MIN <= SWEEP_DUTIES_MS <= SWEEP_BUDGET_MS_MAX
assert SWEEP_INTERVAL_MS_MIN <= SWEEP_PERIOD_MS <= SWEEP_INTERVAL_MS_MAX
assert COMPACTION_BYTES_PER_ENTRY_MIN <= COMPACTION_BYTES_PER_ENTRY <= COMPACTION_BYTES_PER_ENTRY_MAX
assert CONNECTIONS_MAX <= CONNECTIONS_LIMIT
assert ACCEPTS_PER_TURN_MAX < LISTEN_BACKLOG
assert LEASE_MS_MIN < LEASE_MS_DEFAULT < LEASE_MS_MAX

_CACHE_NAME = re.compile(r"[A-Za-z0-9][A-Za-z0-9_.-]*", re.ASCII)
_CACHE_NAME_RULE = (
    f"1 to {CACHE_NAME_CHARACTERS_MAX} letters, digits, dots, dashes or underscores, "
    "starting with a letter or a digit"
)


class ConfigError(Exception):
    """The configuration is wrong. One sentence, which names the flag, variable or file that is at fault."""


# ------------------------------------------------------------------------------------------- kinds of values


class _Kind(Protocol):
    """A type of settings: how a value is written as text, and which values are allowed."""

    def expects(self) -> str:
        """Which values are allowed, in words that follow "must be"."""

    def read(self, text: str) -> object:
        """The value that the text of a flag or variable means. Raises ValueError for text of another form."""

    def accept(self, value: object) -> object:
        """The value as it is kept. Raises ValueError for a value of the wrong type or out of range."""


@dataclass(frozen=True)
class _Whole:
    minimum: int
    maximum: int

    def expects(self) -> str:
        return f"a whole number from {self.minimum} to {self.maximum}"

    def read(self, text: str) -> object:
        # int() also accepts blanks, underscores and the digits of other scripts, which here are likely mistakes.
        if not re.fullmatch(r"-?[0-9]{1,30}", text):
            raise ValueError
        return int(text)

    def accept(self, value: object) -> object:
        if type(value) is not int or not self.minimum <= value <= self.maximum:
            raise ValueError
        return value


@dataclass(frozen=True)
class _Number:
    minimum: float
    maximum: float

    def expects(self) -> str:
        return f"a number from {self.minimum:g} to {self.maximum:g}"

    def read(self, text: str) -> object:
        if not re.fullmatch(r"-?[0-9]{1,30}(\.[0-9]{1,30})?", text):
            raise ValueError
        return float(text)

    def accept(self, value: object) -> object:
        if type(value) not in (int, float) or not self.minimum <= cast(float, value) <= self.maximum:
            raise ValueError
        return float(cast(float, value))


@dataclass(frozen=True)
class _NumberOrOff(_Number):
    """A number, or 0, which turns something off."""

    def expects(self) -> str:
        return f"{super().expects()}, or 0 for off"

    def accept(self, value: object) -> object:
        return 0.0 if type(value) in (int, float) and value == 0 else super().accept(value)


@dataclass(frozen=True)
class _Choice:
    words: tuple[str, ...]

    def expects(self) -> str:
        return " or ".join((", ".join(self.words[:-1]), self.words[-1]))

    def read(self, text: str) -> object:
        return text

    def accept(self, value: object) -> object:
        if value not in self.words:
            raise ValueError
        return value


@dataclass(frozen=True)
class _WholeOrNone(_Whole):
    """A whole number, or none. The empty text means none, as TOML has no null."""

    def expects(self) -> str:
        return f"{super().expects()}, or empty"

    def read(self, text: str) -> object:
        return super().read(text) if text else None

    def accept(self, value: object) -> object:
        return None if value is None or value == "" else super().accept(value)


class _WholeOrZero(_Whole):
    """A whole number, or 0 for no bound."""

    def expects(self) -> str:
        return f"{super().expects()}, or 0 for no bound"

    def accept(self, value: object) -> object:
        return None if type(value) is int and value == 0 else super().accept(value)


class _Switch:
    def expects(self) -> str:
        return "true or false"

    def read(self, text: str) -> object:
        return {"true": True, "1": True, "false": False, "0": False}[text.lower()]

    def accept(self, value: object) -> object:
        if type(value) is not bool:
            raise ValueError
        return value


@dataclass(frozen=True)
class _PortOrOff(_Whole):
    """A port, or none: `off`. The empty text means none too."""

    def expects(self) -> str:
        return f"{super().expects()}, or off"

    def read(self, text: str) -> object:
        return None if text in ("off", "") else super().read(text)

    def accept(self, value: object) -> object:
        return None if value in (None, "off", "") else super().accept(value)


@dataclass(frozen=True)
class _Text:
    """A text, or none. The empty text means none, as TOML has no null."""

    what: str  # what the text is, for messages
    bytes_max: int

    def expects(self) -> str:
        return f"{self.what} of at most {self.bytes_max} bytes of UTF-8"

    def read(self, text: str) -> object:
        return text

    def accept(self, value: object) -> object:
        if value is None or value == "":
            return None
        # encode() raises a ValueError for a lone surrogate: a byte of the command line that is not UTF-8.
        if not isinstance(value, str) or "\0" in value or len(value.encode()) > self.bytes_max:
            raise ValueError
        return value


@dataclass(frozen=True)
class _Setting:
    name: str
    """The key in the file, and the field of `ServerConfig`."""
    kind: _Kind
    metavar: str
    help: str

    @property
    def flag(self) -> str:
        return "--" + self.name.replace("_", "-")

    @property
    def variable(self) -> str:
        return "NAUGHT_" + self.name.upper()


_PATH_BYTES_MAX = 4_096 - 1  # Linux's PATH_MAX; macOS allows a quarter of it and reports longer paths itself

_SETTINGS: Final = (
    _Setting(
        "host",
        _Text("an address or a host name", 253),
        "HOST",
        "the address or host name TCP listens on; empty for no TCP; beyond loopback only with --insecure",
    ),
    _Setting("port", _Whole(0, 65_535), "PORT", "the TCP port; 0 picks a free one, see --ports-file"),
    _Setting(
        "http_host",
        _Text("an address or a host name", 253),
        "HOST",
        "the address or host name of the HTTP port; beyond loopback only with --insecure",
    ),
    _Setting(
        "http_port",
        _PortOrOff(0, 65_535),
        "PORT",
        "the HTTP port, for /metrics, health checks and the page; 0 picks a free one, off is none",
    ),
    _Setting(
        "unix_socket",
        _Text("a path", UNIX_PATH_BYTES_MAX),
        "PATH",
        "also listen on a Unix socket at this path",
    ),
    _Setting(
        "ports_file",
        _Text("a path", _PATH_BYTES_MAX),
        "PATH",
        "once ready, write the addresses listened on to this file, as JSON",
    ),
    _Setting("log_level", _Choice(("debug", "info", "warning", "error")), "LEVEL", "the lowest level that is logged"),
    _Setting("log_format", _Choice(("text", "json")), "FORMAT", "the format of log lines"),
    _Setting("insecure", _Switch(), "", "allow listening beyond loopback, where every client has full access"),
    _Setting(
        "connections_max",
        _Whole(1, CONNECTIONS_LIMIT),
        "N",
        f"connections served at once; at most the limit on open files minus {FILES_RESERVED}, and minus "
        f"{HTTP_CONNECTIONS_MAX} with an HTTP port",
    ),
    _Setting(
        "connections_per_address_max",
        _WholeOrNone(1, CONNECTIONS_LIMIT),
        "N",
        "connections served at once from one address; Unix sockets are exempt",
    ),
    _Setting(
        "sessions_per_address_max",
        _WholeOrNone(1, SESSIONS_PER_CONNECTION * CONNECTIONS_LIMIT),
        "N",
        f"sessions opened from one address; empty for 1 in {SESSIONS_OF_ADDRESS} of all, at least "
        f"{SESSIONS_OF_ADDRESS_MIN}; Unix sockets are exempt",
    ),
    _Setting(
        "parked_bytes_max",
        _Whole(PARKED_BYTES_MIN, PARKED_BYTES_LIMIT),
        "BYTES",
        "memory for requests that wait, of all clients together; further ones are answered busy",
    ),
    _Setting(
        "drain_timeout_ms",
        _Whole(0, DRAIN_TIMEOUT_MS_MAX),
        "MS",
        "how long connections may take to finish after a signal to stop",
    ),
    _Setting(
        "sweep_budget_ms",
        _NumberOrOff(SWEEP_BUDGET_MS_MIN, SWEEP_BUDGET_MS_MAX),
        "MS",
        "work the background sweeper may do in each interval; up to a quarter of the time with a backlog."
        " 0 turns it off, and then memory grows without a bound",
    ),
    _Setting(
        "sweep_interval_ms",
        _Whole(SWEEP_INTERVAL_MS_MIN, SWEEP_INTERVAL_MS_MAX),
        "MS",
        "the interval of --sweep-budget-ms",
    ),
    _Setting(
        "compaction_bytes_per_entry",
        _Whole(COMPACTION_BYTES_PER_ENTRY_MIN, COMPACTION_BYTES_PER_ENTRY_MAX),
        "BYTES",
        "a table with more memory than this for each entry is rebuilt",
    ),
    _Setting(
        "gc_threshold",
        _Whole(GC_THRESHOLD_MIN, GC_THRESHOLD_MAX),
        "N",
        "new objects after which Python's garbage collector looks at the youngest",
    ),
    _Setting(
        "tuner",
        _Choice(("off", "dry-run", "on")),
        "MODE",
        "whether the server changes its own settings by its rules; dry-run only says what it would change",
    ),
    _Setting(
        "watch_config",
        _Switch(),
        "",
        "reread the file of --config when it changes, as SIGHUP does",
    ),
)
_SETTING_OF_NAME: Final = {setting.name: setting for setting in _SETTINGS}

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

_CONFIG_FILE: Final = _Setting(
    "config", _Text("a path", _PATH_BYTES_MAX), "FILE", "read settings and caches from this TOML file"
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
        if not _CACHE_NAME.fullmatch(self.name) or len(self.name) > CACHE_NAME_CHARACTERS_MAX:
            raise ValueError(f"the name of a cache must be {_CACHE_NAME_RULE}, not {_shown(self.name)}")
        shards = self.shards
        if type(shards) is not int or not 1 <= shards <= SHARDS_MAX or shards & (shards - 1):
            raise ValueError(f"shards must be a power of two from 1 to {SHARDS_MAX}, not {_shown(shards)}")
        if self.eviction not in ("eager", "lazy"):
            raise ValueError(f"eviction must be eager or lazy, not {_shown(self.eviction)}")
        bound = self.max_counters
        if bound is not None and (type(bound) is not int or not 1 <= bound <= MAX_COUNTERS_LIMIT):
            raise ValueError(
                f"max_counters must be a whole number from 1 to {MAX_COUNTERS_LIMIT}, not {_shown(bound)}"
            )


_POLICY_KEYS: Final = tuple(item.name for item in fields(CachePolicy) if item.name != "name")

LIVE_OF_CACHE: Final = ("eviction", "max_counters")
"""Settings of a cache that change while the server runs. Its shards do not: every counter would have to move."""

_LIVE_KINDS: Final[Mapping[str, _Kind]] = {
    **{name: _SETTING_OF_NAME[name].kind for name in LIVE_SETTINGS},
    "gc_freeze": _Switch(),
    "eviction": _Choice(("eager", "lazy")),
    "max_counters": _WholeOrZero(1, MAX_COUNTERS_LIMIT),
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
        raise raises(f"{source or name} must be {kind.expects()}, not {_shown(value)}") from None


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

    def __post_init__(self) -> None:
        for setting in _SETTINGS:
            value = _accepted(setting, getattr(self, setting.name), setting.name, ValueError)
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

    @property
    def serves_http(self) -> bool:
        """Whether there is an HTTP port."""
        return self.http_host is not None and self.http_port is not None

    @property
    def files_reserved(self) -> int:
        """Descriptors that connections of clients may not use."""
        return FILES_RESERVED + (HTTP_CONNECTIONS_MAX if self.serves_http else 0)

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
        for setting in _SETTINGS
        if setting.name not in LIVE_SETTINGS and getattr(one, setting.name) != getattr(other, setting.name)
    ]
    for name in {**one.caches, **other.caches}:
        before, after = one.caches.get(name), other.caches.get(name)
        if before is None or after is None:
            names.append(f"caches.{name}")
        elif before.shards != after.shards:
            names.append(f"caches.{name}.shards")
    return names


@dataclass(frozen=True)
class Loaded:
    """A configuration, the source of each setting, and what to do with it."""

    config: ServerConfig
    sources: Mapping[str, str]
    """By setting: the flag, variable or file its value came from. Settings at their default are not in it."""
    action: Literal["serve", "check", "print"]
    path: str | None = None
    """The file that was read; None where there was none."""


# ------------------------------------------------------------------------------------------- loading


def load(arguments: Sequence[str], environment: Mapping[str, str]) -> Loaded:
    """The configuration from a command line (without the program's name), an environment and the file they name.

    The file is named by `--config` or `NAUGHT_CONFIG`. Raises `ConfigError`; `--help` and `--version` print and raise
    SystemExit(0).
    """
    given = _parse_flags(arguments)
    from_environment = _settings_of_environment(environment)
    values: dict[str, Any] = {}
    sources: dict[str, str] = {}

    path, path_source = given.get(_CONFIG_FILE.name), _CONFIG_FILE.flag
    if path is None:
        path, path_source = from_environment.pop(_CONFIG_FILE.name, None), _CONFIG_FILE.variable
    if path:
        for name, value in _read_file(path, path_source).items():
            values[name] = value
            sources[name] = path

    for name, text in from_environment.items():
        setting = _SETTING_OF_NAME.get(name)
        if setting is not None:
            values[name] = _read(setting, text, setting.variable)
            sources[name] = setting.variable

    for setting in _SETTINGS:
        flag_value = given.get(setting.name)
        if flag_value is not None:
            values[setting.name] = (
                _read(setting, flag_value, setting.flag) if isinstance(flag_value, str) else flag_value
            )
            sources[setting.name] = setting.flag

    try:
        config = ServerConfig(**values)
    except ValueError as error:
        raise ConfigError(str(error)) from None
    if config.host is None and config.unix_socket is None:
        raise ConfigError(f"nothing to listen on: {sources['host']} turns TCP off, and there is no Unix socket")
    action: Literal["serve", "check", "print"] = "serve"
    if given["print_config"]:
        action = "print"
    elif given["check_config"]:
        action = "check"
    if config.watch_config and not path:
        raise ConfigError(
            f"{sources['watch_config']}: there is no file to watch; name one with {_CONFIG_FILE.flag} "
            f"or {_CONFIG_FILE.variable}"
        )
    return Loaded(config, sources, action, path or None)


class _Parser(argparse.ArgumentParser):
    def error(self, message: str) -> NoReturn:
        """Raise ConfigError. argparse would print the whole usage before the one line that helps."""
        raise ConfigError(message.removeprefix("argument "))


class _PrintCompletion(argparse.Action):
    """Prints the script, as `--version` prints the version."""

    def __call__(
        self, parser: argparse.ArgumentParser, namespace: argparse.Namespace, values: Any, option: str | None = None
    ) -> NoReturn:
        sys.stdout.write(completion.script(values, parser))
        parser.exit()


def _make_parser() -> _Parser:
    parser = _Parser(
        prog="naught-server",
        description="A counter server: a counter that reaches zero is gone.",
        epilog="Each setting is also a NAUGHT_ variable (NAUGHT_DRAIN_TIMEOUT_MS) and a key of the file "
        "(drain_timeout_ms). Flags win over variables, variables over the file. Only the file configures "
        "caches, [caches.NAME] with shards, eviction and max_counters, and the tuner's rules, [rules.NAME]. "
        "Exit status: 0 stopped by a signal, "
        "1 could not start or stopped by a second signal, 2 wrong usage.",
        allow_abbrev=False,
    )
    defaults = {item.name: item.default for item in fields(ServerConfig)}
    parser.add_argument(_CONFIG_FILE.flag, metavar=_CONFIG_FILE.metavar, help=_CONFIG_FILE.help)
    for setting in _SETTINGS:
        default = defaults[setting.name]
        if isinstance(setting.kind, _Switch):
            parser.add_argument(setting.flag, action=argparse.BooleanOptionalAction, default=None, help=setting.help)
        else:
            shown = "none" if default is None else default
            parser.add_argument(setting.flag, metavar=setting.metavar, help=f"{setting.help} ({shown})")
    parser.add_argument("--check-config", action="store_true", help="check the settings and exit")
    parser.add_argument(
        "--print-config", action="store_true", help="print all settings in the form of a file for --config, and exit"
    )
    parser.add_argument(
        "--completion",
        action=_PrintCompletion,
        choices=completion.SHELLS,
        metavar="SHELL",
        default=argparse.SUPPRESS,
        help="print the completion script for bash, zsh or fish, and exit",
    )
    how = _compiled.running("naught_server")
    parser.add_argument("--version", action="version", version=f"naught-server {__version__} ({how})")
    return parser


def _parse_flags(arguments: Sequence[str]) -> dict[str, Any]:
    parser = _make_parser()
    known, unknown = parser.parse_known_args(arguments)
    if unknown:
        first = unknown[0].partition("=")[0]
        if not first.startswith("-"):
            raise ConfigError(f"unexpected argument {_shown(first)}; settings are given by flags, see --help")
        flags = [flag for action in parser._actions for flag in action.option_strings]
        raise ConfigError(f"unknown flag {first}{_nearest(first, flags) or '; see --help'}")
    return vars(known)


# Variables that Kubernetes puts into every container for a service whose name begins with "naught".
_SERVICE_VARIABLE = re.compile(
    r"NAUGHT_(?:[A-Z0-9_]+_)?"
    r"(?:SERVICE_HOST|SERVICE_PORT(?:_[A-Z0-9_]+)?|PORT_[0-9]+_(?:TCP|UDP|SCTP)(?:_(?:PROTO|PORT|ADDR))?)"
)
_SERVICE_PORT = re.compile(r"(?:tcp|udp|sctp)://.*")
_OTHER_VARIABLES: Final = frozenset({"NAUGHT_URL", _compiled.PURE_VARIABLE})


def _settings_of_environment(environment: Mapping[str, str]) -> dict[str, str]:
    """The values of the `NAUGHT_` variables, as text, by the name of their setting."""
    setting_of_variable = {setting.variable: setting for setting in (*_SETTINGS, _CONFIG_FILE)}
    found: dict[str, str] = {}
    for variable, text in environment.items():
        if not variable.startswith("NAUGHT_") or variable in _OTHER_VARIABLES:
            continue
        if _SERVICE_VARIABLE.fullmatch(variable):
            continue
        if variable.endswith("_PORT") and _SERVICE_PORT.fullmatch(text):
            continue
        setting = setting_of_variable.get(variable)
        if setting is None:
            near = _nearest(variable, [*setting_of_variable, *_OTHER_VARIABLES])
            raise ConfigError(f"unknown environment variable {variable}{near}")
        found[setting.name] = text
    return found


def _read_file(path: str, source: str) -> dict[str, Any]:
    """The settings in a file, and under `caches` its policies."""
    try:
        with open(path, "rb") as file:
            table = tomllib.load(file)
    except (OSError, ValueError) as error:  # TOMLDecodeError and UnicodeDecodeError are ValueErrors
        if isinstance(error, OSError):
            raise ConfigError(f"{source}: cannot read {_shown(path)}: {error.strerror}") from None
        raise ConfigError(f"{path}: not TOML: {error}") from None
    values: dict[str, Any] = {}
    for key, value in table.items():
        setting = _SETTING_OF_NAME.get(key)
        if setting is not None:
            values[key] = _accepted(setting, value, f"{path}: {key}", ConfigError)
        elif key == "caches":
            values[key] = _read_caches(path, value)
        elif key == "rules":
            values[key] = _read_rules(path, value)
        else:
            raise ConfigError(f"{path}: unknown key {key!r}{_nearest(key, [*_SETTING_OF_NAME, 'caches', 'rules'])}")
    return values


def _read_caches(path: str, tables: object) -> dict[str, CachePolicy]:
    if not isinstance(tables, dict):
        raise ConfigError(f"{path}: caches must be tables [caches.NAME], not {_shown(tables)}")
    count = len({DEFAULT_CACHE, *tables})
    if count > CACHES_MAX:
        raise ConfigError(f"{path}: there can be at most {CACHES_MAX} caches, not {count}")
    caches: dict[str, CachePolicy] = {}
    for name, table in tables.items():
        if not isinstance(table, dict):
            hint = "; it belongs in a table [caches.NAME]" if name in _POLICY_KEYS else ""
            raise ConfigError(f"{path}: caches.{name} must be a table, not {_shown(table)}{hint}")
        for key in table:
            if key not in _POLICY_KEYS:
                raise ConfigError(
                    f"{path}: unknown key {f'caches.{name}.{key}'!r}"
                    + _nearest(key, _POLICY_KEYS, f"; a cache has {', '.join(_POLICY_KEYS)}")
                )
        try:
            caches[name] = CachePolicy(name, **table)
        except ValueError as error:
            raise ConfigError(f"{path}: caches.{name}: {error}") from None
    return caches


def _read_rules(path: str, tables: object) -> dict[str, Rule]:
    """The tuner's rules in a file. One with the name of a default rule changes only what it says."""
    if not isinstance(tables, dict):
        raise ConfigError(f"{path}: rules must be tables [rules.NAME], not {_shown(tables)}")
    if len({*DEFAULT_RULES, *tables}) > RULES_MAX:
        raise ConfigError(
            f"{path}: there can be at most {RULES_MAX} rules, the {len(DEFAULT_RULES)} default ones included"
        )
    rules: dict[str, Rule] = {}
    for name, table in tables.items():
        if not isinstance(table, dict):
            hint = "; it belongs in a table [rules.NAME]" if name in RULE_KEYS else ""
            raise ConfigError(f"{path}: rules.{name} must be a table, not {_shown(table)}{hint}")
        for key in table:
            if key not in RULE_KEYS:
                raise ConfigError(
                    f"{path}: unknown key {f'rules.{name}.{key}'!r}"
                    + _nearest(key, RULE_KEYS, f"; a rule has {', '.join(RULE_KEYS)}")
                )
        missing = [] if name in DEFAULT_RULES else [key for key in ("metric", "set") if key not in table]
        if missing:
            raise ConfigError(f"{path}: rules.{name}: {' and '.join(missing)} must be given")
        try:
            rules[name] = replace(DEFAULT_RULES[name], **table) if name in DEFAULT_RULES else Rule(name, **table)
        except ValueError as error:
            raise ConfigError(f"{path}: rules.{name}: {error}") from None
    return rules


def _read(setting: _Setting, text: str, source: str) -> object:
    try:
        value = setting.kind.read(text)
    except (ValueError, KeyError):
        raise ConfigError(_must_be(source, setting, text)) from None
    return _accepted(setting, value, source, ConfigError)


def _accepted(setting: _Setting, value: object, source: str, raises: type[Exception]) -> object:
    try:
        return setting.kind.accept(value)
    except ValueError:
        raise raises(_must_be(source, setting, value)) from None


def _must_be(source: str, setting: _Setting, value: object) -> str:
    return f"{source} must be {setting.kind.expects()}, not {_shown(value)}"


def _nearest(word: str, known: Iterable[str], otherwise: str = "") -> str:
    near = difflib.get_close_matches(word, known, n=1)
    return f"; did you mean {near[0]}?" if near else otherwise


def _shown(value: object) -> str:
    """A value as text for a message: in TOML's form for a bool, and cut to 80 characters."""
    if isinstance(value, bool):
        return "true" if value else "false"
    text = repr(value)
    return text if len(text) <= 80 else f"{text[:77]}..."


# ------------------------------------------------------------------------------------------- printing


def to_toml(config: ServerConfig, sources: Mapping[str, str] | None = None) -> str:
    """The configuration as a file for `--config`. With `sources`, each line names the source of its value."""
    lines: list[str] = []
    for setting in _SETTINGS:
        line = f"{setting.name} = {_toml_value(getattr(config, setting.name))}"
        if sources is not None:
            source = sources.get(setting.name)
            line += f"  # {_toml_text(source)[1:-1] if source else 'default'}"
        lines.append(line)
    for name, policy in config.caches.items():
        # Names with dots need quotes.
        lines += ["", f"[caches.{_toml_text(name)}]"]
        for key in _POLICY_KEYS:
            value = getattr(policy, key)
            lines.append(f"# {key}: no bound" if value is None else f"{key} = {_toml_value(value)}")
    for name, rule in config.rules.items():
        lines += ["", f"[rules.{_toml_text(name)}]"]
        values = ((key, getattr(rule, key)) for key in RULE_KEYS)
        lines += [f"{key} = {_toml_value(value)}" for key, value in values if value is not None]
    return "\n".join(lines) + "\n"


def _toml_value(value: str | float | None) -> str:
    if value is None:
        return '""'
    if isinstance(value, bool):
        return "true" if value else "false"
    return _toml_text(value) if isinstance(value, str) else repr(value)


def _toml_text(text: str) -> str:
    """A basic string of TOML, with quotes, backslashes and control characters escaped."""
    escaped = re.sub(
        r'["\\\x00-\x1f\x7f]',
        lambda found: f"\\{found[0]}" if found[0] in '"\\' else f"\\u{ord(found[0]):04x}",
        text,
    )
    return f'"{escaped}"'
