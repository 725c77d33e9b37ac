"""The client for threads over real sockets, between real processes: connections cut at random, servers that stop and
start anew, forks, signals, and what is left of it all. What is too rare to be met here is forced in
tests/client/blocking."""

from __future__ import annotations

import asyncio
import contextlib
import gc
import os
import random
import resource
import signal
import socket
import subprocess
import sys
import threading
import time
from collections.abc import Callable, Iterator
from pathlib import Path
from typing import Any

import pytest

import naught
from naught import blocking
from naught.aio.connection import Connection
from support.paths import SUPPORT
from support.proxy import Proxy
from support.server_process import ServerProcess, server_process, stopped, wait_until

GUARD_S = 30.0
"""No test waits longer for anything; none takes a tenth of it."""

LEASE_S = 0.3
HOLDER = SUPPORT / "blocking_holder.py"

Client = blocking.Client[str]


@pytest.fixture(scope="module")
def server(tmp_path_factory: pytest.TempPathFactory) -> Iterator[ServerProcess]:
    with server_process(tmp_path_factory.mktemp("server")) as server:
        yield server


@pytest.fixture
def direct(server: ServerProcess) -> Iterator[Client]:
    """A client that nothing happens to. Nothing is left of the tests before."""
    with blocking.Client(url_of(server), timeout=GUARD_S) as client:
        client.clear()
        wait_until(lambda: len(client.sessions()) == 1, "the sessions of other tests ended")
        yield client


def url_of(server: ServerProcess) -> str:
    return f"naught://127.0.0.1:{server.port}"


class Network:
    """A `Proxy` in a thread of its own."""

    def __init__(self, port: int, seed: int | None = None, bytes_max: int = 0) -> None:
        self._loop = asyncio.new_event_loop()
        self.proxy = Proxy(port, seed, bytes_max)
        self._thread = threading.Thread(target=self._loop.run_forever)

    def __enter__(self) -> Network:
        self._thread.start()
        self._do(self.proxy.__aenter__())
        return self

    def __exit__(self, *_: object) -> None:
        self._do(self.proxy.__aexit__())
        self._do(self._end())
        self._loop.call_soon_threadsafe(self._loop.stop)
        self._thread.join()
        self._loop.close()

    @staticmethod
    async def _end() -> None:
        """Also of what was about to be accepted."""
        while others := asyncio.all_tasks() - {asyncio.current_task()}:
            await asyncio.wait(others)
        for _ in range(3):  # what is aborted is closed a little later
            await asyncio.sleep(0)

    def _do(self, coroutine: Any) -> None:
        asyncio.run_coroutine_threadsafe(coroutine, self._loop).result(GUARD_S)

    @property
    def url(self) -> str:
        return self.proxy.url

    def cut(self) -> None:
        """Break all connections."""

        async def cut() -> None:
            self.proxy.cut()

        self._do(cut())

    def refuse(self) -> None:
        """Break them, and take no more."""

        async def refuse() -> None:
            assert self.proxy._server is not None
            self.proxy._server.close()
            self.proxy.cut()

        self._do(refuse())


class Threads:
    """Threads that must come to an end; what one of them raises is raised in the end."""

    def __init__(self) -> None:
        self._threads: list[threading.Thread] = []
        self._errors: list[BaseException] = []

    def start(self, function: Callable[..., object], *arguments: Any) -> None:
        def run() -> None:
            try:
                function(*arguments)
            except BaseException as error:
                self._errors.append(error)

        thread = threading.Thread(target=run, daemon=True)
        self._threads.append(thread)
        thread.start()

    def alive(self) -> bool:
        return any(thread.is_alive() for thread in self._threads)

    def join(self) -> None:
        for thread in self._threads:
            thread.join(GUARD_S)
            assert not thread.is_alive(), "it hangs"
        if self._errors:
            raise self._errors[0]


def connection_of(client: Client) -> Connection:
    found = client._connection.connection
    assert found is not None
    return found


def hasten(client: Client) -> None:
    """Connect anew at once."""
    connection_of(client)._backoff.BOUND_MAX = 0.005  # type: ignore[misc]


# ------------------------------------------------------------------------------------------------- cut connections


