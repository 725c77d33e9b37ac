"""The rule on Prometheus gauges, NZ106: one with labels that is counted down, while no label value is ever removed.

A labelled gauge keeps one time series for every value that its labels ever had. A series at zero stays in this
process, in every scrape and in the server that stores them.
"""

from __future__ import annotations

import ast
import re
from collections.abc import Iterator

from naught.lint import finding
from naught.lint.blanked import REMOVING
from naught.lint.countdown import Report
from naught.lint.finding import words
from naught.lint.flow import Flow
from naught.lint.uses import Action, TrackedMap, Use

FEW_LABELS = frozenset(
    words("""
    name server_name service_name app_name instance instance_name hostname nodename method endpoint route service
    """)
)
"""Names of variables with one or few values in a process."""
GONE = REMOVING | frozenset(
    words(
        "disconnected left closed close stopped finished ended gone offline exit exited lost expired removed deleted"
    )
)
"""A function or a loop with one of these words in its name is about something that has gone."""
GONE_IN_LOOPS = GONE | frozenset(words("dead stale inactive missing departed dropped obsolete vanished previous"))
"""So is a loop over a collection with one of these. A function `check_stale` may set 0 for what is not stale."""


def check(tracked: TrackedMap, flow: Flow) -> Iterator[Report]:
    """Return the findings for one map, if it is the labelled series of a gauge."""
    gauge = tracked.above
    if gauge is None or gauge.kind.name != "gauge" or tracked.may_lose_entries():
        return
    for use in tracked.did(Action.CHANGE):
        if (_is_down(use) or _is_blanked(use, flow)) and _has_open_label(use, gauge, flow):
            yield Report(
                finding.GAUGE_COUNTDOWN,
                use.node,
                f"{gauge.name} comes down to 0 by label, but nothing here removes a label that reached zero",
            )


def _is_down(use: Use) -> bool:
    method = use.node.func if isinstance(use.node, ast.Call) else use.node
    if not isinstance(method, ast.Attribute):
        return False
    if method.attr == "inc":
        return isinstance(use.value, ast.UnaryOp) and isinstance(use.value.op, ast.USub)
    return method.attr in ("dec", "track_inprogress")


def _is_blanked(use: Use, flow: Flow) -> bool:
    """Whether a series is set to 0 because what it is about has gone.

    The name of the function says so, or a loop over the difference of two sets, or a test that it is not there.
    """
    method = use.node.func if isinstance(use.node, ast.Call) else use.node
    if not isinstance(method, ast.Attribute) or method.attr != "set":
        return False
    if not isinstance(use.value, ast.Constant) or use.value.value != 0:
        return False
    function = getattr(use.scope.node, "name", "")
    if set(_words_of(function)) & GONE:
        return True
    for child, parent in flow.names.ancestors(use.node):
        if isinstance(parent, ast.For | ast.AsyncFor) and child in parent.body:
            sources = [parent.iter, *(flow.assigned(parent.iter) if isinstance(parent.iter, ast.Name) else ())]
            if any(_is_difference(each) for source in sources for each in ast.walk(source)):
                return True
            if set(_words_of(_last_name(parent.iter))) & GONE_IN_LOOPS:
                return True
        if not isinstance(parent, ast.If) or not isinstance(parent.test, ast.Compare):
            continue
        if child in parent.body and isinstance(parent.test.ops[0], ast.NotIn):
            return True
    return False


def _is_difference(node: ast.AST) -> bool:
    if isinstance(node, ast.BinOp):
        return isinstance(node.op, ast.Sub)
    return isinstance(node, ast.Call) and isinstance(node.func, ast.Attribute) and node.func.attr == "difference"


def _words_of(name: str) -> list[str]:
    return [word.lower() for word in re.findall(r"[A-Z]?[a-z]+|[A-Z]+", name)]


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
