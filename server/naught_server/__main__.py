"""`naught-server`, also as `python -m naught_server`: reads the configuration, and serves or says why not.

Exit status: 0 stopped when told to; 1 could not start, or was told to stop a second time before it had; 2
wrong usage, which includes whatever is wrong in the environment or the file; 130 interrupted before it
served.
"""

from __future__ import annotations

import os
import sys
from collections.abc import Sequence

import msgpack  # type: ignore[import-untyped]

from naught_server import logs, server
from naught_server.config import ConfigError, load, to_toml
from naught_server.server import StartError


def main(arguments: Sequence[str] | None = None) -> int:
    """Do what the command line (without the program's name) says. Returns the exit status."""
    try:
        return _main(sys.argv[1:] if arguments is None else arguments)
    except ConfigError as error:
        print(f"naught-server: {error}", file=sys.stderr)
        return 2
    except StartError as error:
        print(f"naught-server: {error}", file=sys.stderr)
        return 1
    except KeyboardInterrupt:
        return 130


def _main(arguments: Sequence[str]) -> int:
    loaded = load(arguments, os.environ)
    if loaded.action == "print":
        # TOML is UTF-8 whatever the terminal is.
        sys.stdout.buffer.write(to_toml(loaded.config, loaded.sources).encode("utf-8", "backslashreplace"))
        sys.stdout.flush()
        return 0
    _refuse_slow_msgpack()
    if loaded.action == "check":
        server.resolve(loaded.config)
        print("the configuration is good")
        return 0
    logs.set_up(loaded.config.log_level, loaded.config.log_format)
    return server.run(loaded.config)


def _refuse_slow_msgpack() -> None:
    """msgpack without its extension module works, thirty times slower: nobody wants to find that out under
    load."""
    for tool in (msgpack.Packer, msgpack.Unpacker):
        if tool.__module__ == "msgpack.fallback":
            raise StartError(
                "msgpack runs without its compiled extension, far too slowly to serve; install msgpack as a wheel "
                "for this Python, and unset MSGPACK_PUREPYTHON"
            )


if __name__ == "__main__":
    sys.exit(main())