@pytest.mark.parametrize("session", [True, False], ids=["sessions", "no sessions"])
def test_sums_are_what_16_threads_were_told_over_cut_connections(
    server: ServerProcess, direct: Client, session: bool
) -> None:
    """Without sessions, what nobody was told of may be there beside."""
    seed = 7
    print(f"seed {seed}")
    told = [0] * 16
    unknown = [0] * 16

    def work(client: Client, number: int) -> None:
        draw = random.Random(seed * 100 + number)
        for _ in range(40):
            by = draw.randint(1, 9)
            try:
                value = client.incr(f"own:{number}", by)
                if draw.random() < 0.2 and session:
                    with client.semaphore("permits", limit=3) as permit:
                        assert not permit.lost
            except naught.OutcomeUnknown:
                assert not session
                unknown[number] += by
            else:
                told[number] += by
                assert told[number] <= value <= told[number] + unknown[number]

    with (
        Network(server.port, seed, bytes_max=3_000 if session else 1_500) as network,
        blocking.Client(network.url, timeout=None, session=session, random=random.Random(seed)) as client,
    ):
        hasten(client)
        threads = Threads()
        for number in range(16):
            threads.start(work, client, number)
        threads.join()
        values = direct.get_many([f"own:{number}" for number in range(16)])
        for number, value in enumerate(values):
            assert told[number] <= value <= told[number] + unknown[number], number
        assert network.proxy.cuts > 5
        assert bool(sum(unknown)) is not session, "else nothing was in doubt"
        network.proxy.calm()
        if session:
            assert client.held() == {}
            assert direct.get("permits") == 0


def test_an_idle_client_keeps_its_session_and_its_permit(server: ServerProcess, direct: Client) -> None:
    with Network(server.port) as network, blocking.Client(network.url, lease=LEASE_S, timeout=GUARD_S) as client:
        hasten(client)
        permit = client.semaphore("s", limit=1).acquire()
        for _ in range(3):
            before = connection_of(client)._protocol
            network.cut()
            wait_until(
                lambda before=before: client.connected and connection_of(client)._protocol is not before,  # type: ignore[misc]
                "it connected anew",
            )
        # Longer than the lease: that nothing happens is what is tested, and there is no event to wait for.
        assert not permit.lost.wait(2 * LEASE_S)
        assert direct.semaphore("s", limit=1).try_acquire() is None
        assert client.held() == {permit.number: {"s": 1}}
        permit.release()
        assert len(direct.sessions()) == 2


def test_a_permit_is_lost_when_the_lease_ends_offline(server: ServerProcess, direct: Client) -> None:
    with Network(server.port) as network, blocking.Client(network.url, lease=LEASE_S, timeout=0.1) as client:
        permit = client.semaphore("s", limit=1).acquire()
        waits = Threads()
        waits.start(lambda: permit.lost.wait(GUARD_S) or pytest.fail("it is not known to be lost"))
        network.refuse()
        waits.join()
        assert permit.lost
        direct.semaphore("s", limit=1).acquire(timeout=GUARD_S).release()
        with pytest.raises(naught.NotHeld, match="lost"):
            permit.release()
        with pytest.raises(naught.CallTimeout):
            client.incr("k")


# ------------------------------------------------------------------------------------------------- servers


def test_a_server_that_is_killed_and_starts_anew(tmp_path: Path, own_port: int) -> None:
    first = ServerProcess(tmp_path, "--port", str(own_port))
    servers = [first]
    told = [0] * 4
    anew = threading.Event()
    unknown = 0

    def work(client: Client, number: int) -> None:
        """Until it has counted at the second server."""
        nonlocal unknown
        while True:
            begun_anew = anew.is_set()
            try:
                value = client.incr(f"own:{number}")
            except naught.OutcomeUnknown:
                unknown += 1
                continue
            told[number] = value
            if begun_anew and value < 1_000:
                return

    try:
        with blocking.Client(url_of(first), timeout=GUARD_S) as client:
            hasten(client)
            for number in range(4):
                client.set(f"own:{number}", 1_000_000)
            permit = client.semaphore("s", limit=1).acquire()
            threads = Threads()
            for number in range(4):
                threads.start(work, client, number)
            wait_until(lambda: min(told) > 1_000_010, "all count")
            first.kill()
            (tmp_path / "ports.json").unlink()
            servers.append(ServerProcess(tmp_path, "--port", str(first.port)))
            anew.set()
            threads.join()
            assert [client.get(f"own:{number}") for number in range(4)] == told
            assert unknown <= 4
            assert not permit.lost, "it was acquired again"
            assert client.semaphore("s", limit=1).try_acquire() is None
            permit.release()
        servers[-1].stop()
    finally:
        for server in servers:
            server.kill()


