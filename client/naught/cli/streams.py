"""The standard streams of the process: what the user is told, streams that are closed, and the end of a command.

What is said to the user goes to standard error. Where nobody can be told anything, nothing is said.
"""

from __future__ import annotations

import os
import sys
from contextlib import suppress
from typing import IO


def say(message: str) -> None:
    """Tell the user a sentence."""
    write_error(f"naught: {message}\n")


def write_error(text: str) -> None:
    """Write to standard error, if anybody can be told anything."""
    if sys.stderr is not None:
        with suppress(OSError, ValueError):
            sys.stderr.write(text)
            sys.stderr.flush()


def show(text: str) -> None:
    """Write a text that was asked for, such as a help, to standard output. Raises OSError, with a sentence."""
    if sys.stdout is None:
        raise OSError("standard output is closed")
    try:
        sys.stdout.write(text)
    except OSError as error:
        if isinstance(error, BrokenPipeError):
            raise
        raise OSError(f"standard output cannot be written: {error.strerror}") from None


def open_missing() -> None:
    """Open /dev/null in place of the standard streams that are closed.

    Otherwise the first connection would get the number of one of them, and a program that is started would write its
    output to the server.
    """
    for number, stream in enumerate((sys.stdin, sys.stdout, sys.stderr)):
        if stream is None:
            try:
                os.fstat(number)
            except OSError:
                null = os.open(os.devnull, os.O_RDWR)
                if null == number:
                    os.set_inheritable(number, True)
                else:
                    os.dup2(null, number)
                    os.close(null)


def flush_streams() -> str | None:
    """Write what Python has in its buffers. Returns why that is not possible; None where it is, or nobody reads it.

    Python would try once more at the exit, and complain. So the stream is led to /dev/null then.
    """
    why = None
    for stream in (sys.stdout, sys.stderr):
        if stream is None:
            continue
        try:
            stream.flush()
        except BrokenPipeError:
            _silence(stream)
        except (OSError, ValueError) as error:
            _silence(stream)
            if stream is sys.stdout:
                why = f"standard output cannot be written: {getattr(error, 'strerror', None) or error}"
    return why


def _silence(stream: IO[str]) -> None:
    with suppress(OSError, ValueError):
        null = os.open(os.devnull, os.O_WRONLY)
        os.dup2(null, stream.fileno())
        os.close(null)
        stream.flush()
