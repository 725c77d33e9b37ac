"""Listening sockets, and the connections that arrive on them: accepting and refusing.

`Listeners` opens the sockets: one for each address that the host name resolves to, and the Unix socket with its file.
`Acceptor` accepts from them and gives each accepted socket to the server.

The loop's own servers are not used, because they handle a shortage of file descriptors badly. asyncio stops accepting
for a second and logs a traceback for each attempt; libuv under uvloop gives up a descriptor of its own and reports
nothing. `Acceptor` does the same on both loops: when a listening socket is readable, it accepts up to
`ACCEPTS_PER_TURN_MAX` connections.

A connection above the limit, or one without a free descriptor, is accepted and closed at once. Its client learns this
now and not when its own timeout ends, and open connections are not affected. To accept without a free descriptor, one
descriptor is held in reserve: it is closed for as long as such a connection is accepted and closed.
"""

from __future__ import annotations

import asyncio
import contextlib
import errno
import grp
import ipaddress
import logging
import os
import pwd
import resource
import socket
import stat
from collections.abc import Callable
from typing import Any, Final

from naught_server.config import ConfigError, ServerConfig
from naught_server.limits import ACCEPTS_PER_TURN_MAX, LISTEN_BACKLOG
from naught_server.logs import LOGGER_NAME, fields
from naught_server.stats import Stats

__all__ = [
    "Acceptor",
    "Listeners",
    "StartError",
    "is_loopback",
    "limit_connections",
    "peer_address",
    "resolve",
    "resolve_http",
    "shown_address",
    "shown_peer",
]

_log = logging.getLogger(LOGGER_NAME)

_ACCEPT_RETRY_S: Final = 0.1
"""How long a listener is paused when accepting fails even with the reserve. The socket stays readable, so without a
pause it would wake the loop all the time."""

_REFUSALS_LOGGED_S: Final = 1.0
"""Refused connections are logged at most once in this time, with their number: thousands may come."""

_OUT_OF_ROOM: Final = frozenset({errno.EMFILE, errno.ENFILE, errno.ENOBUFS, errno.ENOMEM})

_NO_SUCH_ADDRESS: Final = frozenset({errno.EADDRNOTAVAIL, errno.EAFNOSUPPORT})

_PORT_ATTEMPTS: Final = 10
"""How many ports to try until one is free on all addresses of a name (`localhost` has two)."""

_MACOS_FILES_MAX: Final = 10_240
"""macOS reports "unlimited" and refuses a limit above this."""


class StartError(Exception):
    """The server cannot start now: an address is in use, or there are no descriptors. One sentence."""


# ------------------------------------------------------------------------------------------------- addresses

Address = tuple[socket.AddressFamily, tuple[Any, ...]]


def resolve(config: ServerConfig) -> list[Address]:
    """The addresses clients are to be served at; none without a host. May block while the resolver is asked.

    Raises `ConfigError` where an address is beyond loopback and `insecure` is not set, `StartError` where the name
    has no address.
    """
    return _resolve(
        config.host,
        config.port,
        "no users are configured, so every client that can connect has full access; add users to the file of "
        "--config ([users.NAME], with a secret from naught-server hash-secret)",
        config.insecure or bool(config.users),
    )


def resolve_http(config: ServerConfig) -> list[Address]:
    """As `resolve`, for the HTTP port."""
    return _resolve(
        config.http_host,
        config.http_port,
        "HTTP has no token, so everybody who can connect sees what it shows; name a file with one (http_token_file)",
        config.insecure or config.http_token_file is not None,
    )


def _resolve(host: str | None, port: int | None, danger: str, insecure: bool) -> list[Address]:
    if host is None or port is None:
        return []
    try:
        found = socket.getaddrinfo(
            host, port, type=socket.SOCK_STREAM, flags=socket.AI_PASSIVE | socket.AI_NUMERICSERV
        )
    except (OSError, UnicodeError) as error:
        reason = error.strerror if isinstance(error, OSError) else "not a host name"
        raise StartError(f"cannot listen on {host!r}: {reason}") from None
    addresses: list[Address] = list(dict.fromkeys((family, address) for family, _, _, _, address in found))
    beyond = [address[0] for _, address in addresses if not is_loopback(address[0])]
    if beyond and not insecure:
        named = host if host in beyond else f"{host} ({beyond[0]})"
        raise ConfigError(f"refusing to listen on {named}: {danger}; --insecure allows it")
    return addresses


def is_loopback(address: str) -> bool:
    """Whether only this machine can connect to an address."""
    parsed = ipaddress.ip_address(address.partition("%")[0])
    mapped = getattr(parsed, "ipv4_mapped", None)
    return bool((mapped or parsed).is_loopback)


