"""The screens of `naught watch`: figures and keys in, lines out."""

from __future__ import annotations

import re
from typing import Any

import pytest

from naught.cli import screen as screens
from naught.cli.screen import BAD, FAINT, HEAD, WARN, Seen, View, ansi, keys_in, screen
from support.infos import info_of, later, session_row

HOSTILE = [
    ("\x1b[2J", "\\x1b[2J"),
    ("\x9b2J", "\\x9b2J"),
    ("\udc9b2J", "\\x9b2J"),
    ("a\nb\tc\rd", "a\\x0ab\\x09c\\x0dd"),
    ("\x07\x00\x7f", "\\x07\\x00\\x7f"),
    ("\u202eevil", "\\u202eevil"),
    ("\u200b", "\\u200b"),
    ("\U000e0041", "\\U000e0041"),
    ("\ud800", "\\ud800"),
    (b"\xff\xfe", "\\xff\\xfe"),
    (b"\x1b]0;title\x07", "\\x1b]0;title\\x07"),
    ("Grüße 東京", "Grüße 東京"),
    (None, ""),
]


def seen(**words: Any) -> Seen:
    """A server that was asked twice, a second apart."""
    found = Seen("naught://127.0.0.1:6480", 0.0)
    before = info_of(**words)
    found.ask(0.9)
    found.answer(before, 1.0)
    found.ask(1.9)
    found.answer(later(before), 2.0)
    return found


def texts(found: Seen, view: View | None = None, *, wide: int = 100, high: int = 30, now: float = 2.5) -> list[str]:
    """The lines of a screen as text, without blanks at their ends."""
    lines = screen(found, view or View(), wide, high, now)
    return ["".join(text for text, _ in line).rstrip() for line in lines]


def styles(found: Seen, view: View | None = None, now: float = 2.5) -> set[str]:
    return {style for line in screen(found, view or View(), 100, 30, now) for text, style in line if text}


# ------------------------------------------------------------------------------------------------------------ texts


@pytest.mark.parametrize(("text", "shown"), HOSTILE, ids=[str(place) for place in range(len(HOSTILE))])
def test_what_a_terminal_would_obey_is_spelled_out(text: str | bytes | None, shown: str) -> None:
    assert screens.visible(text) == shown


@pytest.mark.parametrize(
    ("text", "columns", "clipped"),
    [
        ("abc", 3, "abc"),
        ("abcd", 3, "ab…"),
        ("東京", 4, "東京"),
        ("東京都", 5, "東京…"),
        ("東京都", 4, "東…"),
        ("e\u0301e\u0301", 2, "e\u0301e\u0301"),
        ("abc", 1, "…"),
        ("abc", 0, ""),
    ],
)
def test_texts_are_clipped_by_the_columns_they_take(text: str, columns: int, clipped: str) -> None:
    assert screens.clipped(text, columns) == clipped
    assert screens.width_of(screens.padded(text, columns)) == columns


@pytest.mark.parametrize(
    ("value", "text"),
    [
        (0, "0 B"),
        (999, "999 B"),
        (1_000, "0.977 KiB"),
        (16_384, "16 KiB"),
        (123 << 20, "123 MiB"),
        (5 << 50, "5120 TiB"),
    ],
)
def test_sizes(value: int, text: str) -> None:
    assert screens.size(value) == text


@pytest.mark.parametrize(
    ("seconds", "text"),
    [(0, "0 s"), (59.9, "59 s"), (60, "1 min 0 s"), (3_725, "1 h 2 min"), (86_400 * 1_000 + 3_600, "1,000 d 1 h")],
)
def test_times(seconds: float, text: str) -> None:
    assert screens.passed(seconds) == text


@pytest.mark.parametrize(
    ("values", "columns", "bars"),
    [
        ([], 3, "   "),
        ([0, 0], 2, "  "),
        ([1, 2, 4, 8], 4, "▁▂▄█"),
        ([0, 1_000_000, 1], 3, " █▁"),
        ([9, 1, 2], 2, "▄█"),
        ([1], 0, ""),
        ([1], -5, ""),
    ],
    ids=["none", "zeros", "rising", "least-is-seen", "the-last", "no-room", "less-than-no-room"],
)
def test_small_charts(values: list[float], columns: int, bars: str) -> None:
    assert screens.spark(values, columns) == bars


# ------------------------------------------------------------------------------------------------------------- keys


