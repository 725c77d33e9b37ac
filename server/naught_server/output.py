"""Standard output of `naught-server`, where it prints something and does not serve."""

from __future__ import annotations

import os
import sys
from io import TextIOWrapper


class OutputFailed(Exception):
    """Standard output cannot be written: the disk is full, or nobody reads it any more."""


def print_text(text: str) -> None:
    """Print to standard output, in UTF-8 whatever the encoding of the terminal is. Raises OutputFailed."""
    try:
        if isinstance(sys.stdout, TextIOWrapper):  # else it is none of the system's
            sys.stdout.reconfigure(encoding="utf-8", errors="backslashreplace")
        sys.stdout.write(text)
        sys.stdout.flush()
    except OSError as error:
        # What is left in its buffer is written when the process ends, which would say so again.
        os.dup2(os.open(os.devnull, os.O_WRONLY), sys.stdout.fileno())
        raise OutputFailed(f"standard output cannot be written: {error.strerror}") from None
