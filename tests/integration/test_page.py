"""The page of the server, in Chromium, against a server whose status.json the test writes.

`test_page_served.py` has the same page against a real server.
"""

from __future__ import annotations

import copy
import json
import re
from collections.abc import Iterator
from itertools import pairwise
from typing import Any

import pytest

from support.browser import Browser, need_browser, open_browser
from support.server_process import wait_until
from support.status_server import (
    REASONS,
    Status,
    StatusServer,
    add_durations,
    cache,
    session,
    status,
    step,
)

pytestmark = pytest.mark.slow

# Chromium writes these to its console when there is no answer, whatever a page does.
NO_ANSWER = ("net::ERR_CONNECTION", "net::ERR_EMPTY_RESPONSE", "the server responded with a status of")

HOSTILE = [
    "<img src=x onerror=alert(1)>",
    "</td><script>alert(1)</script>",
    "&lt;b&gt; &amp;",
    "__proto__",
    "constructor",
    "javascript:alert(1)",
    "{{7*7}} ${7*7}",
    "a\x1b[2Jb",
    "line\nbreak\ttab",
    "\u202eevil\u2066",
    "Z\u0300\u0301\u0302\u0303\u0304\u0305\u0306\u0307\u0308\u0309" * 10,
    "\\xff\\xfe",
    "   ",
    "長い鍵" * 60,
    "k" * 512,
]


def spelled(text: str) -> str:
    """A hostile text as the page has it."""
    return (
        text.replace("\x1b", "\\x1b")
        .replace("\n", "\\x0a")
        .replace("\t", "\\x09")
        .replace("\u202e", "\\u{202e}")
        .replace("\u2066", "\\u{2066}")
    )


@pytest.fixture(scope="module")
def chromium(tmp_path_factory: pytest.TempPathFactory) -> Iterator[Browser]:
    need_browser()
    with open_browser(tmp_path_factory.mktemp("browser")) as browser:
        browser.take_clock()
        yield browser


@pytest.fixture
def server() -> Iterator[StatusServer]:
    with StatusServer() as server:
        yield server


@pytest.fixture
def page(chromium: Browser, server: StatusServer) -> Iterator[Browser]:
    """The page, with the first figures on it. In the end nothing may have gone wrong in it, and it may have asked the
    server for nothing but what it is for."""
    chromium.open(server.url)
    chromium.wait_figure("pid", "4711")
    yield chromium
    complaints = [each for each in chromium.complaints() if not any(text in each for text in NO_ANSWER)]
    assert complaints == []
    assert {method for method, _ in server.requests} == {"GET"}
    assert {path for _, path in server.requests} == {"/", "/page.css", "/page.js", "/status.json"}


def busy(known: Status) -> Status:
    """A second later, with figures everywhere."""
    step(
        known,
        methods={"incr": 30_000, "decr": 12_000, "apply": 345},
        errors=7,
        received_bytes=3 << 20,
        sent_bytes=1 << 20,
    )
    known["totals"] |= {"connections": 52, "connections_accepted": 1_204, "log_lines_dropped": 3}
    add_durations(known["turns"], 100, 98)
    add_durations(known["turns"], 900, 2)
    add_durations(known["gc_pauses"], 3_000)
    add_durations(known["loop_lag"], 40, 100)
    known["memory"] = {"resident_bytes": 300 << 20, "table_bytes": 62_000_000, "limit_bytes": 512 << 20}
    known["sweeper"] |= {"steps": 95, "entries": 2_400, "seconds": 0.012, "failures": 1}
    known["caches"][0] |= {
        "counters": 1_000_000,
        "raw_entries": 1_010_000,
        "deviation": 0.01,
        "table_bytes": 62_000_000,
        "load": 0.5,
        "max_counters": 2_000_000,
        "deadlines": 77,
        "evictions": {reason: 100 * place for place, reason in enumerate(REASONS, 1)},
        "backlog": {"expired": 6_000, "zeros": 4_000, "cleared": 5},
        "top": {"age_s": 2.34, "counters": [["views:a", 2**63 - 1], ["views:b", 2**53 + 1], ["views:c", 12]]},
    }
    known["sessions"] |= {"open": 60, "connected": 58, "opened": 99, "holds": 7, "parked": 4, "parked_keys": 5}
    known["sessions"]["listed"] = [
        session(3, name="worker:1", holds=5, held=[["gpu", 3], ["disk", 2**62]], commands=1_234, age_s=3_725.0),
        session(9, name="worker:2", connected=False, address="10.0.0.7"),
        session(
            11,
            name="late:3",
            waits=[
                {"for": "room", "keys": ["gpu", "disk"], "since_s": 1.25},
                {"for": "zero", "keys": ["import-7"], "since_s": 61.0},
            ],
        ),
    ]
    return known


# ---------------------------------------------------------------------------------------------------------- figures


