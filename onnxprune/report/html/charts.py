"""Draw numbers: bars before and after, widths of groups, curves, distributions."""

from __future__ import annotations

from collections.abc import Iterator, Sequence
from dataclasses import dataclass
from itertools import pairwise

from onnxprune.report.html.elements import Content, Element, el
from onnxprune.report.html.figure import (
    Drawing,
    Legend,
    figure,
    path,
    percentage,
    stretched,
)
from onnxprune.report.html.scales import (
    Scale,
    linear,
    logarithmic,
    number,
    percent,
    tight,
)

__all__ = [
    "Curve",
    "Runs",
    "bar",
    "circle",
    "columns",
    "curves",
    "distribution",
    "histogram",
    "silhouette",
]

#: Bins of a distribution at most, and where few runs were made. The slowest runs that it leaves
#: out, as a share, and those that are above the median by so many times what the fastest tenth is
#: below it.
BINS, LEAST_BINS, TAIL, SPREADS = 60, 10, 0.025, 6
#: Groups up to which each has columns of its own, and up to which each has a curve.
COLUMNS, LINES = 240, 160
#: Classes of the lines of several models, in the order given.
MODELS = ("before", "after", "third", "fourth", "fifth", "sixth")


def bar(share: float, class_: str = "after", marker: float | None = None) -> Element:
    """A bar from the left, `share` of its room long, and perhaps a line at `marker`.

    It is decoration: the number stands beside it.
    """
    length = percentage(100 * min(max(share, 0.0), 1.0))
    line = None
    if marker is not None:
        at = percentage(100 * min(max(marker, 0.0), 1.0))
        line = el("line", x1=at, x2=at, y1="0", y2="100%", class_="marker")
    return el(
        "svg",
        el("rect", width="100%", height="100%", rx="3", class_="room"),
        el("rect", width=length, height="100%", rx="3", class_=class_),
        line,
        class_="bar",
        aria_hidden="true",
        focusable="false",
    )


def silhouette(drawing: Drawing, rows: Sequence[tuple[str, int, int]]) -> Element:
    """Draw every group as a column: all its channels, and in front those that stay.

    Args:
        drawing: what the figure says of itself.
        rows: name, channels and kept channels of each group, in the order of the graph.
    """
    high = linear("channels", [row[1] for row in rows], zero=True)
    along = Scale("groups in the order of the graph, from first to last", 0, 1, ())
    keys = (Legend("before", "removed"), Legend("after", "kept"))
    if len(rows) > COLUMNS:
        marks: Content = stretched(_outline(rows, 1, high), _outline(rows, 2, high))
    else:
        marks = (_columns(k, len(rows), row, high) for k, row in enumerate(rows))
    return figure(drawing, along, high, marks, keys)


def columns(drawing: Drawing, rows: Sequence[tuple[str, float]], high: Scale) -> Element:
    """Draw a column for each row, from first to last.

    Args:
        drawing: what the figure says of itself.
        rows: name and value of each.
        high: the axis of the values.
    """
    along = Scale("layers in the order of the graph, from first to last", 0, 1, ())
    wide = 100 / len(rows)
    if len(rows) > COLUMNS:
        tops = [
            (edge * wide, 100 - high.at(value))
            for k, (_, value) in enumerate(rows)
            for edge in (k, k + 1)
        ]
        shape = path([(0, 100), *tops, (100, 100)], "solid after", closed=True)
        return figure(drawing, along, high, stretched(shape), ())
    marks = [
        el(
            "rect",
            el("title", f"{name}: {percent(value)}"),
            x=percentage((k + 0.1) * wide),
            y=percentage(100 - high.at(value)),
            width=percentage(0.8 * wide),
            height=percentage(high.at(value)),
            class_="after",
        )
        for k, (name, value) in enumerate(rows)
    ]
    return figure(drawing, along, high, marks, ())


def _columns(k: int, count: int, row: tuple[str, int, int], high: Scale) -> Iterator[Element]:
    """The columns of group `k` of `count`: all channels, and those that stay."""
    name, wide = row[0], 100 / count
    for number_of, kind in zip(row[1:], ("before", "after"), strict=True):
        tall = high.at(number_of)
        yield el(
            "rect",
            el("title", f"{name}: {row[2]} of {row[1]} channels kept"),
            x=percentage((k + 0.1) * wide),
            y=percentage(100 - tall),
            width=percentage(0.8 * wide),
            height=percentage(tall),
            class_=kind,
        )


def _outline(rows: Sequence[tuple[str, int, int]], which: int, high: Scale) -> Element:
    """All columns as one shape, where there are too many to be told apart."""
    wide = 100 / len(rows)
    tops = [
        (edge * wide, 100 - high.at(int(row[which])))
        for k, row in enumerate(rows)
        for edge in (k, k + 1)
    ]
    kind = ("before", "after")[which - 1]
    return path([(0, 100), *tops, (100, 100)], f"solid {kind}", closed=True)


@dataclass(frozen=True)
class Curve:
    """The divergence of the outputs by the share of a group's channels that stays.

    Attributes:
        name: of the group.
        points: shares and divergences, the widest first.
        kept: the share that the result keeps, and the divergence there; None without a result.
        measured: what the model was run for; dots mark it where there is no result.
    """

    name: str
    points: Sequence[tuple[float, float]]
    kept: tuple[float, float] | None = None
    measured: Sequence[tuple[float, float]] = ()

    @property
    def dots(self) -> Sequence[tuple[float, float]]:
        """What is marked on the curve."""
        return self.measured if self.kept is None else [self.kept]


