"""The pages of reports: well-formed, self-contained, whatever is in the report, and with nothing in it."""

from __future__ import annotations

import xml.etree.ElementTree as ET
from collections.abc import Callable
from html.parser import HTMLParser
from pathlib import Path
from typing import Any

import pytest

from naught_loadtest.page.document import render
from naught_loadtest.page.markup import Markup, number, style_of, tag
from naught_loadtest.page.pictures import SHADES, shade_of
from support.reports import run_report, search_report, versus_report

XHTML = "{http://www.w3.org/1999/xhtml}"
SVG = "{http://www.w3.org/2000/svg}"

HOSTILE = "<script>alert(1)</script>\"'&amp; --> ]]> \x00\x1b[31m \ud800 \u202e </style>"


def empty_run() -> dict[str, Any]:
    """A run in which nothing was answered."""
    return run_report("p99<1ms", "errors<1%", "rate>5", per_second=0)


def failed_run() -> dict[str, Any]:
    """A run in which all went wrong that can."""
    document = run_report("p99<1us", rate=300.0, errors=4, slow_second=3)
    document["invalid"] = ["the generator was late", "it was busy"]
    document["verification"] = {**document["verification"], "passed": False, "wrong": 2, "wrong_named": ["a:1 is 7"]}
    document["not_sent"], document["missed"] = 3, 4
    return document


def no_series() -> dict[str, Any]:
    return {**run_report(), "series": [], "verification": None}


def one_second() -> dict[str, Any]:
    return run_report(seconds=1, per_second=1, rate=1.0)


def staged() -> dict[str, Any]:
    document = run_report(rate=300.0)
    document["plan"] = {**document["plan"], "stages": [[4.0, 300.0], [6.0, 900.0]]}
    return document


def merged_run() -> dict[str, Any]:
    document = run_report()
    names = ("host", "started_at", "elapsed_s", "throughput_per_s", "command")
    return {**document, "merged": [{name: document[name] for name in names}] * 2}


def no_peer() -> dict[str, Any]:
    document = versus_report()
    runs = [run for run in document["runs"] if run["contender"] == "naught"]
    return {**document, "ratios": [], "best_evicting": {}, "runs": runs, "versions": {}}


def no_rounds() -> dict[str, Any]:
    return {**versus_report(), "ratios": [], "best_evicting": {}, "runs": [], "failures": ["naught: it ended"]}


def no_probes() -> dict[str, Any]:
    return {**search_report(found=False), "probes": []}


def unanswered_probes() -> dict[str, Any]:
    document = search_report(found=False)
    for probe in document["probes"]:
        probe["response_ns"] = {"p50": None, "p99": None, "max": None}
        probe["invalid"] = ["late"]
    return {**document, "generator_limited": True}


PAGES: dict[str, Callable[[], dict[str, Any]]] = {
    "closed": run_report,
    "open": lambda: run_report("p99<2ms", "p99.9<5ms", "errors<1%", "rate>100", rate=300.0, per_second=1_100),
    "long": lambda: run_report(seconds=130, per_second=20),
    "empty": empty_run,
    "failed": failed_run,
    "no series": no_series,
    "one second": one_second,
    "staged": staged,
    "merged": merged_run,
    "versus": versus_report,
    "versus, spoiled": lambda: versus_report(spoiled=True),
    "versus, no peer": no_peer,
    "versus, no rounds": no_rounds,
    "search": search_report,
    "search, not found": lambda: search_report(found=False),
    "search, no probes": no_probes,
    "search, unanswered": unanswered_probes,
}


def parsed(text: str) -> ET.Element:
    """The page as an XML parser reads it."""
    assert text.startswith("<!DOCTYPE html>\n")
    return ET.fromstring(text.partition("\n")[2])


class Reader(HTMLParser):
    """The page as an HTML parser reads it: its elements, their attributes, its text."""

    def __init__(self, text: str) -> None:
        super().__init__()
        self.elements: list[tuple[str, dict[str, str | None]]] = []
        self.text: list[str] = []
        self.feed(text)
        self.close()

    def handle_starttag(self, tag: str, attrs: list[tuple[str, str | None]]) -> None:
        self.elements.append((tag, dict(attrs)))

    def handle_data(self, data: str) -> None:
        self.text.append(data)


