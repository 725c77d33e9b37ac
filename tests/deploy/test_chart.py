"""The Helm chart: what it renders is valid, keeps counters alive, and is refused where a value would not."""

from __future__ import annotations

import json
import re
import subprocess
import urllib.request
from dataclasses import fields
from pathlib import Path
from typing import Any

import pytest
import yaml  # type: ignore[import-untyped]

from naught._version import __version__
from naught_server import config, limits
from naught_server.listeners import resolve, resolve_http
from naught_server.loading import load
from support.alerting import RULES_FILE, parsed
from support.manifests import CHART, faults, one, printed_by, refused, run, server_config, templated
from support.metrics_page import http_port
from support.programs import need
from support.server_process import server_process, wait_until

SCHEMA = json.loads((CHART / "values.schema.json").read_text("utf-8"))
VALUES = parsed(CHART / "values.yaml")
SET_BY_CHART = {
    "host",
    "port",
    "http_host",
    "http_port",
    "insecure",
    "watch_config",
    "tuner",
    "http_token_file",
    "tls_certificate",
    "tls_key",
}
"""Settings that the chart writes itself."""
OF_ONE_MACHINE = {
    "unix_socket",
    "unix_socket_mode",
    "unix_socket_owner",
    "ports_file",
    "tls_client_ca",
    "tls_client_required",
    "http_tls",
}
"""Settings that have no use in a pod, or that the chart does not offer: files that others would read or write."""

CASES = {
    "as it is": (),
    "everything": (
        "monitoring.serviceMonitor.enabled=true",
        "monitoring.prometheusRule.enabled=true",
        "monitoring.serviceMonitor.labels.release=prometheus",
        "monitoring.runbookUrl=https://docs.example.com/runbook.html",
        "persistence.enabled=true",
        "persistence.storageClassName=fast",
        "image.digest=sha256:" + "a" * 64,
        "imagePullSecrets[0].name=registry",
        "settings.parked_bytes_max=1099511627776",
        "settings.connections_per_address_max=50",
        "settings.sweep_budget_ms=0.25",
        "caches.orders.max_counters=1099511627776",
        "caches.a\\.b.eviction=lazy",
        "networkPolicy.clients[0].namespaceSelector.matchLabels.team=orders",
        "podLabels.team=orders",
        "podAnnotations.contact=orders",
        "priorityClassName=high",
        "nodeSelector.disk=fast",
        "tolerations[0].operator=Exists",
        "service.annotations.a=b",
        "serviceAccount.annotations.a=b",
    ),
    "users and TLS": (
        "monitoring.serviceMonitor.enabled=true",
        "access.secretName=naught-users",
        "access.httpTokenKey=http",
        "access.users.orders.role=write",
        "access.users.orders.secretKey=orders",
        "tls.secretName=naught-tls",
    ),
    "IPv6": ("listenAddress=::",),
    "a long drain": ("settings.drain_timeout_ms=90500",),
    "a grace period of its own": ("terminationGracePeriodSeconds=300",),
    "a drain that ends at once": ("settings.drain_timeout_ms=0", "terminationGracePeriodSeconds=5"),
    "no tuner": ("tuner.mode=off",),
}

