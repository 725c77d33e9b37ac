"""A chart: a frame with two axes, and what is drawn in it.

The SVG of a plot has the coordinates 0 to 1000 in both directions and is stretched to its place. Lines keep their
width (`vector-effect`), and a dot is a line of no length with round ends, so it stays round. Labels of the axes are
HTML over it, placed in per cent.

Pure: no clock, no input or output.
"""

from __future__ import annotations

import math
from collections.abc import Iterable, Sequence
from dataclasses import dataclass, field

from naught_loadtest.page.markup import Child, Markup, joined, number, tag
from naught_loadtest.page.scales import Scale

SIZE = 1000
# Labels of the horizontal axis that a phone has room for.
NARROW_TICKS = 4
# Shades of a heat map.
SHADES = 8

Point = tuple[float, float]


@dataclass(slots=True)
class Chart:
    """A chart that is filled by its methods and then made into markup by `figure`."""

    title: str
    x: Scale
    y: Scale
    x_title: str
    y_title: str
    # A sentence below the title.
    note: str = ""
    # What a screen reader says of the picture.
    spoken: str = ""
    # (class of the colour, name, kind of the swatch)
    _legend: list[tuple[str, str, str]] = field(default_factory=list)
    # What is drawn, from the lowest to the uppermost.
    _drawn: list[Markup] = field(default_factory=list)
    # Texts over the plot.
    _texts: list[Markup] = field(default_factory=list)
    # Limits so far.
    _limits: int = 0

    def _at(self, point: Point) -> str:
        x, y = self.x.place(point[0]) * SIZE, (1 - self.y.place(point[1])) * SIZE
        return f"{number(x)} {number(y)}"

    def line(self, colour: str, name: str, points: Sequence[tuple[float, float | None]]) -> None:
        """A line through points, from left to right. None is a gap; a point between two gaps is a dot."""
        if name:
            self._legend.append((colour, name, "line"))
        for part in _parts(points):
            if len(part) == 1:
                self._dot(colour, part[0])
            else:
                path = "M" + "L".join(self._at(point) for point in part)
                self._drawn.append(tag("path", d=path, class_=f"line {colour}"))

    def steps(self, colour: str, name: str, points: Sequence[tuple[float, float]], end: float) -> None:
        """A line that keeps each value until the next one, the last one until `end`."""
        ends = [*(x for x, _ in points[1:]), end]
        corners = [(x, y) for (begin, y), until in zip(points, ends, strict=True) for x in (begin, until)]
        self.line(colour, name, corners)

    def dots(self, colour: str, name: str, points: Iterable[Point], *, hollow: bool = False) -> None:
        """A dot at each point."""
        if name:
            self._legend.append((colour, name, "hollow" if hollow else "dot"))
        for point in points:
            self._dot(colour, point)
            if hollow:
                self._drawn.append(tag("path", d=f"M{self._at(point)}h0", class_="dot inner"))

    def _dot(self, colour: str, point: Point) -> None:
        self._drawn.append(tag("path", d=f"M{self._at(point)}h0", class_=f"dot {colour}"))

    def bars(self, colour: str, name: str, spans: Iterable[tuple[float, float, float]]) -> None:
        """A filled bar from 0 for each (begin, end, value)."""
        if name:
            self._legend.append((colour, name, "area"))
        paths = []
        for begin, end, value in spans:
            left, right = self.x.place(begin) * SIZE, self.x.place(end) * SIZE
            top = (1 - self.y.place(value)) * SIZE
            paths.append(f"M{number(left)} {SIZE}V{number(top)}H{number(right)}V{SIZE}z")
        if paths:
            self._drawn.append(tag("path", d="".join(paths), class_=f"area {colour}"))

    def cells(self, cells: Iterable[tuple[float, float, float, float, int]]) -> None:
        """Cells of a heat map: (left, right, low, high, shade from 1)."""
        paths: dict[int, list[str]] = {}
        for left, right, low, high, shade in cells:
            x, to = self.x.place(left) * SIZE, self.x.place(right) * SIZE
            top, bottom = (1 - self.y.place(high)) * SIZE, (1 - self.y.place(low)) * SIZE
            # A little wider than the cell, so that there is no thin gap between neighbours.
            path = f"M{number(x)} {number(top)}h{number(to - x + 0.5)}v{number(bottom - top + 0.5)}H{number(x)}z"
            paths.setdefault(shade, []).append(path)
        for shade in sorted(paths):
            self._drawn.append(tag("path", d="".join(paths[shade]), class_=f"cell h{shade}"))

    def limit(self, value: float, text: str, *, kept: bool, until: float | None = None) -> None:
        """A horizontal line: a limit that was asked for. It ends at the place `until` of the other axis, with a dot.

        Texts of lines that go through stand at the right, at the left, and so on, so that they do not overlap.
        """
        if not self.y.holds(value):
            return
        height = (1 - self.y.place(value)) * SIZE
        width = SIZE if until is None else self.x.place(until) * SIZE
        colour = "kept" if kept else "broken"
        self._drawn.append(tag("path", d=f"M0 {number(height)}h{number(width)}", class_=f"limit {colour}"))
        self._limits += 1
        side = "left:0" if self._limits % 2 == 0 else "right:0"
        if until is not None:
            self._drawn.append(tag("path", d=f"M{number(width)} {number(height)}h0", class_=f"dot {colour}-dot"))
            if width < SIZE * 0.7:
                style = f"top:{number(height / SIZE * 100)}%;left:{number(width / SIZE * 100)}%"
                self._texts.append(tag("span", text, class_=f"mark {colour} beside", style=style))
                return
            side = f"right:{number(100 - width / SIZE * 100)}%"
        below = " below" if height < SIZE * 0.12 else ""
        style = f"top:{number(height / SIZE * 100)}%;{side}"
        self._texts.append(tag("span", text, class_=f"mark {colour}{below}", style=style))

    def upright(self, value: float, text: str) -> None:
        """A vertical line with a text at its head."""
        place = self.x.place(value)
        self._drawn.append(tag("path", d=f"M{number(place * SIZE)} 0v{SIZE}", class_="limit found"))
        side = "left" if place > 0.6 else "right"
        self._texts.append(tag("span", text, class_=f"head {side}", style=f"left:{number(place * 100)}%"))

    def hints(self, hints: Iterable[tuple[float, float, str]]) -> None:
        """A text that is shown where the pointer is: (begin, end, text)."""
        for begin, end, text in hints:
            left, right = self.x.place(begin) * SIZE, self.x.place(end) * SIZE
            self._drawn.append(
                tag("rect", tag("title", text), x=left, y=0, width=max(right - left, 0.5), height=SIZE, class_="hint")
            )

    def figure(self, *after: Child) -> Markup:
        """The chart as a figure; `after` stands below it."""
        level = "".join(f"M0 {number((1 - self.y.place(each.value)) * SIZE)}h{SIZE}" for each in self.y.ticks)
        upright = "".join(f"M{number(self.x.place(each.value) * SIZE)} 0v{SIZE}" for each in self.x.ticks)
        plot = tag(
            "svg",
            tag("title", self.title),
            tag("desc", self.spoken) if self.spoken else None,
            tag("path", d=upright, class_="grid faint"),
            tag("path", d=level, class_="grid"),
            *self._drawn,
            viewBox=f"0 0 {SIZE} {SIZE}",
            preserveAspectRatio="none",
            role="img",
            xmlns="http://www.w3.org/2000/svg",
        )
        return tag(
            "figure",
            tag("figcaption", tag("h3", self.title), tag("p", self.note) if self.note else None),
            self._key(),
            tag("p", self.y_title, class_="axis"),
            tag("div", plot, self._y_labels(), self._x_labels(), *self._texts, class_="plot"),
            tag("p", self.x_title, class_="axis under"),
            *after,
            class_="chart",
        )

    def _key(self) -> Markup | None:
        if not self._legend:
            return None
        return tag(
            "ul", *(tag("li", swatch(colour, kind), name) for colour, name, kind in self._legend), class_="key"
        )

    def _y_labels(self) -> Markup:
        # Labels that would lie closer than the height of a line are left out.
        shown: list[Markup] = []
        last = math.inf
        for each in self.y.ticks:
            place = 1 - self.y.place(each.value)
            if last - place > 0.055:
                last = place
                shown.append(tag("span", each.label, class_="y", style=f"top:{number(place * 100)}%"))
        return joined(*shown)

    def _x_labels(self) -> Markup:
        apart = math.ceil(len(self.x.ticks) / NARROW_TICKS)
        labels = []
        for index, each in enumerate(self.x.ticks):
            wide = "" if index % apart == 0 else " wide"
            place = self.x.place(each.value)
            end = " end" if place > 0.95 else ""
            labels.append(tag("span", each.label, class_=f"x{wide}{end}", style=f"left:{number(place * 100)}%"))
        return joined(*labels)


def _parts(points: Sequence[tuple[float, float | None]]) -> Iterable[list[Point]]:
    """The points between the gaps."""
    part: list[Point] = []
    for x, y in points:
        if y is None:
            if part:
                yield part
            part = []
        else:
            part.append((x, y))
    if part:
        yield part


def swatch(colour: str, kind: str) -> Markup:
    """A sample of a colour for a legend."""
    shapes = {
        "line": tag("path", d="M0 6h24", class_=f"line {colour}"),
        "dot": tag("path", d="M12 6h0", class_=f"dot {colour}"),
        "hollow": joined(
            tag("path", d="M12 6h0", class_=f"dot {colour}"), tag("path", d="M12 6h0", class_="dot inner")
        ),
        "area": tag("path", d="M2 1h20v10h-20z", class_=f"area {colour}"),
        "cell": tag("path", d="M2 1h20v10h-20z", class_=f"cell {colour}"),
    }
    return tag("svg", shapes[kind], viewBox="0 0 24 12", width=24, height=12, aria_hidden="true")
