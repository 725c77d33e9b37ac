"""The operator's process: flags and environment, the parts put together, kopf.

    python -m naught_operator --namespace counters --peering naught-operator

Each flag is also a variable: `--webhook-port` is `NAUGHT_OPERATOR_WEBHOOK_PORT`. Flags win.

**Which of several leads.** Replicas find each other by a `KopfPeering` object in which each keeps a line, and all but
the one with the highest priority pause. kopf pauses two with the same priority both, so each has its own: the oldest
has the highest. A replica that is started, by a rolling update for one, thus takes over only when the others are
gone.
"""

from __future__ import annotations

import argparse
import functools
import os
import random
import sys
import tempfile
import time
from collections.abc import Mapping, Sequence
from dataclasses import dataclass
from datetime import UTC, datetime
from pathlib import Path
from typing import Any, Final, NoReturn

import kopf

from naught_operator import base, handlers
from naught_operator.access import CHECKED_SECRET
from naught_operator.cluster import Cluster
from naught_operator.reconcile import Reconciler
from naught_operator.server import connected
from naught_operator.webhook import Webhook
from naught_server.config import ConfigError
from naught_server.loading import load as load_config

PREFIX: Final = "NAUGHT_OPERATOR_"

INTERVAL_S: Final = 10.0
"""How often each resource is looked at: a drift lasts no longer, and a raise ends no later than this."""

RETRY_S: Final = 5.0
"""When a server or an API that does not answer is asked again. kopf's default would be a minute."""

LIFETIME_S: Final = 30
"""After this time without a sign of life, the other replicas take a leader for dead."""

WEBHOOK_PORT: Final = 9094
"""Beside the ports that Prometheus' programs use."""

_EPOCH_END: Final = 1 << 33
_NAMESPACE_FILE: Final = Path("/var/run/secrets/kubernetes.io/serviceaccount/namespace")


@dataclass(frozen=True)
class Options:
    """How an operator runs."""

    namespaces: tuple[str, ...]
    """The namespaces that it serves; empty: all."""
    own_namespace: str
    """The namespace of its own pod, from which servers let it in."""
    peering: str | None
    interval_s: float
    retry_s: float
    lifetime_s: int
    webhook_host: str
    webhook_port: int | None
    """None: no alerts are taken."""
    webhook_token_file: Path | None
    liveness: str | None
    manifests: Path | None

    def serves(self, namespace: str) -> bool:
        """Whether a namespace is this operator's."""
        return not self.namespaces or namespace in self.namespaces


class _Parser(argparse.ArgumentParser):
    def error(self, message: str) -> NoReturn:
        """One line that says what is wrong, without the whole usage before it."""
        print(f"naught_operator: {message}", file=sys.stderr)
        sys.exit(2)


def parse(arguments: Sequence[str], environment: Mapping[str, str]) -> Options:
    """The options in a command line and an environment. Wrong ones end the process with status 2."""

    def default(name: str, otherwise: str | None = None) -> str | None:
        return environment.get(PREFIX + name) or otherwise

    parser = _Parser(prog="naught_operator", allow_abbrev=False, description="Keeps CounterCache resources.")
    add = parser.add_argument
    add("--namespace", action="append", metavar="NAME", help="a namespace to serve; may be given several times")
    add(
        "--all-namespaces", action="store_true", default=default("ALL_NAMESPACES") == "true", help="serve all of them"
    )
    add("--own-namespace", default=default("OWN_NAMESPACE", _own_namespace()), help="that of the operator's pod")
    add("--peering", default=default("PEERING"), metavar="NAME", help="the KopfPeering object of the replicas (none)")
    add("--interval", type=float, default=default("INTERVAL", f"{INTERVAL_S:g}"), help="seconds between two looks")
    add(
        "--retry", type=float, default=default("RETRY", f"{RETRY_S:g}"), help="seconds until a failure is tried again"
    )
    add("--lifetime", type=int, default=default("LIFETIME", str(LIFETIME_S)), help="seconds until a leader is dead")
    add("--webhook-host", default=default("WEBHOOK_HOST", "127.0.0.1"), help="where alerts are taken")
    add("--webhook-port", default=default("WEBHOOK_PORT", str(WEBHOOK_PORT)), help="the port for alerts, or off")
    add("--webhook-token-file", type=Path, default=default("WEBHOOK_TOKEN_FILE"), help="a file with a bearer token")
    add("--liveness", default=default("LIVENESS"), metavar="URL", help="where kopf says that it lives (nowhere)")
    add("--manifests", type=Path, default=default("MANIFESTS"), metavar="FOLDER", help="other manifests of a server")
    given = parser.parse_args(arguments)
    namespaces = given.namespace or (default("NAMESPACES") or "").replace(",", " ").split()
    if bool(namespaces) == given.all_namespaces:
        parser.error("say which namespaces are served: --namespace NAME, or --all-namespaces")
    for name in ("interval", "retry"):
        if not 0.1 <= getattr(given, name) <= 3_600:
            parser.error(f"--{name} must be from 0.1 to 3600 seconds, not {getattr(given, name):g}")
    if not 5 <= given.lifetime <= 3_600:
        parser.error(f"--lifetime must be from 5 to 3600 seconds, not {given.lifetime}")
    port = given.webhook_port
    if port != "off" and not (port.isascii() and port.isdigit() and int(port) <= 65_535):
        parser.error(f"--webhook-port must be a port or off, not {port!r}")
    return Options(
        namespaces=tuple(namespaces),
        own_namespace=given.own_namespace,
        peering=given.peering,
        interval_s=given.interval,
        retry_s=given.retry,
        lifetime_s=given.lifetime,
        webhook_host=given.webhook_host,
        webhook_port=None if port == "off" else int(port),
        webhook_token_file=given.webhook_token_file,
        liveness=given.liveness,
        manifests=given.manifests,
    )


