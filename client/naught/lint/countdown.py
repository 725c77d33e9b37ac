"""Zeros that stay: NZ101, NZ102 and NZ105.

All three need a map that outlives the call it is used in, a key that is not one of a few the program itself
names, and the certainty that nothing in reach deletes an entry, replaces the map or hands it to somebody
who might.
"""

from __future__ import annotations

import ast
import re
from collections.abc import Iterator

from naught.lint import finding
from naught.lint.finding import words
from naught.lint.flow import Flow
from naught.lint.kinds import counting
from naught.lint.uses import Action, Map, Use, entry_read

Report = tuple[str, ast.expr, str]
"""A rule, the expression it found, and the message."""

REMOVING = frozenset(
    words("""
    remove delete del discard unregister deregister release forget evict drop expire unsubscribe detach leave
    purge invalidate unset untrack dispose destroy disconnect unlink uninstall unbind unwatch revoke
    """)
)
"""Words that say a function takes something out, when its name has one of them."""


def check(found: Map, flow: Flow) -> Iterator[Report]:
    """The findings of the three rules for one map."""
    if found.kind.name == "gauge":
        return
    lowered = [use for use in found.uses if lowers(use, found, flow)] if _counts_up(found, flow) else []
    if not found.lasting:
        yield from _miscounted_local(found, flow, lowered)
    elif not found.may_lose_entries():
        if _grows(found, flow):
            yield from _countdowns(found, lowered)
            yield from _blanked(found, flow)
        yield from _set_defaults(found, flow)


# -- NZ101 -------------------------------------------------------------------------------------------------


def lowers(use: Use, found: Map, flow: Flow) -> bool:
    """Whether a use counts an entry down, under a key that is not fixed."""
    if flow.is_fixed(use.key):
        return False
    if use.action is Action.SUBTRACT:
        return found.kind.name == "counter" and not isinstance(use.value, ast.Dict | ast.Constant)
    if use.action is Action.CHANGE and use.value is not None:
        if isinstance(use.sign, ast.Sub):
            return _is_count(use.value, found, flow) or _is_taken_back(use, found, flow)
        negative = isinstance(use.value, ast.UnaryOp) and isinstance(use.value.op, ast.USub)
        return isinstance(use.sign, ast.Add) and negative and _is_count(use.value, found, flow)
    if use.action is Action.STORE and use.value is not None:
        return _is_lower(use.value, use, found, flow)
    return False


def _is_count(amount: ast.expr, found: Map, flow: Flow) -> bool:
    """Whether an amount is a number of things, and no measurement or share."""
    if isinstance(amount, ast.UnaryOp):
        amount = amount.operand
    if isinstance(amount, ast.Constant):
        return isinstance(amount.value, int) and amount.value > 0
    if any(isinstance(each, ast.Mult | ast.Div | ast.Pow) for each in ast.walk(amount)):
        return False
    return counting(found.kind) or measures(amount, flow)


def _is_taken_back(use: Use, found: Map, flow: Flow) -> bool:
    """Whether the same amount is added elsewhere, and so comes back to zero whatever it measures.

    A bare name says too little: `balance[account] -= amount` is an account, and its zero an answer.
    """
    if isinstance(use.value, ast.Name | ast.Constant):
        return False
    added = (
        other
        for other in found.did(Action.CHANGE)
        if isinstance(other.sign, ast.Add) and other.scope is not use.scope
    )
    return any(flow.same(other.value, use.value) for other in added)


def measures(value: ast.expr, flow: Flow) -> bool:
    """Whether an expression counts something: `len(…)`, `sum(…)`, `….count(…)`."""
    if not isinstance(value, ast.Call):
        return False
    counts = isinstance(value.func, ast.Attribute) and value.func.attr == "count"
    return counts or flow.names.qualified(value.func) in ("len", "sum")


