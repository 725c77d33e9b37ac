"""From a command line, an environment and a file to a `ServerConfig`, and back to a file's text.

Flags win over the environment, the environment over the file, the file over the defaults. Only the file configures
caches, each in a table `[caches.NAME]`, the tuner's rules, `[rules.NAME]`, and users, `[users.NAME]`. An empty text
(`unix_socket = ""`) means none. What each setting is, and which values it may have, is in `config.py`.

A value out of range, an unknown key and an unknown `NAUGHT_` variable are errors that name their source: a misspelt
limit that is silently ignored would be noticed in production only. Two kinds of variables are ignored. Those of
clients, such as `NAUGHT_URL`, and `NAUGHT_PURE` are no settings of the server; nor are `NAUGHT_SECRET_...`, which a
user's `secret_env` may name. And Kubernetes puts variables for a service named `naught` into every
container (`NAUGHT_SERVICE_HOST`, `NAUGHT_PORT=tcp://10.0.0.1:6480`); they are recognized by their form.

Secrets are kept as `secret_hash.py` has them, and no message and no output here contains one.
"""

from __future__ import annotations

import argparse
import difflib
import re
from collections.abc import Callable, Iterable, Mapping, Sequence
from dataclasses import dataclass, fields, replace
from typing import Any, Final, Literal, NoReturn

from naught import _compiled
from naught._version import __version__
from naught.wire.limits import DEFAULT_CACHE
from naught_server import completion
from naught_server.access import User
from naught_server.config import (
    CONFIG_FILE,
    POLICY_KEYS,
    SETTING_OF_NAME,
    SETTINGS,
    CachePolicy,
    ConfigError,
    ServerConfig,
    Setting,
    accepted,
    must_be,
)
from naught_server.kinds import Switch, shown
from naught_server.limits import CACHES_MAX
from naught_server.memory_bounds import memory_lines
from naught_server.output import print_text
from naught_server.regular_file import open_regular
from naught_server.rules import DEFAULT_RULES, RULE_KEYS, RULES_MAX, Rule
from naught_server.secret_hash import PREFIX, HashedSecret, PlainSecret, Secret, read_secret


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

    path, path_source = given.get(CONFIG_FILE.name), CONFIG_FILE.flag
    if path is None:
        path, path_source = from_environment.pop(CONFIG_FILE.name, None), CONFIG_FILE.variable
    if path:
        for name, value in _read_file(path, path_source, environment).items():
            values[name] = value
            sources[name] = path

    for name, text in from_environment.items():
        setting = SETTING_OF_NAME.get(name)
        if setting is not None:
            values[name] = _read(setting, text, setting.variable)
            sources[name] = setting.variable

    for setting in SETTINGS:
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
            f"{sources['watch_config']}: there is no file to watch; name one with {CONFIG_FILE.flag} "
            f"or {CONFIG_FILE.variable}"
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
        print_text(completion.script(values, parser))
        parser.exit()


def _make_parser() -> _Parser:
    parser = _Parser(
        prog="naught-server",
        description="A counter server: a counter that reaches zero is gone.",
        epilog="Each setting is also a NAUGHT_ variable (NAUGHT_DRAIN_TIMEOUT_MS) and a key of the file "
        "(drain_timeout_ms). Flags win over variables, variables over the file. Only the file configures "
        "caches, [caches.NAME] with shards, eviction and max_counters, the tuner's rules, [rules.NAME], and users, "
        "[users.NAME]; `naught-server hash-secret` reads a secret and prints the hash for one. "
        "Exit status: 0 stopped by a signal, "
        "1 could not start or stopped by a second signal, 2 wrong usage.",
        allow_abbrev=False,
    )
    defaults = {item.name: item.default for item in fields(ServerConfig)}
    parser.add_argument(CONFIG_FILE.flag, metavar=CONFIG_FILE.metavar, help=CONFIG_FILE.help)
    for setting in SETTINGS:
        default = defaults[setting.name]
        if isinstance(setting.kind, Switch):
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
            raise ConfigError(f"unexpected argument {shown(first)}; settings are given by flags, see --help")
        flags = [flag for action in parser._actions for flag in action.option_strings]
        raise ConfigError(f"unknown flag {first}{_nearest(first, flags) or '; see --help'}")
    return vars(known)