# What is set, and what the error says.
REFUSED = {
    "replicas=3": "at '/replicas': value must be 1",
    "replicaCount=3": "additional properties 'replicaCount' not allowed",
    "imgae.tag=1": "additional properties 'imgae' not allowed",
    "image.tga=1": "at '/image': additional properties 'tga' not allowed",
    "image.tag=latest": "image.tag is latest",
    "access.httpTokenKey=http": "access.secretName must name the Secret",
    "access.users.orders.role=write": "missing property 'secretKey'",
    "access.users.orders.role=root": "value must be one of 'read', 'write', 'admin'",
    "image.repository=naught:latest": "at '/image/repository'",
    "image.digest=sha256:12": "at '/image/digest'",
    "settings.drain_timout_ms=5": "at '/settings': additional properties 'drain_timout_ms' not allowed",
    "settings.drain_timeout_ms=soon": "at '/settings/drain_timeout_ms': got string, want integer",
    "settings.drain_timeout_ms=-1": "at '/settings/drain_timeout_ms': minimum: got -1, want 0",
    "settings.drain_timeout_ms=null": "at '/settings': missing property 'drain_timeout_ms'",
    "settings.port=1": "at '/settings': additional properties 'port' not allowed",
    "settings.log_level=loud": "at '/settings/log_level': value must be one of 'debug', 'info', 'warning', 'error'",
    "settings.sweep_budget_ms=11": "at '/settings/sweep_budget_ms': maximum: got 11, want 10",
    "caches.orders.shards=3": "at '/caches/orders/shards': value must be one of 1, 2, 4",
    "caches.orders.evicton=lazy": "at '/caches/orders': additional properties 'evicton' not allowed",
    "caches.-a.shards=4": "invalid propertyName '-a'",
    "terminationGracePeriodSeconds=14": "is 14, and settings.drain_timeout_ms needs at least 15",
    "tuner.mode=true": "at '/tuner/mode': value must be one of 'off', 'dry-run', 'on'",
    "tuner.mode=of": "at '/tuner/mode': value must be one of 'off', 'dry-run', 'on'",
    "tuner.rules=[caches.a]": 'tuner.rules has only tables [rules.NAME], and no "[caches.a]"',
    "tuner.rules=port = 1": 'tuner.rules must begin with a table [rules.NAME], and not with "port = 1"',
    "monitoring.serviceMonitor.interval=soon": "at '/monitoring/serviceMonitor/interval'",
    "probes.liveness.failureTreshold=1": "additional properties 'failureTreshold' not allowed",
    "persistence.accessModes[0]=ReadWriteMany": "at '/persistence/accessModes/0'",
    "resources.limits.memory=much": "at '/resources/limits/memory'",
}


def test_it_passes_helms_own_lint() -> None:
    assert "0 chart(s) failed" in printed_by("helm", "lint", "--strict", CHART)


@pytest.mark.parametrize(
    "case", [case if not CASES[case] else pytest.param(case, marks=pytest.mark.slow) for case in CASES]
)
def test_what_it_renders_is_valid_and_keeps_the_counters(case: str) -> None:
    manifests = templated(*CASES[case])
    assert refused(manifests) == []
    assert faults(manifests) == []
    claims = one(manifests, "StatefulSet")["spec"].get("volumeClaimTemplates", [])
    assert len(claims) == (case == "everything"), "a volume is asked for"


@pytest.mark.slow
@pytest.mark.parametrize("value", REFUSED)
def test_a_wrong_value_is_refused_and_named(value: str) -> None:
    done = run("helm", "template", "naught", CHART, "--set", value)
    assert done.returncode != 0
    assert REFUSED[value] in done.stderr


def test_the_values_arrive_in_the_file_as_they_are() -> None:
    given = server_config(templated(*CASES["everything"]))
    assert given.parked_bytes_max == 1 << 40
    assert given.sweep_budget_ms == 0.25
    assert given.caches["orders"].max_counters == 1 << 40
    assert given.caches["a.b"].eviction == "lazy"
    assert (given.host, given.http_host, given.insecure) == ("0.0.0.0", "0.0.0.0", True)
    assert server_config(templated("listenAddress=::")).host == "::"


@pytest.mark.slow
def test_a_server_with_the_rendered_file_answers_the_probes(tmp_path: Path) -> None:
    manifests = templated()
    (container,) = one(manifests, "StatefulSet")["spec"]["template"]["spec"]["containers"]
    file = tmp_path / "naught.toml"
    file.write_text(one(manifests, "ConfigMap")["data"]["naught.toml"])
    local = ("--host", "127.0.0.1", "--http-host", "127.0.0.1", "--http-port", "0")
    with server_process(tmp_path, "--config", str(file), *local):
        for probe in ("startupProbe", "livenessProbe", "readinessProbe"):
            url = f"http://127.0.0.1:{http_port(tmp_path)}{container[probe]['httpGet']['path']}"
            with urllib.request.urlopen(url, timeout=20) as answer:
                assert answer.status == 200


