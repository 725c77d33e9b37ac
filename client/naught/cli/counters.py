"""What `naught COMMAND` does with counters: `naught get seats:42`, `naught stat`, `naught incr - < keys`.

Every command is a row of `_PARSERS` (its arguments) and a coroutine that gets a client and the arguments. What a
command found goes to standard output, for people or with `--json` for programs; progress and errors go to standard
error. Exit status: 0; 1 for what the server or the network said; 2 for wrong usage; 130 when interrupted. A reader of
the output that goes away ends it quietly.
"""

from __future__ import annotations

import argparse
import asyncio
import json
import os
import sys
from collections.abc import AsyncIterator, Awaitable, Callable, Iterator, Sequence
from typing import IO, Any, Final

from naught.aio.client import Client, connect
from naught.cli.stat import Stat
from naught.core.calls import Key
from naught.errors import CommandError, InvalidRequest, NaughtError
from naught.wire.codec import decode_key, encode_key
from naught.wire.limits import DEFAULT_PORT, VALUE_MAX

DEFAULT_URL: Final = f"naught://127.0.0.1:{DEFAULT_PORT}"

OK, FAILED, WRONG_USAGE, INTERRUPTED = 0, 1, 2, 130

BATCH: Final = 1_000
"""Lines of standard input that travel together: what a server does for one client in a turn."""

Arguments = argparse.Namespace
Doing = Callable[[Client[str], Arguments, "Output"], Awaitable[int]]


class Output:
    """Where results go, as lines for people or as JSON."""

    def __init__(self, stream: IO[str], *, as_json: bool) -> None:
        self._stream: Final = stream
        self.as_json: Final = as_json
        self.coloured: Final = stream.isatty() and not os.environ.get("NO_COLOR")

    def json(self, value: Any) -> None:
        """One value, on a line of its own."""
        self._stream.write(json.dumps(value) + "\n")

    def line(self, *cells: object) -> None:
        """One line for people; cells with a tab between, so that `cut` can part them."""
        self._stream.write("\t".join(map(_shown, cells)) + "\n")

    def pairs(self, pairs: Sequence[tuple[str, int]]) -> None:
        """Keys with values, a line each."""
        if self.as_json:
            for key, value in pairs:
                self.json({"key": key, "value": value})
        else:
            self._stream.writelines(f"{_shown(key)}\t{value}\n" for key, value in pairs)

    def value(self, value: object) -> None:
        """The one thing a command found."""
        if self.as_json:
            self.json(value)
        else:
            self.line(value)

    def flush(self) -> None:
        """Let it be seen."""
        self._stream.flush()


def _shown(cell: object) -> str:
    """As it can stand on a line: a key may hold line ends and worse."""
    text = str(cell)
    if text.isprintable():
        return text
    return "".join(
        each if each.isprintable() or "\udc80" <= each <= "\udcff" else f"\\x{ord(each):02x}" for each in text
    )


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
            raise InvalidRequest("--strict is for one counter, not for standard input")
        return await _apply_lines(client, output, -1, None)
    output.value(await client.decr(arguments.key, arguments.by, strict=arguments.strict))
    return OK


async def _apply_lines(client: Client[str], output: Output, sign: int, ttl_ms: int | None) -> int:
    """Count what stands on standard input, a key a line with its amount behind a blank or tab; 1 unless said."""
    failed = 0
    async for keys, amounts in _batches():
        deltas = [sign * amount for amount in amounts]
        results = await client.apply(keys, deltas, ttl_ms=ttl_ms)
        good = [(key, value) for key, value in zip(keys, results, strict=True) if isinstance(value, int)]
        output.pairs([(_text(key), value) for key, value in good])
        for key, value in zip(keys, results, strict=True):
            if isinstance(value, CommandError):
                failed += 1
                _complain(f"{_shown(_text(key))}: {value}")
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
        _complain(f"{_shown(arguments.key)} is still there after {arguments.for_seconds:g} s")
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
    sessions = await client.sessions()
    for place, session in enumerate(sessions):
        if output.as_json:
            output.json(session)
        else:
            if not place:
                output.line(*session)
            output.line(*session.values())
    return OK


