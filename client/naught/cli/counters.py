"""The commands that talk to a server: `naught get seats:42`, `naught stat`, `naught incr - < keys` and so on.

Each command is a row of `COMMANDS` at the end of this module: a coroutine function that gets a client, the arguments
and an `Output`, and returns the exit status (`exit_status.py`); and a function that adds its arguments to a parser.

Results go to standard output, as text for people or with `--json` as JSON for programs. Progress and errors go to
standard error. If the reader of standard output closes it, the command ends without an error.
"""

from __future__ import annotations

import argparse
import asyncio
import json
import os
import shutil
import sys
from collections.abc import AsyncIterator, Awaitable, Callable, Iterable, Iterator, Sequence
from typing import IO, Any, Final

from naught.aio.client import Client, connect
from naught.cli.check import CHECK_S, check
from naught.cli.exit_status import FAILED, OK, WRONG_USAGE
from naught.cli.slowlog import table
from naught.cli.stat import Stat
from naught.cli.tables import WIDTH_MIN, holders_table, sessions_table
from naught.cli.text import printable
from naught.core.calls import Key
from naught.errors import CommandError, InvalidRequest, NaughtError
from naught.wire.codec import decode_key, encode_key
from naught.wire.limits import DEFAULT_PORT, VALUE_MAX

DEFAULT_URL: Final = f"naught://127.0.0.1:{DEFAULT_PORT}"

BATCH: Final = 1_000
"""Lines of standard input that are sent in one call: what a server does for one client in a turn."""

Arguments = argparse.Namespace
Command = Callable[[Client[str], Arguments, "Output"], Awaitable[int]]


class Output:
    """Writes results, as lines of text or as JSON."""

    def __init__(self, stream: IO[str], *, as_json: bool) -> None:
        self._stream: Final = stream
        self.as_json: Final = as_json
        # A table is as wide as the terminal.
        self.width: Final = max(WIDTH_MIN, shutil.get_terminal_size().columns if stream.isatty() else WIDTH_MIN)
        self.coloured: Final = stream.isatty() and not os.environ.get("NO_COLOR")

    def json(self, value: Any) -> None:
        """Write one value as a line of JSON."""
        self._stream.write(json.dumps(value) + "\n")

    def line(self, *cells: object) -> None:
        """Write one line of text; tabs separate the cells, so that `cut` can select them."""
        self._stream.write("\t".join(map(printable, cells)) + "\n")

    def pairs(self, pairs: Sequence[tuple[str, int]]) -> None:
        """Write keys with values, a line each."""
        if self.as_json:
            for key, value in pairs:
                self.json({"key": key, "value": value})
        else:
            self._stream.writelines(f"{printable(key)}\t{value}\n" for key, value in pairs)

    def lines(self, lines: Iterable[str]) -> None:
        """Write lines of text as they are."""
        self._stream.writelines(f"{line}\n" for line in lines)

    def value(self, value: object) -> None:
        """Write the only result of a command."""
        if self.as_json:
            self.json(value)
        else:
            self.line(value)

    def flush(self) -> None:
        """Write everything that is buffered."""
        self._stream.flush()


# --------------------------------------------------------------------------------------------------- commands


async def _get(client: Client[str], arguments: Arguments, output: Output) -> int:
    keys: list[str] = arguments.keys
    if len(keys) == 1:
        output.value(await client.get(keys[0]))
    else:
        output.pairs(list(zip(keys, await client.get_many(keys), strict=True)))
    return OK


async def _incr(client: Client[str], arguments: Arguments, output: Output) -> int:
    ttl_ms = None if arguments.ttl is None else max(1, round(arguments.ttl * 1000))
    if arguments.key == "-":
        return await _apply_lines(client, output, 1, ttl_ms)
    output.value(await client.incr(arguments.key, arguments.by, ttl_ms=ttl_ms))
    return OK


async def _decr(client: Client[str], arguments: Arguments, output: Output) -> int:
    if arguments.key == "-":
        if arguments.strict:
            raise InvalidRequest("--strict works with one KEY only, not with standard input")
        return await _apply_lines(client, output, -1, None)
    output.value(await client.decr(arguments.key, arguments.by, strict=arguments.strict))
    return OK