@pytest.mark.slow
def test_an_upgrade_reaches_the_running_server_and_its_counters_stay(tmp_path: Path) -> None:
    """The ConfigMap before and after, in a folder as the kubelet writes it: each file is a link through `..data`,
    which is replaced."""

    def mount(number: int, *values: str) -> None:
        version = tmp_path / f"..{number}"
        version.mkdir()
        (version / "naught.toml").write_text(one(templated(*values), "ConfigMap")["data"]["naught.toml"])
        (tmp_path / "..new").symlink_to(version.name)
        (tmp_path / "..new").replace(tmp_path / "..data")

    mount(1)
    (tmp_path / "naught.toml").symlink_to("..data/naught.toml")
    local = ("--host", "127.0.0.1", "--http-host", "127.0.0.1")
    with server_process(tmp_path, "--config", str(tmp_path / "naught.toml"), *local) as server:
        assert server.call("incr", "a") == 1
        mount(2, "settings.sweep_budget_ms=2", "tuner.mode=dry-run", "settings.connections_max=50")
        wait_until(lambda: "configuration reread" in server.log(), "it has read the new file")
        assert server.call("config_get", "sweep_budget_ms") == 2
        assert server.call("config_get", "tuner") in (b"dry-run", "dry-run")
        assert server.call("get", "a") == 1
        assert '"needs_restart":["connections_max"]' in server.log().replace(" ", "")


def test_rules_of_the_tuner_stand_at_the_end_as_they_are(tmp_path: Path) -> None:
    rules = """# Mine.
[rules.burst-of-zeros]
above = 0.5

[rules.idle]
metric = "requests"
rate_ms = 1_000
below = 10
set = "sweep_interval_ms"
to = 100
"""
    values = tmp_path / "values.yaml"
    values.write_text(yaml.safe_dump({"tuner": {"mode": "dry-run", "rules": rules}, "caches": {"a": {"shards": 4}}}))
    manifests = templated(file=values)
    given = server_config(manifests)
    assert (given.tuner, given.watch_config) == ("dry-run", True)
    assert given.rules["burst-of-zeros"].above == 0.5
    assert given.rules["idle"].to == 100
    text = one(manifests, "ConfigMap")["data"]["naught.toml"]
    assert text.endswith(f'[caches."a"]\nshards = 4\n\n{rules.strip()}\n')
    assert 'tuner = "dry-run"' in text


@pytest.mark.slow
@pytest.mark.parametrize(
    ("release", "override", "name"),
    [
        ("naught", "", "naught"),
        ("orders", "", "orders-naught"),
        ("my-naught", "", "my-naught"),
        ("x" * 53, "", "x" * 50),
        ("a", "counters", "counters"),
    ],
    ids=["the same", "another", "ends alike", "long", "given"],
)
def test_names_fit(release: str, override: str, name: str) -> None:
    printed = printed_by("helm", "template", release, CHART, "--set", f"fullnameOverride={override}")
    manifests = [each for each in yaml.safe_load_all(printed) if each]
    assert one(manifests, "StatefulSet")["metadata"]["name"] == name
    assert {each["metadata"]["name"] for each in manifests} == {name, f"{name}-headless"}
    assert all(len(each["metadata"]["name"]) <= 63 for each in manifests)
    assert faults(manifests) == []