async def _clear(client: Client[str], arguments: Arguments, output: Output) -> int:
    if not arguments.yes:
        counters = await client.count()
        if not sys.stdin.isatty():
            raise InvalidRequest(f"clear would evict {counters} counters; --yes says that this is meant")
        sys.stderr.write(f"evict all {counters} counters of {_shown(arguments.url)}? [y/N] ")
        sys.stderr.flush()
        if (await asyncio.to_thread(sys.stdin.readline)).strip().lower() not in ("y", "yes"):
            _complain("nothing was cleared")
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


def _flat(value: Any, path: str = "") -> Iterator[tuple[str, Any]]:
    if isinstance(value, dict):
        for word, inner in value.items():
            yield from _flat(inner, f"{path}.{word}" if path else word)
    else:
        yield path, value


def _literal(text: str) -> Any:
    """A number where it is one, else the text."""
    for kind in (int, float):
        try:
            return kind(text)
        except ValueError:
            pass
    return text


# ------------------------------------------------------------------------------------------------ standard input


async def _batches(*, amounts: bool = True) -> AsyncIterator[tuple[list[Key], list[int]]]:
    """Keys of standard input with their amounts, in batches; with progress where somebody watches."""
    total = 0
    watched = sys.stderr.isatty() and not sys.stdin.isatty()
    keys: list[Key] = []
    numbers: list[int] = []
    while True:
        lines = await asyncio.to_thread(_some_lines)
        for place, line in enumerate(lines, total + 1):
            if line.strip():
                key, number = _read_line(line, place, amounts=amounts)
                keys.append(key)
                numbers.append(number)
        total += len(lines)
        if keys:
            yield keys, numbers
            keys, numbers = [], []
        if watched and (lines or total):
            sys.stderr.write(f"\r{total} lines" + ("" if lines else "\n"))
            sys.stderr.flush()
        if not lines:
            return


def _some_lines() -> list[bytes]:
    """Up to a batch; fewer at the end, none behind it."""
    lines = []
    for line in sys.stdin.buffer:
        lines.append(line)
        if len(lines) == BATCH:
            break
    return lines


def _read_line(line: bytes, place: int, *, amounts: bool) -> tuple[bytes, int]:
    words = line.split()
    if len(words) > (2 if amounts else 1):
        what = "a key and perhaps an amount" if amounts else "a key"
        raise InvalidRequest(f"line {place} of standard input has {len(words)} words, not {what}")
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


def _keys(parser: argparse.ArgumentParser) -> None:
    parser.add_argument("keys", nargs="+", metavar="KEY")


def _taken(parser: argparse.ArgumentParser) -> None:
    parser.add_argument("keys", nargs="+", metavar="KEY", help="- for the lines of standard input")


def _up(parser: argparse.ArgumentParser) -> None:
    parser.add_argument("key", metavar="KEY", help="- for standard input: a key a line, with an amount or 1")
    parser.add_argument("by", metavar="BY", nargs="?", type=int, default=1, help="(1)")
    parser.add_argument("--ttl", type=_seconds, metavar="SECONDS", help="for counters that this creates")


def _down(parser: argparse.ArgumentParser) -> None:
    parser.add_argument("key", metavar="KEY", help="- for standard input: a key a line, with an amount or 1")
    parser.add_argument("by", metavar="BY", nargs="?", type=int, default=1, help="(1)")
    parser.add_argument("--strict", action="store_true", help="an error instead of stopping at zero")


def _value(parser: argparse.ArgumentParser) -> None:
    parser.add_argument("key", metavar="KEY")
    parser.add_argument("value", metavar="VALUE", type=int, help="0 evicts")
    parser.add_argument("--ttl", type=_seconds, metavar="SECONDS", help="time to live; none unless said")


def _prefix(parser: argparse.ArgumentParser) -> None:
    parser.add_argument("prefix", metavar="PREFIX", nargs="?", default="", help="the beginning of keys (all)")


def _ranking(parser: argparse.ArgumentParser) -> None:
    parser.add_argument("n", metavar="N", nargs="?", type=int, default=10, help="(10)")
    _prefix(parser)


