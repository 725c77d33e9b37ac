"""The rules on zeros that stay in a map: NZ101 (counted down), NZ105 (setdefault).

Both need a map that outlives the call that uses it, and a key that is not one of a few that the program itself
names. They report nothing if the module deletes an entry, replaces the map, or passes it to code that may do so.
"""

from __future__ import annotations

import ast
import re
from collections.abc import Iterator
from typing import NamedTuple

from naught.lint import finding
from naught.lint.flow import Flow
from naught.lint.kinds import counting
from naught.lint.uses import Action, TrackedMap, Use, entry_read


class Report(NamedTuple):
    """What a rule found."""

    rule: str
    node: ast.expr
    message: str
    sure: bool = True
    """Whether the rule itself leaves no doubt. That the keys are many is asked afterwards, by the engine."""


def check(tracked: TrackedMap, flow: Flow) -> Iterator[Report]:
    """Return the findings of the two rules for one map."""
    if tracked.kind.name == "gauge":
        return
    lowered = [use for use in tracked.uses if lowers(use, tracked, flow)] if _counts_up(tracked, flow) else []
    if not tracked.lasting:
        yield from _miscounted_local(tracked, flow, lowered)
    elif not tracked.may_lose_entries():
        if grows(tracked, flow):
            yield from _countdowns(tracked, flow, lowered)
        yield from _set_defaults(tracked, flow)


# -- NZ101 -------------------------------------------------------------------------------------------------


def lowers(use: Use, tracked: TrackedMap, flow: Flow) -> bool:
    """Whether a use counts an entry down, under a key that is not fixed."""
    if flow.is_fixed(use.key):
        return False
    if use.action is Action.SUBTRACT:
        decays = isinstance(use.value, ast.DictComp) and any(
            isinstance(each, ast.expr) and flow.uses.map(each) is tracked for each in ast.walk(use.value)
        )
        keys = use.value.keys if isinstance(use.value, ast.Dict) else getattr(use.value, "elts", [None])
        fixed = isinstance(use.value, ast.Constant) or all(flow.is_fixed(key) for key in keys)
        return tracked.kind.name == "counter" and not decays and not fixed
    if use.action is Action.CHANGE and use.value is not None:
        if isinstance(use.operator, ast.Sub):
            return _is_count(use.value, tracked, flow) or _is_taken_back(use, tracked, flow)
        negative = isinstance(use.value, ast.UnaryOp) and isinstance(use.value.op, ast.USub)
        return isinstance(use.operator, ast.Add) and negative and _is_count(use.value, tracked, flow)
    if use.action is Action.STORE and use.value is not None:
        return _is_lower(use.value, use, tracked, flow)
    return False


def _is_count(amount: ast.expr, tracked: TrackedMap, flow: Flow) -> bool:
    """Whether an amount is a number of things, and not a measurement or a share."""
    if isinstance(amount, ast.UnaryOp):
        amount = amount.operand
    if isinstance(amount, ast.Constant):
        return isinstance(amount.value, int) and amount.value > 0
    if any(isinstance(each, ast.Mult | ast.Div | ast.Pow) for each in ast.walk(amount)):
        return False
    return counting(tracked.kind) or is_counting_call(amount, flow)


def _is_taken_back(use: Use, tracked: TrackedMap, flow: Flow) -> bool:
    """Whether another function adds the same amount, so that the entry comes back to zero whatever it measures.

    A bare name is not enough: `balance[account] -= amount` may be an account, whose zero is an answer.
    """
    if isinstance(use.value, ast.Name | ast.Constant):
        return False
    added = (
        other
        for other in tracked.did(Action.CHANGE)
        if isinstance(other.operator, ast.Add) and other.scope is not use.scope
    )
    return any(flow.same(other.value, use.value) for other in added)


def is_counting_call(value: ast.expr, flow: Flow) -> bool:
    """Whether an expression calls something that counts: `len(…)`, `sum(…)`, `….count(…)`."""
    if not isinstance(value, ast.Call):
        return False
    counts = isinstance(value.func, ast.Attribute) and value.func.attr == "count"
    return counts or flow.names.qualified(value.func) in ("len", "sum")


def _is_lower(
    value: ast.expr, use: Use, tracked: TrackedMap, flow: Flow, followed: frozenset[str] = frozenset()
) -> bool:
    """Whether the value stored is the same entry less a count.

    `followed`: the names followed so far, because a name can lead back to itself, as in `most = max(most, …)`.
    """
    if isinstance(value, ast.BinOp) and isinstance(value.op, ast.Sub):
        left = (flow.only_value(value.left) if isinstance(value.left, ast.Name) else None) or value.left
        return reads_entry(left, use, tracked, flow) and _is_count(value.right, tracked, flow)
    if isinstance(value, ast.NamedExpr):
        return _is_lower(value.value, use, tracked, flow, followed)
    if isinstance(value, ast.Call) and flow.names.qualified(value.func) == "max":
        return any(_is_lower(argument, use, tracked, flow, followed) for argument in value.args)
    if isinstance(value, ast.Name) and value.id not in followed:
        return _lowered_name(value, use, tracked, flow, followed | {value.id})
    return False


