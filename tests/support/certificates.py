"""Certificates for tests, of an authority that is made for each."""

from __future__ import annotations

import ssl
from datetime import datetime
from pathlib import Path

import trustme


class Authority:
    """An authority, and the files of what it has certified."""

    def __init__(self, folder: Path) -> None:
        self._authority = trustme.CA()
        self._folder = folder
        self.file = folder / f"ca-{id(self)}.pem"
        self._authority.cert_pem.write_to_path(str(self.file))

    def write(
        self, name: str, *identities: str, common_name: str | None = None, not_after: datetime | None = None
    ) -> Path:
        """A certificate with its key, in one file of this name. `not_after`: the end of its validity."""
        certificate = self._authority.issue_cert(*identities, common_name=common_name, not_after=not_after)
        path = self._folder / name
        certificate.private_key_and_cert_chain_pem.write_to_path(str(path))
        return path

    def client_context(self, certificate: Path | None = None) -> ssl.SSLContext:
        """The context of a client that trusts this authority."""
        context = ssl.create_default_context(cafile=str(self.file))
        if certificate is not None:
            context.load_cert_chain(str(certificate))
        return context
