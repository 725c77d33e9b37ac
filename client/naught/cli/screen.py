"""What `naught watch` shows: figures, what keys change, and the lines of a screen. Does no input or output.

    info, sessions, top --> Seen --.
    keys ----------------> View ---+--> screen(seen, view, columns, lines, now) --> lines of styled text --> `ansi`

A screen is one of four views: overview, counters, sessions, holders. The last three are tables that can be sorted by
any column and scrolled. Keys and names come from clients, who may be hostile: `visible` spells out what a terminal
would obey or not show, bytes that are no UTF-8 included. Only `ansi` writes escape sequences.
"""

from __future__ import annotations

import re
from collections import deque
from collections.abc import Callable, Iterator, Mapping, Sequence
from dataclasses import dataclass, field
from typing import Any, Final, Generic, TypeVar

from naught.cli.figures import DEVIATION_MAX, Durations, Figures, figures_between
from naught.cli.text import clipped, padded, visible, width_of

RowT = TypeVar("RowT")

KEPT: Final = 240
"""Samples that the small charts can show: more than a terminal is wide."""

SLOW_S: Final = 2.0
"""An answer that takes longer is called slow."""

TOP: Final = 200
"""Counters that the view of the largest asks for: some screens full of them."""

BARS: Final = " ▁▂▃▄▅▆▇█"

Cell = tuple[str, str]  # a text and its style
Line = list[Cell]

# Styles, and what a terminal is sent for them.
PLAIN, STRONG, FAINT, HEAD, WARN, BAD = "", "strong", "faint", "head", "warn", "bad"
_SGR: Final = {PLAIN: "", STRONG: "1", FAINT: "2", HEAD: "7", WARN: "33", BAD: "31"}
_SGR_WITHOUT_COLOUR: Final = {**_SGR, WARN: "1", BAD: "1"}


def rate(value: float) -> str:
    """So many a second."""
    return f"{value:,.1f}" if 0 < value < 10 else f"{value:,.0f}"


def size(value: int) -> str:
    """Bytes."""
    amount, unit = float(value), "B"
    for unit in ("B", "KiB", "MiB", "GiB", "TiB"):
        if amount < 1000 or unit == "TiB":
            break
        amount /= 1024
    return f"{amount:.0f} {unit}" if unit == "B" or amount >= 100 else f"{amount:.3g} {unit}"


def microseconds(value: int) -> str:
    """A duration."""
    if value < 1_000:
        return f"{value} µs"
    return f"{value / 1_000:.3g} ms" if value < 1_000_000 else f"{value / 1_000_000:.3g} s"


def below(value: int) -> str:
    """An upper bound of a duration; 0 where there was none."""
    return f"< {microseconds(value)}" if value else "-"


def passed(seconds: float) -> str:
    """A time that has passed, in its two largest units."""
    whole = max(0, int(seconds))
    if whole < 60:
        return f"{whole} s"
    if whole < 3_600:
        return f"{whole // 60} min {whole % 60} s"
    if whole < 86_400:
        return f"{whole // 3_600} h {whole % 3_600 // 60} min"
    return f"{whole // 86_400:,} d {whole % 86_400 // 3_600} h"


def spark(values: Sequence[float], columns: int) -> str:
    """The last values as a row of bars, the highest of them as high as a line."""
    shown = list(values)[-columns:] if columns > 0 else []
    most = max(shown, default=0)
    bars = "".join(BARS[max(1, round(value / most * 8)) if value > 0 else 0] for value in shown)
    return bars.rjust(max(0, columns))


# ------------------------------------------------------------------------------------------------------------- state


