"""Log lines: their format, and that bytes of a peer cannot make one line look like two."""

from __future__ import annotations

import io
import json
import logging
import os
import re
import select
import time
from collections.abc import Callable, Iterator
from datetime import datetime

import pytest

from naught_server import limits, logs
from naught_server.logs import fields

log = logging.getLogger("naught")
DEADLINE_S = 20
TIMESTAMP = r"\d{4}-\d\d-\d\dT\d\d:\d\d:\d\d\.\d{3}Z"


@pytest.fixture(autouse=True)
def restored_loggers() -> Iterator[None]:
    loggers = [logging.getLogger(name) for name in ("naught", "asyncio")]
    before = [(logger, list(logger.handlers), logger.level, logger.propagate) for logger in loggers]
    yield
    for handler in logging.getLogger("naught").handlers:
        if handler not in before[0][1]:
            handler.close()
    for logger, handlers, level, propagate in before:
        logger.handlers[:] = handlers
        logger.setLevel(level)
        logger.propagate = propagate


def set_up(log_format: str, level: str = "info") -> io.StringIO:
    stream = io.StringIO()
    logs.set_up(level, log_format, stream)
    return stream


def text_of(stream: io.StringIO) -> str:
    assert logs.flush(DEADLINE_S)
    return stream.getvalue()


def lines_of(stream: io.StringIO) -> list[str]:
    return text_of(stream).splitlines()


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
    found = json.loads(text_of(stream))
    assert (found["level"], found["level_"], found["timestamp_"]) == ("info", "high", 0)


@pytest.mark.parametrize("message", ["a\nb", "a\rb", "a\x1b[2Jb", "a\u2028b", "a\u0085b", "a\udcffb"])
def test_an_event_is_one_line_whatever_is_in_it(message: str) -> None:
    for log_format in ("text", "json"):
        stream = set_up(log_format)
        log.info("%s", message)
        assert len(lines_of(stream)) == 1
        assert text_of(stream).isascii()
        assert text_of(stream)[:-1].isprintable()


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
    assert (text_of(first), len(lines_of(second))) == ("", 1)


def test_a_line_that_cannot_be_written_is_dropped(capsys: pytest.CaptureFixture[str]) -> None:
    class Full(io.StringIO):
        def write(self, text: str) -> int:
            raise OSError(28, "No space left on device")

    logs.set_up("info", "text", Full())
    log.info("lost")
    assert logs.flush(DEADLINE_S)
    assert logs.lines_dropped() == 1
    assert capsys.readouterr() == ("", "")


# ---------------------------------------------------------------------------------------- it never waits


class Pipe:
    """A pipe of the smallest size that nobody reads at first, as a stream to write to."""

    def __init__(self) -> None:
        self.reader, writer = os.pipe()
        self.stream = os.fdopen(writer, "w")

    def read_all(self, happened: Callable[[str], bool]) -> str:
        """Read until `happened` returns true for the whole text. Never waits for a line: the last may have come."""
        text = ""
        end = time.monotonic() + DEADLINE_S
        while not happened(text):
            assert time.monotonic() < end, f"it never happened: {text[-500:]!r}"
            if select.select([self.reader], [], [], 0.01)[0]:
                text += os.read(self.reader, 1 << 16).decode()
        return text

    def close(self) -> None:
        os.close(self.reader)
        self.stream.close()


@pytest.fixture
def pipe() -> Iterator[Pipe]:
    made = Pipe()
    yield made
    made.close()


def reported(text: str) -> int:
    """How many lines were dropped, as the log says."""
    return sum(int(count) for count in re.findall(r" warning log lines dropped count=([0-9]+)\n", text))


def test_a_pipe_that_nobody_reads_drops_lines_and_stops_nothing(pipe: Pipe, monkeypatch: pytest.MonkeyPatch) -> None:
    """This test would not end if a logging call waited."""
    monkeypatch.setattr(logs, "LOG_LINES_ALIKE_MAX", 10**6)
    logs.set_up("info", "text", pipe.stream)
    for number in range(5_000):
        log.info("an event", extra=fields(number=number, text="x" * 100))
    dropped = logs.lines_dropped()
    assert dropped > 2_000
    assert not logs.flush(0), "the thread waits"

    def is_seen(text: str) -> bool:
        log.info("the last line")  # again and again: while the queue is full it is dropped, too
        return "the last line" in text

    text = pipe.read_all(is_seen)
    assert sum(" an event " in line for line in text.splitlines()) == 5_000 - dropped
    # In more than one line, where the thread came to write while lines were still being dropped.
    assert dropped <= reported(text) <= logs.lines_dropped()


def test_the_queue_is_bounded_in_lines_and_in_bytes(pipe: Pipe, monkeypatch: pytest.MonkeyPatch) -> None:
    monkeypatch.setattr(logs, "LOG_LINES_ALIKE_MAX", 10**6)
    logs.set_up("info", "text", pipe.stream)
    (handler,) = logs._handlers()
    while not logs.lines_dropped():
        log.info("short")
    assert handler.writer.lines_queued == limits.LOG_LINES_QUEUED_MAX
    pipe.read_all(lambda text: handler.writer.flush(0))
    for _ in range(100):
        log.info("x" * 30_000)
    assert handler.writer.characters_queued <= limits.LOG_BYTES_QUEUED_MAX
    assert handler.writer.lines_queued < 40
    pipe.read_all(lambda text: handler.writer.flush(0))


def test_lines_alike_are_limited_and_counted() -> None:
    stream = set_up("text")
    for number in range(1_000):
        log.warning("session %d ended: its client does not acknowledge replies", number)
        log.warning("another event") if not number else None
    for handler in logs._handlers():
        handler.close()
    lines = [line.split(" ", 1)[1] for line in stream.getvalue().splitlines()]
    ended = [line for line in lines if "does not acknowledge" in line]
    left_out = [re.search("log lines left out .*count=([0-9]+)", line) for line in lines]
    counts = [int(found[1]) for found in left_out if found]
    assert len(ended) - len(counts) + sum(counts) == 1_000
    assert sum(counts) >= 900
    assert "warning another event" in lines
    assert any('event_left_out="session %d ended' in line for line in lines)


@pytest.mark.parametrize(
    ("times", "admitted", "left_out"),
    [
        ([0.0] * 10, 10, []),
        ([0.0] * 11, 10, [("e", 1)]),
        ([0.01 * n for n in range(90)], 10, [("e", 80)]),
        ([], 0, []),
    ],
)
def test_the_limit_of_lines_alike(times: list[float], admitted: int, left_out: list[tuple[str, int]]) -> None:
    limit = logs.AlikeLimit()
    assert sum(limit.admit(("naught", "e"), now_s) for now_s in times) == admitted
    assert limit.left_out(0.95) == []
    assert limit.left_out(1.0) == left_out
    assert limit.left_out(1.0) == []
    assert limit.admit(("naught", "e"), 1.0), "the next second"


def test_events_without_number_do_not_fill_the_memory() -> None:
    limit = logs.AlikeLimit()
    assert all(limit.admit(("naught", str(number)), 0.0) for number in range(10_000))
    assert len(limit._counts) == 256


def test_debug_lines_are_not_limited() -> None:
    stream = set_up("text", "debug")
    for _ in range(100):
        log.debug("a step")
    assert len(lines_of(stream)) == 100
