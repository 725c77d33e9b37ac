"""The command line of the operator, and which of several leads."""

from __future__ import annotations

from pathlib import Path
from typing import Any

import pytest

from naught_operator.run import parse, priority

NS = ("--namespace", "counters")


def test_flags_and_variables() -> None:
    found = parse(
        [*NS, "--namespace", "seats"], {"NAUGHT_OPERATOR_WEBHOOK_PORT": "off", "NAUGHT_OPERATOR_INTERVAL": "3"}
    )
    assert (found.namespaces, found.webhook_port, found.interval_s, found.peering) == (
        ("counters", "seats"),
        None,
        3.0,
        None,
    )
    assert found.serves("seats")
    assert not found.serves("default")
    found = parse(
        ["--webhook-port", "1", "--interval", "4"],
        {"NAUGHT_OPERATOR_NAMESPACES": "a, b", "NAUGHT_OPERATOR_INTERVAL": "3"},
    )
    assert (found.namespaces, found.webhook_port, found.interval_s) == (("a", "b"), 1, 4.0)
    found = parse(["--all-namespaces"], {"NAUGHT_OPERATOR_WEBHOOK_TOKEN_FILE": "/token"})
    assert found.serves("whatever")
    assert found.webhook_token_file == Path("/token")


@pytest.mark.parametrize(
    ("arguments", "message"),
    [
        ([], "say which namespaces are served: --namespace NAME, or --all-namespaces"),
        ([*NS, "--all-namespaces"], "say which namespaces are served: --namespace NAME, or --all-namespaces"),
        ([*NS, "--interval", "0"], "--interval must be from 0.1 to 3600 seconds, not 0"),
        ([*NS, "--interval", "nan"], "--interval must be from 0.1 to 3600 seconds, not nan"),
        ([*NS, "--lifetime", "1"], "--lifetime must be from 5 to 3600 seconds, not 1"),
        ([*NS, "--webhook-port", "x"], "--webhook-port must be a port or off, not 'x'"),
        ([*NS, "--nonsense"], "unrecognized arguments: --nonsense"),
    ],
    ids=lambda value: None if isinstance(value, list) else value[:20],
)
def test_what_is_wrong_is_told_in_one_line(arguments: Any, message: str, capsys: pytest.CaptureFixture[str]) -> None:
    with pytest.raises(SystemExit) as end:
        parse(arguments, {})
    assert end.value.code == 2
    assert capsys.readouterr().err == f"naught_operator: {message}\n"


def test_the_oldest_leads_and_no_two_are_alike() -> None:
    assert priority(1_000.0) > priority(1_001.0) > 0
    same_second = {priority(1_000.5) for _ in range(50)}
    assert len(same_second) > 45
    assert max(same_second) < 2**53, "a number of JSON"
