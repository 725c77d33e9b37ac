"""The exit statuses of `naught COMMAND`. (`naught lint` has its own: 1 means that it has findings.)"""

from __future__ import annotations

from typing import Final

OK: Final = 0
FAILED: Final = 1
"""The server or the network reported an error, or the command's question was answered with no."""

WRONG_USAGE: Final = 2
"""The arguments or the input are wrong."""

NO_PERMIT: Final = 124
"""`naught run` got no permit in the time that it was given, as `timeout` says it."""

CANNOT_RUN: Final = 125
"""`naught run` could not do its own part, so that the program was not started."""

NOT_EXECUTABLE: Final = 126
NOT_FOUND: Final = 127
"""The program of `naught run` could not be started, as shells report it."""

SIGNALLED: Final = 128
"""Ended by a signal: this and its number, as shells report it."""

INTERRUPTED: Final = SIGNALLED + 2
"""Ended by Ctrl-C, which is SIGINT."""
