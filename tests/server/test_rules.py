"""The tuner's rules in the file: what is accepted, and the error for each mistake."""

from __future__ import annotations

import re
from pathlib import Path
from typing import Any

import pytest

from naught_server.config import ConfigError, ServerConfig
from naught_server.loading import load
from naught_server.rules import DEFAULT_RULES, METRICS, RULES_MAX, SETTINGS, Rule, effective

GOOD = 'metric = "deviation"\nabove = 0.15\nset = "sweep_budget_ms"\nto = 4.0\n'


def rules_of(tmp_path: Path, text: str) -> dict[str, Rule]:
    path = tmp_path / "naught.toml"
    path.write_text(text)
    return dict(load(["--config", str(path)], {}).config.rules)


def test_which_changes_a_rule_would_make() -> None:
    fixed = Rule("fixed", metric="gc_seconds", rate_ms=1_000, above=1, set="gc_threshold", to=5_000)
    upwards = Rule("up", metric="gc_seconds", rate_ms=1_000, above=1, set="gc_threshold", times=10, limit=9_000)
    down = Rule("down", metric="gc_seconds", rate_ms=1_000, above=1, set="gc_threshold", times=0.5, limit=100)
    for before, value, wanted in (
        (700, 5_000, [fixed, upwards]),
        (7_000, 5_000, [fixed, down]),
        (700, 9_000, [upwards]),
        (700, 9_001, []),
        (700, 100, [down]),
        (700, 99, []),
        (700, 700, []),
    ):
        assert [rule for rule in (fixed, upwards, down) if rule.wants(before, value)] == wanted, (before, value)
    assert [fixed.next_value(value) for value in (700, 5_000, 7_000)] == [5_000] * 3


def test_a_rule_with_everything(tmp_path: Path) -> None:
    found = rules_of(
        tmp_path,
        """
        [caches.orders]
        [rules.all]
        metric = "evictions"
        rate_ms = 1_000
        above = 5
        until = 1.5
        for_ms = 200
        requests_below = 10
        cache = "orders"
        set = "sweep_interval_ms"
        times = 0.5
        limit = 5
        check_ms = 1_300
        undo_after_ms = 400
        off = false
        """,
    )
    assert found["all"] == Rule(
        "all", "evictions", "sweep_interval_ms", above=5, until=1.5, rate_ms=1_000, for_ms=200, requests_below=10,
        cache="orders", times=0.5, limit=5, check_ms=1_300, undo_after_ms=400,
    )  # fmt: skip
    assert set(effective(found)) == {*DEFAULT_RULES, "all"}


def test_a_default_rule_is_changed_in_part_or_turned_off(tmp_path: Path) -> None:
    found = rules_of(tmp_path, "[rules.quiet]\noff = true\n[rules.burst-of-zeros]\nlimit = 6.0\ntimes = 6\n")
    assert "quiet" not in effective(found)
    burst = effective(found)["burst-of-zeros"]
    assert (burst.metric, burst.above, burst.limit) == ("deviation", 0.15, 6.0)


