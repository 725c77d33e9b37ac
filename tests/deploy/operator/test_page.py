"""docs/operator.md says what is there: resources that fit, messages that are sent, flags, rights."""

from __future__ import annotations

import re
from typing import Any

import pytest
import yaml  # type: ignore[import-untyped]

from naught_operator import run
from naught_operator.alerts import DEVIATION_ALERTS
from naught_operator.base import load
from naught_operator.names import KIND
from naught_operator.objects import desired
from naught_operator.request import BODY_BYTES_MAX, HEAD_BYTES_MAX
from naught_operator.rolling import Figures, decide
from naught_operator.settings import to_toml
from naught_operator.spec import RAISE_S, read_resource, read_spec
from naught_operator.webhook import CONNECTIONS_MAX, PATH, REQUEST_S_MAX
from support.kubernetes import MANIFESTS, documents, fitted, resource_schema, rights_of, role
from support.paths import DOCS

PAGE = (DOCS / "operator.md").read_text("utf-8")
BLOCKS = re.findall(r"^```(\w+)\n(.*?)^```$", PAGE, re.MULTILINE | re.DOTALL)
YAML = [yaml.safe_load(text) for language, text in BLOCKS if language == "yaml"]
FLAG = re.compile(r"`(--[a-z-]+)`")


def rows(heading: str) -> list[list[str]]:
    """The rows of the table under a heading."""
    section = PAGE.partition(f"## {heading}\n")[2].partition("\n## ")[0]
    lines = [line for line in section.splitlines() if line.startswith("|")]
    return [[cell.strip() for cell in line.strip("|").split("|")] for line in lines[2:]]


def status_of(name: str) -> dict[str, Any]:
    """The block that shows a part of the status."""
    found: dict[str, Any] = next(each for each in YAML if set(each) == {name})
    return found


def test_the_first_resource_is_one() -> None:
    (body,) = [each for each in YAML if each.get("kind") == KIND]
    stored = fitted(body, resource_schema())
    stored["metadata"]["namespace"] = "counters"
    spec = read_spec(stored["spec"])
    assert run.check_config(to_toml(desired(read_resource(stored), spec, load(), "counters").config)) is None


@pytest.mark.parametrize("name", ["drift", "raised"])
def test_the_parts_of_the_status_fit_the_schema(name: str) -> None:
    shown = status_of(name)
    assert fitted({"metadata": {}, "spec": {}, "status": shown}, resource_schema())["status"] == shown


def test_the_refusal_is_quoted() -> None:
    why = ["image", "connections_max"]
    message = decide(why, Figures(12, 3), runs=True, allowed=False, generation=2).message
    assert f"\n{message}\n" in PAGE
    fault = run.check_config("sweep_budget_ms = 99\n")
    assert f"\n{fault}\n" in PAGE


def test_the_route_for_alertmanager_leads_to_the_operator() -> None:
    (config,) = [each for each in YAML if "receivers" in each]
    (route,) = config["route"]["routes"]
    (receiver,) = config["receivers"]
    assert route["receiver"] == receiver["name"]
    assert route["matchers"] == [f"alertname = {alert}" for alert in DEVIATION_ALERTS]
    assert {"namespace", "pod"} <= set(route["group_by"]), "one message for each resource"
    assert int(route["repeat_interval"].removesuffix("m")) * 60 < RAISE_S, "the raise lasts as long as the alert"
    service = next(each for each in documents(MANIFESTS / "operator.yaml") if each["kind"] == "Service")
    name, port = service["metadata"]["name"], service["spec"]["ports"][0]["port"]
    assert receiver["webhook_configs"][0]["url"] == f"http://{name}.counters.svc:{port}{PATH}"


def test_the_bounds_of_the_webhook() -> None:
    sentence = next(line for line in PAGE.splitlines() if line.startswith("The port takes"))
    assert f"{CONNECTIONS_MAX} connections" in sentence
    assert f"{HEAD_BYTES_MAX >> 10} KiB of headers, {BODY_BYTES_MAX >> 10} KiB of body" in sentence
    assert f"{REQUEST_S_MAX:g} seconds for a request" in sentence


def test_the_flags(capsys: pytest.CaptureFixture[str]) -> None:
    with pytest.raises(SystemExit):
        run.parse(["--help"], {})
    offered = set(re.findall(r"(?<![\w-])--[a-z-]+", capsys.readouterr().out)) - {"--help"}
    listed = [flag for row in rows("Flags") for flag in FLAG.findall(row[0])]
    assert sorted(listed) == sorted(offered)
    defaults = {flag: row[1] for row in rows("Flags") for flag in FLAG.findall(row[0])}
    assert defaults["--interval"] == f"{run.INTERVAL_S:g}"
    assert defaults["--retry"] == f"{run.RETRY_S:g}"
    assert defaults["--lifetime"] == f"{run.LIFETIME_S}"
    assert defaults["--webhook-host"].endswith(str(run.WEBHOOK_PORT))


def test_the_rights() -> None:
    listed = {
        (resource, verb)
        for row in rows("What it may do")
        for resource in re.findall(r"`([a-z/]+)`", row[0])
        for verb in row[1].split(", ")
    }
    assert listed == {(right.resource, right.verb) for right in rights_of(role()["rules"])}