# Variables that Kubernetes puts into every container for a service whose name begins with "naught".
_SERVICE_VARIABLE = re.compile(
    r"NAUGHT_(?:[A-Z0-9_]+_)?"
    r"(?:SERVICE_HOST|SERVICE_PORT(?:_[A-Z0-9_]+)?|PORT_[0-9]+_(?:TCP|UDP|SCTP)(?:_(?:PROTO|PORT|ADDR))?)"
)
_SERVICE_PORT = re.compile(r"(?:tcp|udp|sctp)://.*")
_OTHER_VARIABLES: Final = frozenset({"NAUGHT_URL", "NAUGHT_USER", "NAUGHT_SECRET", _compiled.PURE_VARIABLE})
_SECRET_VARIABLES: Final = "NAUGHT_SECRET_"


def _settings_of_environment(environment: Mapping[str, str]) -> dict[str, str]:
    """The values of the `NAUGHT_` variables, as text, by the name of their setting."""
    setting_of_variable = {setting.variable: setting for setting in (*SETTINGS, CONFIG_FILE)}
    found: dict[str, str] = {}
    for variable, text in environment.items():
        if not variable.startswith("NAUGHT_") or variable in _OTHER_VARIABLES:
            continue
        if variable.startswith(_SECRET_VARIABLES):
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


def _read_file(path: str, source: str, environment: Mapping[str, str]) -> dict[str, Any]:
    """The settings in a file, and under `caches`, `rules` and `users` their tables."""
    import tomllib  # here, as most servers have no such file: it takes 6 ms of a start

    try:
        with open(path, "rb", opener=open_regular) as file:
            content = file.read(_CONFIG_BYTES_MAX + 1)
        if len(content) > _CONFIG_BYTES_MAX:
            raise ConfigError(f"{source}: {shown(path)} has more than {_CONFIG_BYTES_MAX} bytes")
        table = tomllib.loads(content.decode("utf-8-sig"))
    except OSError as error:
        raise ConfigError(f"{source}: cannot read {shown(path)}: {error.strerror}") from None
    except ValueError as error:  # TOMLDecodeError and UnicodeDecodeError are ValueErrors
        raise ConfigError(f"{path}: not TOML: {error}") from None
    except RecursionError:
        raise ConfigError(f"{path}: not TOML: it is nested too deeply") from None
    values: dict[str, Any] = {}
    for key, value in table.items():
        setting = SETTING_OF_NAME.get(key)
        if setting is not None:
            values[key] = accepted(setting, value, f"{path}: {key}", ConfigError)
        elif key == "caches":
            values[key] = _read_caches(path, value)
        elif key == "rules":
            values[key] = _read_rules(path, value)
        elif key == "users":
            values[key] = _read_users(path, value, environment)
        else:
            tables = ("caches", "rules", "users")
            raise ConfigError(f"{path}: unknown key {key!r}{_nearest(key, [*SETTING_OF_NAME, *tables])}")
    return values


_CONFIG_BYTES_MAX: Final = 4 << 20
"""Read of a configuration: 128 caches and 1 024 users with 64 prefixes each fit many times."""


def _read_caches(path: str, tables: object) -> dict[str, CachePolicy]:
    if not isinstance(tables, dict):
        raise ConfigError(f"{path}: caches must be tables [caches.NAME], not {shown(tables)}")
    count = len({DEFAULT_CACHE, *tables})
    if count > CACHES_MAX:
        raise ConfigError(f"{path}: there can be at most {CACHES_MAX} caches, not {count}")
    caches: dict[str, CachePolicy] = {}
    for name, table in tables.items():
        if not isinstance(table, dict):
            hint = "; it belongs in a table [caches.NAME]" if name in POLICY_KEYS else ""
            raise ConfigError(f"{path}: caches.{name} must be a table, not {shown(table)}{hint}")
        for key in table:
            if key not in POLICY_KEYS:
                raise ConfigError(
                    f"{path}: unknown key {f'caches.{name}.{key}'!r}"
                    + _nearest(key, POLICY_KEYS, f"; a cache has {', '.join(POLICY_KEYS)}")
                )
        try:
            caches[name] = CachePolicy(name, **table)
        except ValueError as error:
            raise ConfigError(f"{path}: caches.{name}: {error}") from None
    return caches


