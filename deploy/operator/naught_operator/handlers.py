"""The kopf handlers: each calls `Reconciler.run` for one resource and turns what it returns into what kopf knows.

    created, changed, seen again after a start   ->  look at once, and again soon where the server does not answer
    every `interval_s`                           ->  look: drift, the end of a raise, a server that has become empty
    deleted                                      ->  say what is lost; the objects go with their owner

A lock for each resource keeps two looks from overlapping. Everything else about a resource is in the cluster.

kopf keeps its own notes in annotations under a prefix of its own: it does not notice changes of other annotations
under the same prefix, and `naught.dev/allow-loss` must be noticed.
"""

from __future__ import annotations

import asyncio
import contextlib
import logging
from collections.abc import Awaitable, Callable
from typing import Any, Final
from weakref import WeakValueDictionary

import kopf

from naught_operator.access import login_of
from naught_operator.errors import ClusterError, Refused, Unreachable
from naught_operator.names import GROUP, KIND, PLURAL, VERSION
from naught_operator.pods import read_pod
from naught_operator.reconcile import Connect, Event, Objects, Outcome, Reconciler
from naught_operator.rolling import figures_of
from naught_operator.spec import SpecError, read_resource, read_spec

log: Final = logging.getLogger("naught.operator")

KOPF_PREFIX: Final = f"operator.{GROUP}"
"""Of the annotations in which kopf notes what it has handled."""
FINALIZER: Final = f"{GROUP}/operator"

WATCH_S_MAX: Final = 300
"""How long a watch may last before it is made anew: a connection that died silently would be waited on forever."""
API_S_MAX: Final = 30.0
"""How long kopf waits for a call of the API."""
EXIT_S_MAX: Final = 20.0
"""When a process that does not end by itself is killed; less than the grace period of its pod."""


def settings(*, peering: str | None, priority: int, lifetime_s: int, namespaced: bool) -> kopf.OperatorSettings:
    """How kopf is to run. `peering`: the name of the object by which replicas find each other; None: alone."""
    found = kopf.OperatorSettings()
    # Without it kopf would list and watch namespaces and definitions of resources, and need the rights to.
    found.scanning.disabled = True
    found.posting.reporting_component = "naught-operator"
    found.posting.event_name_prefix = "naught-operator-"
    found.peering.standalone = peering is None
    found.peering.mandatory = peering is not None
    found.peering.name = peering or ""
    found.peering.priority = priority
    found.peering.lifetime = lifetime_s
    found.peering.namespaced = namespaced
    found.persistence.finalizer = FINALIZER
    found.persistence.progress_storage = kopf.AnnotationsProgressStorage(prefix=KOPF_PREFIX, v1=False)
    found.persistence.diffbase_storage = kopf.AnnotationsDiffBaseStorage(prefix=KOPF_PREFIX, v1=False)
    found.watching.server_timeout = WATCH_S_MAX
    found.watching.client_timeout = WATCH_S_MAX + 10
    found.networking.request_timeout = API_S_MAX
    found.process.ultimate_exiting_timeout = EXIT_S_MAX
    return found


class Looks:
    """Looks at resources for kopf: one at a time for each."""

    def __init__(self, reconciler: Reconciler, retry_s: float) -> None:
        """`retry_s`: when a call of the API that failed is tried again."""
        self._reconciler: Final = reconciler
        self._retry_s: Final = retry_s
        self._locks: WeakValueDictionary[tuple[str, str], asyncio.Lock] = WeakValueDictionary()

    async def look(self, body: kopf.Body, namespace: str, name: str) -> None:
        """Look once. Raises TemporaryError for what is to be tried again soon."""
        lock = self._locks.setdefault((namespace, name), asyncio.Lock())
        async with lock:
            try:
                outcome = await self._reconciler.run(namespace, name)
            except ClusterError as error:
                raise kopf.TemporaryError(str(error), delay=self._retry_s) from None
        _post(body, outcome)
        if outcome.retry_s is not None:
            # Without a delay it would be a minute.
            raise kopf.TemporaryError(outcome.message, delay=outcome.retry_s)


def _post(body: kopf.Body, outcome: Outcome) -> None:
    """Tell people what has happened: an event of the resource, and a line in the log."""
    for event in outcome.events:
        kopf.event(body, type=event.type, reason=event.reason, message=event.message)
        level = logging.WARNING if event.type == "Warning" else logging.INFO
        what = event.message if event.message.startswith(event.reason) else f"{event.reason}: {event.message}"
        log.log(level, "%s/%s: %s", body.metadata.namespace, body.metadata.name, what)


async def lost(cluster: Objects, connect: Connect, namespace: str, name: str) -> str | None:
    """What is lost with a resource that is deleted, as far as its server can still be asked."""
    with contextlib.suppress(ClusterError, SpecError, Unreachable, Refused):
        body = await cluster.get("Pod", namespace, f"{name}-0")
        pod = None if body is None else read_pod(body)
        if pod is not None and pod.runs and pod.address is not None:
            resource = await cluster.get(KIND, namespace, name)
            access = None if resource is None else read_spec(read_resource(resource).spec).access
            login = await login_of(cluster, namespace, access)
            async with connect(pod.address, pod.port, login) as server:
                figures = figures_of(await server.info())
            return f"{figures.counters} counters, {figures.holds} holds"
    return None


def register(
    registry: kopf.OperatorRegistry,
    *,
    looks: Looks,
    lost_with: Callable[[str, str], Awaitable[str | None]],
    login: Callable[[], kopf.ConnectionInfo],
    start: Callable[[], Awaitable[None]],
    stop: Callable[[], Awaitable[None]],
    interval_s: float,
) -> None:
    """Put the handlers into a registry."""
    kinds: Any = {"group": GROUP, "version": VERSION, "plural": PLURAL, "registry": registry}
    is_over = asyncio.Event()

    @kopf.on.startup(registry=registry)
    async def started(**_: Any) -> None:
        await start()

    @kopf.on.cleanup(registry=registry)
    async def ended(**_: Any) -> None:
        is_over.set()
        await stop()

    @kopf.on.login(registry=registry)
    def logged_in(**_: Any) -> kopf.ConnectionInfo:
        return login()

    @kopf.on.resume(**kinds)
    @kopf.on.create(**kinds)
    @kopf.on.update(**kinds)
    async def changed(body: kopf.Body, namespace: str | None, name: str | None, **_: Any) -> None:
        await looks.look(body, str(namespace), str(name))

    @kopf.timer(**kinds, interval=interval_s, initial_delay=interval_s)
    async def looked_at(body: kopf.Body, namespace: str | None, name: str | None, **_: Any) -> None:
        # A change that kopf still handles as it ends starts the timer again, which nothing stops: the end would wait
        # for it for five seconds.
        if is_over.is_set():
            raise asyncio.CancelledError
        await looks.look(body, str(namespace), str(name))

    @kopf.on.delete(**kinds)
    async def deleted(body: kopf.Body, namespace: str | None, name: str | None, **_: Any) -> None:
        what = await lost_with(str(namespace), str(name))
        if what is not None:
            message = f"deleted with its server, which had {what}"
            _post(body, Outcome([Event("Warning", "DeletedWithCounters", message)]))
