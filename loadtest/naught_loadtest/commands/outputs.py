"""The files that commands write besides their JSON: `--csv`, the time series, and `--html`, the page."""

from __future__ import annotations

import argparse
import os
from collections.abc import Mapping
from pathlib import Path
from typing import Any

from naught_loadtest.measure.origin import with_origin
from naught_loadtest.measure.series import Series, csv_lines
from naught_loadtest.page.document import render


def add_html_argument(parser: argparse.ArgumentParser) -> None:
    """Add `--html`."""
    parser.add_argument("--html", metavar="FILE", help="the report as one page with charts, which loads nothing")


def add_csv_argument(parser: argparse.ArgumentParser) -> None:
    """Add `--csv`."""
    parser.add_argument("--csv", metavar="FILE", help="rate, p50, p99, max and errors of each second")


def check_outputs(arguments: argparse.Namespace) -> None:
    """Before anything is measured: can the files be written? ValueError says which cannot, and why."""
    for option in ("json", "hgrm", "csv", "html", "page"):
        name = getattr(arguments, option, None)
        if name is not None and (option, name) != ("json", "-"):
            reason = _why_not(Path(name))
            if reason:
                raise ValueError(f"--{option}: {name} cannot be written: {reason}")


def _why_not(path: Path) -> str:
    if path.is_dir():
        return "it is a folder"
    if not path.parent.is_dir():
        return f"there is no folder {path.parent}"
    if not os.access(path if path.exists() else path.parent, os.W_OK):
        return "there is no permission"
    return ""


def write_outputs(arguments: argparse.Namespace, document: Mapping[str, Any]) -> None:
    """Write the files that were asked for."""
    name = getattr(arguments, "csv", None)
    if name is not None:
        lines = csv_lines(Series.from_json(document["series"]))
        Path(name).write_text("".join(f"{line}\n" for line in lines), encoding="utf-8")
    if arguments.html is not None:
        Path(arguments.html).write_text(render(with_origin(dict(document))), encoding="utf-8")
