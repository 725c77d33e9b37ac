"""The rules on reads: NZ103 and NZ107 (a read of a defaultdict inserts a zero), NZ104 (a stored zero is misread).

NZ103 and NZ107 need a defaultdict that this module fills itself, and a key that may be absent when it is read in a
condition or for a loop. NZ104 needs a map of numbers in which the module leaves zeros.
"""

from __future__ import annotations

import ast
import re
from collections.abc import Iterator

from naught.lint import finding
from naught.lint.countdown import Report, is_counting_call, lowers
from naught.lint.emptied import made_empty
from naught.lint.finding import words
from naught.lint.flow import Flow
from naught.lint.kinds import counting
from naught.lint.names import FUNCTIONS
from naught.lint.uses import Action, TrackedMap, Use

FILLING = frozenset(
    words("""
    add append appendleft extend extendleft insert update setdefault push put subtract __setitem__
    difference_update intersection_update symmetric_difference_update
    """)
)
"""Methods that count as filling the entry they are called on."""
TAKING = frozenset({"remove", "discard", "pop", "popleft", "popitem"})
"""Methods that take an item out of the entry they are called on."""
ABSENT = re.compile(r"KeyError|LookupError|NotFound|NoSuch|Unknown|Missing|DoesNotExist")
"""Exceptions that report something as absent."""


def check(tracked: TrackedMap, flow: Flow) -> Iterator[Report]:
    """Return the findings of the three rules for one map."""
    if tracked.kind.name == "gauge":
        return
    if tracked.kind.name == "defaultdict" and tracked.kind.zero:
        yield from _inserting_reads(tracked, flow)
    if _is_numeric(tracked, flow) and _may_hold_zero(tracked, flow):
        yield from _misreads(tracked, flow)


# -- NZ103 and NZ107 ---------------------------------------------------------------------------------------


def _inserting_reads(tracked: TrackedMap, flow: Flow) -> Iterator[Report]:
    if tracked.did(Action.ESCAPE) or _is_emptied(tracked) or not _is_filled_in_reach(tracked, flow):
        return
    order = {each: number for number, each in enumerate(tracked.uses)}
    counted = tracked.did(Action.LENGTH, Action.CONTAINS)
    reported: set[tuple[int, str]] = set()
    for use in tracked.did(Action.READ):
        decides = flow.is_condition(use.node)
        if use.key is None or not (decides or flow.is_looped_over(use.node)):
            continue
        # A local map ends with its call. Its new entries matter only if the call counts them afterwards.
        after = (each for each in counted if each.scope is use.scope and order[each] > order[use])
        if not tracked.lasting and not any(after):
            continue
        if flow.is_fixed(use.key) or _is_there(use, use.key, tracked, flow):
            continue
        if not (decides or tracked.local or _reads_absent_keys(use, use.key, tracked, flow)):
            continue
        # A second read of the same entry in a function finds the entry that the first one inserted.
        if (use.scope.number, flow.written(use.key)) in reported:
            continue
        reported.add((use.scope.number, flow.written(use.key)))
        if decides:
            where, rule = "in a condition", finding.INSERTING_READ
        else:
            where, rule = "for a loop", finding.INSERTING_LOOP
        message = f"reading {tracked.name} {where} inserts {tracked.kind.zero} for each key read; use .get() or `in`"
        yield Report(rule, use.node, message)


def _reads_absent_keys(use: Use, key: ast.expr, tracked: TrackedMap, flow: Flow) -> bool:
    """Whether the code shows that a loop reads keys that were never entered.

    Either the keys come from outside the program, or the loop walks down a tree, whose leaves have no entries.
    """
    if made_empty(tracked, flow) or flow.is_by_event(tracked):
        return False
    return flow.comes_from_outside(key) or _walks_down_a_tree(use, tracked, flow)


def _walks_down_a_tree(use: Use, tracked: TrackedMap, flow: Flow) -> bool:
    """Whether a loop over an entry calls its own function for each item: `for child in children[node]: visit(child)`.

    Not if the module enters every edge at both ends, because then a leaf has an entry too.
    """
    function = use.scope.node
    loop = flow.names.statement(use.node)
    if not isinstance(function, FUNCTIONS) or not isinstance(loop, ast.For | ast.AsyncFor):
        return False
    named = {each.id for each in ast.walk(loop.target) if isinstance(each, ast.Name)}
    down = any(
        isinstance(node, ast.Call)
        and function.name in (getattr(node.func, "id", ""), getattr(node.func, "attr", ""))
        and any(isinstance(argument, ast.Name) and argument.id in named for argument in node.args)
        for node in ast.walk(loop)
    )
    filled = [each for each in tracked.did(Action.READ, Action.SETDEFAULT) if _fills(each.node, flow)]
    both = any(one.scope is other.scope and not flow.same(one.key, other.key) for one in filled for other in filled)
    return down and not both


def _is_emptied(tracked: TrackedMap) -> bool:
    """Whether the module empties or replaces the whole map, and so removes the entries that reads have inserted."""
    if tracked.above is not None and tracked.above.may_lose_entries():
        return True
    return any(use.key is None for use in tracked.did(Action.DELETE))