def test_the_figures_agree_with_the_json(page: Browser, server: StatusServer) -> None:
    server.show(busy(status()))
    page.wait_figure("commands", "42,345")
    expected = {
        "version": "0.1.0",
        "pid": "4711",
        "uptime": "11 s",
        "runs": "compiled, on uvloop",
        "commands": "42,345",
        "errors": "7.0",
        "turns-p50": "< 128 µs",
        "turns-p99": "< 1.02 ms",
        "resident": "300 MiB",
        "tables": "59.1 MiB",
        "live": "1,000,000",
        "backlog": "10,005",
        "swept": "2,400",
        "pause-longest": "< 4.1 ms",
        "pause-p50": "< 4.1 ms",
        "lag-p50": "< 64 µs",
        "lag-p99": "< 64 µs",
        "counters": "1,000,000",
        "raw-entries": "1,010,000",
        "deviation": "1.0 %",
        "connections": "52",
        "accepted": "1,204",
        "received": "3 MiB/s",
        "sent": "1 MiB/s",
        "log-lines-dropped": "3",
        "eviction": "eager",
        "deadlines": "77",
        "cache-tables": "59.1 MiB",
        "load": "50 %",
        "backlog-expired": "6,000",
        "backlog-zeros": "4,000",
        "backlog-cleared": "5",
        "open": "60",
        "connected": "58",
        "opened": "99",
        "holds": "7",
        "parked": "4",
        "parked-keys": "5",
        "tuner-mode": "on",
        "tuner-rules": "2",
        "tuner-changes": "nothing",
        "sweeper-budget": "10 % of the time",
        **{f"evictions-{reason}": f"{100 * place}" for place, reason in enumerate(REASONS, 1)},
    }
    assert page.figures() == expected
    assert page.rows("largest") == [
        ["1", "views:a", "9,223,372,036,854,775,807"],
        ["2", "views:b", "9,007,199,254,740,993"],
        ["3", "views:c", "12"],
    ]
    assert "2.3 s" in page.text("#largest-note")
    assert page.rows("methods") == [
        ["incr", "30,000", "30,000"],
        ["decr", "12,000", "12,000"],
        ["apply", "345", "345"],
    ]
    assert page.rows("sessions") == [
        [
            "3",
            "worker:1",
            "127.0.0.1",
            "connected",
            "1 h 2 min",
            "1,234",
            "5",
            "gpu× 3, disk× 4,611,686,018,427,387,904",
        ],
        ["9", "worker:2", "10.0.0.7", "lost", "1.0 s", "0", "0", ""],
        ["11", "late:3", "127.0.0.1", "connected", "1.0 s", "0", "0", ""],
    ]
    assert "3 sessions of 60 listed" in page.text("#sessions-note")
    assert page.rows("waits") == [
        ["11", "late:3", "zero", "import-7", "1 min 1 s"],
        ["11", "late:3", "room", "gpu, disk", "1.2 s"],
    ]
    assert page.text("#waits-note") == "2 requests that wait are not listed."
    notes = page.texts(".chart .note")
    assert "The limit is 512 MiB. 62 bytes of tables a counter." in notes
    assert "The bound is 2,000,000; 50 % of it is used." in notes
    assert any(note.startswith("Keeps up: 95 steps per second, 1.2 % of the time") for note in notes)


def test_the_figures_move(page: Browser, server: StatusServer) -> None:
    known = status()
    paths = []
    for commands in (1_000, 2_500, 400):
        known["caches"][0]["counters"] += commands
        server.show(step(known, methods={"incr": commands}))
        page.wait_figure("commands", f"{commands:,}")
        paths.append(page.run("return document.querySelector('[data-chart=commands] .s1').getAttribute('d')"))
    assert len(set(paths)) == 3
    assert re.fullmatch(r"M[\d.]+ [\d.]+h0(L[\d.]+ [\d.]+){2}", paths[-1])
    words = page.run("return document.querySelector('[data-chart=counters]').getAttribute('aria-label')")
    assert words == "Counters, last 5 minutes. live: now 3,900, from 0 to 3,900; raw entries: now 0, from 0 to 0."


def test_two_answers_of_one_moment_are_one_sample(page: Browser, server: StatusServer) -> None:
    known = status()
    server.show(step(known, methods={"incr": 1_000}))
    page.wait_figure("commands", "1,000")
    before = server.asked()
    page.wait(lambda: server.asked() > before + 1, "it asked twice more")
    assert page.figures()["commands"] == "1,000"


def test_a_server_in_which_nothing_happens(page: Browser, server: StatusServer) -> None:
    server.show(step(status()))
    page.wait_figure("uptime", "11 s")
    figures = page.figures()
    assert (figures["commands"], figures["turns-p99"], figures["pause-longest"]) == ("0", "–", "–")
    assert page.text("#largest-note") == "There are no counters."
    assert page.text("#sessions-note") == "There are no sessions."
    assert page.text("#waits-note") == "No request waits."
    assert page.run("return [...document.querySelectorAll('main table.figures')].every((each) => each.hidden)")


def test_a_server_that_has_not_looked_for_the_largest_yet(page: Browser, server: StatusServer) -> None:
    server.show(step(status(caches=[cache(top=None, counters_exact=False, counters=5)])))
    page.wait(lambda: "not looked" in page.text("#largest-note"), "it says so")
    page.wait_figure("counters", "≤ 5")


def test_sessions_that_are_not_listed_yet(page: Browser, server: StatusServer) -> None:
    known = status()
    known["sessions"]["open"] = 3
    server.show(step(known))
    page.wait_figure("open", "3")
    assert page.text("#sessions-note") == "The server has not listed them yet."


