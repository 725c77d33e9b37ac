"""Makes the pictures of the pages of reports in docs/: measures for a while, and takes them with Chromium.

    .venv/bin/python tools/loadtest_screenshots.py [--rate 3000] [--folder docs] [--report run.json]

It starts a server and an open loop with three stages, and takes the page of its report. With --report it takes the
page of that report, and measures nothing. It needs chromium and chromium-driver, and what the tests need (`make test`
installs it). The pictures look best where the font Inter is installed (fonts-inter).

loadtest.png        a wide window, light
loadtest-dark.png   a phone, dark
"""

from __future__ import annotations

import argparse
import json
import sys
import tempfile
from pathlib import Path

ROOT = Path(__file__).resolve().parents[1]
sys.path.insert(0, str(ROOT / "tests"))

from naught_loadtest.__main__ import main as loadtest  # noqa: E402
from naught_loadtest.drivers.servers import naught_server  # noqa: E402
from naught_loadtest.page.document import render  # noqa: E402
from support.browser import open_browser  # noqa: E402

# Name -> width, height (0 for the whole page), pixels per CSS pixel, colours.
PICTURES = {
    "loadtest.png": (1400, 1420, 1.0, "light"),
    "loadtest-dark.png": (390, 2000, 1.5, "dark"),
}


def measured(folder: Path, rate: int) -> Path:
    """The report of a run against a server that is started for it."""
    report = folder / "report.json"
    stages = f"15s@{rate},15s@{2 * rate},15s@{rate}"
    with naught_server() as server:
        words = ["run", "--target", server.url, "--stages", stages, "--arrival", "poisson", "--seed", "1"]
        loadtest([*words, "--slo", "p99<5ms", "--slo", "errors<0.1%", "--json", str(report)])
    return report


def take(page: str, folder: Path) -> None:
    """Take the pictures of a page."""
    with tempfile.TemporaryDirectory() as profile, open_browser(Path(profile)) as browser:
        file = Path(profile) / "page.html"
        file.write_text(page, encoding="utf-8")
        browser.open(file.as_uri())
        browser.command("Emulation.setScrollbarsHidden", hidden=True)
        for name, (width, height, scale, scheme) in PICTURES.items():
            browser.scheme(scheme)
            browser.size(width, height, scale)
            browser.screenshot(folder / name)
            print(f"{folder / name}: {width} wide, {scheme}")
        complaints = browser.complaints()
        if complaints:
            raise SystemExit("\n".join(complaints))


def main() -> None:
    """See the module."""
    parser = argparse.ArgumentParser(description=(__doc__ or "").partition("\n")[0])
    parser.add_argument("--rate", type=int, default=3_000, help="of the first and last stage (default %(default)d)")
    parser.add_argument("--folder", type=Path, default=ROOT / "docs", help="where the pictures go (default docs)")
    parser.add_argument("--report", type=Path, help="a report of run, versus or search")
    arguments = parser.parse_args()
    with tempfile.TemporaryDirectory() as folder:
        report = arguments.report or measured(Path(folder), arguments.rate)
        take(render(json.loads(report.read_text(encoding="utf-8"))), arguments.folder)


if __name__ == "__main__":
    main()
