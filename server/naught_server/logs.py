"""Log lines: one line for each event, with fields, as text for people or as JSON for programs.

The logger is `naught`. The event is a few words that never change. All values are in fields, so lines can be counted
by event and searched by field:

    log.info("connections cut", extra=fields(count=3))

    2031-05-04T10:20:30.123Z info connections cut count=3
    {"timestamp": "2031-05-04T10:20:30.123Z", "level": "info", "event": "connections cut", "count": 3}

A field may contain bytes that a peer has sent, and these must not be able to start a new line or to imitate another
field. So text values with other than plain characters are quoted, and control characters in the event are escaped. In
the text format a traceback follows its line, indented; in JSON it is the field `exception`.

Logging never waits. Lines go into a bounded queue, and a thread writes them: a pipe that is full because its reader
has stopped blocks that thread only. A line that does not fit the queue, or cannot be written (the reader has closed
the pipe, the disk is full), is dropped and counted. The next line that is written says how many were dropped.

Lines of one event are limited to some in a second, because a client can cause some events as often as it wants. The
others are left out, and one line says how many.
"""

from __future__ import annotations

import json
import logging
import os
import re
import select
import sys
import threading
import time
from collections.abc import Callable
from datetime import UTC, datetime
from queue import Empty, SimpleQueue
from typing import Any, Final, TextIO

from naught_server.limits import LOG_BYTES_QUEUED_MAX, LOG_LINES_ALIKE_MAX, LOG_LINES_QUEUED_MAX

__all__ = ["AUDIT_LOGGER_NAME", "LOGGER_NAME", "fields", "flush", "lines_dropped", "set_up"]

LOGGER_NAME: Final = "naught"

AUDIT_LOGGER_NAME: Final = "naught.audit"
"""Who did what. Its lines are written whatever `log_level` says."""

_OTHER_LOGGERS: Final = ("asyncio",)
"""Loggers of libraries that report faults of the server: asyncio logs a callback that has raised."""


_ALIKE_WINDOW_S: Final = 1.0
"""Lines of one event are counted over this time."""

_EVENTS_COUNTED_MAX: Final = 256
"""Events whose lines are counted at the same time; there are fewer in the sources."""

_CLOSE_WAIT_S: Final = 1.0
"""How long the queue may take to be written when the process ends or the log is set up again."""


def fields(**values: object) -> dict[str, dict[str, object]]:
    """The argument `extra` of a logging call, for an event with these fields."""
    return {"naught_fields": values}


def set_up(level: str = "info", log_format: str = "text", stream: TextIO | None = None) -> None:
    """Write the log to `stream` (default standard error), from `level` up, as "text" or "json".

    Replaces the handler of an earlier call.
    """
    handler = _Handler(stream if stream is not None else sys.stderr)
    handler.setFormatter(_JsonFormatter() if log_format == "json" else _TextFormatter())
    for name in (LOGGER_NAME, *_OTHER_LOGGERS):
        logger = logging.getLogger(name)
        for old in [old for old in logger.handlers if isinstance(old, _Handler)]:
            logger.removeHandler(old)
            old.close()
        logger.addHandler(handler)
        logger.propagate = False
    logging.getLogger(LOGGER_NAME).setLevel(level.upper())
    logging.getLogger(AUDIT_LOGGER_NAME).setLevel(logging.INFO)
    # asyncio's debug and info lines are about asyncio itself.
    logging.getLogger("asyncio").setLevel(max(logging.WARNING, logging.getLogger(LOGGER_NAME).level))


def lines_dropped() -> int:
    """How many lines were dropped since the log was set up."""
    return sum(handler.writer.dropped for handler in _handlers())


def flush(wait_s: float = _CLOSE_WAIT_S) -> bool:
    """Wait until all lines are written, for at most `wait_s`. Returns whether they are."""
    return all(handler.writer.flush(wait_s) for handler in _handlers())


def _handlers() -> list[_Handler]:
    return [handler for handler in logging.getLogger(LOGGER_NAME).handlers if isinstance(handler, _Handler)]


