"""The copy of the rules with shorter times, with which the whole chain is run."""

from __future__ import annotations

import copy

import pytest

from support.alerting import alerts, rules, seconds, shortened


@pytest.mark.parametrize(
    ("text", "expected"),
    [("5m", 300), ("1h30m", 5_400), ("200ms", 0.2), ("1d", 86_400), ("2w", 1_209_600), ("0s", 0)],
)
def test_durations(text: str, expected: float) -> None:
    assert seconds(text) == expected


@pytest.mark.parametrize("text", ["", "5", "m", "5 m", "-5m", "5y"])
def test_what_is_no_duration(text: str) -> None:
    with pytest.raises(AssertionError, match="no duration"):
        seconds(text)


def test_every_duration_is_divided() -> None:
    original = {
        "groups": [
            {
                "name": "a",
                "interval": "1m",
                "rules": [
                    {"record": "r", "expr": "rate(x[5m]) > 5 * (y offset 1h) + max_over_time(z[1h:30s])"},
                    {"alert": "A", "expr": 'r{m="5m"} > 0.15', "for": "5m", "labels": {"severity": "info"}},
                    {"alert": "B", "expr": "r == 1"},
                ],
            },
            {"name": "b", "rules": []},
        ]
    }
    before = copy.deepcopy(original)
    assert shortened(original, 100) == {
        "groups": [
            {
                "name": "a",
                "interval": "600ms",
                "rules": [
                    {
                        "record": "r",
                        "expr": "rate(x[3000ms]) > 5 * (y offset 36000ms) + max_over_time(z[36000ms:300ms])",
                    },
                    {"alert": "A", "expr": 'r{m="5m"} > 0.15', "for": "3000ms", "labels": {"severity": "info"}},
                    {"alert": "B", "expr": "r == 1"},
                ],
            },
            {"name": "b", "rules": []},
        ]
    }
    assert original == before, "the original stays as it is"


def test_a_duration_is_never_divided_to_nothing() -> None:
    original = {"groups": [{"name": "a", "rules": [{"alert": "A", "expr": "x[1s]", "for": "1s"}]}]}
    (rule,) = shortened(original, 1_000_000)["groups"][0]["rules"]
    assert (rule["expr"], rule["for"]) == ("x[1ms]", "1ms")


def test_the_shipped_rules_keep_all_but_their_times() -> None:
    short = {
        rule["alert"]: rule
        for group in shortened(rules(), 100)["groups"]
        for rule in group["rules"]
        if "alert" in rule
    }
    assert short.keys() == alerts().keys()
    for name, rule in alerts().items():
        assert short[name]["annotations"] == rule["annotations"]
        assert short[name]["labels"] == rule["labels"]
        assert ("for" in short[name]) == ("for" in rule)
        if "for" in rule:
            assert seconds(short[name]["for"]) == pytest.approx(seconds(rule["for"]) / 100)
