"""docs/lint.md is held to the checker, its rules and its examples; its appendix to what the verdicts give."""

from __future__ import annotations

import json
import random
import re
from collections.abc import Callable
from typing import Any

import pytest

from naught.lint import RULES, check_source
from naught.lint.finding import ON_REQUEST, UNREADABLE
from support.paths import DOCS

PAGE = (DOCS / "lint.md").read_text("utf-8")
FILE: dict[str, Any] = json.loads((DOCS / "lint-verdicts.json").read_text("utf-8"))
VERDICTS: list[dict[str, Any]] = FILE["verdicts"]
# Identifier -> what its section says.
SECTIONS = {text[:5]: text for text in re.split(r"^### ", PAGE, flags=re.MULTILINE)[1:]}
# How often the findings are right in packages that the rules were not made on.
PRECISION = (DOCS / "appendix" / "lint-precision.md").read_text("utf-8")
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


def is_right(each: dict[str, Any]) -> bool:
    return bool(each["verdict"] == "true")


def figures(chosen: list[dict[str, Any]]) -> list[int]:
    """Findings, how many of them are true, and the share of these in hundred."""
    right = sum(map(is_right, chosen))
    return [len(chosen), right, round(100 * right / len(chosen))]


def stated(row: str) -> list[list[int]]:
    """The numbers of the rows of the appendix's tables that begin with this."""
    rows = re.findall(rf"^\| {re.escape(row)} \| (.*) \|$", PRECISION, re.MULTILINE)
    return [[int(number) for number in re.findall(r"\d+", found)] for found in rows]


def test_the_verdicts_are_whole() -> None:
    assert len(VERDICTS) == FILE["found"]
    place = ("package", "file", "line", "column", "rule")
    assert len({tuple(each[name] for name in place) for each in VERDICTS}) == len(VERDICTS)
    for each in VERDICTS:
        assert each["verdict"] in ("true", "false")
        assert each["reason"]
        assert each["rule"] in RULES
        assert each["set"] in ("first", "second")
        assert isinstance(each["local"], bool)
        assert isinstance(each["still"], bool)
        # That a file does not parse is no verdict of ours; that the checker gave up on one is.
        assert each["rule"] in JUDGED or not is_right(each)


def test_the_fifty_are_those_that_the_seed_draws() -> None:
    """Nobody chose among the findings: the draw is done again, from all of them."""
    everything = sorted(VERDICTS, key=lambda each: (*(each[name] for name in ("package", "file", "line", "column")),))
    drawn = random.Random(FILE["seed"]).sample(everything, FILE["asked"])
    assert [each for each in everything if each["drawn"]] == [each for each in everything if each in drawn]


KINDS: list[tuple[str, Callable[[dict[str, Any]], bool]]] = [
    ("", lambda each: True),
    (", as it comes", lambda each: not each["local"]),
    (", only with `--locals`", lambda each: each["local"]),
]
GROUPS: list[tuple[str, Callable[[dict[str, Any]], bool]]] = [
    ("fifty at random", lambda each: each["drawn"]),
    ("held out", lambda each: each["set"] == "second"),
    ("first set", lambda each: each["set"] == "first"),
    ("held out, after the changes", lambda each: each["set"] == "second" and each["still"]),
]


@pytest.mark.parametrize("group", GROUPS, ids=lambda group: str(group[0]))
@pytest.mark.parametrize("kind", KINDS, ids=lambda kind: str(kind[0]))
def test_the_precision_stated_is_what_the_verdicts_give(
    group: tuple[str, Callable[[dict[str, Any]], bool]], kind: tuple[str, Callable[[dict[str, Any]], bool]]
) -> None:
    assert stated(group[0] + kind[0]) == [figures([each for each in VERDICTS if group[1](each) and kind[1](each)])]


def test_the_precision_of_everything_is_what_the_verdicts_give() -> None:
    assert stated("everything") == [figures(VERDICTS)]
    assert stated("everything, after the changes") == [figures([each for each in VERDICTS if each["still"]])]


def test_the_precision_without_what_is_followed_on_request() -> None:
    now = [each for each in VERDICTS if each["still"] and not each["local"] and each["rule"] not in ON_REQUEST]
    assert stated("everything, as it came then") == [figures(now)]
    assert stated("held out, as it came then") == [figures([each for each in now if each["set"] == "second"])]


def test_what_is_followed_on_request_says_so() -> None:
    for rule, section in SECTIONS.items():
        assert ("Followed only where it is asked for" in section) == (rule in ON_REQUEST)
    assert set(RULES) >= ON_REQUEST


def test_no_true_finding_was_lost_to_the_changes() -> None:
    gone = [each for each in VERDICTS if not each["still"]]
    assert not any(map(is_right, gone))
    assert {each["set"] for each in gone} == {"second"}
    held_out = [each for each in VERDICTS if each["set"] == "second"]
    assert f"no longer finds {len(gone)} of the {len(held_out)}," in " ".join(PRECISION.split())


def test_the_precision_of_each_rule_is_what_the_verdicts_give() -> None:
    found = {each["rule"] for each in VERDICTS}
    assert set(re.findall(r"^\| (NZ\d+) ", PRECISION, re.MULTILINE)) == found
    for rule in found:
        of_rule = [each for each in VERDICTS if each["rule"] == rule]
        held_out = [each for each in of_rule if each["set"] == "second"]
        assert stated(rule) == [figures(held_out) + figures(of_rule)]


