"""The rule on Prometheus gauges, NZ106: one with labels that is counted down, while no label value is ever removed.

A labelled gauge keeps one time series for every value that its labels ever had. A series at zero stays in this
process, in every scrape and in the server that stores them.
"""

from __future__ import annotations

import ast
from collections.abc import Iterator

from naught.lint import finding
from naught.lint.countdown import Report
from naught.lint.finding import words
from naught.lint.flow import Flow
from naught.lint.uses import Action, TrackedMap, Use

FEW_LABELS = frozenset(
    words("name server_name service_name app_name instance instance_name hostname method endpoint route service")
)
"""Names of variables with one or few values in a process."""


def check(tracked: TrackedMap, flow: Flow) -> Iterator[Report]:
    """Return the findings for one map, if it is the labelled series of a gauge."""
    gauge = tracked.above
    if gauge is None or gauge.kind.name != "gauge" or tracked.may_lose_entries():
        return
    for use in tracked.did(Action.CHANGE):
        if _is_down(use) and _has_open_label(use, gauge, flow):
            yield (
                finding.GAUGE_COUNTDOWN,
                use.node,
                f"{gauge.name} is counted down by label, but nothing here removes a label that reached zero",
            )


def _is_down(use: Use) -> bool:
    method = use.node.func if isinstance(use.node, ast.Call) else use.node
    if not isinstance(method, ast.Attribute):
        return False
    if method.attr == "inc":
        return isinstance(use.value, ast.UnaryOp) and isinstance(use.value.op, ast.USub)
    return method.attr in ("dec", "track_inprogress")


def _has_open_label(use: Use, gauge: TrackedMap, flow: Flow) -> bool:
    """Whether a label has a value that is not fixed, here or at any place where the module gets the series."""
    method = use.node.func if isinstance(use.node, ast.Call) else use.node
    assert isinstance(method, ast.Attribute)
    if isinstance(method.value, ast.Call):
        return _is_open(method.value, flow)
    return any(_is_open(read.node, flow) for read in gauge.did(Action.READ))


def _is_open(labels: ast.expr, flow: Flow) -> bool:
    if not isinstance(labels, ast.Call):
        return True
    values = list(labels.args)
    for word in labels.keywords:
        values += word.value.values if word.arg is None and isinstance(word.value, ast.Dict) else [word.value]
    return not all(flow.is_fixed(value) or _last_name(value) in FEW_LABELS for value in values)


def _last_name(value: ast.expr) -> str:
    name = value.attr if isinstance(value, ast.Attribute) else getattr(value, "id", "")
    return str(name).lstrip("_")
