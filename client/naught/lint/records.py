"""The rule NZ101 for counts that are part of a record: `entry[0] -= 1`, `locks[key].n -= 1`, `blobs[key]["n"] -= 1`.

The entry holds the count with something else: a lock and how many use it. The rule needs the same certainty as that
for maps of counts: the entry is made when something is counted, the same part of it is counted up and down, and
nothing deletes an entry.
"""

from __future__ import annotations

import ast
from collections.abc import Iterator

from naught.lint import finding
from naught.lint.countdown import Report, is_counting_call, stays_above
from naught.lint.entries import Entry, entries
from naught.lint.flow import Flow
from naught.lint.uses import Action, TrackedMap, Use

Part = str | int
"""The name of an attribute, or the literal index or key of an item."""


def check(tracked: TrackedMap, flow: Flow) -> Iterator[Report]:
    """Return the findings for one map."""
    if not tracked.lasting or tracked.kind.name not in ("dict", "defaultdict") or tracked.may_lose_entries():
        return
    if tracked.filled and tracked.kind.name == "dict":
        return
    down: list[tuple[Entry, Part, ast.expr]] = []
    up: list[tuple[Entry, Part]] = []
    for each in entries(tracked, flow):
        part = _part_of(each.node, flow)
        by = _changed_by(each.node, flow) if part is not None else 0
        if part is not None and by < 0 and not flow.is_fixed(each.key) and not flow.is_fixed(each.use.key):
            node = flow.names.parents[each.node]
            assert isinstance(node, ast.expr)
            down.append((each, part, node))
        elif part is not None and by > 0:
            up.append((each, part))
    for use in tracked.did(Action.STORE):
        part, by = _changed_in_a_copy(use, tracked, flow)
        if part is None or flow.is_fixed(use.key):
            continue
        entry = Entry(use.node, use.scope, use.key, use)
        if by < 0:
            down.append((entry, part, use.node))
        elif by > 0:
            up.append((entry, part))
    made = {
        part
        for part in {part for _, part, _ in down}
        if _is_begun_with_one(part, tracked, flow)
        or any(of == part and _is_made_beside(each, tracked, flow) for each, of in up)
    }
    for _, part, node in down:
        if part in made and not stays_above(node, flow):
            yield Report(
                finding.COUNTDOWN,
                node,
                f"a count in an entry of {tracked.name} is counted down, but nothing here deletes the entry at zero",
            )


def _part_of(entry: ast.expr, flow: Flow) -> Part | None:
    """Return which part of the entry its parent refers to."""
    parent = flow.names.parents[entry]
    if isinstance(parent, ast.Attribute):
        return parent.attr
    if isinstance(parent, ast.Subscript) and parent.value is entry and isinstance(parent.slice, ast.Constant):
        index = parent.slice.value
        return index if isinstance(index, str | int) else None
    return None


def _changed_by(entry: ast.expr, flow: Flow) -> int:
    """Return -1 if the part of the entry is counted down, 1 if it is counted up, otherwise 0."""
    part = flow.names.parents[entry]
    statement = flow.names.parents[part]
    if isinstance(statement, ast.AugAssign) and statement.target is part:
        operator, amount = statement.op, statement.value
    elif isinstance(statement, ast.Assign) and part in statement.targets and isinstance(statement.value, ast.BinOp):
        left = statement.value.left
        if not isinstance(left, ast.Attribute | ast.Subscript) or not flow.same(left.value, entry):
            return 0
        if _part_of(left.value, flow) != _part_of(entry, flow):
            return 0
        operator, amount = statement.value.op, statement.value.right
    else:
        return 0
    whole = isinstance(amount, ast.Constant) and isinstance(amount.value, int) and amount.value > 0
    if not whole and not is_counting_call(amount, flow):
        return 0
    return -1 if isinstance(operator, ast.Sub) else 1 if isinstance(operator, ast.Add) else 0


def _changed_in_a_copy(use: Use, tracked: TrackedMap, flow: Flow) -> tuple[Part | None, int]:
    """Return which part of a record is counted, and -1 or 1, where a new record replaces the entry.

    `lock, users = locks[key]; locks[key] = lock, users - 1`, or `locks[key] = (locks[key][0], locks[key][1] - 1)`.
    """
    parts = use.value.elts if isinstance(use.value, ast.Tuple | ast.List) else []
    if not any(isinstance(value, ast.BinOp) for value in parts):
        return None, 0
    before = {each.node for each in flow.beside(use, tracked, Action.READ, Action.GET)}
    for part, value in enumerate(parts):
        if not isinstance(value, ast.BinOp) or not isinstance(value.op, ast.Add | ast.Sub):
            continue
        whole = isinstance(value.right, ast.Constant) and isinstance(value.right.value, int) and value.right.value > 0
        if whole and _is_part(value.left, part, before, flow):
            return part, 1 if isinstance(value.op, ast.Add) else -1
    return None, 0


def _is_part(value: ast.expr, part: int, entries_read: set[ast.expr], flow: Flow) -> bool:
    """Whether an expression is this part of an entry that was read: by its index, or by a name it was unpacked to."""
    if isinstance(value, ast.Subscript):
        index = value.slice.value if isinstance(value.slice, ast.Constant) else None
        return index == part and value.value in entries_read
    if not isinstance(value, ast.Name):
        return False
    for name in flow.names.named(value.id, flow.names.scope_of[value].function):
        targets = flow.names.parents[name]
        statement = flow.names.parents.get(targets)
        if not isinstance(targets, ast.Tuple | ast.List) or not isinstance(statement, ast.Assign):
            continue
        if name in targets.elts and targets.elts.index(name) == part and statement.value in entries_read:
            return True
    return False


def _is_made_beside(entry: Entry, tracked: TrackedMap, flow: Flow) -> bool:
    """Whether the function that counts up also makes the entry, under a key that is not fixed."""
    if entry.key is None or flow.is_fixed(entry.key) or flow.uses.places.is_constructing(entry.node):
        return False
    if tracked.kind.name == "defaultdict" or entry.use.action in (Action.SETDEFAULT, Action.STORE):
        return True
    return bool(flow.beside(entry.use, tracked, Action.STORE, Action.SETDEFAULT))


def _is_begun_with_one(part: Part, tracked: TrackedMap, flow: Flow) -> bool:
    """Whether a new record is stored in which this part is already a count of 1 or more."""
    for use in tracked.did(Action.STORE, Action.SETDEFAULT):
        value = use.value
        if value is None or flow.is_fixed(use.key) or flow.uses.places.is_constructing(use.node):
            continue
        if isinstance(value, ast.Name):
            value = flow.only_value(value)
        first: ast.expr | None = None
        if isinstance(value, ast.List) and isinstance(part, int) and -len(value.elts) <= part < len(value.elts):
            first = value.elts[part]
        elif isinstance(value, ast.Dict):
            keyed = zip(value.keys, value.values, strict=True)
            first = next((of for key, of in keyed if isinstance(key, ast.Constant) and key.value == part), None)
        elif isinstance(value, ast.Call):
            first = next((word.value for word in value.keywords if word.arg == part), None)
        if isinstance(first, ast.Constant) and isinstance(first.value, int) and first.value > 0:
            return True
    return False
