"""Chromium, driven by selenium, as a reader of a page has it: what is on it, what it says to a screen reader, keys.

    with open_browser(folder) as browser:
        browser.open(server.url)
        browser.wait_text("commands", "1,000")      # until the element with data-figure="commands" says so

Every page notes violations of its Content-Security-Policy, errors of its scripts and the announcements of its live
region; `complaints` has the first two, with what Chromium wrote to its console.

Pages that are opened after `take_clock` have a clock that can be moved on: `pass_time` moves it, and a test that
waits for something moves it to the page's next timer, so that no test waits for the second between two questions.
"""

from __future__ import annotations

import contextlib
import os
import shutil
from collections.abc import Callable, Iterator
from pathlib import Path
from typing import Any, Final

import pytest

from support.server_process import wait_until

PROGRAMS: Final = ("chromium", "chromedriver")
FLAGS: Final = (
    "--headless=new",
    "--no-sandbox",
    "--disable-gpu",
    "--disable-quic",
    "--no-first-run",
    "--disable-background-networking",
    "--disable-component-update",
    "--disable-sync",
)
SCRIPT_S_MAX: Final = 30

# Runs before anything of a page does.
WATCH: Final = """
window.noted = { complaints: [], announced: [] };
document.addEventListener("securitypolicyviolation", (event) =>
  window.noted.complaints.push(`policy: ${event.violatedDirective} ${event.blockedURI}`));
window.addEventListener("error", (event) => window.noted.complaints.push(`error: ${event.message}`));
window.addEventListener("unhandledrejection", (event) => window.noted.complaints.push(`rejection: ${event.reason}`));
document.addEventListener("DOMContentLoaded", () => {
  for (const region of document.querySelectorAll("[role=status]"))
    new MutationObserver(() => window.noted.announced.push(region.textContent))
      .observe(region, { childList: true, characterData: true, subtree: true });
});
"""

# The same for the clock and the timers of a page. Time passes as usual, and beside that in leaps: `pass` fires what
# comes due meanwhile, each at its time; `skip` leaps to the next timer, unless an answer is awaited, whose time would
# seem long. `asked` counts questions.
CLOCK: Final = """
window.leaps = (() => {
  const [set, clear, ask] = [setTimeout.bind(window), clearTimeout.bind(window), fetch.bind(window)];
  const realNow = Date.now;
  const timers = new Map();
  let ahead = 0;
  let last = 0;
  const now = () => realNow() + ahead;
  const wind = (timer) => {
    clear(timer.real);
    timer.real = set(() => fire(timer), Math.max(0, timer.due - now()));
  };
  const stop = (id) => {
    if (timers.has(id)) clear(timers.get(id).real);
    timers.delete(id);
  };
  const fire = (timer) => {
    if (timer.every === null) stop(timer.id);
    else {
      timer.due += timer.every;
      wind(timer);
    }
    timer.run();
  };
  const start = (run, after, every) => {
    last += 1;
    timers.set(last, { id: last, run, due: now() + after, every });
    wind(timers.get(last));
    return last;
  };
  const next = () => [...timers.values()].reduce((one, other) => (one && one.due <= other.due ? one : other), null);
  const pass = (milliseconds) => {
    const end = now() + milliseconds;
    for (let timer = next(); timer && timer.due <= end; timer = next()) {
      ahead += Math.max(0, timer.due - now());
      fire(timer);
    }
    ahead += Math.max(0, end - now());
    timers.forEach(wind);
  };
  const skip = () => {
    if (!leaps.awaited && next()) pass(Math.max(0, next().due - now()));
  };
  const leaps = { asked: 0, awaited: 0, pass, skip };
  Date.now = now;
  window.setTimeout = (run, after = 0) => start(run, after, null);
  window.setInterval = (run, every) => start(run, every, every);
  window.clearTimeout = window.clearInterval = stop;
  window.fetch = async (...given) => {
    leaps.asked += 1;
    leaps.awaited += 1;
    try {
      const answer = await ask(...given);
      return new Response(await answer.blob(), { status: answer.status });
    } finally {
      leaps.awaited -= 1;
    }
  };
  return leaps;
})();
"""