@pytest.mark.parametrize("name", PAGES)
def test_a_page_is_well_formed_and_loads_nothing(name: str) -> None:
    text = render(PAGES[name]())
    root = parsed(text)
    assert root.tag == f"{XHTML}html"
    elements = Reader(text).elements
    # Both parsers see the same elements, so no browser will repair the page into another one.
    assert [element.tag.rpartition("}")[2] for element in root.iter()] == [
        {"viewbox": "viewBox"}.get(found, found) for found, _ in elements
    ]
    assert not {found for found, _ in elements} & {"script", "link", "img", "iframe", "object", "embed", "form", "a"}
    for _, attributes in elements:
        assert not {"href", "src", "srcset", "action", "data", "xlink:href"} & set(attributes)
        assert not [attribute for attribute in attributes if attribute.startswith("on")]
    assert "url(" not in text
    assert "@import" not in text
    assert "http" not in text.replace("http://www.w3.org/1999/xhtml", "").replace(
        "http://www.w3.org/2000/svg", ""
    ).replace("http-equiv", "")


@pytest.mark.parametrize("name", PAGES)
def test_what_is_drawn_lies_in_its_frame(name: str) -> None:
    for plot in parsed(render(PAGES[name]())).iter(f"{SVG}svg"):
        for path in plot.iter(f"{SVG}path"):
            numbers = "".join(each if each.isdigit() or each in ".-e" else " " for each in path.get("d", ""))
            assert all(-1 <= float(each) <= 1001 for each in numbers.split()), path.get("d")


@pytest.mark.parametrize("name", PAGES)
def test_every_chart_has_a_title_axes_and_a_text_for_a_screen_reader(name: str) -> None:
    root = parsed(render(PAGES[name]()))
    for figure in root.iter(f"{XHTML}figure"):
        assert figure.findtext(f".//{XHTML}h3")
        for plot in figure.iter(f"{SVG}svg"):
            if plot.get("role") != "img":
                continue
            assert plot.findtext(f"{SVG}title")
            assert plot.findtext(f"{SVG}desc")
            classes = [span.get("class", "").split()[0] for span in figure.iter(f"{XHTML}span")]
            assert classes.count("x") >= 2
            assert classes.count("y") >= 2
            assert (
                len([axis for axis in figure.iter(f"{XHTML}p") if (axis.get("class") or "").startswith("axis")]) == 2
            )


def poisoned(value: Any) -> Any:
    """Every text of a report, replaced by a hostile one where its meaning allows it."""
    if isinstance(value, dict):
        kept = {
            "kind",
            "histogram",
            "hdr",
            "text",
            "setting",
            "peer",
            "contender",
            "peer_setting",
            "best_evicting",
            "loop",
        }
        return {key: each if key in kept or key == "objectives" else poisoned(each) for key, each in value.items()}
    if isinstance(value, list):
        return [poisoned(each) for each in value]
    return HOSTILE if isinstance(value, str) else value


@pytest.mark.parametrize("name", ["open", "failed", "merged", "versus", "search"])
def test_hostile_texts_stay_texts(name: str) -> None:
    text = render(poisoned(PAGES[name]()))
    elements = Reader(text).elements
    assert "script" not in {found for found, _ in elements}
    assert [found for found, _ in elements].count("style") == 1
    shown = "".join(parsed(text).itertext())
    assert "<script>alert(1)</script>\"'&amp; --> ]]>" in shown
    assert "\x00" not in text
    assert "\x1b" not in text


def test_names_of_classes_of_errors_and_settings_stay_texts() -> None:
    document = run_report()
    document["failed"] = {HOSTILE: 3}
    assert "<script>" not in render(document)
    versus = versus_report()
    for entry in (*versus["runs"], *versus["ratios"]):
        entry["setting"] = HOSTILE
    versus["best_evicting"] = {HOSTILE: "redis-lua"}
    for ratio in versus["ratios"]:
        ratio["peer_setting"] = HOSTILE
    assert "<script>" not in render(versus)