@dataclass(slots=True)
class Seen:
    """What the server has said so far. Times are seconds of one clock that never goes back."""

    url: str
    started: float  # when the watching began
    info: dict[str, Any] | None = None  # the last answer
    figures: Figures | None = None  # None until two answers of one start of the server are there
    past: deque[Figures] = field(default_factory=lambda: deque(maxlen=KEPT))  # without a gap or a new start between
    answered: float | None = None  # when the last answer came
    asked: float | None = None  # when a question was asked that has no answer yet
    failure: str | None = None  # why there was no answer to the last question
    interrupted: bool = False  # there were no questions, or no answers: a mean over this would pass for a rate of now
    anew: bool = False  # the last answer was of another start of the server than the one before
    sessions: list[dict[str, Any]] | None = None  # None until they were asked for
    top: list[tuple[str, int]] | None = None  # likewise
    top_at: float = 0.0  # when the counters were listed

    def ask(self, now: float) -> None:
        """A question goes out."""
        self.asked = now

    def answer(self, info: dict[str, Any], now: float) -> None:
        """The answer of `info` is here."""
        self.figures = figures_between(None if self.interrupted else self.info, info)
        self.anew = self.info is not None and info["uptime_ms"] <= self.info["uptime_ms"]
        self.interrupted = False
        if self.figures is None:
            self.past.clear()
        if self.figures is not None:
            self.past.append(self.figures)
        self.info = info
        self.answered = now
        self.asked = self.failure = None

    def answer_sessions(self, sessions: list[dict[str, Any]]) -> None:
        """The answer of `sessions` is here."""
        self.sessions = sessions

    def answer_top(self, top: list[tuple[str, int]], now: float) -> None:
        """The answer of `top` is here."""
        self.top = top
        self.top_at = now

    def fail(self, why: str) -> None:
        """There was no answer."""
        self.asked = None
        self.failure = why
        self.interrupted = True

    def interrupt(self) -> None:
        """No more questions for now."""
        self.interrupted = True


VIEWS: Final = ("overview", "counters", "sessions", "holders")
_VIEW_KEYS: Final = {view[0]: view for view in VIEWS} | {str(place): view for place, view in enumerate(VIEWS, 1)}


@dataclass(slots=True)
class View:
    """What is shown, and how. Keys change it."""

    name: str = "overview"
    sorted_by: dict[str, int] = field(default_factory=lambda: {"counters": 1, "sessions": 6, "holders": 2})  # columns
    reversed: set[str] = field(default_factory=set)  # views whose order is turned round
    first: int = 0  # the first row that is shown
    page: int = 1  # rows that the last screen had room for
    is_paused: bool = False
    is_over: bool = False

    def press(self, key: str) -> None:
        """A key was pressed, as `keys_in` names it. Other keys do nothing."""
        if key in ("q", "ctrl-d"):
            self.is_over = True
        elif key in _VIEW_KEYS:
            self._show(_VIEW_KEYS[key])
        elif key in ("tab", "right", "back-tab", "left"):
            by = 1 if key in ("tab", "right") else -1
            self._show(VIEWS[(VIEWS.index(self.name) + by) % len(VIEWS)])
        elif key == " ":
            self.is_paused = not self.is_paused
        elif self.name == "overview":
            return
        elif key in "<>":
            self._sort(1 if key == ">" else -1)
        elif key == "r":
            self.reversed ^= {self.name}
            self.first = 0
        elif key in _SCROLLS:
            self.first = max(0, _SCROLLS[key](self.first, self.page))

    def _show(self, name: str) -> None:
        self.name = name
        self.first = 0

    def _sort(self, by: int) -> None:
        columns = len(_TABLES[self.name])
        self.sorted_by[self.name] = (self.sorted_by[self.name] + by) % columns
        self.reversed.discard(self.name)
        self.first = 0

    def fit(self, rows: int, page: int) -> None:
        """The table has this number of rows, and the screen has room for `page` of them."""
        self.page = max(1, page)
        self.first = max(0, min(self.first, rows - self.page))


_SCROLLS: Final[dict[str, Callable[[int, int], int]]] = {
    "up": lambda first, page: first - 1,
    "down": lambda first, page: first + 1,
    "page-up": lambda first, page: first - page,
    "page-down": lambda first, page: first + page,
    "home": lambda first, page: 0,
    "end": lambda first, page: 1 << 30,
}