@pytest.mark.parametrize(
    ("words", "text"),
    [
        ({}, "Keeps up: 10 steps per second, 1.0 % of the time; the last one 0.0 s ago."),
        ({"behind": True}, "Behind: 10 steps per second, 1.0 % of the time; the last one 0.0 s ago."),
        ({"last_step_age_s": 61.0}, "It stands still: no step, the last one 1 min 1 s ago."),
        (
            {"failures": 2, "behind": True},
            "Behind: 10 steps per second, 1.0 % of the time; the last one 0.0 s ago. 2 steps failed.",
        ),
    ],
    ids=["keeps-up", "behind", "stands-still", "failed"],
)
def test_what_the_sweeper_does(page: Browser, server: StatusServer, words: dict[str, Any], text: str) -> None:
    known = step(status())
    known["sweeper"] |= {"steps": 10, "seconds": 0.01, **words}
    server.show(known)
    page.wait_figure("commands", "0")
    assert text in page.texts(".chart .note")


def decision(**words: Any) -> dict[str, Any]:
    return {
        "age_ms": 61_000,
        "what": "changed",
        "rule": "burst-of-zeros",
        "setting": "sweep_budget_ms",
        "before": 1.0,
        "after": 4.0,
        "metric": "deviation",
        "figure": 0.20456,
        "threshold": 0.15,
        "cache": "default",
        "dry_run": False,
        **words,
    }


TUNED = {
    "mode": "dry-run",
    "rules": ["burst-of-zeros"],
    "changes": {"sweep_budget_ms": {"before": 1.0, "value": 4.0}},
    "decisions": [
        decision(),
        decision(age_ms=500, setting="gc_freeze", before=False, after=True, cache=None, dry_run=True),
    ],
}


def test_what_the_tuner_has_decided(page: Browser, server: StatusServer) -> None:
    assert page.text("#tuner-note") == "It has decided nothing yet."
    assert page.figures()["tuner-changes"] == "nothing"
    server.show(step(status(tuner=TUNED)))
    page.wait_figure("tuner-changes", "sweep_budget_ms 1 \u2192 4")
    figure = "deviation 0.205, threshold 0.15"
    assert page.rows("decisions") == [
        ["0.5 s", "changed (dry run)", "gc_freeze", "false \u2192 true", "burst-of-zeros", figure, "\u2013"],
        ["1 min 1 s", "changed", "sweep_budget_ms", "1 \u2192 4", "burst-of-zeros", figure, "default"],
    ]
    assert page.text("#tuner-note") == ""


def test_several_caches(page: Browser, server: StatusServer) -> None:
    assert page.run("return document.getElementById('cache-choice').hidden")
    names = ["default", "orders", *HOSTILE[:4]]
    caches = [cache(name, counters=10 * place, raw_entries=10 * place) for place, name in enumerate(names, 1)]
    known = status(caches=caches, caches_left_out=3)
    known["caches"][1]["top"]["counters"] = [["order:1", 4]]
    server.show(step(known))
    page.wait(lambda: len(page.texts("#cache option")) == len(names), "the caches are listed")
    assert page.texts("#cache option") == names
    assert page.text("#caches-left-out") == "and 3 more, which are left out here"
    page.wait_figure("counters", "10")
    page.run("document.getElementById('cache').focus()")
    page.press("o")
    page.wait_figure("counters", "20")
    assert page.text("#cache-name") == "orders"
    assert page.rows("largest") == [["1", "order:1", "4"]]
    assert page.run("return location.hash") == "#cache=orders"
    server.show(step(known))
    page.driver.refresh()
    page.wait_figure("counters", "20")
    # A name that an object of JavaScript has anyway is a cache as any other.
    page.run(
        "const choice = document.getElementById('cache'); choice.value = '__proto__';"
        "choice.dispatchEvent(new Event('change'))"
    )
    page.wait_figure("counters", "60")


def test_what_is_hostile_is_text(page: Browser, server: StatusServer) -> None:
    known = status()
    known["caches"][0]["top"]["counters"] = [[text, 5] for text in HOSTILE]
    known["sessions"]["listed"] = [
        session(
            number, name=text, address=text, held=[[text, 1]], waits=[{"for": "room", "keys": [text], "since_s": 1.0}]
        )
        for number, text in enumerate(HOSTILE, 1)
    ]
    known["sessions"]["open"] = len(HOSTILE)
    server.show(step(known, methods=dict.fromkeys(HOSTILE, 3)))
    page.wait(lambda: len(page.rows("largest")) == len(HOSTILE), "the keys are there")
    shown = [spelled(text) for text in HOSTILE]
    assert [row[1] for row in page.rows("largest")] == shown
    assert [row[1:3] for row in page.rows("sessions")] == [[text, text] for text in shown]
    assert [row[7] for row in page.rows("sessions")] == [f"{text}× 1" for text in shown]
    assert sorted(row[3] for row in page.rows("waits")) == sorted(shown)
    assert sorted(row[0] for row in page.rows("methods")) == sorted(shown)
    assert not page.run("return document.querySelectorAll('img, td script, b').length")
    for width in (360, 1400):
        page.size(width, 800)
        assert page.run("return document.documentElement.scrollWidth <= document.documentElement.clientWidth")


# -------------------------------------------------------------------------------------------------------- condition


def test_it_says_that_the_server_serves(page: Browser) -> None:
    assert page.wait_condition("good") == "Serving."
    assert page.announced() == [], "what is usual is not announced"


def hold_next_answer(page: Browser, server: StatusServer) -> None:
    """Until the page waits for an answer that does not come."""
    server.gate.clear()
    asked = server.asked()
    page.wait(lambda: server.asked() > asked, "a question is under way")


def gaps(page: Browser) -> int:
    path: str = page.run("return document.querySelector('[data-chart=commands] .gap').getAttribute('d')")
    return path.count("M")