def peer_address(family: int, address: Any) -> str | None:
    """What bounds by address count an accepted connection under; None for a Unix socket, whose file says who may
    connect. Of an IPv6 address the first 64 bits: a host is given at least as many addresses as there are behind."""
    if family == socket.AF_INET:
        return str(address[0])
    if family == socket.AF_INET6:
        host = ipaddress.IPv6Address(address[0].partition("%")[0])
        return str(ipaddress.IPv6Network((int(host) >> 64 << 64, 64)))
    return None


def shown_peer(accepted: socket.socket) -> str:
    """Where an accepted connection comes from, for operators: an address without its port, `unix` for a Unix socket,
    empty where the peer has gone already. At most 63 bytes."""
    if accepted.family == socket.AF_UNIX:
        return "unix"
    try:
        return str(accepted.getpeername()[0])
    except OSError:
        return ""


def shown_address(address: tuple[Any, ...]) -> str:
    """An address as `host:port`, for messages and the log."""
    return f"[{address[0]}]:{address[1]}" if ":" in address[0] else f"{address[0]}:{address[1]}"


# ------------------------------------------------------------------------------------------------- listening sockets


def _listen_tcp(addresses: list[Address]) -> list[socket.socket]:
    """Listen on all of them, on one port. Raises `StartError`."""
    for attempt in range(_PORT_ATTEMPTS):
        listeners: list[socket.socket] = []
        missing: OSError | None = None
        for family, (host, port, *scope) in addresses:
            if listeners:
                # Where port 0 was asked for, this is the port that the kernel has picked for the first address.
                port = listeners[0].getsockname()[1]  # noqa: PLW2901
            try:
                listeners.append(_listen(family, (host, port, *scope)))
            except OSError as error:
                if error.errno in _NO_SUCH_ADDRESS and len(addresses) > 1:
                    missing = error  # `localhost` resolves to ::1 too on a machine without IPv6
                    continue
                picked_is_taken = bool(listeners) and error.errno == errno.EADDRINUSE
                _close_all(listeners)
                if picked_is_taken and addresses[0][1][1] == 0 and attempt < _PORT_ATTEMPTS - 1:
                    break
                raise StartError(f"cannot listen on {shown_address((host, port))}: {error.strerror}") from None
        else:
            if missing is not None and not listeners:
                raise StartError(f"cannot listen on {shown_address(addresses[0][1])}: {missing.strerror}")
            return listeners
    raise AssertionError("the last attempt returns or raises")


def _listen(family: socket.AddressFamily, address: tuple[Any, ...] | str) -> socket.socket:
    listener = socket.socket(family, socket.SOCK_STREAM)
    try:
        if family != socket.AF_UNIX:
            # Closed connections of an earlier server on this port must not prevent binding it.
            listener.setsockopt(socket.SOL_SOCKET, socket.SO_REUSEADDR, 1)
        if family == socket.AF_INET6:
            # Each address of a name has a socket of its own.
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


def _listen_unix(path: str, mode: str | None = None, owner: str | None = None) -> socket.socket:
    """Listen on a Unix socket. The file of a server that is not running any more is replaced. Its file has these
    permissions and this owner before anybody can connect. Raises `StartError`."""
    ids = None if owner is None else _ids_of(owner)
    try:
        if not stat.S_ISSOCK(os.lstat(path).st_mode):
            raise StartError(f"cannot listen on {path}: there is a file that is not a socket")
        _refuse_live_socket(path)
        os.unlink(path)
    except FileNotFoundError:
        pass
    except OSError as error:
        raise StartError(f"cannot listen on {path}: {error.strerror}") from None
    try:
        if mode is None and ids is None:
            return _listen(socket.AF_UNIX, path)
        # Nobody else may connect between `bind` and `chmod`.
        before = os.umask(0o177)
        try:
            listener = _listen(socket.AF_UNIX, path)
        finally:
            os.umask(before)
        try:
            if ids is not None:
                os.chown(path, *ids)
            os.chmod(path, int(mode, 8) if mode is not None else 0o777 & ~before)
        except BaseException:
            listener.close()
            os.unlink(path)
            raise
        return listener
    except OSError as error:
        raise StartError(f"cannot listen on {path}: {error.strerror}") from None


_NO_ID: Final = 2**32 - 1
"""The first number that is no id: `chown` takes it for -1, which leaves the owner as it is."""


def _ids_of(owner: str) -> tuple[int, int]:
    """The ids of user and group; -1 for one that stays. Names or numbers. Raises `StartError`."""
    user, _, group = owner.partition(":")
    try:
        uid = -1 if not user else int(user) if user.isdecimal() else pwd.getpwnam(user).pw_uid
        gid = -1 if not group else int(group) if group.isdecimal() else grp.getgrnam(group).gr_gid
    except KeyError:
        uid = gid = _NO_ID
    if max(uid, gid) >= _NO_ID:
        raise StartError(f"unix_socket_owner: there is no user or group {owner!r}")
    return uid, gid


