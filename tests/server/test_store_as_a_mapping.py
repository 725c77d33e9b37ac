"""The server's store and `SafeMap` have the same semantics: both are tested with the table in `cases_shared`."""

from __future__ import annotations

from collections.abc import Callable
from typing import Any

import pytest

from naught.errors import CommandError
from naught_server.batch import Batch
from naught_server.commands import COMMANDS
from naught_server.config import CachePolicy, ServerConfig
from naught_server.engine import Engine
from naught_server.protocol import ServerProtocol
from naught_server.sweep import Sweep
from support.cases_shared import CASES, Step


class StoreUnderTest:
    """The table's operations as commands of a connection. The time does not change."""

    def __init__(self, policy: CachePolicy) -> None:
        engine = Engine(ServerConfig(caches={"default": policy}))
        self.protocol = ServerProtocol(engine, wake=lambda: None)
        self.store = engine.store
        self.sweep: Sweep = engine.sweep

    def _run(self, method: bytes, *params: Any) -> Any:
        command = COMMANDS[method]
        assert command.params_min <= len(params) <= command.params_max
        result = command.run(self.protocol, params, 0)
        if isinstance(result, Batch):
            while not result.finished:
                result.go_on(self.protocol.session.cache, 0, direct=False)
            result = result.results
        if hasattr(result, "send"):
            try:
                while True:
                    next(result)
            except StopIteration as end:
                return end.value
        return result

    def incr(self, key: str, *by: Any) -> Any:
        return self._run(b"incr", key.encode(), *by)

    def decr(self, key: str, *by: Any) -> Any:
        return self._run(b"decr", key.encode(), *by)

    def decr_strict(self, key: str, by: Any = 1) -> Any:
        return self._run(b"decr", key.encode(), by, True)

    def get(self, key: str) -> Any:
        return self._run(b"get", key.encode())

    def set(self, key: str, value: Any) -> Any:
        return self._run(b"set", key.encode(), value)

    def take(self, key: str) -> Any:
        return self._run(b"take", (key.encode(),))[0]

    def add(self, keys: Any, deltas: Any) -> Any:
        return self._run(b"apply", tuple(key.encode() for key in keys), tuple(deltas))

    def clear(self) -> Any:
        return self._run(b"clear")

    def count(self) -> Any:
        return self._run(b"count")

    def keys(self) -> Any:
        return sorted(key.decode() for key in self._run(b"scan", 0, 4_096)[1])

    def top(self, n: Any) -> Any:
        if n == 0:
            return []  # where the wire answers an error, a mapping has a value
        keys, values = self._run(b"top", n)
        return [(key.decode(), value) for key, value in zip(keys, values, strict=True)]


def outcome(operation: Callable[..., Any], arguments: tuple[Any, ...]) -> Any:
    try:
        return operation(*arguments)
    except CommandError as refusal:
        return ("error", refusal.code)


@pytest.mark.parametrize("swept", [False, True], ids=["unswept", "swept"])
@pytest.mark.parametrize("shards", [1, 16])
@pytest.mark.parametrize("eviction", ["eager", "lazy"])
@pytest.mark.parametrize(("name", "steps"), CASES, ids=[name for name, _ in CASES])
def test_the_table_of_cases(name: str, steps: list[Step], eviction: Any, shards: int, swept: bool) -> None:
    tested = StoreUnderTest(CachePolicy("default", shards=shards, eviction=eviction))
    for operation, arguments, expected in steps:
        assert outcome(getattr(tested, operation), arguments) == expected, (name, operation, arguments)
        tested.store.invariants(0)
        while swept and tested.sweep.advance(0, 100):
            pass
