"""The arguments of the commands that talk to a server, and their help. Nothing here needs a connection, so `--help`
and the completion of a shell are fast.
"""

from __future__ import annotations

import argparse
import os
import sys
from collections.abc import Callable
from contextlib import suppress
from functools import partial
from typing import Any, Final, TypedDict

from naught.cli.streams import show, write_error
from naught.errors import InvalidRequest, TooLarge
from naught.wire.codec import decode_key, encode_key
from naught.wire.limits import DEFAULT_PORT, TTL_MS_MAX, WAIT_MS_MAX


class _Formatter(argparse.HelpFormatter):
    """Help as wide as the terminal. By itself argparse imports modules for that, three for compression among them,
    for every command."""

    def __init__(self, prog: str) -> None:
        super().__init__(prog, width=_columns() - 2)


def _columns() -> int:
    with suppress(KeyError, ValueError):
        return max(int(os.environ["COLUMNS"]), COLUMNS_MIN)
    with suppress(AttributeError, OSError, ValueError):  # standard output is closed, or no terminal
        return max(os.get_terminal_size(sys.stdout.fileno()).columns, COLUMNS_MIN)
    return 80


class Parser(argparse.ArgumentParser):
    """A parser whose help is not lost without a word where it cannot be written."""

    def __init__(self, *args: Any, **kwargs: Any) -> None:
        # Not abbreviated: what is one option's beginning today is two options' tomorrow.
        super().__init__(*args, **{"formatter_class": _Formatter, "allow_abbrev": False, **kwargs})

    def _print_message(self, message: str, file: object = None) -> None:
        if file is not None and file is sys.stderr:
            write_error(message)
        elif message:
            show(message)


DEFAULT_URL: Final = f"naught://127.0.0.1:{DEFAULT_PORT}"

COLUMNS_MIN: Final = 20
"""The help of a narrower terminal is as wide as this."""

DIGITS_MAX: Final = 40
"""Of a whole number: more than any command takes."""

INTERVAL_S_MIN: Final = 0.01
"""Between two questions of `stat` and `watch`: more often would be a load, and no person can read it."""


def _number(text: str) -> float:
    try:
        return float(text)
    except ValueError:
        raise argparse.ArgumentTypeError(f"a number of seconds, not {text!r}") from None


def seconds(text: str) -> float:
    """A time of 0 or more."""
    number = _number(text)
    if not 0 <= number < float("inf"):
        raise argparse.ArgumentTypeError(f"seconds are 0 or more, not {text}")
    return number


def waiting_time(text: str) -> float:
    """Seconds that the server waits at most, where it is told."""
    number = _number(text)
    if not 0 <= number <= WAIT_MS_MAX / 1000:
        raise argparse.ArgumentTypeError(f"a wait is from 0 to {WAIT_MS_MAX // 1000} seconds, not {text}")
    return number


def time_to_live(text: str) -> int:
    """Seconds in, milliseconds out."""
    number = _number(text)
    if not 0.001 <= number <= TTL_MS_MAX / 1000:
        raise argparse.ArgumentTypeError(f"a time to live is from 0.001 to {TTL_MS_MAX // 1000} seconds, not {text}")
    return round(number * 1000)


def _time_to_live_or_none(text: str) -> int | None:
    return None if text == "none" else time_to_live(text)


def _interval(text: str) -> float:
    number = _number(text)
    if not INTERVAL_S_MIN <= number < float("inf"):
        raise argparse.ArgumentTypeError(f"an interval is {INTERVAL_S_MIN} seconds or more, not {text}")
    return number


def whole(text: str) -> int:
    """A whole number, in digits: `int` also takes blanks, underscores and the digits of other scripts."""
    digits = text.removeprefix("-")
    if not (digits.isascii() and digits.isdigit() and len(digits) <= DIGITS_MAX):
        raise argparse.ArgumentTypeError(f"a whole number, not {text[:40]!r}")
    return int(text)


def from_1(text: str) -> int:
    """A whole number of 1 or more."""
    number = whole(text)
    if number < 1:
        raise argparse.ArgumentTypeError(f"1 or more, not {text}")
    return number


def prefix(text: str) -> str:
    """What keys begin with. Its bytes are those that the shell has passed, whatever the locale takes them for."""
    return decode_key(os.fsencode(text))


def key(text: str) -> str:
    """A key. Its bytes are those that the shell has passed."""
    try:
        return decode_key(encode_key(os.fsencode(text)))
    except (InvalidRequest, TooLarge) as error:
        raise argparse.ArgumentTypeError(str(error)) from None


