"""Exceptions after which no state can be trusted, so that nobody may catch them and go on."""

from __future__ import annotations

from typing import Final

FATAL: Final = (MemoryError, SystemError)
"""An allocation has failed. CPython raises SystemError where its own code has failed to report that."""