_KEY: Final = re.compile(rb"\x1b(?:\[[0-9;]*[A-Za-z~]|O[A-Za-z])|[\x00-\x7f]")
_NAMES: Final = {
    b"\x1b[A": "up",
    b"\x1bOA": "up",
    b"k": "up",
    b"\x1b[B": "down",
    b"\x1bOB": "down",
    b"j": "down",
    b"\x1b[C": "right",
    b"\x1bOC": "right",
    b"\x1b[D": "left",
    b"\x1bOD": "left",
    b"\x1b[5~": "page-up",
    b"\x1b[6~": "page-down",
    b"\x1b[H": "home",
    b"\x1bOH": "home",
    b"\x1b[1~": "home",
    b"\x1b[F": "end",
    b"\x1bOF": "end",
    b"\x1b[4~": "end",
    b"\t": "tab",
    b"\x1b[Z": "back-tab",
    b"\x04": "ctrl-d",
    b"\x0c": "ctrl-l",
}


def keys_in(data: bytes) -> list[str]:
    """The keys in what a terminal has sent. Sequences that mean nothing here are left out."""
    found = (_NAMES.get(each) or each.decode("ascii") for each in _KEY.findall(data))
    return [key for key in found if key.isprintable()]


# ------------------------------------------------------------------------------------------------------------ tables


@dataclass(frozen=True, slots=True)
class Column(Generic[RowT]):
    """A column of a table."""

    title: str
    text: Callable[[RowT], str]
    order: Callable[[RowT], Any]  # rows are sorted by this
    right: bool = False
    largest_first: bool = False  # how it is sorted unless turned round
    columns_max: int = 30  # wider texts are clipped; the last column takes what is left


@dataclass(frozen=True, slots=True)
class HeldCounter:
    """A counter that sessions hold or wait for."""

    cache: str
    key: str
    amount: int  # that the listed sessions hold
    holders: list[tuple[str, int]]  # names of sessions, with their amounts
    waiters: list[str]  # names of sessions


def held_counters(sessions: Sequence[Mapping[str, Any]]) -> list[HeldCounter]:
    """Who holds and who waits for what, as far as the sessions list it."""
    holders: dict[tuple[str, str], list[tuple[str, int]]] = {}  # by cache and key
    waiters: dict[tuple[str, str], list[str]] = {}
    for session in sessions:
        name = visible(session["name"]) or f"session {session['session']}"
        cache = visible(session["cache"])
        for key, amount in session["held"]:
            holders.setdefault((cache, visible(key)), []).append((name, amount))
        for _, keys in session["waits"]:
            for key in keys:
                waiters.setdefault((cache, visible(key)), []).append(name)
    return [
        HeldCounter(
            *each, sum(amount for _, amount in holders.get(each, [])), holders.get(each, []), waiters.get(each, [])
        )
        for each in {**holders, **waiters}
    ]


def _who(held: HeldCounter) -> str:
    parts = [f"{name} ×{amount:,}" for name, amount in sorted(held.holders, key=lambda pair: (-pair[1], pair[0]))]
    if held.waiters:
        parts.append("waiting: " + ", ".join(held.waiters))
    return ", ".join(parts)


def _holds_of(session: Mapping[str, Any]) -> str:
    held = ", ".join(f"{visible(key)} ×{amount:,}" for key, amount in session["held"])
    waits = "; ".join(
        f"waits for {visible(kind)}: {', '.join(map(visible, keys))}" for kind, keys in session["waits"]
    )
    return "; ".join(filter(None, (held, waits)))


_COUNTERS: Final[tuple[Column[tuple[str, int]], ...]] = (
    Column("KEY", lambda row: visible(row[0]), lambda row: row[0], columns_max=80),
    Column("VALUE", lambda row: f"{row[1]:,}", lambda row: row[1], right=True, largest_first=True),
)
_SESSIONS: Final[tuple[Column[dict[str, Any]], ...]] = (
    Column("SESSION", lambda row: str(row["session"]), lambda row: row["session"], right=True),
    Column("CLIENT", lambda row: visible(row["name"]), lambda row: visible(row["name"])),
    Column("ADDRESS", lambda row: visible(row["address"]), lambda row: visible(row["address"])),
    Column("LINK", lambda row: "up" if row["connected"] else "lost", lambda row: row["connected"]),
    Column("AGE", lambda row: passed(row["age_ms"] / 1000), lambda row: row["age_ms"], True, True),
    Column("COMMANDS", lambda row: f"{row['commands']:,}", lambda row: row["commands"], True, True),
    Column("HOLDS", lambda row: f"{row['holds']:,}", lambda row: row["holds"], True, True),
    Column("WAITS", lambda row: f"{row['parked']:,}", lambda row: row["parked"], True, True),
    Column("HOLDS OF", _holds_of, _holds_of, columns_max=1 << 16),
)
_HOLDERS: Final[tuple[Column[HeldCounter], ...]] = (
    Column("CACHE", lambda row: row.cache, lambda row: row.cache, columns_max=16),
    Column("KEY", lambda row: row.key, lambda row: row.key),
    Column("HELD", lambda row: f"{row.amount:,}", lambda row: row.amount, True, True),
    Column("HOLDERS", lambda row: f"{len(row.holders):,}", lambda row: len(row.holders), True, True),
    Column("WAITERS", lambda row: f"{len(row.waiters):,}", lambda row: len(row.waiters), True, True),
    Column("WHO", _who, _who, columns_max=1 << 16),
)
_TABLES: Final[dict[str, Sequence[Column[Any]]]] = {
    "counters": _COUNTERS,
    "sessions": _SESSIONS,
    "holders": _HOLDERS,
}

