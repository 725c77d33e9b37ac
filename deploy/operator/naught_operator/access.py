"""Who the operator logs in as at a server with users. Pure but for one call of the API.

The users of a server are in its resource, and their secrets in one Secret of its namespace. The server's pod has it
as a volume. The operator reads the key of its own user at each look, so a secret that was changed needs no restart of
either.
"""

from __future__ import annotations

import base64
import binascii
from collections.abc import Mapping
from typing import Any, Final, NamedTuple, Protocol

from naught_operator.errors import ClusterError
from naught_operator.spec import Access

FOLDER: Final = "/etc/naught-access"
"""Where the pod has the Secret, as with the chart."""

HASH_PREFIX: Final = "$scrypt$"
"""What a hash begins with. The server can compare with one, and nobody can log in with it."""


CHECKED_SECRET: Final = "NAUGHT_SECRET_CHECKED"
"""The variable that stands for all secrets while a server's file is checked."""


class Login(NamedTuple):
    """A user and its secret."""

    user: str
    secret: str

    def __repr__(self) -> str:
        return f"<login of {self.user}>"


class Secrets(Protocol):
    """What is needed of the API; see `cluster.Cluster`."""

    async def get(self, kind: str, namespace: str, name: str) -> dict[str, Any] | None: ...


async def login_of(cluster: Secrets, namespace: str, access: Access | None) -> Login | None:
    """What to log in with at a server with this access; None for one without users. Raises ClusterError, which does
    not say what is in the Secret."""
    if access is None:
        return None
    name, key = access.secret, access.operator_key
    found = await cluster.get("Secret", namespace, name)
    if found is None:
        raise ClusterError(f"there is no Secret {name}, which spec.access names")
    data = found.get("data") or {}
    if key not in data:
        raise ClusterError(f"the Secret {name} has no key {key}, which spec.access.operator names")
    try:
        secret = base64.b64decode(data[key], validate=True).decode("utf-8").removesuffix("\n").removesuffix("\r")
    except (binascii.Error, TypeError, ValueError):
        secret = ""
    if not secret:
        raise ClusterError(f"the key {key} of the Secret {name} is no text")
    if secret.startswith(HASH_PREFIX):
        raise ClusterError(
            f"the key {key} of the Secret {name} is a hash; the operator logs in with the secret itself"
        )
    return Login(access.operator, secret)


def users(access: Access) -> dict[str, dict[str, Any]]:
    """The tables [users.NAME] of the server's file."""
    return {name: _table(user) for name, user in access.users.items()}


def _table(user: Mapping[str, Any]) -> dict[str, Any]:
    table: dict[str, Any] = {"role": user["role"], "secret_file": f"{FOLDER}/{user['secretKey']}"}
    return table | {name: list(user[name]) for name in ("caches", "prefixes") if user.get(name)}


def to_be_checked(config: Mapping[str, Any]) -> dict[str, Any]:
    """A server's file as it can be checked here, where there is no file with a secret: each user has that of
    `CHECKED_SECRET`."""
    checked = dict(config)
    if tables := config.get("users"):
        checked["users"] = {
            name: {
                **{key: value for key, value in table.items() if key != "secret_file"},
                "secret_env": CHECKED_SECRET,
            }
            for name, table in tables.items()
        }
    return checked
