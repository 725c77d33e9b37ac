"""A server process from start to end: build it, serve, handle signals, drain.

    open the listeners -> build the engine -> freeze the collector -> accept, sweep -> write the ports file
    -> a signal -> stop accepting -> drain all connections -> exit status 0

Sockets are opened and connections accepted in `listeners.py`. Here each accepted socket becomes a `Connection`. The
set of live connections is kept here: a connection joins it when its socket is accepted, and leaves it by `on_lost`.

**Ending.** SIGTERM and SIGINT do the same. The first signal closes the listeners and drains: each connection
executes what it has read, flushes and closes, and the process ends with status 0. Connections that are not finished
within `drain_timeout_ms` are cut; the log reports them, and the status is still 0. A second signal cuts them at once,
and the status is 1, because the drain was not completed.

**Rereading.** SIGHUP reads the configuration again, from the same flags, environment and file; with `watch_config` so
does a change of the file. The settings that `config_set` can change take the values it has, the tuner its rules, and
users are added, changed and removed; the log names them, and the settings that would need a restart. Sessions of a
user that is gone or may do less are ended. A configuration with a fault changes nothing, and the log says what is
wrong and where.
"""

from __future__ import annotations

import asyncio
import contextlib
import gc
import json
import logging
import os
import signal
import socket
import sys
import time
from collections.abc import Callable, Mapping
from functools import partial
from typing import Any, Final, TypeVar

from naught._version import __version__
from naught_server.access import OnRefused
from naught_server.clock import CLOCK
from naught_server.config import ConfigError, ServerConfig, needing_restart
from naught_server.connection import Connection
from naught_server.engine import Audit, Engine
from naught_server.exhausted import LoopWatch, end_process, watch
from naught_server.fatal import FATAL
from naught_server.file_watch import LOOK_EVERY_S, FileWatch
from naught_server.health import Health
from naught_server.holds import TakenBack
from naught_server.http_server import HttpServer
from naught_server.listeners import (
    Acceptor,
    Listeners,
    StartError,
    is_loopback,
    limit_connections,
    resolve,
    shown_address,
    shown_peer,
)
from naught_server.loading import read_token
from naught_server.logins import LoginChecks
from naught_server.logs import AUDIT_LOGGER_NAME, LOGGER_NAME, fields, lines_dropped
from naught_server.metrics import Snapshot
from naught_server.notify import Notifier
from naught_server.peers import prepare_accepted
from naught_server.process import process_figures
from naught_server.regular_file import open_regular
from naught_server.routes import Routes
from naught_server.session import EndReason, Session
from naught_server.status import StatusFeed
from naught_server.sweeper import Sweeper
from naught_server.tls import TLS_TIMES, client_port_context, http_port_context
from naught_server.tuner import Decision, What
from naught_server.turns import Turns

__all__ = ["Server", "StartError", "resolve", "run", "serve"]

_log = logging.getLogger(LOGGER_NAME)
_audit_log = logging.getLogger(AUDIT_LOGGER_NAME)

_ABORT_WAIT_S: Final = 1.0
"""How long to wait for aborted connections to be gone. They need two turns of the loop."""


_SWEEPER_RESTART_S: Final = 1.0
"""How long after a failure the sweeper is started again: one that fails always must not fill the log."""

_ENDED_AT_ONCE: Final = 100
"""Connections and sessions that are looked at, and ended, in a turn of the loop: about a millisecond."""

T = TypeVar("T")

_KEY_BYTES_LOGGED: Final = 64
"""Enough of a key to recognize it."""

_TUNED: Final[Mapping[What, str]] = {
    "changed": "the tuner has changed a setting",
    "kept": "the tuner keeps a change, for another rule or cache that is met",
    "undone: no effect": "the tuner has undone a change that had no effect",
    "put back": "the tuner has put a setting back",
    "paused": "the tuner changes nothing more for a while: it has made too many changes in an hour",
}


# ------------------------------------------------------------------------------------------------- ports file


