"""The commands that talk to a server: `naught get seats:42`, `naught stat`, `naught incr - < keys` and so on.

Each command is a row of `COMMANDS` at the end of this module: a coroutine function that gets a client, the arguments
and an `Output`, and returns the exit status (`exit_status.py`). Its arguments are in `arguments.py`.

Results go to standard output, as text for people or with `--json` as JSON for programs. Progress and errors go to
standard error. If the reader of standard output closes it, the command ends without an error.
"""

from __future__ import annotations

import argparse
import asyncio
import sys
from collections.abc import Awaitable, Callable, Iterator
from typing import Any, Final

from naught.aio.client import Client, connect
from naught.cli.arguments import access_of
from naught.cli.batches import send_lines
from naught.cli.exit_status import FAILED, OK
from naught.cli.output import Output
from naught.cli.stdin import read_answer
from naught.cli.streams import say, write_error
from naught.cli.text import shown, visible
from naught.errors import InvalidRequest
from naught.url import without_secret

Arguments = argparse.Namespace
Command = Callable[[Client[str], Arguments, Output], Awaitable[int]]

SCAN_LINES: Final = 1_000
"""Counters of a scan that are printed at once."""


# --------------------------------------------------------------------------------------------------- commands


async def _get(client: Client[str], arguments: Arguments, output: Output) -> int:
    keys: list[str] = arguments.keys
    if keys == ["-"]:
        return await send_lines(output, lambda keys, _: client.get_many(keys), amounts=False, done="read")
    if len(keys) == 1:
        output.value(await client.get(keys[0]))
    else:
        output.pairs(list(zip(keys, await client.get_many(keys), strict=True)))
    return OK


async def _incr(client: Client[str], arguments: Arguments, output: Output) -> int:
    if arguments.key == "-":
        _check_no_amount(arguments)
        ttl_ms = arguments.ttl
        return await send_lines(output, lambda keys, amounts: client.apply(keys, amounts, ttl_ms=ttl_ms))
    output.value(await client.incr(arguments.key, arguments.by, ttl_ms=arguments.ttl))
    return OK


async def _decr(client: Client[str], arguments: Arguments, output: Output) -> int:
    if arguments.key == "-":
        if arguments.strict:
            raise InvalidRequest("--strict works with one KEY only, not with standard input")
        _check_no_amount(arguments)
        return await send_lines(output, lambda keys, amounts: client.apply(keys, [-amount for amount in amounts]))
    output.value(await client.decr(arguments.key, arguments.by, strict=arguments.strict))
    return OK


def _check_no_amount(arguments: Arguments) -> None:
    if arguments.by != 1:
        raise InvalidRequest(
            "with standard input, an amount stands in its line, behind the key; BY is for one KEY only"
        )


async def _set(client: Client[str], arguments: Arguments, output: Output) -> int:
    output.value(await client.set(arguments.key, arguments.value, ttl_ms=arguments.ttl))
    return OK


async def _take(client: Client[str], arguments: Arguments, output: Output) -> int:
    if arguments.keys == ["-"]:
        return await send_lines(output, lambda keys, _: client.take(keys), amounts=False, done="taken")
    output.pairs(list(zip(arguments.keys, await client.take(arguments.keys), strict=True)))
    return OK


async def _ttl(client: Client[str], arguments: Arguments, output: Output) -> int:
    """In seconds, as everywhere at the command line. JSON has -1 for no limit, as the wire does."""
    milliseconds = await client.ttl(arguments.key)
    if output.as_json:
        output.json(milliseconds if milliseconds is None or milliseconds < 0 else milliseconds / 1000)
    elif milliseconds is not None:
        output.line("none" if milliseconds < 0 else f"{milliseconds / 1000:.3f}")
    return OK if milliseconds is not None else _absent(arguments, output)


async def _expire(client: Client[str], arguments: Arguments, output: Output) -> int:
    changed = await client.expire(arguments.key, arguments.ttl)
    if output.as_json:
        output.json(changed)
    return OK if changed else _absent(arguments, output)


def _absent(arguments: Arguments, output: Output) -> int:
    say(f"there is no counter {output.key(arguments.key)}")
    return FAILED


async def _scan(client: Client[str], arguments: Arguments, output: Output) -> int:
    page: list[tuple[str, int]] = []
    async for pair in client.scan_iter(prefix=arguments.prefix):
        page.append(pair)
        if len(page) == SCAN_LINES:
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
        say(f"{output.key(arguments.key)} still exists after {arguments.for_seconds:g} s")
    return OK if gone else FAILED