def test_its_settings_are_those_of_the_server_with_their_ranges() -> None:
    known = {setting.name: setting.kind for setting in config.SETTINGS}
    schema = SCHEMA["properties"]["settings"]["properties"]
    assert set(schema) == set(known) - SET_BY_CHART - OF_ONE_MACHINE
    for name, allowed in schema.items():
        assert _range_of(known[name]) == _range_of_schema(allowed), name
    assert set(VALUES["settings"]) <= set(schema)
    defaults = {item.name: item.default for item in fields(config.ServerConfig)}
    assert VALUES["settings"]["drain_timeout_ms"] == defaults["drain_timeout_ms"]
    assert VALUES["settings"]["sweep_budget_ms"] == defaults["sweep_budget_ms"]


def _range_of(kind: Any) -> Any:
    return list(kind.words) if hasattr(kind, "words") else (kind.minimum, kind.maximum)


def _range_of_schema(allowed: dict[str, Any]) -> Any:
    if "anyOf" in allowed:
        off, allowed = allowed["anyOf"]
        assert off == {"const": 0}
    return allowed["enum"] if "enum" in allowed else (allowed["minimum"], allowed["maximum"])


def test_its_caches_are_those_of_the_server_with_their_ranges() -> None:
    caches = SCHEMA["properties"]["caches"]
    policy = caches["additionalProperties"]["properties"]
    assert set(policy) == set(config.POLICY_KEYS)
    assert policy["shards"]["enum"] == [1 << bit for bit in range(limits.SHARDS_MAX.bit_length())]
    assert policy["max_counters"]["maximum"] == limits.MAX_COUNTERS_LIMIT
    assert caches["maxProperties"] == limits.CACHES_MAX
    for name, good in {"a" * 64: True, "a.b-c_d": True, "a" * 65: False, "-a": False, "": False}.items():
        assert bool(re.search(caches["propertyNames"]["pattern"], name)) is good


def test_every_value_is_described_by_the_schema_and_the_other_way_round() -> None:
    def compare(schema: dict[str, Any], values: dict[str, Any], path: str) -> None:
        known = set(schema.get("properties", {}))
        assert set(values) <= known, path
        for name, value in values.items():
            inner = schema["properties"][name]
            if "properties" in inner and isinstance(value, dict):
                compare(inner, value, f"{path}{name}.")
        # Settings and caches that are not set have the server's defaults.
        if path != "settings.":
            assert known - set(values) <= {"global"}, path

    compare(SCHEMA, VALUES, "")


def test_it_is_of_this_version() -> None:
    chart = parsed(CHART / "Chart.yaml")
    assert (chart["version"], chart["appVersion"]) == (__version__, __version__)


def test_its_rules_are_those_of_deploy_prometheus() -> None:
    assert (CHART / "files" / RULES_FILE.name).read_bytes() == RULES_FILE.read_bytes()


@pytest.mark.peer
def test_the_rules_of_the_operator_are_the_same_rules(tmp_path: Path) -> None:
    need("promtool")
    manifests = templated("monitoring.prometheusRule.enabled=true")
    spec = one(manifests, "PrometheusRule")["spec"]
    assert spec == parsed(RULES_FILE)
    file = tmp_path / "rules.yml"
    file.write_text(yaml.safe_dump(spec))
    done = subprocess.run(["promtool", "check", "rules", file], capture_output=True, check=False, timeout=60)
    assert done.returncode == 0, done.stdout


def test_the_links_to_the_runbook_can_lead_to_a_site() -> None:
    url = "https://docs.example.com/runbook.html"
    manifests = templated("monitoring.prometheusRule.enabled=true", f"monitoring.runbookUrl={url}")
    text = RULES_FILE.read_text("utf-8").replace("runbook_url: docs/runbook.md#", f"runbook_url: {url}#")
    assert one(manifests, "PrometheusRule")["spec"] == yaml.safe_load(text)


