"""The context of TLS for a target. It is made once for a process: it takes milliseconds, and connections are many."""

from __future__ import annotations

import functools
import ssl

from naught.tls import client_context
from naught.url import TlsFiles
from naught_loadtest.drivers.target import Target


def context_of(target: Target) -> ssl.SSLContext | None:
    """None for a target without TLS. Raises ValueError where a file cannot be used."""
    return None if target.tls is None else _context(target.tls)


@functools.cache
def _context(files: TlsFiles) -> ssl.SSLContext:
    return client_context(files)
