"""The charts of this harness: latency by percentile, what happened over time, a heat map, rate against latency.

Each function returns a figure, or a sentence in its place where there is nothing to draw.

Pure: no clock, no input or output.
"""

from __future__ import annotations

import bisect
import itertools
import math
from collections.abc import Mapping, Sequence
from dataclasses import dataclass

from naught_loadtest.measure.histogram import SAMPLES_BEYOND_MIN, Histogram, bucket_bounds, rank
from naught_loadtest.measure.series import SECOND_NS, Row
from naught_loadtest.page.chart import SHADES, Chart, swatch
from naught_loadtest.page.markup import Markup, joined, tag
from naught_loadtest.page.scales import (
    Scale,
    clock_label,
    count_label,
    duration_label,
    linear,
    logarithmic,
    percentiles,
    seconds,
)

# Points of a line for each tenth of the part of the requests beyond.
POINTS_PER_DECADE = 24
# The colour of a line that does not decide how far the axis goes.
ASIDE = "s6"
# The colours of the runs of a search.
DOTS = {"met": "kept-dot", "missed": "broken-dot", "not judged": "spoiled-dot"}
# Cells of a heat map: the most columns, and about how many rows.
COLUMNS_MAX = 120
HEAT_ROWS = 30
HEAT_ROWS_PER_DECADE = (2, 4, 6, 8, 12, 16, 24, 32, 48, 64)


@dataclass(frozen=True, slots=True)
class Limit:
    """A limit that an objective sets."""

    text: str
    value: float
    kept: bool
    # The percentile that it is about; None where it is about all requests.
    percent: float | None = None


def empty(title: str, sentence: str) -> Markup:
    """In the place of a chart: why there is none."""
    return tag("figure", tag("figcaption", tag("h3", title)), tag("p", sentence, class_="empty"), class_="chart")


def by_percentile(
    title: str, named: Sequence[tuple[str, str, Histogram]], limits: Sequence[Limit] = (), note: str = ""
) -> Markup:
    """Latency by percentile, of some histograms: (colour, name, histogram)."""
    filled = [(colour, name, histogram) for colour, name, histogram in named if histogram.total]
    if not filled:
        return empty(title, "Nothing was answered, so there are no latencies.")
    lines = [(colour, name, *_quantiles(histogram)) for colour, name, histogram in filled]
    points = [point for _, _, sure, unsure in lines for point in (*sure, *unsure)]
    x = percentiles(max(percent for percent, _ in points))
    shown = [value_ns for colour, _, sure, unsure in lines for _, value_ns in (*sure, *unsure) if colour != ASIDE]
    y = logarithmic(
        [*(shown or (value_ns for _, value_ns in points)), *(each.value for each in limits)], duration_label
    )
    chart = Chart(title, x, y, "requests that took no longer", "latency", note)
    chart.spoken = "; ".join(
        f"{name}: half within {duration_label(histogram.percentile(50))}, 99 % within"
        f" {duration_label(histogram.percentile(99))}, the slowest {duration_label(histogram.max_ns)}"
        for _, name, histogram in filled
    )
    for limit in limits:
        chart.limit(limit.value, limit.text, kept=limit.kept, until=limit.percent)
    for colour, name, sure, unsure in lines:
        chart.line(colour, name, _held_by(y, sure))
        chart.line(f"{colour} thin", "", _held_by(y, [*sure[-1:], *unsure]))
    if any(unsure for _, _, _, unsure in lines):
        chart.note = " ".join(filter(None, [note, f"Thin: fewer than {SAMPLES_BEYOND_MIN} samples lie beyond."]))
    return chart.figure()


def _held_by(scale: Scale, points: Sequence[tuple[float, float]]) -> list[tuple[float, float | None]]:
    """The points, with a gap for each that lies beyond the scale."""
    return [(x, y if scale.holds(y) else None) for x, y in points]


def _quantiles(histogram: Histogram) -> tuple[list[tuple[float, float]], list[tuple[float, float]]]:
    """The (percentile, latency) pairs that have enough samples beyond, and those that do not."""
    buckets = [bucket for bucket, count in enumerate(histogram.counts) if count]
    reached = list(itertools.accumulate(histogram.counts[bucket] for bucket in buckets))
    total = reached[-1]
    sure: list[tuple[float, float]] = []
    unsure: list[tuple[float, float]] = []
    steps = max(1, math.ceil(math.log10(max(histogram.records, 2)) * POINTS_PER_DECADE))
    for step in range(steps + 1):
        percent = 100 * (1 - 10 ** -(step / POINTS_PER_DECADE))
        bucket = buckets[min(bisect.bisect_left(reached, rank(total, percent)), len(buckets) - 1)]
        # 1 ns is the least that stands on a logarithmic axis.
        value_ns = max(1, min(bucket_bounds(bucket)[1], histogram.max_ns))
        (sure if histogram.printable(percent) or not step else unsure).append((percent, value_ns))
    return sure, unsure