def _write_ports_file(path: str, bound: dict[str, Any]) -> None:
    """Write the file and then rename it, so that its readers never see a part of it. Raises `StartError`."""
    folder, name = os.path.split(os.path.abspath(path))
    unfinished = os.path.join(folder, f".{name}.{os.getpid()}")
    try:
        with contextlib.suppress(FileNotFoundError):
            os.unlink(unfinished)  # of a process that had the same id; or a FIFO or a link of somebody else
        with open(unfinished, "x", encoding="utf-8") as file:
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
    """Remove the file, unless another server has written it since."""
    with contextlib.suppress(OSError, ValueError, KeyError, TypeError):
        with open(path, encoding="utf-8", opener=open_regular) as file:
            if json.load(file)["pid"] != os.getpid():
                return
        os.unlink(path)


# ------------------------------------------------------------------------------------------------- the server


class _PauseWatch:
    """A callback of the garbage collector that measures its pauses, one by one."""

    def __init__(self, add_pause_ns: Callable[[int], None]) -> None:
        self._add_pause_ns = add_pause_ns  # called with each pause
        self._started_ns = 0  # when the collection under way began

    def __call__(self, phase: str, info: dict[str, int]) -> None:
        if phase == "start":
            self._started_ns = time.perf_counter_ns()
        else:
            self._add_pause_ns(time.perf_counter_ns() - self._started_ns)


