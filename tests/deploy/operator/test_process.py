"""The operator as a process: started as in its container, ended by signals."""

from __future__ import annotations

import asyncio
import os
import signal
import subprocess
import sys
from collections.abc import AsyncIterator, Iterator
from contextlib import contextmanager
from pathlib import Path

import pytest

from support.alerts import payload, send
from support.kubernetes import DEADLINE_S, NAMESPACE, PEERING, PEERINGS, Cluster, cluster_in, until
from support.surroundings import without_settings

pytestmark = pytest.mark.slow

KUBECONFIG = """\
current-context: test
contexts: [{{name: test, context: {{cluster: test, user: test}}}}]
clusters: [{{name: test, cluster: {{server: "{url}"}}}}]
users: [{{name: test, user: {{token: "{token}"}}}}]
"""


@pytest.fixture
async def cluster(tmp_path: Path) -> AsyncIterator[Cluster]:
    folder = tmp_path / "cluster"
    folder.mkdir()
    async with cluster_in(folder) as found:
        yield found
        assert not found.api.refused


class Process:
    """`python -m naught_operator`, with a token that the API server knows it by."""

    def __init__(self, cluster: Cluster, folder: Path, name: str, *arguments: str) -> None:
        config = folder / f"{name}.kubeconfig"
        config.write_text(KUBECONFIG.format(url=cluster.url, token=name))
        self._log = folder / f"{name}.log"
        with self._log.open("w") as log:
            self.process = subprocess.Popen(
                [
                    *(sys.executable, "-m", "naught_operator", "--namespace", NAMESPACE, "--peering", PEERING),
                    *("--interval", "0.2", "--retry", "0.2", "--lifetime", "5", *arguments),
                ],
                stdin=subprocess.DEVNULL,
                stdout=log,
                stderr=log,
                env={**without_settings(), "KUBECONFIG": str(config), "POD_ID": name, "HOME": str(folder)},
            )

    def log(self) -> str:
        """What it has said."""
        return self._log.read_text()


@contextmanager
def process(cluster: Cluster, folder: Path, name: str, *arguments: str) -> Iterator[Process]:
    found = Process(cluster, folder, name, *arguments)
    try:
        yield found
    finally:
        if found.process.poll() is None:
            found.process.kill()
        found.process.wait()


async def test_a_leader_that_is_killed_is_followed_by_the_other(cluster: Cluster, tmp_path: Path) -> None:
    with process(cluster, tmp_path, "first", "--webhook-port", "off") as first:
        await until(lambda: "first" in (cluster.get(PEERINGS, PEERING).get("status") or {}), "the first is there")
        with process(cluster, tmp_path, "second", "--webhook-port", "off") as second:
            await until(lambda: len(cluster.get(PEERINGS, PEERING)["status"]) == 2, "the second is there")
            await cluster.create(settings={"sweep_budget_ms": 2})
            await until(lambda: cluster.condition("Ready") == ("True", "Running"), "the server is ready")
            # The older one, unless it was silent for its whole lifetime as it started, on a machine that is busy.
            (leader,) = set(cluster.api.writers)
            {"first": first, "second": second}[leader].process.send_signal(signal.SIGKILL)
            cluster.nodes.server().call("config_set", "sweep_budget_ms", 7)
            await until(lambda: cluster.status().get("drift", {}).get("repairs") == 1, "the other one repairs")
            assert set(cluster.api.writers) == {"first", "second"}


async def test_a_process_serves_alerts_and_ends_in_order(cluster: Cluster, tmp_path: Path, own_port: int) -> None:
    token = tmp_path / "token"
    token.write_text("secret")
    flags = ("--webhook-port", str(own_port), "--webhook-token-file", str(token))
    with process(cluster, tmp_path, "only", *flags) as only:
        await cluster.create()
        await until(lambda: cluster.condition("Ready") == ("True", "Running"), "the server is ready")
        assert (await send(own_port, payload("orders")))[0] == 401
        assert (await send(own_port, payload("orders"), "Authorization: Bearer secret"))[0] == 200
        await until(lambda: "raised" in cluster.status(), "the budget is raised")
        only.process.terminate()
        assert await asyncio.to_thread(only.process.wait, DEADLINE_S) == 0, only.log()
        assert "Traceback" not in only.log()
        assert "alerts are taken at" in only.log()
        assert not cluster.get(PEERINGS, PEERING).get("status"), "it has left the peering"


def test_without_a_cluster_it_says_so_in_one_line(tmp_path: Path) -> None:
    done = subprocess.run(
        [sys.executable, "-m", "naught_operator", "--namespace", "a", "--manifests", str(tmp_path)],
        capture_output=True,
        text=True,
        env={**os.environ, "HOME": str(tmp_path)},
        timeout=60,
        check=False,
    )
    assert done.returncode == 1
    assert done.stderr.startswith(f"naught_operator: {tmp_path}: there must be one manifest of each kind")
    assert done.stderr.count("\n") == 1
