"""The command `naught-server`, also `python -m naught_server`: read the configuration, then serve or print an error.

Exit status: 0 stopped by a signal; 1 could not start, or a second signal came before it had stopped; 2 wrong usage,
wrong environment variables and a wrong configuration file included; 130 interrupted before it served; 71 out of
memory.

`naught-server hash-secret` reads a secret from standard input, without showing it on a terminal, and prints the hash
that a user in the configuration has.
"""

from __future__ import annotations

import getpass
import os
import sys
from collections.abc import Sequence

import msgpack  # type: ignore[import-untyped]

from naught.wire.limits import SECRET_BYTES_MAX
from naught_server import logs, server
from naught_server.config import ConfigError
from naught_server.listeners import StartError, resolve, resolve_http
from naught_server.loading import load, read_token, to_toml
from naught_server.output import OutputFailed, print_text
from naught_server.secret_hash import hash_of
from naught_server.tls import client_port_context


def main(arguments: Sequence[str] | None = None) -> int:
    """Run the command with these arguments (without the program's name). Returns the exit status."""
    _hold_standard_streams()
    try:
        return _main(sys.argv[1:] if arguments is None else arguments)
    except ConfigError as error:
        print(f"naught-server: {error}", file=sys.stderr)
        return 2
    except (StartError, OutputFailed) as error:
        print(f"naught-server: {error}", file=sys.stderr)
        return 1
    except KeyboardInterrupt:
        return 130


def _hold_standard_streams() -> None:
    """Open the descriptors 0 to 2 that are closed. Otherwise a connection could get one of them, and would be sent
    what libraries write to standard error; and libuv ends the process when it closes one of them."""
    for number in (0, 1, 2):
        try:
            os.fstat(number)
        except OSError:
            os.open(os.devnull, os.O_RDWR)  # the lowest that is free: this one
    if sys.stdout is None:
        sys.stdout = open(1, "w", encoding="utf-8", closefd=False)  # noqa: SIM115 - until the process ends
    if sys.stderr is None:
        sys.stderr = open(2, "w", encoding="utf-8", closefd=False)  # noqa: SIM115


def _main(arguments: Sequence[str]) -> int:
    if arguments and arguments[0] == "hash-secret":
        return _hash_secret(arguments[1:])
    environment = dict(os.environ)
    loaded = load(arguments, environment)
    if loaded.action == "print":
        print_text(to_toml(loaded.config, loaded.sources))
        return 0
    _refuse_slow_msgpack()
    if loaded.action == "check":
        resolve(loaded.config)
        resolve_http(loaded.config)
        client_port_context(loaded.config)
        read_token(loaded.config)
        print_text("the configuration is good\n")
        return 0
    logs.set_up(loaded.config.log_level, loaded.config.log_format)
    try:
        return server.run(loaded.config, lambda: load(arguments, environment).config, loaded.path)
    finally:
        logs.flush()


def _hash_secret(arguments: Sequence[str]) -> int:
    """Read a secret, and print its hash. Raises ConfigError."""
    if list(arguments) in (["--help"], ["-h"]):
        print_text(
            "usage: naught-server hash-secret\n\nRead a secret from standard input and print its hash, for the file "
            'of --config:\n\n    [users.orders]\n    role = "write"\n    secret = "$scrypt$..."\n'
        )
        return 0
    if arguments:
        raise ConfigError("hash-secret reads the secret from standard input: arguments are seen by everybody")
    try:
        if sys.stdin.isatty():
            secret = getpass.getpass("Secret: ")
            if getpass.getpass("Again: ") != secret:
                raise ConfigError("hash-secret: the two are not the same")
            given = secret.encode("utf-8", "surrogateescape")
        else:
            given = sys.stdin.buffer.read(SECRET_BYTES_MAX + 2)
            given = given.removesuffix(b"\n").removesuffix(b"\r")
            if b"\n" in given:
                raise ConfigError("hash-secret: the secret is one line")
        print_text(f"{hash_of(given)}\n")
    except (EOFError, ValueError) as error:
        raise ConfigError(f"hash-secret: {str(error) or 'nothing was read'}") from None
    return 0


def _refuse_slow_msgpack() -> None:
    """Raise `StartError` where msgpack has no extension module: it would work, thirty times slower."""
    for tool in (msgpack.Packer, msgpack.Unpacker):
        if tool.__module__ == "msgpack.fallback":
            raise StartError(
                "msgpack runs without its compiled extension, which is too slow for a server; install msgpack as a "
                "wheel for this Python, and unset MSGPACK_PUREPYTHON"
            )


if __name__ == "__main__":
    sys.exit(main())