def test_the_figures_in_the_text_are_those_of_the_tables() -> None:
    spaced = {name: f"{count:,}".replace(",", " ") for name, count in FILE["files"].items()}
    assert f"**{spaced['first']} files in the first set, {spaced['second']} in the second" in PRECISION
    assert f"All {len(VERDICTS)} findings that are left were judged" in PRECISION
    assert f"with the {FILE['asked']} of them that the tool drew" in PRECISION
    share = {name: figures([each for each in VERDICTS if each["set"] == name])[2] for name in ("first", "second")}
    assert f"**The precision on code it had not seen is {share['second']} %, far below the 80 %" in PRECISION
    assert f"The first set's {share['first']} % was not" in PRECISION


def test_rules_that_nothing_was_judged_of_are_named() -> None:
    (named,) = re.findall(r"^(NZ.*) find nothing here", PRECISION, re.MULTILINE)
    assert set(re.findall(r"NZ\d+", named)) == set(JUDGED) - {each["rule"] for each in VERDICTS}


# -- the third set, which two judged ------------------------------------------------------------------------

THIRD: dict[str, Any] = FILE["third"]
JUDGED_TWICE: list[dict[str, Any]] = THIRD["verdicts"]


def test_the_third_set_is_stated_as_its_verdicts_have_it() -> None:
    for number, judge in enumerate(("one judge", "the other")):
        said = [{"verdict": each["judges"][number]} for each in JUDGED_TWICE]
        assert stated(f"third set, {judge}") == [figures(said)]
    assert stated("third set, where both agree") == stated("third set") == [figures(JUDGED_TWICE)]
    for rule in {each["rule"] for each in JUDGED_TWICE}:
        assert stated(f"third set, {rule}") == [figures([each for each in JUDGED_TWICE if each["rule"] == rule])]
    assert stated("second set") == stated("held out")


def test_a_finding_of_the_third_set_is_true_only_where_both_say_so() -> None:
    assert len(JUDGED_TWICE) == THIRD["asked"]
    for each in JUDGED_TWICE:
        assert each["set"] == "third"
        assert each["rule"] in JUDGED
        assert set(each["judges"]) <= {"true", "false"}
        assert is_right(each) == (each["judges"] == ["true", "true"])
        assert each["reason"]


def test_what_was_lost_of_the_third_set_was_false() -> None:
    gone = [each for each in JUDGED_TWICE if not each["still"]]
    assert not any(map(is_right, gone))
    assert stated("third set, after the changes") == [figures([each for each in JUDGED_TWICE if each["still"]])]
    assert f"Of the {len(JUDGED_TWICE)}, it no longer finds {len(gone)}, none" in " ".join(PRECISION.split())


def test_the_figures_of_the_third_set_in_the_text() -> None:
    text = " ".join(PRECISION.split())
    spaced = {name: f"{THIRD[name]:,}".replace(",", " ") for name in ("packages", "files", "unparsed", "found")}
    assert f"{spaced['packages']} packages, named by the tool" in text
    assert f"{spaced['files']} files, of which {spaced['unparsed']} do not parse" in text
    assert f"{spaced['found']} findings, copies" in text
    assert f"{THIRD['asked']} of them were drawn at random, with the seed {THIRD['seed']}." in text
    split = sum(len(set(each["judges"])) == 2 for each in JUDGED_TWICE)
    assert split == 2
    assert "They differ on two," in text


# -- the fourth set, with what was left of the third --------------------------------------------------------

FOURTH: dict[str, Any] = FILE["fourth"]
JUDGED_LAST: list[dict[str, Any]] = FOURTH["verdicts"]


def test_the_precision_of_the_rules_as_they_are_is_what_two_judges_say() -> None:
    assert len(JUDGED_LAST) == FOURTH["asked"] == 50
    for each in JUDGED_LAST:
        assert each["set"] in {"third", "fourth"}
        assert each["rule"] in JUDGED
        assert is_right(each) == (each["judges"] == ["true", "true"])
        assert each["reason"]
    for number, judge in enumerate(("one judge", "the other")):
        said = [{"verdict": each["judges"][number]} for each in JUDGED_LAST]
        assert stated(f"fourth set, {judge}") == [figures(said)]
    assert stated("fourth set, where both agree") == stated("fourth set") == [figures(JUDGED_LAST)]
    for rule in {each["rule"] for each in JUDGED_LAST}:
        assert stated(f"fourth set, {rule}") == [figures([each for each in JUDGED_LAST if each["rule"] == rule])]
    for name, of in (("its packages alone", "fourth"), ("left of the third", "third")):
        assert stated(f"fourth set, {name}") == [figures([each for each in JUDGED_LAST if each["set"] == of])]
    without = [each for each in JUDGED_LAST if each["rule"] != "NZ108"]
    assert stated("fourth set, without NZ108") == [figures(without)]


def test_the_page_of_the_rules_states_the_same_precision() -> None:
    count, right, percent = figures(JUDGED_LAST)
    assert f"{percent} % of what it finds is a real fault: {right} of {count}" in " ".join(PAGE.split())


def test_no_finding_was_judged_in_two_sets() -> None:
    places = [(each["package"], each["file"], each["line"], each["column"]) for each in (*JUDGED_TWICE, *JUDGED_LAST)]
    assert len(places) == len(set(places))


def test_the_figures_of_the_fourth_set_in_the_text() -> None:
    text = " ".join(PRECISION.split())
    files = f"{FOURTH['files']:,}".replace(",", " ")
    assert f"{FOURTH['packages']} packages that are in none of the other sets" in text
    assert f"{files} files, of which three do not parse" in text
    assert f"{FOURTH['found']} findings, and with them {FOURTH['undrawn']} of the" in text
    assert (
        f"50 of these {FOURTH['found'] + FOURTH['undrawn']} were drawn at random, with the seed {FOURTH['seed']}."
        in text
    )
