"""Deterministic tests of the client for threads: the test decides when its threads run, and acts as the server.

    @staged
    def test_...(stage: Stage) -> None:
        stage.open()
        call = stage.call(lambda client: client.get("k"))
        ((_, msgid, _, _),) = stage.line.requests()
        stage.line.reply(msgid, 3)
        stage.settle()
        assert call.outcome == 3

The test runs when no other thread can run. Time passes only in `stage.wait`. In the end the client is closed; then
all threads must have ended and all descriptors must be closed.
"""

from __future__ import annotations

from collections.abc import Callable, Iterable
from functools import wraps
from typing import Any

from naught.blocking import Client
from naught.blocking.keeper import Keeper
from naught.blocking.link import Link
from support.lines import Line, Net
from support.turns import Stopped, Task, Turns

URL = "naught://stage:1"


class Call:
    """A function that a thread runs, with its result or exception."""

    def __init__(self) -> None:
        self.task: Task | None = None
        self.result: Any = None
        self.error: BaseException | None = None

    @property
    def ended(self) -> bool:
        return self.task is not None and self.task.ended

    @property
    def outcome(self) -> Any:
        """The result, or the class of the exception."""
        assert self.ended, "it has not ended"
        return type(self.error) if self.error is not None else self.result


class Stage:
    """See the module."""

    def __init__(self) -> None:
        self.turns = Turns()
        self.net = Net(self.turns)
        self.opened: Client[str] | None = None
        self.greeted: Line | None = None  # the line before the one to come

    # The parts of the client.

    @property
    def client(self) -> Client[str]:
        assert self.opened is not None
        return self.opened

    @property
    def link(self) -> Link:
        return self.client._connection

    @property
    def keeper(self) -> Keeper:
        assert self.link.keeper is not None
        return self.link.keeper

    @property
    def keepers_task(self) -> Task:
        task: Task = self.keeper._thread.task  # type: ignore[attr-defined]
        return task

    @property
    def line(self) -> Line:
        return self.net.line

    # Control.

    def settle(self) -> None:
        """Let the threads run until none can go on."""
        self.turns.settle()

    def wait(self, seconds: float) -> None:
        """The same, and let time pass."""
        self.turns.sleep(seconds)

    def do(
        self, what: Callable[[], Any], *, stops: Iterable[str] = (), main: bool = False, name: str = "caller"
    ) -> Call:
        """Run `what` in a thread, until it waits or enters a function in `stops`. `main`: it handles signals."""
        call = Call()

        def run() -> None:
            try:
                call.result = what()
            except Stopped:
                raise
            except BaseException as error:
                call.error = error

        call.task = self.turns.spawn(name, run)
        call.task.stops = set(stops)
        call.task.main = main
        self.settle()
        return call

    def call(self, what: Callable[[Client[str]], Any], **how: Any) -> Call:
        """The same, with the client as argument."""
        return self.do(lambda: what(self.client), **how)

    def go_on(self, call: Call) -> None:
        """Let it go on from where it has stopped."""
        assert call.task is not None
        assert call.task.at is not None, "it has not stopped"
        call.task.at = None
        self.settle()

    def open(self, **options: Any) -> None:
        """Open a client, answer its hello, and wait until it is idle: its keeper reads."""

        def connect() -> None:
            self.opened = Client(URL, **options)

        opening = self.do(connect)
        self.greeted = self.line
        self.line.greet()
        self.settle()
        assert opening.outcome is None
        self.wait(1.0)

    def resume(self, missing: int = 0) -> None:
        """Answer the resumption on the latest line; the last `missing` requests were not accepted."""
        start = self.turns.now
        while self.line is self.greeted or self.line.closed or not self.line.up:
            self.wait(0.01)
            assert self.turns.now < start + 10.0, "no hello"
        self.greeted = self.line
        self.line.resume(self.link.session._windows.sent - missing)
        self.settle()

    def msgids(self, *methods: str) -> list[int]:
        """The msgids of the requests on the latest line, whose methods must be these."""
        requests = [request for request in self.line.requests() if not request[0]]
        assert [request[2] for request in requests] == list(methods)
        return [request[1] for request in requests]

    def answer(self, value: Any = 1) -> int:
        """Answer all requests with the same value. Returns the number of calls."""
        count = 0
        for kind, msgid, method, params in (request for request in self.line.requests() if len(request) == 4):
            assert kind == 0
            items = len(params[0]) if method == "apply" else 1
            self.line.reply(msgid, [value] * items if method == "apply" else value)
            count += items
        self.settle()
        return count

    def parked(self) -> Call:
        """A thread whose request waits at the server, and which therefore reads for all threads."""
        self.busy()
        call = self.call(lambda client: client.wait_zero("parked"), name="parked")
        self.msgids("wait_zero")
        assert isinstance(self.link.connection and self.link.connection.reader, type(self.link.new_future()))
        return call

    def busy(self) -> None:
        """Make a call, so that the keeper does not read."""
        call = self.call(lambda client: client.ping())
        self.line.reply(*self.msgids("ping"), None)
        self.settle()
        assert call.outcome is None
        assert self.link.connection is not None
        assert self.link.connection.reader is None

    def close(self) -> None:
        """Close the client."""
        closing = self.call(lambda client: client.close(), name="closer")
        for line in self.net.lines:
            line.end()
        self.settle()
        self.wait(2.0)
        assert closing.outcome is None


def staged(test: Callable[[Stage], None]) -> Callable[[], None]:
    """Decorator: run a test with a `Stage`."""

    @wraps(test)
    def run() -> None:
        stage = Stage()

        def direct() -> None:
            test(stage)
            if stage.opened is not None and not stage.link.closed:
                stage.close()

        with stage.turns.installed(), stage.net.installed():
            stage.turns.spawn("test", direct, patient=True)
            try:
                stage.turns.run()
            finally:
                if stage.opened is not None:
                    stage.opened._closed = True  # of a test that has failed
        assert not stage.turns.descriptors, "a descriptor was not closed"

    del run.__wrapped__  # type: ignore[attr-defined]  # pytest would look for its parameters
    return run