def test_a_server_that_stands_still_costs_every_caller_its_own_time(server: ServerProcess, direct: Client) -> None:
    def ask(client: Client) -> None:
        with pytest.raises(naught.CallTimeout):
            client.incr("k")
        with pytest.raises(naught.CallTimeout):
            client.get("k")

    with blocking.Client(url_of(server), timeout=0.15) as client:
        client.ping()
        threads = Threads()
        with stopped(server):
            for _ in range(8):
                threads.start(ask, client)
            threads.join()
        value = client.incr("k", timeout=GUARD_S)
        assert 1 <= value <= 9
        assert client.incr("k", timeout=GUARD_S) == value + 1
        assert not client._connection.session._windows.in_flight


def test_more_than_fits_the_buffers_while_the_server_does_not_read(server: ServerProcess, direct: Client) -> None:
    keys = [f"{number:0200}" for number in range(4_000)]
    told: list[list[Any]] = []

    with blocking.Client(url_of(server), timeout=None) as client:
        threads = Threads()
        with stopped(server):
            for _ in range(8):
                threads.start(lambda: told.append(client.apply(keys, 1)))
            wait_until(lambda: bool((used := connection_of(client)._protocol) and used.writing_paused), "it is full")
            for _ in range(8):
                threads.start(client.incr, "k")
        threads.join()
        assert sorted(told) == [[value] * len(keys) for value in range(1, 9)]
        assert client.get("k") == 8


# ------------------------------------------------------------------------------------------------- processes


class Holder:
    """A client in a process of its own; see support/blocking_holder.py."""

    def __init__(self, url: str, how: str) -> None:
        read_end, self._life = os.pipe()
        self.process = subprocess.Popen(
            [sys.executable, "-W", "ignore", str(HOLDER), url, str(LEASE_S), how, str(read_end)],
            stdin=subprocess.PIPE,
            stdout=subprocess.PIPE,
            text=True,
            bufsize=1,
            pass_fds=(read_end,),
        )
        os.close(read_end)

    def __enter__(self) -> Holder:
        return self

    def __exit__(self, *_: object) -> None:
        os.close(self._life)
        self.process.kill()
        self.process.communicate()

    def said(self) -> list[str]:
        assert self.process.stdout is not None
        words = self.process.stdout.readline().split()
        assert words, "it ended"
        return words

    def do(self, command: str) -> None:
        assert self.process.stdin is not None
        self.process.stdin.write(f"{command}\n")


def generations(process: str) -> bool:
    state = Path(f"/proc/{process}/stat").read_text().rsplit(")", 1)[1].split()[0]
    return state not in "ZX"


@pytest.mark.parametrize("how", ["hold", "fork"])
def test_what_a_killed_process_held_comes_back(server: ServerProcess, direct: Client, how: str) -> None:
    """Also where a child that it had forked lives on: that has used the client, in a session of its own."""
    with Holder(url_of(server), how) as holder:
        child = ""
        said = {}
        for _ in range(1 if how == "hold" else 3):
            word, *what = holder.said()
            said[word] = what
        if how == "fork":
            child, value, lost, released, permits, number, name = said["child"]
            (parent,) = direct.holders("s")
            assert (parent.name.rpartition(":")[2], parent.amount) == (str(holder.process.pid), 3)
            assert name.rpartition(":")[2] == child, "the name of a client that begins anew is not the parent's"
            assert (value, lost, released, permits) == ("1", "True", "NotHeld", "3")
            assert int(number) > max(map(int, said["holding"]))
            assert said["waited"] == ["True"], "a thread of the parent that waited when it forked"
        holder.do("count")
        assert holder.said() == ["counted", "1"]
        semaphore = direct.semaphore("s", limit=3)
        assert semaphore.try_acquire() is None
        holder.process.kill()
        permit = semaphore.acquire(timeout=GUARD_S)
        assert permit.number > max(map(int, said["holding"]))
        wait_until(lambda: direct.get("s") == 1, "all came back")
        wait_until(lambda: direct.info()["connections"] == 1, "its connection has ended")
        assert not child or generations(child)
        permit.release()


