"""The arguments of `naught.connect` and `naught.blocking.Client`, checked. Sans-IO.

What the program does not say, the URL may say (`naught://host/cache?timeout=2`), and else the default holds.
"""

from __future__ import annotations

from random import Random
from types import EllipsisType
from typing import Final, NamedTuple, TypedDict, TypeVar

from naught.core.calls import check_lease, check_timeout
from naught.core.hooks import CallHook, Hooks, check_hooks
from naught.errors import InvalidRequest
from naught.url import Address, parse, url_of_environment
from naught.wire.codec import check_name

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


def check_options(
    url: str | None,
    *,
    timeout: float | EllipsisType | None = ...,
    connect_timeout: float | EllipsisType = ...,
    session: bool = True,
    lease: float | EllipsisType | None = ...,
    name: str | EllipsisType | None = ...,
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
    )


def _first(argument: T | EllipsisType, said: T | EllipsisType, default: T) -> T:
    """What the program says, or the URL, or the default."""
    if not isinstance(argument, EllipsisType):
        return argument
    return default if isinstance(said, EllipsisType) else said