def test_a_server_that_is_gone(page: Browser, server: StatusServer) -> None:
    known = status()
    server.show(step(known, methods={"incr": 1_234}))
    page.wait_figure("commands", "1,234")
    ink = page.style("[data-figure=commands]", "color")
    server.close()
    text = page.wait_condition("gone")
    assert re.fullmatch(
        r"No answer since \d\d:\d\d:\d\d, for \d+ s\. The connection failed\. The figures are of then\. .+", text
    )
    assert page.figures()["commands"] == "1,234", "the figures of then stay"
    assert page.style("[data-figure=commands]", "color") != ink, "but grey"
    assert page.driver.title == "No answer – naught"
    page.wait(lambda: gaps(page) == 1, "the gap is marked")
    assert page.announced() == [text.partition(",")[0] + ". The connection failed."], "once, however long it takes"
    assert "gap without figures" in page.run(
        "return document.querySelector('[data-chart=commands]').getAttribute('aria-label')"
    )
    server.open()
    server.show(step(known, seconds=8, methods={"incr": 8_000}))
    page.run("document.getElementById('retry').click()")
    page.wait_condition("good")
    assert page.style("[data-figure=commands]", "color") == ink
    server.show(step(known, methods={"incr": 77}))
    page.wait_figure("commands", "77")
    assert gaps(page) == 1, "which stays marked"
    assert page.announced()[1:] == ["The server is serving."]


def test_it_asks_less_and_less_often(page: Browser, server: StatusServer) -> None:
    """And it comes back by itself."""
    server.show_bytes(b"busy", code=503)
    text = page.wait_condition("gone")
    assert "It answers with status 503" in text
    asked = server.asked()
    page.wait(lambda: "Next attempt in" in page.condition()[1], "it says when")
    page.wait(lambda: server.asked() >= asked + 2, "it asks again")
    server.show(step(status()))
    page.wait_condition("good")


@pytest.mark.parametrize(
    "body",
    [b"", b"{", b"[]", b"{}", b"null", b"<html>", json.dumps(step(status(caches=None))).encode()],
    ids=["empty", "cut", "list", "nothing", "null", "html", "no-caches"],
)
def test_an_answer_that_cannot_be_read(page: Browser, server: StatusServer, body: bytes) -> None:
    server.show_bytes(body)
    assert "Its answer cannot be read" in page.wait_condition("gone")
    server.show(step(status()))
    page.run("document.getElementById('retry').click()")
    page.wait_condition("good")


def test_a_server_that_is_slow(page: Browser, server: StatusServer) -> None:
    page.wait_condition("good")
    hold_next_answer(page, server)
    page.pass_time(2.5)
    assert re.fullmatch(r"Slow\. Asked \d+ s ago, and no answer yet\.", page.wait_condition("slow"))
    assert page.announced() == ["The server is slow to answer."]
    late = json.dumps(step(status(), methods={"incr": 5})).encode()

    def answer_once() -> tuple[int, bytes]:
        server.gate.clear()  # else the answer to the next question, which comes at once, could hide this one
        return 200, late

    server.make = answer_once
    server.gate.set()
    page.wait(lambda: "The last answer took" in page.condition()[1], "it says how long it took")
    server.show(step(status(), seconds=2))
    server.gate.set()
    page.wait_condition("good")


def test_a_server_that_does_not_answer_at_all(page: Browser, server: StatusServer) -> None:
    hold_next_answer(page, server)
    page.pass_time(9)
    assert page.condition()[0] == "slow"
    page.pass_time(1.5)
    assert "Nothing came within 10 s" in page.wait_condition("gone")
    server.show(step(status()))
    server.gate.set()
    page.wait_condition("good")


def test_a_server_that_was_started_anew(page: Browser, server: StatusServer) -> None:
    known = step(status(), methods={"incr": 1_000_000})
    server.show(known)
    page.wait_figure("commands", "1,000,000")
    anew = status(pid=9, uptime_s=0.5, time_s=known["time_s"] + 3)
    server.show(anew)
    page.wait_figure("pid", "9")
    assert page.figures()["commands"] == "–", "what fell is no rate"
    page.wait(lambda: page.announced() != [], "it is announced")
    assert page.announced() == ["The server was started anew. The server is serving."]
    starts = "return document.querySelector('[data-chart=commands] .start').getAttribute('d')"
    assert page.run(starts).count("M") == 1
    server.show(step(anew, methods={"incr": 50}))
    page.wait_figure("commands", "50")


def test_figures_that_fall_are_a_new_start(page: Browser, server: StatusServer) -> None:
    """Also where the process has the number of the one before and has been up for longer than was seen."""
    known = step(status(), methods={"incr": 1_000_000})
    server.show(known)
    page.wait_figure("commands", "1,000,000")
    server.show(step(status(uptime_s=50.0, time_s=known["time_s"]), methods={"incr": 10}))
    page.wait_figure("uptime", "51 s")
    assert page.figures()["commands"] == "–"


@pytest.mark.parametrize(("state", "text"), [("draining", "Draining"), ("starting", "Starting")])
def test_the_state_of_the_server(page: Browser, server: StatusServer, state: str, text: str) -> None:
    server.show(step(status(state=state)))
    assert page.wait_condition("slow").startswith(text)
    assert page.announced() == [f"The server is {state}."]


