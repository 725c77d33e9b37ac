"""A check of values that no connection can know, because several change the same counters.

A step that takes a counter from u to v climbs from level u to level v, and all steps together lead from 0 to the
value in the end. So with any function f of which f(0) is 0, the f(v) - f(u) of all steps on a counter add up to f of
its value in the end, in whatever order the server executed them. Here f gives random numbers, so nothing cancels out:
a value that is wrong, a change that was not executed and a counter that was lost break the sum, unless there is an
order of the same changes in which all these values are right. Then nobody who sees only the replies can know.

The sums are kept for each step of a script, over all connections that share it, which costs eighty nanoseconds a
reply. After the run they become a sum for each counter.

Pure: no clock, no input or output.
"""

from __future__ import annotations

import operator
import random
from collections.abc import Sequence

from naught_loadtest.generate.encoding import EncodedScript

BITS = 62


class Levels(dict[int, int]):
    """By value v: f(v), or with a delta f(v) - f(v - delta). Computed when first asked for."""

    def __init__(self, delta: int | None = None) -> None:
        super().__init__()
        self._delta = delta

    def __missing__(self, value: int) -> int:
        self[value] = climbed = level(value) - (0 if self._delta is None else level(value - self._delta))
        return climbed


def level(value: int) -> int:
    """f: a number that looks random and is the same in all processes."""
    return random.Random(f"level {value}").getrandbits(BITS) if value else 0


class ValueSums:
    """For each step of a script the sum of f(v) - f(u), over all connections that share the script."""

    def __init__(self, script: EncodedScript) -> None:
        self._script = script
        by_delta = {delta: Levels(delta) for _, delta in script.all_steps}
        # What each step looks its values up in.
        self._levels = [by_delta[delta] for _, delta in script.all_steps]
        self._sums = [0] * script.step_count
        # Whether each request is one step.
        self._plain = script.step_count == script.script_length
        # Whether some value is missing in the sums, so that they say nothing.
        self.spoiled = False

    def spoil(self) -> None:
        """A value is not known."""
        self.spoiled = True

    def add(self, request: int, values: Sequence[int]) -> None:
        """The values of requests of one step each, from this number on."""
        if not self._plain:
            for number, value in enumerate(values, request):
                self.add_steps(number, [value])
            return
        start = request % self._script.script_length
        while values:
            end = min(start + len(values), self._script.script_length)
            self._add(start, end, values[: end - start])
            values = values[end - start :]
            start = 0

    def add_steps(self, request: int, values: Sequence[int]) -> None:
        """The values of the steps of one request."""
        start = self._script.first_step(request)
        self._add(start, start + len(values), values)

    def _add(self, start: int, end: int, values: Sequence[int]) -> None:
        sums = self._sums
        sums[start:end] = map(operator.add, sums[start:end], map(operator.getitem, self._levels[start:end], values))

    def by_key(self) -> dict[int, int]:
        """What f of each counter must be in the end."""
        levels: dict[int, int] = {}
        for (key, _), total in zip(self._script.all_steps, self._sums, strict=True):
            levels[key] = levels.get(key, 0) + total
        return levels