def _is_filled_in_reach(tracked: TrackedMap, flow: Flow) -> bool:
    """Whether the module fills the map itself, and not by reading it (`self.edges[node]`, `edges =
    self.edges[node]`).

    If other code makes the entries, or if the module makes them on purpose by reading, every key that is ever read
    may have one.
    """
    filled = bool(tracked.did(Action.STORE, Action.CHANGE, Action.SETDEFAULT, Action.UPDATE))
    for use in tracked.did(Action.READ):
        outermost: ast.AST = use.node
        while isinstance(flow.names.parents[outermost], ast.Subscript):
            outermost = flow.names.parents[outermost]
        loaded = isinstance(getattr(outermost, "ctx", None), ast.Load)
        if loaded and isinstance(flow.names.parents[outermost], ast.Assign | ast.Expr) and not flow.is_fixed(use.key):
            return False
        filled = filled or _fills(use.node, flow)
    return filled


def _is_there(use: Use, key: ast.expr, tracked: TrackedMap, flow: Flow) -> bool:
    """Whether the entry exists before it is read, or is deleted afterwards."""
    return (
        _is_taken_for_granted(use.node, flow)
        or flow.runs_over(use.node, tracked)
        or flow.is_guarded(use.node, key, tracked)
        or _is_filled_beside(use, tracked, flow)
        or _is_deleted_by_call(use, tracked, flow)
        or _is_taken_out_of(use, tracked, flow)
    )


def _is_taken_out_of(use: Use, tracked: TrackedMap, flow: Flow) -> bool:
    """Whether the function also takes an item out of the entry, in a map whose keys are never deleted.

    `if handler in handlers[topic]: handlers[topic].remove(handler)` usually runs after the handler was put in.
    """
    return not tracked.did(Action.DELETE) and any(
        isinstance(parent := flow.names.parents[other.node], ast.Attribute) and parent.attr in TAKING
        for other in flow.beside(use, tracked, Action.READ)
    )


def _is_deleted_by_call(use: Use, tracked: TrackedMap, flow: Flow) -> bool:
    """Whether the function calls a function that deletes from the map."""
    deleting = {each.scope.node for each in tracked.did(Action.DELETE)}
    return any(
        isinstance(node, ast.Call) and flow.uses.places.called(node.func)[0] in deleting
        for node in ast.walk(use.scope.node)
    )


def _is_taken_for_granted(entry: ast.expr, flow: Flow) -> bool:
    """Whether the code raises if the entry is new: in an assertion, or when it reads an item of an empty list."""
    if any(isinstance(parent, ast.Assert) for _, parent in flow.names.ancestors(entry)):
        return True
    parent = flow.names.parents[entry]
    return isinstance(parent, ast.Subscript) and isinstance(parent.slice, ast.Constant | ast.UnaryOp)


def _is_filled_beside(use: Use, tracked: TrackedMap, flow: Flow) -> bool:
    """Whether the same function fills, deletes or has read the entry, or a loop over the same keys fills it."""
    order = {each: number for number, each in enumerate(tracked.uses)}
    for other in flow.beside(
        use, tracked, Action.STORE, Action.CHANGE, Action.SETDEFAULT, Action.DELETE, Action.READ
    ):
        if other.action is Action.READ:
            earlier = order[other] < order[use] and not flow.is_condition(other.node)
            if earlier or _fills(other.node, flow):
                return True
        elif not lowers(other, tracked, flow) or order[other] < order[use]:
            return True  # a countdown counts as well, if it comes first: it has made the entry
    iterables = list(flow.loops(use.node))
    loops = {flow.written(iterated) for iterated in iterables}
    looped = {flow.written(each) for iterated in iterables for each in ast.walk(iterated)}
    for other in tracked.did(Action.STORE, Action.CHANGE, Action.READ) if loops else ():
        if other.action is Action.READ and not _fills(other.node, flow):
            continue
        if other.scope is use.scope and any(flow.written(iterated) in loops for iterated in flow.loops(other.node)):
            return True
        if _is_noted(other, looped, flow):
            return True
    return False


def _is_noted(filling: Use, looped: set[str], flow: Flow) -> bool:
    """Whether the function that fills an entry also adds its key to the iterable of the reading loop."""
    for node in ast.walk(filling.scope.node):
        if isinstance(node, ast.Call) and isinstance(node.func, ast.Attribute) and node.func.attr in FILLING:
            to, added = node.func.value, node.args
        elif isinstance(node, ast.Assign) and isinstance(node.targets[0], ast.Subscript):
            to, added = node.targets[0].value, [node.targets[0].slice, node.value]
        else:
            continue
        if flow.written(to) in looped and any(flow.same(each, filling.key) for each in added):
            return True
    return False


def _fills(entry: ast.expr, flow: Flow) -> bool:
    """Whether an item is put into an entry that is read: by a method, by `entry[…] = …`, or by a function that is
    called with the entry and whose result is not used."""
    parent = flow.names.parents[entry]
    if isinstance(parent, ast.Attribute):
        return parent.attr in FILLING
    if isinstance(parent, ast.Subscript):
        return not isinstance(parent.ctx, ast.Load) or _fills(parent, flow)
    if isinstance(parent, ast.Call):
        return isinstance(flow.names.parents[parent], ast.Expr)
    return False