def one_key(text: str) -> str:
    """The key of a command that does not read standard input."""
    if text == "-":
        raise argparse.ArgumentTypeError("this command reads no keys from standard input, which - stands for")
    return key(text)


_KEY_OR_STDIN: Final = "or - to read standard input: a key a line, each with an optional amount (default 1)"
_KEYS_OR_STDIN: Final = "or - to read keys from standard input, one a line"


def _add_keys(parser: argparse.ArgumentParser) -> None:
    parser.add_argument("keys", nargs="+", metavar="KEY", type=key, help=_KEYS_OR_STDIN)


def _add_incr(parser: argparse.ArgumentParser) -> None:
    parser.add_argument("key", metavar="KEY", type=key, help=_KEY_OR_STDIN)
    parser.add_argument("by", metavar="BY", nargs="?", type=whole, default=1, help="the amount (default 1)")
    parser.add_argument(
        "--ttl", type=time_to_live, metavar="SECONDS", help="time to live of counters that this creates"
    )


def _add_decr(parser: argparse.ArgumentParser) -> None:
    parser.add_argument("key", metavar="KEY", type=key, help=_KEY_OR_STDIN)
    parser.add_argument("by", metavar="BY", nargs="?", type=whole, default=1, help="the amount (default 1)")
    parser.add_argument("--strict", action="store_true", help="fail instead of stopping at zero")


def _add_value(parser: argparse.ArgumentParser) -> None:
    parser.add_argument("key", metavar="KEY", type=one_key)
    parser.add_argument("value", metavar="VALUE", type=whole, help="0 evicts the counter")
    parser.add_argument("--ttl", type=time_to_live, metavar="SECONDS", help="time to live (default: no limit)")


def _add_prefix(parser: argparse.ArgumentParser) -> None:
    parser.add_argument(
        "prefix",
        metavar="PREFIX",
        nargs="?",
        type=prefix,
        default="",
        help="only keys that start with this (default: all)",
    )


def _add_top(parser: argparse.ArgumentParser) -> None:
    parser.add_argument("n", metavar="N", nargs="?", type=whole, default=10, help="how many (default 10)")
    _add_prefix(parser)


def _add_wait_zero(parser: argparse.ArgumentParser) -> None:
    parser.add_argument("key", metavar="KEY", type=one_key)
    parser.add_argument(
        "--for",
        dest="for_seconds",
        type=waiting_time,
        metavar="SECONDS",
        help="wait at most this long (default: no limit)",
    )


def _add_slowlog(parser: argparse.ArgumentParser) -> None:
    parser.add_argument("-n", type=whole, default=32, metavar="N", help="how many, 1 to 128 (default 32)")
    parser.add_argument("--reset", action="store_true", help="make the log empty after it was printed")


def _add_clear(parser: argparse.ArgumentParser) -> None:
    parser.add_argument("--yes", action="store_true", help="do not ask for confirmation")


def _add_sessions(parser: argparse.ArgumentParser) -> None:
    parser.add_argument(
        "action",
        metavar="end",
        nargs="?",
        choices=["end"],
        help="end a session: what it holds comes back, and its connection is closed (default: list all)",
    )
    parser.add_argument("number", metavar="N", nargs="?", type=whole, help="the number of the session to end")


def _add_key(parser: argparse.ArgumentParser) -> None:
    parser.add_argument("key", metavar="KEY", type=one_key)


def _add_ping(parser: argparse.ArgumentParser) -> None:
    parser.add_argument(
        "--check",
        action="store_true",
        help="one attempt that ends within a second, for the health check of a container: exit status 0 or 1",
    )


def _add_stat(parser: argparse.ArgumentParser) -> None:
    parser.add_argument(
        "--interval", type=_interval, default=1.0, metavar="SECONDS", help="between two lines (default 1)"
    )
    parser.add_argument("--lines", type=from_1, metavar="N", help="end after N lines (default: never)")


def _add_watch(parser: argparse.ArgumentParser) -> None:
    parser.add_argument(
        "--interval", type=_interval, default=1.0, metavar="SECONDS", help="between two questions (default 1)"
    )
    parser.add_argument("--lines", type=from_1, metavar="N", help="print N lines as `naught stat` does, and end")


