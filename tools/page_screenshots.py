"""Makes the pictures of the page in docs/: starts a server, loads it for a while, and takes them with Chromium.

    .venv/bin/python tools/page_screenshots.py [--seconds 320] [--folder docs] [--url http://127.0.0.1:6481/]

The charts show five minutes, so the default fills them. With --url it takes the pictures of a server that runs
already, and loads nothing. It needs chromium and chromium-driver, and what the tests need (`make test` installs it).
The pictures look best where the font Inter is installed (fonts-inter).

page.png         a wide window with the charts, light
page-dark.png    a wide window with the lists, dark
page-phone.png   a phone, dark
"""

from __future__ import annotations

import argparse
import asyncio
import contextlib
import json
import math
import random
import subprocess
import sys
import tempfile
import threading
import time
from collections.abc import Iterator
from pathlib import Path

ROOT = Path(__file__).resolve().parents[1]
sys.path.insert(0, str(ROOT / "tests"))

import naught  # noqa: E402
from support.browser import open_browser  # noqa: E402
from support.server_process import server_process  # noqa: E402

# Name -> width, height, pixels per CSS pixel, colours, and the element that stands at the top of the window.
PICTURES = {
    "page.png": (1400, 1130, 1.0, "light", ""),
    "page-dark.png": (1400, 1130, 1.0, "dark", "largest-heading"),
    "page-phone.png": (360, 1300, 2.0, "dark", ""),
}

RATE = 6_000
"""Commands per second of the load harness, beside what the services below do."""

CONFIG = """
[caches.default]
max_counters = 200_000

[caches.flapping]
eviction = "lazy"
"""

CLIENTS = ("render", "encode", "import", "mail")


class Load:
    """What services do: views with a time to live, permits, a job that is waited for."""

    def __init__(self, url: str) -> None:
        self._url = url
        self._random = random.Random(1)
        self._started = time.monotonic()
        self._is_over = asyncio.Event()

    async def run(self, is_over: threading.Event) -> None:
        """Until it is over."""
        async with asyncio.TaskGroup() as group:
            for place in range(3):
                group.create_task(self._view(place))
            for place in range(8):
                host = f"{CLIENTS[place % 4]}-{place // 4 + 1}.example.org"
                group.create_task(self._hold(f"{host}:{4_000 + 137 * place}"))
            group.create_task(self._flap())
            group.create_task(self._wait_for_import())
            await asyncio.to_thread(is_over.wait)
            self._is_over.set()

    def _share(self) -> float:
        """How busy it is now, from 0 to 1."""
        age = time.monotonic() - self._started
        return 0.55 + 0.3 * math.sin(age / 31) + 0.15 * math.sin(age / 7)

    async def _pause(self, seconds: float) -> None:
        with contextlib.suppress(TimeoutError):
            async with asyncio.timeout(seconds):
                await self._is_over.wait()

    async def _view(self, place: int) -> None:
        async with naught.connect(self._url, name=f"web-{place + 1}.example.org:{3_100 + place}") as counters:
            while not self._is_over.is_set():
                pages = [int(self._random.paretovariate(0.6)) % 20_000 for _ in range(int(60 * self._share()))]
                await counters.apply([f"views:{page}" for page in pages], 1)
                for _ in range(int(20 * self._share())):
                    user = self._random.randrange(1 << 30)
                    await counters.incr(f"quota:{user}", ttl_ms=self._random.randrange(5_000, 40_000))
                await self._pause(0.05)

    async def _hold(self, name: str) -> None:
        async with naught.connect(self._url, name=name) as counters:
            while not self._is_over.is_set():
                async with counters.semaphore("gpu:a100", limit=5):
                    disk = f"disk:{self._random.randrange(3)}"
                    granted = await counters.acquire([(disk, self._random.randrange(1, 4), 100)])
                    await self._pause(self._random.uniform(4, 15))
                    await counters.release(granted.hold)
                await self._pause(self._random.uniform(0, 2))

    async def _flap(self) -> None:
        async with naught.connect(f"{self._url}/flapping", name="doors.example.org:2291") as counters:
            while not self._is_over.is_set():
                doors = [f"door:{place}" for place in range(int(3_000 * self._share()))]
                await counters.apply(doors, 1)
                await counters.apply(doors[: len(doors) * 9 // 10], -1)
                await self._pause(0.2)
                await counters.apply(doors[len(doors) * 9 // 10 :], -1)

    async def _wait_for_import(self) -> None:
        async with naught.connect(self._url, name="report.example.org:5120") as counters:
            await counters.incr("import-7", 40)
            waiting = asyncio.ensure_future(counters.wait_zero("import-7", timeout=None))
            await self._is_over.wait()
            await counters.decr("import-7", 40)
            await waiting


@contextlib.contextmanager
def loaded_server(folder: Path) -> Iterator[str]:
    """The address of the page of a server under load."""
    config = folder / "naught.toml"
    config.write_text(CONFIG)
    with server_process(folder, "--http-port", "0", "--config", str(config)) as server:
        http = json.loads((folder / "ports.json").read_text())["http"]
        is_over = threading.Event()
        thread = threading.Thread(target=lambda: asyncio.run(Load(f"naught://127.0.0.1:{server.port}").run(is_over)))
        thread.start()
        try:
            with harness(f"naught://127.0.0.1:{server.port}"):
                yield f"http://{http['host']}:{http['port']}/"
        finally:
            is_over.set()
            thread.join()


@contextlib.contextmanager
def harness(url: str) -> Iterator[None]:
    """Counters of requests that begin and end, from the load harness."""
    words = ["run", "--target", url, "--rate", str(RATE), "--keys", "50000", "--duration", "3600", "--no-ceiling"]
    process = subprocess.Popen(
        [sys.executable, "-m", "naught_loadtest", *words], stdout=subprocess.DEVNULL, stderr=subprocess.DEVNULL
    )
    try:
        yield
    finally:
        process.terminate()
        process.wait()


def take(url: str, seconds: float, folder: Path) -> None:
    """Leave the page open for so long, and take the pictures."""
    with tempfile.TemporaryDirectory() as profile, open_browser(Path(profile)) as browser:
        browser.open(url)
        browser.wait_condition("good")
        time.sleep(seconds)
        browser.command("Emulation.setScrollbarsHidden", hidden=True)
        for name, (width, height, scale, scheme, top) in PICTURES.items():
            browser.scheme(scheme)
            browser.size(width, height, scale)
            if not top:
                browser.run("scrollTo(0, 0)")
            else:
                browser.run("document.getElementById(arguments[0]).scrollIntoView()", top)
            browser.wait_condition("good")
            browser.screenshot(folder / name)
            print(f"{folder / name}: {width} wide, {scheme}")
        complaints = browser.complaints()
        if complaints:
            raise SystemExit("\n".join(complaints))


def main() -> None:
    """See the module."""
    parser = argparse.ArgumentParser(description=__doc__.partition("\n")[0])
    parser.add_argument(
        "--seconds", type=float, default=320.0, help="how long the page is open (default %(default)g)"
    )
    parser.add_argument("--folder", type=Path, default=ROOT / "docs", help="where the pictures go (default docs)")
    parser.add_argument("--url", help="the page of a server that runs already")
    arguments = parser.parse_args()
    if arguments.url:
        take(arguments.url, arguments.seconds, arguments.folder)
        return
    with tempfile.TemporaryDirectory() as folder, loaded_server(Path(folder)) as url:
        take(url, arguments.seconds, arguments.folder)


if __name__ == "__main__":
    main()