@pytest.mark.parametrize(
    ("data", "keys"),
    [
        (b"q", ["q"]),
        (b"\x1b[A\x1b[B\x1bOA", ["up", "down", "up"]),
        (b"\x1b[5~\x1b[6~", ["page-up", "page-down"]),
        (b"\t\x1b[Z", ["tab", "back-tab"]),
        (b"jk<>r ", ["down", "up", "<", ">", "r", " "]),
        (b"\x1b[1;5A", []),
        (b"\x1b[200~o\x1b[201~", ["o"]),
        (b"\xc3\xa4\xff", []),
        (b"\x1b", []),
        (b"\x04", ["ctrl-d"]),
        (b"", []),
    ],
    ids=lambda each: repr(each) if isinstance(each, bytes) else "",
)
def test_keys(data: bytes, keys: list[str]) -> None:
    assert keys_in(data) == keys


@pytest.mark.parametrize(
    ("keys", "shown"),
    [
        ([], "overview"),
        (["c"], "counters"),
        (["s"], "sessions"),
        (["h"], "holders"),
        (["h", "o"], "overview"),
        (["2"], "counters"),
        (["tab"], "counters"),
        (["back-tab"], "holders"),
        (["tab", "tab", "tab", "tab"], "overview"),
        (["right", "left", "left"], "holders"),
        (["x", "1"], "overview"),
    ],
    ids=lambda each: "-".join(each) if isinstance(each, list) else each,
)
def test_keys_choose_the_view(keys: list[str], shown: str) -> None:
    view = View()
    for key in keys:
        view.press(key)
    assert view.name == shown
    assert not view.is_over


@pytest.mark.parametrize("key", ["q", "ctrl-d"])
def test_a_key_ends_it(key: str) -> None:
    view = View()
    view.press(key)
    assert view.is_over


# ----------------------------------------------------------------------------------------------------------- tables


def table_of(found: Seen, *keys: str, high: int = 30) -> list[str]:
    """The first column of a view after these keys."""
    view = View()
    for key in keys:
        view.press(key)
        texts(found, view, high=high)
    return [line.split()[0] for line in texts(found, view, high=high)[5:-1] if line]


def with_counters(*counters: tuple[str, int]) -> Seen:
    found = seen()
    found.answer_top(list(counters), 2.0)
    return found


@pytest.mark.parametrize(
    ("keys", "order"),
    [
        (["c"], ["b", "a", "c"]),
        (["c", "r"], ["c", "a", "b"]),
        (["c", "<"], ["a", "b", "c"]),
        (["c", "<", "r"], ["c", "b", "a"]),
        (["c", ">"], ["a", "b", "c"]),
        (["c", "r", "o", "c"], ["c", "a", "b"]),
    ],
    ids="".join,
)
def test_counters_are_sorted_by_keys(keys: list[str], order: list[str]) -> None:
    assert table_of(with_counters(("b", 3), ("a", 2), ("c", 1)), *keys) == order


def test_counters_of_one_value_keep_their_order() -> None:
    assert table_of(with_counters(("a", 2), ("b", 1), ("c", 1)), "c") == ["a", "b", "c"]


def test_a_table_says_by_what_it_is_sorted() -> None:
    found = with_counters(("b", 3))
    view = View()
    view.press("c")
    assert re.search(r"KEY +VALUE ↓", texts(found, view)[4])
    view.press("r")
    assert re.search(r"KEY +VALUE ↑", texts(found, view)[4])
    view.press("<")
    assert re.search(r"KEY ↑ +VALUE", texts(found, view)[4])


@pytest.mark.parametrize(
    ("keys", "first"),
    [
        ([], 0),
        (["down", "down"], 2),
        (["down", "up", "up"], 0),
        (["page-down"], 5),
        (["end"], 95),
        (["end", "down"], 95),
        (["end", "page-up"], 90),
        (["end", "home"], 0),
        (["down", "r", "r"], 0),
    ],
    ids=lambda each: "-".join(each) if isinstance(each, list) else each,
)
def test_scrolling_stays_within_the_rows(keys: list[str], first: int) -> None:
    found = with_counters(*((f"k{place:02}", 1_000 - place) for place in range(100)))
    shown = table_of(found, "c", *keys, high=11)
    assert shown == [f"k{place:02}" for place in range(first, first + 5)]