def test_figures_that_stand_still(page: Browser, server: StatusServer) -> None:
    """The server answers, but always with the same."""
    assert "The figures stand still since" in page.wait_condition("slow")
    server.show(step(status()))
    page.wait_condition("good")


def test_another_version_asks_for_a_new_page(page: Browser, server: StatusServer) -> None:
    assert page.run("return document.getElementById('notice').hidden")
    server.show(step(status(version="9.9.9<b>", pid=5)))
    page.wait_figure("pid", "5")
    assert page.text("#notice") == "The server now runs version 9.9.9<b>; this page is of 0.1.0. Load it again."


def pass_some_time(page: Browser) -> None:
    """Really more of it than is between two questions: another page is in front, and its clock is Chromium's."""
    page.run("window.ticks = 0; setInterval(() => { window.ticks += 1 }, 500)")
    wait_until(lambda: page.run("return window.ticks") >= 3, "some time has passed")


def test_a_page_that_is_not_seen_does_not_ask(page: Browser, server: StatusServer) -> None:
    known = status()
    server.show(step(known, methods={"incr": 10}))
    page.wait_figure("commands", "10")
    hold_next_answer(page, server)
    asked = server.asked()
    window = page.driver.current_window_handle
    page.driver.switch_to.new_window("tab")
    try:
        server.show(step(known, seconds=100, methods={"incr": 1_000_000}))
        server.gate.set()
        pass_some_time(page)
        assert server.asked() == asked
    finally:
        page.driver.close()
        page.driver.switch_to.window(window)
    page.wait_figure("uptime", "1 min 51 s")
    assert page.figures()["commands"] == "–", "a mean over the time it was hidden is no rate of now"
    server.show(step(known, methods={"incr": 20}))
    page.wait_figure("commands", "20")
    assert page.condition() == ("good", "Serving.")


def test_a_page_that_was_opened_unseen_does_not_ask(page: Browser, server: StatusServer) -> None:
    page.run("document.getElementById('pause').click()")
    page.wait_condition("paused")
    asked, loaded = server.asked(), server.requests.count(("GET", "/page.js"))
    target = page.command("Target.createTarget", url=server.url, background=True)["targetId"]
    wait_until(lambda: server.requests.count(("GET", "/page.js")) > loaded, "the other page is loaded")
    pass_some_time(page)
    assert server.asked() == asked
    page.command("Target.closeTarget", targetId=target)


def test_a_pause(page: Browser, server: StatusServer) -> None:
    page.run("document.getElementById('pause').click()")
    assert re.fullmatch(r"Paused at \d\d:\d\d:\d\d\. The figures are of then\.", page.wait_condition("paused"))
    assert page.run("return document.getElementById('pause').getAttribute('aria-pressed')") == "true"
    asked = page.questions()
    page.pass_time(3)
    assert page.questions() == asked
    page.run("document.getElementById('pause').click()")
    page.wait_condition("good")


# --------------------------------------------------------------------------------------------------------- looking


def test_looking_back(page: Browser, server: StatusServer) -> None:
    known = status()
    for commands in (100, 200, 300, 400):
        server.show(step(known, methods={"incr": commands}))
        page.wait_figure("commands", str(commands))
    page.run("document.getElementById('look').focus()")
    page.press("\ue012", "\ue012")  # left, twice
    page.wait(lambda: page.figures()["commands"] in ("100", "200", "300"), "the figures are older")
    assert page.run("return document.getElementById('look').getAttribute('aria-valuetext')") == "2 s before"
    assert re.fullmatch(r"\d\d:\d\d:\d\d, 2 s before", page.text("#look-text"))
    page.press("\ue00c")  # escape
    page.wait_figure("commands", "400")
    assert page.text("#look-text") == "now"


def test_pointing_at_a_chart_looks_back(page: Browser, server: StatusServer) -> None:
    from selenium.webdriver.common.action_chains import ActionChains
    from selenium.webdriver.common.by import By

    server.show(step(status(), methods={"incr": 100}))
    page.wait_figure("commands", "100")
    chart = page.driver.find_element(By.CSS_SELECTOR, "[data-chart=turns]")
    ActionChains(page.driver).move_to_element(chart).perform()
    page.wait(lambda: "2 min" in page.text("#look-text"), "the middle is looked at")
    assert page.figures()["commands"] == "–", "of which there are no figures"
    for name in ("commands", "turns", "evictions-zero"):
        assert page.run(
            "return document.querySelector(arguments[0]).getAttribute('d')", f"[data-chart={name}] .cursor"
        )
    ActionChains(page.driver).move_to_element(page.driver.find_element(By.CSS_SELECTOR, "h1")).perform()
    page.wait_figure("commands", "100")


@pytest.mark.parametrize("width", [320, 360, 800, 1400, 2400])
def test_nothing_is_wider_than_the_window(page: Browser, server: StatusServer, width: int) -> None:
    server.show(busy(status(caches=[cache(), cache("c" * 64)], tuner=TUNED)))
    page.wait_figure("commands", "42,345")
    page.size(width, 800)
    wide = page.run(
        "const wide = document.documentElement.clientWidth;"
        "return [...document.querySelectorAll('body *:not(.unseen, .unseen *)')].filter((each) => {"
        "  const box = each.getBoundingClientRect();"
        "  const isOutside = box.width && (box.right > wide + 0.5 || box.left < -0.5);"
        "  return isOutside && !each.closest('svg, .stacked thead, .skip') })"
        ".map((each) => `${each.tagName} ${each.className} ${each.textContent.slice(0, 30)}`)"
    )
    assert wide == []
    assert page.run("return document.documentElement.scrollWidth") <= width
    # Texts are not cut either: what a box holds is not wider than the box.
    cut = page.run(
        "return [...document.querySelectorAll('dd, dt, td, th, h1, h2, h3, .note, button')].filter((each) =>"
        "  !each.closest('.stacked thead, .unseen') && each.scrollWidth > each.clientWidth + 1)"
        ".map((each) => `${each.tagName} ${each.textContent.slice(0, 40)}`)"
    )
    assert cut == []


