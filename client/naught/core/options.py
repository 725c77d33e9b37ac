"""What a client is told when it is made, checked. Sans-IO, and the same for every kind of client."""

from __future__ import annotations

from random import Random
from typing import NamedTuple

from naught.core.calls import check_lease, check_timeout
from naught.errors import InvalidRequest
from naught.url import Address, parse_url


class Options(NamedTuple):
    """See `naught.connect`, which explains them."""

    address: Address
    timeout: float | None  # seconds, of calls that say nothing else
    connect_timeout: float  # seconds, for the first connection and for each attempt after
    resumable: bool
    lease_ms: int | None  # what is asked for
    random: Random | None


def check_options(
    url: str,
    *,
    timeout: float | None,
    connect_timeout: float,
    session: bool,
    lease: float | None,
    random: Random | None,
) -> Options:
    """Raises InvalidRequest, which names what is wrong."""
    address = parse_url(url)
    default = check_timeout(timeout)
    limit = check_timeout(connect_timeout)
    if limit is None or limit <= 0:
        raise InvalidRequest("connect_timeout is more than 0 seconds")
    return Options(address, default, limit, session, check_lease(lease), random)
