"""What a `CounterCache` asks for: the object of the API as one frozen `Resource`, checked.

The schema of the resource (`manifests/crd.yaml`) has refused most of what is wrong before it comes here. What it
cannot express is checked here, and so is everything else that would make the operator fail: a resource may be older
than the schema. `SpecError` names the field and says what is allowed.

Settings, caches and rules have the names of the server's file and go into it as they are, so a setting that a newer
server has needs no newer operator.
"""

from __future__ import annotations

import re
from collections.abc import Mapping
from dataclasses import dataclass
from typing import Any, Final

PORT: Final = 6480
HTTP_PORT: Final = 6481

RAISE_BUDGET_MS: Final = 5.0
"""Half of the sweeper's time: several times the default, and requests keep the other half."""
RAISE_BUDGET_MS_MAX: Final = 10.0
"""As much as the server accepts."""
RAISE_S: Final = 600
"""Two evaluations of the alert, which waits for five minutes."""
RAISE_S_MAX: Final = 3_600
"""More than an hour is no answer to an alert any more: set `sweep_budget_ms`."""

OWN_SETTINGS: Final = {
    "host": "the pod's address is Kubernetes' matter",
    "port": "it is spec.port",
    "http_host": "the pod's address is Kubernetes' matter",
    "http_port": "it is spec.httpPort",
    "unix_socket": "nothing outside the container could use it",
    "ports_file": "the ports are those of the resource",
    "watch_config": "the operator relies on it",
    "caches": "they are spec.caches",
    "rules": "they are spec.rules",
    "users": "they are spec.access.users",
}
"""Settings of the server's file that a resource may not set in `spec.settings`, and why."""

_SETTING = re.compile(r"[a-z][a-z0-9_]{0,63}", re.ASCII)
_CACHE = re.compile(r"[A-Za-z0-9][A-Za-z0-9_.-]{0,63}", re.ASCII)

_SECRET_NAME = re.compile(r"[a-z0-9](?:[a-z0-9.-]{0,251}[a-z0-9])?", re.ASCII)
_SECRET_KEY = re.compile(r"[A-Za-z0-9_.-]{1,253}", re.ASCII)

Scalar = str | int | float | bool


class SpecError(ValueError):
    """The resource asks for what cannot be. One sentence."""


@dataclass(frozen=True)
class Raise:
    """What an alert does."""

    budget_ms: float
    seconds: int


@dataclass(frozen=True)
class Access:
    """Who may do what at the server, and who of them is the operator."""

    secret: str
    """The Secret with the secrets of all users."""
    users: Mapping[str, Mapping[str, Any]]
    """By name: `role` and `secretKey`, and perhaps `caches` and `prefixes`."""
    operator: str
    """The user that the operator logs in as."""
    operator_key: str
    """The key of the Secret that has its secret itself, and not its hash."""


@dataclass(frozen=True)
class Spec:
    """The `spec` of a resource."""

    image: str | None
    """None: that of the manifests this operator came with."""
    port: int
    http_port: int
    settings: Mapping[str, Scalar]
    caches: Mapping[str, Mapping[str, Scalar]]
    rules: Mapping[str, Mapping[str, Any]]
    resources: Mapping[str, Any]
    """Requests and limits of the container; empty: those of the manifests."""
    on_deviation: Raise
    access: Access | None
    """None: the server has no users."""


@dataclass(frozen=True)
class Resource:
    """A `CounterCache` of the API."""

    namespace: str
    name: str
    uid: str
    generation: int
    """Grows with each change of the spec."""
    deleting: bool
    annotations: Mapping[str, str]
    spec: Mapping[str, Any]
    """As it is written; `read_spec` checks it."""
    status: Mapping[str, Any]


def read_resource(body: Mapping[str, Any]) -> Resource:
    """The resource that an object of the API is."""
    meta = body["metadata"]
    return Resource(
        namespace=meta["namespace"],
        name=meta["name"],
        uid=meta.get("uid", ""),
        generation=meta.get("generation", 0),
        deleting="deletionTimestamp" in meta,
        annotations=meta.get("annotations") or {},
        spec=body.get("spec") or {},
        status=body.get("status") or {},
    )


def read_spec(spec: Mapping[str, Any]) -> Spec:
    """The checked spec. Raises SpecError."""
    if spec.get("replicas", 1) != 1:
        raise SpecError(f"spec.replicas must be 1, not {_shown(spec['replicas'])}: counters are in one process")
    port, http_port = (
        _whole(spec.get(name, default), f"spec.{name}", 1, 65_535)
        for name, default in (("port", PORT), ("httpPort", HTTP_PORT))
    )
    if port == http_port:
        raise SpecError(f"spec.port and spec.httpPort must differ, both are {port}")
    image = spec.get("image")
    if image is not None and not (isinstance(image, str) and image):
        raise SpecError(f"spec.image must be the name of an image, not {_shown(image)}")
    return Spec(
        image=image,
        port=port,
        http_port=http_port,
        settings=_settings(_table(spec.get("settings"), "spec.settings")),
        caches=_caches(_table(spec.get("caches"), "spec.caches")),
        rules={
            name: _table(rule, f"spec.rules.{name}") for name, rule in _table(spec.get("rules"), "spec.rules").items()
        },
        resources=_table(spec.get("resources"), "spec.resources"),
        on_deviation=_raise(_table(spec.get("onDeviation"), "spec.onDeviation")),
        access=_access(_table(spec.get("access"), "spec.access")),
    )


