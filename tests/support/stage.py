"""A client for threads on a stage: its threads move when the test says so, and its server is the test.

    @staged
    def test_...(stage: Stage) -> None:
        stage.open()
        call = stage.call(lambda client: client.get("k"))
        ((_, msgid, _, _),) = stage.line.requests()
        stage.line.reply(msgid, 3)
        stage.settle()
        assert call.outcome == 3

The test has its turn when nobody else can do anything; time passes in `stage.wait` alone. In the end the client is
closed, every thread must have ended, and every descriptor must have been closed.
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
    """What a thread does, and what came of it."""

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

    # The cast.

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

    # Directions.

    def settle(self) -> None:
        """Until nobody can do anything."""
        self.turns.settle()

    def wait(self, seconds: float) -> None:
        """The same, and so much later."""
        self.turns.sleep(seconds)

    def do(
        self, what: Callable[[], Any], *, stops: Iterable[str] = (), main: bool = False, name: str = "caller"
    ) -> Call:
        """Have a thread do this as far as it gets, or to the first of these functions. `main`: it handles signals."""
        call = Call()

        def live() -> None:
            try:
                call.result = what()
            except Stopped:
                raise
            except BaseException as error:
                call.error = error

        call.task = self.turns.spawn(name, live)
        call.task.stops = set(stops)
        call.task.main = main
        self.settle()
        return call

    def call(self, what: Callable[[Client[str]], Any], **how: Any) -> Call:
        """The same with the client."""
        return self.do(lambda: what(self.client), **how)

    def go_on(self, call: Call) -> None:
        """Have it pass where it has stopped."""
        assert call.task is not None
        assert call.task.at is not None, "it has not stopped"
        call.task.at = None
        self.settle()

    def open(self, **options: Any) -> None:
        """A client, greeted, and at rest: its keeper reads."""

        def connect() -> None:
            self.opened = Client(URL, **options)

        opening = self.do(connect)
        self.greeted = self.line
        self.line.greet()
        self.settle()
        assert opening.outcome is None
        self.wait(1.0)

    def resume(self, missing: int = 0) -> None:
        """The session goes on, on the latest line; the last `missing` requests had not come through."""
        start = self.turns.now
        while self.line is self.greeted or self.line.closed or not self.line.up:
            self.wait(0.01)
            assert self.turns.now < start + 10.0, "no hello"
        self.greeted = self.line
        self.line.resume(self.link.session._windows.sent - missing)
        self.settle()

    def msgids(self, *methods: str) -> list[int]:
        """Of what was asked on the latest line, which is this."""
        requests = [request for request in self.line.requests() if not request[0]]
        assert [request[2] for request in requests] == list(methods)
        return [request[1] for request in requests]

    def answer(self, value: Any = 1) -> int:
        """Give everything that was asked the same answer; how many calls that were."""
        count = 0
        for kind, msgid, method, params in (request for request in self.line.requests() if len(request) == 4):
            assert kind == 0
            items = len(params[0]) if method == "apply" else 1
            self.line.reply(msgid, [value] * items if method == "apply" else value)
            count += items
        self.settle()
        return count

    def parked(self) -> Call:
        """A thread that waits at the server, and so reads for all."""
        self.busy()
        call = self.call(lambda client: client.wait_zero("parked"), name="parked")
        self.msgids("wait_zero")
        assert isinstance(self.link.connection and self.link.connection.reader, type(self.link.new_future()))
        return call

    def busy(self) -> None:
        """The keeper does not read: threads have called just now."""
        call = self.call(lambda client: client.ping())
        self.line.reply(*self.msgids("ping"), None)
        self.settle()
        assert call.outcome is None
        assert self.link.connection is not None
        assert self.link.connection.reader is None

    def close(self) -> None:
        """The end, in good order."""
        closing = self.call(lambda client: client.close(), name="closer")
        for line in self.net.lines:
            line.end()
        self.settle()
        self.wait(2.0)
        assert closing.outcome is None


def staged(test: Callable[[Stage], None]) -> Callable[[], None]:
    """Have a test run on a stage."""

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
        assert not stage.turns.descriptors, "somebody has not let go of something"

    del run.__wrapped__  # type: ignore[attr-defined]  # pytest would look for its parameters
    return run