def test_sessions_show_who_holds_and_waits_for_what() -> None:
    found = seen()
    found.answer_sessions(
        [
            session_row(1, holds=1, held=[[b"gpu", 2]], commands=1_234, age_ms=61_000),
            session_row(2, holds=3, held=[["gpu", 1], ["disk", 5]], connected=False, address=None),
            session_row(3, parked=1, waits=[["room", [b"gpu", "disk"]]]),
        ]
    )
    view = View()
    view.press("s")
    heading, *rows = texts(found, view, wide=140)[4:-1]
    assert re.sub(" +", " ", heading) == "SESSION CLIENT ADDRESS LINK AGE COMMANDS HOLDS ↓ WAITS HOLDS OF"
    second, first, third = (row for row in rows if row)
    assert re.fullmatch(r" +1  host:1  127\.0\.0\.1  up +1 min 1 s +1,234 +1 +0  gpu ×2", first)
    assert re.search(r"host:2 +lost .* 3 +0  gpu ×1, disk ×5$", second)
    assert third.endswith("waits for room: gpu, disk")


def test_holders_are_added_up_by_counter() -> None:
    found = seen()
    found.answer_sessions(
        [
            session_row(1, name="one", held=[[b"gpu", 2], [b"disk", 1]]),
            session_row(2, name="two", held=[["gpu", 3]]),
            session_row(3, name="", parked=1, waits=[["room", [b"gpu"]], [b"zero", [b"import-7"]]]),
            session_row(4, name="four", cache="other", parked=1, waits=[["room", [b"gpu"]]]),
        ]
    )
    view = View()
    view.press("h")
    rows = [line for line in texts(found, view)[5:-1] if line]
    assert rows == [
        "default  gpu            5        2        1  two ×3, one ×2, waiting: session 3",
        "default  disk           1        1        0  one ×1",
        "default  import-7       0        0        1  waiting: session 3",
        "other    gpu            0        0        1  waiting: four",
    ]


def test_hostile_names_reach_no_terminal() -> None:
    evil = "\x1b[31m\x9b\u202e\udc9b"
    found = seen(commands={evil: 5}, caches={evil: (1, 1)})
    found.url = evil
    found.answer_top([(evil, 1)], 2.0)
    found.answer_sessions(
        [
            session_row(
                1,
                name=evil,
                address=evil,
                held=[[evil.encode("utf-8", "surrogateescape"), 1]],
                waits=[[evil, [evil]]],
            )
        ]
    )
    for key in "ocsh":
        view = View()
        view.press(key)
        for line in screen(found, view, 200, 40, 2.5):
            assert all(text.isprintable() for text, _ in line), line
    found.fail(evil)
    assert all(text.isprintable() for line in screen(found, View(), 200, 40, 2.5) for text, _ in line)


# --------------------------------------------------------------------------------------------------------- overview


def test_the_overview_has_the_figures() -> None:
    found = Seen("naught://h:1", 0.0)
    before = info_of(commands={"incr": 0}, caches={"default": (1_000_000, 1_000_000), "lazy": (100, 120)})
    after = later(before)
    after["commands"] = {"incr": 12_345, "get": 5}
    after["connections"] = 52
    after["sessions"] |= {"open": 8, "holds": 60, "parked": 2}
    after["loop_lag"]["histogram"] = [0] * 10 + [5] + [0] * 14
    after["caches"]["default"]["evictions"]["zero"] = 77
    after["caches"]["lazy"]["counters_exact"] = False
    found.answer(before, 1.0)
    found.answer(after, 2.0)
    shown = "\n".join(texts(found))
    for pattern in (
        r"naught 0\.1\.0 at naught://h:1, up 1 min 1 s",
        r"The server answers\.",
        r"commands/s +12,350 ",
        r"counters +1,000,100 ",
        r"errors/s 0  connections 52  sessions 8  holds 60  waiting 2",
        r"loop lag +< 1\.02 ms +< 1\.02 ms +< 1\.02 ms",
        r"turns +- +- +-",
        r"gc pauses +- +- +-",
        r"default +1,000,000 +1,000,000 +0\.0% +77 ",
        r"lazy +≤ 100 +120 +20\.0% +0 ",
        r"incr +12,345 +12,345\n",
    ):
        assert re.search(pattern, shown), pattern


def test_a_sweeper_that_is_off() -> None:
    found = seen()
    assert "sweeper: steps/s 0  entries/s 0" in "\n".join(texts(found))
    assert found.info is not None
    found.info["sweeper"]["off"] = True
    assert "sweeper off  entries/s 0" in "\n".join(texts(found))
    assert BAD in styles(found)


