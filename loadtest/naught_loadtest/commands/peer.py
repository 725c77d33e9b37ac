"""The arguments that say which Redis or Valkey `versus` and `bars` compare naught with."""

from __future__ import annotations

import argparse
import os
import shlex
from dataclasses import replace

from naught_loadtest.drivers.servers import Peer
from naught_loadtest.drivers.target import parse_target
from naught_loadtest.measure.cores import Cores, split_cores


def add_peer_arguments(parser: argparse.ArgumentParser) -> None:
    """Add the arguments that name the peer."""
    add = parser.add_argument
    add("--peer-binary", metavar="PATH", help="this redis-server or valkey-server instead of the installed one")
    add("--peer-url", metavar="URL", help="a Redis or Valkey that is already running: redis://host:port")
    add("--peer-args", metavar="ARGS", help="further arguments of the server started: '--io-threads 2'")
    add("--peer-cores", type=int, default=1, metavar="N", help="cores of that server, for io-threads (%(default)s)")


def peer_of(arguments: argparse.Namespace) -> tuple[Peer, Cores]:
    """The peer that the arguments describe, and the cores of all. ValueError says what is wrong with them."""
    binary, url = arguments.peer_binary, arguments.peer_url
    if url is not None:
        options = {
            "--peer-binary": binary,
            "--peer-args": arguments.peer_args,
            "--peer-cores": arguments.peer_cores != 1,
        }
        for option, given in options.items():
            if given:
                raise ValueError(f"{option} is about a server that is started here, so it cannot go with --peer-url")
        if parse_target(url).kind != "redis":
            raise ValueError(f"--peer-url must be redis://host:port, not {url!r}")
    if binary is not None and not (os.path.isfile(binary) and os.access(binary, os.X_OK)):
        raise ValueError(f"--peer-binary: {binary!r} is not a program that can be started")
    try:
        words = tuple(shlex.split(arguments.peer_args or ""))
    except ValueError as error:
        raise ValueError(f"--peer-args: {error}") from None
    cores = split_cores(arguments.peer_cores)
    # The program is started in another directory, where a relative path would mean another file.
    peer = Peer(os.path.abspath(binary) if binary else None, url, words)
    return replace(peer, cores=cores.peer), cores
