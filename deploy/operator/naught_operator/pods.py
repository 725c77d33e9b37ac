"""What the pod of a server is like: whether it runs, where it answers, and how it differs from the template. Pure."""

from __future__ import annotations

from collections.abc import Iterable, Mapping
from dataclasses import dataclass
from typing import Any

from naught_operator.compare import has
from naught_operator.names import STARTED_WITH, TEMPLATE
from naught_operator.objects import CONTAINER, Desired, server_container
from naught_operator.settings import decode_started_with, restart_differences


@dataclass(frozen=True)
class Pod:
    """A pod of the API, as far as it matters here."""

    name: str
    uid: str
    deleting: bool
    incarnation: str
    """Differs after the pod, or its container, was started again."""
    runs: bool
    """Whether the server's container runs, and so has something to lose."""
    address: str | None
    port: int
    """The port it was made with, which may not be that of the resource any more."""
    grace_s: int
    template: str | None
    """The digest of the template it was made from."""
    started_with: Mapping[str, Any] | None
    """The settings it was started with."""
    spec: Mapping[str, Any]


def read_pod(body: Mapping[str, Any]) -> Pod:
    """The pod that an object of the API is."""
    meta, status = body["metadata"], body.get("status") or {}
    annotations = meta.get("annotations") or {}
    containers = [each for each in status.get("containerStatuses") or [] if each["name"] == CONTAINER]
    return Pod(
        name=meta["name"],
        uid=meta.get("uid", ""),
        deleting="deletionTimestamp" in meta,
        incarnation=f"{meta.get('uid', '')}.{sum(each.get('restartCount', 0) for each in containers)}",
        runs=any("running" in (each.get("state") or {}) for each in containers),
        address=status.get("podIP"),
        port=next(port["containerPort"] for port in server_container(body)["ports"] if port["name"] == "counters"),
        grace_s=body["spec"].get("terminationGracePeriodSeconds", 30),
        template=annotations.get(TEMPLATE),
        started_with=decode_started_with(annotations.get(STARTED_WITH)),
        spec=body["spec"],
    )


def restart_reasons(pod: Pod, wanted: Desired, live: Iterable[str]) -> list[str]:
    """What a restart of this pod would change: fields of the resource, and settings. Empty where none is needed."""
    reasons = [difference.name for difference in restart_differences(wanted.settings, pod.started_with or {}, live)]
    if pod.template == wanted.template["metadata"]["annotations"][TEMPLATE]:
        return reasons
    now, then = server_container(wanted.template), server_container({"spec": pod.spec})
    fields = [name for name in ("image", "resources") if not has(then.get(name, {}), now.get(name, {}))]
    return fields + reasons or ["the pod's template"]


def controller_is_behind(stateful_set: Mapping[str, Any]) -> bool:
    """Whether the controller of StatefulSets has not seen the template as it is now: a pod that is deleted would come
    back from the one before."""
    observed: int = (stateful_set.get("status") or {}).get("observedGeneration", 0)
    generation: int = stateful_set["metadata"].get("generation", 0)
    return observed < generation


def template_is_current(template: Mapping[str, Any], wanted: Desired, live: Iterable[str]) -> bool:
    """Whether the template of a StatefulSet is as it should be, in all that a restart is needed for."""
    annotations = template["metadata"].get("annotations") or {}
    started_with = decode_started_with(annotations.get(STARTED_WITH))
    whole = {**wanted.template, "metadata": {"labels": wanted.template["metadata"]["labels"]}}
    whole["spec"] = {key: value for key, value in whole["spec"].items() if key != "terminationGracePeriodSeconds"}
    return (
        annotations.get(TEMPLATE) == wanted.template["metadata"]["annotations"][TEMPLATE]
        and started_with is not None
        and not restart_differences(wanted.settings, started_with, live)
        and has(template, whole)
    )