class Server:
    """One server, from its listeners to its end. It is used as `await Server(config).run()`."""

    def __init__(
        self,
        config: ServerConfig,
        reread: Callable[[], ServerConfig] | None = None,
        config_path: str | None = None,
        *,
        alone: bool = False,
    ) -> None:
        """Listens at once, and serves when run. `reread` reads the configuration again, or raises `ConfigError`;
        `config_path` is the file it reads, for `watch_config`. `alone`: the process does nothing else, and is ended
        when the loop is stuck. Raises `StartError` and `ConfigError`."""
        self._config = config
        self._alone = alone
        self._watched = config_path if config.watch_config else None  # the configuration's file, if it is watched
        self._watches: list[FileWatch] = []  # of that file and those it names
        self._reread = reread  # None: SIGHUP changes nothing
        self._loop = asyncio.get_running_loop()
        self._turns: Final = Turns(self._loop.call_soon)
        self._tls = client_port_context(config)  # None: TCP is without TLS
        self._listeners = Listeners(config)
        try:
            self._connections_max = limit_connections(config)
            # The first hold's number is the time of the start in microseconds. A hold's number is also a fencing
            # token, which must grow over restarts too; no server makes a million holds a second.
            self._engine = Engine(config, first_hold=time.time_ns() // 1000)
            self._engine.stats.watch_log(lines_dropped)
            self._engine.watch(
                on_taken_back=_log_taken_back, on_collector=_set_collector, on_tuned=_log_tuned, on_audit=_log_audit
            )
            self._login_checks = LoginChecks(self._engine.access)
            self._engine.access.watch(start_check=self._login_checks.start, on_refused=_log_refused_login)
        except BaseException:
            self._listeners.close()
            self._listeners.close_http()
            raise
        self._http: HttpServer | None = None  # while it serves the HTTP port
        self._health = Health(self._engine)
        self._notifier = Notifier(os.environ)
        self._started_s = self._loop.time()
        self._connections: set[Connection] = set()  # accepted and not lost yet
        self._of_address: dict[str, int] = {}  # how many of them an address has
        self._handovers: set[asyncio.Task[None]] = set()  # each makes a transport for an accepted socket
        self._signals = 0  # how many signals to stop have come
        self._first_signal = ""  # the name of the first one
        self._stop_requested = asyncio.Event()  # set by the first signal
        # Done when draining ends: no connection is left, the time is up, or a second signal has come.
        self._drained: asyncio.Future[None] = self._loop.create_future()

    async def run(self) -> int:
        """Serve until a signal says to stop. Returns the exit status. Raises `StartError`."""
        async with contextlib.AsyncExitStack() as ending:
            ending.callback(self._listeners.close_http)
            ending.callback(self._listeners.close)
            ending.callback(self._login_checks.close)
            for number in (signal.SIGTERM, signal.SIGINT):
                ending.callback(self._handle_signal(number, partial(self._on_signal, number)))
            ending.callback(self._handle_signal(signal.SIGHUP, self._on_hangup))
            # All objects that exist now stay, tables included: later collections need not look at them.
            gc.collect()
            gc.freeze()
            _set_collector("gc_threshold", self._config.gc_threshold)
            if sys.version_info >= (3, 14):  # there the collector looks at every dict that is not frozen
                self._engine.watch(on_tables_replaced=gc.freeze)
            ending.callback(gc.unfreeze)
            # Only now: no client waits for the collection above, the longest there is.
            watch = _PauseWatch(self._engine.stats.note_collection)
            gc.callbacks.append(watch)
            ending.callback(gc.callbacks.remove, watch)

            if self._alone:
                ending.callback(LoopWatch().close)
            self._loop.set_exception_handler(_on_loop_exception)
            ending.callback(self._loop.set_exception_handler, None)
            sweeper = self._loop.create_task(self._sweep(), name="sweeper")
            ending.push_async_callback(_cancel, sweeper)
            if self._listeners.http:
                self._http = self._make_http()
                self._http.start()
                ending.callback(self._http.close)
            acceptor = Acceptor(self._listeners.all(), self._admit, self._engine.stats)
            acceptor.start()
            ending.callback(acceptor.stop)
            self._health.serve()
            if self._config.ports_file is not None:
                _write_ports_file(self._config.ports_file, self._listeners.bound())
                ending.callback(_remove_ports_file, self._config.ports_file)
            self._log_start()
            self._notifier.ready(self._summary())
            if self._notifier.watchdog_s is not None:
                self._feed_watchdog(self._notifier.watchdog_s)
            if self._watched is not None:
                self._watches = _watches_of(self._watched, self._config)
                self._watch_config()

            await self._stop_requested.wait()
            self._health.drain()
            self._notifier.stopping(f"draining after {self._first_signal}")
            acceptor.stop()
            self._listeners.close()
            cut = await self._drain()
            self._log_stop(cut)
            return 1 if cut and self._signals > 1 else 0

    def _handle_signal(self, number: int, function: Callable[[], object]) -> Callable[[], object]:
        """Have it called by the loop when this signal comes. Returns what ends that.

        The loop's own `remove_signal_handler` brings the default action back, for a moment at least: a signal that
        comes then ends the process with another status.
        """

        def call(*_: object) -> None:
            with contextlib.suppress(RuntimeError):  # the loop is closed
                self._loop.call_soon_threadsafe(function)

        before = signal.signal(number, call) or signal.SIG_DFL  # None: it was set by no Python code
        # A process of its own has only to exit then, with the status there is.
        return partial(signal.signal, number, signal.SIG_IGN if self._alone else before)

    async def _sweep(self) -> None:
        """Sweep until cancelled. A sweeper that raises is started again, because without one memory only grows."""
        while True:
            try:
                await Sweeper(self._engine).run()
            except FATAL as fault:
                end_process(fault)
            except Exception as fault:
                self._health.sweeper_failed(_now_ms())
                self._engine.sweep.count_failure("sweeper", fault)
                _log.error(
                    "the sweeper has failed: it is started again",
                    exc_info=fault,
                    extra=fields(restart_s=_SWEEPER_RESTART_S),
                )
            await asyncio.sleep(_SWEEPER_RESTART_S)

    # -- seeing

    def _make_http(self) -> HttpServer:
        feed = StatusFeed(self._engine)
        addresses = [listener.getsockname()[0] for listener in self._listeners.http]
        only_loopback = all(map(is_loopback, addresses))
        routes = Routes(self._health, feed, self._snapshot, _now_ms, self._engine.access, only_loopback=only_loopback)
        routes.take_token(read_token(self._config))
        tls = http_port_context(self._config)
        return HttpServer(self._listeners.http, routes, feed, self._engine.stats, turns=self._turns, tls=tls)

    def _snapshot(self) -> Snapshot:
        now_ms = _now_ms()
        is_ready = self._health.why_not_ready(now_ms) is None
        return Snapshot(self._engine, process_figures(), now_ms, time.time(), is_ready, _loop_name(self._loop))

    def _summary(self) -> str:
        """What `systemctl status` shows of a server that runs."""
        return f"serving {', '.join(self._config.caches)} at {', '.join(self._listeners.shown())}"

    def _feed_watchdog(self, every_s: float) -> None:
        """Give a sign of life while there is one, and again in a moment."""
        if self._health.why_not_live(_now_ms()) is None:
            self._notifier.alive()
        self._loop.call_later(every_s, self._feed_watchdog, every_s)

    # -- connections

    def _admit(self, accepted: socket.socket, address: str | None) -> str | None:
        """Serve an accepted socket; or return the limit that is reached."""
        if len(self._connections) >= self._connections_max:
            return "connections_max"
        if address is not None:
            count = self._of_address.get(address, 0)
            most = self._config.connections_per_address_max
            if most is not None and count >= most:
                return "connections_per_address_max"
            self._of_address[address] = count + 1
        connection = Connection(self._engine, self._turns, self._on_lost, address, shown_peer(accepted))
        self._connections.add(connection)
        task = self._loop.create_task(self._hand_over(accepted, connection))
        self._handovers.add(task)
        task.add_done_callback(self._handovers.discard)
        return None

    async def _hand_over(self, accepted: socket.socket, connection: Connection) -> None:
        """Give an accepted socket to the loop, as the transport of its connection. It takes a turn of the loop."""
        tls = None if accepted.family == socket.AF_UNIX else self._tls
        try:
            prepare_accepted(accepted)
            if tls is None:
                await self._loop.connect_accepted_socket(lambda: connection, accepted)
            else:
                await self._loop.connect_accepted_socket(lambda: connection, accepted, ssl=tls, **TLS_TIMES)
                self._engine.stats.count_handshake("done")
        except OSError as error:
            if tls is not None:
                # Both loops abort a handshake that takes too long.
                outcome = "timeout" if isinstance(error, ConnectionAbortedError) else "failed"
                self._engine.stats.count_handshake(outcome)
            # macOS reports EINVAL when the client has closed already.
            _log.debug("connection failed as it was accepted", extra=fields(error=error.strerror))
            accepted.close()
            self._on_lost(connection)
        except BaseException:
            accepted.close()
            self._on_lost(connection)
            raise

    def _on_lost(self, connection: Connection) -> None:
        if connection not in self._connections:
            return
        self._connections.remove(connection)
        if connection.address is not None:
            self._of_address[connection.address] -= 1
            if not self._of_address[connection.address]:
                del self._of_address[connection.address]
        if self._signals and not self._connections:
            self._finish_draining()

    # -- the end

    def _on_signal(self, number: int) -> None:
        self._signals += 1
        if self._signals == 1:
            self._first_signal = signal.Signals(number).name
            self._stop_requested.set()
        else:
            self._finish_draining()

    def _finish_draining(self) -> None:
        if not self._drained.done():
            self._drained.set_result(None)

    async def _drain(self) -> int:
        """Let every connection finish. Returns how many had to be cut."""
        # Read only now, because `config_set` can change it.
        timeout_s = self._engine.settings.drain_timeout_ms / 1000
        timer = self._loop.call_later(timeout_s, self._finish_draining)
        try:
            if self._handovers:
                await asyncio.wait(self._handovers)
            for connection in list(self._connections):
                try:
                    connection.drain()
                except Exception:
                    _log.exception("a connection failed to drain")
                    connection.abort()
                await asyncio.sleep(0)  # it may have had thousands of waiting requests to answer
            if self._connections:
                await self._drained
        finally:
            timer.cancel()
        cut = len(self._connections)
        if cut:
            await self._cut()
        return cut

    async def _cut(self) -> None:
        """Abort the connections that are left, and wait until they are gone."""
        why = "a second signal" if self._signals > 1 else "drain timeout"
        _log.warning("connections cut", extra=fields(count=len(self._connections), why=why))
        for connection in list(self._connections):
            connection.abort()
        self._drained = self._loop.create_future()
        timer = self._loop.call_later(_ABORT_WAIT_S, self._finish_draining)
        if self._connections:
            await self._drained
        timer.cancel()

    # -- rereading the configuration

    def _on_hangup(self) -> None:
        if self._signals:
            _log.warning("configuration not reread: the server is stopping")
            return
        self._notifier.reloading()
        try:
            self._reread_config()
        finally:
            self._notifier.ready(self._summary())

    def _watch_config(self) -> None:
        """Reread the configuration if its file or one that it names has changed, and look again in a moment."""
        if self._signals:
            return
        self._loop.call_later(LOOK_EVERY_S, self._watch_config)  # first, so that no fault below ends the watch
        found = {watch.path: watch.look() for watch in self._watches}
        for path, what in found.items():
            if what == "gone":
                _log.warning(
                    "the configuration's file is gone or cannot be seen: nothing was changed",
                    extra=fields(file=path),
                )
        if "changed" in found.values():
            self._on_hangup()

    def _reread_config(self) -> None:
        if self._reread is None:
            _log.warning("configuration not reread: the server was started without one")
            return
        try:
            config = self._reread()
        except ConfigError as error:
            _log.error("configuration not reread: nothing was changed", extra=fields(why=str(error)))
            return
        access = self._engine.access
        if access.required and not config.users:
            # Nobody would have to log in any more, while the server may listen beyond loopback.
            why = "it has no users, and access is not turned off while the server runs: restart it"
            _log.error("configuration not reread: nothing was changed", extra=fields(why=why))
            return
        try:
            self._reread_files(config)
        except ConfigError as error:
            _log.error("configuration not reread: nothing was changed", extra=fields(why=str(error)))
            return
        changes = self._engine.settings.changes(config)
        users = access.differences(config.users)
        said = fields(
            changed=[f"{name}={value}" for name, value in changes.items()],
            **({"users": users} if users else {}),
            rules=self._engine.tuner.differences(config.rules),
            needs_restart=needing_restart(self._config, config),
        )
        # The line is written at the lower of the old and the new level, so that it is not lost with the change.
        before = _log.isEnabledFor(logging.INFO)
        if before:
            _log.info("configuration reread", extra=said)
        self._engine.reconfigure(config)
        if self._watched is not None:
            known = {watch.path: watch for watch in self._watches}
            self._watches = [known.get(watch.path, watch) for watch in _watches_of(self._watched, config)]
        if users:
            self._renew_logins()
        if not before:
            _log.info("configuration reread", extra=said)

    def _reread_files(self, config: ServerConfig) -> None:
        """Take certificates and keys from their files. Raises ConfigError, with nothing changed."""
        tls = client_port_context(config)
        http_tls = http_port_context(config)
        token = read_token(config)
        if self._tls is not None and tls is not None:
            self._tls = tls
        if self._http is not None:
            self._http.renew(http_tls, token)

    def _renew_logins(self) -> None:
        """The users were changed: end the connections and sessions of those that may not do any more what they
        might."""
        # Sessions after all connections: one may be opened on a connection that was not looked at yet.
        self._do_in_turns(list(self._connections), lambda each: each.renew_login(), self._end_sessions)

    def _end_sessions(self) -> None:
        self._do_in_turns(self._engine.sessions.without_access(self._engine.access), self._end_session)

    def _end_session(self, session: Session) -> None:
        if self._engine.sessions.get(session.number) is session:
            self._engine.sessions.end_by_operator(session, _now_ms(), "access")

    def _do_in_turns(self, rest: list[T], do: Callable[[T], None], then: Callable[[], None] | None = None) -> None:
        """Do this to each, to some in each turn of the loop, and then that."""
        for each in rest[:_ENDED_AT_ONCE]:
            do(each)
        rest = rest[_ENDED_AT_ONCE:]
        if rest:
            self._loop.call_soon(self._do_in_turns, rest, do, then)
        elif then is not None:
            then()

    # -- the log

    def _log_start(self) -> None:
        _log.info(
            "listening",
            extra=fields(
                tcp=[shown_address(listener.getsockname()) for listener in self._listeners.tcp],
                unix=self._listeners.unix_path,
                http=[shown_address(listener.getsockname()) for listener in self._listeners.http],
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
                why=self._first_signal,
                uptime_s=round(self._loop.time() - self._started_s, 3),
                commands=self._engine.stats.commands_total(),
                connections_accepted=self._engine.stats.connections_accepted,
                connections_refused=self._engine.stats.connections_refused,
                connections_cut=cut,
            ),
        )


def _watches_of(path: str, config: ServerConfig) -> list[FileWatch]:
    """Watches of a configuration's file and of those that it names."""
    return [FileWatch(each) for each in dict.fromkeys((path, *config.files_read))]


def _log_taken_back(session: Session, reason: EndReason, taken: TakenBack) -> None:
    """A client is gone, and what it held is free: whose it was, of what, how much."""
    first = taken.first.items()
    counters = [f"{key[:_KEY_BYTES_LOGGED].decode('utf-8', 'backslashreplace')}={amount}" for key, amount in first]
    _log.warning(
        "holds taken back",
        extra=fields(
            session=session.number,
            name=session.name,
            address=session.address,
            cache=session.cache.name,
            why=reason,
            holds=taken.holds,
            amounts=taken.amounts,
            total=taken.total,
            counters=counters,
        ),
    )


def _log_audit(audit: Audit) -> None:
    """A client has done what an operator may be asked about later."""
    _audit_log.info(
        audit.event,
        extra=fields(user=audit.user, session=audit.session, name=audit.name, address=audit.address, **audit.details),
    )


def _log_refused_login(refused: OnRefused) -> None:
    """Somebody has tried to log in with what is wrong. Of many at once the log writes some and counts the others."""
    said = fields(user=refused.user, address=refused.address, why=refused.why, times=refused.times)
    _audit_log.warning("log-in refused", extra=said)


def _set_collector(name: str, value: Any) -> None:
    """`gc_threshold` or `gc_freeze` has another value."""
    if name == "gc_threshold":
        gc.set_threshold(value, *gc.get_threshold()[1:])
    elif value:
        gc.freeze()
    else:  # what was frozen and has become garbage is found; what is left stays frozen, as since the start
        gc.unfreeze()
        gc.collect()
        gc.freeze()


def _log_tuned(decision: Decision) -> None:
    """The tuner has decided something: what, by which rule, on which figure."""
    _log.info(
        _TUNED[decision.what] if not decision.dry_run else f"dry run, nothing was changed: {_TUNED[decision.what]}",
        extra=fields(
            rule=decision.rule,
            setting=decision.setting,
            before=decision.before,
            after=decision.after,
            metric=decision.metric,
            figure=round(decision.figure, 4),
            threshold=decision.threshold,
            cache=decision.cache,
        ),
    )


def _now_ms() -> int:
    return CLOCK.now_ms()


async def _cancel(task: asyncio.Task[None]) -> None:
    task.cancel()
    await asyncio.wait([task])


def _on_loop_exception(loop: asyncio.AbstractEventLoop, context: dict[str, Any]) -> None:
    """A callback has raised. The loop logs it and goes on, except without memory."""
    fault = context.get("exception")
    if isinstance(fault, FATAL):
        end_process(fault)
    loop.default_exception_handler(context)


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


async def serve(
    config: ServerConfig, reread: Callable[[], ServerConfig] | None = None, config_path: str | None = None
) -> int:
    """Serve on the running loop until a signal says to stop. Returns the exit status.

    Raises `ConfigError` and `StartError` where it cannot start. Handles SIGTERM, SIGINT and SIGHUP while it serves;
    `reread` reads the configuration again at SIGHUP, and with `watch_config` when the file `config_path` changes.
    """
    return await Server(config, reread, config_path).run()


def run(
    config: ServerConfig, reread: Callable[[], ServerConfig] | None = None, config_path: str | None = None
) -> int:
    """As `serve`, on a new event loop: uvloop's where it is installed, asyncio's otherwise. Of the main thread of a
    process that only serves: a lack of memory ends it."""
    with watch(), asyncio.Runner(loop_factory=_new_event_loop) as runner:
        try:
            return runner.run(_serve_alone(config, reread, config_path))
        except FATAL as fault:  # of the loop itself: asyncio's own is written in Python
            end_process(fault)


async def _serve_alone(
    config: ServerConfig, reread: Callable[[], ServerConfig] | None, config_path: str | None
) -> int:
    return await Server(config, reread, config_path, alone=True).run()