class AlikeLimit:
    """Decides which lines of an event are written: up to `LOG_LINES_ALIKE_MAX` in a second. Sans-IO."""

    def __init__(self) -> None:
        # By event: when its first line of the present second came, and the lines since then.
        self._counts: dict[tuple[str, str], tuple[float, int]] = {}

    def admit(self, event: tuple[str, str], now_s: float) -> bool:
        """Whether to write a line of this event, a logger's name and a text."""
        started_s, count = self._counts.get(event, (now_s, 0))
        if not count and len(self._counts) >= _EVENTS_COUNTED_MAX:
            return True
        self._counts[event] = (started_s, count + 1)
        return count < LOG_LINES_ALIKE_MAX

    def left_out(self, now_s: float) -> list[tuple[str, int]]:
        """The events whose second is over, each with the lines that were left out. Their counts are removed."""
        ended = [event for event, (started_s, _) in self._counts.items() if now_s - started_s >= _ALIKE_WINDOW_S]
        counts = [(event[1], self._counts.pop(event)[1] - LOG_LINES_ALIKE_MAX) for event in ended]
        return [(text, count) for text, count in counts if count > 0]


class _Writer:
    """A bounded queue of lines, and the thread that writes them.

    No lock is held here, and none is waited for: a thread that gets no memory while it holds one may never release it
    (`with` needs memory for that), and all others would wait for ever. So each number has one thread that changes it:
    those of `put` belong to the threads that log, one at a time, the others to the thread that writes.
    """

    def __init__(self, write: Callable[[str], None], report: Callable[[int], str], tick: Callable[[], None]) -> None:
        self._write = write  # writes a line; may block, and may raise OSError or ValueError
        self._report = report  # makes the line that says how many were dropped
        self._tick = tick  # called about once a second
        # Lines; the queue of one who waits until all before it are written; and None, after which the thread ends.
        self._queue: SimpleQueue[str | SimpleQueue[None] | None] = SimpleQueue()
        self._lines_put = 0  # all that came into the queue
        self._lines_done = 0  # those of them that were written, or could not be
        self._characters_put = 0  # as the lines
        self._characters_done = 0
        self._closing = False
        self._refused = 0  # lines that did not fit, or were lost before
        self._failed = 0  # lines that could not be written
        self._reported = 0  # dropped lines that were reported
        self._thread = threading.Thread(target=self._run, name="log", daemon=True)
        self._thread.start()

    @property
    def dropped(self) -> int:
        """Lines that were dropped."""
        return self._refused + self._failed

    @property
    def lines_queued(self) -> int:
        """Lines that wait to be written, or are being written."""
        return self._lines_put - self._lines_done

    @property
    def characters_queued(self) -> int:
        """Their characters."""
        return self._characters_put - self._characters_done

    def put(self, line: str) -> None:
        """Have a line written, or drop it. Does not wait. Of one thread at a time."""
        full = self.lines_queued >= LOG_LINES_QUEUED_MAX
        if full or self.characters_queued + len(line) > LOG_BYTES_QUEUED_MAX or self._closing:
            self._refused += 1
            return
        self._queue.put(line)
        self._lines_put += 1
        self._characters_put += len(line)

    def drop(self) -> None:
        """A line was lost before it reached the queue. Of one thread at a time, as `put`."""
        self._refused += 1

    def flush(self, wait_s: float) -> bool:
        """Wait until all lines are written, for at most `wait_s`. Returns whether they are."""
        if self.lines_queued <= 0:
            return True
        if wait_s <= 0:
            return False
        written: SimpleQueue[None] = SimpleQueue()
        self._queue.put(written)
        try:
            written.get(timeout=wait_s)
        except Empty:
            return False
        return True

    def close(self, wait_s: float) -> None:
        """Write what is in the queue and end the thread. Waits for it, for at most `wait_s`."""
        self._closing = True
        self._queue.put(None)
        self._thread.join(wait_s)

    def _run(self) -> None:
        tick_at = time.monotonic() + _ALIKE_WINDOW_S
        while True:
            try:
                taken = self._queue.get(timeout=max(0.0, tick_at - time.monotonic()))
            except Empty:
                pass
            else:
                if taken is None:
                    return
                if isinstance(taken, str):
                    self._try_to_write(taken)
                    self._lines_done += 1
                    self._characters_done += len(taken)
                else:
                    taken.put(None)
            if time.monotonic() >= tick_at:
                tick_at = time.monotonic() + _ALIKE_WINDOW_S
                self._tick()

    def _try_to_write(self, line: str) -> None:
        try:
            self._write(line)
            missing = self.dropped - self._reported
            if missing:
                self._write(self._report(missing))
                self._reported += missing
        except Exception:  # the disk is full, the stream closed: whatever it is, the thread goes on
            self._failed += 1