def _is_lower(value: ast.expr, use: Use, found: Map, flow: Flow, followed: frozenset[str] = frozenset()) -> bool:
    """Whether what is stored is the same entry less a count. `followed`: names on the way here, for in `most =
    max(most, …)` a name leads back to itself."""
    if isinstance(value, ast.BinOp) and isinstance(value.op, ast.Sub):
        return _reads(value.left, use, found, flow) and _is_count(value.right, found, flow)
    if isinstance(value, ast.Call) and flow.names.qualified(value.func) == "max":
        return any(_is_lower(argument, use, found, flow, followed) for argument in value.args)
    if isinstance(value, ast.Name) and value.id not in followed:
        return _lowered_name(value, use, found, flow, followed | {value.id})
    return False


def _reads(expression: ast.expr, use: Use, found: Map, flow: Flow) -> bool:
    """Whether an expression is the entry that `use` stores to."""
    if isinstance(expression, ast.BoolOp):
        return any(_reads(value, use, found, flow) for value in expression.values)
    key = entry_read(expression, found, flow.uses)
    return key is not None and flow.same(key, use.key)


def _lowered_name(name: ast.Name, use: Use, found: Map, flow: Flow, followed: frozenset[str]) -> bool:
    """`left = counts[key] - 1` or `left = counts[key]; left -= 1`, before `counts[key] = left`."""
    read = less = False
    for node in ast.walk(use.scope.node):
        if isinstance(node, ast.Assign) and any(flow.same(target, _stored(name)) for target in node.targets):
            if isinstance(node.value, ast.Name):
                continue
            if _is_lower(node.value, use, found, flow, followed):
                return True
            read = read or _reads(node.value, use, found, flow)
        elif isinstance(node, ast.AugAssign) and flow.same(node.target, _stored(name)):
            less = less or (isinstance(node.op, ast.Sub) and _is_count(node.value, found, flow))
    return read and less


def _stored(name: ast.Name) -> ast.Name:
    return ast.Name(id=name.id, ctx=ast.Store())


def _grows(found: Map, flow: Flow) -> bool:
    """Whether keys can come after the map is made; one that is made with its entries, in one expression or in
    the constructor, holds no more than them."""
    if found.kind.name == "dict" and found.filled:
        return False
    for use in found.did(Action.STORE, Action.CHANGE, Action.SETDEFAULT, Action.UPDATE):
        made = use.action is not Action.CHANGE or found.kind.name in ("defaultdict", "counter")
        open_key = not flow.is_fixed(use.key) and not flow.uses.places.is_making(use.node)
        if made and open_key and not lowers(use, found, flow):
            return True
    return False


def _counts_up(found: Map, flow: Flow) -> bool:
    """Whether the values are seen to be counts: added to, or begun with a number; else they may be
    identifiers."""
    for use in found.uses:
        added = use.action is Action.CHANGE and isinstance(use.sign, ast.Add)
        begun = use.action in (Action.STORE, Action.SETDEFAULT) and isinstance(use.value, ast.Constant)
        summed = use.action is Action.STORE and isinstance(use.value, ast.BinOp) and isinstance(use.value.op, ast.Add)
        if added or summed or (begun and isinstance(getattr(use.value, "value", None), int)):
            return True
    return counting(found.kind)


def _countdowns(found: Map, lowered: list[Use]) -> Iterator[Report]:
    for use in lowered:
        yield (
            finding.COUNTDOWN,
            use.node,
            f"an entry of {found.name} is counted down, but nothing here deletes it at zero",
        )


def _miscounted_local(found: Map, flow: Flow, lowered: list[Use]) -> Iterator[Report]:
    """A local map ends with its call, so its zeros do harm only where its size is asked afterwards."""
    if found.did(Action.DELETE, Action.ESCAPE):
        return
    sizes = found.did(Action.LENGTH)
    for use in lowered:
        if any(size.node.lineno > use.node.lineno or flow.is_in_loop_with(size.node, use.node) for size in sizes):
            yield (
                finding.COUNTDOWN,
                use.node,
                f"an entry of {found.name} is counted down and never deleted, so its size counts zeros too",
            )


# -- NZ102 -------------------------------------------------------------------------------------------------


