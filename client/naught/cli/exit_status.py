"""The exit statuses of `naught COMMAND`. (`naught lint` has its own: 1 means that it has findings.)"""

from __future__ import annotations

from typing import Final

OK: Final = 0
FAILED: Final = 1
"""The server or the network reported an error, or the command's question was answered with no."""

WRONG_USAGE: Final = 2
"""The arguments or the input are wrong."""

INTERRUPTED: Final = 130
"""Ended by Ctrl-C (128 and the number of SIGINT), as shells report it."""