def need_browser() -> None:
    """Skip where there is no Chromium, but fail in CI."""
    missing = [program for program in PROGRAMS if shutil.which(program) is None]
    try:
        import selenium  # noqa: F401
    except ImportError:
        missing.append("selenium")
    if missing:
        if os.environ.get("CI") == "true":
            pytest.fail(f"{missing[0]} is not installed, and in CI it must be")
        pytest.skip(f"{missing[0]} is not installed")


class Browser:
    """One window with one page."""

    def __init__(self, driver: Any) -> None:
        self.driver = driver
        self._has_clock = False

    # Going somewhere.

    def open(self, url: str) -> None:
        """Load a page, in a window of a usual size and light, without what was noted about the page before."""
        self.size(1280, 900)
        self.scheme("light")
        self.driver.get("about:blank")
        self.driver.get_log("browser")
        self.driver.get(url)

    def size(self, width: int, height: int, scale: float = 1) -> None:
        """The size of the window in CSS pixels. Chromium's own windows cannot be as narrow as a phone."""
        metrics = {"width": width, "height": height, "deviceScaleFactor": scale, "mobile": False}
        self.command("Emulation.setDeviceMetricsOverride", **metrics)

    def scheme(self, scheme: str, *, motion: str = "no-preference") -> None:
        """What the reader prefers: light or dark, and with `motion="reduce"` little of it."""
        features = {"prefers-color-scheme": scheme, "prefers-reduced-motion": motion}
        named = [{"name": name, "value": value} for name, value in features.items()]
        self.command("Emulation.setEmulatedMedia", features=named)

    def command(self, name: str, **params: Any) -> Any:
        """A command of the DevTools protocol."""
        return self.driver.execute_cdp_cmd(name, params)

    # The clock of the page.

    def take_clock(self) -> None:
        """Have the clock of each page that is opened from now on."""
        self.command("Page.addScriptToEvaluateOnNewDocument", source=CLOCK)
        self._has_clock = True

    def pass_time(self, seconds: float) -> None:
        """Let so much time pass at once."""
        self.run("leaps.pass(1000 * arguments[0])", seconds)

    def questions(self) -> int:
        """How often the page has asked its server for figures."""
        found: int = self.run("return leaps.asked")
        return found

    # Looking.

    def run(self, program: str, *arguments: Any) -> Any:
        """The value of the JavaScript `program`, the body of a function; `arguments` are its `arguments`. In texts,
        blanks that keep a number and its unit together are blanks."""
        return _with_blanks(self.driver.execute_script(program, *arguments))

    def run_module(self, program: str, *arguments: Any) -> Any:
        """The same with `page`, the module page.js, which has run already."""
        body = (
            "const finish = arguments[arguments.length - 1];"
            "import(new URL('page.js', location.href).href).then((page) => {" + program + "})"
            ".then((value) => finish({ value }), (error) => finish({ error: String(error) }));"
        )
        found = self.driver.execute_async_script(body, *arguments)
        assert "error" not in found, found["error"]
        return _with_blanks(found["value"])

    def text(self, selector: str) -> str:
        """The text of the only element that matches."""
        found = self.texts(selector)
        assert len(found) == 1, f"{len(found)} elements match {selector}"
        return found[0]

    def texts(self, selector: str) -> list[str]:
        """The texts of all elements that match."""
        found: list[str] = self.run(
            "return [...document.querySelectorAll(arguments[0])].map((each) => each.textContent)", selector
        )
        return found

    def figures(self) -> dict[str, str]:
        """All figures of the page by name."""
        found: dict[str, str] = self.run(
            "return Object.fromEntries([...document.querySelectorAll('[data-figure]')]"
            ".map((each) => [each.dataset.figure, each.textContent]))"
        )
        return found

    def rows(self, table: str) -> list[list[str]]:
        """The rows of the table with this id; the entries of a cell that is a list are joined by commas."""
        found: list[list[str]] = self.run(
            "const rows = [...document.getElementById(arguments[0]).tBodies[0].rows];"
            "const text = (node) => node.textContent;"
            "return rows.map((row) => [...row.cells].map((cell) =>"
            "cell.querySelector('li') ? [...cell.querySelectorAll('li')].map(text).join(', ') : text(cell)))",
            table,
        )
        return found

    def condition(self) -> tuple[str, str]:
        """What the page says about the server: (kind, text)."""
        kind, text = self.run(
            "return [document.body.dataset.condition, document.getElementById('condition').textContent]"
        )
        return kind, text.strip()

    def style(self, selector: str, name: str) -> str:
        """A computed style of the first element that matches."""
        found: str = self.run(
            "return getComputedStyle(document.querySelector(arguments[0])).getPropertyValue(arguments[1])",
            selector,
            name,
        )
        return found

    def announced(self) -> list[str]:
        """What a screen reader was told since the page was loaded."""
        found: list[str] = self.run("return window.noted.announced")
        return found

    def complaints(self) -> list[str]:
        """What went wrong in the page since it was loaded."""
        noted: list[str] = self.run("return window.noted.complaints")
        return noted + [entry["message"] for entry in self.driver.get_log("browser") if entry["level"] != "DEBUG"]

    # Waiting.

    def wait(self, happened: Callable[[], bool], what: str) -> None:
        """Until `happened` returns true."""

        def has_happened() -> bool:
            if happened():
                return True
            if self._has_clock:
                self.run("leaps.skip()")
            return False

        wait_until(has_happened, what)

    def wait_figure(self, name: str, text: str) -> None:
        """Until a figure says this."""
        seen = "nothing"

        def says() -> bool:
            nonlocal seen
            seen = self.figures().get(name, "nothing")
            return seen == text

        try:
            self.wait(says, f"{name} says {text}")
        except AssertionError as error:
            raise AssertionError(f"{error}; it says {seen}") from None

    def wait_condition(self, kind: str) -> str:
        """Until the server is said to be so. Returns what the page says."""
        self.wait(lambda: self.condition()[0] == kind, f"the page says {kind}")
        return self.condition()[1]

    # Keys.

    def press(self, *keys: str) -> None:
        """Press keys, one after another, wherever the focus is."""
        from selenium.webdriver.common.action_chains import ActionChains

        chain = ActionChains(self.driver)
        for key in keys:
            chain.send_keys(key)
        chain.perform()

    def focused(self) -> str:
        """The id of the element that has the focus; without an id, its text; "" for the page itself."""
        found: str = self.run(
            "const found = document.activeElement;"
            "return found === document.body ? '' : found.id || found.textContent.trim()"
        )
        return found

    def screenshot(self, file: Path) -> None:
        """What can be seen, as PNG."""
        assert self.driver.save_screenshot(str(file))