async def _apply_lines(client: Client[str], output: Output, sign: int, ttl_ms: int | None) -> int:
    """Apply the lines of standard input: a key, and after a blank or tab an amount (default 1). `sign` is 1 or -1."""
    failed = 0
    async for keys, amounts in _batches():
        deltas = [sign * amount for amount in amounts]
        results = await client.apply(keys, deltas, ttl_ms=ttl_ms)
        good = [(key, value) for key, value in zip(keys, results, strict=True) if isinstance(value, int)]
        output.pairs([(_text(key), value) for key, value in good])
        for key, value in zip(keys, results, strict=True):
            if isinstance(value, CommandError):
                failed += 1
                _print_error(f"{printable(_text(key))}: {value}")
    return FAILED if failed else OK


async def _set(client: Client[str], arguments: Arguments, output: Output) -> int:
    ttl_ms = None if arguments.ttl is None else max(1, round(arguments.ttl * 1000))
    output.value(await client.set(arguments.key, arguments.value, ttl_ms=ttl_ms))
    return OK


async def _take(client: Client[str], arguments: Arguments, output: Output) -> int:
    if arguments.keys == ["-"]:
        async for keys, _ in _batches(amounts=False):
            output.pairs([(_text(key), value) for key, value in zip(keys, await client.take(keys), strict=True)])
        return OK
    output.pairs(list(zip(arguments.keys, await client.take(arguments.keys), strict=True)))
    return OK


async def _scan(client: Client[str], arguments: Arguments, output: Output) -> int:
    page: list[tuple[str, int]] = []
    async for pair in client.scan_iter(prefix=arguments.prefix):
        page.append(pair)
        if len(page) == BATCH:
            output.pairs(page)
            page = []
    output.pairs(page)
    return OK


async def _top(client: Client[str], arguments: Arguments, output: Output) -> int:
    output.pairs(await client.top(arguments.n, prefix=arguments.prefix))
    return OK


async def _count(client: Client[str], arguments: Arguments, output: Output) -> int:
    output.value(await client.count(arguments.prefix))
    return OK


async def _wait_zero(client: Client[str], arguments: Arguments, output: Output) -> int:
    gone = await client.wait_zero(arguments.key, timeout=arguments.for_seconds)
    if output.as_json:
        output.json(gone)
    if not gone:
        _print_error(f"{printable(arguments.key)} still exists after {arguments.for_seconds:g} s")
    return OK if gone else FAILED


async def _info(client: Client[str], arguments: Arguments, output: Output) -> int:
    info = await client.info()
    if output.as_json:
        output.json(info)
    else:
        for path, value in _flat(info):
            output.line(path, value)
    return OK


async def _sessions(client: Client[str], arguments: Arguments, output: Output) -> int:
    if arguments.action is not None:
        return await _end_session(client, arguments, output)
    sessions = await client.sessions()
    if output.as_json:
        for session in sessions:
            output.json(session)
    else:
        output.lines(sessions_table(sessions, output.width))
    return OK


async def _end_session(client: Client[str], arguments: Arguments, output: Output) -> int:
    if arguments.number is None:
        raise InvalidRequest("sessions end needs the number of a session; naught sessions lists them")
    ended = await client.end_session(arguments.number)
    if output.as_json:
        output.json(ended)
    elif ended:
        output.line(f"session {arguments.number} has ended")
    if not ended:
        _print_error(f"there is no session {arguments.number}")
    return OK if ended else FAILED


async def _holders(client: Client[str], arguments: Arguments, output: Output) -> int:
    holders = await client.holders(arguments.key)
    if output.as_json:
        for holder in holders:
            output.json(holder._asdict())
    elif holders:
        output.lines(holders_table(holders, output.width))
    return OK


async def _slowlog(client: Client[str], arguments: Arguments, output: Output) -> int:
    turns = await client.slowlog(arguments.n)
    if output.as_json:
        for turn in turns:
            output.json(turn)
    elif turns:
        for line in table(turns):
            output.line(line)
    else:
        sys.stderr.write("no turn was slow since the server started, or since the last reset\n")
    if arguments.reset:
        await client.slowlog_reset()
    return OK


async def _clear(client: Client[str], arguments: Arguments, output: Output) -> int:
    if not arguments.yes:
        counters = await client.count()
        if not sys.stdin.isatty():
            raise InvalidRequest(f"clear would evict {counters} counters; confirm with --yes")
        sys.stderr.write(f"evict all {counters} counters of {printable(arguments.url)}? [y/N] ")
        sys.stderr.flush()
        if (await asyncio.to_thread(sys.stdin.readline)).strip().lower() not in ("y", "yes"):
            _print_error("not confirmed, nothing was cleared")
            return FAILED
    output.value(await client.clear())
    return OK


