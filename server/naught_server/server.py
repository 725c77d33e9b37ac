"""The life of a server process: what it listens on, whom it takes in, and how it ends.

    open listeners -> build the engine -> freeze the collector -> accept, sweep -> write the ports file
    -> a signal -> stop accepting -> drain every connection -> 0

**Accepting** is done here, not by the loop's own servers, for what happens at the limits. asyncio, out of
file descriptors, stops accepting for a second at a time and logs a traceback for each attempt; libuv under
uvloop gives up a descriptor of its own and says nothing. Here both loops do the same: a listening socket
that is readable is accepted from, at most `ACCEPTS_PER_TURN_MAX` times, and each socket is handed to the
loop as a connection. One connection too many, or one for which there is no descriptor, is taken from the
queue and closed at once, so that its client knows now and not when its patience ends; whoever is connected
notices nothing. For this one descriptor is held in reserve, given up for as long as such a connection is
taken and closed.

**Ending.** SIGTERM and SIGINT are the same. The first closes the listeners and drains: every connection
finishes what it has read, flushes and closes, and the process ends with 0; those that have not finished
within `drain_timeout_ms` are cut, which the log says, and that is still 0. A second signal cuts them at once
and ends with 1, because what was asked for the first time did not happen.

The live connections are owned here and nowhere else: a connection joins the set when its socket is accepted
and leaves it by `on_lost`.
"""

from __future__ import annotations

import asyncio
import contextlib
import errno
import gc
import ipaddress
import json
import logging
import os
import resource
import signal
import socket
import stat
import sys
import time
from collections.abc import Callable
from typing import Any, Final

from naught._version import __version__
from naught.wire.limits import KEEPALIVE
from naught_server.config import (
    ACCEPTS_PER_TURN_MAX,
    FILES_RESERVED,
    LISTEN_BACKLOG,
    ConfigError,
    ServerConfig,
)
from naught_server.connection import Connection
from naught_server.engine import Engine
from naught_server.logs import LOGGER_NAME, fields
from naught_server.stats import Stats
from naught_server.sweeper import Sweeper

__all__ = ["Server", "StartError", "resolve", "run", "serve"]

_log = logging.getLogger(LOGGER_NAME)

_ACCEPT_RETRY_S: Final = 0.1
"""How long a listener rests when not even the reserve helps: readable, it would wake the loop without end."""

_REFUSALS_LOGGED_S: Final = 1.0
"""Refused connections are logged at most so often, with their number: they come in thousands."""

_ABORT_WAIT_S: Final = 1.0
"""How long connections that were cut may take to be gone; two turns of the loop is what they need."""

_OUT_OF_ROOM: Final = frozenset({errno.EMFILE, errno.ENFILE, errno.ENOBUFS, errno.ENOMEM})

_NO_SUCH_ADDRESS: Final = frozenset({errno.EADDRNOTAVAIL, errno.EAFNOSUPPORT})

_PORT_ATTEMPTS: Final = 10
"""How often to look for a port that is free on all addresses of a name (`localhost` has two)."""

_MACOS_FILES_MAX: Final = 10_240
"""macOS says "unlimited" and refuses more than this."""


class StartError(Exception):
    """The server cannot start here and now: an address in use, no descriptors. One sentence."""


# ------------------------------------------------------------------------------------------------- addresses

_Address = tuple[socket.AddressFamily, tuple[Any, ...]]


def resolve(config: ServerConfig) -> list[_Address]:
    """The addresses TCP is to listen on; none without a host. May ask the resolver, and wait for it.

    Raises `ConfigError` where one is beyond loopback and `insecure` does not allow it, `StartError` where
    the name has no address.
    """
    if config.host is None:
        return []
    try:
        found = socket.getaddrinfo(
            config.host, config.port, type=socket.SOCK_STREAM, flags=socket.AI_PASSIVE | socket.AI_NUMERICSERV
        )
    except (OSError, UnicodeError) as error:
        reason = error.strerror if isinstance(error, OSError) else "not a host name"
        raise StartError(f"cannot listen on {config.host!r}: {reason}") from None
    addresses: list[_Address] = list(dict.fromkeys((family, address) for family, _, _, _, address in found))
    beyond = [address[0] for _, address in addresses if not _is_loopback(address[0])]
    if beyond and not config.insecure:
        named = config.host if config.host in beyond else f"{config.host} ({beyond[0]})"
        raise ConfigError(
            f"refusing to listen on {named}: there is no authentication, and whoever can connect can do anything; "
            "--insecure allows it"
        )
    return addresses


