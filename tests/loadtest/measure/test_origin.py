"""Every report says where it comes from, and no field of it is replaced."""

from __future__ import annotations

import json
import shlex
import sys
from datetime import UTC, datetime
from pathlib import Path

import pytest

from naught_loadtest.measure.origin import origin, whole_command, with_origin
from naught_loadtest.measure.report import write_json


def test_the_command_can_be_given_to_a_shell_again(monkeypatch: pytest.MonkeyPatch) -> None:
    monkeypatch.setattr(sys, "argv", ["/usr/bin/naught-loadtest", "run", "--slo", "p99<2ms", "it's"])
    assert shlex.split(whole_command()) == ["naught-loadtest", "run", "--slo", "p99<2ms", "it's"]


def test_the_command_is_told_without_a_secret(monkeypatch: pytest.MonkeyPatch) -> None:
    monkeypatch.setattr(sys, "argv", ["naught-loadtest", "run", "--target", "naught://me:hunter2@h/c"])
    assert whole_command() == "naught-loadtest run --target naught://...@h/c"


@pytest.mark.parametrize("program", ["/lib/naught_loadtest/__main__.py", "-c", ""])
def test_a_module_that_is_run_has_the_name_of_the_program(monkeypatch: pytest.MonkeyPatch, program: str) -> None:
    monkeypatch.setattr(sys, "argv", [program, "demo"])
    assert whole_command() == "naught-loadtest demo"


def test_the_moment_is_the_one_given() -> None:
    moment = datetime(2026, 1, 2, 3, 4, 5, 678_000, UTC)
    assert origin(moment.timestamp())["started_at"] == "2026-01-02T03:04:05.678+00:00"


def test_every_kind_of_report_says_where_it_comes_from(tmp_path: Path) -> None:
    write_json({"schema": 1, "kind": "search", "machine": ["mine"]}, str(tmp_path / "a.json"))
    document = json.loads((tmp_path / "a.json").read_text())
    assert list(document)[:2] == ["schema", "kind"]
    assert document["machine"] == ["mine"]
    assert {"started_at", "host", "command"} <= set(document)
    assert with_origin(document) == document