def _refuse_live_socket(path: str) -> None:
    """Raise `StartError` where a server listens on the Unix socket at this path."""
    with socket.socket(socket.AF_UNIX, socket.SOCK_STREAM) as probe:
        # Not blocking: a server whose queue is full is running too.
        probe.setblocking(False)
        try:
            probe.connect(path)
        except ConnectionRefusedError:
            return
        except BlockingIOError:
            pass
    raise StartError(f"cannot listen on {path}: another server listens there")


class Listeners:
    """The listening sockets of one server, and the file of its Unix socket."""

    def __init__(self, config: ServerConfig) -> None:
        """Open all of them. Raises `StartError` where one cannot be opened, `ConfigError` where one must not be."""
        self.tcp = _listen_tcp(resolve(config))  # in the order the name resolves to
        self.http: list[socket.socket] = []  # of the HTTP port, which is open until the process ends
        self.unix: socket.socket | None = None  # the Unix socket; None where there is none
        self.unix_path: str | None = None  # its file; None where there is none
        self._unix_file = (0, 0)  # device and inode of that file: a file that is another server's is not removed
        try:
            self.http = _listen_http(config)
            if config.unix_socket is not None:
                self.unix = _listen_unix(config.unix_socket, config.unix_socket_mode, config.unix_socket_owner)
                # Absolute, because the reader of the ports file may have another working directory.
                self.unix_path = os.path.abspath(config.unix_socket)
                status = os.stat(self.unix_path)
                self._unix_file = (status.st_dev, status.st_ino)
        except BaseException:
            self.close()
            self.close_http()
            raise

    def all(self) -> list[socket.socket]:
        """The listening sockets for clients."""
        return [*self.tcp, self.unix] if self.unix is not None else list(self.tcp)

    def bound(self) -> dict[str, Any]:
        """The content of the ports file."""
        return {
            "tcp": _host_and_port(self.tcp),
            "unix": self.unix_path,
            "http": _host_and_port(self.http),
            "pid": os.getpid(),
        }

    def shown(self) -> list[str]:
        """The addresses that clients are served at, for people."""
        addresses = [shown_address(listener.getsockname()) for listener in self.tcp]
        return addresses if self.unix_path is None else [*addresses, self.unix_path]

    def close(self) -> None:
        """Close the sockets for clients and remove the Unix socket's file. May be called again."""
        if self.unix_path is not None:
            with contextlib.suppress(OSError):
                status = os.lstat(self.unix_path)
                if (status.st_dev, status.st_ino) == self._unix_file:
                    os.unlink(self.unix_path)
        _close_all(self.all())
        self.tcp, self.unix, self.unix_path = [], None, None

    def close_http(self) -> None:
        """Close the sockets of the HTTP port. May be called again."""
        _close_all(self.http)
        self.http = []


def _listen_http(config: ServerConfig) -> list[socket.socket]:
    """Listen on the HTTP port, where there is one. Raises `StartError`, which says how to pick another."""
    try:
        return _listen_tcp(resolve_http(config))
    except StartError as error:
        raise StartError(f"{error}; --http-port picks another port for HTTP, 0 a free one, off none") from None


def _host_and_port(listeners: list[socket.socket]) -> dict[str, Any] | None:
    """The first address of these, for the ports file; None where there are none."""
    if not listeners:
        return None
    host, port, *_ = listeners[0].getsockname()
    return {"host": host, "port": port}


# ------------------------------------------------------------------------------------------------- accepting


def limit_connections(config: ServerConfig) -> int:
    """The number of connections there are file descriptors for, at most `connections_max`.

    Raises the process's soft limit on open files as far as its hard limit allows. Raises `StartError` where no
    connection would fit.
    """
    soft, hard = resource.getrlimit(resource.RLIMIT_NOFILE)
    wanted, reserved = config.connections_max, config.files_reserved
    needed = wanted + reserved
    if soft != resource.RLIM_INFINITY and soft < needed:
        most = needed if hard == resource.RLIM_INFINITY else min(needed, hard)
        for limit in (most, min(most, _MACOS_FILES_MAX)):
            if limit <= soft:
                continue
            with contextlib.suppress(OSError, ValueError):
                resource.setrlimit(resource.RLIMIT_NOFILE, (limit, hard))
                soft = limit
        if soft <= reserved:
            raise StartError(f"the limit on open files is {soft}; at least {reserved + 1} are needed")
        if soft < needed:
            _log.warning(
                "fewer connections than configured",
                extra=fields(connections_max=soft - reserved, configured=wanted, files_max=soft),
            )
            return soft - reserved
    return wanted


