"""One resource, looked at once: what is there is read, compared with what is asked for, and mended.

    the resource -> its objects -> the pod -> the server: live settings -> a restart, if one is needed -> the status

`Reconciler.run` is called after each change of a resource and every few seconds, and does the same each time, so it
does not matter which change was seen and which was missed, or which operator has done the half of it. What it decides
is in the pure modules; here is the order, and why it is this one:

- The ConfigMap is written before the template of the pod: a pod that starts between the two is then restarted once
  more than needed, and not once less.
- A raised budget is in the status before the server is told: an operator that ends in between leaves a value to put
  back.
- A pod is deleted only after the controller of StatefulSets has seen the template: before, it could come back from
  the old one.
- The server is asked what a restart would lose directly before its pod is deleted.
- Services keep their ports while a restart is pending: the server still listens as it did.
"""

from __future__ import annotations

from collections.abc import Callable, Mapping, Sequence
from contextlib import AbstractAsyncContextManager
from dataclasses import dataclass, field
from datetime import datetime
from typing import Any, Final, Literal, Protocol

from naught_operator.access import Login, login_of, to_be_checked
from naught_operator.base import Base
from naught_operator.compare import has, merge_patch
from naught_operator.errors import ClusterError, NotOurs, Refused, Unreachable
from naught_operator.live import Plan, drifts, pins_of, plan
from naught_operator.names import KIND, LIVE, OBJECT, RAISED_UNTIL, READY, ROLLED
from naught_operator.objects import DRAIN, Desired, desired
from naught_operator.pods import Pod, controller_is_behind, read_pod, restart_reasons, template_is_current
from naught_operator.raising import SETTING, as_status, written
from naught_operator.rolling import Decision, allows_loss, decide, figures_of
from naught_operator.settings import Difference, live_differences, rules_differ, to_toml
from naught_operator.spec import Resource, Spec, SpecError, read_resource, read_spec
from naught_operator.status import Condition, merged, ready

TOLD: Final = frozenset(
    {"NotReadBack", "ObjectsFailed", "RestartWouldLose", "ServerUnreachable", "SettingRefused", "SpecInvalid"}
)
"""The reasons that become an event when they become the case. The others pass by themselves."""


class Objects(Protocol):
    """What is needed of the API; see `cluster.Cluster`."""

    async def get(self, kind: str, namespace: str, name: str) -> dict[str, Any] | None: ...
    async def create(self, obj: Mapping[str, Any]) -> dict[str, Any]: ...
    async def patch(self, kind: str, namespace: str, name: str, patch: Mapping[str, Any]) -> dict[str, Any]: ...
    async def patch_status(self, namespace: str, name: str, patch: Mapping[str, Any]) -> dict[str, Any]: ...
    async def delete_pod(self, namespace: str, name: str, uid: str, grace_s: int) -> bool: ...


class ServerCalls(Protocol):
    """What is needed of a server; see `server.Server`."""

    async def config(self) -> Mapping[str, Any]: ...
    async def set(self, name: str, value: Any) -> None: ...
    async def info(self) -> Mapping[str, Any]: ...


Connect = Callable[[str, int, Login | None], AbstractAsyncContextManager[ServerCalls]]


@dataclass(frozen=True)
class Event:
    """Something that has happened, for people."""

    type: Literal["Normal", "Warning"]
    reason: str
    message: str


@dataclass
class Outcome:
    """What one look came to."""

    events: list[Event] = field(default_factory=list)
    retry_s: float | None = None
    """When to look again, where that is sooner than usual."""
    message: str = ""


class Reconciler:
    """Looks at resources, one at a time each. Keeps nothing between two looks."""

    def __init__(
        self,
        cluster: Objects,
        connect: Connect,
        *,
        base: Base,
        operator_namespace: str,
        check_config: Callable[[str], str | None],
        now: Callable[[], datetime],
        retry_s: float,
    ) -> None:
        """`check_config` says what is wrong with a server's file. `now` is the time in UTC. After `retry_s`, a server
        or an API that did not answer is asked again."""
        self._cluster: Final = cluster
        self._connect: Final = connect
        self._base: Final = base
        self._operator_namespace: Final = operator_namespace
        self._check_config: Final = check_config
        self._now: Final = now
        self._retry_s: Final = retry_s

    async def run(self, namespace: str, name: str) -> Outcome:
        """Look at one resource. Raises ClusterError where not even the status could be written."""
        body = await self._cluster.get(KIND, namespace, name)
        if body is None:
            return Outcome()
        resource = read_resource(body)
        if resource.deleting:
            return Outcome()
        look = _Look(self._cluster, self._now, resource)
        try:
            spec = read_spec(resource.spec)
            wanted = desired(resource, spec, self._base, self._operator_namespace)
            if fault := self._check_config(to_toml(to_be_checked(wanted.config))):
                raise SpecError(fault)
        except SpecError as error:
            await look.finish([Condition(LIVE, "False", "SpecInvalid", str(error))])
            return look.outcome
        try:
            await _Mending(look, self._connect, spec, wanted).run()
        except (ClusterError, NotOurs) as error:
            look.outcome.retry_s = self._retry_s
            await look.finish([Condition(ROLLED, "Unknown", "ObjectsFailed", str(error))])
        except (Unreachable, Refused) as error:
            look.outcome.retry_s = self._retry_s
            what = f"the server does not answer: {error}"
            await look.finish([Condition(kind, "Unknown", "ServerUnreachable", what) for kind in (LIVE, ROLLED)])
        return look.outcome


