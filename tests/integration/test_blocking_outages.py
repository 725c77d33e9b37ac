"""The client for threads when its server floods it, is gone, or stands still: each call ends by its own deadline, and
an outage looks like what it is.
"""

from __future__ import annotations

import contextlib
import socket
import threading
from collections.abc import Callable

import pytest

import naught
from naught import blocking
from naught.blocking import future
from naught.wire.codec import encode_notification, encode_result
from support.client_helpers import HELLO_RESULT, requests_in
from support.server_process import wait_until

GUARD_S = 30.0


class Scripted:
    """A server in a thread of its own: answers `hello`, and then does to the connection what the test says."""

    def __init__(self, then: Callable[[socket.socket], None]) -> None:
        self._then = then
        self._listening = socket.create_server(("127.0.0.1", 0))
        self._thread = threading.Thread(target=self._serve)
        self.connections = 0

    @property
    def url(self) -> str:
        return f"naught://127.0.0.1:{self._listening.getsockname()[1]}"

    def _serve(self) -> None:
        while True:
            try:
                peer, _ = self._listening.accept()
            except OSError:
                return
            self.connections += 1
            with peer, contextlib.suppress(OSError):
                hello = next(each for each in requests_in(peer.recv(1 << 16)) if each[2] == "hello")
                peer.sendall(encode_result(hello[1], HELLO_RESULT))
                self._then(peer)

    def __enter__(self) -> Scripted:
        self._thread.start()
        return self

    def __exit__(self, *_: object) -> None:
        self._listening.shutdown(socket.SHUT_RDWR)
        self._listening.close()
        self._thread.join(GUARD_S)
        assert not self._thread.is_alive()


def test_a_deadline_holds_while_bytes_keep_coming() -> None:
    """Notifications, which a client ignores, as fast as it reads them."""
    noise = encode_notification("noise", ([b"x" * 100] * 20,)) * 100
    flooding = threading.Event()

    def flood(peer: socket.socket) -> None:
        flooding.set()
        while True:
            peer.sendall(noise)

    with Scripted(flood) as server, blocking.Client(server.url, session=False) as client:
        assert flooding.wait(GUARD_S)
        ended: list[type] = []

        def ask() -> None:
            try:
                client.get("n", timeout=0.2)
            except naught.CallTimeout:
                ended.append(naught.CallTimeout)

        threads = [threading.Thread(target=ask) for _ in range(4)]
        for each in threads:
            each.start()
        for each in threads:
            each.join(GUARD_S)
        assert ended == [naught.CallTimeout] * 4


def busy(client: blocking.Client, release: threading.Event) -> None:
    """Keep the client's own thread busy until the event is set."""
    loop = client._connection._event_loop
    assert loop is not None
    begun = threading.Event()
    loop.call_soon_threadsafe(lambda: (begun.set(), release.wait(GUARD_S)))
    assert begun.wait(GUARD_S)


@pytest.mark.patches
def test_a_thread_keeps_its_deadline_while_the_clients_own_thread_is_busy(monkeypatch: pytest.MonkeyPatch) -> None:
    """And what it is granted later goes back."""
    monkeypatch.setattr(future, "GRACE_S", 0.01)
    release = threading.Event()
    with blocking.Client("memory://", timeout=0.01) as client:
        busy(client, release)
        with pytest.raises(naught.CallTimeout, match="busy"):
            client.incr("n")
        with pytest.raises(naught.CallTimeout, match="busy"):
            client.semaphore("s", 1).try_acquire()
        with pytest.raises(naught.CallTimeout, match="busy"):
            list(client.scan_iter())
        release.set()
        client.ping(timeout=GUARD_S)
        wait_until(lambda: client.held(timeout=GUARD_S) == {}, "nothing is held")
        assert client.get_many(["n", "s"], timeout=GUARD_S) == [0, 0], "what was not sent was not sent later"
