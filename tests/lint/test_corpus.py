"""tools/lint_corpus.py without its downloads, and tools/lint_judges.py: the draws, the questions, the count."""

from __future__ import annotations

import importlib.util
import json
import platform
import re
from pathlib import Path
from types import ModuleType

import pytest

from naught.lint.finding import COUNTDOWN, UNREADABLE, Finding
from support.paths import ROOT


@pytest.fixture(scope="module")
def corpus() -> ModuleType:
    return load("lint_corpus")


def load(name: str) -> ModuleType:
    spec = importlib.util.spec_from_file_location(name, ROOT / "tools" / f"{name}.py")
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


def test_the_drawn_sets_are_new(corpus: ModuleType) -> None:
    """No package of these sets was in a set before, or has a verdict; and each is as large as was asked for."""

    def named(packages: list[str]) -> set[str]:
        return {re.sub(r"[-_.]+", "-", package.partition("==")[0]).lower() for package in packages}

    drawn = json.loads((ROOT / "docs" / "lint-drawn.json").read_text("utf-8"))["sets"]
    verdicts = json.loads((ROOT / "docs" / "lint-verdicts.json").read_text("utf-8"))
    judged = [each["package"] for of in (verdicts, verdicts["third"], verdicts["fourth"]) for each in of["verdicts"]]
    before = named(judged) | named([each for packages in corpus.SETS.values() for each in packages])
    fifth, sixth = (named(drawn[name]["packages"]) for name in ("fifth", "sixth"))
    assert not sixth & (fifth | before)
    assert not fifth & before
    seventh = named(drawn["seventh"]["packages"] + drawn["seventh"]["reserve"])
    assert not seventh & (sixth | fifth | before | named([each["package"] for each in verdicts["sixth"]["verdicts"]]))
    for name, packages in (("sixth", sixth), ("seventh", named(drawn["seventh"]["packages"]))):
        assert len(packages) == sum(drawn[name]["sizes"])
        assert len(packages - named(drawn[name]["without_wheel"])) >= 100
    # Repositories, not packages: two names, of which the second is compared.
    repositories = [each.partition("@")[0] for each in drawn["eighth"]["repositories"]]
    eighth = named([each.partition("/")[2] for each in repositories])
    assert len(eighth) == len(repositories) >= 100, "one name, or one repository, was drawn twice"
    assert len({each.partition("/")[0].lower() for each in repositories}) == len(repositories), "an owner was"
    assert not eighth & (seventh | sixth | fifth | before)


FOUND = {"line": 2, "column": 1, "rule": COUNTDOWN, "message": "an entry of self.refs is counted down", "sure": True}


def test_findings_are_put_before_judges_and_counted(tmp_path: Path) -> None:
    judges = load("lint_judges")
    package = tmp_path / "packages" / "pool"
    package.mkdir(parents=True)
    for name, text in (("one.py", "x\nrefs\n"), ("two.py", "refs = 1\nother\n")):
        (package / name).write_text(text)
    found = [{**FOUND, "path": str(package / name)} for name in ("one.py", "two.py", "two.py")]
    found.append({**found[0], "line": 1, "sure": False})
    (tmp_path / "findings.json").write_text(json.dumps({"findings": found}))
    assert judges.ask(tmp_path / "findings.json", tmp_path / "packages", tmp_path / "asked") == 2
    text = (tmp_path / "asked" / "002.txt").read_text()
    assert text.startswith("claim: an entry of self.refs is counted down\n")
    assert ">>     2 other" in text
    assert "       1 refs = 1" in text
    assert "NZ" not in text
    files = []
    for name, verdicts in (("A", ("true", "true")), ("B", ("true", "false"))):
        said = {f"00{n}": {"verdict": verdict, "reason": "it is"} for n, verdict in enumerate(verdicts, 1)}
        files.append(tmp_path / f"{name}.json")
        files[-1].write_text(json.dumps(said))
    counted = judges.count(tmp_path / "asked" / "asked.json", files)
    assert [each["verdict"] for each in counted] == ["true", "false"]
    assert judges.figures(counted) == [
        "| one judge | 2 | 2 | 100 % |",
        "| the other | 2 | 1 | 50 % |",
        "| where both agree | 2 | 1 | 50 % |",
        "| NZ101 | 2 | 1 | 50 % |",
    ]
    files[0].write_text("{}")
    with pytest.raises(SystemExit, match="does not have a verdict on each"):
        judges.count(tmp_path / "asked" / "asked.json", files)
