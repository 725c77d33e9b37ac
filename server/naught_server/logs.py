"""Log lines: one line for each event, with fields, as text for people or as JSON for programs.

The logger is `naught`. The event is a few words that never change. All values are in fields, so lines can be counted
by event and searched by field:

    log.info("connections cut", extra=fields(count=3))

    2031-05-04T10:20:30.123Z info connections cut count=3
    {"timestamp": "2031-05-04T10:20:30.123Z", "level": "info", "event": "connections cut", "count": 3}

A field may contain bytes that a peer has sent, and these must not be able to start a new line or to imitate another
field. So text values with other than plain characters are quoted, and control characters in the event are escaped. In
the text format a traceback follows its line, indented; in JSON it is the field `exception`.

A line that cannot be written (the reader of a pipe has closed it, the disk is full) is dropped: the server goes on.
"""

from __future__ import annotations

import json
import logging
import re
import sys
from datetime import UTC, datetime
from typing import Any, Final, TextIO

__all__ = ["LOGGER_NAME", "fields", "set_up"]

LOGGER_NAME: Final = "naught"

_OTHER_LOGGERS: Final = ("asyncio",)
"""Loggers of libraries that report faults of the server: asyncio logs a callback that has raised."""


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
        logger.addHandler(handler)
        logger.propagate = False
    logging.getLogger(LOGGER_NAME).setLevel(level.upper())
    # asyncio's debug and info lines are about asyncio itself.
    logging.getLogger("asyncio").setLevel(max(logging.WARNING, logging.getLogger(LOGGER_NAME).level))


class _Handler(logging.StreamHandler[TextIO]):
    def handleError(self, record: logging.LogRecord) -> None:  # noqa: N802
        """Drop the line: a failure to write the log cannot be logged."""


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
