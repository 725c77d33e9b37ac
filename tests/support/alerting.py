"""The files of deploy/ as tests need them: parsed, shortened, and a Prometheus that runs with them."""

from __future__ import annotations

import contextlib
import copy
import json
import re
import subprocess
import time
import urllib.error
import urllib.parse
import urllib.request
from collections.abc import Callable, Iterator
from functools import cache
from pathlib import Path
from typing import Any, Final

import yaml  # type: ignore[import-untyped]

from naught_loadtest.drivers.servers import reserved_port
from support.paths import ROOT

DEPLOY: Final = ROOT / "deploy"
RULES_FILE: Final = DEPLOY / "prometheus" / "naught.rules.yml"
RULES_TEST_FILE: Final = DEPLOY / "prometheus" / "naught.rules.test.yml"
PROMETHEUS_FILE: Final = DEPLOY / "prometheus" / "prometheus.yml"
ALERTMANAGER_FILE: Final = DEPLOY / "alertmanager" / "alertmanager.yml"
DASHBOARD_FILE: Final = DEPLOY / "grafana" / "naught.json"

Rules = dict[str, Any]

_UNIT_S: Final = {"ms": 0.001, "s": 1.0, "m": 60.0, "h": 3_600.0, "d": 86_400.0, "w": 604_800.0}
_DURATION: Final = re.compile(r"(?:\d+(?:ms|[smhdw]))+")
# Durations in an expression: a range in brackets, and what follows `offset`.
_IN_EXPRESSION: Final = re.compile(r"(?<=\[)[\dsmhdw:]+(?=\])|(?<=offset )[\dsmhdw]+")


LOADER: Final = getattr(yaml, "CSafeLoader", yaml.SafeLoader)
"""The one in C, where there is one, is ten times as fast."""


def parsed(file: Path) -> Any:
    """A YAML file."""
    return yaml.load(file.read_text("utf-8"), LOADER)


@cache
def rules() -> Rules:
    """The rules that are shipped."""
    found: Rules = parsed(RULES_FILE)
    return found


def all_rules() -> list[dict[str, Any]]:
    """Every rule of every group, in their order."""
    return [rule for group in rules()["groups"] for rule in group["rules"]]


def alerts() -> dict[str, dict[str, Any]]:
    """The alerts by name."""
    return {rule["alert"]: rule for rule in all_rules() if "alert" in rule}


def recorded() -> dict[str, str]:
    """The expressions of the recording rules, by the name of what they record."""
    return {rule["record"]: rule["expr"] for rule in all_rules() if "record" in rule}


def panels() -> list[dict[str, Any]]:
    """The panels of the dashboard, those in rows included."""
    dashboard = json.loads(DASHBOARD_FILE.read_text("utf-8"))
    return [inner for panel in dashboard["panels"] for inner in (panel, *panel.get("panels", ()))]


def dashboard_expressions() -> list[str]:
    """The expressions of the dashboard, with values in place of its variables."""
    dashboard = json.loads(DASHBOARD_FILE.read_text("utf-8"))
    found = [target["expr"] for panel in panels() for target in panel.get("targets", ())]
    found += [each["expr"] for each in dashboard["annotations"]["list"] if "expr" in each]
    found += [
        _selector_of(each["query"]["query"]) for each in dashboard["templating"]["list"] if each["type"] == "query"
    ]
    return [with_values(expression) for expression in found]


def _selector_of(query: str) -> str:
    """The selector in the query of a variable: `label_values(selector, label)`."""
    found = re.fullmatch(r"label_values\((.*), \w+\)", query)
    assert found is not None, query
    return found[1]


def with_values(expression: str) -> str:
    """An expression of the dashboard with values for the variables that Grafana replaces."""
    return expression.replace("$__rate_interval", "5m").replace("$instance", ".+").replace("$cache", ".+")


# ------------------------------------------------------------------------------------------- shorter times


def seconds(duration: str) -> float:
    """A duration of Prometheus (`1h30m`) in seconds."""
    assert _DURATION.fullmatch(duration), f"no duration: {duration!r}"
    return sum(int(number) * _UNIT_S[unit] for number, unit in re.findall(r"(\d+)(ms|[smhdw])", duration))


