"""Reports read again: the JSON that a command has written, checked field by field before it is used."""

from __future__ import annotations

import json
from pathlib import Path
from typing import Any

from naught_loadtest.measure.series import Series, histogram_of
from naught_loadtest.measure.slo import parse

SCHEMA = 1
# The fields that a report of each kind must have, with their types.
FIELDS: dict[str, dict[str, type | tuple[type, ...]]] = {
    "run": {
        "plan": dict,
        "loop": str,
        "started_at": str,
        "host": str,
        "command": str,
        "machine": list,
        "elapsed_s": (int, float),
        "operations": int,
        "requests": int,
        "throughput_per_s": (int, float),
        "response_ns": dict,
        "histograms": dict,
        "series": list,
        "offered": int,
        "sent": int,
        "not_sent": int,
        "missed": int,
        "timed_out": int,
        "failed": dict,
        "generator_share": (int, float),
        "invalid": list,
        "objectives": list,
    },
    "versus": {"ratios": list, "runs": list, "failures": list, "best_evicting": dict},
}


def load(name: str, *kinds: str) -> dict[str, Any]:
    """The report in this file, which must be of one of the kinds. ValueError says what is wrong with it."""
    try:
        document = json.loads(Path(name).read_text(encoding="utf-8"))
    except OSError as error:
        raise ValueError(f"{name} cannot be read: {error.strerror or error}") from None
    except (UnicodeDecodeError, json.JSONDecodeError, RecursionError):
        raise ValueError(f"{name} is not JSON") from None
    if not isinstance(document, dict) or document.get("schema") != SCHEMA:
        raise ValueError(f"{name} is not a report of naught-loadtest with the schema {SCHEMA}")
    kind = document.get("kind")
    if kind not in kinds:
        raise ValueError(f"{name} is a report of the kind {kind!r:.30}, where {' or '.join(kinds)} is needed")
    for field, wanted in FIELDS[kind].items():
        if not isinstance(document.get(field), wanted) or isinstance(document.get(field), bool):
            raise ValueError(f"{name}: the field {field} is missing or wrong; another version has written it")
    if kind == "run":
        _check_run(name, document)
    return document


def _check_run(name: str, document: dict[str, Any]) -> None:
    """What is in the fields of a run."""
    try:
        Series.from_json(document["series"])
        for each in document["histograms"].values():
            if each is not None:
                histogram_of(each)
        for objective in document["objectives"]:
            parse(objective["text"])
    except (ValueError, KeyError, TypeError, AttributeError) as error:
        raise ValueError(f"{name}: a histogram, a second or an objective is wrong: {error}") from None