def _is_loopback(address: str) -> bool:
    parsed = ipaddress.ip_address(address.partition("%")[0])
    mapped = getattr(parsed, "ipv4_mapped", None)
    return bool((mapped or parsed).is_loopback)


def _shown(address: tuple[Any, ...]) -> str:
    return f"[{address[0]}]:{address[1]}" if ":" in address[0] else f"{address[0]}:{address[1]}"


def _listen_tcp(addresses: list[_Address]) -> list[socket.socket]:
    """Listen on all of them, on one port. Raises `StartError`."""
    for attempt in range(_PORT_ATTEMPTS):
        listeners: list[socket.socket] = []
        missing: OSError | None = None
        for family, (host, port, *scope) in addresses:
            if listeners:
                port = listeners[0].getsockname()[1]  # noqa: PLW2901  (0 was asked for, and this is what it became)
            try:
                listeners.append(_listen(family, (host, port, *scope)))
            except OSError as error:
                if error.errno in _NO_SUCH_ADDRESS and len(addresses) > 1:
                    missing = error  # `localhost` is ::1 too where the machine has no IPv6
                    continue
                picked_is_taken = bool(listeners) and error.errno == errno.EADDRINUSE
                _close_all(listeners)
                if picked_is_taken and addresses[0][1][1] == 0 and attempt < _PORT_ATTEMPTS - 1:
                    break
                raise StartError(f"cannot listen on {_shown((host, port))}: {error.strerror}") from None
        else:
            if missing is not None and not listeners:
                raise StartError(f"cannot listen on {_shown(addresses[0][1])}: {missing.strerror}")
            return listeners
    raise AssertionError("the last attempt returns or raises")


def _listen(family: socket.AddressFamily, address: tuple[Any, ...] | str) -> socket.socket:
    listener = socket.socket(family, socket.SOCK_STREAM)
    try:
        if family != socket.AF_UNIX:
            # Connections of a server that ended a moment ago do not keep the next one from its port.
            listener.setsockopt(socket.SOL_SOCKET, socket.SO_REUSEADDR, 1)
        if family == socket.AF_INET6:
            # Each address of a name is listened on by itself.
            listener.setsockopt(socket.IPPROTO_IPV6, socket.IPV6_V6ONLY, 1)
        listener.setblocking(False)
        listener.bind(address)
        listener.listen(LISTEN_BACKLOG)
    except BaseException:
        listener.close()
        raise
    return listener


def _close_all(sockets: list[socket.socket]) -> None:
    for each in sockets:
        each.close()


def _listen_unix(path: str) -> socket.socket:
    """Listen on a Unix socket. A file that a dead server left is replaced. Raises `StartError`."""
    try:
        if not stat.S_ISSOCK(os.lstat(path).st_mode):
            raise StartError(f"cannot listen on {path}: there is a file, and it is no socket")
        _refuse_live_socket(path)
        os.unlink(path)
    except FileNotFoundError:
        pass
    except OSError as error:
        raise StartError(f"cannot listen on {path}: {error.strerror}") from None
    try:
        return _listen(socket.AF_UNIX, path)
    except OSError as error:
        raise StartError(f"cannot listen on {path}: {error.strerror}") from None


def _refuse_live_socket(path: str) -> None:
    with socket.socket(socket.AF_UNIX, socket.SOCK_STREAM) as probe:
        # Not blocking: a queue that is full belongs to somebody, too.
        probe.setblocking(False)
        try:
            probe.connect(path)
        except ConnectionRefusedError:
            return
        except BlockingIOError:
            pass
    raise StartError(f"cannot listen on {path}: another server listens there")