def _with_blanks(value: Any) -> Any:
    if isinstance(value, str):
        return value.replace("\xa0", " ")
    if isinstance(value, list):
        return [_with_blanks(each) for each in value]
    if isinstance(value, dict):
        return {_with_blanks(name): _with_blanks(each) for name, each in value.items()}
    return value


@contextlib.contextmanager
def open_browser(folder: Path) -> Iterator[Browser]:
    """A Chromium with an empty profile in `folder`."""
    from selenium import webdriver
    from selenium.webdriver.chrome.service import Service

    options = webdriver.ChromeOptions()
    for flag in (*FLAGS, f"--user-data-dir={folder / 'profile'}"):
        options.add_argument(flag)
    options.binary_location = shutil.which("chromium") or ""
    options.set_capability("goog:loggingPrefs", {"browser": "ALL"})
    # A driver that is named is not looked for, which would ask the network.
    service = Service(executable_path=shutil.which("chromedriver"), log_output=str(folder / "chromedriver.log"))
    driver = webdriver.Chrome(options=options, service=service)
    try:
        driver.set_script_timeout(SCRIPT_S_MAX)
        browser = Browser(driver)
        browser.command("Page.addScriptToEvaluateOnNewDocument", source=WATCH)
        yield browser
    finally:
        driver.quit()