def test_what_the_tuner_has_changed() -> None:
    assert not any("tuner" in line for line in texts(seen()))
    found = seen()
    assert found.info is not None
    found.info["tuner"]["changes"] = {"sweep_budget_ms": {"rule": "burst-of-zeros", "before": 1.0, "value": 4.0}}
    assert "the tuner has changed sweep_budget_ms 1.0 -> 4.0" in texts(found)


def test_what_is_bad_is_coloured() -> None:
    assert not {WARN, BAD} & styles(seen())
    assert BAD in styles(seen(caches={"lazy": (100, 116)}))
    assert BAD not in styles(seen(caches={"lazy": (100, 115)}))


# -------------------------------------------------------------------------------------------------------- condition


def condition(found: Seen, view: View | None = None, now: float = 2.5) -> str:
    return texts(found, view, now=now)[1]


def test_it_says_how_the_server_is() -> None:
    found = Seen("naught://h:1", 0.0)
    assert condition(found, now=0.1) == "Waiting for the first figures."
    found.ask(0.1)
    assert condition(found, now=3.2) == "Slow: asked 3 s ago, and no answer yet."
    found.fail("refused")
    assert condition(found, now=5.0) == "No answer for 5 s. refused"
    before = info_of()
    found.answer(before, 6.0)
    assert condition(found, now=6.1) == "The server answers."
    assert texts(found)[3] == "The rates come with the next answer."
    found.answer(later(before), 7.0)
    assert texts(found)[3].startswith("commands/s")
    found.fail("cut")
    assert condition(found, now=67.0) == "No answer for 1 min 0 s. The figures are of then. cut"
    assert styles(found, now=67.0) <= {FAINT, HEAD, BAD, screens.STRONG, ""}
    assert all(style in (FAINT, HEAD) for line in screen(found, View(), 100, 30, 67.0)[2:] for _, style in line)


def test_a_new_start_is_said_and_its_rates_come_later() -> None:
    found = seen()
    assert len(found.past) == 1
    found.answer(info_of(uptime_ms=10), 3.0)
    assert condition(found) == "The server was started anew."
    assert not found.past
    found.answer(info_of(uptime_ms=1_010), 4.0)
    assert condition(found) == "The server answers."
    assert len(found.past) == 1


@pytest.mark.parametrize(
    "interrupt", [lambda found: found.fail("cut"), lambda found: found.interrupt()], ids=["failed", "paused"]
)
def test_nothing_is_told_over_a_time_without_answers(interrupt: Any) -> None:
    found = seen()
    interrupt(found)
    assert found.info is not None
    found.answer(later(found.info, 60), 62.0)
    assert found.figures is None
    assert condition(found) == "The server answers."


def test_a_pause_is_said() -> None:
    view = View()
    view.press(" ")
    assert condition(seen(), view, now=12.0) == "Paused. The figures are 10 s old."
    view.press(" ")
    assert condition(seen(), view) == "The server answers."


# --------------------------------------------------------------------------------------------------------- terminal


@pytest.mark.parametrize("view", screens.VIEWS)
@pytest.mark.parametrize(("wide", "high"), [(80, 24), (20, 5), (1, 1), (200, 60), (40, 3)])
def test_a_screen_fits_whatever_its_size(view: str, wide: int, high: int) -> None:
    found = seen(commands={"incr": 5}, caches={"東京" * 20: (5, 9)})
    found.answer_top([("東京" * 200, 1), ("a" * 512, 2)], 2.0)
    found.answer_sessions([session_row(number, held=[["k" * 500, 1]]) for number in range(100)])
    lines = screen(found, View(name=view), wide, high, 2.5)
    assert len(lines) == high
    assert all(sum(screens.width_of(text) for text, _ in line) <= wide for line in lines)


def test_before_the_first_answer_there_is_a_screen() -> None:
    for view in screens.VIEWS:
        assert len(screen(Seen("naught://h:1", 0.0), View(name=view), 80, 24, 0.0)) == 24


def test_what_a_terminal_is_sent() -> None:
    lines = [[("ab", HEAD), ("c", "")], [("d", BAD)], []]
    assert ansi(lines, 3, coloured=True) == "\x1b[H\x1b[7mab\x1b[0mc\r\n\x1b[31md\x1b[0m\x1b[K\r\n\x1b[K"
    assert ansi(lines, 3, coloured=False) == "\x1b[H\x1b[7mab\x1b[0mc\r\n\x1b[1md\x1b[0m\x1b[K\r\n\x1b[K"
