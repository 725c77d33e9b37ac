"""What Alertmanager sends to a webhook: its payload, version 4, as the alerts that concern counters. Pure.

A payload that is no such payload is refused as a whole; an alert in it that concerns nobody here is passed over, with
a reason, because Alertmanager sends alerts in groups. An alert names a resource by its labels `namespace` and `pod`,
which Prometheus gives to what it scrapes from a pod: the pod of the resource `orders` is `orders-0`. Where the labels
are others, `counter_cache` may name the resource.
"""

from __future__ import annotations

import json
import re
from collections.abc import Iterable, Mapping
from dataclasses import dataclass
from typing import Any, Final

VERSION: Final = "4"
"""The version of the payload."""

ALERTS_MAX: Final = 200
"""Alerts of one payload: one for each cache of many servers. `max_alerts` in Alertmanager bounds what it sends."""

DEVIATION_ALERTS: Final = frozenset({"NaughtDeviationHigh"})
"""The alerts of `deploy/prometheus/naught.rules.yml` that sweeping helps against."""

_NAME = re.compile(r"[a-z0-9]([a-z0-9-]{0,61}[a-z0-9])?", re.ASCII)
"""A label of RFC 1123, as Kubernetes has it for namespaces; the schema holds resources to it too."""


class BadPayload(ValueError):
    """It is no payload of Alertmanager. One sentence."""


@dataclass(frozen=True, order=True)
class Target:
    """The resource that an alert is about."""

    namespace: str
    name: str


@dataclass(frozen=True)
class Reading:
    """What a payload asks for."""

    targets: tuple[Target, ...]
    """The resources with a firing alert, each once."""
    ignored: tuple[str, ...]
    """Why the others are passed over, each reason once."""


def read_payload(body: bytes) -> Reading:
    """The alerts in a payload. Raises BadPayload."""
    try:
        payload = json.loads(body)
    except (ValueError, RecursionError) as error:
        raise BadPayload(f"the body is not JSON: {error}") from None
    if not isinstance(payload, dict):
        raise BadPayload("the body is not a JSON object")
    if payload.get("version") != VERSION:
        raise BadPayload(
            f"version must be {VERSION!r}, as Alertmanager sends it, not {_shown(payload.get('version'))}"
        )
    alerts = payload.get("alerts")
    if not isinstance(alerts, list):
        raise BadPayload(f"alerts must be a list, not {_shown(alerts)}")
    if len(alerts) > ALERTS_MAX:
        raise BadPayload(f"at most {ALERTS_MAX} alerts are taken at once, not {len(alerts)}: set max_alerts")
    return _read_alerts(alerts)


def _read_alerts(alerts: Iterable[Any]) -> Reading:
    targets: dict[Target, None] = {}
    ignored: dict[str, None] = {}
    for number, alert in enumerate(alerts):
        if not isinstance(alert, dict):
            raise BadPayload(f"alerts[{number}] must be an object, not {_shown(alert)}")
        labels, status = alert.get("labels"), alert.get("status")
        if not isinstance(labels, dict) or not all(isinstance(value, str) for value in labels.values()):
            raise BadPayload(f"alerts[{number}].labels must be an object of texts")
        if status not in ("firing", "resolved"):
            raise BadPayload(f"alerts[{number}].status must be firing or resolved, not {_shown(status)}")
        found = _target_of(labels) if status == "firing" else "a resolved alert changes nothing"
        if isinstance(found, Target):
            targets[found] = None
        else:
            ignored[found] = None
    return Reading(tuple(targets), tuple(ignored))


def _target_of(labels: Mapping[str, str]) -> Target | str:
    """The resource that labels name, or why they name none."""
    alert = labels.get("alertname", "")
    if alert not in DEVIATION_ALERTS:
        return f"{_shown(alert)} is none of the alerts that sweeping helps against: {', '.join(DEVIATION_ALERTS)}"
    namespace, pod = labels.get("namespace", ""), labels.get("pod", "")
    name = labels.get("counter_cache") or pod.removesuffix("-0")
    if not labels.get("counter_cache") and not pod.endswith("-0"):
        return "an alert has neither the label counter_cache nor a label pod that ends in -0"
    if not _NAME.fullmatch(namespace) or not _NAME.fullmatch(name):
        return "an alert's labels namespace and pod name no resource"
    return Target(namespace, name)


def _shown(value: object) -> str:
    text = repr(value)
    return text if len(text) <= 80 else f"{text[:77]}..."