def _read_rules(path: str, tables: object) -> dict[str, Rule]:
    """The tuner's rules in a file. One with the name of a default rule changes only what it says."""
    if not isinstance(tables, dict):
        raise ConfigError(f"{path}: rules must be tables [rules.NAME], not {shown(tables)}")
    if len({*DEFAULT_RULES, *tables}) > RULES_MAX:
        raise ConfigError(
            f"{path}: there can be at most {RULES_MAX} rules, the {len(DEFAULT_RULES)} default ones included"
        )
    rules: dict[str, Rule] = {}
    for name, table in tables.items():
        if not isinstance(table, dict):
            hint = "; it belongs in a table [rules.NAME]" if name in RULE_KEYS else ""
            raise ConfigError(f"{path}: rules.{name} must be a table, not {shown(table)}{hint}")
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


USER_KEYS: Final = ("role", "secret", "secret_file", "secret_env", "caches", "prefixes", "certificates", "uids")


def _read_users(path: str, tables: object, environment: Mapping[str, str]) -> dict[str, User]:
    """The users in a file. No message says what stands there: it may be a secret at the wrong place."""
    if not isinstance(tables, dict):
        raise ConfigError(f"{path}: users must be tables [users.NAME]")
    users: dict[str, User] = {}
    for name, table in tables.items():
        if not isinstance(table, dict):
            hint = "; it belongs in a table [users.NAME]" if name in USER_KEYS else ""
            raise ConfigError(f"{path}: users.{name} must be a table{hint}")
        for key in table:
            if key not in USER_KEYS:
                raise ConfigError(
                    f"{path}: unknown key {f'users.{name}.{key}'!r}"
                    + _nearest(key, USER_KEYS, f"; a user has {', '.join(USER_KEYS)}")
                )
        if "role" not in table:
            raise ConfigError(f"{path}: users.{name}: role must be given: read, write or admin")
        try:
            users[name] = _user(name, table, environment)
        except ValueError as error:
            raise ConfigError(f"{path}: users.{name}: {error}") from None
    return users


def _user(name: str, table: Mapping[str, Any], environment: Mapping[str, str]) -> User:
    """One user. Raises ValueError."""
    secrets: list[Secret] = []
    for each in _texts(table, "secret"):
        if not each.startswith(PREFIX):
            raise ValueError(
                "secret is a hash that `naught-server hash-secret` prints; a secret itself stands in a file "
                "(secret_file) or a variable (secret_env)"
            )
        secrets.append(HashedSecret(each))
    file, variable = (_text(table, key) for key in ("secret_file", "secret_env"))
    if file is not None:
        secrets.append(_labelled("secret_file", read_secret_file, file))
    if variable is not None:
        if variable not in environment:
            raise ValueError(f"secret_env: there is no variable {variable} in the environment")
        if variable.startswith("NAUGHT_") and not variable.startswith(_SECRET_VARIABLES):
            raise ValueError(f"secret_env: a variable that begins with NAUGHT_ begins with {_SECRET_VARIABLES}")
        secrets.append(_labelled("secret_env", environment.__getitem__, variable))
    prefixes = _texts(table, "prefixes")
    if "prefixes" in table and not prefixes:  # it may be meant to allow none
        raise ValueError("prefixes names at least one; left out, the user may name all keys")
    return User(
        name,
        table["role"],
        tuple(secrets),
        tuple(_texts(table, "caches")) if "caches" in table else None,
        tuple(prefixes),
        tuple(_texts(table, "certificates")),
        tuple(_uids(table)),
        file,
        variable,
    )


def _labelled(key: str, read: Callable[[str], str], source: str) -> Secret:
    """A secret that a file or variable says. Raises ValueError, which names the key."""
    try:
        return read_secret(read(source))
    except ValueError as error:
        raise ValueError(f"{key}: {error}") from None


def read_token(config: ServerConfig) -> PlainSecret | None:
    """The secret of HTTP; None where it has none. Raises ConfigError."""
    path = config.http_token_file
    if path is None:
        return None
    try:
        text = read_secret_file(path)
        if text.startswith(PREFIX):  # each request would take the time of a hash
            raise ValueError("it must be the token itself, and not a hash")
        return PlainSecret(text.encode("utf-8", "surrogateescape"))
    except ValueError as error:
        raise ConfigError(f"http_token_file: {error}") from None