def reads_entry(expression: ast.expr, use: Use, tracked: TrackedMap, flow: Flow) -> bool:
    """Whether an expression is the entry that `use` stores to."""
    if isinstance(expression, ast.BoolOp):
        return any(reads_entry(value, use, tracked, flow) for value in expression.values)
    key = entry_read(expression, tracked, flow.uses)
    return key is not None and flow.same(key, use.key)


def _lowered_name(name: ast.Name, use: Use, tracked: TrackedMap, flow: Flow, followed: frozenset[str]) -> bool:
    """Whether a name has the entry less a count: `left = counts[key] - 1`, or `left = counts[key]; left -= 1`."""
    read = less = False
    for each in flow.names.named(name.id, use.scope):
        node = flow.names.parents[each]
        if not isinstance(each.ctx, ast.Store):
            continue
        if isinstance(node, ast.Assign | ast.NamedExpr) and not isinstance(node.value, ast.Name):
            if _is_lower(node.value, use, tracked, flow, followed):
                return True
            read = read or reads_entry(node.value, use, tracked, flow)
        elif isinstance(node, ast.AugAssign):
            less = less or (isinstance(node.op, ast.Sub) and _is_count(node.value, tracked, flow))
    return read and less


def stays_above(node: ast.expr, flow: Flow) -> bool:
    """Whether a condition around a countdown requires more than some limit, so that it never comes down to zero."""
    written = ast.unparse(node)
    for child, parent in flow.names.ancestors(node):
        if not isinstance(parent, ast.If | ast.While) or child not in parent.body:
            continue
        for test in ast.walk(parent.test):
            if isinstance(test, ast.Compare) and ast.unparse(test.left) == written:
                limit = test.comparators[0]
                few = isinstance(limit, ast.Constant) and limit.value in (0, 1)
                if isinstance(test.ops[0], ast.Gt | ast.GtE) and not few:
                    return True
    return False


def grows(tracked: TrackedMap, flow: Flow) -> bool:
    """Whether keys are added after the map is made. One that gets its entries in one expression or in the constructor
    has no others."""
    if tracked.kind.name == "dict" and tracked.filled:
        return False
    for use in tracked.did(Action.STORE, Action.CHANGE, Action.SETDEFAULT, Action.UPDATE):
        made = use.action is not Action.CHANGE or tracked.kind.name in ("defaultdict", "counter")
        open_key = not flow.is_fixed(use.key) and not flow.uses.places.is_constructing(use.node)
        if made and open_key and not lowers(use, tracked, flow):
            return True
    return False


def _counts_up(tracked: TrackedMap, flow: Flow) -> bool:
    """Whether the module shows that the values are counts, by adding to them or by storing a first number. Otherwise
    they may be identifiers."""
    for use in tracked.uses:
        added = use.action is Action.CHANGE and isinstance(use.operator, ast.Add)
        begun = use.action in (Action.STORE, Action.SETDEFAULT) and isinstance(use.value, ast.Constant)
        summed = use.action is Action.STORE and isinstance(use.value, ast.BinOp) and isinstance(use.value.op, ast.Add)
        if added or summed or (begun and isinstance(getattr(use.value, "value", None), int)):
            return True
    return counting(tracked.kind)


# A function with one of these words in its name takes back a count that was wrong, of a total that only grows.
RETRACTING = re.compile(r"retract|rollback|roll_back|revert|uncount")


def _countdowns(tracked: TrackedMap, flow: Flow, lowered: list[Use]) -> Iterator[Report]:
    for use in lowered:
        if RETRACTING.search(getattr(use.scope.node, "name", "")) is not None or stays_above(use.node, flow):
            continue
        yield Report(
            finding.COUNTDOWN,
            use.node,
            f"an entry of {tracked.name} is counted down, but nothing here deletes it at zero",
        )


def _miscounted_local(tracked: TrackedMap, flow: Flow, lowered: list[Use]) -> Iterator[Report]:
    """Return the findings for a local map. Its zeros matter only if its size is used before the call ends."""
    if tracked.did(Action.DELETE, Action.ESCAPE):
        return
    sizes = tracked.did(Action.LENGTH)
    for use in lowered:
        if any(size.node.lineno > use.node.lineno or flow.is_in_loop_with(size.node, use.node) for size in sizes):
            yield Report(
                finding.COUNTDOWN,
                use.node,
                f"an entry of {tracked.name} is counted down and never deleted, so its size counts zeros too",
            )


# -- NZ105 -------------------------------------------------------------------------------------------------


def _set_defaults(tracked: TrackedMap, flow: Flow) -> Iterator[Report]:
    # If the module also tests for keys with `in`, a stored zero is an answer: "seen, and not counted yet".
    if tracked.did(Action.CONTAINS):
        return
    for use in tracked.did(Action.SETDEFAULT):
        zero = isinstance(use.value, ast.Constant) and use.value.value == 0 and use.value.value is not False
        if not zero or flow.is_fixed(use.key) or flow.uses.places.is_constructing(use.node):
            continue
        around = {parent for _, parent in flow.names.ancestors(use.node)}
        stored = [
            other for other in tracked.did(Action.STORE, Action.CHANGE) if flow.names.is_within(other.node, use.scope)
        ]
        if not any(
            flow.names.parents[flow.names.statement(other.node)] in around or other.scope is not use.scope
            for other in stored
        ):
            yield Report(
                finding.SETDEFAULT_ZERO,
                use.node,
                f"setdefault leaves a zero in {tracked.name} for each key passed to it, and nothing here deletes it",
            )