CONTRAST = """
const channel = (value) => {
  const part = value / 255;
  return part <= 0.04045 ? part / 12.92 : ((part + 0.055) / 1.055) ** 2.4;
};
const light = ([red, green, blue]) => 0.2126 * channel(red) + 0.7152 * channel(green) + 0.0722 * channel(blue);
const numbers = (text) => text.match(/[\\d.]+/g).map(Number);
const ground = (node) => {
  for (; node; node = node.parentElement) {
    const found = numbers(getComputedStyle(node).backgroundColor);
    if (found.length < 4 || found[3] > 0) return found;
  }
  return [255, 255, 255];
};
const contrast = (node, word) => {
  const both = [numbers(getComputedStyle(node)[word]), ground(node)].map(light).sort((a, b) => a - b);
  return (both[1] + 0.05) / (both[0] + 0.05);
};
const isText = (node) => node.nodeType === Node.TEXT_NODE && node.data.trim();
const texts = [...document.querySelectorAll("body *")]
  .filter((each) => each.getClientRects().length && [...each.childNodes].some(isText));
const faint = (nodes, word, least) => nodes.filter((each) => contrast(each, word) < least)
  .map((each) => `${contrast(each, word).toFixed(2)} ${each.tagName} ${each.textContent.slice(0, 30)}`);
return [...faint(texts, "color", 4.5), ...faint([...document.querySelectorAll(".line")], "stroke", 3)];
"""


@pytest.mark.parametrize("scheme", ["light", "dark"])
def test_light_and_dark_have_contrast_enough(page: Browser, server: StatusServer, scheme: str) -> None:
    grounds = {}
    for each in ("light", "dark"):
        page.scheme(each)
        grounds[each] = page.style("body", "background-color")
    assert grounds["light"] != grounds["dark"]
    page.scheme(scheme)
    server.show(busy(status(caches=[cache(), cache("other")])))
    page.wait_figure("commands", "42,345")
    assert page.run(CONTRAST) == []
    server.close()
    page.wait_condition("gone")
    assert page.run(CONTRAST) == [], "also in figures that are old"


def test_nothing_moves_but_the_figures(page: Browser) -> None:
    """There is nothing that those who prefer little motion would have to be spared."""
    for motion in ("no-preference", "reduce"):
        page.scheme("light", motion=motion)
        moving = page.run(
            "return [...document.querySelectorAll('*')].map((each) => getComputedStyle(each)).filter((style) =>"
            "style.animationName !== 'none' || style.transitionDuration.replaceAll(/0s|[, ]/g, '')).length"
        )
        assert moving == 0


# ------------------------------------------------------------------------------------------- keyboard, screen reader


def test_all_can_be_reached_by_keys(page: Browser, server: StatusServer) -> None:
    server.show(step(status(caches=[cache(), cache("orders")])))
    page.wait(lambda: len(page.texts("#cache option")) == 2, "there is a choice of caches")
    page.run("document.body.focus()")
    seen = []
    for _ in range(7):
        page.press("\ue004")  # tab
        seen.append(page.focused())
        outline = page.run(
            "const style = getComputedStyle(document.activeElement);"
            "return style.outlineStyle !== 'none' && parseFloat(style.outlineWidth) >= 2"
        )
        assert outline or not seen[-1], f"the focus on {seen[-1]} cannot be seen"
    assert seen == ["Skip to the figures", "pause", "look", "cache", "status.json", "metrics", ""]


def test_the_link_to_the_figures_is_seen_when_it_has_the_focus(page: Browser) -> None:
    top = "return document.querySelector('.skip').getBoundingClientRect().top"
    assert page.run(top) < 0
    page.press("\ue004")  # tab
    assert page.focused() == "Skip to the figures"
    assert page.run(top) >= 0
    page.press("\ue007")  # enter
    assert page.focused() == "main"


def test_pausing_by_keys(page: Browser) -> None:
    page.press("\ue004", "\ue004", " ")
    page.wait_condition("paused")


def test_what_has_the_focus_is_not_below_the_bar(page: Browser, server: StatusServer) -> None:
    page.size(800, 500)
    page.run("window.scrollTo(0, document.body.scrollHeight); document.getElementById('look').focus()")
    look, bar = page.run(
        "return [document.getElementById('look').getBoundingClientRect().top,"
        "document.querySelector('.bar').getBoundingClientRect().bottom]"
    )
    assert look >= bar


def tree(page: Browser) -> list[tuple[str, str]]:
    """(role, name) of all that a screen reader is told of."""
    page.command("Accessibility.enable")
    nodes: list[dict[str, Any]] = page.command("Accessibility.getFullAXTree")["nodes"]
    page.command("Accessibility.disable")
    return [
        (node["role"]["value"], node.get("name", {}).get("value", ""))
        for node in nodes
        if not node.get("ignored") and "role" in node
    ]