def rate_over_time(rows: Sequence[Row], due: Sequence[tuple[float, float]], limits: Sequence[Limit] = ()) -> Markup:
    """Operations and errors per second. `due` is (second, rate) where the rate that is due changes."""
    title = "Rate over time"
    if not rows:
        return empty(title, "The run has no seconds to show.")
    errors = [row.errors / row.span_ns * SECOND_NS for row in rows]
    highest = max(
        *(row.rate for row in rows), *errors, *(rate for _, rate in due), *(each.value for each in limits), 1
    )
    chart = Chart(title, time_scale(rows), linear(highest, count_label), "time", "operations per second")
    rates = [row.rate for row in rows]
    chart.spoken = f"from {count_label(min(rates))} to {count_label(max(rates))} operations per second"
    if any(errors):
        chart.bars("errors", "errors", [(*span_s(row), rate) for row, rate in zip(rows, errors, strict=True) if rate])
        chart.spoken += f", up to {count_label(max(errors))} errors per second"
    else:
        chart.note = "No errors."
    for limit in limits:
        chart.limit(limit.value, limit.text, kept=limit.kept)
    if due:
        chart.steps("due", "due", due, chart.x.high)
    chart.line("s1", "completed", [(middle_s(row), row.rate) for row in rows])
    chart.hints(_hints(rows))
    return chart.figure()


def latency_over_time(rows: Sequence[Row], limits: Sequence[Limit] = ()) -> Markup:
    """p50, p99 and the greatest response time of each second."""
    title = "Latency over time"
    named = {
        "max": [row.max_ns for row in rows],
        "p99": [row.percentile(99) for row in rows],
        "p50": [row.percentile(50) for row in rows],
    }
    values = [value_ns for line in named.values() for value_ns in line if value_ns is not None]
    if not values:
        return empty(title, "Nothing was answered, so there are no latencies.")
    y = logarithmic([*values, *(limit.value for limit in limits)], duration_label)
    chart = Chart(title, time_scale(rows), y, "time", "response time of the requests answered in a second")
    known = [value_ns for value_ns in named["p99"] if value_ns is not None]
    chart.spoken = f"p99 from {duration_label(min(known))} to {duration_label(max(known))}"
    for limit in limits:
        chart.limit(limit.value, limit.text, kept=limit.kept)
    for colour, (name, line) in zip(("s3", "s2", "s1"), named.items(), strict=True):
        places = [middle_s(row) for row in rows]
        drawn = [None if value_ns is None else max(1.0, value_ns) for value_ns in line]
        chart.line(colour, name, list(zip(places, drawn, strict=True)))
    chart.hints(_hints(rows))
    return chart.figure()


def heat_map(rows: Sequence[Row]) -> Markup:
    """How many requests took how long, by second: a cell for each span of time and of latencies."""
    title = "Latency heat map"
    if not any(row.buckets for row in rows):
        return empty(title, "Nothing was answered, so there are no latencies.")
    together = math.ceil(len(rows) / COLUMNS_MAX)
    columns = [rows[start : start + together] for start in range(0, len(rows), together)]
    low = max(1, bucket_bounds(min(min(row.buckets) for row in rows if row.buckets))[0])
    high = max(low + 1, bucket_bounds(max(max(row.buckets) for row in rows if row.buckets))[1])
    per_decade = _rows_per_decade(low, high)
    counts = [_heat_column(column, per_decade) for column in columns]
    most = max(max(column.values(), default=0) for column in counts)
    y = logarithmic([low, high], duration_label)
    chart = Chart(title, time_scale(rows), y, "time", "response time")
    chart.note = "The darker a cell, the more requests; each shade is the same factor more."
    chart.spoken = f"response times from {duration_label(low)} to {duration_label(high)}"
    cells = []
    for column, cell_counts in zip(columns, counts, strict=True):
        left, right = span_s(column[0])[0], span_s(column[-1])[1]
        for row, count in cell_counts.items():
            bounds = 10 ** (row / per_decade), 10 ** ((row + 1) / per_decade)
            cells.append((left, right, *bounds, shade_of(count, most)))
    chart.cells(cells)
    chart.hints(_hints(rows))
    return chart.figure(_shades(most))