class _Listeners:
    """The listening sockets, and the file that one of them leaves in the file system."""

    def __init__(self, config: ServerConfig) -> None:
        """Raises `StartError` where one cannot be had, and `ConfigError` where one must not be."""
        self.tcp = _listen_tcp(resolve(config))  # in the order the name resolves to
        self.unix: socket.socket | None = None
        self.unix_path: str | None = None
        self._unix_file = (0, 0)  # device and inode: only the file that is still ours is removed
        if config.unix_socket is not None:
            try:
                self.unix = _listen_unix(config.unix_socket)
                # Where it is also for those who were started in another directory.
                self.unix_path = os.path.abspath(config.unix_socket)
                status = os.stat(self.unix_path)
            except BaseException:
                self.close()
                raise
            self._unix_file = (status.st_dev, status.st_ino)

    def all(self) -> list[socket.socket]:
        return [*self.tcp, self.unix] if self.unix is not None else list(self.tcp)

    def bound(self) -> dict[str, Any]:
        """What the ports file says."""
        first = self.tcp[0].getsockname() if self.tcp else None
        return {
            "tcp": {"host": first[0], "port": first[1]} if first else None,
            "unix": self.unix_path,
            "pid": os.getpid(),
        }

    def close(self) -> None:
        """Close what is open. May be called again."""
        if self.unix_path is not None:
            with contextlib.suppress(OSError):
                status = os.lstat(self.unix_path)
                if (status.st_dev, status.st_ino) == self._unix_file:
                    os.unlink(self.unix_path)
        _close_all(self.all())
        self.tcp, self.unix, self.unix_path = [], None, None


# ------------------------------------------------------------------------------------------------- ports file


def _write_ports_file(path: str, bound: dict[str, Any]) -> None:
    """Put the file there whole or not at all: whoever waits for it never reads half of it."""
    folder, name = os.path.split(os.path.abspath(path))
    unfinished = os.path.join(folder, f".{name}.{os.getpid()}")
    try:
        with open(unfinished, "w", encoding="utf-8") as file:
            json.dump(bound, file)
            file.write("\n")
            file.flush()
            os.fsync(file.fileno())
        os.rename(unfinished, path)
    except OSError as error:
        with contextlib.suppress(OSError):
            os.unlink(unfinished)
        raise StartError(f"cannot write the ports file {path}: {error.strerror}") from None


def _remove_ports_file(path: str) -> None:
    """Take the file away, unless it is another server's by now."""
    with contextlib.suppress(OSError, ValueError, KeyError, TypeError):
        with open(path, encoding="utf-8") as file:
            if json.load(file)["pid"] != os.getpid():
                return
        os.unlink(path)


# ------------------------------------------------------------------------------------------------- accepting


def _room_for_connections(wanted: int) -> int:
    """How many connections there are descriptors for, at most `wanted`.

    Raises the process's soft limit as far as its hard limit lets it. Raises `StartError` where there is no
    room.
    """
    soft, hard = resource.getrlimit(resource.RLIMIT_NOFILE)
    needed = wanted + FILES_RESERVED
    if soft != resource.RLIM_INFINITY and soft < needed:
        most = needed if hard == resource.RLIM_INFINITY else min(needed, hard)
        for limit in (most, min(most, _MACOS_FILES_MAX)):
            if limit <= soft:
                continue
            with contextlib.suppress(OSError, ValueError):
                resource.setrlimit(resource.RLIMIT_NOFILE, (limit, hard))
                soft = limit
        if soft <= FILES_RESERVED:
            raise StartError(f"the limit on open files is {soft}; at least {FILES_RESERVED + 1} are needed")
        if soft < needed:
            _log.warning(
                "fewer connections than configured",
                extra=fields(connections_max=soft - FILES_RESERVED, configured=wanted, files_max=soft),
            )
            return soft - FILES_RESERVED
    return wanted


class _Reserve:
    """A descriptor that is there to be given up when there are no others."""

    def __init__(self) -> None:
        self._file = -1  # the descriptor; -1 while it is given up, or could not be had again
        self.take()

    def take(self) -> None:
        if self._file < 0:
            with contextlib.suppress(OSError):
                self._file = os.open(os.devnull, os.O_RDONLY | os.O_CLOEXEC)

    def give_up(self) -> None:
        if self._file >= 0:
            os.close(self._file)
            self._file = -1


