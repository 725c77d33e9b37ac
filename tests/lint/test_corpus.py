"""tools/lint_corpus.py without its downloads: the draw, and that the documentation names what it reads."""

from __future__ import annotations

import importlib.util
import platform
import re
from pathlib import Path
from types import ModuleType

import pytest

from naught.lint.finding import COUNTDOWN, UNREADABLE, Finding
from support.paths import ROOT


@pytest.fixture(scope="module")
def corpus() -> ModuleType:
    spec = importlib.util.spec_from_file_location("lint_corpus", ROOT / "tools" / "lint_corpus.py")
    assert spec is not None
    assert spec.loader is not None
    module = importlib.util.module_from_spec(spec)
    spec.loader.exec_module(module)
    return module


def findings(rule: str, count: int) -> list[Finding]:
    says = "does not parse: …" if rule == UNREADABLE else "…"
    return [Finding(f"stdlib/pool{number}.py", number + 1, 1, rule, says, number + 1) for number in range(count)]


def test_the_draw_depends_on_the_seed_that_is_printed(corpus: ModuleType, capsys: pytest.CaptureFixture[str]) -> None:
    everything = findings(COUNTDOWN, 200) + findings(UNREADABLE, 200)
    drawn = corpus.sample_of(everything, set(everything[:100]), 50, seed=7)
    assert capsys.readouterr().out == "drew 50 of 200 findings with --seed 7\n"
    assert drawn == corpus.sample_of(everything, set(everything[:100]), 50, seed=7)
    assert drawn != corpus.sample_of(everything, set(everything[:100]), 50, seed=8)
    assert {each["rule"] for each in drawn} == {COUNTDOWN}
    assert all(each["local"] == (each["line"] > 100) for each in drawn)
    assert all(each["package"] == "stdlib" and each["file"].startswith("pool") for each in drawn)


def test_the_draw_does_not_depend_on_the_order_of_the_findings(corpus: ModuleType) -> None:
    everything = findings(COUNTDOWN, 200)
    assert corpus.sample_of(everything, set(), 50, seed=7) == corpus.sample_of(everything[::-1], set(), 50, seed=7)


def test_what_is_drawn_says_which_set_and_version_it_is_of(corpus: ModuleType) -> None:
    known = [(name, each) for name, packages in corpus.SETS.items() for each in packages]
    names = [package.partition("==")[0] for _, package in known]
    assert len(set(names)) == len(names), "a package in two sets is held out of neither"
    everything = [Finding(f"{name}/module.py", 1, 1, COUNTDOWN, "…", 1) for name in [*names, "stdlib"]]
    drawn = corpus.sample_of(everything, set(), len(everything), seed=1)
    said = {(each["set"], f"{each['package']}=={each['version']}") for each in drawn}
    assert said == {*known, ("first", f"stdlib=={platform.python_version()}")}


def test_a_finding_in_a_copy_is_not_drawn_again(corpus: ModuleType, tmp_path: Path) -> None:
    folders = {name: tmp_path / name for name in ("original", "copy", "other")}
    for name, text in (("original", "x\n  gone\nx\n"), ("copy", "gone\n"), ("other", "kept\n")):
        folders[name].mkdir()
        (folders[name] / "pool.py").write_text(text)
    places = (("original", 2), ("copy", 1), ("other", 1))
    everything = [Finding(f"{name}/pool.py", line, 1, COUNTDOWN, "…", line) for name, line in places]
    assert [each.path for each in corpus.without_copies(everything, folders)] == ["original/pool.py", "other/pool.py"]


def test_where_there_is_no_more_all_is_drawn(corpus: ModuleType) -> None:
    everything = findings(COUNTDOWN, 9)
    assert len(corpus.sample_of(everything, set(everything), 50, seed=1)) == 9


def test_a_file_that_only_the_checker_gives_up_on_is_there_to_be_judged(corpus: ModuleType) -> None:
    given_up = Finding("stdlib/loop.py", 1, 1, UNREADABLE, "nested too deeply to be read", 1)
    assert [each["file"] for each in corpus.sample_of([*findings(UNREADABLE, 9), given_up], set(), 50, 1)] == [
        "loop.py"
    ]


@pytest.mark.parametrize(("which", "begins"), [("first", "and (?=aiohttp,)"), ("second", "written:\\s+")])
def test_the_documentation_names_the_packages(corpus: ModuleType, which: str, begins: str) -> None:
    page = (ROOT / "docs" / "appendix" / "lint-precision.md").read_text("utf-8")
    (named,) = re.findall(rf"{begins}(.*?)\.", page, re.DOTALL)
    assert re.split(r",\s+|\s+and\s+", named) == [package.partition("==")[0] for package in corpus.SETS[which]]
