"""What the pages of all kinds of reports have: the head, verdicts, key figures, tables, and where it was measured.

Pure: no clock, no input or output.
"""

from __future__ import annotations

from collections.abc import Iterable, Mapping, Sequence
from importlib.resources import files
from typing import Any

from naught_loadtest.page.markup import Child, Markup, joined, style_of, tag

# Nothing may be loaded and no program runs; only the style sheet of the page itself holds.
POLICY = "default-src 'none'; style-src 'unsafe-inline'; img-src data:; base-uri 'none'; form-action 'none'"

# (good, slow or bad; the word; the sentence)
Verdict = tuple[str, str, str]


def page(title: str, subtitle: str, document: Mapping[str, Any], *body: Child) -> str:
    """A whole page."""
    sheet = (files("naught_loadtest.page") / "style.css").read_text(encoding="utf-8")
    head = tag(
        "head",
        tag("meta", charset="utf-8"),
        tag("meta", http_equiv="Content-Security-Policy", content=POLICY),
        tag("meta", name="viewport", content="width=device-width, initial-scale=1"),
        tag("title", title),
        style_of(sheet),
    )
    top = tag("header", tag("h1", title), tag("p", subtitle), tag("p", _moment(document)))
    content = tag("body", top, tag("main", *body), _footer())
    return f"<!DOCTYPE html>\n{tag('html', head, content, lang='en', xmlns='http://www.w3.org/1999/xhtml')}\n"


def _moment(document: Mapping[str, Any]) -> str:
    started = str(document.get("started_at", ""))
    when = f"{started[:10]} {started[11:19]} UTC" if started else "at an unknown time"
    host = document.get("host")
    return f"{when} on {host}" if host else when


def _footer() -> Markup:
    return tag(
        "footer",
        tag("p", "Made by naught-loadtest. Percentiles come from merged histograms and are never averaged."),
    )


def verdicts(entries: Iterable[Verdict]) -> Markup:
    """The verdicts of a report, one line each."""
    rows = [tag("li", tag("b", word), " ", sentence, class_=kind) for kind, word, sentence in entries]
    return tag("ul", *rows, class_="verdicts", aria_label="Verdicts")


def figures(entries: Iterable[tuple[str, str, str]]) -> Markup:
    """Key figures: (name, value, a small line below, which may be empty)."""
    boxes = []
    for name, value, small in entries:
        below = tag("dd", small, class_="small") if small else None
        boxes.append(tag("div", tag("dt", name), tag("dd", value), below))
    return tag("dl", *boxes, class_="figures")


def facts(rows: Iterable[tuple[str, Child]]) -> Markup:
    """A table of names and texts."""
    body = [tag("tr", tag("th", name, scope="row"), tag("td", value)) for name, value in rows if value]
    return tag("div", tag("table", tag("tbody", *body), class_="facts"), class_="table")


def table(columns: Sequence[str], rows: Iterable[Sequence[Child]], texts: int = 1) -> Markup:
    """A table of figures. The first `texts` columns are words."""
    head = [
        tag("th", name, scope="col", class_="text" if index < texts else None) for index, name in enumerate(columns)
    ]
    body = [
        tag("tr", *(tag("td", cell, class_="text" if index < texts else None) for index, cell in enumerate(row)))
        for row in rows
    ]
    return tag("div", tag("table", tag("thead", tag("tr", *head)), tag("tbody", *body)), class_="table")


def folded(summary: str, *content: Child) -> Markup:
    """What is shown when the reader asks for it."""
    return tag("details", tag("summary", summary), *content)


def origin(document: Mapping[str, Any], more: Iterable[tuple[str, Child]] = ()) -> Markup:
    """What was run where."""
    machine = document.get("machine") or []
    rows: list[tuple[str, Child]] = [
        ("command", tag("code", str(document.get("command", "")))),
        *more,
        ("host", str(document.get("host", ""))),
        ("started", str(document.get("started_at", ""))),
        ("machine", [joined(str(line), tag("br")) for line in machine]),
        ("report", f"{document.get('kind')}, schema {document.get('schema')}"),
    ]
    return joined(tag("h2", "What was run where"), facts(rows))