class _Acceptor:
    """Takes connections from the listeners until told to stop, and turns away those there is no room for.

    `admit` is given each socket, and says False (having left it alone) when there is no room for another
    connection.
    """

    def __init__(self, listeners: list[socket.socket], admit: Callable[[socket.socket], bool], stats: Stats) -> None:
        self._listeners = listeners
        self._admit = admit
        self._stats = stats
        self._loop = asyncio.get_running_loop()
        self._reserve = _Reserve()
        self._resting: dict[socket.socket, asyncio.TimerHandle] = {}  # listeners not looked at, until when
        self._refused_logged = 0  # how many refused connections the log knows of
        self._refused_why = ""  # why the latest was
        self._log_timer: asyncio.TimerHandle | None = None  # while it runs, refusals are only counted

    def start(self) -> None:
        for listener in self._listeners:
            self._loop.add_reader(listener, self._accept_from, listener)

    def stop(self) -> None:
        """Accept no more. What the kernel has queued is the kernel's to refuse, once the listeners are closed."""
        for listener in self._listeners:
            if listener not in self._resting:
                self._loop.remove_reader(listener)
        for timer in self._resting.values():
            timer.cancel()
        self._listeners, self._resting = [], {}
        self._log_refused()
        if self._log_timer is not None:
            self._log_timer.cancel()
        self._reserve.give_up()

    def _accept_from(self, listener: socket.socket) -> None:
        for _ in range(ACCEPTS_PER_TURN_MAX):
            try:
                accepted, _address = listener.accept()
            except (BlockingIOError, InterruptedError):
                return
            except ConnectionAbortedError:
                continue  # the client went while it waited
            except OSError as error:
                if error.errno not in _OUT_OF_ROOM or not self._refuse_one_with_the_reserve(listener):
                    self._rest(listener, error)
                    return
                continue
            if not self._admit(accepted):
                accepted.close()
                self._count_refused("connections_max")
        # More may be waiting: the listener is readable still, and its turn comes again after everybody else's.

    def _refuse_one_with_the_reserve(self, listener: socket.socket) -> bool:
        """Whether a connection could be taken and closed, or none was left."""
        self._reserve.give_up()
        try:
            accepted, _address = listener.accept()
        except (BlockingIOError, InterruptedError, ConnectionAbortedError):
            return True
        except OSError:
            return False
        else:
            accepted.close()
            self._count_refused("open files")
            return True
        finally:
            self._reserve.take()

    def _rest(self, listener: socket.socket, error: OSError) -> None:
        _log.warning("cannot accept", extra=fields(error=error.strerror, retry_s=_ACCEPT_RETRY_S))
        self._loop.remove_reader(listener)
        self._resting[listener] = self._loop.call_later(_ACCEPT_RETRY_S, self._resume, listener)

    def _resume(self, listener: socket.socket) -> None:
        del self._resting[listener]
        self._reserve.take()
        self._loop.add_reader(listener, self._accept_from, listener)

    def _count_refused(self, why: str) -> None:
        self._stats.count_refused()
        self._refused_why = why
        if self._log_timer is None:
            self._log_refused()

    def _log_refused(self) -> None:
        """Say how many were refused since the last time; then be silent for a while."""
        if self._log_timer is not None:
            self._log_timer.cancel()
            self._log_timer = None
        count = self._stats.connections_refused - self._refused_logged
        if count:
            _log.warning("connections refused", extra=fields(count=count, why=self._refused_why))
            self._refused_logged = self._stats.connections_refused
            self._log_timer = self._loop.call_later(_REFUSALS_LOGGED_S, self._log_refused)


# ------------------------------------------------------------------------------------------------- the server


class _PauseWatch:
    """Tells the engine how long the garbage collector kept everybody waiting, collection by collection."""

    def __init__(self, gc_pause: Callable[[int], None]) -> None:
        self._gc_pause = gc_pause
        self._started_ns = 0  # when the collection under way began

    def __call__(self, phase: str, info: dict[str, int]) -> None:
        if phase == "start":
            self._started_ns = time.perf_counter_ns()
        else:
            self._gc_pause(time.perf_counter_ns() - self._started_ns)