_BETWEEN: Final = 2
"""Blanks between two columns."""


def table(columns: Sequence[Column[RowT]], rows: Sequence[RowT], view: View, wide: int, high: int) -> list[Line]:
    """The heading and the rows that fit, sorted as the view says."""
    by = columns[view.sorted_by[view.name]]
    turned = by.largest_first != (view.name in view.reversed)
    ordered = sorted(rows, key=by.order, reverse=turned)
    view.fit(len(ordered), high - 1)
    shown = ordered[view.first : view.first + max(0, high - 1)]
    titles = [f"{column.title}{' ↓' if turned else ' ↑'}" if column is by else column.title for column in columns]
    texts = [[column.text(row) for column in columns] for row in shown]
    widths = _widths(columns, titles, texts, wide)
    return [_row(columns, titles, widths, wide, HEAD), *(_row(columns, line, widths, wide) for line in texts)]


def _widths(
    columns: Sequence[Column[Any]], titles: Sequence[str], texts: Sequence[Sequence[str]], wide: int
) -> list[int]:
    """How wide each column is. The last one has what is left."""
    widths = [
        min(column.columns_max, max(width_of(title), *(width_of(line[place]) for line in texts), 0))
        for place, (column, title) in enumerate(zip(columns, titles, strict=True))
    ]
    if not columns[-1].right:
        widths[-1] = max(0, wide - sum(widths[:-1]) - _BETWEEN * (len(columns) - 1))
    return widths


def _row(
    columns: Sequence[Column[Any]], texts: Sequence[str], widths: Sequence[int], wide: int, style: str = PLAIN
) -> Line:
    cells = (
        padded(text, width, right=column.right) for column, text, width in zip(columns, texts, widths, strict=True)
    )
    return [(padded((" " * _BETWEEN).join(cells), wide), style)]


# ------------------------------------------------------------------------------------------------------------ screen


def screen(seen: Seen, view: View, wide: int, high: int, now: float) -> list[Line]:
    """The lines of a screen of `wide` columns and `high` lines. Writes into the view how many rows fitted."""
    head = [_title(seen, wide), _condition(seen, view, now), []]
    foot = [[(padded(_KEYS if view.name != "overview" else _KEYS_OF_OVERVIEW, wide), FAINT)]]
    room = max(0, high - len(head) - len(foot))
    body = _body(seen, view, wide, room, now)[:room]
    lines = head + body + [[] for _ in range(room - len(body))] + foot
    if _is_old(seen, view):
        lines = [
            *lines[:2],
            *([(text, style if style == HEAD else FAINT) for text, style in line] for line in lines[2:]),
        ]
    return [_clipped_line(line, wide) for line in lines[:high]]


_KEYS_OF_OVERVIEW: Final = "o overview  c counters  s sessions  h holders  space pause  q quit"
_KEYS: Final = f"{_KEYS_OF_OVERVIEW}  < > sort by  r reverse  ↑ ↓ scroll"


def _is_old(seen: Seen, view: View) -> bool:
    return view.is_paused or seen.failure is not None


