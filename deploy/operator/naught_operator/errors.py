"""What can go wrong with the API and with a server, each with one sentence for the status."""

from __future__ import annotations

from typing import Final


class Unreachable(Exception):
    """The server does not answer."""


class Refused(Exception):
    """The server has answered that it will not."""


class ClusterError(Exception):
    """The API has refused a call, or could not be reached."""

    def __init__(self, message: str, status: int | None = None) -> None:
        super().__init__(message)
        self.status: Final = status
        """Of HTTP; None where there was no answer."""


class NotOurs(Exception):
    """An object has the name that the resource needs, and belongs to somebody else."""