async def _ping(client: Client[str], arguments: Arguments, output: Output) -> int:
    loop = asyncio.get_running_loop()
    started = loop.time()
    await client.ping()
    milliseconds = (loop.time() - started) * 1000
    if output.as_json:
        output.json({"ms": round(milliseconds, 3)})
    else:
        output.line(f"pong in {milliseconds:.2f} ms")
    return OK


async def _config(client: Client[str], arguments: Arguments, output: Output) -> int:
    if arguments.reset:
        if arguments.name is None or arguments.value is not None:
            raise InvalidRequest("--reset wants the name of a setting, and no value")
        output.value(await client.config_set(arguments.name, None))
        return OK
    if arguments.value is not None:
        output.value(await client.config_set(arguments.name, _literal(arguments.value)))
        return OK
    found = await client.config_get(arguments.name)
    if isinstance(found, dict) and not output.as_json:
        for name, value in found.items():
            output.line(name, value)
    else:
        output.value(found)
    return OK


async def _stat(client: Client[str], arguments: Arguments, output: Output) -> int:
    stat = Stat(coloured=output.coloured)
    lines = 0
    while True:
        sample = stat.sample(await client.info())
        if sample is not None:
            if output.as_json:
                output.json(sample)
            else:
                if not lines % 20:
                    output.line(stat.heading())
                sys.stdout.write(stat.line(sample) + "\n")
            output.flush()
            lines += 1
            if lines == arguments.lines:
                return OK
        await asyncio.sleep(arguments.interval)


async def _watch(client: Client[str], arguments: Arguments, output: Output) -> int:
    from naught.cli.watch import can_watch, watch  # it needs a system with terminals

    if output.as_json or arguments.lines is not None or not can_watch():
        return await _stat(client, arguments, output)
    await watch(client, url=arguments.url, interval=arguments.interval, coloured=output.coloured)
    return OK


def _flat(value: Any, path: str = "") -> Iterator[tuple[str, Any]]:
    if isinstance(value, dict):
        for word, inner in value.items():
            yield from _flat(inner, f"{path}.{word}" if path else word)
    else:
        yield path, value


def _literal(text: str) -> Any:
    """The number that the text is, or true or false, otherwise the text."""
    if text in ("true", "false"):
        return text == "true"
    for kind in (int, float):
        try:
            return kind(text)
        except ValueError:
            pass
    return text


# ------------------------------------------------------------------------------------------------ standard input


async def _batches(*, amounts: bool = True) -> AsyncIterator[tuple[list[Key], list[int]]]:
    """Keys from standard input with their amounts, in batches. Prints progress if standard error is a terminal."""
    total = 0  # lines read
    show_progress = sys.stderr.isatty() and not sys.stdin.isatty()
    keys: list[Key] = []
    numbers: list[int] = []
    while True:
        lines = await asyncio.to_thread(_next_lines)
        for place, line in enumerate(lines, total + 1):
            if line.strip():
                key, number = _read_line(line, place, amounts=amounts)
                keys.append(key)
                numbers.append(number)
        total += len(lines)
        if keys:
            yield keys, numbers
            keys, numbers = [], []
        if show_progress and (lines or total):
            sys.stderr.write(f"\r{total} lines" + ("" if lines else "\n"))
            sys.stderr.flush()
        if not lines:
            return


def _next_lines() -> list[bytes]:
    """The next lines of standard input: BATCH of them, fewer at the end, and then none."""
    lines = []
    for line in sys.stdin.buffer:
        lines.append(line)
        if len(lines) == BATCH:
            break
    return lines


def _read_line(line: bytes, place: int, *, amounts: bool) -> tuple[bytes, int]:
    words = line.split()
    if len(words) > (2 if amounts else 1):
        allowed = "a key and an optional amount" if amounts else "a key"
        raise InvalidRequest(f"line {place} of standard input has {len(words)} words; allowed is {allowed}")
    try:
        key = encode_key(words[0])
        number = int(words[1]) if len(words) == 2 else 1
    except ValueError as error:
        raise InvalidRequest(f"line {place} of standard input: {error}") from None
    if not 1 <= number <= VALUE_MAX:
        raise InvalidRequest(f"line {place} of standard input: an amount is from 1 to {VALUE_MAX}, not {number}")
    return key, number