def read_secret_file(path: str) -> str:
    """The first line of a file, which is all it has. Raises ValueError."""
    try:
        with open(path, encoding="utf-8", errors="surrogateescape", newline="", opener=open_regular) as file:
            text = file.read(_SECRET_FILE_CHARACTERS_MAX)
    except OSError as error:
        raise ValueError(f"cannot read {shown(path)}: {error.strerror}") from None
    text = text.removeprefix("\ufeff").removesuffix("\n").removesuffix("\r")
    if not text or "\n" in text:
        raise ValueError(f"{shown(path)} must have one line, the secret or its hash")
    return text


_SECRET_FILE_CHARACTERS_MAX: Final = 64 << 10
"""Read of a file with a secret: one that has more is not such a file."""


def _text(table: Mapping[str, Any], key: str) -> str | None:
    value = table.get(key)
    if value is None or value == "":
        return None
    if not isinstance(value, str) or "\0" in value:
        raise ValueError(f"{key} must be a text")
    return value


def _texts(table: Mapping[str, Any], key: str) -> list[str]:
    """One text, or an array of them."""
    value = table.get(key, [])
    values = value if isinstance(value, list) else [value]
    if not all(isinstance(each, str) and each for each in values):
        raise ValueError(f"{key} must be a text or an array of texts, none of them empty")
    return values


def _uids(table: Mapping[str, Any]) -> list[int]:
    value = table.get("uids", [])
    values = value if isinstance(value, list) else [value]
    if not all(type(each) is int and 0 <= each < 2**32 - 1 for each in values):
        raise ValueError("uids must be whole numbers: ids of users of the system")
    return values


def _read(setting: Setting, text: str, source: str) -> object:
    try:
        value = setting.kind.read(text)
    except (ValueError, KeyError):
        raise ConfigError(must_be(source, setting, text)) from None
    return accepted(setting, value, source, ConfigError)


def _nearest(word: str, known: Iterable[str], otherwise: str = "") -> str:
    near = difflib.get_close_matches(word, known, n=1)
    return f"; did you mean {near[0]}?" if near else otherwise


# ------------------------------------------------------------------------------------------- printing


def to_toml(config: ServerConfig, sources: Mapping[str, str] | None = None) -> str:
    """The configuration as a file for `--config`. With `sources`, each line names the source of its value."""
    lines: list[str] = []
    for setting in SETTINGS:
        line = f"{setting.name} = {_toml_value(getattr(config, setting.name))}"
        if sources is not None:
            source = sources.get(setting.name)
            line += f"  # {_toml_text(source)[1:-1] if source else 'default'}"
        lines.append(line)
    for name, policy in config.caches.items():
        # Names with dots need quotes.
        lines += ["", f"[caches.{_toml_text(name)}]"]
        for key in POLICY_KEYS:
            value = getattr(policy, key)
            lines.append(f"# {key}: no bound" if value is None else f"{key} = {_toml_value(value)}")
    for name, rule in config.rules.items():
        lines += ["", f"[rules.{_toml_text(name)}]"]
        values = ((key, getattr(rule, key)) for key in RULE_KEYS)
        lines += [f"{key} = {_toml_value(value)}" for key, value in values if value is not None]
    for user in config.users.values():
        lines += ["", f"[users.{_toml_text(user.name)}]", *_user_lines(user)]
    if sources is not None:
        lines += ["", *memory_lines(config)]
    return "\n".join(lines) + "\n"


def _user_lines(user: User) -> Iterable[str]:
    """A user without its secrets: what it has of them is only said."""
    yield f"role = {_toml_text(user.role)}"
    for key, value in (("secret_file", user.secret_file), ("secret_env", user.secret_env)):
        if value is not None:
            yield f"{key} = {_toml_text(value)}"
    hashes = len(user.secrets) - sum(value is not None for value in (user.secret_file, user.secret_env))
    if hashes:
        yield f"# secret: {hashes} in the file, not shown"
    for key, texts in (
        ("caches", user.caches or ()),
        ("prefixes", user.prefixes),
        ("certificates", user.certificates),
    ):
        if texts:
            yield f"{key} = [{', '.join(map(_toml_text, texts))}]"
    if user.uids:
        yield f"uids = [{', '.join(map(str, user.uids))}]"


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
