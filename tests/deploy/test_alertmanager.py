"""The example for Alertmanager: it is valid, and every alert of the rules reaches the receiver of its severity."""

from __future__ import annotations

import subprocess
from typing import Any

import pytest

from support.alerting import ALERTMANAGER_FILE, alerts, parsed
from support.programs import need

RECEIVERS = {"critical": "pager", "warning": "tickets", "info": "diary"}
CONFIG: dict[str, Any] = parsed(ALERTMANAGER_FILE)


def amtool(*arguments: str) -> subprocess.CompletedProcess[str]:
    need("amtool")
    return subprocess.run(["amtool", *arguments], capture_output=True, text=True, check=False, timeout=60)


def routed(*labels: str) -> str:
    """The receiver of an alert with these labels."""
    done = amtool("config", "routes", "test", f"--config.file={ALERTMANAGER_FILE}", *labels)
    assert done.returncode == 0, done.stderr
    return done.stdout.strip()


@pytest.mark.peer
def test_it_is_valid() -> None:
    done = amtool("check-config", str(ALERTMANAGER_FILE))
    assert done.returncode == 0, done.stderr
    assert f"{len(RECEIVERS)} receivers" in done.stdout


@pytest.mark.peer
@pytest.mark.parametrize("severity", RECEIVERS)
def test_a_severity_reaches_its_receiver(severity: str) -> None:
    for name in [name for name, alert in alerts().items() if alert["labels"]["severity"] == severity][:2]:
        assert (
            routed(f"alertname={name}", "job=naught", "instance=a:6481", f"severity={severity}")
            == RECEIVERS[severity]
        )


@pytest.mark.peer
def test_what_has_no_severity_is_not_lost() -> None:
    assert routed("alertname=SomethingElse") == "tickets"


@pytest.mark.peer
def test_a_wrong_receiver_is_found() -> None:
    done = amtool(
        "config",
        "routes",
        "test",
        f"--config.file={ALERTMANAGER_FILE}",
        "--verify.receivers=tickets",
        "alertname=NaughtDown",
        "severity=critical",
    )
    assert done.returncode != 0


def test_every_severity_has_alerts_and_a_receiver() -> None:
    assert {alert["labels"]["severity"] for alert in alerts().values()} == set(RECEIVERS)
    assert {each["name"] for each in CONFIG["receivers"]} == set(RECEIVERS.values())


def test_what_silences_another_exists() -> None:
    for rule in CONFIG["inhibit_rules"]:
        (source,) = rule["source_matchers"]
        assert source.removeprefix("alertname = ") in alerts()
        assert rule["equal"] == ["job", "instance"], "only of the same server"
        for target in rule["target_matchers"]:
            name = target.removeprefix("alertname = ")
            assert name in alerts() or name in ('alertname =~ "Naught.*"', "alertname != NaughtDown")
