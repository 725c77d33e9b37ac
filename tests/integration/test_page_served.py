"""The page of a real server in Chromium, under load: its figures move, and agree with those of /metrics."""

from __future__ import annotations

import contextlib
import json
import re
import threading
import urllib.request
from collections.abc import Iterator
from pathlib import Path

import pytest

from support.browser import Browser, need_browser, open_browser
from support.server_process import ServerProcess, server_process, wait_until
from support.status_server import HEADERS, PAGE

pytestmark = pytest.mark.slow

STATUS_BYTES_MAX = 64 << 10


@pytest.fixture(scope="module")
def chromium(tmp_path_factory: pytest.TempPathFactory) -> Iterator[Browser]:
    need_browser()
    with open_browser(tmp_path_factory.mktemp("browser")) as browser:
        yield browser


class Served:
    """A server with its HTTP side."""

    def __init__(self, server: ServerProcess, folder: Path) -> None:
        self.process = server
        http = json.loads((folder / "ports.json").read_text())["http"]
        self.url = f"http://{http['host']}:{http['port']}/"

    def get(self, path: str) -> tuple[dict[str, str], str]:
        """The headers and the text of an answer."""
        with urllib.request.urlopen(self.url + path, timeout=20) as answer:
            return dict(answer.headers), answer.read().decode()

    def metric(self, sample: str) -> float:
        """The value of a sample of /metrics, by its name with its labels; added up where it has further ones."""
        text = self.get("metrics")[1]
        name, _, labels = sample.partition("{")
        found = [
            float(value)
            for known, value in re.findall(rf"^{name}(\{{[^}}]*\}})? (\S+)$", text, re.MULTILINE)
            if all(each in known for each in labels.rstrip("}").split(",") if each)
        ]
        assert found, f"no {sample} in /metrics"
        return sum(found)


@pytest.fixture(scope="module")
def served(tmp_path_factory: pytest.TempPathFactory) -> Iterator[Served]:
    folder = tmp_path_factory.mktemp("server")
    (folder / "naught.toml").write_text('[caches.flapping]\neviction = "lazy"\n')
    with server_process(folder, "--http-port", "0", "--config", str(folder / "naught.toml")) as server:
        yield Served(server, folder)


@contextlib.contextmanager
def load(server: ServerProcess) -> Iterator[None]:
    """Counters go up and down until the block ends."""
    is_over = threading.Event()

    def count() -> None:
        with server.connect() as peer:
            while not is_over.is_set():
                peer.call("apply", [b"%d" % place for place in range(100)], 1)
                peer.call("apply", [b"%d" % place for place in range(50, 100)], -1)
                peer.call("incr", b"busiest", 1_000)

    thread = threading.Thread(target=count)
    thread.start()
    try:
        yield
    finally:
        is_over.set()
        thread.join()


def whole(text: str) -> int:
    return int(text.replace(",", ""))


def test_the_page_and_its_headers_are_served(served: Served) -> None:
    for path, name in (("", "index.html"), ("page.css", "page.css"), ("page.js", "page.js")):
        headers, text = served.get(path)
        assert text == (PAGE / name).read_text("utf-8")
        assert {header: headers[header] for header in HEADERS if header != "Cache-Control"} == {
            header: value for header, value in HEADERS.items() if header != "Cache-Control"
        }
    headers, text = served.get("status.json")
    assert headers["Cache-Control"] == "no-store"
    assert len(text) <= STATUS_BYTES_MAX


def test_the_figures_move_under_load_and_agree_with_metrics(chromium: Browser, served: Served) -> None:
    process = served.process
    chromium.open(served.url)
    chromium.wait_figure("pid", str(process.process.pid))
    with load(process):
        wait_until(lambda: chromium.figures()["commands"] not in ("0", "–"), "there is a rate")
        totals = [0]

        def see_more() -> bool:
            rows = {row[0]: whole(row[2]) for row in chromium.rows("methods")}
            if rows.get("apply", 0) != totals[-1]:
                totals.append(rows["apply"])
            return len(totals) > 4

        wait_until(see_more, "the commands become more")
        assert totals == sorted(totals)
        assert totals[-1] <= served.metric('naught_commands_total{method="apply"}')
        wait_until(lambda: chromium.figures()["turns-p99"] != "–", "turns are measured")
        figures = chromium.figures()
        assert figures["turns-p99"].startswith("< ")
    # Now that nothing happens, both say the same.
    with process.connect() as holder:
        holder.call("hello", {"session": True, "name": "holder of <b>gpu</b>"})
        assert holder.call("acquire", [[b"gpu", 2, 4]])[0] is True
        chromium.wait_figure("holds", "1")
        left = 50 + len(("busiest", "gpu"))
        wait_until(lambda: chromium.figures()["counters"] == str(left), "the counters are those of the end")
        live = served.metric('cache_valid_entry_count{cache_name="default"}')
        raw = served.metric('cache_map_length{cache_name="default"}')
        figures = chromium.figures()
        assert (whole(figures["counters"]), whole(figures["raw-entries"])) == (live, raw)
        rows = {row[0]: whole(row[2]) for row in chromium.rows("methods")}
        assert rows["apply"] == served.metric('naught_commands_total{method="apply"}')
        assert rows["incr"] == served.metric('naught_commands_total{method="incr"}')
        assert whole(figures["open"]) == served.metric("naught_sessions")
        assert whole(figures["holds"]) == served.metric("naught_holds")
        assert figures["deviation"] == "0 %"
        evicted = served.metric('naught_cache_evictions_total{cache_name="default"}')
        assert any(note.startswith(f"{evicted:,.0f} since the start. All") for note in chromium.texts(".chart .note"))
        wait_until(lambda: len(chromium.rows("largest")) == 10, "the largest counters were looked for")
        assert chromium.rows("largest")[0][1] == "busiest"
        wait_until(lambda: len(chromium.rows("sessions")) == 1, "the sessions with holds were looked for")
        ((_, name, address, connection, _, _, holds, held),) = chromium.rows("sessions")
        assert (name, connection, holds, held) == ("holder of <b>gpu</b>", "connected", "1", "gpu× 2")
        assert address == "127.0.0.1"
    wait_until(
        lambda: chromium.rows("sessions") == [] or "lost" in str(chromium.rows("sessions")), "it is seen to leave"
    )
    assert chromium.texts("#cache option") == ["default", "flapping"]
    assert chromium.complaints() == []


def test_it_goes_on_when_the_server_has_gone(chromium: Browser, tmp_path: Path) -> None:
    with server_process(tmp_path, "--http-port", "0") as server:
        chromium.open(Served(server, tmp_path).url)
        chromium.wait_condition("good")
    assert "The figures are of then." in chromium.wait_condition("gone")
