"""The commands called directly on the store, without the wire, keep the table of cases in `cases_counters`."""

from __future__ import annotations

from typing import Any

import pytest

from naught.errors import CommandError, InvalidRequest
from naught_server.batch import Batch
from naught_server.commands import COMMANDS
from naught_server.config import CachePolicy, ServerConfig
from naught_server.engine import Engine
from naught_server.protocol import ServerProtocol
from naught_server.sweep import Sweep
from support.cases_counters import EVERYTHING, THREE_AT_MOST, TOP_OF_NONE, Case, Refused, cases_for
from support.conversation import decoded
from support.each import hold_for_each
from support.seeds import slow

# Commands that do not concern the store, and methods that do not exist.
NOT_OF_THE_STORE = {"ping", "hello", "config_get", "config_set", "sweep", "no_such", "INCR"}
CASES = cases_for(EVERYTHING - {TOP_OF_NONE} - NOT_OF_THE_STORE)


class StoreUnderTest:
    """The operations of the table as commands of a session. The clock moves only with the operation `pass`."""

    def __init__(self, policy: CachePolicy) -> None:
        engine = Engine(ServerConfig(caches={"default": policy}))
        self.protocol = ServerProtocol(engine, wake=lambda: None)
        self.store = engine.store
        self.sweep: Sweep = engine.sweep
        self.now_ms = 0

    def do(self, operation: str, arguments: tuple[Any, ...]) -> Any:
        if operation == "pass":
            self.now_ms += arguments[0]
            # As before each chunk of input.
            assert self.protocol.session.cache.expire(self.now_ms, entries_max=1_000)
            return None
        try:
            if operation == "keys":
                return sorted(self._run("scan", 0, 4_096)[1])
            return as_received(self._run(operation, *as_decoded(arguments)))
        except CommandError as refusal:
            return Refused(refusal.code)

    def _run(self, method: str, *params: Any) -> Any:
        command = COMMANDS[method.encode()]
        if not command.params_min <= len(params) <= command.params_max:
            raise InvalidRequest("the protocol refuses this number of parameters before it runs a command")
        result = command.run(self.protocol, params, self.now_ms)
        if isinstance(result, Batch):
            result.msgid = 1
            while not result.finished:
                result.go_on(self.protocol.session.cache, self.now_ms, 100, direct=False)
            ((_, _, _, result),) = decoded(result.reply())
        if hasattr(result, "send"):
            try:
                while True:
                    next(result)
            except StopIteration as end:
                return end.value
        return result


def as_decoded(value: Any) -> Any:
    """Parameters as the decoder gives them to a command: strings are bytes, arrays are tuples."""
    if isinstance(value, list | tuple):
        return tuple(as_decoded(each) for each in value)
    return value.encode() if isinstance(value, str) else value


def as_received(value: Any) -> Any:
    """A result as a client receives it: arrays are lists, strings are bytes."""
    if isinstance(value, list | tuple):
        return [as_received(each) for each in value]
    return value.encode() if isinstance(value, str) else value


@pytest.mark.parametrize(("shards", "swept"), [(1, False), (16, True), *slow((1, True), (16, False))])
@pytest.mark.parametrize("eviction", ["eager", "lazy"])
def test_the_table_of_cases(eviction: Any, shards: int, swept: bool) -> None:
    def hold(case: Case) -> None:
        max_counters = 3 if THREE_AT_MOST in case.features else None
        tested = StoreUnderTest(CachePolicy("default", shards=shards, eviction=eviction, max_counters=max_counters))
        for operation, arguments, expected in case.steps:
            assert tested.do(operation, arguments) == expected, (operation, arguments)
            tested.store.invariants(tested.now_ms)
            while swept and tested.sweep.advance(tested.now_ms, 100):
                pass

    hold_for_each(((case.name, case) for case in CASES), hold)
