"""From the JSON of a report to its page.

Pure: no clock, no input or output.
"""

from __future__ import annotations

from collections.abc import Callable, Mapping
from typing import Any

from naught_loadtest.page import run, search, versus

KINDS: dict[str, Callable[[Mapping[str, Any]], str]] = {
    "run": run.render,
    "versus": versus.render,
    "search": search.render,
}


def render(document: Mapping[str, Any]) -> str:
    """The page of a report. ValueError for a kind that has none."""
    kind = document.get("kind")
    if kind not in KINDS:
        raise ValueError(f"a page is made of a report of the kind {', '.join(KINDS)}, not {kind!r}")
    return KINDS[kind](document)