# -- NZ104 -------------------------------------------------------------------------------------------------


def _is_numeric(tracked: TrackedMap, flow: Flow) -> bool:
    """Whether the values are certainly numbers: the module stores some numbers, and nothing else."""
    seen = counting(tracked.kind)
    for use in tracked.did(Action.STORE, Action.CHANGE, Action.SETDEFAULT):
        if use.value is None:
            continue
        if _is_number(use.value, flow) or (use.action is Action.STORE and lowers(use, tracked, flow)):
            seen = True
        elif not isinstance(use.value, ast.Name | ast.Attribute | ast.Subscript | ast.Call | ast.BinOp | ast.IfExp):
            return False
    return seen


def _is_number(value: ast.expr, flow: Flow) -> bool:
    if isinstance(value, ast.Constant):
        return isinstance(value.value, int | float) and not isinstance(value.value, bool)
    return _may_be_counted(value, flow)


def _may_be_counted(value: ast.expr, flow: Flow) -> bool:
    """Whether an expression counts something, and so may be zero, or is a name with such a value."""
    if isinstance(value, ast.Name):
        return any(is_counting_call(each, flow) for each in flow.assigned(value))
    return is_counting_call(value, flow)


def _may_hold_zero(tracked: TrackedMap, flow: Flow) -> bool:
    """Whether the module leaves a zero in the map, at least for some time."""
    for use in tracked.uses:
        if lowers(use, tracked, flow):
            if not flow.beside(use, tracked, Action.DELETE):
                return True
        elif use.action in (Action.STORE, Action.SETDEFAULT) and use.value is not None:
            zero = isinstance(use.value, ast.Constant) and use.value.value == 0
            if zero and not flow.beside(use, tracked, Action.CHANGE, Action.STORE):
                return True
            if use.action is Action.STORE and _may_be_counted(use.value, flow):
                return True
    return False


def _misreads(tracked: TrackedMap, flow: Flow) -> Iterator[Report]:
    for use in tracked.did(Action.GET):
        if use.value is None or (isinstance(use.value, ast.Constant) and use.value.value is None):
            for node in (use.node, *_names_of(use, flow)):
                how = _misread(node, use, tracked, flow)
                if how:
                    yield Report(
                        finding.MISREAD_ZERO,
                        node,
                        f"a zero in {tracked.name} {how}; ask `is None`, or delete entries at zero",
                    )


def _names_of(use: Use, flow: Flow) -> Iterator[ast.expr]:
    """Return the reads of the name that the value is assigned to, until another value is assigned to the name."""
    statement = flow.names.parents[use.node]
    if not isinstance(statement, ast.Assign) or not isinstance(statement.targets[0], ast.Name):
        return
    name = statement.targets[0].id
    uses = [each for each in flow.names.named(name, use.scope) if flow.names.scope_of[each].function is use.scope]
    bound = [node.lineno for node in uses if not isinstance(node.ctx, ast.Load)]
    for node in sorted(uses, key=lambda each: (each.lineno, each.col_offset)):
        rebound = any(use.node.lineno < line < node.lineno for line in bound)
        if isinstance(node.ctx, ast.Load) and node.lineno > use.node.lineno and not rebound:
            yield node


def _misread(node: ast.expr, use: Use, tracked: TrackedMap, flow: Flow) -> str:
    """Return in words how the truth of a count is misread; an empty text if it is not."""
    parent = flow.names.parents[node]
    if isinstance(parent, ast.BoolOp) and isinstance(parent.op, ast.Or) and node is not parent.values[-1]:
        following = parent.values[parent.values.index(node) + 1]
        decided = flow.is_condition(parent)
        falsy = isinstance(following, ast.Constant) and not following.value
        return "" if decided or falsy else "becomes the default of `or`, as if it were absent"
    if isinstance(parent, ast.UnaryOp) and isinstance(parent.op, ast.Not):
        branch = flow.names.parents[parent]
        if isinstance(branch, ast.If) and branch.test is parent:
            if any(_reports_absent(statement) for statement in branch.body):
                return "is reported as absent"
            if any(_replaces_zero(other, branch) for other in flow.beside(use, tracked, Action.STORE)):
                return "is replaced as if it were absent"
    return ""


def _reports_absent(statement: ast.stmt) -> bool:
    """Whether a statement raises an exception that reports something as absent."""
    if not isinstance(statement, ast.Raise) or statement.exc is None:
        return False
    raised = statement.exc.func if isinstance(statement.exc, ast.Call) else statement.exc
    name = raised.attr if isinstance(raised, ast.Attribute) else getattr(raised, "id", "")
    return ABSENT.search(name) is not None


def _replaces_zero(store: Use, branch: ast.If) -> bool:
    """Whether a store in the branch for zeros stores another value than 0, 1 or None."""
    first = isinstance(store.value, ast.Constant) and store.value.value in (0, 1, None)
    return not first and any(store.node is node for statement in branch.body for node in ast.walk(statement))
