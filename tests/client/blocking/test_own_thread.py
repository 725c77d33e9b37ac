"""What runs in the client's own thread, or in a hook, must not call the client: it is told so and does not hang."""

from __future__ import annotations

import logging
import threading
from collections.abc import Callable, Iterator
from typing import Any

import pytest

import naught
from naught import blocking
from naught.blocking import loop
from naught.core.hooks import ObservedCall
from naught.errors import ConnectionFailed
from naught.green import start_thread
from support.server_process import wait_until

GUARD_S = 30.0


@pytest.fixture
def counters() -> Iterator[blocking.Client]:
    with blocking.Client("memory://", timeout=GUARD_S) as client:
        yield client


def in_its_own_thread(client: blocking.Client, function: Callable[[], Any]) -> Any:
    """What the function raises or returns there."""
    done, found = threading.Event(), []

    def work() -> None:
        try:
            found.append(function())
        except BaseException as error:
            found.append(error)
        done.set()

    loop = client._connection._event_loop
    assert loop is not None
    loop.call_soon_threadsafe(work)
    assert done.wait(GUARD_S), "it hangs"
    return found[0]


@pytest.mark.parametrize(
    "call",
    [
        lambda client: client.incr("n"),
        lambda client: client.get("n"),
        lambda client: client.semaphore("n", 1).acquire(),
        lambda client: client.wait_zero("absent"),
        lambda client: list(client.scan_iter()),
    ],
    ids=["incr", "get", "acquire", "wait", "scan"],
)
def test_a_call_in_the_clients_own_thread_is_refused(
    counters: blocking.Client, call: Callable[[blocking.Client], Any]
) -> None:
    error = in_its_own_thread(counters, lambda: call(counters))
    assert isinstance(error, naught.NaughtError)
    assert "in its own thread" in str(error)
    assert counters.count() == 0, "nothing was done"


def test_a_call_that_has_ended_is_abandoned_without_harm(counters: blocking.Client) -> None:
    """Its thread was interrupted when the reply was about to come."""
    session = counters._connection.session
    for call, left in ((lambda: counters._inner.incr("n"), 1), (lambda: counters._inner.get("n"), 1)):
        future = call()
        assert future.wait_until(GUARD_S)
        assert in_its_own_thread(counters, lambda: loop._abandon(session, future)) is None  # noqa: B023
        assert counters.get("n") == left


def test_closing_in_the_clients_own_thread_does_not_wait() -> None:
    client = blocking.Client("memory://")
    assert in_its_own_thread(client, client.close) is None
    client.close()
    with pytest.raises(naught.ClientClosed):
        client.incr("n")


def test_a_handler_of_the_log_that_calls_the_client_does_not_hang_it(counters: blocking.Client) -> None:
    refused: list[str] = []

    class Handler(logging.Handler):
        def emit(self, record: logging.LogRecord) -> None:
            try:
                counters.incr("logged")
            except naught.NaughtError as error:
                refused.append(str(error))

    handler = Handler()
    logging.getLogger("naught").addHandler(handler)
    try:
        in_its_own_thread(counters, lambda: logging.getLogger("naught").warning("connection lost"))
    finally:
        logging.getLogger("naught").removeHandler(handler)
    assert len(refused) == 1
    assert counters.get("logged") == 0


def test_a_hook_that_calls_its_client_is_refused(caplog: pytest.LogCaptureFixture) -> None:
    """Else each call would make another one, until the stack is full."""

    def hook(call: ObservedCall) -> None:
        client.incr("hooked")

    with (
        caplog.at_level(logging.ERROR, "naught"),
        blocking.Client("memory://", timeout=GUARD_S, on_call_start=hook, on_call_end=hook) as client,
    ):
        assert client.incr("n") == 1
        assert client.get("hooked") == 0
    assert [record.getMessage().split()[0] for record in caplog.records] == ["on_call_start", "on_call_end"]
    assert all("a hook must not call its client" in str(record.exc_info) for record in caplog.records)


@pytest.mark.parametrize("what", ["start_thread", "new_event_loop"])
def test_without_a_thread_the_call_fails_and_does_not_count_later(what: str, monkeypatch: pytest.MonkeyPatch) -> None:
    def refuse(*_: object, **__: object) -> None:
        raise RuntimeError("can't start new thread")

    with monkeypatch.context() as patched:
        patched.setattr(f"naught.blocking.loop.{what}", refuse)
        with pytest.raises(ConnectionFailed, match="new thread"):
            blocking.Client("memory://")
        client = blocking.Client("memory://", lazy=True, timeout=GUARD_S)
        with pytest.raises(ConnectionFailed, match="new thread"):
            client.incr("n")
    with client:
        assert client.incr("n") == 1


def test_an_interrupt_while_the_thread_starts_leaves_none(monkeypatch: pytest.MonkeyPatch) -> None:
    late: list[Callable[[], None]] = []

    def interrupted(run: Callable[[], None], name: str) -> None:
        late.append(run)
        raise KeyboardInterrupt

    with monkeypatch.context() as patched:
        patched.setattr("naught.blocking.loop.start_thread", interrupted)
        client = blocking.Client("memory://", lazy=True, timeout=GUARD_S)
        with pytest.raises(KeyboardInterrupt):
            client.incr("n")
    with client:
        late[0]()  # the thread begins only now
        assert client.incr("n") == 1


def test_an_interrupt_once_the_thread_has_started_leaves_it(monkeypatch: pytest.MonkeyPatch) -> None:
    threads: list[str] = []

    def interrupted(run: Callable[[], None], name: str) -> None:
        threads.append(name)
        start_thread(run, name)
        wait_until(lambda: client._connection._ident != 0, "it runs")
        raise KeyboardInterrupt

    monkeypatch.setattr("naught.blocking.loop.start_thread", interrupted)
    client = blocking.Client("memory://", lazy=True, timeout=GUARD_S)
    with pytest.raises(KeyboardInterrupt):
        client.incr("n")
    with client:
        assert client.get("n") in (0, 1)
    assert len(threads) == 1