def _text(key: Key) -> str:
    return key if isinstance(key, str) else decode_key(key)


# --------------------------------------------------------------------------------------------------- arguments


def _seconds(text: str) -> float:
    seconds = float(text)
    if not 0 <= seconds < float("inf"):
        raise argparse.ArgumentTypeError(f"seconds are 0 or more, not {text}")
    return seconds


_KEY_OR_STDIN: Final = "or - to read standard input: a key a line, each with an optional amount (default 1)"


def _add_keys(parser: argparse.ArgumentParser) -> None:
    parser.add_argument("keys", nargs="+", metavar="KEY")


def _add_take(parser: argparse.ArgumentParser) -> None:
    parser.add_argument("keys", nargs="+", metavar="KEY", help="or - to read keys from standard input, one a line")


def _add_incr(parser: argparse.ArgumentParser) -> None:
    parser.add_argument("key", metavar="KEY", help=_KEY_OR_STDIN)
    parser.add_argument("by", metavar="BY", nargs="?", type=int, default=1, help="the amount (default 1)")
    parser.add_argument("--ttl", type=_seconds, metavar="SECONDS", help="time to live of counters that this creates")


def _add_decr(parser: argparse.ArgumentParser) -> None:
    parser.add_argument("key", metavar="KEY", help=_KEY_OR_STDIN)
    parser.add_argument("by", metavar="BY", nargs="?", type=int, default=1, help="the amount (default 1)")
    parser.add_argument("--strict", action="store_true", help="fail instead of stopping at zero")


def _add_value(parser: argparse.ArgumentParser) -> None:
    parser.add_argument("key", metavar="KEY")
    parser.add_argument("value", metavar="VALUE", type=int, help="0 evicts the counter")
    parser.add_argument("--ttl", type=_seconds, metavar="SECONDS", help="time to live (default: no limit)")


def _add_prefix(parser: argparse.ArgumentParser) -> None:
    parser.add_argument(
        "prefix", metavar="PREFIX", nargs="?", default="", help="only keys that start with this (default: all)"
    )


def _add_top(parser: argparse.ArgumentParser) -> None:
    parser.add_argument("n", metavar="N", nargs="?", type=int, default=10, help="how many (default 10)")
    _add_prefix(parser)


def _add_wait_zero(parser: argparse.ArgumentParser) -> None:
    parser.add_argument("key", metavar="KEY")
    parser.add_argument(
        "--for",
        dest="for_seconds",
        type=_seconds,
        metavar="SECONDS",
        help="wait at most this long (default: no limit)",
    )


def _add_slowlog(parser: argparse.ArgumentParser) -> None:
    parser.add_argument("-n", type=int, default=32, metavar="N", help="how many, 1 to 128 (default 32)")
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
    parser.add_argument("number", metavar="N", nargs="?", type=int, help="the number of the session to end")


def _add_key(parser: argparse.ArgumentParser) -> None:
    parser.add_argument("key", metavar="KEY")


def _add_ping(parser: argparse.ArgumentParser) -> None:
    parser.add_argument(
        "--check",
        action="store_true",
        help="one attempt that ends within a second, for the health check of a container: exit status 0 or 1",
    )


def _add_stat(parser: argparse.ArgumentParser) -> None:
    parser.add_argument(
        "--interval", type=_seconds, default=1.0, metavar="SECONDS", help="between two lines (default 1)"
    )
    parser.add_argument("--lines", type=int, metavar="N", help="end after N lines (default: never)")


def _add_watch(parser: argparse.ArgumentParser) -> None:
    parser.add_argument(
        "--interval", type=_seconds, default=1.0, metavar="SECONDS", help="between two questions (default 1)"
    )
    parser.add_argument("--lines", type=int, metavar="N", help="print N lines as `naught stat` does, and end")


def _add_config(parser: argparse.ArgumentParser) -> None:
    parser.add_argument("name", metavar="NAME", nargs="?", help="a setting (default: print all)")
    parser.add_argument("value", metavar="VALUE", nargs="?", help="the new value")
    parser.add_argument(
        "--reset", action="store_true", help="give the setting back: what the configuration says, and the tuner's to change"
    )


def _add_nothing(parser: argparse.ArgumentParser) -> None:
    """A command without arguments of its own."""