def _own_namespace() -> str:
    try:
        return _NAMESPACE_FILE.read_text("utf-8").strip()
    except OSError:
        return "default"


def priority(started_s: float) -> int:
    """A priority that is higher the earlier a process has started, and different for two that start in one second."""
    return (_EPOCH_END - int(started_s)) * 65_536 + random.SystemRandom().randrange(65_536)


def log_in() -> kopf.ConnectionInfo:
    """The credentials: of the service account in a pod, else of a kubeconfig."""
    settings: Any = kopf.OperatorSettings()
    found = kopf.login_with_service_account(settings=settings) or kopf.login_with_kubeconfig(settings=settings)
    if found is None:
        raise kopf.LoginError("there is no service account and no kubeconfig")
    return found


@functools.lru_cache(maxsize=64)
def check_config(text: str) -> str | None:
    """What is wrong with a server's file, as the server itself would say it; None where nothing is. The server would
    not start with it, and would have lost its counters by then."""
    with tempfile.NamedTemporaryFile("w", suffix=".toml", encoding="utf-8") as file:
        file.write(text)
        file.flush()
        try:
            load_config(["--config", file.name], {CHECKED_SECRET: "of no meaning"})
        except ConfigError as error:
            return str(error).replace(f"{file.name}: ", "")
    return None


def now() -> datetime:
    """The time."""
    return datetime.now(UTC)


def build(options: Options, login: Any = log_in, check: Any = check_config) -> dict[str, Any]:
    """The operator as the arguments of `kopf.run`."""
    cluster = Cluster(login)
    manifests = base.load(options.manifests)
    reconciler = Reconciler(
        cluster,
        connected,
        base=manifests,
        operator_namespace=options.own_namespace,
        check_config=check,
        now=now,
        retry_s=options.retry_s,
    )
    webhook = Webhook(cluster, options.serves, options.webhook_token_file, now)

    async def start() -> None:
        if options.webhook_port is not None:
            port = await webhook.start(options.webhook_host, options.webhook_port)
            handlers.log.info("alerts are taken at http://%s:%d/alerts", options.webhook_host, port)

    async def stop() -> None:
        await webhook.close()
        await cluster.close()

    registry = kopf.OperatorRegistry()
    handlers.register(
        registry,
        looks=handlers.Looks(reconciler, options.retry_s),
        lost_with=functools.partial(handlers.lost, cluster, connected),
        login=login,
        start=start,
        stop=stop,
        interval_s=options.interval_s,
    )
    return {
        "registry": registry,
        "settings": handlers.settings(
            peering=options.peering,
            priority=priority(time.time()),
            lifetime_s=options.lifetime_s,
            namespaced=bool(options.namespaces),
        ),
        "clusterwide": not options.namespaces,
        "namespaces": options.namespaces,
        "liveness_endpoint": options.liveness,
    }


def main() -> None:
    """Run until a signal."""
    options = parse(sys.argv[1:], os.environ)
    try:
        operator = build(options)
    except base.BaseError as error:
        print(f"naught_operator: {error}", file=sys.stderr)
        sys.exit(1)
    kopf.configure()
    kopf.run(**operator)
