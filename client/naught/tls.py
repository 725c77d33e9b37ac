"""The context of TLS for a client: which servers it trusts, and what it shows of itself."""

from __future__ import annotations

import ssl

from naught.errors import InvalidRequest
from naught.url import TlsFiles
from naught.wire.limits import ALPN_PROTOCOL


def client_context(tls: TlsFiles | ssl.SSLContext | None) -> ssl.SSLContext:
    """A context from these files. Raises InvalidRequest where one cannot be used. Takes some milliseconds, and tens
    of them for the certificates that the system trusts."""
    if isinstance(tls, ssl.SSLContext):
        return tls
    files = tls or TlsFiles()
    try:
        context = ssl.create_default_context(cafile=files.ca)
    except (OSError, ValueError) as error:
        raise InvalidRequest(f"ca: cannot use {files.ca!r}: {_why(error)}") from None
    context.minimum_version = ssl.TLSVersion.TLSv1_2
    context.set_alpn_protocols([ALPN_PROTOCOL])
    if files.cert is not None:
        try:
            # Without the function OpenSSL would ask a terminal for the password of an encrypted key.
            context.load_cert_chain(files.cert, files.key, password=_no_password)
        except (OSError, ValueError) as error:
            raise InvalidRequest(f"cert, key: cannot use {files.cert!r}: {_why(error)}") from None
    return context


def _no_password() -> str:
    raise ValueError("the key is encrypted: give a context, with its password")


def _why(error: OSError | ValueError) -> str:
    if isinstance(error, ssl.SSLError):
        return (error.reason or "not PEM").replace("_", " ").lower()
    return getattr(error, "strerror", None) or str(error)