def _awaited(parser: argparse.ArgumentParser) -> None:
    parser.add_argument("key", metavar="KEY")
    parser.add_argument("--for", dest="for_seconds", type=_seconds, metavar="SECONDS", help="(no limit)")


def _cleared(parser: argparse.ArgumentParser) -> None:
    parser.add_argument("--yes", action="store_true", help="do not ask")


def _watched(parser: argparse.ArgumentParser) -> None:
    parser.add_argument("--interval", type=_seconds, default=1.0, metavar="SECONDS", help="(1)")
    parser.add_argument("--lines", type=int, metavar="N", help="end after so many (never)")


def _setting(parser: argparse.ArgumentParser) -> None:
    parser.add_argument("name", metavar="NAME", nargs="?", help="(all)")
    parser.add_argument("value", metavar="VALUE", nargs="?", help="set it to this")


def _nothing(parser: argparse.ArgumentParser) -> None:
    """No arguments of its own."""


COMMANDS: Final[dict[str, tuple[Doing, Callable[[argparse.ArgumentParser], None], str]]] = {
    "get": (_get, _keys, "values; 0 for what is absent"),
    "incr": (_incr, _up, "add, and print the value after"),
    "decr": (_decr, _down, "take away, and print the value after; a counter that reaches zero is gone"),
    "set": (_set, _value, "replace, and print the value before"),
    "take": (_take, _taken, "read and evict in one step"),
    "scan": (_scan, _prefix, "all counters under a prefix"),
    "top": (_top, _ranking, "the largest counters"),
    "count": (_count, _prefix, "how many counters there are"),
    "wait-zero": (_wait_zero, _awaited, "wait until a counter is gone"),
    "info": (_info, _nothing, "what the server says about itself"),
    "sessions": (_sessions, _nothing, "the sessions of the server"),
    "clear": (_clear, _cleared, "evict every counter of the cache"),
    "ping": (_ping, _nothing, "ask for a sign of life"),
    "stat": (_stat, _watched, "a line a second: rates, counters, deviation, loop lag"),
    "config": (_config, _setting, "settings that change while the server runs"),
}


def parser_of(name: str) -> argparse.ArgumentParser:
    """The arguments of one command."""
    _, arguments, summary = COMMANDS[name]
    parser = argparse.ArgumentParser(f"naught {name}", description=f"{summary[0].upper()}{summary[1:]}.")
    arguments(parser)
    parser.add_argument(
        "--url", default=os.environ.get("NAUGHT_URL") or DEFAULT_URL, help="(%(default)s; NAUGHT_URL)"
    )
    parser.add_argument("--json", action="store_true", help="for programs: a JSON value a line")
    parser.add_argument("--timeout", type=_seconds, default=5.0, metavar="SECONDS", help="of each call (5)")
    return parser


def main(words: Sequence[str]) -> int:
    """`words` are the command's name and its arguments. The exit status."""
    name, *rest = words
    arguments = parser_of(name).parse_intermixed_args(rest)
    for stream in (sys.stdout, sys.stderr):
        reconfigure = getattr(stream, "reconfigure", None)
        if reconfigure is not None:
            reconfigure(errors="surrogateescape")  # keys go out as the bytes they are
    output = Output(sys.stdout, as_json=arguments.json)
    try:
        status = asyncio.run(_run(COMMANDS[name][0], arguments, output))
        output.flush()
    except BrokenPipeError:
        # Whoever read has enough. What is still buffered must not be tried again at exit.
        os.dup2(os.open(os.devnull, os.O_WRONLY), sys.stdout.fileno())
        return OK
    except InvalidRequest as error:
        _complain(str(error))
        return WRONG_USAGE
    except NaughtError as error:
        _complain(str(error))
        return FAILED
    return status


async def _run(doing: Doing, arguments: Arguments, output: Output) -> int:
    timeout = arguments.timeout
    async with connect(arguments.url, timeout=timeout, connect_timeout=max(timeout, 0.001)) as client:
        return await doing(client, arguments, output)


def _complain(message: str) -> None:
    sys.stderr.write(f"naught: {message}\n")
