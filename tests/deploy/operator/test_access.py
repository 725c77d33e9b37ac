"""Who the operator logs in as, and what the server's file says of users."""

from __future__ import annotations

import base64
import copy
import tomllib
from typing import Any

import pytest

from naught_operator.access import FOLDER, Login, login_of, to_be_checked
from naught_operator.base import load
from naught_operator.errors import ClusterError
from naught_operator.objects import desired, server_container
from naught_operator.run import check_config
from naught_operator.settings import to_toml
from naught_operator.spec import Access, Resource, read_spec
from naught_server.loading import load as load_config

SECRET = "correct horse"
ACCESS = {
    "secretName": "naught-access",
    "users": {
        "ops": {"role": "admin", "secretKey": "ops"},
        "web.team": {"role": "write", "secretKey": "web", "caches": ["orders"], "prefixes": ["seats:"]},
    },
    "operator": {"user": "ops"},
}


def access(**operator: str) -> Access:
    found = read_spec({"access": {**ACCESS, "operator": {"user": "ops", **operator}}}).access
    assert found is not None
    return found


class OneSecret:
    """An API with one Secret."""

    def __init__(self, data: Any) -> None:
        self.asked: list[tuple[str, str, str]] = []
        self._data = data

    async def get(self, kind: str, namespace: str, name: str) -> dict[str, Any] | None:
        self.asked.append((kind, namespace, name))
        return None if self._data is ... else {"data": self._data}


def encoded(text: str | bytes) -> str:
    return base64.b64encode(text if isinstance(text, bytes) else text.encode()).decode()


@pytest.mark.parametrize("end", ["", "\n", "\r\n"])
async def test_the_operator_logs_in_with_the_key_of_its_user(end: str) -> None:
    cluster = OneSecret({"ops": encoded(SECRET + end), "web": encoded("another")})
    login = await login_of(cluster, "counters", access())
    assert login == Login("ops", SECRET)
    assert cluster.asked == [("Secret", "counters", "naught-access")]
    assert SECRET not in repr(login)


async def test_or_with_another_key() -> None:
    cluster = OneSecret({"ops": encoded("$scrypt$..."), "plain": encoded(SECRET)})
    assert await login_of(cluster, "counters", access(secretKey="plain")) == Login("ops", SECRET)


async def test_at_a_server_without_users_no_secret_is_asked_for() -> None:
    cluster = OneSecret(...)
    assert await login_of(cluster, "counters", None) is None
    assert cluster.asked == []


@pytest.mark.parametrize(
    ("data", "message"),
    [
        (..., "there is no Secret naught-access, which spec.access names"),
        (None, "the Secret naught-access has no key ops, which spec.access.operator names"),
        ({"web": encoded(SECRET)}, "the Secret naught-access has no key ops"),
        ({"ops": ""}, "the key ops of the Secret naught-access is no text"),
        ({"ops": None}, "is no text"),
        ({"ops": SECRET}, "is no text"),
        ({"ops": encoded(b"\xff")}, "is no text"),
        ({"ops": encoded("$scrypt$horse")}, "is a hash; the operator logs in with the secret itself"),
    ],
    ids=["no secret", "no data", "no key", "empty", "null", "not base64", "not text", "hash"],
)
async def test_what_is_wrong_with_the_secret_is_said_without_it(data: Any, message: str) -> None:
    with pytest.raises(ClusterError) as failure:
        await login_of(OneSecret(data), "counters", access())
    assert message in str(failure.value)
    assert "horse" not in str(failure.value)


def test_the_servers_file_and_its_pod_have_the_users() -> None:
    spec = {"access": ACCESS, "caches": {"orders": {"shards": 4}}, "rules": {"r": {"off": True}}}
    resource = Resource("counters", "orders", "uid-1", 1, False, {}, spec, {})
    found = desired(resource, read_spec(spec), load(), "operators")
    file = tomllib.loads(found.one("ConfigMap")["data"]["naught.toml"])
    assert file["users"] == {
        "ops": {"role": "admin", "secret_file": f"{FOLDER}/ops"},
        "web.team": {
            "role": "write",
            "secret_file": f"{FOLDER}/web",
            "caches": ["orders"],
            "prefixes": ["seats:"],
        },
    }
    assert not any(name.startswith("users") for name in found.settings), "they are no settings"
    (volume,) = (each for each in found.template["spec"]["volumes"] if each["name"] == "access")
    assert volume["secret"] == {"secretName": "naught-access", "defaultMode": 0o440}
    (mount,) = (each for each in server_container(found.template)["volumeMounts"] if each["name"] == "access")
    assert mount == {"name": "access", "mountPath": FOLDER, "readOnly": True}


def test_without_users_the_template_is_as_it_was() -> None:
    resource = Resource("counters", "orders", "uid-1", 1, False, {}, {}, {})
    found = desired(resource, read_spec({}), load(), "operators")
    assert "access" not in [each["name"] for each in found.template["spec"]["volumes"]]


@pytest.mark.parametrize(
    ("change", "fault"),
    [
        ({}, None),
        ({"role": "king"}, "users.web.team: role must be read, write or admin"),
        ({"caches": ["elsewhere"]}, "elsewhere"),
        ({"prefixes": [""]}, "users.web.team"),
    ],
    ids=["good", "role", "cache", "prefix"],
)
def test_the_file_is_checked_as_the_server_would_without_its_secrets(change: Any, fault: str | None) -> None:
    whole = copy.deepcopy(ACCESS)
    whole["users"]["web.team"].update(change)  # type: ignore[index]
    spec = {"access": whole, "caches": {"orders": {"shards": 4}}}
    resource = Resource("counters", "orders", "uid-1", 1, False, {}, spec, {})
    config = desired(resource, read_spec(spec), load(), "operators").config
    said = check_config(to_toml(to_be_checked(config)))
    assert (said is None) == (fault is None), said
    assert fault is None or fault in str(said)
    assert config["users"]["ops"]["secret_file"] == f"{FOLDER}/ops", "it is not changed by the check"


def test_a_file_of_tables_is_read_by_the_server(tmp_path: Any) -> None:
    text = to_toml({"users": {"a.b": {"role": "read", "secret_env": "SECRET", "prefixes": ["x", 'y"']}}})
    (tmp_path / "naught.toml").write_text(text)
    loaded = load_config(["--config", str(tmp_path / "naught.toml")], {"SECRET": "long enough"})
    assert loaded.config.users["a.b"].prefixes == ("x", 'y"')
