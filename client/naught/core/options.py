"""The arguments of `naught.connect` and `naught.blocking.Client`, checked. Sans-IO."""

from __future__ import annotations

from random import Random
from typing import NamedTuple, TypedDict

from naught.core.calls import check_lease, check_timeout
from naught.core.hooks import CallHook, Hooks, check_hooks
from naught.errors import InvalidRequest
from naught.url import Address, parse_url
from naught.wire.codec import check_name


class ConnectOptions(TypedDict, total=False):
    """The options of `naught.connect` that every kind of client has, for type checkers."""

    timeout: float | None
    connect_timeout: float
    session: bool
    lease: float | None
    name: str | None
    random: Random | None
    on_call_start: CallHook | None
    on_call_end: CallHook | None


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


def check_options(
    url: str,
    *,
    timeout: float | None,
    connect_timeout: float,
    session: bool,
    lease: float | None,
    name: str | None,
    random: Random | None,
    on_call_start: CallHook | None,
    on_call_end: CallHook | None,
) -> Options:
    """Parse the URL and check the ranges. Raises InvalidRequest, which names the bad argument."""
    address = parse_url(url)
    default = check_timeout(timeout)
    limit = check_timeout(connect_timeout)
    if limit is None or limit <= 0:
        raise InvalidRequest("connect_timeout is more than 0 seconds")
    if name is not None:
        if not isinstance(name, str):
            raise InvalidRequest(f"a name is a str, not {type(name).__name__}")
        check_name(name)
    hooks = check_hooks(on_call_start, on_call_end)
    return Options(address, default, limit, session, check_lease(lease), name, random, hooks)
