"""docs/lint.md is held to the checker: its rules, its examples, and the precision that the verdicts give."""

from __future__ import annotations

import json
import re
from pathlib import Path
from typing import Any

import pytest

from naught.lint import RULES, check_source
from naught.lint.finding import UNREADABLE

DOCS = Path(__file__).parents[2] / "docs"
PAGE = (DOCS / "lint.md").read_text("utf-8")
FILE: dict[str, Any] = json.loads((DOCS / "lint-verdicts.json").read_text("utf-8"))
VERDICTS: list[dict[str, Any]] = FILE["verdicts"]
# Identifier -> what its section says.
SECTIONS = {
    text[:5]: text for text in re.split(r"^### ", PAGE.split("\n## What it finds")[0], flags=re.MULTILINE)[1:]
}
JUDGED = sorted(set(RULES) - {UNREADABLE})


def examples(rule: str, which: str) -> list[str]:
    return re.findall(rf"^```python {which}\n(.*?)^```$", SECTIONS[rule], re.MULTILINE | re.DOTALL)


def test_every_rule_has_its_section_and_no_other_has() -> None:
    assert list(SECTIONS) == list(RULES)
    for rule, meaning in RULES.items():
        assert SECTIONS[rule].startswith(f"{rule}: {meaning}\n")


@pytest.mark.parametrize("rule", RULES)
def test_the_rationale_is_there(rule: str) -> None:
    rationale = SECTIONS[rule].split("\n", 1)[1].split("```")[0]
    assert len(rationale.split()) > 20


@pytest.mark.parametrize("rule", JUDGED)
def test_the_wrong_example_is_found_and_the_right_one_is_not(rule: str) -> None:
    (wrong,) = examples(rule, "wrong")
    (right,) = examples(rule, "right")
    assert {found.rule for found in check_source(wrong, "wrong.py")} == {rule}
    assert check_source(right, "right.py") == []


def test_the_verdicts_are_whole() -> None:
    assert len(VERDICTS) == min(FILE["asked"], FILE["found"])
    assert len({(each["package"], each["file"], each["line"], each["rule"]) for each in VERDICTS}) == len(VERDICTS)
    for each in VERDICTS:
        assert each["verdict"] in ("true", "false")
        assert each["reason"]
        assert each["rule"] in JUDGED
        assert isinstance(each["local"], bool)


@pytest.mark.parametrize(
    ("row", "chosen"),
    [
        ("as it comes", [each for each in VERDICTS if not each["local"]]),
        ("only with `--locals`", [each for each in VERDICTS if each["local"]]),
        ("together", VERDICTS),
    ],
)
def test_the_precision_stated_is_what_the_verdicts_give(row: str, chosen: list[dict[str, Any]]) -> None:
    (stated,) = re.findall(rf"^\| {re.escape(row)} \| (\d+) \| (\d+) \| (\d+) % \|$", PAGE, re.MULTILINE)
    right = sum(each["verdict"] == "true" for each in chosen)
    assert [int(number) for number in stated] == [len(chosen), right, round(100 * right / len(chosen))]


def test_rules_that_nothing_was_judged_of_are_named() -> None:
    (named,) = re.findall(r"^reading the same packages\. (.*?) find nothing here", PAGE, re.MULTILINE)
    assert set(re.findall(r"NZ\d+", named)) == set(JUDGED) - {each["rule"] for each in VERDICTS}