def _add_config(parser: argparse.ArgumentParser) -> None:
    parser.add_argument("name", metavar="NAME", nargs="?", help="a setting (default: print all)")
    parser.add_argument("value", metavar="VALUE", nargs="?", help="the new value, which the tuner then leaves alone")
    parser.add_argument("--reset", action="store_true", help="give it back to the server's configuration and tuner")


def _add_expire(parser: argparse.ArgumentParser) -> None:
    parser.add_argument("key", metavar="KEY", type=one_key)
    parser.add_argument(
        "ttl",
        metavar="SECONDS",
        type=_time_to_live_or_none,
        help="from now on; none for no time to live",
    )


def _add_nothing(parser: argparse.ArgumentParser) -> None:
    """A command without arguments of its own."""


# Command -> the function that adds its arguments, and its line in the help.
COMMANDS: Final[dict[str, tuple[Callable[[argparse.ArgumentParser], None], str]]] = {
    "get": (_add_keys, "print values; 0 for a key without a counter"),
    "incr": (_add_incr, "add to a counter and print the value after"),
    "decr": (_add_decr, "subtract from a counter and print the value after; at zero the counter is gone"),
    "set": (_add_value, "replace the value of a counter and print the value before"),
    "take": (_add_keys, "read and evict counters in one step"),
    "ttl": (_add_key, "print how many seconds a counter has to live, or none for no limit"),
    "expire": (_add_expire, "change the time to live of a counter"),
    "scan": (_add_prefix, "print all counters, or those with a prefix"),
    "top": (_add_top, "print the largest counters"),
    "count": (_add_prefix, "print the number of counters"),
    "wait-zero": (_add_wait_zero, "wait until a counter is gone"),
    "info": (_add_nothing, "print the statistics of the server"),
    "sessions": (_add_sessions, "list the sessions of the server with what they hold, or end one"),
    "holders": (_add_key, "print which sessions hold how much of a counter"),
    "slowlog": (_add_slowlog, "list the slowest turns of the server's connections"),
    "clear": (_add_clear, "evict every counter of the cache"),
    "ping": (_add_ping, "measure one round trip to the server, or only check that it answers"),
    "stat": (_add_stat, "print a line per second: rates, counters, deviation, loop lag"),
    "watch": (_add_watch, "show rates, counters, sessions and who holds what, on a full screen"),
    "config": (_add_config, "print or change settings of the running server"),
}


def add_server(parser: argparse.ArgumentParser) -> None:
    """Add the options that say which server, and how long a call may take."""
    url = shown = os.environ.get("NAUGHT_URL") or DEFAULT_URL
    if "@" in url:
        from naught.url import without_secret  # `--help` without it takes half of the time

        shown = without_secret(url)
    parser.add_argument(
        "--url",
        default=url,
        help=f"the server and cache (default: {shown.replace('%', '%%')}; NAUGHT_URL in the environment changes the "
        "default)",
    )
    parser.add_argument(
        "--user",
        metavar="NAME",
        help="who you are, where the server has users; the secret is in --secret-file or NAUGHT_SECRET, as arguments "
        "are seen by everybody (default: what the URL says, or NAUGHT_USER)",
    )
    parser.add_argument("--secret-file", metavar="FILE", help="the first line of this file is the secret")
    parser.add_argument("--timeout", type=seconds, default=5.0, metavar="SECONDS", help="for each call (default 5)")


class Access(TypedDict, total=False):
    """What of a user the arguments say, as `naught.connect` takes it."""

    user: str
    secret: Callable[[], str]


def access_of(arguments: argparse.Namespace) -> Access:
    """The user that the arguments name."""
    found: Access = {}
    if arguments.user is not None:
        found["user"] = arguments.user
    if arguments.secret_file is not None:
        found["secret"] = partial(read_secret, arguments.secret_file)
    return found


def read_secret(path: str) -> str:
    """The first line of a file. Raises InvalidRequest where it cannot be read."""
    try:
        with open(path, encoding="utf-8", errors="surrogateescape") as file:
            return file.readline(8 << 10).rstrip("\r\n")
    except OSError as error:
        raise InvalidRequest(f"--secret-file: cannot read {path!r}: {error.strerror}") from None


def parser_of(name: str) -> argparse.ArgumentParser:
    """The argument parser of one command."""
    arguments, summary = COMMANDS[name]
    parser = Parser(f"naught {name}", description=f"{summary[0].upper()}{summary[1:]}.")
    arguments(parser)
    parser.add_argument("--json", action="store_true", help="print JSON, one value a line")
    add_server(parser)
    return parser
