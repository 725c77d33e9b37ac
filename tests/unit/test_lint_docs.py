"""docs/lint.md keeps its word: every wrong example is found, every right one is silent, the figures are the
data's."""

from __future__ import annotations

import json
import re
from pathlib import Path

import pytest

from naught.lint import RULES, check_source
from naught.lint.finding import UNREADABLE

DOCS = Path(__file__).parents[2] / "docs"
PAGE = (DOCS / "lint.md").read_text()
SECTIONS = dict(re.findall(r"^### (NZ\d+): (.*?)(?=^##|\Z)", PAGE, re.MULTILINE | re.DOTALL))
EXAMPLES = [
    pytest.param(rule, how, source, id=f"{rule} {how}")
    for rule, section in SECTIONS.items()
    for how, source in re.findall(r"^```python (wrong|right)\n(.*?)^```$", section, re.MULTILINE | re.DOTALL)
]
VERDICTS = json.loads((DOCS / "lint-verdicts.json").read_text())


def test_every_rule_is_explained() -> None:
    assert list(SECTIONS) == list(RULES)
    for rule, section in SECTIONS.items():
        assert section.split("\n")[0].rstrip() == RULES[rule]
        examples = re.findall(r"^```python (\w+)$", section, re.MULTILINE)
        assert examples == ([] if rule == UNREADABLE else ["wrong", "right"])


@pytest.mark.parametrize(("rule", "how", "source"), EXAMPLES)
def test_example(rule: str, how: str, source: str) -> None:
    assert [found.rule for found in check_source(source, "example.py")] == ([rule] if how == "wrong" else [])


def test_verdicts_are_whole() -> None:
    findings = VERDICTS["findings"]
    assert len(findings) == 50
    assert len({(each["file"], each["line"], each["rule"]) for each in findings}) == 50
    for each in findings:
        assert set(each) == {"rule", "file", "line", "finding", "verdict", "reason"}
        assert each["rule"] in RULES
        assert each["rule"] != UNREADABLE
        assert isinstance(each["verdict"], bool)
        assert len(each["reason"]) > 20


def test_precision_stated_is_the_data_s() -> None:
    right = sum(each["verdict"] for each in VERDICTS["findings"])
    assert right >= 40
    assert f"**{right} of 50** findings" in PAGE
    assert f"{right * 2} %" in PAGE
    assert f"seed {VERDICTS['seed']}" in PAGE