@pytest.mark.parametrize(
    ("text", "message"),
    [
        ("rules = 3", "rules must be tables [rules.NAME], not 3"),
        (
            "[rules]\nmetric = 'deviation'",
            "rules.metric must be a table, not 'deviation'; it belongs in a table [rules.NAME]",
        ),
        ("[rules.a]", "rules.a: metric and set must be given"),
        ("[rules.a]\nmetric = 'deviation'", "rules.a: set must be given"),
        ("[rules.'a b']\n" + GOOD, "rules.a b: a rule's name is 1 to 64 letters, digits"),
        ("[rules.a]\nabov = 1", "unknown key 'rules.a.abov'; did you mean above?"),
        ("[rules.a]\nxyz = 1", "unknown key 'rules.a.xyz'; a rule has metric, set, above, "),
        ("[rules.a]\n" + GOOD.replace("deviation", "deviaton"), "not 'deviaton'; did you mean deviation?"),
        ("[rules.a]\n" + GOOD.replace("sweep_budget_ms", "port"), "rules.a: set must be one of sweep_budget_ms, "),
        ("[rules.a]\n" + GOOD + "below = 1", "rules.a: a rule has either above or below"),
        ("[rules.a]\n" + GOOD.replace("above = 0.15\n", ""), "rules.a: a rule has either above or below"),
        ("[rules.a]\n" + GOOD.replace("0.15", "nan"), "rules.a: above must be a number, not nan"),
        ("[rules.a]\n" + GOOD.replace("0.15", "'x'"), "rules.a: above must be a number, not 'x'"),
        ("[rules.a]\n" + GOOD.replace("0.15", "true"), "rules.a: above must be a number, not true"),
        ("[rules.a]\n" + GOOD + "until = 0.2", "rules.a: until must be at most above (0.15), not 0.2"),
        (
            "[rules.a]\n" + GOOD.replace("above", "below") + "until = 0.1",
            "until must be at least below (0.15), not 0.1",
        ),
        (
            "[rules.a]\n" + GOOD.replace("deviation", "requests"),
            "requests is a total, which only grows: give rate_ms",
        ),
        ("[rules.a]\n" + GOOD + "rate_ms = 99", "rate_ms must be a whole number of milliseconds from 100 to 3600000"),
        ("[rules.a]\n" + GOOD + "check_ms = 0", "check_ms must be a whole number of milliseconds from 100"),
        (
            "[rules.a]\n" + GOOD + "rate_ms = 60_000",
            "rules.a: check_ms must be at least rate_ms (60000), or a change",
        ),
        ("[rules.a]\n" + GOOD + "for_ms = -1", "for_ms must be a whole number of milliseconds from 0"),
        ("[rules.a]\n" + GOOD + "undo_after_ms = 1.5", "undo_after_ms must be a whole number of milliseconds"),
        ("[rules.a]\n" + GOOD + "off = 1", "rules.a: off must be true or false"),
        ("[rules.a]\n" + GOOD + "times = 2", "rules.a: a rule has either to or times"),
        ("[rules.a]\n" + GOOD + "limit = 2", "rules.a: limit belongs to times"),
        ("[rules.a]\n" + GOOD.replace("to = 4.0", "times = 2"), "rules.a: times needs a limit"),
        ("[rules.a]\n" + GOOD.replace("to = 4.0", "times = 1\nlimit = 2"), "times must be a number above 0"),
        ("[rules.a]\n" + GOOD.replace("to = 4.0", "times = -2\nlimit = 2"), "times must be a number above 0"),
        (
            "[rules.a]\n" + GOOD.replace("4.0", "11.0"),
            "rules.a: to of sweep_budget_ms must be a number from 0.1 to 10",
        ),
        ("[rules.a]\n" + GOOD.replace("4.0", "0"), "rules.a: to must not be 0: a rule cannot turn the sweeper off"),
        (
            "[rules.a]\n" + GOOD.replace("to = 4.0", "times = 2\nlimit = 20"),
            "limit of sweep_budget_ms must be a number",
        ),
        ("[rules.a]\n" + GOOD + "cache = 'no'", "rules.a: there is no cache named 'no'; there are: default"),
        ("[rules.a]\n" + GOOD + "cache = 3", "rules.a: cache must be the name of a cache"),
        (
            "[rules.a]\nmetric = 'sessions'\nabove = 1\nset = 'eviction'\nto = 'eager'",
            "set: eviction is of a cache, and sessions is a metric of the server",
        ),
        (
            "[rules.a]\nmetric = 'sessions'\nabove = 1\nset = 'gc_freeze'\nto = true\ncache = 'default'",
            "cache: sessions is a metric of the server, which has no cache",
        ),
        (
            "[rules.a]\nmetric = 'deviation'\nabove = 1\nset = 'eviction'\ntimes = 2\nlimit = 2",
            "times is for settings that are numbers, and eviction is none; give to",
        ),
        (
            "[rules.a]\nmetric = 'deviation'\nabove = 1\nset = 'eviction'\nto = 'never'",
            "rules.a: to of eviction must be eager or lazy, not 'never'",
        ),
        ("[rules.quiet]\nbelow = 1", "rules.quiet: a rule has either above or below"),
        (
            "".join(f"[rules.r{number}]\n{GOOD}" for number in range(RULES_MAX)),
            f"there can be at most {RULES_MAX} rules",
        ),
    ],
    ids=lambda value: None,
)
def test_a_mistake(tmp_path: Path, text: str, message: str) -> None:
    with pytest.raises(ConfigError) as caught:
        rules_of(tmp_path, text)
    assert message in str(caught.value)
    assert str(caught.value).startswith(str(tmp_path)) or "rules.a" in str(caught.value)
    assert len(str(caught.value)) < 500


@pytest.mark.parametrize("name", DEFAULT_RULES)
def test_the_default_rules_are_allowed(name: str) -> None:
    ServerConfig(rules={name: DEFAULT_RULES[name]})


def test_the_page_lists_what_a_rule_may_say() -> None:
    page = Path(__file__, "../../../docs/guide/tuning.md").resolve().read_text(encoding="utf-8")

    def listed(heading: str) -> set[str]:
        section = page.split(f"## {heading}\n")[1].split("\n## ")[0]
        return set(re.findall(r"^\| `([\w-]+)`", section, re.M))

    assert listed("Metrics") == set(METRICS)
    assert listed("What a rule sets") == set(SETTINGS)
    assert listed("The default rules") == set(DEFAULT_RULES)
    words: Any = Rule.__dataclass_fields__
    assert listed("A rule") == set(words) - {"name"}
