"""What a client calls itself."""

from __future__ import annotations

import os
import re
import socket
from typing import Any

import pytest

import naught
from naught.core.options import check_options
from naught.errors import InvalidRequest
from naught.names import default_name
from naught.wire.codec import check_name
from naught.wire.limits import NAME_BYTES_MAX

OPTIONS: dict[str, Any] = {
    "timeout": 1,
    "connect_timeout": 1,
    "session": True,
    "lease": None,
    "random": None,
    "on_call_start": None,
    "on_call_end": None,
}


def test_unless_told_it_is_host_and_process() -> None:
    host, _, process = default_name().rpartition(":")
    assert process == str(os.getpid())
    assert host == socket.gethostname()


@pytest.mark.parametrize(
    ("host", "name"),
    [
        ("web-7", "web-7:PID"),
        ("", ":PID"),
        ("b\u00fcro", "b\u00fcro:PID"),
        ("a\nb\x1b[2J\u2028\x9b", "ab[2J:PID"),
        ("\udcff\udcfe", ":PID"),
        ("x" * 300, "x+:PID"),
        ("\u4e2d" * 100, "\u4e2d+:PID"),
    ],
)
def test_whatever_the_host_is_called_the_name_is_good(host: str, name: str, monkeypatch: pytest.MonkeyPatch) -> None:
    monkeypatch.setattr(socket, "gethostname", lambda: host)
    found = default_name()
    assert re.fullmatch(name.replace("[2J", r"\[2J").replace("PID", str(os.getpid())), found)
    assert check_name(found) == found
    assert len(host) < 100 or len(found.encode()) > NAME_BYTES_MAX - 3, "as much as there is room for"


@pytest.mark.parametrize("name", ["me", "two words", "\u00e9" * 64, "n" * 128, "\u4e2d\u6587", "a\u2028b"])
def test_good_names(name: str) -> None:
    assert check_options("memory://", **OPTIONS, name=name).name == name


def test_no_name_is_not_one_until_a_session_begins() -> None:
    """Options may be made before a fork and used after it."""
    assert check_options("memory://", **OPTIONS, name=None).name is None


BAD_NAMES: dict[str, Any] = {
    "empty": "",
    "too long": "n" * 129,
    "too long in bytes": "\u00e9" * 65,
    "a line feed": "a\nb",
    "an escape": "\x1b",
    "a zero": "\x00",
    "a delete": "\x7f",
    "a control character of 8 bits": "\x85",
    "a lone surrogate": "\udcff",
    "bytes": b"me",
    "a number": 5,
    "true": True,
}


@pytest.mark.parametrize("name", BAD_NAMES)
def test_bad_names_are_refused_at_once(name: str) -> None:
    with pytest.raises(InvalidRequest, match="name"):
        naught.connect("memory://", name=BAD_NAMES[name])
    with pytest.raises(InvalidRequest, match="name"):
        naught.blocking.Client("memory://", name=BAD_NAMES[name])