class Server:
    """One server, from its listeners to its end. `await Server(config).run()` is all there is to do with
    it."""

    def __init__(self, config: ServerConfig) -> None:
        """Listens at once, and serves when run. Raises `StartError` and `ConfigError`."""
        self._config = config
        self._loop = asyncio.get_running_loop()
        self._listeners = _Listeners(config)
        try:
            self._connections_max = _room_for_connections(config.connections_max)
            # Holds are numbered by the microsecond the server started in, so that a number grows over restarts too
            # and serves as a fence: nobody acquires a million times a second.
            self._engine = Engine(config, first_hold=time.time_ns() // 1000)
        except BaseException:
            self._listeners.close()
            raise
        self._started_s = self._loop.time()
        self._connections: set[Connection] = set()  # every one that was accepted and is not lost yet
        self._arriving: set[asyncio.Task[None]] = set()  # handing a socket to the loop takes it a turn
        self._signals = 0  # how often it was told to stop
        self._reason = ""  # the first signal's name
        self._told_to_stop = asyncio.Event()
        # Done when draining need not go on: none is left, time is up, or a second signal came.
        self._drained: asyncio.Future[None] = self._loop.create_future()

    async def run(self) -> int:
        """Serve until a signal says to stop. Returns the exit status. Raises `StartError`."""
        async with contextlib.AsyncExitStack() as ending:
            ending.callback(self._listeners.close)
            for number in (signal.SIGTERM, signal.SIGINT):
                self._loop.add_signal_handler(number, self._on_signal, number)
                ending.callback(self._loop.remove_signal_handler, number)
            watch = _PauseWatch(self._engine.stats.collections.add)
            gc.callbacks.append(watch)
            ending.callback(gc.callbacks.remove, watch)
            # What is here now stays, tables included: no collection need ever look at it again.
            gc.collect()
            gc.freeze()
            if sys.version_info >= (3, 14):  # where the collector looks at every dict it was not told to leave alone
                self._engine.watch(on_tables_replaced=gc.freeze)
            ending.callback(gc.unfreeze)

            sweeper = self._loop.create_task(Sweeper(self._engine).run(), name="sweeper")
            sweeper.add_done_callback(_report_ended_sweeper)
            ending.push_async_callback(_cancel, sweeper)
            acceptor = _Acceptor(self._listeners.all(), self._admit, self._engine.stats)
            acceptor.start()
            ending.callback(acceptor.stop)
            if self._config.ports_file is not None:
                _write_ports_file(self._config.ports_file, self._listeners.bound())
                ending.callback(_remove_ports_file, self._config.ports_file)
            self._log_start()

            await self._told_to_stop.wait()
            acceptor.stop()
            self._listeners.close()
            cut = await self._drain()
            self._log_stop(cut)
            return 1 if cut and self._signals > 1 else 0

    # -- connections

    def _admit(self, accepted: socket.socket) -> bool:
        if len(self._connections) >= self._connections_max:
            return False
        connection = Connection(self._engine, self._on_lost)
        self._connections.add(connection)
        task = self._loop.create_task(self._hand_over(accepted, connection))
        self._arriving.add(task)
        task.add_done_callback(self._arriving.discard)
        return True

    async def _hand_over(self, accepted: socket.socket, connection: Connection) -> None:
        try:
            accepted.setblocking(False)
            if accepted.family != socket.AF_UNIX:
                # A reply is one write and waits for nothing that could be sent with it.
                accepted.setsockopt(socket.IPPROTO_TCP, socket.TCP_NODELAY, 1)
                _keep_alive(accepted)
            await self._loop.connect_accepted_socket(lambda: connection, accepted)
        except OSError as error:
            # macOS says EINVAL here when the client has gone already.
            _log.debug("connection failed as it was accepted", extra=fields(error=error.strerror))
            accepted.close()
            self._on_lost(connection)
        except BaseException:
            accepted.close()
            self._on_lost(connection)
            raise

    def _on_lost(self, connection: Connection) -> None:
        self._connections.discard(connection)
        if self._signals and not self._connections:
            self._finish_draining()

    # -- the end

    def _on_signal(self, number: int) -> None:
        self._signals += 1
        if self._signals == 1:
            self._reason = signal.Signals(number).name
            self._told_to_stop.set()
        else:
            self._finish_draining()

    def _finish_draining(self) -> None:
        if not self._drained.done():
            self._drained.set_result(None)

    async def _drain(self) -> int:
        """Let every connection finish. Returns how many had to be cut."""
        # Asked for only now: `config_set` changes it.
        timeout_s = self._engine.settings.drain_timeout_ms / 1000
        timer = self._loop.call_later(timeout_s, self._finish_draining)
        try:
            if self._arriving:
                await asyncio.wait(self._arriving)
            for connection in list(self._connections):
                try:
                    connection.drain()
                except Exception:
                    _log.exception("a connection failed to drain")
                    connection.abort()
            if self._connections:
                await self._drained
        finally:
            timer.cancel()
        cut = len(self._connections)
        if cut:
            await self._cut()
        return cut

    async def _cut(self) -> None:
        why = "a second signal" if self._signals > 1 else "drain timeout"
        _log.warning("connections cut", extra=fields(count=len(self._connections), why=why))
        for connection in list(self._connections):
            connection.abort()
        self._drained = self._loop.create_future()
        timer = self._loop.call_later(_ABORT_WAIT_S, self._finish_draining)
        if self._connections:
            await self._drained
        timer.cancel()

    # -- the log

    def _log_start(self) -> None:
        _log.info(
            "listening",
            extra=fields(
                tcp=[_shown(listener.getsockname()) for listener in self._listeners.tcp],
                unix=self._listeners.unix_path,
                version=__version__,
                loop=_loop_name(self._loop),
                caches=list(self._config.caches),
                connections_max=self._connections_max,
                pid=os.getpid(),
            ),
        )

    def _log_stop(self, cut: int) -> None:
        _log.info(
            "stopped",
            extra=fields(
                why=self._reason,
                uptime_s=round(self._loop.time() - self._started_s, 3),
                commands=sum(self._engine.stats.commands.values()),
                connections_accepted=self._engine.stats.connections_accepted,
                connections_refused=self._engine.stats.connections_refused,
                connections_cut=cut,
            ),
        )


def _keep_alive(accepted: socket.socket) -> None:
    """Have the kernel find out when the peer is gone: what its session holds is others' then."""
    accepted.setsockopt(socket.SOL_SOCKET, socket.SO_KEEPALIVE, 1)
    for name, value in KEEPALIVE:
        option = getattr(socket, name, None)
        if option is not None:
            accepted.setsockopt(socket.IPPROTO_TCP, option, value)


async def _cancel(task: asyncio.Task[None]) -> None:
    task.cancel()
    await asyncio.wait([task])


def _report_ended_sweeper(task: asyncio.Task[None]) -> None:
    if not task.cancelled() and (error := task.exception()) is not None:
        # The counters are right without it, and memory is not: go on serving, and say so loudly.
        _log.error("the sweeper has ended, and memory will not be given back", exc_info=error)


# ------------------------------------------------------------------------------------------------- the loop


def _new_event_loop() -> asyncio.AbstractEventLoop:
    try:
        import uvloop
    except ImportError:
        return asyncio.new_event_loop()
    return uvloop.new_event_loop()


def _loop_name(loop: asyncio.AbstractEventLoop) -> str:
    package = type(loop).__module__.partition(".")[0]
    return f"{package} {getattr(sys.modules.get(package), '__version__', '')}".strip()


async def serve(config: ServerConfig) -> int:
    """Serve on the running loop until a signal says to stop. Returns the exit status.

    Raises `ConfigError` and `StartError` where it cannot start. Takes over SIGTERM and SIGINT meanwhile.
    """
    return await Server(config).run()


def run(config: ServerConfig) -> int:
    """As `serve`, on a loop of its own: uvloop's where there is one."""
    with asyncio.Runner(loop_factory=_new_event_loop) as runner:
        return runner.run(serve(config))