async def _info(client: Client[str], arguments: Arguments, output: Output) -> int:
    info = await client.info()
    if output.as_json:
        output.json(info)
    else:
        for path, value in _flat(info):
            output.line(visible(path), shown(value))
    return OK


async def _sessions(client: Client[str], arguments: Arguments, output: Output) -> int:
    if arguments.action is not None:
        return await _end_session(client, arguments, output)
    sessions = await client.sessions()
    if output.as_json:
        for session in sessions:
            output.json(session)
    else:
        from naught.cli.tables import sessions_table

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
        say(f"there is no session {arguments.number}")
    return OK if ended else FAILED


async def _holders(client: Client[str], arguments: Arguments, output: Output) -> int:
    holders = await client.holders(arguments.key)
    if output.as_json:
        for holder in holders:
            output.json(holder._asdict())
    elif holders:
        from naught.cli.tables import holders_table

        output.lines(holders_table(holders, output.width))
    return OK


async def _slowlog(client: Client[str], arguments: Arguments, output: Output) -> int:
    turns = await client.slowlog(arguments.n)
    if output.as_json:
        for turn in turns:
            output.json(turn)
    elif turns:
        from naught.cli.slowlog import table

        output.lines(table(turns))
    else:
        write_error("no turn was slow since the server started, or since the last reset\n")
    if arguments.reset:
        await client.slowlog_reset()
    return OK


async def _clear(client: Client[str], arguments: Arguments, output: Output) -> int:
    if not arguments.yes:
        counters = await client.count()
        if sys.stdin is None or not sys.stdin.isatty():
            raise InvalidRequest(f"clear would evict {counters} counters; confirm with --yes")
        write_error(f"evict all {counters} counters of {visible(without_secret(arguments.url))}? [y/N] ")
        if (await read_answer()).strip().lower() not in ("y", "yes"):
            say("not confirmed, nothing was cleared")
            return FAILED
    output.value(await client.clear())
    return OK


async def _config(client: Client[str], arguments: Arguments, output: Output) -> int:
    if arguments.reset:
        if arguments.name is None or arguments.value is not None:
            raise InvalidRequest("--reset gives one setting back: naught config NAME --reset")
        output.value(await client.config_set(arguments.name, None))
        return OK
    if arguments.value is not None:
        output.value(await client.config_set(arguments.name, _literal(arguments.value)))
        return OK
    found = await client.config_get(arguments.name)
    if isinstance(found, dict) and not output.as_json:
        for name, value in found.items():
            output.line(visible(name), shown(value))
    else:
        output.value(found)
    return OK


async def _stat(client: Client[str], arguments: Arguments, output: Output) -> int:
    from naught.cli.stat import Stat

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
                output.line(stat.line(sample))
            output.flush()
            lines += 1
            if lines == arguments.lines:
                return OK
        await asyncio.sleep(arguments.interval)


async def _watch(client: Client[str], arguments: Arguments, output: Output) -> int:
    from naught.cli.watch import can_watch, watch  # it needs a system with terminals

    if output.as_json or arguments.lines is not None or not can_watch():
        return await _stat(client, arguments, output)
    await watch(client, url=without_secret(arguments.url), interval=arguments.interval, coloured=output.coloured)
    return OK


def _flat(value: Any, path: str = "") -> Iterator[tuple[str, Any]]:
    if isinstance(value, dict):
        for word, inner in value.items():
            yield from _flat(inner, f"{path}.{word}" if path else word)
    else:
        yield path, value


def _literal(text: str) -> Any:
    """The number, true, false or none that the text is, otherwise the text. No bound is 0 for the server."""
    if text in ("true", "false"):
        return text == "true"
    if text == "none":
        return 0
    for kind in (int, float):
        try:
            return kind(text)
        except ValueError:
            pass
    return text


# Command -> the function that runs it.
COMMANDS: Final[dict[str, Command]] = {
    "get": _get,
    "incr": _incr,
    "decr": _decr,
    "set": _set,
    "take": _take,
    "ttl": _ttl,
    "expire": _expire,
    "scan": _scan,
    "top": _top,
    "count": _count,
    "wait-zero": _wait_zero,
    "info": _info,
    "sessions": _sessions,
    "holders": _holders,
    "slowlog": _slowlog,
    "clear": _clear,
    "stat": _stat,
    "watch": _watch,
    "config": _config,
}


async def run(name: str, arguments: Arguments, output: Output) -> int:
    """Connect, and run a command. Returns its exit status."""
    timeout = arguments.timeout
    access = access_of(arguments)
    async with connect(arguments.url, timeout=timeout, connect_timeout=max(timeout, 0.001), **access) as client:
        return await COMMANDS[name](client, arguments, output)
