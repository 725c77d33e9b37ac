"""Any text is an address or an InvalidRequest of one sentence; an address is written as a URL of the same address."""

from __future__ import annotations

from naught.errors import InvalidRequest
from naught.url import parse, parse_url


def one(data: bytes) -> None:
    """Try one input."""
    text = data.decode("utf-8", "surrogateescape")
    try:
        address, _ = parse(text)
    except InvalidRequest as error:
        assert str(error)
        assert "\n" not in str(error)
        return
    written = str(address)
    assert parse_url(written) == address, written
