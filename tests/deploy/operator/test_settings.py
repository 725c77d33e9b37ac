"""The server's file, and which of its settings differ."""

from __future__ import annotations

import tomllib
from typing import Any

import pytest

from naught_operator.run import check_config
from naught_operator.settings import (
    Difference,
    asked_for,
    by_name,
    configuration,
    decode_started_with,
    encode_started_with,
    live_differences,
    restart_differences,
    rules_differ,
    same,
    to_toml,
)
from naught_operator.spec import read_spec

BASE = {"host": "0.0.0.0", "port": 6480, "insecure": True, "sweep_budget_ms": 1, "caches": {"a": {"shards": 4}}}


def test_the_file_is_that_of_the_manifests_and_in_it_what_the_resource_says() -> None:
    spec = read_spec(
        {
            "port": 7000,
            "settings": {"sweep_budget_ms": 3},
            "caches": {"a": {"eviction": "lazy"}, "b": {}},
            "rules": {"r": {"off": True}},
        }
    )
    assert configuration(BASE, spec) == {
        "host": "0.0.0.0",
        "port": 7000,
        "http_port": 6481,
        "insecure": True,
        "sweep_budget_ms": 3,
        "watch_config": True,
        "caches": {"a": {"shards": 4, "eviction": "lazy"}, "b": {}},
        "rules": {"r": {"off": True}},
    }


def test_settings_have_the_names_that_the_server_gives_them() -> None:
    config = {"port": 1, "caches": {"default": {"shards": 4}, "b": {}}, "rules": {"r": {"off": True}}}
    # That there is another cache than the default is a setting too: it needs a restart.
    assert by_name(config) == {"port": 1, "caches.default.shards": 4, "caches.b": True}
    assert asked_for(read_spec({"settings": {"x": 1}, "caches": {"default": {"eviction": "lazy"}}})) == {
        "x": 1,
        "caches.default.eviction": "lazy",
    }


@pytest.mark.parametrize(
    ("one", "other", "expected"),
    [(2, 2.0, True), (1, True, False), (False, 0, False), ("a", "a", True), ("1", 1, False), (None, 0, False)],
)
def test_values_are_the_same_when_they_mean_the_same(one: Any, other: Any, expected: bool) -> None:
    assert same(one, other) is expected


@pytest.mark.parametrize(
    ("pinned", "expected"),
    [(None, ["a"]), ([], ["a", "b"]), (["a", "b"], ["a"]), (["b"], ["a"])],
    ids=["unknown", "none", "both", "one"],
)
def test_a_live_setting_is_to_be_set_when_it_differs_or_is_not_pinned(pinned: Any, expected: list[str]) -> None:
    found = live_differences({"a": 1, "b": 2, "not-live": 3}, {"a": 9, "b": 2, "nobody-asks": 4}, pinned)
    assert [each.name for each in found] == expected
    assert found[0] == Difference("a", 9, 1)


def test_only_what_is_not_live_needs_a_restart() -> None:
    wanted = {"live": 1, "new": 2, "same": 3, "changed": 4}
    before = {"live": 0, "same": 3, "changed": 5, "gone": 6, "live-gone": 7}
    assert restart_differences(wanted, before, ["live", "live-gone"]) == [
        Difference("changed", 5, 4),
        Difference("gone", 6, None),
        Difference("new", None, 2),
    ]


def test_rules_are_compared_by_name() -> None:
    rules = {"held": {}, "missing": {}, "off": {"off": True}, "still": {"off": True}}
    assert rules_differ(rules, ["held", "still", "default"]) == ["missing", "still"]


def test_what_a_pod_was_started_with_is_read_again() -> None:
    settings = {"a": 1, "b": "x", "c": True, "d": 0.5}
    assert decode_started_with(encode_started_with(settings)) == settings
    for text in (None, "", "nonsense", "[1]"):
        assert decode_started_with(text) is None


def test_the_file_is_toml_of_the_same_tables() -> None:
    config = {
        "text": 'a "quoted" \\ line\n\t\x7f',
        "number": 1.5,
        "whole": 3,
        "flag": False,
        "list": [1, "two", {"three": 3}],
        "caches": {"a.b": {"shards": 4}, "empty": {}, "plain-name_1": {"deep": {"x": 1}}},
    }
    assert tomllib.loads(to_toml(config)) == config
    with pytest.raises(TypeError, match="TOML has no NoneType"):
        to_toml({"a": None})


def test_a_file_that_the_server_would_not_start_with_is_told() -> None:
    assert check_config(to_toml({"port": 6480, "caches": {"a": {"shards": 4}}})) is None
    assert check_config('nonsense = "1"\n') == "unknown key 'nonsense'"
    assert check_config("[caches.a]\nshards = 3\n") == (
        "caches.a: shards must be a power of two from 1 to 65536, not 3"
    )