class _Handler(logging.Handler):
    """Formats records, and gives their lines to a writer."""

    def __init__(self, stream: TextIO) -> None:
        super().__init__()
        self._alike = AlikeLimit()
        self.writer = _Writer(_write_to(stream), self._dropped_line, self._end_seconds)

    def emit(self, record: logging.LogRecord) -> None:
        # Debug lines are asked for one by one; nothing is left out there.
        if record.levelno > logging.DEBUG and not self._alike.admit((record.name, str(record.msg)), record.created):
            return
        try:
            self.writer.put(self.format(record) + "\n")
        except Exception:
            self.handleError(record)

    def handleError(self, record: logging.LogRecord) -> None:  # noqa: N802
        """Drop the line: a failure to write the log cannot be logged."""
        self.writer.drop()

    def close(self) -> None:
        self.acquire()
        try:
            self._report_left_out(float("inf"))
        finally:
            self.release()
        self.writer.close(_CLOSE_WAIT_S)
        super().close()

    def _end_seconds(self) -> None:
        # Not while a record is handled or the process ends: a later call reports the same.
        if self.lock is not None and self.lock.acquire(blocking=False):
            try:
                self._report_left_out(time.time())
            finally:
                self.lock.release()

    def _report_left_out(self, now_s: float) -> None:
        for event, count in self._alike.left_out(now_s):
            self.writer.put(self._line("log lines left out", event_left_out=event, count=count))

    def _dropped_line(self, count: int) -> str:
        return self._line("log lines dropped", count=count)

    def _line(self, event: str, **values: object) -> str:
        record = logging.LogRecord(LOGGER_NAME, logging.WARNING, "", 0, event, (), None)
        vars(record).update(fields(**values))
        return self.format(record) + "\n"


def _write_to(stream: TextIO) -> Callable[[str], None]:
    """A function that writes text to a stream. It may block."""
    try:
        descriptor = stream.fileno()
    except (OSError, ValueError, AttributeError):
        return _write_to_text(stream)

    def write(text: str) -> None:
        # Not by the stream: a thread that blocks within its buffer would stop the interpreter from ending.
        data = text.encode("utf-8", "backslashreplace")
        while data:
            try:
                data = data[os.write(descriptor, data) :]
            except BlockingIOError:  # another process has made the pipe non-blocking
                ready = select.poll()
                ready.register(descriptor, select.POLLOUT)
                ready.poll(1_000)

    return write


def _write_to_text(stream: TextIO) -> Callable[[str], None]:
    def write(text: str) -> None:
        stream.write(text)
        stream.flush()

    return write


def _timestamp(record: logging.LogRecord) -> str:
    moment = datetime.fromtimestamp(record.created, UTC)
    return f"{moment:%Y-%m-%dT%H:%M:%S}.{moment.microsecond // 1000:03d}Z"


def _fields_of(record: logging.LogRecord) -> dict[str, Any]:
    return getattr(record, "naught_fields", {})


def _as_text(value: object) -> str:
    """A value that JSON has no type for, as text."""
    return value.decode("utf-8", "backslashreplace") if isinstance(value, bytes) else str(value)


class _TextFormatter(logging.Formatter):
    _plain = re.compile(r"[A-Za-z0-9_./:@+,\[\]%-]+")
    _control = re.compile(r"[\x00-\x1f\x7f-\x9f\u2028\u2029\ud800-\udfff]")

    def format(self, record: logging.LogRecord) -> str:
        event = self._control.sub(lambda found: ascii(found[0])[1:-1], record.getMessage())
        words = [_timestamp(record), record.levelname.lower(), event]
        words += [f"{name}={self._value(value)}" for name, value in _fields_of(record).items()]
        line = " ".join(words)
        if record.exc_info:
            # All lines are indented, those of the exception's message included, so none looks like a log line.
            line += "\n" + "\n".join("    " + part for part in self.formatException(record.exc_info).splitlines())
        return line

    def _value(self, value: object) -> str:
        if isinstance(value, list | tuple):
            text = ",".join(map(_as_text, value))
        else:
            text = _as_text(value) if isinstance(value, str | bytes) else json.dumps(value, default=_as_text)
        return text if self._plain.fullmatch(text) else json.dumps(text)


class _JsonFormatter(logging.Formatter):
    def format(self, record: logging.LogRecord) -> str:
        line: dict[str, object] = {
            "timestamp": _timestamp(record),
            "level": record.levelname.lower(),
            "event": record.getMessage(),
        }
        if record.name != LOGGER_NAME:
            line["logger"] = record.name
        if record.exc_info:
            line["exception"] = self.formatException(record.exc_info)
        for name, value in _fields_of(record).items():
            # A field must not replace one of the keys that every line has.
            line[name if name not in line else f"{name}_"] = value
        return json.dumps(line, default=_as_text)