class _Look:
    """One look at one resource: its status as it grows, and what is to be told."""

    def __init__(self, cluster: Objects, now: Callable[[], datetime], resource: Resource) -> None:
        self.cluster: Final = cluster
        self.now: Final = now
        self.resource: Final = resource
        self.outcome: Final = Outcome()
        self.status: Final = dict(resource.status)  # as it is to be
        self._written: Mapping[str, Any] = resource.status  # as the API has it

    def tell(self, kind: Literal["Normal", "Warning"], reason: str, message: str) -> None:
        """Something has happened."""
        self.outcome.events.append(Event(kind, reason, message))

    async def save(self) -> None:
        """Write the status, where it has changed."""
        if patch := merge_patch(self._written, self.status):
            await self.cluster.patch_status(self.resource.namespace, self.resource.name, patch)
            self._written = dict(self.status)

    async def finish(self, conditions: Sequence[Condition]) -> None:
        """The look is over: write what it has found."""
        whole = ready(conditions)
        before = self._condition(READY)
        if whole.reason in TOLD and whole.reason != before.get("reason"):
            self.tell("Warning", whole.reason, whole.message)
        generation = self.resource.generation
        self.status["conditions"] = merged(
            self.resource.status.get("conditions", []), [*conditions, whole], generation, written(self.now())
        )
        self.status["observedGeneration"] = generation
        self.status["message"] = self.outcome.message = whole.message
        await self.save()

    def _condition(self, kind: str) -> Mapping[str, Any]:
        for condition in self.resource.status.get("conditions", []):
            if condition.get("type") == kind:
                found: Mapping[str, Any] = condition
                return found
        return {}