def _settings(table: Mapping[str, Any]) -> dict[str, Scalar]:
    for name, value in table.items():
        if name in OWN_SETTINGS:
            raise SpecError(f"spec.settings.{name} cannot be set: {OWN_SETTINGS[name]}")
        if not _SETTING.fullmatch(name):
            raise SpecError(f"spec.settings has the key {_shown(name)}, which is not the name of a setting")
        _scalar(value, f"spec.settings.{name}")
    return dict(table)


def _caches(tables: Mapping[str, Any]) -> dict[str, Mapping[str, Scalar]]:
    caches: dict[str, Mapping[str, Scalar]] = {}
    for name, value in tables.items():
        if not _CACHE.fullmatch(name):
            raise SpecError(f"spec.caches has the key {_shown(name)}, which is not the name of a cache")
        caches[name] = table = _table(value, f"spec.caches.{name}")
        for key, policy in table.items():
            _scalar(policy, f"spec.caches.{name}.{key}")
    return caches


def _raise(table: Mapping[str, Any]) -> Raise:
    budget_ms = table.get("sweepBudgetMs", RAISE_BUDGET_MS)
    if type(budget_ms) not in (int, float) or not 0.1 <= budget_ms <= RAISE_BUDGET_MS_MAX:
        raise SpecError(
            f"spec.onDeviation.sweepBudgetMs must be a number from 0.1 to {RAISE_BUDGET_MS_MAX:g}, "
            f"not {_shown(budget_ms)}"
        )
    return Raise(float(budget_ms), _whole(table.get("seconds", RAISE_S), "spec.onDeviation.seconds", 1, RAISE_S_MAX))


def _access(table: Mapping[str, Any]) -> Access | None:
    if not table:
        return None
    secret = _text(table.get("secretName"), "spec.access.secretName", _SECRET_NAME)
    users = {name: _user(name, user) for name, user in _table(table.get("users"), "spec.access.users").items()}
    operator = _table(table.get("operator"), "spec.access.operator")
    name = operator.get("user")
    if name not in users:
        raise SpecError(
            f"spec.access.operator.user must be one of spec.access.users, not {_shown(name)}: without it the "
            "operator cannot log in"
        )
    user = users[name]
    if user["role"] != "admin" or user.get("caches") or user.get("prefixes"):
        raise SpecError(
            f"spec.access.users.{name} is the operator: it must have the role admin, and no caches and no prefixes"
        )
    key = operator.get("secretKey", user["secretKey"])
    return Access(secret, users, name, _text(key, "spec.access.operator.secretKey", _SECRET_KEY))


def _user(name: str, value: Any) -> Mapping[str, Any]:
    """What the server cannot say better when its file is checked."""
    place = f"spec.access.users.{name}"
    table = _table(value, place)
    if "role" not in table:
        raise SpecError(f"{place}.role must be read, write or admin")
    _scalar(table["role"], f"{place}.role")
    _text(table.get("secretKey"), f"{place}.secretKey", _SECRET_KEY)
    for key in ("caches", "prefixes"):
        each = table.get(key, [])
        if not (isinstance(each, list) and all(isinstance(text, str) for text in each)):
            raise SpecError(f"{place}.{key} must be a list of texts, not {_shown(each)}")
    return table


def _text(value: Any, name: str, pattern: re.Pattern[str]) -> str:
    if not (isinstance(value, str) and pattern.fullmatch(value)):
        raise SpecError(f"{name} must be a name in Kubernetes, not {_shown(value)}")
    return value


def _table(value: Any, name: str) -> Mapping[str, Any]:
    if value is None:
        return {}
    if not isinstance(value, Mapping):
        raise SpecError(f"{name} must be an object, not {_shown(value)}")
    return value


def _whole(value: Any, name: str, low: int, high: int) -> int:
    if type(value) is not int or not low <= value <= high:
        raise SpecError(f"{name} must be a whole number from {low} to {high}, not {_shown(value)}")
    return value


def _scalar(value: Any, name: str) -> None:
    if type(value) not in (str, int, float, bool):
        raise SpecError(f"{name} must be a text, a number, true or false, not {_shown(value)}")


def _shown(value: object) -> str:
    text = repr(value)
    return text if len(text) <= 80 else f"{text[:77]}..."
