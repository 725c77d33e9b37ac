"""Opens the files that a configuration names: regular files, and nothing else.

The configuration is read again on the event loop, at SIGHUP. A FIFO would be waited for until somebody writes into
it, a device may never end, and opening some devices does something.
"""

from __future__ import annotations

import errno
import os
import stat

__all__ = ["check_regular", "open_regular"]


def open_regular(path: str, flags: int) -> int:
    """An `opener` for `open`. Raises OSError for what is no regular file, without waiting for it."""
    check_regular(os.stat(path))
    descriptor = os.open(path, flags | os.O_NONBLOCK)
    try:
        check_regular(os.fstat(descriptor))  # it may be another one by now
    except OSError:
        os.close(descriptor)
        raise
    return descriptor


def check_regular(found: os.stat_result) -> None:
    """Raise OSError unless what `stat` has found is a regular file."""
    mode = found.st_mode
    if stat.S_ISDIR(mode):
        raise IsADirectoryError(errno.EISDIR, os.strerror(errno.EISDIR))
    if not stat.S_ISREG(mode):
        what = "a FIFO" if stat.S_ISFIFO(mode) else "a socket" if stat.S_ISSOCK(mode) else "a device"
        raise OSError(errno.EINVAL, f"it is {what}, and must be a regular file")
