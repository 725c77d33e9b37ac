"""The figures and claims as parts of a page of Markdown: docs/zeros-figures.md has what one run printed.

A part stands between `<!-- NAME -->` and `<!-- end of NAME -->`. `write` replaces all parts, and a test compares
those of the page with what this module makes of the run's JSON.
"""

from __future__ import annotations

from pathlib import Path
from typing import Any

from naught_loadtest.zeros import claims, table
from naught_loadtest.zeros.figures import Figures, Place
from naught_loadtest.zeros.maps import TRACKED, UNTRACKED


def parts(figures: Figures, heading: list[str]) -> dict[str, list[str]]:
    """The lines of each part, by its name."""
    return {
        "conditions": [f"- {line}" for line in heading],
        "int": _work(figures, UNTRACKED),
        "Fraction": _work(figures, TRACKED),
        "allocations": _markdown(table.allocation_rows(figures)),
        "guard": _markdown(table.guard_rows(figures.guard)),
        "claims": _claims(figures),
    }


def need_marks(path: str) -> None:
    """Before anything is measured: ValueError if there is no such page, or it lacks a part."""
    if not Path(path).is_file():
        raise ValueError(f"there is no page {path}: it is written between marks that it has")
    _replaced(path, parts(Figures(), []))


def write(path: str, figures: Figures, heading: list[str]) -> None:
    """Replace the parts of the page. ValueError if it lacks one."""
    Path(path).write_text(_replaced(path, parts(figures, heading)), encoding="utf-8")


def _replaced(path: str, new: dict[str, list[str]]) -> str:
    text = Path(path).read_text(encoding="utf-8")
    for name, lines in new.items():
        before, start, rest = text.partition(f"<!-- {name} -->\n")
        _, end, after = rest.partition(f"<!-- end of {name} -->")
        if not start or not end:
            raise ValueError(
                f"{path} has no part {name!r}: `<!-- {name} -->` and `<!-- end of {name} -->` on lines of their own"
            )
        text = before + start + "\n" + "\n".join(lines) + "\n\n" + end + after
    return text


def read(document: dict[str, Any]) -> tuple[Figures, list[str]]:
    """The figures and the heading of a report in JSON."""
    figures = Figures(
        work={Place(row["variant"], row["values"], row["keys"]): row["figures"] for row in document["work"]},
        guard={int(keys): ratios for keys, ratios in document["guard"].items()},
        skipped=document["skipped"],
    )
    for row in document["allocations"]:
        figures.allocations[row["variant"], row["values"]] = row
    return figures, document["machine"]


def _work(figures: Figures, values: str) -> list[str]:
    sizes = sorted({place.keys for place in figures.work if place.values == values})
    rows: list[list[str]] = []
    for size in sizes:
        heading, *each = table.work_rows(figures, values, size)
        if not rows:
            rows.append(["keys", *heading])
        rows += [[f"{size:,}", *row] for row in each]
    return _markdown(rows)


def _claims(figures: Figures) -> list[str]:
    rows = [["the article", "in Python", "measured", "why"]]
    rows += [[each.claim, f"**{each.outcome}**", each.measured, each.reason] for each in claims.judge(figures)]
    return _markdown(rows)


def _markdown(rows: list[list[str]]) -> list[str]:
    if not rows:
        return ["Not measured in this run."]
    heading, *others = (f"| {' | '.join(row)} |" for row in rows)
    return [heading, f"|{' --- |' * len(rows[0])}", *others]
