"""tools/lint_corpus.py without its downloads: the draw, and that docs/lint.md names what it reads."""

from __future__ import annotations

import importlib.util
import re
from pathlib import Path
from types import ModuleType

import pytest

from naught.lint.finding import COUNTDOWN, UNREADABLE, Finding

ROOT = Path(__file__).parents[2]


@pytest.fixture(scope="module")
def corpus() -> ModuleType:
    spec = importlib.util.spec_from_file_location("lint_corpus", ROOT / "tools" / "lint_corpus.py")
    assert spec is not None
    assert spec.loader is not None
    module = importlib.util.module_from_spec(spec)
    spec.loader.exec_module(module)
    return module


def findings(rule: str, count: int) -> list[Finding]:
    return [Finding(f"stdlib/pool{number}.py", number + 1, 1, rule, "…", number + 1) for number in range(count)]


def test_the_draw_depends_on_the_seed_that_is_printed(corpus: ModuleType, capsys: pytest.CaptureFixture[str]) -> None:
    everything = findings(COUNTDOWN, 200) + findings(UNREADABLE, 200)
    drawn = corpus.sample_of(everything, set(everything[:100]), 50, seed=7)
    assert capsys.readouterr().out == "drew 50 of 200 findings with --seed 7\n"
    assert drawn == corpus.sample_of(everything, set(everything[:100]), 50, seed=7)
    assert drawn != corpus.sample_of(everything, set(everything[:100]), 50, seed=8)
    assert {each["rule"] for each in drawn} == {COUNTDOWN}
    assert all(each["local"] == (each["line"] > 100) for each in drawn)
    assert all(each["package"] == "stdlib" and each["file"].startswith("pool") for each in drawn)


def test_where_there_is_no_more_all_is_drawn(corpus: ModuleType) -> None:
    everything = findings(COUNTDOWN, 9)
    assert len(corpus.sample_of(everything, set(everything), 50, seed=1)) == 9


def test_the_documentation_names_the_packages(corpus: ModuleType) -> None:
    page = (ROOT / "docs" / "lint.md").read_text("utf-8")
    (named,) = re.findall(r"twelve packages, downloaded in the versions\nit names: (.*?)\.\n", page)
    assert re.split(r", | and ", named) == [package.partition("==")[0] for package in corpus.PACKAGES]