@pytest.mark.parametrize("width", [360, 1280])
def test_what_a_screen_reader_is_told(page: Browser, server: StatusServer, width: int) -> None:
    page.size(width, 800)
    server.show(busy(status(caches=[cache(), cache("orders")])))
    page.wait_figure("commands", "42,345")
    found = tree(page)
    roles = [role for role, _ in found]
    for role in ("banner", "main", "contentinfo"):
        assert roles.count(role) == 1
    regions = [name for role, name in found if role == "region"]
    assert regions == [
        "Condition of the server",
        "Server",
        "Cache default",
        "Largest counters",
        "Commands by method",
        "Tuner",
        "Sessions",
        "Who waits",
    ]
    headings = [name for role, name in found if role == "heading"]
    assert headings[0] == "naught"
    assert set(regions[1:]) <= set(headings)
    charts = [name for role, name in found if role in ("image", "img")]
    assert len(charts) == 8 + len(REASONS)
    assert all("last 5 minutes" in name for name in charts)
    tables = [name for role, name in found if role == "table"]
    assert len(tables) == 5
    assert all(tables)
    assert roles.count("row") == 1 + 6 + 1 + 3 + 1 + 3 + 1 + 3 + 1 + 2
    assert roles.count("columnheader") == 3 + 3 + 3 + 8 + 5
    assert roles.count("rowheader") == 6 + 3 + 3 + 3 + 2
    for role, name in (("slider", "Look back"), ("combobox", "Show cache"), ("button", "Pause")):
        assert (role, name) in found
    assert roles.count("status") == 1
    levels = page.run("return [...document.querySelectorAll('h1, h2, h3')].map((each) => Number(each.tagName[1]))")
    assert levels[0] == 1
    assert levels.count(1) == 1
    assert all(after - before <= 1 for before, after in pairwise(levels))


def test_figures_that_move_are_not_read_out(page: Browser, server: StatusServer) -> None:
    known = status()
    for commands in (100, 200, 300):
        server.show(busy(step(known, methods={"get": commands})))
        page.wait_figure("uptime", f"{known['uptime_s']:.0f} s")
    assert page.announced() == []
    live = page.run(
        "return [...document.querySelectorAll('[aria-live], [role=status], [role=alert], output')].length"
    )
    assert live == 1


def test_a_selection_stays_where_nothing_changes(page: Browser, server: StatusServer) -> None:
    known = busy(status())
    server.show(known)
    page.wait_figure("commands", "42,345")
    page.run("getSelection().selectAllChildren(document.querySelector('#largest .key bdi'))")
    server.show(step(known, methods={"incr": 1}))
    page.wait_figure("commands", "1.0")
    assert page.run("return getSelection().toString()").strip() == "views:a"


# ------------------------------------------------------------------------------------------------------- the module


@pytest.fixture(scope="module")
def served_module() -> Iterator[StatusServer]:
    with StatusServer() as server:
        yield server


@pytest.fixture
def module(chromium: Browser, served_module: StatusServer) -> Browser:
    """A page whose module is asked, and which nothing changes: it is opened once for many tests."""
    if chromium.driver.current_url != served_module.url:
        chromium.open(served_module.url)
        chromium.wait_figure("pid", "4711")
    return chromium


MODULE = [
    ("whole", [[0, "0"], [1_234_567, "1,234,567"], [None, "–"], [2**60, "about 1,152,921,504,606,847,000"]]),
    ("perSecond", [[0, "0"], [0.25, "0.3"], [9.96, "10.0"], [10.4, "10"], [12_345.6, "12,346"], [None, "–"]]),
    (
        "bytes",
        [
            [0, "0 B"],
            [999, "999 B"],
            [1_024, "1 KiB"],
            [1_000, "0.977 KiB"],
            [123 << 20, "123 MiB"],
            [5 << 50, "5,120 TiB"],
        ],
    ),
    ("microseconds", [[1, "1 µs"], [999, "999 µs"], [1_024, "1.02 ms"], [2_500_000, "2.5 s"], [None, "–"]]),
    ("percent", [[0, "0 %"], [0.0123, "1.2 %"], [0.15, "15 %"], [9.5, "950 %"], [10, "10×"], [None, "–"]]),
    (
        "passed",
        [
            [0, "0.0 s"],
            [9.99, "9.9 s"],
            [10, "10 s"],
            [61, "1 min 1 s"],
            [3_725, "1 h 2 min"],
            [90_000_000, "1,041 d 16 h"],
        ],
    ),
    ("visible", [["a", "a"], ["\x00", "\\x00"], ["\u2028", "\\u{2028}"], ["\u200d", "\\u{200d}"], ["é", "é"]]),
]


@pytest.mark.parametrize(("name", "cases"), MODULE, ids=[name for name, _ in MODULE])
def test_texts(module: Browser, name: str, cases: list[list[Any]]) -> None:
    given = [value for value, _ in cases]
    assert module.run_module(
        f"return arguments[0].map((each) => page.{name}(each))".replace("arguments[0]", json.dumps(given))
    ) == [text for _, text in cases]


def buckets(**counts: int) -> list[int]:
    """Bucket 7 is `b7`."""
    found = [0] * 25
    for name, count in counts.items():
        found[int(name[1:])] = count
    return found