@pytest.mark.parametrize(
    ("name", "words"),
    [
        ("open", ["Verified", "No errors", "p99<2ms: met", "rate>100: met", "open loop, 300 requests/s due"]),
        ("failed", ["INVALID", "WRONG", "a:1 is 7", "40 full", "4 that the generator was too slow", "MISSED"]),
        ("empty", ["No request was answered", "there are no latencies", "Verified"]),
        ("no series", ["Unverified", "The run has no seconds to show."]),
        ("staged", ["4 s at 300/s, 6 s at 900/s"]),
        ("merged", ["Merged from"]),
        ("versus", ["of the best of the peer, redis-lua", "1.17x (1.11–1.23)", "naught 1.2.3"]),
        ("versus, spoiled", ["INVALID", "the generator was the limit"]),
        ("versus, no rounds", ["FAILED", "naught: it ended"]),
        ("search", ["12,000 requests/s: p99<1ms: met", "12k/s"]),
        ("search, not found", ["Not found"]),
        ("search, unanswered", ["No run of the search has latencies.", "8 of 8 runs were spoiled"]),
    ],
)
def test_what_a_page_says(name: str, words: list[str]) -> None:
    shown = "".join(parsed(render(PAGES[name]())).itertext())
    for word in words:
        assert word in shown


def test_a_page_says_where_it_comes_from() -> None:
    document = {**run_report(), "command": "naught-loadtest run --target naught://h", "host": "loader-1"}
    shown = "".join(parsed(render(document)).itertext())
    for word in ("naught-loadtest run --target naught://h", "loader-1", "2026-01-02", "naught 1.2.3", "schema 1"):
        assert word in shown


def test_the_cells_of_the_heat_map_hold_every_request() -> None:
    """The darkest cell has the most requests, and a cell with one request is seen."""
    assert [shade_of(count, 10_000) for count in (1, 10_000)] == [1, SHADES]
    assert [shade_of(count, 1) for count in (1,)] == [SHADES]
    shades = [shade_of(count, 5_000) for count in range(1, 5_001)]
    assert shades == sorted(shades)


def test_other_kinds_have_no_page() -> None:
    with pytest.raises(ValueError, match="kind"):
        render({"kind": "bars"})


def test_markup_is_escaped_unless_it_is_markup() -> None:
    assert tag("p", "<b>", Markup("<br />"), 'a"b', title="'\"<") == (
        '<p title="&#x27;&quot;&lt;">&lt;b&gt;<br />a&quot;b</p>'
    )
    assert [number(value) for value in (1.0, 0.126, -0.001, 1000.0)] == ["1", "0.13", "0", "1000"]
    with pytest.raises(ValueError, match="style sheet"):
        style_of("a > b { } </style>")


@pytest.mark.slow
def test_in_chromium_nothing_overflows_and_nothing_is_refused(tmp_path: Path) -> None:
    from support.browser import need_browser, open_browser

    need_browser()
    with open_browser(tmp_path) as browser:
        for name, report in PAGES.items():
            file = tmp_path / "page.html"
            file.write_text(render(report()), encoding="utf-8")
            browser.open(file.as_uri())
            for width in (320, 360, 800, 1400):
                browser.size(width, 900)
                assert browser.run("return document.documentElement.scrollWidth") <= width, (name, width)
                assert browser.run(OVERLAPS) == [], (name, width)
            assert browser.complaints() == [], name


# The labels of one axis that lie over one another, and those that leave their card.
OVERLAPS = """
const found = [];
for (const figure of document.querySelectorAll("figure")) {
  const card = figure.getBoundingClientRect();
  for (const axis of ["x", "y"]) {
    const labels = [...figure.querySelectorAll(`.plot .${axis}`)].filter((each) => each.offsetParent);
    const boxes = labels.map((each) => each.getBoundingClientRect());
    boxes.forEach((box, place) => {
      if (box.left < card.left || box.right > card.right) found.push(`${labels[place].textContent} leaves its card`);
      for (const [other, next] of boxes.entries())
        if (other > place && box.left < next.right && next.left < box.right
            && box.top < next.bottom && next.top < box.bottom)
          found.push(`${labels[place].textContent} and ${labels[other].textContent}`);
    });
  }
}
return found;
"""
