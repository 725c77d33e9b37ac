"""The whole chain for real: zeros pile up in a server, Prometheus scrapes it, the alert fires, and ends.

The rules are the shipped ones with every time divided by a hundred, so that 5 minutes are 3 seconds.
"""

from __future__ import annotations

from pathlib import Path
from typing import Any

import pytest

from naught_loadtest.bars.filling import Filler, drain
from naught_loadtest.drivers.probe import open_probe
from naught_loadtest.drivers.target import parse_target
from naught_loadtest.generate.runner import new_prefix
from support.alerting import Prometheus, prometheus, rules, shortened
from support.metrics_page import http_port
from support.programs import need
from support.server_process import ServerProcess, server_process, wait_until

ZEROS = 100_000
LIVE = 1_000
DEADLINE_S = 180.0
DIVISOR = 100
SCRAPE_INTERVAL = "500ms"
LAZY = '[caches.default]\neviction = "lazy"\n'


def make_zeros(server: ServerProcess) -> None:
    """Counters that live, and many more that count to 1 and back."""
    probe, _ = open_probe(parse_target(f"naught://127.0.0.1:{server.port}"))
    with probe:
        Filler(probe, new_prefix()).fill_to(LIVE)
        prefix = new_prefix()
        Filler(probe, prefix).fill_to(ZEROS)
        drain(probe, prefix, ZEROS)


def wait_for(watcher: Prometheus, alert: str, state: str) -> None:
    watcher.wait_until(lambda: state in watcher.alerts(alert), f"{alert} is {state}", DEADLINE_S)


def firing(watcher: Prometheus) -> dict[str, Any]:
    """The alert of the deviation, which fires."""
    return watcher.alerts("NaughtDeviationHigh")["firing"]


def one_value(watcher: Prometheus, metric: str) -> float:
    (value,) = watcher.values(f'{metric}{{cache_name="default"}}')
    return value


@pytest.mark.peer
@pytest.mark.slow
def test_zeros_that_pile_up_raise_the_alert_and_sweeping_ends_it(tmp_path: Path) -> None:
    need("prometheus")
    config = tmp_path / "naught.toml"
    config.write_text(LAZY)
    folder = tmp_path / "watcher"
    folder.mkdir()
    with server_process(tmp_path, "--http-port", "0", "--config", str(config), "--sweep-budget-ms", "0") as server:
        wait_until(lambda: "the sweeper is off" in server.log(), "the log says so")
        target = f"127.0.0.1:{http_port(tmp_path)}"
        with prometheus(folder, shortened(rules(), DIVISOR), target, SCRAPE_INTERVAL) as watcher:
            watcher.wait_until(lambda: watcher.values("up") == [1.0], "it is scraped", DEADLINE_S)
            assert not watcher.alerts("NaughtDeviationHigh")
            make_zeros(server)

            wait_for(watcher, "NaughtDeviationHigh", "firing")
            assert watcher.has_been("NaughtDeviationHigh", "pending"), "not before its time"
            labels = firing(watcher)["labels"]
            assert (labels["cache_name"], labels["severity"], labels["instance"]) == ("default", "warning", target)
            said = f"has {ZEROS / LIVE:.2f} stale entries for each counter"
            watcher.wait_until(lambda: said in firing(watcher)["annotations"]["summary"], said, DEADLINE_S)
            assert one_value(watcher, "cache_map_length") == ZEROS + LIVE
            assert one_value(watcher, "cache_valid_entry_count") == LIVE
            wait_for(watcher, "NaughtSweeperStalled", "firing")

            assert server.call("config_set", "sweep_budget_ms", 1) == 1.0
            for name in ("NaughtDeviationHigh", "NaughtSweeperStalled"):
                watcher.wait_until(lambda name=name: not watcher.alerts(name), f"{name} is over", DEADLINE_S)
            watcher.wait_until(
                lambda: one_value(watcher, "cache_map_length") == LIVE, "the zeros are gone", DEADLINE_S
            )
            assert one_value(watcher, "cache_deviation_ratio") == 0
