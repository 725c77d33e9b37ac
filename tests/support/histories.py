"""Records what concurrent callers ask of a server and are answered, for the judge of `linearizability.py`."""

from __future__ import annotations

import random
import time
from typing import Any

import naught
from support.linearizability import FOREVER, UNKNOWN, Operation, explain

METHODS = ("incr", "incr", "incr", "decr", "decr", "get", "try_incr", "take", "set")
LIMIT = 6


class History:
    """The calls of many callers on some counters."""

    def __init__(self) -> None:
        self.operations: list[Operation] = []

    async def call(self, client: naught.Client, draw: random.Random, key: str, who: str) -> None:
        """Make one call, whichever is drawn, and record it."""
        method = draw.choice(METHODS)
        argument: Any = None
        if method in ("incr", "decr"):
            argument = draw.randint(1, 3)
        elif method == "set":
            argument = draw.randint(0, 3)
        elif method == "try_incr":
            argument = (draw.randint(1, 2), LIMIT)
        called = time.monotonic()
        answer, answered = UNKNOWN, FOREVER
        try:
            answer = await _ask(client, method, key, argument)
            answered = time.monotonic()
        except naught.OutcomeUnknown:
            # The server it was sent to does not know the session any more, so nothing of it is executed from now on.
            answered = time.monotonic()
        except (naught.CommandError, naught.ConnectionFailed):
            return  # it was refused, or never sent
        except naught.CallTimeout:
            pass  # it may still be on its way
        self.operations.append(Operation(key, method, argument, called, answered, answer, who))

    def crash(self, keys: list[str], called: float) -> None:
        """The server was killed between `called` and now: its counters are gone."""
        now = time.monotonic()
        self.operations += [Operation(key, "crash", None, called, now, None) for key in keys]

    def explain(self) -> dict[str, str]:
        """By key, what is wrong with the history; see `linearizability.explain`."""
        return explain(self.operations)


async def _ask(client: naught.Client, method: str, key: str, argument: Any) -> Any:
    match method:
        case "incr":
            return await client.incr(key, argument)
        case "decr":
            return await client.decr(key, argument)
        case "get":
            return await client.get(key)
        case "set":
            return await client.set(key, argument)
        case "take":
            return (await client.take([key]))[0]
        case _:
            granted = await client.try_incr([(key, *argument)])
            return granted.granted, granted.values[0]
