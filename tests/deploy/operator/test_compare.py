"""Whether an object is as it should be."""

from __future__ import annotations

import random
from decimal import Decimal
from typing import Any

import pytest

from naught_operator.compare import digest, has, merge_patch, quantity


@pytest.mark.parametrize(
    ("found", "wanted", "expected"),
    [
        ({"a": 1, "b": 2}, {"a": 1}, True),
        ({"a": 1}, {"a": 1, "b": 2}, False),
        ({"a": {"x": 1, "y": 2}}, {"a": {"y": 2}}, True),
        ([{"a": 1, "default": 2}], [{"a": 1}], True),
        ([1, 2], [1], False),
        ([1], [1, 2], False),
        ({"a": 1}, {"a": 1, "empty": [], "none": None, "map": {}}, True),
        ({"a": 1}, {"zero": 0}, False),
        ({"cpu": "1"}, {"cpu": "1000m"}, True),
        ({"cpu": 1}, {"cpu": "1"}, True),
        ({"memory": "1Gi"}, {"memory": "1024Mi"}, True),
        ({"memory": "1G"}, {"memory": "1Gi"}, False),
        ({"a": True}, {"a": 1}, False),
        ({"a": "x"}, {"a": {}}, False),
        ("x", ["x"], False),
    ],
)
def test_all_that_is_wanted_is_there(found: Any, wanted: Any, expected: bool) -> None:
    assert has(found, wanted) is expected


@pytest.mark.parametrize(
    ("text", "expected"),
    [("250m", "0.25"), ("64Mi", "67108864"), ("1e3", "1000"), ("-2", "-2"), ("x", None), ("1Q", None), (True, None)],
)
def test_quantities(text: Any, expected: str | None) -> None:
    assert quantity(text) == (None if expected is None else Decimal(expected))


def test_a_digest_depends_on_the_value_alone() -> None:
    assert digest({"a": 1, "b": [2]}) == digest({"b": [2], "a": 1})
    assert digest({"a": 1}) != digest({"a": 2})


def applied(value: Any, patch: Any) -> Any:
    """RFC 7386, as it is written there."""
    if not isinstance(patch, dict):
        return patch
    result = dict(value) if isinstance(value, dict) else {}
    for key, each in patch.items():
        if each is None:
            result.pop(key, None)
        else:
            result[key] = applied(result.get(key), each)
    return result


def some_value(source: random.Random, depth: int = 3) -> Any:
    if depth and source.random() < 0.6:
        return {source.choice("abcd"): some_value(source, depth - 1) for _ in range(source.randrange(4))}
    return source.choice([0, 1, "x", [], [1, {"a": 1}]])


def test_a_merge_patch_makes_one_into_the_other() -> None:
    source = random.Random(5)
    for _ in range(500):
        old = {"a": some_value(source), "b": some_value(source)}
        new = {"a": some_value(source), "c": some_value(source)}
        assert applied(old, merge_patch(old, new)) == new
        assert merge_patch(new, new) == {}
