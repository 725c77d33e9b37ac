"""TLS of the standard library: contexts made from files, for the port of the counters and the HTTP port.

A context is made at the start, and again when the configuration is reread: the handshakes after that use the new
files, and open connections are not touched. A file with a fault changes nothing.
"""

from __future__ import annotations

import os
import ssl
from collections.abc import Iterable, Mapping
from typing import Any, Final

from naught.wire.limits import ALPN_PROTOCOL
from naught_server.config import ConfigError, ServerConfig
from naught_server.kinds import shown
from naught_server.limits import HANDSHAKE_MS_MAX, OUTPUT_PAUSED_MS_MAX
from naught_server.regular_file import check_regular

HTTP_PROTOCOL: Final = "http/1.1"

FILE_BYTES_MAX: Final = 4 << 20
"""A larger file is not searched for certificates: those of all public authorities together have 0.3 MiB."""

TLS_TIMES: Final[Mapping[str, Any]] = {
    "ssl_handshake_timeout": HANDSHAKE_MS_MAX / 1000,
    "ssl_shutdown_timeout": OUTPUT_PAUSED_MS_MAX / 1000,
}
"""How long a handshake may take; and how long a peer has, after the last reply, to read it and say that it closes
too: as long as one without TLS may leave replies unread."""


def client_port_context(config: ServerConfig) -> ssl.SSLContext | None:
    """The context for clients of counters; None without a certificate. Raises ConfigError."""
    if config.tls_certificate is None:
        return None
    context = _context(config, ALPN_PROTOCOL)
    if config.tls_client_ca is not None:
        _check_file("tls_client_ca", config.tls_client_ca)
        try:
            context.load_verify_locations(cafile=config.tls_client_ca)
        except (OSError, ValueError) as error:
            raise ConfigError(f"tls_client_ca: cannot read {config.tls_client_ca!r}: {_why(error)}") from None
        context.verify_mode = ssl.CERT_REQUIRED if config.tls_client_required else ssl.CERT_OPTIONAL
    return context


def http_port_context(config: ServerConfig) -> ssl.SSLContext | None:
    """The context for the HTTP port; None where it has no TLS. Raises ConfigError."""
    return _context(config, HTTP_PROTOCOL) if config.http_tls else None


def _context(config: ServerConfig, protocol: str) -> ssl.SSLContext:
    assert config.tls_certificate is not None, "the configuration is checked"
    context = ssl.SSLContext(ssl.PROTOCOL_TLS_SERVER)
    context.minimum_version = ssl.TLSVersion.TLSv1_2
    context.options |= ssl.OP_NO_RENEGOTIATION | ssl.OP_CIPHER_SERVER_PREFERENCE
    context.set_alpn_protocols([protocol])
    _check_file("tls_certificate", config.tls_certificate)
    if config.tls_key is not None:
        _check_file("tls_key", config.tls_key)
    try:
        # Without the function OpenSSL would ask a terminal for the password of an encrypted key.
        context.load_cert_chain(config.tls_certificate, config.tls_key, password=_no_password)
    except (OSError, ValueError) as error:
        files = config.tls_certificate if config.tls_key is None else f"{config.tls_certificate}, {config.tls_key}"
        raise ConfigError(f"tls_certificate, tls_key: cannot use {files}: {_why(error)}") from None
    return context


def _check_file(setting: str, path: str) -> None:
    """Raise ConfigError unless OpenSSL, which opens the file itself, comes to an end with it soon."""
    try:
        found = os.stat(path)
        check_regular(found)
        if found.st_size > FILE_BYTES_MAX:
            raise ValueError(f"it has more than {FILE_BYTES_MAX} bytes")
    except (OSError, ValueError) as error:
        raise ConfigError(f"{setting}: cannot read {shown(path)}: {_why(error)}") from None


def _no_password() -> str:
    raise ValueError("the key is encrypted, and nobody is there to say its password")


def _why(error: OSError | ValueError) -> str:
    if isinstance(error, ssl.SSLError):
        return (error.reason or "not PEM").replace("_", " ").lower()
    return getattr(error, "strerror", None) or str(error)


def certificate_names(certificate: Mapping[str, Any] | None) -> list[str]:
    """The names in a client's certificate that a user may have: the common name, and alternative names of the kinds
    DNS, URI and email, in this order."""
    if not certificate:
        return []
    subject: Iterable[tuple[tuple[str, str], ...]] = certificate.get("subject", ())
    names = [value for part in subject for key, value in part if key == "commonName"]
    names += [value for kind, value in certificate.get("subjectAltName", ()) if kind in ("DNS", "URI", "email")]
    return names


def has_ended(certificate: Mapping[str, Any] | None, now_s: float) -> bool:
    """Whether a client's certificate was valid until before this time. A handshake that resumes a session of TLS
    brings the certificate of an earlier one, and OpenSSL does not look at its time again."""
    return (
        certificate is not None
        and "notAfter" in certificate
        and now_s > ssl.cert_time_to_seconds(certificate["notAfter"])
    )
