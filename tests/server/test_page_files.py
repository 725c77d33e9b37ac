"""The files of the page, as text: what the Content-Security-Policy of the server allows, and nothing that goes
elsewhere. `tests/integration/test_page.py` runs them in a browser."""

from __future__ import annotations

import re
from html.parser import HTMLParser

import pytest

from support.status_server import PAGE

FILES = ("index.html", "page.css", "page.js")
FORBIDDEN = (
    *("innerHTML", "outerHTML", "insertAdjacentHTML", "document.write", "eval(", "Function(", ".style"),
    *("XMLHttpRequest", "sendBeacon", "WebSocket", "EventSource", "localStorage", "cookie", "method:"),
)
SVG = "http://www.w3.org/2000/svg"  # a name, which nothing asks for


class Elements(HTMLParser):
    """The elements of a document with their attributes."""

    def __init__(self, text: str) -> None:
        super().__init__()
        self.found: list[tuple[str, dict[str, str | None]]] = []
        self.feed(text)

    def handle_starttag(self, tag: str, attrs: list[tuple[str, str | None]]) -> None:
        self.found.append((tag, dict(attrs)))


def text_of(name: str) -> str:
    return (PAGE / name).read_text("utf-8")


def test_there_are_three_files_and_no_more() -> None:
    assert sorted(path.name for path in PAGE.iterdir()) == sorted(FILES)


@pytest.mark.parametrize("name", FILES)
def test_nothing_is_loaded_from_another_host(name: str) -> None:
    text = text_of(name).replace(SVG, "")
    assert not re.search(r"https?:|wss?:|//[\w.-]+\.\w|@import|url\(", text)


def test_the_document_has_no_inline_script_and_no_inline_style() -> None:
    elements = Elements(text_of("index.html")).found
    names = [name for name, _ in elements]
    assert names.count("script") == names.count("h1") == 1
    assert not {"style", "form", "iframe", "object", "embed", "base"} & set(names)
    for name, attributes in elements:
        assert not [each for each in attributes if each == "style" or each.startswith("on")], name
        if name == "script":
            assert attributes["src"] == "page.js"
    assert "</script>" in text_of("index.html").replace(" ", "")
    assert re.search(r"<script [^>]*></script>", text_of("index.html"))


def test_the_script_writes_text_and_asks_for_one_thing() -> None:
    text = text_of("page.js")
    assert [word for word in FORBIDDEN if word in text] == []
    assert re.findall(r"fetch\(([^,]*),", text) == ['"status.json"']


def test_ids_are_of_one_element_and_those_of_the_script_exist() -> None:
    elements = Elements(text_of("index.html")).found
    ids = [attributes["id"] for _, attributes in elements if "id" in attributes]
    assert len(ids) == len(set(ids))
    assert set(re.findall(r'byId\("([\w-]+)"\)', text_of("page.js"))) <= set(ids)
    named = [
        attributes[word]
        for _, attributes in elements
        for word in ("aria-labelledby", "aria-describedby", "for")
        if word in attributes
    ]
    assert set(named) <= set(ids)


def test_every_table_has_a_caption_and_every_head_a_scope() -> None:
    elements = Elements(text_of("index.html")).found
    names = [name for name, _ in elements]
    assert names.count("table") == names.count("caption") == names.count("thead")
    assert all(attributes.get("scope") == "col" for name, attributes in elements if name == "th")
