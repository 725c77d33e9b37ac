"""The server's configuration: its file, its settings by name, which of them differ, and which need a restart.

A setting has the name that the server's command `config_get` gives it: `sweep_budget_ms`, and of a cache
`caches.NAME.eviction`. Which settings are live is not known here. The server says: what `config_get` lists can be
changed by `config_set`, and whatever else is in the file needs a restart. Rules of the tuner and users are in the
file too and are no settings: the server takes them when it reads its file again.
"""

from __future__ import annotations

import json
import re
from collections.abc import Iterable, Iterator, Mapping
from dataclasses import dataclass
from typing import Any, Final

from naught_operator import access
from naught_operator.spec import Scalar, Spec

RULES: Final = "rules"
CACHES: Final = "caches"
USERS: Final = "users"
DEFAULT_CACHE: Final = "default"

_BARE_KEY = re.compile(r"[A-Za-z0-9_-]+", re.ASCII)


@dataclass(frozen=True)
class Difference:
    """A setting that is not as it should be."""

    name: str
    found: Any
    wanted: Any


def configuration(base: Mapping[str, Any], spec: Spec) -> dict[str, Any]:
    """The server's whole file as tables: that of the manifests, and in it what the resource says."""
    caches = {name: dict(table) for name, table in base.get(CACHES, {}).items()}
    for name, table in spec.caches.items():
        caches[name] = {**caches.get(name, {}), **table}
    whole: dict[str, Any] = {
        **base,
        **spec.settings,
        "port": spec.port,
        "http_port": spec.http_port,
        # The file is read again when the ConfigMap changes: that is how rules of the tuner reach the server.
        "watch_config": True,
    }
    for key in (CACHES, USERS, RULES):  # tables come last in TOML
        whole.pop(key, None)
    if caches:
        whole[CACHES] = caches
    if spec.access is not None:
        whole[USERS] = access.users(spec.access)
    elif USERS in base:
        whole[USERS] = base[USERS]
    if rules := {**base.get(RULES, {}), **spec.rules}:
        whole[RULES] = rules
    return whole


def asked_for(spec: Spec) -> dict[str, Any]:
    """The settings that the resource itself names. Only these are kept by `config_set`: what the manifests have is
    the server's to change, by its tuner for one."""
    return by_name({**spec.settings, CACHES: spec.caches})


def by_name(config: Mapping[str, Any]) -> dict[str, Scalar]:
    """The settings of a configuration under the names that the server has for them."""
    return dict(_by_name(config))


def _by_name(config: Mapping[str, Any]) -> Iterator[tuple[str, Scalar]]:
    for key, value in config.items():
        if key == CACHES:
            for cache, table in value.items():
                if cache != DEFAULT_CACHE:  # which there always is
                    yield f"{CACHES}.{cache}", True
                for name, policy in table.items():
                    yield f"{CACHES}.{cache}.{name}", policy
        elif key not in (USERS, RULES):
            yield key, value


def same(one: Any, other: Any) -> bool:
    """Whether two values of a setting mean the same: 2 and 2.0 do, 1 and true do not."""
    return bool(one == other) and isinstance(one, bool) == isinstance(other, bool)


def live_differences(
    wanted: Mapping[str, Any], live: Mapping[str, Any], pinned: Iterable[str] | None = None
) -> list[Difference]:
    """The settings that `config_set` has to set. What nobody asks for stays as it is: it may be the tuner's. With
    `pinned`, the settings that were set by `config_set`, one that has its value and is not pinned has to be set too:
    else the tuner could change it."""
    pins = None if pinned is None else set(pinned)
    return [
        Difference(name, live[name], value)
        for name, value in wanted.items()
        if name in live and not (same(live[name], value) and (pins is None or name in pins))
    ]


def rules_differ(wanted: Mapping[str, Mapping[str, Any]], held: Iterable[str]) -> list[str]:
    """The rules that the server does not hold yet, or still does. It names them and not what they say."""
    names = set(held)
    return [name for name, rule in wanted.items() if (name in names) == bool(rule.get("off"))]


def restart_differences(
    wanted: Mapping[str, Any], started_with: Mapping[str, Any], live: Iterable[str]
) -> list[Difference]:
    """The settings that only a restart can change."""
    live = set(live)
    return [
        Difference(name, started_with.get(name), wanted.get(name))
        for name in sorted({**wanted, **started_with})
        if name not in live and not same(started_with.get(name), wanted.get(name))
    ]


def encode_started_with(wanted: Mapping[str, Any]) -> str:
    """The text of the annotation `STARTED_WITH`."""
    return json.dumps(wanted, sort_keys=True, separators=(",", ":"))


def decode_started_with(text: str | None) -> dict[str, Any] | None:
    """What it says; None where there is none, or none of ours."""
    try:
        found = json.loads(text or "")
    except ValueError:
        return None
    return found if isinstance(found, dict) else None


# ------------------------------------------------------------------------------------------- TOML


def to_toml(config: Mapping[str, Any]) -> str:
    """The file. Keys keep their order, but plain values come before tables, as TOML wants it."""
    return "\n".join(_table_lines((), config)).lstrip("\n") + "\n"


def _table_lines(path: tuple[str, ...], table: Mapping[str, Any]) -> Iterator[str]:
    plain = {key: value for key, value in table.items() if not isinstance(value, Mapping)}
    tables = {key: value for key, value in table.items() if isinstance(value, Mapping)}
    if path and (plain or not tables):
        yield ""
        yield f"[{'.'.join(map(_key, path))}]"
    for key, value in plain.items():
        yield f"{_key(key)} = {_value(value)}"
    for key, value in tables.items():
        yield from _table_lines((*path, key), value)


def _key(key: str) -> str:
    return key if _BARE_KEY.fullmatch(key) else _text(key)


def _value(value: Any) -> str:
    if isinstance(value, bool):
        return "true" if value else "false"
    if isinstance(value, str):
        return _text(value)
    if isinstance(value, int | float):
        return repr(value)
    if isinstance(value, Mapping):
        return f"{{ {', '.join(f'{_key(key)} = {_value(each)}' for key, each in value.items())} }}"
    if isinstance(value, list):
        return f"[{', '.join(map(_value, value))}]"
    raise TypeError(f"TOML has no {type(value).__name__}")


def _text(text: str) -> str:
    escaped = re.sub(
        r'["\\\x00-\x1f\x7f]',
        lambda found: f"\\{found[0]}" if found[0] in '"\\' else f"\\u{ord(found[0]):04x}",
        text,
    )
    return f'"{escaped}"'