def test_a_child_of_a_process_that_was_connecting_keeps_no_connection_open() -> None:
    with socket.create_server(("127.0.0.1", 0)) as listening:
        listening.settimeout(GUARD_S)
        with Holder(f"naught://127.0.0.1:{listening.getsockname()[1]}", "fork-connecting") as holder:
            connected, _ = listening.accept()
            with connected:
                connected.settimeout(GUARD_S)
                assert b"hello" in connected.recv(1_000)
                holder.do("fork")
                word, child = holder.said()
                assert word == "child"
                holder.process.kill()
                assert connected.recv(1_000) == b""
                assert generations(child)


# ------------------------------------------------------------------------------------------------- signals


class Interrupt(BaseException):
    """What a handler of these tests raises."""


@contextlib.contextmanager
def alarm(handle: Callable[[], None], delay: float, interval: float = 0.0) -> Iterator[None]:
    """A signal in the main thread, once or again and again."""
    before = signal.signal(signal.SIGALRM, lambda *_: handle())
    signal.setitimer(signal.ITIMER_REAL, delay, interval)
    try:
        yield
    finally:
        signal.setitimer(signal.ITIMER_REAL, 0.0)
        signal.signal(signal.SIGALRM, before)


def test_interrupts_in_the_main_thread_while_others_count(server: ServerProcess, direct: Client) -> None:
    armed = False
    struck = 0
    own = [0, 0]  # told, and possible
    told = [0] * 4
    unknown = [0] * 4

    def strike() -> None:
        nonlocal armed, struck
        if armed:
            armed = False
            struck += 1
            raise Interrupt

    def work(client: Client, number: int) -> None:
        while struck < 60:
            try:
                value = client.incr(f"own:{number}")
            except naught.OutcomeUnknown:
                unknown[number] += 1
            else:
                told[number] += 1
                assert told[number] <= value <= told[number] + unknown[number]

    with blocking.Client(url_of(server), timeout=None, lease=LEASE_S, random=random.Random(3)) as client:
        hasten(client)
        threads = Threads()
        for number in range(4):
            threads.start(work, client, number)
        with alarm(strike, 0.004, 0.004):
            while threads.alive():
                own[1] += 1
                try:
                    armed = True
                    value = client.incr("main")
                    armed = False
                except Interrupt:
                    pass
                except naught.OutcomeUnknown:
                    armed = False
                else:
                    own[0] += 1
                    assert own[0] <= value <= own[1]
        threads.join()
        for number in range(4):
            assert told[number] <= direct.get(f"own:{number}") <= told[number] + unknown[number]
        assert own[0] <= direct.get("main") <= own[1]
        assert sum(unknown) <= 4 * struck
        assert client.incr("main") > own[0], "it is usable still"


def test_what_a_handler_raises_ends_a_wait(server: ServerProcess, direct: Client) -> None:
    """A TimeoutError, as is usual with alarms: the system raises such a thing, too."""
    direct.incr("k")

    def strike() -> None:
        raise TimeoutError("the handler's")

    with blocking.Client(url_of(server), timeout=GUARD_S) as client:
        for _ in range(2):
            with alarm(strike, 0.05), pytest.raises(TimeoutError, match="the handler's"):
                client.wait_zero("k", timeout=GUARD_S)
        assert client.incr("k") == 2


def test_a_handler_may_call_in_the_middle_of_a_wait(server: ServerProcess, direct: Client) -> None:
    direct.incr("k")
    told: list[int] = []

    def handle() -> None:
        told.append(client.incr("signals"))
        direct.decr("k")

    with blocking.Client(url_of(server), timeout=GUARD_S) as client:
        with alarm(handle, 0.05):
            assert client.wait_zero("k")
        assert told == [1]
        assert client.incr("signals") == 2