def _blanked(found: Map, flow: Flow) -> Iterator[Report]:
    stores = [use for use in found.did(Action.STORE) if not flow.is_fixed(use.key)]
    blanks = [use for use in stores if _is_nothing(use.value)]
    lives = any(not _is_nothing(use.value) for use in stores)
    lives = lives or any(isinstance(use.sign, ast.Add) for use in found.did(Action.CHANGE))
    for use in blanks if lives else ():
        if _is_removal(use, found, flow) and not _is_first_value(use, stores, found, flow):
            written = "None" if isinstance(use.value, ast.Constant) and use.value.value is None else "0"
            yield (
                finding.DELETED_AS_ZERO,
                use.node,
                f"{written} is stored in {found.name} where the entry should be deleted; its key stays",
            )


def _is_first_value(use: Use, stores: list[Use], found: Map, flow: Flow) -> bool:
    """Whether another function begins an entry with the same nothing: then this one begins it anew."""
    return any(
        other.scope is not use.scope
        and flow.same(other.value, use.value)
        and not flow.beside(other, found, Action.READ, Action.GET, Action.CHANGE)
        and not _is_removal(other, found, flow)
        and not flow.runs_over(other.node, found)
        for other in stores
    )


def _is_nothing(value: ast.expr | None) -> bool:
    return isinstance(value, ast.Constant) and (
        value.value is None or (value.value == 0 and value.value is not False)
    )


def _is_removal(use: Use, found: Map, flow: Flow) -> bool:
    """Whether storing nothing stands for deleting: the function says so, the value was taken, or it was the
    last."""
    stored_beside = flow.beside(use, found, Action.STORE, Action.CHANGE, Action.SETDEFAULT)
    function = use.scope.node
    if isinstance(function, ast.FunctionDef | ast.AsyncFunctionDef) and not stored_beside:
        words = {word.lower() for word in re.findall(r"[A-Z]?[a-z]+|[A-Z]+", function.name)}
        if words & REMOVING:
            return True
    taken = [
        other
        for other in flow.beside(use, found, Action.READ, Action.GET)
        if other.node.lineno < use.node.lineno and isinstance(flow.names.parents[other.node], ast.Assign)
    ]
    # A count that is read and set to 0 begins anew, for the next interval. Where `in` is asked as well, a stored
    # None is an answer: looked for, and not there.
    none = isinstance(use.value, ast.Constant) and use.value.value is None
    blanked = none and bool(taken) and not stored_beside and not found.did(Action.CONTAINS)
    return blanked or _is_last(use, found, flow)


def _is_last(use: Use, found: Map, flow: Flow) -> bool:
    """Whether the store stands under `if counts[key] <= 1` or the like."""
    for child, parent in flow.names.ancestors(use.node):
        if isinstance(parent, ast.If) and child in parent.body and isinstance(parent.test, ast.Compare):
            test = parent.test
            few = isinstance(test.comparators[0], ast.Constant) and test.comparators[0].value in (0, 1)
            if few and isinstance(test.ops[0], ast.Lt | ast.LtE | ast.Eq) and _reads(test.left, use, found, flow):
                return True
    return False


# -- NZ105 -------------------------------------------------------------------------------------------------


def _set_defaults(found: Map, flow: Flow) -> Iterator[Report]:
    # Where `in` is asked as well, a stored zero is an answer: seen, and not counted yet.
    if found.did(Action.CONTAINS):
        return
    for use in found.did(Action.SETDEFAULT):
        zero = isinstance(use.value, ast.Constant) and use.value.value == 0 and use.value.value is not False
        if not zero or flow.is_fixed(use.key) or flow.uses.places.is_making(use.node):
            continue
        around = {parent for _, parent in flow.names.ancestors(use.node)}
        stored = flow.beside(use, found, Action.STORE, Action.CHANGE)
        if not any(flow.names.parents[flow.names.statement(other.node)] in around for other in stored):
            yield (
                finding.SETDEFAULT_ZERO,
                use.node,
                f"setdefault leaves a zero in {found.name} for every key asked, and nothing here deletes it",
            )
