"""The arguments of `naught.connect` and `naught.blocking.Client`, checked. Sans-IO.

What the program does not say, the URL may say (`naught://host/cache?timeout=2`), and else the default holds.
"""

from __future__ import annotations

from random import Random
from types import EllipsisType
from typing import TYPE_CHECKING, Final, NamedTuple, TypedDict, TypeVar

from naught.core.calls import check_lease, check_timeout
from naught.core.hooks import CallHook, Hooks, check_hooks
from naught.credentials import Credentials, Secret, check_credentials
from naught.errors import InvalidRequest
from naught.url import Address, MemoryAddress, TcpAddress, TlsFiles, parse, url_of_environment
from naught.wire.codec import check_name

if TYPE_CHECKING:
    from ssl import SSLContext

T = TypeVar("T")

TIMEOUT_S: Final = 1.0
"""Seconds that a call may take, unless the program says otherwise."""

CONNECT_TIMEOUT_S: Final = 5.0
"""Seconds that connecting may take, unless the program says otherwise."""


class ConnectOptions(TypedDict, total=False):
    """The options of `naught.connect` that every kind of client has, for type checkers."""

    timeout: float | EllipsisType | None
    connect_timeout: float | EllipsisType
    session: bool
    lease: float | EllipsisType | None
    name: str | EllipsisType | None
    user: str | EllipsisType | None
    secret: Secret | EllipsisType | None
    tls: SSLContext | None
    random: Random | None
    on_call_start: CallHook | None
    on_call_end: CallHook | None
    lazy: bool


class Options(NamedTuple):
    """Checked options. The docstring of `naught.connect` explains each."""

    address: Address
    timeout: float | None  # seconds: the default of every call; None for no limit
    connect_timeout: float  # seconds: for the first connection, and for each later attempt
    resumable: bool  # open a session, which outlives a connection
    lease_ms: int | None  # requested from the server; None for the server's default
    name: str | None  # what the client calls itself; None for `host:pid` of the process in which it begins
    random: Random | None  # draws the pauses between attempts to connect
    hooks: Hooks | None  # called for each call; None where the program has none
    lazy: bool = False  # connect at the first call
    credentials: Credentials | None = None  # who it is, where the server has users
    tls: TlsFiles | SSLContext | None = None  # of naughts://

    def to_pickle(self) -> Options:
        """Those of a client that is pickled. Raises TypeError where another process could not have the same."""
        if self.address == MemoryAddress(None):
            raise TypeError("a client of memory:// is not pickled, as its engine is its own; memory://NAME is shared")
        return self


def check_options(
    url: str | None,
    *,
    timeout: float | EllipsisType | None = ...,
    connect_timeout: float | EllipsisType = ...,
    session: bool = True,
    lease: float | EllipsisType | None = ...,
    name: str | EllipsisType | None = ...,
    user: str | EllipsisType | None = ...,
    secret: Secret | EllipsisType | None = ...,
    tls: SSLContext | None = None,
    random: Random | None = None,
    on_call_start: CallHook | None = None,
    on_call_end: CallHook | None = None,
    lazy: bool = False,
) -> Options:
    """Parse the URL and check the ranges. `...` stands for what the URL says, or the default; no URL for NAUGHT_URL.

    Raises InvalidRequest, which names the bad argument.
    """
    address, said = parse(url_of_environment() if url is None else url)
    limit = check_timeout(_first(connect_timeout, said.connect_timeout, CONNECT_TIMEOUT_S), "connect_timeout")
    if limit is None or limit <= 0:
        raise InvalidRequest(f"connect_timeout is more than 0 seconds, not {limit}")
    for flag, value in (("session", session), ("lazy", lazy)):
        if not isinstance(value, bool):
            raise InvalidRequest(f"{flag} is True or False, not {value!r}")
    if random is not None and not hasattr(random, "uniform"):
        raise InvalidRequest(f"random is a random.Random or None, not {type(random).__name__}")
    called = _first(name, said.name, None)
    if called is not None:
        if not isinstance(called, str):
            raise InvalidRequest(f"a name is a str, not {type(called).__name__}")
        check_name(called)
    return Options(
        address,
        check_timeout(_first(timeout, said.timeout, TIMEOUT_S)),
        limit,
        session,
        check_lease(_first(lease, said.lease, None)),
        called,
        random,
        check_hooks(on_call_start, on_call_end),
        lazy,
        None if isinstance(address, MemoryAddress) else check_credentials(user, secret, (said.user, said.secret)),
        _check_tls(address, tls, said.tls),
    )


def _check_tls(address: Address, tls: SSLContext | None, files: TlsFiles | None) -> TlsFiles | SSLContext | None:
    """The context that the program gives, or the files of the URL. Raises InvalidRequest where neither is of use."""
    if tls is None:
        return files
    if not (isinstance(address, TcpAddress) and address.tls):
        raise InvalidRequest(f"tls is for naughts://, and the URL is {address}")
    if files is not None and any(files):
        raise InvalidRequest("tls is a whole context: leave out ca, cert and key of the URL")
    return tls


def _first(argument: T | EllipsisType, said: T | EllipsisType, default: T) -> T:
    """What the program says, or the URL, or the default."""
    if not isinstance(argument, EllipsisType):
        return argument
    return default if isinstance(said, EllipsisType) else said