def _rows_per_decade(low: float, high: float) -> int:
    decades = max(math.log10(high / low), 0.1)
    return next((each for each in HEAT_ROWS_PER_DECADE if each * decades >= HEAT_ROWS), HEAT_ROWS_PER_DECADE[-1])


def _heat_column(rows: Sequence[Row], per_decade: int) -> dict[int, int]:
    """Requests by row of the heat map."""
    counts: dict[int, int] = {}
    for row in rows:
        for bucket, count in row.buckets.items():
            low, high = bucket_bounds(bucket)
            place = math.floor(math.log10(max(1.0, (low + high) / 2)) * per_decade)
            counts[place] = counts.get(place, 0) + count
    return counts


def shade_of(count: int, most: int) -> int:
    """The shade of a cell, 1 for one request to `SHADES` for the most."""
    if most <= 1:
        return SHADES
    return 1 + min(SHADES - 1, math.floor(math.log(count) / math.log(most) * (SHADES - 1) + 1e-9))


def _shades(most: int) -> Markup:
    samples = [tag("path", d=f"M{24 * shade} 0h24v12h-24z", class_=f"cell h{shade + 1}") for shade in range(SHADES)]
    size = 24 * SHADES
    strip = tag("svg", *samples, viewBox=f"0 0 {size} 12", width=size, height=12, aria_hidden="true")
    return tag("p", "1 request", strip, f"{count_label(most)} in a cell", class_="shades")


def rate_against_latency(
    lines: Mapping[str, Sequence[tuple[float, float | None]]],
    dots: Mapping[str, Sequence[tuple[float, float]]],
    limits: Sequence[Limit],
    found: float | None,
) -> Markup:
    """Latencies at the rates of a search: by name of a percentile (rate, latency); the runs as dots, by verdict."""
    title = "Latency against rate"
    values = [(rate, value_ns) for line in lines.values() for rate, value_ns in line if value_ns is not None]
    if not values:
        return empty(title, "No run of the search has latencies.")
    x = logarithmic([rate for rate, _ in values], count_label)
    y = logarithmic([*(value_ns for _, value_ns in values), *(each.value for each in limits)], duration_label)
    chart = Chart(title, x, y, "requests per second that were due", "response time")
    chart.spoken = (
        f"at {count_label(found)} requests per second the objective holds" if found else "no rate was found"
    )
    for limit in limits:
        chart.limit(limit.value, limit.text, kept=limit.kept)
    if found:
        chart.upright(found, f"{count_label(found)}/s")
    for colour, (name, line) in zip(("s1", "s2", "s3", "s4"), lines.items(), strict=False):
        chart.line(
            colour, name, [(rate, None if value_ns is None else max(1.0, value_ns)) for rate, value_ns in line]
        )
    for verdict, points in dots.items():
        if points:
            chart.dots(DOTS[verdict], f"objective {verdict}", points, hollow=verdict != "met")
    return chart.figure()


def time_scale(rows: Sequence[Row]) -> Scale:
    """The axis of time of a run."""
    return seconds(max(span_s(row)[1] for row in rows))


def span_s(row: Row) -> tuple[float, float]:
    """When a row begins and ends, in seconds of the measured time."""
    return row.second, row.second + row.span_ns / SECOND_NS


def middle_s(row: Row) -> float:
    begin, end = span_s(row)
    return (begin + end) / 2


def _hints(rows: Sequence[Row]) -> list[tuple[float, float, str]]:
    """For each second its figures, in words."""
    hints = []
    for row in rows:
        begin, end = span_s(row)
        words = [f"from {clock_label(begin, 0)} on", f"{count_label(row.rate)} operations/s"]
        p50, p99, most = row.percentile(50), row.percentile(99), row.max_ns
        if p50 is not None and p99 is not None and most is not None:
            words.append(f"p50 {duration_label(p50)}, p99 {duration_label(p99)}, max {duration_label(most)}")
        if row.errors:
            words.append(f"{row.errors:,} errors")
        hints.append((begin, end, "\n".join(words)))
    return hints


def key_of(entries: Sequence[tuple[str, str]]) -> Markup:
    """A legend of filled colours."""
    return tag("ul", *(tag("li", swatch(colour, "area"), name) for colour, name in entries), class_="key")


def together(*pictures: Markup) -> Markup:
    """Charts beside one another where there is room."""
    return tag("div", joined(*pictures), class_="charts")