@pytest.mark.peer
def test_prometheus_finds_the_server_under_the_names_that_the_rules_use(tmp_path: Path) -> None:
    """The relabelling of the ServiceMonitor, in the words of Prometheus, is a valid configuration."""
    need("promtool")
    manifests = templated("monitoring.serviceMonitor.enabled=true")
    spec = one(manifests, "ServiceMonitor")["spec"]
    (endpoint,) = spec["endpoints"]
    by_target = {each["targetLabel"]: each for each in endpoint["relabelings"]}
    assert by_target["job"]["replacement"] == "naught", "the job of the rules"
    assert by_target["instance"]["sourceLabels"] == ["__meta_kubernetes_namespace", "__meta_kubernetes_pod_name"]

    services = [each for each in manifests if each["kind"] == "Service"]
    wanted = spec["selector"]["matchLabels"].items()
    (selected,) = [each for each in services if wanted <= each["metadata"]["labels"].items()]
    assert endpoint["port"] in [port["name"] for port in selected["spec"]["ports"]], "one Service, so one target"

    words = {"sourceLabels": "source_labels", "targetLabel": "target_label"}
    relabel = [{words.get(key, key): value for key, value in each.items()} for each in endpoint["relabelings"]]
    scrape = {
        "job_name": "operator",
        "scrape_interval": endpoint["interval"],
        "metrics_path": endpoint["path"],
        "relabel_configs": relabel,
    }
    file = tmp_path / "prometheus.yml"
    file.write_text(yaml.safe_dump({"scrape_configs": [scrape]}))
    done = subprocess.run(["promtool", "check", "config", file], capture_output=True, check=False, timeout=60)
    assert done.returncode == 0, done.stderr


def test_the_notes_say_who_can_connect() -> None:
    def notes(*values: str) -> str:
        given = [argument for value in values for argument in ("--set", value)]
        return printed_by("helm", "install", "naught", CHART, "--dry-run=client", *given).partition("NOTES:")[2]

    assert "naught://naught.default.svc:6480" in notes()
    assert 'naught-client: "true"' in notes()
    assert "WARNING: networkPolicy.enabled is false" in notes("networkPolicy.enabled=false")
    with_users = notes(
        "networkPolicy.enabled=false",
        "access.secretName=s",
        "access.users.orders.role=write",
        "access.users.orders.secretKey=o",
        "tls.secretName=t",
    )
    assert "naughts://naught.default.svc:6480" in with_users
    assert "as one of the users orders" in with_users
    assert "WARNING" not in with_users


def test_users_take_their_secrets_from_the_secret(tmp_path: Path) -> None:
    """The rendered file, with the Secret where the pod has it, is what a server accepts without `insecure`."""
    manifests = templated(
        "access.secretName=naught-users",
        "access.httpTokenKey=http",
        "access.users.orders.role=write",
        "access.users.orders.secretKey=of-orders",
        "access.users.orders.prefixes[0]=seats:",
        "access.users.orders.caches[0]=orders",
        "caches.orders.max_counters=5",
    )
    pod = one(manifests, "StatefulSet")["spec"]["template"]["spec"]
    (volume,) = [each for each in pod["volumes"] if each["name"] == "access"]
    assert volume["secret"] == {"secretName": "naught-users", "defaultMode": 0o440}
    (mount,) = [each for each in pod["containers"][0]["volumeMounts"] if each["name"] == "access"]
    for key, text in {"of-orders": "correct horse", "http": "a token of sixteen"}.items():
        (tmp_path / key).write_text(text)
    text = one(manifests, "ConfigMap")["data"]["naught.toml"]
    assert mount["mountPath"] in text
    file = tmp_path / "naught.toml"
    file.write_text(text.replace(mount["mountPath"], str(tmp_path)))
    given = load(["--config", str(file)], {}).config
    assert not given.insecure
    assert given.users["orders"].rights.prefixes == (b"seats:",)
    assert given.users["orders"].caches == ("orders",)
    assert given.http_token_file == str(tmp_path / "http")
    resolve(given)
    resolve_http(given)