class _ReserveDescriptor:
    """An open descriptor that is closed when a connection must be accepted and no other descriptor is free."""

    def __init__(self) -> None:
        self._file = -1  # the descriptor; -1 while it is closed, or could not be opened again
        self.open()

    def open(self) -> None:
        if self._file < 0:
            with contextlib.suppress(OSError):
                self._file = os.open(os.devnull, os.O_RDONLY | os.O_CLOEXEC)

    def close(self) -> None:
        if self._file >= 0:
            os.close(self._file)
            self._file = -1


class Acceptor:
    """Accepts connections from the listeners until it is stopped, and closes those there is no room for.

    `admit` is called with each accepted socket and its `peer_address`. It returns None; or, when there is no room for
    the connection, the limit that was reached, and then does nothing with the socket.
    """

    def __init__(
        self, listeners: list[socket.socket], admit: Callable[[socket.socket, str | None], str | None], stats: Stats
    ) -> None:
        self._listeners = listeners
        self._admit = admit
        self._stats = stats
        self._loop = asyncio.get_running_loop()
        self._reserve = _ReserveDescriptor()
        self._paused: dict[socket.socket, asyncio.TimerHandle] = {}  # listeners not watched now; the timer resumes
        self._refused = 0  # connections, since the start
        self._refused_logged = 0  # how many of them were reported in the log
        self._refused_why = ""  # why the latest was refused
        self._log_timer: asyncio.TimerHandle | None = None  # while it runs, refused connections are only counted

    def start(self) -> None:
        """Begin to accept."""
        for listener in self._listeners:
            self._loop.add_reader(listener, self._accept_from, listener)

    def stop(self) -> None:
        """Accept no more. The kernel refuses the connections it has queued when the listeners are closed."""
        for listener in self._listeners:
            if listener not in self._paused:
                self._loop.remove_reader(listener)
        for timer in self._paused.values():
            timer.cancel()
        self._listeners, self._paused = [], {}
        self._log_refused()
        if self._log_timer is not None:
            self._log_timer.cancel()
        self._reserve.close()

    def _accept_from(self, listener: socket.socket) -> None:
        for _ in range(ACCEPTS_PER_TURN_MAX):
            try:
                accepted, address = listener.accept()
            except (BlockingIOError, InterruptedError):
                return
            except ConnectionAbortedError:
                continue  # the client closed while its connection was queued
            except OSError as error:
                if error.errno not in _OUT_OF_ROOM or not self._refuse_one_with_the_reserve(listener):
                    self._pause(listener, error)
                    return
                continue
            limit = self._admit(accepted, peer_address(accepted.family, address))
            if limit is not None:
                accepted.close()
                self._count_refused(limit)
        # If more are queued, the listener is still readable, and is served again after all other ready callbacks.

    def _refuse_one_with_the_reserve(self, listener: socket.socket) -> bool:
        """Accept one connection with the reserve descriptor and close it; False where even that fails."""
        self._reserve.close()
        try:
            accepted, _address = listener.accept()
        except (BlockingIOError, InterruptedError, ConnectionAbortedError):
            return True  # none was queued any more
        except OSError:
            return False
        else:
            accepted.close()
            self._count_refused("open_files")
            return True
        finally:
            self._reserve.open()

    def _pause(self, listener: socket.socket, error: OSError) -> None:
        """Do not accept from a listener for a while."""
        _log.warning("cannot accept", extra=fields(error=error.strerror, retry_s=_ACCEPT_RETRY_S))
        self._loop.remove_reader(listener)
        self._paused[listener] = self._loop.call_later(_ACCEPT_RETRY_S, self._resume, listener)

    def _resume(self, listener: socket.socket) -> None:
        del self._paused[listener]
        self._reserve.open()
        self._loop.add_reader(listener, self._accept_from, listener)

    def _count_refused(self, why: str) -> None:
        self._stats.count_refused(why)
        self._refused += 1
        self._refused_why = why
        if self._log_timer is None:
            self._log_refused()

    def _log_refused(self) -> None:
        """Log how many were refused since the last line, and wait `_REFUSALS_LOGGED_S` before the next one."""
        if self._log_timer is not None:
            self._log_timer.cancel()
            self._log_timer = None
        count = self._refused - self._refused_logged
        if count:
            _log.warning("connections refused", extra=fields(count=count, why=self._refused_why))
            self._refused_logged = self._refused
            self._log_timer = self._loop.call_later(_REFUSALS_LOGGED_S, self._log_refused)