def _clipped_line(line: Line, wide: int) -> Line:
    cells, left = [], wide
    for text, style in line:
        kept = clipped(text, left)
        cells.append((kept, style))
        left -= width_of(kept)
    return cells


def _title(seen: Seen, wide: int) -> Line:
    info = seen.info
    if info is None:
        return [(f"naught at {visible(seen.url)}", STRONG)]
    compiled = "compiled" if info["compiled"] else "interpreted"
    name = f"naught {visible(info['version'])}"
    return [(name, STRONG), (f" at {visible(seen.url)}, up {passed(info['uptime_ms'] / 1000)}, {compiled}", PLAIN)]


def _condition(seen: Seen, view: View, now: float) -> Line:
    """How the server is, as far as can be told from here."""
    if view.is_paused:
        since = passed(now - seen.answered) if seen.answered is not None else "0 s"
        return [(f"Paused. The figures are {since} old.", WARN)]
    if seen.failure is not None:
        since = passed(now - (seen.started if seen.answered is None else seen.answered))
        old = "" if seen.answered is None else " The figures are of then."
        return [(f"No answer for {since}.{old} {visible(seen.failure)}", BAD)]
    if seen.asked is not None and now - seen.asked > SLOW_S:
        return [(f"Slow: asked {passed(now - seen.asked)} ago, and no answer yet.", WARN)]
    if seen.answered is None:
        return [("Waiting for the first figures.", PLAIN)]
    if seen.anew:
        return [("The server was started anew.", WARN)]
    return [("The server answers.", PLAIN)]


def _body(seen: Seen, view: View, wide: int, high: int, now: float) -> list[Line]:
    if view.name == "counters":
        if seen.top is None:
            return [[("Waiting for the list of the largest counters.", FAINT)]]
        old = f"The {len(seen.top):,} largest counters of this cache, as they were {passed(now - seen.top_at)} ago."
        return [[(old, FAINT)], *table(_COUNTERS, seen.top, view, wide, high - 1)]
    if view.name in ("sessions", "holders"):
        if seen.sessions is None:
            return [[("Waiting for the list of the sessions.", FAINT)]]
        if view.name == "sessions":
            note = f"{len(seen.sessions):,} sessions. Each lists the first of what it holds and waits for."
            return [[(note, FAINT)], *table(_SESSIONS, seen.sessions, view, wide, high - 1)]
        note = (
            "Counters that are held or waited for, as far as the sessions list them. `naught holders KEY` lists all."
        )
        return [[(note, FAINT)], *table(_HOLDERS, held_counters(seen.sessions), view, wide, high - 1)]
    return list(_overview(seen, wide))


def _overview(seen: Seen, wide: int) -> Iterator[Line]:
    info, figures = seen.info, seen.figures
    if info is None:
        return
    if figures is None:
        yield [("The rates come with the next answer.", FAINT)]
        return
    sessions = info["sessions"]
    yield _spark_line("commands/s", rate(figures.commands_per_s), [each.commands_per_s for each in seen.past], wide)
    yield _spark_line("counters", f"{figures.counters:,}", [each.counters for each in seen.past], wide)
    yield _spark_line("evicted/s", rate(figures.evicted_per_s), [each.evicted_per_s for each in seen.past], wide)
    lags = [each.lag.p99_us for each in seen.past]
    yield _spark_line("lag p99", below(figures.lag.p99_us), lags, wide)
    yield []
    yield _named(
        ("errors/s", rate(figures.errors_per_s), WARN if figures.errors_per_s else PLAIN),
        ("connections", f"{figures.connections:,}", PLAIN),
        ("sessions", f"{sessions['open']:,}", PLAIN),
        ("holds", f"{sessions['holds']:,}", PLAIN),
        ("waiting", f"{sessions['parked']:,}", PLAIN),
    )
    # A server that cannot turn it off does not say.
    is_off = info["sweeper"].get("off", False)
    yield _named(
        ("sweeper", "off", BAD) if is_off else ("sweeper: steps/s", rate(figures.sweeper_steps), PLAIN),
        ("entries/s", rate(figures.swept), PLAIN),
        ("failed", f"{info['sweeper']['failures']:,}", BAD if info["sweeper"]["failures"] else PLAIN),
        ("log lines dropped", f"{info['log_lines_dropped']:,}", WARN if info["log_lines_dropped"] else PLAIN),
    )
    yield from _tuner(info.get("tuner"))
    yield []
    yield from _durations(info, figures, wide)
    yield []
    yield from _caches(info, figures, wide)
    yield []
    yield from _methods(info, figures, wide)


