"""What Alertmanager sends, and what is refused."""

from __future__ import annotations

import json
from typing import Any

import pytest

from naught_operator.alerts import ALERTS_MAX, BadPayload, Target, read_payload
from support.alerts import alert, payload


def test_firing_alerts_name_resources_once_each() -> None:
    found = read_payload(payload("orders", "seats", "orders"))
    assert found.targets == (Target("counters", "orders"), Target("counters", "seats"))
    assert found.ignored == ()


def labelled(**labels: str) -> dict[str, Any]:
    found = alert()
    return {**found, "labels": {**found["labels"], **labels}}


@pytest.mark.parametrize(
    ("found", "why"),
    [
        (alert(status="resolved"), "a resolved alert changes nothing"),
        (labelled(alertname="NaughtDown"), "'NaughtDown' is none of the alerts that sweeping helps against"),
        (labelled(pod="orders"), "neither the label counter_cache nor a label pod that ends in -0"),
        (labelled(namespace="../kube-system"), "labels namespace and pod name no resource"),
        (labelled(pod="a/b-0"), "labels namespace and pod name no resource"),
        (labelled(namespace=""), "labels namespace and pod name no resource"),
    ],
    ids=["resolved", "another alert", "no pod of ours", "no namespace", "no pod", "empty"],
)
def test_an_alert_that_concerns_nobody_is_passed_over(found: dict[str, Any], why: str) -> None:
    reading = read_payload(payload(alerts=[found, alert("seats")]))
    assert reading.targets == (Target("counters", "seats"),)
    assert len(reading.ignored) == 1
    assert why in reading.ignored[0]


def test_a_label_may_name_the_resource() -> None:
    assert read_payload(payload(alerts=[labelled(pod="x", counter_cache="seats")])).targets == (
        Target("counters", "seats"),
    )


@pytest.mark.parametrize(
    ("body", "message"),
    [
        (b"", "the body is not JSON"),
        (b"\xff", "the body is not JSON"),
        (b"[" * 100_000, "the body is not JSON"),
        (b"[]", "the body is not a JSON object"),
        (b"{}", "version must be '4', as Alertmanager sends it, not None"),
        (payload(version="3"), "version must be '4', as Alertmanager sends it, not '3'"),
        (payload(alerts={}), "alerts must be a list, not {}"),
        (payload(alerts=[alert()] * (ALERTS_MAX + 1)), "at most 200 alerts are taken at once, not 201"),
        (payload(alerts=[1]), "alerts[0] must be an object, not 1"),
        (payload(alerts=[{}]), "alerts[0].labels must be an object of texts"),
        (payload(alerts=[alert(labels={"a": 1})]), "alerts[0].labels must be an object of texts"),
        (payload(alerts=[alert(status="maybe")]), "alerts[0].status must be firing or resolved, not 'maybe'"),
    ],
    ids=lambda value: value[:30] if isinstance(value, str) else "",
)
def test_what_is_no_payload_is_refused_as_a_whole(body: bytes, message: str) -> None:
    with pytest.raises(BadPayload) as refusal:
        read_payload(body)
    assert message in str(refusal.value)


def test_a_payload_of_the_largest_size_is_taken() -> None:
    body = json.dumps({"version": "4", "alerts": [alert(f"a{number}") for number in range(ALERTS_MAX)]}).encode()
    assert len(read_payload(body).targets) == ALERTS_MAX