def test_percentiles_are_upper_ends_of_buckets(module: Browser) -> None:
    cases: list[tuple[list[int], float, Any]] = [
        (buckets(), 0.5, None),
        (buckets(b0=1), 0.99, 1),
        (buckets(b3=99, b7=1), 0.99, 8),
        (buckets(b3=98, b7=2), 0.99, 128),
        (buckets(b3=1, b7=1), 1, 128),
    ]
    given = json.dumps([[histogram, share] for histogram, share, _ in cases])
    assert module.run_module(f"return {given}.map(([histogram, share]) => page.quantile(histogram, share))") == [
        expected for _, _, expected in cases
    ]
    last = json.dumps(buckets(b24=1))
    assert module.run_module(f"return page.below(page.quantile({last}, 0.5))") == "> 8.39 s"


def test_scales_are_round(module: Browser) -> None:
    cases = [
        ([], 10, 10),
        ([11], 10, 20),
        ([39], 1, 40),
        ([0.5], 1, 1),
        ([79_000], 10, 80_000),
        ([100_001], 10, 200_000),
    ]
    given = json.dumps([[values, least] for values, least, _ in cases])
    assert module.run_module(f"return {given}.map(([values, least]) => page.linear(values, least).ticks[0])") == [
        most for _, _, most in cases
    ]
    assert module.run_module("return page.linear([300 * 2 ** 20], 1, 1024).ticks.map(page.bytes)") == [
        "512 MiB",
        "256 MiB",
        "0 B",
    ]
    assert module.run_module("return page.logarithmic([30, 900]).ticks") == [1_000, 100, 10]
    assert module.run_module("return page.logarithmic([30, 3000]).ticks") == [10_000, 100, 1]
    assert module.run_module("return page.logarithmic([1, 3000]).ticks") == [10_000, 100, 1]
    assert module.run_module("return page.logarithmic([1, 30000]).ticks") == [1_000_000, 1_000, 1]
    assert module.run_module("return page.logarithmic([30, Infinity]).ticks[0]") == 100_000_000
    assert module.run_module("return page.logarithmic([]).ticks.length") == 3


def test_lines_break_where_there_are_no_figures(module: Browser) -> None:
    samples = [{"at": at, "value": value} for at, value in ((0, 0), (1, 5), (2, None), (3, 10), (9, 10), (10, 10))]
    for sample in samples:
        sample["at"] = 290_000 + sample["at"] * 1_000  # type: ignore[operator]
    path = module.run_module(
        f"return page.line({json.dumps(samples)}, (sample) => sample.value, (value) => 1 - value / 10, 300000)"
    )
    assert path == "M290 100h0L291 50M293 0h0M299 0h0L300 0"


def test_gaps_and_a_clock_that_was_set_back(module: Browser) -> None:
    found = module.run_module(
        "const past = new page.History();"
        "for (const at of [1000, 2000, 8000, 9000]) past.add({ at }, at === 8000);"
        "const before = [past.gaps(9500), past.gaps(20000), past.sampleAt(4000, 9500)?.at,"
        "past.sampleAt(6000, 9500), past.sampleAt(20000, 20000).at];"
        "past.add({ at: 500 }, false);"
        "return [...before, past.samples.length, past.starts.length, past.gaps(600)]"
    )
    assert found == [[[2000, 8000]], [[2000, 8000], [9000, 20000]], 2000, None, 9000, 1, 0, []]


def test_five_minutes_are_kept(module: Browser) -> None:
    found = module.run_module(
        "const past = new page.History();"
        "for (let at = 1000; at <= 1000000; at += 1000) past.add({ at }, at % 100000 === 0);"
        "return [past.samples.length, past.samples[0].at, past.starts]"
    )
    assert found == [301, 700_000, [700_000, 800_000, 900_000, 1_000_000]]


def test_waiting_between_attempts(module: Browser) -> None:
    found = module.run_module("return [1, 2, 3, 4, 5, 50].map((failures) => page.backoff(failures, 1))")
    assert found == [1_000, 2_000, 4_000, 8_000, 15_000, 15_000]
    assert module.run_module("return page.backoff(3, 0)") == 2_000


@pytest.mark.parametrize(
    ("words", "is_new"),
    [
        ({}, False),
        ({"uptime_s": 20.0}, False),
        ({"pid": 1}, True),
        ({"uptime_s": 9.9}, True),
        ({"totals": {"commands": 4}}, True),
        ({"turns": {"count": 4}}, True),
    ],
    ids=["same", "later", "another-process", "up-for-less", "fewer-commands", "fewer-turns"],
)
def test_a_new_start_is_known_by_figures_that_fall(module: Browser, words: Status, is_new: bool) -> None:
    before = {"pid": 4_711, "uptime_s": 10.0, "totals": {"commands": 5}, "turns": {"count": 5}}
    after = {**before, **words}
    assert module.run_module(f"return page.isNewStart({json.dumps(before)}, {json.dumps(after)})") is is_new


def test_a_figure_that_is_missing_before_is_no_rate(module: Browser) -> None:
    """A cache that was left out of the list before, a method that was never called."""
    before = status()
    after = step(copy.deepcopy(before), methods={"get": 10})
    after["caches"].append(cache("new", evictions=dict.fromkeys(REASONS, 9)))
    found = module.run_module(
        f"const sample = page.sampleOf(5, {json.dumps(after)}, {json.dumps(before)});"
        "return [sample.commands, sample.methods.get('get'), sample.caches.get('new').evictions.get('zero'),"
        "sample.caches.get('default').evictions.get('zero'), sample.turns.p50]"
    )
    assert found == [10, 10, None, 0, None]