def curves(drawing: Drawing, drawn: Sequence[Curve]) -> Element:
    """Draw the curves of groups, from the first in the graph to the last in shades.

    Of very many groups those are drawn whose curves are the highest.
    """
    if len(drawn) > LINES:
        least = sorted(_height(curve) for curve in drawn)[-LINES]
        drawn = [curve for curve in drawn if _height(curve) >= least][:LINES]
    values = [value for curve in drawn for _, value in curve.points]
    values += [curve.kept[1] for curve in drawn if curve.kept]
    x = Scale("channels that the group keeps", 0, 1, (0, 0.25, 0.5, 0.75, 1), percent)
    y = logarithmic("divergence of the outputs when this group alone is narrower", values)
    lines, dots = [], []
    for k, curve in enumerate(drawn):
        shade = f"line shade{round(5 * k / max(len(drawn) - 1, 1))}"
        points = [(x.at(share), 100 - y.at(value)) for share, value in curve.points if value > 0]
        if len(points) > 1:
            lines.append(path(points, shade, curve.name))
        dots += [
            circle(
                _place(x, y, dot), shade, f"{curve.name}: {percent(dot[0])}, {number(dot[1])}", 3.5
            )
            for dot in curve.dots
            if dot[1] > 0
        ]
    keys = [Legend("shade0", "first groups of the graph"), Legend("shade5", "last groups")]
    if dots:
        chosen = any(curve.kept for curve in drawn)
        keys.append(Legend("round", "the width that was chosen" if chosen else "measured"))
    return figure(drawing, x, y, [stretched(lines), dots], keys)


def _height(curve: Curve) -> float:
    """The largest divergence of a curve."""
    return max((value for _, value in curve.points), default=0.0)


def _place(x: Scale, y: Scale, point: tuple[float, float]) -> tuple[float, float]:
    return x.at(point[0]), 100 - y.at(point[1])


def circle(place: tuple[float, float], class_: str, title: str, radius: float) -> Element:
    """A dot at a place in percent, from the upper left."""
    return el(
        "circle",
        el("title", title),
        cx=percentage(place[0]),
        cy=percentage(place[1]),
        r=radius,
        class_=class_,
    )


@dataclass(frozen=True)
class Runs:
    """What single runs of a model took: quantiles in milliseconds, evenly from least to most."""

    name: str
    quantiles_ms: Sequence[float]
    count: int

    @property
    def median_ms(self) -> float:
        """The middle one."""
        return self.quantiles_ms[len(self.quantiles_ms) // 2]


def distribution(drawing: Drawing, models: Sequence[Runs]) -> Element:
    """Draw how often runs take how long, for several models on one axis."""
    ends = [_tail(runs.quantiles_ms) for runs in models]
    low, high = min(runs.quantiles_ms[0] for runs in models), max(ends)
    x = tight("milliseconds of one run", low, high)
    bins = min(BINS, max(LEAST_BINS, min(runs.count for runs in models) // 3))
    counts = [histogram(runs.quantiles_ms, x.low, x.high, bins) for runs in models]
    most = max(max(count) for count in counts) or 1.0
    shapes, middles = [], []
    for runs, count, class_ in zip(models, counts, MODELS, strict=False):
        wide = 100 / bins
        tops = [
            (edge * wide, 100 - 96 * tall / most)
            for k, tall in enumerate(count)
            for edge in (k, k + 1)
        ]
        told = f"{runs.name}: median {number(runs.median_ms)} ms"
        shapes.append(path([(0, 100), *tops, (100, 100)], f"area {class_}", told, closed=True))
        at = percentage(x.at(runs.median_ms))
        middles.append(
            el(
                "line",
                el("title", told),
                x1=at,
                x2=at,
                y1="0",
                y2="100%",
                class_=f"middle {class_}",
            )
        )
    keys = [
        Legend(class_, f"{runs.name}: median {number(runs.median_ms)} ms")
        for runs, class_ in zip(models, MODELS, strict=False)
    ]
    return figure(drawing, x, None, [stretched(shapes), middles], keys)


def _tail(quantiles: Sequence[float]) -> float:
    """The time up to which runs are drawn: few on a busy machine take many times as long."""
    last = len(quantiles) - 1
    tenth, middle, most = (quantiles[round(q * last)] for q in (0.1, 0.5, 1 - TAIL))
    return min(most, middle + SPREADS * max(middle - tenth, middle / 50))


def histogram(quantiles: Sequence[float], low: float, high: float, bins: int) -> list[float]:
    """Shares of runs in bins from `low` to `high`, between quantiles spread evenly."""
    counts, wide = [0.0] * bins, (high - low) / bins
    mass = 1 / max(len(quantiles) - 1, 1)
    for begin, end in pairwise(quantiles):
        first = min(max(int((begin - low) / wide), 0), bins - 1)
        last = min(max(int((end - low) / wide), first), bins - 1)
        for k in range(first, last + 1):
            left, right = max(begin, low + k * wide), min(end, low + (k + 1) * wide)
            counts[k] += mass * (max(right - left, 0) / (end - begin) if end > begin else 1.0)
    return counts