class _Mending:
    """The part of a look that changes something."""

    def __init__(self, look: _Look, connect: Connect, spec: Spec, wanted: Desired) -> None:
        self._look: Final = look
        self._cluster: Final = look.cluster
        self._resource: Final = look.resource
        self._connect: Final = connect
        self._spec: Final = spec
        self._wanted: Final = wanted

    async def run(self) -> None:
        """All of it."""
        for obj in self._wanted.objects:
            if obj["kind"] not in ("Service", "StatefulSet"):
                await self._apply(obj)
        stateful_set = await self._stateful_set()
        pod = await self._pod()
        if pod is None or pod.deleting:
            await self._apply_services()
            what = "the pod is not there yet" if pod is None else "the pod is being deleted"
            await self._look.finish(
                [Condition(LIVE, "Unknown", "NoPod", what), Condition(ROLLED, "False", "NoPod", what)]
            )
        elif not pod.runs or pod.address is None:
            await self._not_running(stateful_set, pod)
        else:
            await self._running(stateful_set, pod, pod.address)

    # Objects.

    async def _apply(self, obj: Mapping[str, Any]) -> None:
        """Create an object, or change it where it is not as it should be."""
        kind, name = obj["kind"], obj["metadata"]["name"]
        found = await self._cluster.get(kind, self._resource.namespace, name)
        if found is None:
            await self._cluster.create(obj)
            return
        self._check_owner(kind, found)
        if has(found, obj):
            return
        await self._cluster.patch(kind, self._resource.namespace, name, _patch_of(obj))

    def _check_owner(self, kind: str, found: Mapping[str, Any]) -> None:
        """Refuse to change what somebody else has made, a release of the chart perhaps."""
        owners = found["metadata"].get("ownerReferences") or []
        if not any(owner.get("uid") == self._resource.uid for owner in owners):
            raise NotOurs(f"there is a {kind} {found['metadata']['name']} that this resource does not own")

    async def _apply_services(self) -> None:
        for obj in self._wanted.objects:
            if obj["kind"] == "Service":
                await self._apply(obj)

    async def _stateful_set(self) -> Mapping[str, Any]:
        """The StatefulSet, created if it is not there. Of one that is there everything but the template is mended:
        the strategy before all, as any other than OnDelete would restart the pod."""
        obj = self._wanted.one("StatefulSet")
        found = await self._cluster.get("StatefulSet", self._resource.namespace, self._resource.name)
        if found is None:
            return await self._cluster.create(obj)
        self._check_owner("StatefulSet", found)
        around = {name: obj["spec"][name] for name in ("replicas", "updateStrategy")}
        if not has(found["spec"], around):
            # Whole, so that the strategy's other fields go: `rollingUpdate` beside OnDelete is refused.
            around["updateStrategy"] = {
                **dict.fromkeys(found["spec"].get("updateStrategy", {})),
                **around["updateStrategy"],
            }
            return await self._patch_set({"spec": around})
        return found

    async def _patch_set(self, patch: Mapping[str, Any]) -> Mapping[str, Any]:
        return await self._cluster.patch("StatefulSet", self._resource.namespace, self._resource.name, patch)

    async def _apply_template(self, found: Mapping[str, Any], live: Sequence[str]) -> Mapping[str, Any]:
        """Change the template where a restart is needed for what has changed. It restarts nothing by itself. Returns
        the StatefulSet as it is then."""
        if template_is_current(found["spec"]["template"], self._wanted, live):
            return found
        return await self._patch_set({"spec": {"template": self._wanted.template}})

    async def _pod(self) -> Pod | None:
        body = await self._cluster.get("Pod", self._resource.namespace, f"{self._resource.name}-0")
        return None if body is None else read_pod(body)

    # A pod without a server.

    async def _not_running(self, stateful_set: Mapping[str, Any], pod: Pod) -> None:
        """The container starts, or fails to: nothing can be lost, and a change may be what it needs."""
        live = self._resource.status.get("liveSettings", [])
        stateful_set = await self._apply_template(stateful_set, live)
        reasons = restart_reasons(pod, self._wanted, live)
        if reasons and not controller_is_behind(stateful_set):
            decision = decide(reasons, None, runs=False, allowed=False, generation=self._resource.generation)
            await self._delete(pod, decision, self._look.now())
        await self._apply_services()
        what = "the server's container does not run"
        rolled = Condition(ROLLED, "False" if reasons else "True", "NotRunning", what)
        await self._look.finish([Condition(LIVE, "Unknown", "NotRunning", what), rolled])

    # A pod with a server.

    async def _running(self, stateful_set: Mapping[str, Any], pod: Pod, address: str) -> None:
        """Raises Unreachable and Refused."""
        login = await login_of(self._cluster, self._resource.namespace, self._spec.access)
        async with self._connect(address, pod.port, login) as server:
            conditions = await self._with_server(server, stateful_set, pod)
        await self._look.finish(conditions)

    async def _with_server(self, server: ServerCalls, stateful_set: Mapping[str, Any], pod: Pod) -> list[Condition]:
        live, info = await server.config(), await server.info()
        self._look.status["liveSettings"] = sorted(live)
        settings = await self._apply_live(server, live, info, pod)
        stateful_set = await self._apply_template(stateful_set, sorted(live))
        reasons = restart_reasons(pod, self._wanted, live)
        if not reasons:
            await self._apply_services()
            return [settings, Condition(ROLLED, "True", "Current", "the pod is as the resource asks")]
        if controller_is_behind(stateful_set):
            return [
                settings,
                Condition(ROLLED, "False", "TemplatePending", "the template is on its way to the controller"),
            ]
        return [settings, await self._restart(server, pod, reasons)]

    async def _restart(self, server: ServerCalls, pod: Pod, reasons: Sequence[str]) -> Condition:
        """Delete the pod, if it may be deleted. Nothing but the decision is between the question and the deletion."""
        generation = self._resource.generation
        allowed = allows_loss(self._resource.annotations, generation)
        asked = self._look.now()
        figures = figures_of(await server.info())
        decision = decide(reasons, figures, runs=True, allowed=allowed, generation=generation)
        if decision.kind == "roll":
            await self._delete(pod, decision, asked)
        return Condition(ROLLED, "False", decision.reason, decision.message)

    async def _delete(self, pod: Pod, decision: Decision, asked: datetime) -> None:
        grace_s: int = self._wanted.template["spec"].get("terminationGracePeriodSeconds", pod.grace_s)
        if not await self._cluster.delete_pod(self._resource.namespace, pod.name, pod.uid, grace_s):
            return
        now = self._look.now()
        window_ms = round((now - asked).total_seconds() * 1000)
        self._look.status["roll"] = {"time": written(now), "reason": decision.reason, "windowMs": window_ms}
        self._look.tell("Normal", "Restarted", decision.message)

    # Live settings.

    async def _apply_live(
        self, server: ServerCalls, live: Mapping[str, Any], info: Mapping[str, Any], pod: Pod
    ) -> Condition:
        """Change what can change live, and read it back."""
        look, pinned = self._look, pins_of(info)
        todo = plan(self._resource, self._spec, live, pinned, look.now())
        await self._note_raise(todo)
        refusals: list[str] = []
        changes = [(each.name, each.wanted) for each in todo.to_set] + list(todo.once.items())
        changes += [(name, None) for name in todo.give_back]
        for name, value in changes:
            try:
                await server.set(name, value)
            except Refused as error:
                refusals.append(f"{name}: {error}")
        if changes:
            live = await server.config()
        if self._resource.status.get("incarnation") == pod.incarnation:
            for each in drifts(todo.to_set, self._resource.status.get("settings", {}), live):
                self._note_drift(each)
        look.status["incarnation"] = pod.incarnation
        look.status["settings"] = {name: live[name] for name in todo.wanted}
        if todo.ended and not refusals:
            await self._forget_raise(live)
        return self._live_condition(todo, refusals, live, info, pod)

    def _live_condition(
        self, todo: Plan, refusals: Sequence[str], live: Mapping[str, Any], info: Mapping[str, Any], pod: Pod
    ) -> Condition:
        if refusals:
            return Condition(LIVE, "False", "SettingRefused", "; ".join(refusals))
        if left := [each.name for each in live_differences(todo.wanted, live)]:
            return Condition(
                LIVE, "False", "NotReadBack", f"changed, but read back with another value: {', '.join(left)}"
            )
        if "tuner" in info and (rules := rules_differ(self._spec.rules, info["tuner"]["rules"])):
            what = f"the server has not read its file again yet, which has the rules {', '.join(rules)}"
            return Condition(LIVE, "False", "RulesPending", what)
        drain_ms = todo.wanted.get(DRAIN)
        if type(drain_ms) is int and drain_ms >= pod.grace_s * 1000:
            what = f"{DRAIN} is longer than the pod's grace period of {pod.grace_s} s until the pod is restarted"
            return Condition(LIVE, "True", "ReadBack", what)
        return Condition(
            LIVE, "True", "ReadBack", f"{len(todo.wanted)} of {len(live)} live settings are the resource's"
        )

    def _note_drift(self, drift: Difference) -> None:
        status = self._look.status
        last = {
            "setting": drift.name,
            "found": str(drift.found),
            "restored": str(drift.wanted),
            "time": written(self._look.now()),
        }
        status["drift"] = {"repairs": status.get("drift", {}).get("repairs", 0) + 1, "last": last}
        self._look.tell("Normal", "DriftRepaired", f"{drift.name} was {drift.found}, and is {drift.wanted} again")

    async def _note_raise(self, todo: Plan) -> None:
        """Have the status say what is raised before it is."""
        look, raised = self._look, todo.raised
        if raised is None:
            return
        budget_ms = todo.wanted[SETTING]
        if "raised" not in self._resource.status:
            what = f"an alert raises {SETTING} to {budget_ms:g} until {written(raised.until)}"
            look.tell("Normal", "BudgetRaised", what)
        look.status["raised"] = as_status(raised, budget_ms)
        await look.save()

    async def _forget_raise(self, live: Mapping[str, Any]) -> None:
        """A raise has ended, and the usual budget is back. The annotation goes, unless an alert has just written it
        anew: then the raise goes on, and the next look sees it."""
        namespace, name = self._resource.namespace, self._resource.name
        fresh = await self._cluster.get(KIND, namespace, name)
        if fresh is None or read_resource(fresh).annotations.get(RAISED_UNTIL) != self._resource.annotations.get(
            RAISED_UNTIL
        ):
            return
        version = fresh["metadata"].get("resourceVersion")
        try:
            meta = {"annotations": {RAISED_UNTIL: None}, "resourceVersion": version}
            await self._cluster.patch(KIND, namespace, name, {"metadata": meta})
        except ClusterError as error:
            if error.status != 409:
                raise
            return
        self._look.status.pop("raised", None)
        self._look.tell("Normal", "BudgetPutBack", f"{SETTING} is {live[SETTING]:g} again")


def _patch_of(obj: Mapping[str, Any]) -> dict[str, Any]:
    """What is changed in an object that exists: all but what names it."""
    patch = {key: value for key, value in obj.items() if key not in ("apiVersion", "kind", "metadata")}
    meta = obj["metadata"]
    return {**patch, "metadata": {"labels": meta["labels"], "annotations": {OBJECT: meta["annotations"][OBJECT]}}}