def shortened(original: Rules, divisor: int) -> Rules:
    """A copy of rules in which each duration is divided: `for`, `interval`, ranges and offsets. Thresholds stay.

    So the alerts fire as they do, only sooner. `original` is not changed.
    """
    rules = copy.deepcopy(original)
    for group in rules["groups"]:
        if "interval" in group:
            group["interval"] = _divided(group["interval"], divisor)
        for rule in group["rules"]:
            if "for" in rule:
                rule["for"] = _divided(rule["for"], divisor)
            rule["expr"] = _IN_EXPRESSION.sub(
                lambda found: ":".join(_divided(each, divisor) for each in found[0].split(":")), rule["expr"]
            )
    return rules


def _divided(duration: str, divisor: int) -> str:
    return f"{max(1, round(seconds(duration) * 1_000 / divisor))}ms"


# ------------------------------------------------------------------------------------------- a running Prometheus


class Prometheus:
    """A Prometheus of this machine, asked by its HTTP API."""

    def __init__(self, port: int, process: subprocess.Popen[bytes], log: Path) -> None:
        self._port = port
        self._process = process
        self._log = log

    def ask(self, path: str, **parameters: str) -> Any:
        """The data of an answer. Raises OSError while it does not answer."""
        query = urllib.parse.urlencode(parameters)
        with urllib.request.urlopen(f"http://127.0.0.1:{self._port}/{path}?{query}", timeout=5) as answer:
            return json.load(answer)["data"]

    def values(self, expression: str) -> list[float]:
        """The values of an instant query."""
        return [float(each["value"][1]) for each in self.ask("api/v1/query", query=expression)["result"]]

    def alerts(self, name: str) -> dict[str, dict[str, Any]]:
        """The alerts of a name that are pending or firing now, by their state."""
        return {
            each["state"]: each for each in self.ask("api/v1/alerts")["alerts"] if each["labels"]["alertname"] == name
        }

    def has_been(self, name: str, state: str) -> bool:
        """Whether an alert has been in this state at any evaluation so far."""
        return bool(self.values(f'count_over_time(ALERTS{{alertname="{name}",alertstate="{state}"}}[1h])'))

    def wait_until(self, happened: Callable[[], bool], what: str, deadline_s: float) -> None:
        """Ask until `happened` returns true. Raises AssertionError with `what` after the deadline."""
        end_s = time.monotonic() + deadline_s
        while True:
            assert self._process.poll() is None, f"Prometheus has ended: {self._log.read_text()[-2_000:]}"
            with contextlib.suppress(urllib.error.URLError, ConnectionError, TimeoutError):
                if happened():
                    return
            assert time.monotonic() < end_s, f"in {deadline_s} s it did not happen that {what}"
            time.sleep(0.05)


@contextlib.contextmanager
def prometheus(folder: Path, rules: Rules, target: str, scrape_interval: str) -> Iterator[Prometheus]:
    """A Prometheus that scrapes `target` as the job naught, with these rules, in `folder`."""
    (folder / "naught.rules.yml").write_text(yaml.safe_dump(rules))
    config = parsed(PROMETHEUS_FILE)
    config["global"] = {"scrape_interval": scrape_interval, "evaluation_interval": scrape_interval}
    config["scrape_configs"][0]["scrape_timeout"] = scrape_interval
    config["scrape_configs"][0]["static_configs"][0]["targets"] = [target]
    del config["alerting"]
    file = folder / "prometheus.yml"
    file.write_text(yaml.safe_dump(config))
    log = folder / "prometheus.log"
    with reserved_port() as port, log.open("wb") as output:
        process = subprocess.Popen(
            [
                "prometheus",
                f"--config.file={file}",
                f"--storage.tsdb.path={folder / 'tsdb'}",
                f"--web.listen-address=127.0.0.1:{port}",
            ],
            stdin=subprocess.DEVNULL,
            stdout=output,
            stderr=output,
            cwd=folder,
        )
        try:
            running = Prometheus(port, process, log)
            running.wait_until(lambda: bool(running.ask("api/v1/status/runtimeinfo")), "it answers", 30)
            yield running
        finally:
            process.kill()
            process.wait()
