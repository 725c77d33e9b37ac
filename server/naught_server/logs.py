"""Log lines: one event a line, with its fields, as text for people or as JSON for machines.

The logger is `naught`. An event is a few words that never change, and what varies stands in fields, so that a
line can be counted by its event and searched by its fields:

    log.info("connections cut", extra=fields(count=3))

    2031-05-04T10:20:30.123Z info connections cut count=3
    {"timestamp": "2031-05-04T10:20:30.123Z", "level": "info", "event": "connections cut", "count": 3}

Whatever a peer sent may end up in a field, so a line stays one line and cannot pass for another: text values
with anything but plain characters are quoted, and so are control characters in the event. A traceback
follows its line in the text format, and is the field `exception` in JSON.

A line that cannot be written (the reader of a pipe has gone, the disk is full) is dropped: the counters
matter more than the log.
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

_ALSO: Final = ("asyncio",)
"""Loggers that are not ours and have something to say about the server: a callback that raised."""


def fields(**values: object) -> dict[str, dict[str, object]]:
    """What to give a logging call as `extra`, for an event with these fields."""
    return {"naught_fields": values}


def set_up(level: str = "info", log_format: str = "text", stream: TextIO | None = None) -> None:
    """Send the log to `stream` (standard error), from `level` up, as "text" or "json".

    Replaces what an earlier call set up.
    """
    handler = _Handler(stream if stream is not None else sys.stderr)
    handler.setFormatter(_JsonFormatter() if log_format == "json" else _TextFormatter())
    for name in (LOGGER_NAME, *_ALSO):
        logger = logging.getLogger(name)
        for old in [old for old in logger.handlers if isinstance(old, _Handler)]:
            logger.removeHandler(old)
        logger.addHandler(handler)
        logger.propagate = False
    logging.getLogger(LOGGER_NAME).setLevel(level.upper())
    # asyncio's debug and info lines are about itself.
    logging.getLogger("asyncio").setLevel(max(logging.WARNING, logging.getLogger(LOGGER_NAME).level))


class _Handler(logging.StreamHandler[TextIO]):
    def handleError(self, record: logging.LogRecord) -> None:  # noqa: N802
        """Not written, and nobody to tell: the place where complaints go is the one that failed."""


def _timestamp(record: logging.LogRecord) -> str:
    moment = datetime.fromtimestamp(record.created, UTC)
    return f"{moment:%Y-%m-%dT%H:%M:%S}.{moment.microsecond // 1000:03d}Z"


def _fields_of(record: logging.LogRecord) -> dict[str, Any]:
    return getattr(record, "naught_fields", {})


def _as_text(value: object) -> str:
    """A value that is none of JSON's own: bytes as text, anything else by its own words."""
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
            # The lines of a traceback are indented, and so are those of the message at its end.
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
            # A field never takes the place of what every line has.
            line[name if name not in line else f"{name}_"] = value
        return json.dumps(line, default=_as_text)
