"""The rule on 0, None and empty collections that are stored where an entry should be deleted, NZ102.

The value is gone, but the key is not. The rule needs a map that outlives the call, nothing that deletes from it, and
a store that means to remove: by the name of its function, because the value was taken out just before, or because
the count was 1 or less.
"""

from __future__ import annotations

import ast
import re
from collections.abc import Iterator

from naught.lint import finding
from naught.lint.countdown import Report, grows, reads_entry
from naught.lint.entries import Entry, entries, is_collection, is_empty, made_on_demand, put_into
from naught.lint.finding import words
from naught.lint.flow import Flow
from naught.lint.uses import Action, TrackedMap, Use

REMOVING = frozenset(
    words("""
    remove delete del discard unregister deregister release forget evict drop expire unsubscribe detach leave
    purge invalidate unset untrack dispose destroy disconnect unlink uninstall unbind unwatch revoke logout
    """)
)
"""A function with one of these words in its name removes something."""
# Empty displays, in words.
DISPLAYED: dict[type[ast.expr], str] = {
    ast.List: "an empty list",
    ast.Dict: "an empty dict",
    ast.Tuple: "an empty tuple",
}


def check(tracked: TrackedMap, flow: Flow) -> Iterator[Report]:
    """Return the findings for one map."""
    if tracked.kind.name == "gauge" or not tracked.lasting or tracked.may_lose_entries() or not grows(tracked, flow):
        return
    stores = [use for use in tracked.did(Action.STORE) if not flow.is_fixed(use.key)]
    blanks = [use for use in stores if _is_nothing(use.value) or _is_emptied(use.value, flow)]
    if not blanks:
        return
    put = [each for each in entries(tracked, flow) if put_into(each.node, flow) is not None]
    lives = any(not _is_nothing(use.value) for use in stores)
    lives = lives or any(isinstance(use.operator, ast.Add) for use in tracked.did(Action.CHANGE))
    for use in blanks:
        if _is_emptied(use.value, flow):
            found = _has_others(use, put, tracked, flow) and is_removal(use, put, tracked, flow)
        else:
            found = lives and is_removal(use, put, tracked, flow)
            found = found and not _is_first_value(use, put, stores, tracked, flow)
        if found:
            what, where = _in_words(use.value), tracked.name
            message = f"{what} is stored in {where} where the entry should be deleted; its key stays"
            yield Report(finding.DELETED_AS_ZERO, use.node, message)


def _in_words(value: ast.expr | None) -> str:
    if isinstance(value, ast.Constant):
        return "an empty text" if value.value in ("", b"") else repr(value.value)
    if type(value) in DISPLAYED:
        return DISPLAYED[type(value)]  # type: ignore[index]
    return "an empty collection"


def _has_others(use: Use, put: list[Entry], tracked: TrackedMap, flow: Flow) -> bool:
    """Whether the module makes entries with items on demand, and none that is empty on purpose."""
    others = [other for other in tracked.did(Action.STORE) if other is not use and _is_emptied(other.value, flow)]
    for other in others:
        filled = any(each.runs_in(other.scope) and flow.same(each.key, other.key) for each in put)
        if not filled and not flow.is_fixed(other.key) and not is_removal(other, put, tracked, flow):
            return False
    stored = any(
        not is_empty(other.value) and not _is_nothing(other.value) and not flow.is_fixed(other.key)
        for other in tracked.did(Action.STORE)
        if isinstance(other.value, ast.Tuple)
    )
    return stored or made_on_demand(tracked, put, flow)


def _is_first_value(use: Use, put: list[Entry], stores: list[Use], tracked: TrackedMap, flow: Flow) -> bool:
    """Whether another function stores the same 0 or None as a first value: then this store is a reset."""
    return any(
        other.scope is not use.scope
        and flow.same(other.value, use.value)
        and not flow.beside(other, tracked, Action.READ, Action.GET, Action.CHANGE)
        and not is_removal(other, put, tracked, flow)
        and not flow.runs_over(other.node, tracked)
        for other in stores
    )


def _is_nothing(value: ast.expr | None) -> bool:
    """Whether an expression is 0, None, False or an empty text."""
    return isinstance(value, ast.Constant) and not value.value


def _is_weak(value: ast.expr | None) -> bool:
    """Whether an expression is False or an empty text. These are values as well, unless something is removed."""
    return isinstance(value, ast.Constant) and (value.value is False or value.value in ("", b""))


def _is_emptied(value: ast.expr | None, flow: Flow) -> bool:
    """Whether an expression is an empty collection."""
    return is_empty(value) and (isinstance(value, ast.Tuple) or is_collection(value, flow))


def is_removal(use: Use, put: list[Entry], tracked: TrackedMap, flow: Flow) -> bool:
    """Whether storing nothing means to delete: by the name of the function, because the value was read out just
    before, or because the count was 1 or less."""
    stored_beside = flow.beside(use, tracked, Action.STORE, Action.CHANGE, Action.SETDEFAULT)
    if stored_beside or any(each.scope is use.scope and flow.same(each.key, use.key) for each in put):
        return _is_last(use, tracked, flow)
    function = use.scope.node
    if isinstance(function, ast.FunctionDef | ast.AsyncFunctionDef):
        in_name = {word.lower() for word in re.findall(r"[A-Z]?[a-z]+|[A-Z]+", function.name)}
        # What is released or detached is still there, and may be marked so.
        if in_name & (REMOVING - {"release", "detach"} if _is_weak(use.value) else REMOVING):
            return True
    return not _is_weak(use.value) and (_is_taken_out(use, tracked, flow) or _is_last(use, tracked, flow))


def _is_taken_out(use: Use, tracked: TrackedMap, flow: Flow) -> bool:
    """Whether the value was read out just before: `batch = waiting[key]`.

    Not a number, because a count that is read and set to 0 is reset for the next interval. And if the module also
    tests for keys with `in`, a stored None is an answer: "known to be absent".
    """
    none = isinstance(use.value, ast.Constant) and use.value.value is None
    if not (none and not tracked.did(Action.CONTAINS)) and not _is_emptied(use.value, flow):
        return False
    if flow.runs_over(use.node, tracked):
        return False  # all entries are taken, and the map is kept for new ones
    statement = flow.names.statement(use.node)
    for other in flow.beside(use, tracked, Action.READ, Action.GET):
        around = flow.names.statement(other.node)
        if not isinstance(around, ast.Assign):
            continue
        at_once = around is statement and isinstance(around.value, ast.Tuple)
        before = other.node.lineno < use.node.lineno and flow.names.parents[other.node] is around
        if at_once or before:
            return True
    return False


def _is_last(use: Use, tracked: TrackedMap, flow: Flow) -> bool:
    """Whether the store is in the body of `if counts[key] <= 1` or a similar condition."""
    for child, parent in flow.names.ancestors(use.node):
        if isinstance(parent, ast.If) and child in parent.body and isinstance(parent.test, ast.Compare):
            test = parent.test
            few = isinstance(test.comparators[0], ast.Constant) and test.comparators[0].value in (0, 1)
            if (
                few
                and isinstance(test.ops[0], ast.Lt | ast.LtE | ast.Eq)
                and reads_entry(test.left, use, tracked, flow)
            ):
                return True
    return False