# ------------------------------------------------------------------------------------------------- the end


def test_closing_wakes_all_who_wait(server: ServerProcess, direct: Client) -> None:
    direct.incr("k")
    ended: list[type] = []

    def wait(client: Client) -> None:
        try:
            client.wait_zero("k")
        except naught.ClientClosed as error:
            ended.append(type(error))

    client = blocking.Client(url_of(server))
    client.semaphore("s", limit=1).acquire()
    threads = Threads()
    for _ in range(20):
        threads.start(wait, client)
    wait_until(lambda: direct.info()["sessions"]["parked"] == 20, "all wait")
    threads.start(client.close)
    threads.join()
    assert len(ended) == 20
    wait_until(lambda: direct.get("s") == 0, "its session ended long before the lease")


def test_an_unclosed_client_is_told_of_and_its_session_ends(server: ServerProcess, direct: Client) -> None:
    clients = [blocking.Client(url_of(server))]
    clients[0].semaphore("s", limit=1).acquire()
    assert len(direct.sessions()) == 2
    with pytest.warns(ResourceWarning, match="unclosed"):
        clients.clear()
    wait_until(lambda: direct.get("s") == 0, "its session ended long before the lease")


def descriptors() -> int:
    return len(os.listdir("/proc/self/fd"))


def test_nothing_is_left_of_clients_that_were_closed(server: ServerProcess) -> None:
    with blocking.Client(url_of(server)) as client:
        client.incr("k")
    gc.collect()
    before = descriptors()
    threads = threading.active_count()
    kept = []
    for number in range(200):
        client = blocking.Client(url_of(server) if number % 2 else "memory://")
        if number % 4 < 2:
            client.incr("k")
        client.close()
        kept.append(client)
    wait_until(lambda: threading.active_count() == threads, "their threads ended")
    assert descriptors() == before


def test_a_name_that_is_none_is_told_of_as_such() -> None:
    for letter in ("a", "ä"):
        with pytest.raises(naught.ConnectionFailed, match="label"):
            blocking.Client(f"naught://{letter * 64}:1", connect_timeout=0.1)


# ------------------------------------------------------------------------------------------------- memory://


def test_the_engine_in_the_process_goes_on_while_nobody_calls() -> None:
    """What expires is swept, and who waits for it hears of it."""
    with blocking.Client("memory://", timeout=GUARD_S) as client:
        client.incr("awaited", ttl_ms=100)
        assert client.wait_zero("awaited")
        client.apply([f"k:{number}" for number in range(1_000)], 1, ttl_ms=100)
        host = connection_of(client)._memory_host
        assert host is not None
        cache = host.engine.store.caches["default"]
        wait_until(lambda: not cache.raw_entries(), "the sweeper found them")
        assert client.count() == 0


def test_clients_of_one_engine_wake_one_another() -> None:
    url = f"memory://{time.monotonic_ns()}"
    with blocking.Client(url) as one, blocking.Client(url) as other:
        threads = Threads()
        one.incr("k", 3)
        for client in (one, other):
            for _ in range(5):
                threads.start(client.wait_zero, "k")
        for _ in range(3):
            other.decr("k")
        threads.join()


def test_a_process_with_many_descriptors(server: ServerProcess) -> None:
    """More than `select` can name."""
    soft, hard = resource.getrlimit(resource.RLIMIT_NOFILE)
    with contextlib.ExitStack() as stack:
        if soft < 1_300:
            resource.setrlimit(resource.RLIMIT_NOFILE, (min(1_300, hard), hard))
            stack.callback(resource.setrlimit, resource.RLIMIT_NOFILE, (soft, hard))
        for _ in range(1_100):
            stack.enter_context(open(os.devnull))
        client = stack.enter_context(blocking.Client(url_of(server)))
        transport = connection_of(client)._protocol.transport  # type: ignore[union-attr]
        assert transport.get_extra_info("socket").fileno() > 1_024  # type: ignore[union-attr]
        client.incr("expires", ttl_ms=50)
        client.ping()
        assert client.wait_zero("expires", timeout=GUARD_S)
