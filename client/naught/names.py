"""The name that a client gives itself, unless the program gives it one: its host and its process.

    web-7:4711

It is made when a session is begun, and not kept for later ones: a client that begins anew in the child of a fork has
the name of the child.
"""

from __future__ import annotations

import os
import socket

from naught.wire.limits import NAME_BYTES_MAX


def default_name() -> str:
    """`host:pid` of this process. What a name may not have is left out of a host's, and its end where it is too long.
    Costs two system calls."""
    process = f":{os.getpid()}"
    host = "".join(each for each in socket.gethostname() if each.isprintable())  # lone surrogates are not
    return host.encode()[: NAME_BYTES_MAX - len(process)].decode(errors="ignore") + process
