"""Log lines: their format, and that bytes of a peer cannot make one line look like two."""

from __future__ import annotations

import io
import json
import logging
import re
from collections.abc import Iterator
from datetime import datetime

import pytest

from naught_server import logs
from naught_server.logs import fields

log = logging.getLogger("naught")
TIMESTAMP = r"\d{4}-\d\d-\d\dT\d\d:\d\d:\d\d\.\d{3}Z"


@pytest.fixture(autouse=True)
def restored_loggers() -> Iterator[None]:
    loggers = [logging.getLogger(name) for name in ("naught", "asyncio")]
    before = [(logger, list(logger.handlers), logger.level, logger.propagate) for logger in loggers]
    yield
    for logger, handlers, level, propagate in before:
        logger.handlers[:] = handlers
        logger.setLevel(level)
        logger.propagate = propagate


def set_up(log_format: str, level: str = "info") -> io.StringIO:
    stream = io.StringIO()
    logs.set_up(level, log_format, stream)
    return stream


def lines_of(stream: io.StringIO) -> list[str]:
    return stream.getvalue().splitlines()


@pytest.mark.parametrize(
    ("values", "expected"),
    [
        ({}, "listening"),
        ({"count": 3, "ratio": 0.5, "yes": True, "none": None}, "listening count=3 ratio=0.5 yes=true none=null"),
        ({"tcp": "127.0.0.1:6480", "path": "/run/a-b_c.sock"}, "listening tcp=127.0.0.1:6480 path=/run/a-b_c.sock"),
        ({"name": "two words", "empty": ""}, 'listening name="two words" empty=""'),
        ({"name": "a=b", "quote": 'a"b'}, 'listening name="a=b" quote="a\\"b"'),
        ({"name": "a\nb\x1b[31m"}, 'listening name="a\\nb\\u001b[31m"'),
        ({"name": "é\u2028\udcff"}, 'listening name="\\u00e9\\u2028\\udcff"'),
        ({"key": b"abc\xff"}, 'listening key="abc\\\\xff"'),
        ({"caches": ["default", "orders"], "none": []}, 'listening caches=default,orders none=""'),
        ({"map": {"a": 1}}, 'listening map="{\\"a\\": 1}"'),
    ],
)
def test_text(values: dict[str, object], expected: str) -> None:
    stream = set_up("text")
    log.info("listening", extra=fields(**values))
    (line,) = lines_of(stream)
    timestamp, level, rest = line.split(" ", 2)
    assert re.fullmatch(TIMESTAMP, timestamp)
    assert (level, rest) == ("info", expected)


def test_json() -> None:
    stream = set_up("json")
    log.warning("connections cut", extra=fields(count=3, names=["a\nb"], key=b"k\xff", odd=1j))
    (line,) = lines_of(stream)
    found = json.loads(line)
    assert list(found) == ["timestamp", "level", "event", "count", "names", "key", "odd"]
    assert re.fullmatch(TIMESTAMP, found["timestamp"])
    assert datetime.fromisoformat(found.pop("timestamp")).tzinfo is not None
    assert found == {
        "level": "warning",
        "event": "connections cut",
        "count": 3,
        "names": ["a\nb"],
        "key": "k\\xff",
        "odd": "1j",
    }


def test_a_field_does_not_take_the_place_of_what_every_line_has() -> None:
    stream = set_up("json")
    log.info("event", extra=fields(level="high", timestamp=0))
    found = json.loads(stream.getvalue())
    assert (found["level"], found["level_"], found["timestamp_"]) == ("info", "high", 0)


@pytest.mark.parametrize("message", ["a\nb", "a\rb", "a\x1b[2Jb", "a\u2028b", "a\u0085b", "a\udcffb"])
def test_an_event_is_one_line_whatever_is_in_it(message: str) -> None:
    for log_format in ("text", "json"):
        stream = set_up(log_format)
        log.info("%s", message)
        assert len(lines_of(stream)) == 1
        assert stream.getvalue().isascii()
        assert stream.getvalue()[:-1].isprintable()


def test_a_traceback_follows_its_line_and_is_a_field_in_json() -> None:
    for log_format in ("text", "json"):
        stream = set_up(log_format)
        try:
            raise ValueError("first\n2031-01-01T00:00:00.000Z info a forged line")
        except ValueError:
            log.exception("a job failed", extra=fields(job="sweep"))
        lines = lines_of(stream)
        if log_format == "json":
            (line,) = lines
            found = json.loads(line)
            assert found["exception"].startswith("Traceback (most recent call last):")
            assert (found["event"], found["job"]) == ("a job failed", "sweep")
        else:
            assert lines[0].endswith(" error a job failed job=sweep")
            assert "    ValueError: first" in lines
            # Only the first line looks like a log line.
            assert [bool(re.match(TIMESTAMP, line)) for line in lines] == [True] + [False] * (len(lines) - 1)


def test_levels() -> None:
    stream = set_up("text", "warning")
    log.info("unseen")
    log.warning("seen")
    logging.getLogger("naught.server").error("a child")
    assert [line.split(" ", 1)[1] for line in lines_of(stream)] == ["warning seen", "error a child"]
    stream = set_up("text", "debug")
    log.debug("seen")
    assert len(lines_of(stream)) == 1


def test_what_asyncio_has_to_say_is_in_the_same_log() -> None:
    stream = set_up("json")
    logging.getLogger("asyncio").error("Exception in callback")
    logging.getLogger("asyncio").info("about itself")
    (line,) = lines_of(stream)
    assert json.loads(line)["logger"] == "asyncio"


def test_setting_up_again_replaces_what_was_there() -> None:
    first = set_up("text")
    second = set_up("text")
    log.info("once")
    assert (first.getvalue(), len(lines_of(second))) == ("", 1)


def test_a_line_that_cannot_be_written_is_dropped(capsys: pytest.CaptureFixture[str]) -> None:
    class Full(io.StringIO):
        def write(self, text: str) -> int:
            raise OSError(28, "No space left on device")

    logs.set_up("info", "text", Full())
    log.info("lost")
    assert capsys.readouterr() == ("", "")