def _tuner(tuner: dict[str, Any] | None) -> Iterator[Line]:
    """What the tuner has changed and not put back; nothing where there is no such change."""
    if tuner is None or not tuner["changes"]:
        return
    changes = (f"{setting} {each['before']} -> {each['value']}" for setting, each in tuner["changes"].items())
    yield [("the tuner has changed ", FAINT), (visible(", ".join(changes)), WARN)]


def _spark_line(name: str, value: str, values: Sequence[float], wide: int) -> Line:
    return [(f"{name:<12}", FAINT), (f"{value:>14}  ", STRONG), (spark(values, min(KEPT, wide - 28)), PLAIN)]


def _named(*items: tuple[str, str, str]) -> Line:
    line: Line = []
    for name, value, style in items:
        line += [(f"{'  ' if line else ''}{name} ", FAINT), (value, style or STRONG)]
    return line


def _durations(info: Mapping[str, Any], figures: Figures, wide: int) -> Iterator[Line]:
    yield [(padded(f"{'DURATIONS':<12}{'P50':>14}{'P99':>14}{'LONGEST':>14}{'SINCE START':>14}", wide), HEAD)]
    rows: list[tuple[str, Durations, str]] = [
        ("turns", figures.turns, "turns"),
        ("gc pauses", figures.pauses, "gc_pauses"),
        ("loop lag", figures.lag, "loop_lag"),
    ]
    for name, durations, word in rows:
        cells = (below(durations.p50_us), below(durations.p99_us), below(durations.longest_us))
        ever = microseconds(info[word]["max_us"])
        yield [(f"{name:<12}" + "".join(f"{cell:>14}" for cell in (*cells, ever)), PLAIN)]


def _caches(info: Mapping[str, Any], figures: Figures, wide: int) -> Iterator[Line]:
    titles = f"{'COUNTERS':>14}{'RAW ENTRIES':>14}{'DEVIATION':>11}{'EVICTED/S':>12}{'TABLES':>11}"
    yield [(padded(f"{'CACHE':<16}{titles}", wide), HEAD)]
    for name, cache in info["caches"].items():
        inexact = "" if cache["counters_exact"] else "≤ "
        numbers = f"{inexact + format(cache['counters'], ','):>14}{cache['raw_entries']:>14,}"
        deviation = f"{cache['deviation']:>11.1%}"
        rest = f"{rate(sum(figures.evicted[name].values())):>12}{size(cache['table_bytes']):>11}"
        is_high = cache["deviation"] > DEVIATION_MAX
        yield [(padded(visible(name), 16) + numbers, PLAIN), (deviation, BAD if is_high else PLAIN), (rest, PLAIN)]


def _methods(info: Mapping[str, Any], figures: Figures, wide: int) -> Iterator[Line]:
    yield [(padded(f"{'METHOD':<16}{'PER SECOND':>14}{'SINCE START':>18}", wide), HEAD)]
    for name, count in sorted(info["commands"].items(), key=lambda pair: (-pair[1], pair[0])):
        yield [(f"{padded(visible(name), 16)}{rate(figures.commands[name]):>14}{count:>18,}", PLAIN)]


def ansi(lines: Sequence[Line], wide: int, *, coloured: bool) -> str:
    """What a terminal of `wide` columns is sent to show these lines from its upper left corner on, and nothing else.
    The rest of a line is erased, but not behind its last column: some terminals would erase that column."""
    codes = _SGR if coloured else _SGR_WITHOUT_COLOUR
    shown = []
    for line in lines:
        used = sum(width_of(text) for text, _ in line)
        erase = "\x1b[K" if used < wide else ""
        shown.append("".join(_styled(text, codes[style]) for text, style in line) + erase)
    return "\x1b[H" + "\r\n".join(shown)


def _styled(text: str, code: str) -> str:
    return f"\x1b[{code}m{text}\x1b[0m" if code and text else text