# Command -> the function that runs it, the function that adds its arguments, its summary. The summaries are also in
# `main.COMMANDS`, so that `naught --help` need not import this module; a test compares the two.
COMMANDS: Final[dict[str, tuple[Command, Callable[[argparse.ArgumentParser], None], str]]] = {
    "get": (_get, _add_keys, "print values; 0 for a key without a counter"),
    "incr": (_incr, _add_incr, "add to a counter and print the value after"),
    "decr": (_decr, _add_decr, "subtract from a counter and print the value after; at zero the counter is gone"),
    "set": (_set, _add_value, "replace the value of a counter and print the value before"),
    "take": (_take, _add_take, "read and evict counters in one step"),
    "scan": (_scan, _add_prefix, "print all counters, or those with a prefix"),
    "top": (_top, _add_top, "print the largest counters"),
    "count": (_count, _add_prefix, "print the number of counters"),
    "wait-zero": (_wait_zero, _add_wait_zero, "wait until a counter is gone"),
    "info": (_info, _add_nothing, "print the statistics of the server"),
    "sessions": (_sessions, _add_sessions, "list the sessions of the server with what they hold, or end one"),
    "holders": (_holders, _add_key, "print which sessions hold how much of a counter"),
    "slowlog": (_slowlog, _add_slowlog, "list the slowest turns of the server's connections"),
    "clear": (_clear, _add_clear, "evict every counter of the cache"),
    "ping": (_ping, _add_ping, "measure one round trip to the server, or only check that it answers"),
    "stat": (_stat, _add_stat, "print a line per second: rates, counters, deviation, loop lag"),
    "watch": (_watch, _add_watch, "show rates, counters, sessions and who holds what, on a full screen"),
    "config": (_config, _add_config, "print or change settings of the running server"),
}


def parser_of(name: str) -> argparse.ArgumentParser:
    """The argument parser of one command."""
    _, arguments, summary = COMMANDS[name]
    parser = argparse.ArgumentParser(f"naught {name}", description=f"{summary[0].upper()}{summary[1:]}.")
    arguments(parser)
    parser.add_argument(
        "--url",
        default=os.environ.get("NAUGHT_URL") or DEFAULT_URL,
        help="the server and cache (default: %(default)s; NAUGHT_URL in the environment changes the default)",
    )
    parser.add_argument("--json", action="store_true", help="print JSON, one value a line")
    parser.add_argument("--timeout", type=_seconds, default=5.0, metavar="SECONDS", help="for each call (default 5)")
    return parser


def main(words: Sequence[str]) -> int:
    """Run a command. `words`: its name and its arguments. Returns the exit status."""
    name, *rest = words
    arguments = parser_of(name).parse_intermixed_args(rest)
    for stream in (sys.stdout, sys.stderr):
        reconfigure = getattr(stream, "reconfigure", None)
        if reconfigure is not None:
            reconfigure(errors="surrogateescape")  # keys that are not UTF-8 are written as their bytes
    output = Output(sys.stdout, as_json=arguments.json)
    if name == "ping" and arguments.check:
        return _check(arguments, output)
    try:
        status = asyncio.run(_run(COMMANDS[name][0], arguments, output))
        output.flush()
    except BrokenPipeError:
        # The reader has closed the pipe. Python must not try to write the rest of its buffer at exit.
        os.dup2(os.open(os.devnull, os.O_WRONLY), sys.stdout.fileno())
        return OK
    except InvalidRequest as error:
        _print_error(str(error))
        return WRONG_USAGE
    except NaughtError as error:
        _print_error(str(error))
        return FAILED
    return status


def _check(arguments: Arguments, output: Output) -> int:
    """`ping --check`, which needs no client."""
    try:
        milliseconds = 1000 * check(arguments.url, min(arguments.timeout, CHECK_S))
    except (NaughtError, OSError, UnicodeError) as error:
        why = getattr(error, "strerror", None) or error
        _print_error(f"{printable(arguments.url)} is not healthy: {printable(why)}")
        return FAILED
    if output.as_json:
        output.json({"ms": round(milliseconds, 3)})
    else:
        output.line(f"pong in {milliseconds:.2f} ms")
    output.flush()
    return OK


async def _run(command: Command, arguments: Arguments, output: Output) -> int:
    timeout = arguments.timeout
    async with connect(arguments.url, timeout=timeout, connect_timeout=max(timeout, 0.001)) as client:
        return await command(client, arguments, output)


def _print_error(message: str) -> None:
    sys.stderr.write(f"naught: {message}\n")
