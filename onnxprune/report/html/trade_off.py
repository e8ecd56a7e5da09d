"""Draw what several results give for what they cost, and what nothing beats in both."""

from __future__ import annotations

from collections.abc import Iterator, Sequence
from dataclasses import dataclass

from onnxprune.report.html.charts import circle
from onnxprune.report.html.elements import Element, el
from onnxprune.report.html.figure import Drawing, Legend, figure, path, percentage, stretched
from onnxprune.report.html.scales import Scale

__all__ = ["Dot", "trade_off"]

#: Room of a label in percent of a drawing of 300 by 240 pixels: of each letter, and its height.
LETTER, TALL = 2.6, 6.0
#: Where a label may stand beside its dot: shifts in pixels and the anchor, the best first.
_SIDES = ((9, 4, "start"), (-9, 4, "end"), (0, -9, "middle"), (0, 18, "middle"))


@dataclass(frozen=True)
class Dot:
    """A candidate: its cost in shares of the original's, its quality, and what is told of it.

    Attributes:
        label: a few characters beside the dot, perhaps none.
        cost: along the axis.
        quality: upwards.
        title: what it is, in words.
        class_: `after` for those that nothing beats in both, `before` for the others, `ring` for
            the original.
    """

    label: str
    cost: float
    quality: float
    title: str
    class_: str = "after"


def trade_off(
    drawing: Drawing, x: Scale, y: Scale, dots: Sequence[Dot], limit: float | None = None
) -> Element:
    """Draw quality against cost, with a stepped line through what nothing beats in both.

    Args:
        drawing: what the figure says of itself.
        x: costs.
        y: quality.
        dots: the candidates, and the original.
        limit: the least quality that is wanted; None where there is none.
    """
    places = [(x.at(dot.cost), 100 - y.at(dot.quality)) for dot in dots]
    front = [stretched(path(steps, "line front"))] if len(steps := _steps(dots, places)) > 1 else []
    if limit is not None and y.low <= limit <= y.high:
        at = percentage(100 - y.at(limit))
        front.append(el("line", x1="0", x2="100%", y1=at, y2=at, class_="limit"))
    marks = [
        circle(place, f"dot {dot.class_}", dot.title, 5.5)
        for dot, place in zip(dots, places, strict=True)
    ]
    keys = [Legend("ring", "original"), Legend("after", "best for its cost")]
    if any(dot.class_ == "before" for dot in dots):
        keys.append(Legend("before", "beaten"))
    if limit is not None:
        keys.append(Legend("bad", "least that is wanted"))
    return figure(drawing, x, y, [front, marks, list(_labels(dots, places))], keys)


def _steps(dots: Sequence[Dot], places: Sequence[tuple[float, float]]) -> list[tuple[float, float]]:
    """Corners of the line through the best candidates, from the least cost to the most."""
    steps: list[tuple[float, float]] = []
    for place in sorted(p for dot, p in zip(dots, places, strict=True) if dot.class_ == "after"):
        steps += [(place[0], steps[-1][1])] if steps else []
        steps.append(place)
    return steps


def _labels(dots: Sequence[Dot], places: Sequence[tuple[float, float]]) -> Iterator[Element]:
    """Labels that cover neither dots nor each other; the others are left to the table."""
    taken = [(across - 2, across + 2, down - 3, down + 3) for across, down in places]
    for dot, (across, down) in zip(dots, places, strict=True):
        for right, below, anchor in _SIDES:
            box = _box((across + right / 3, down + below / 2.4), anchor, len(dot.label))
            inside = box[0] > -2 and box[1] < 102 and box[2] > -4 and box[3] < 104
            if dot.label and inside and not any(_overlap(box, other) for other in taken):
                taken.append(box)
                yield el(
                    "text",
                    dot.label,
                    x=percentage(across),
                    y=percentage(down),
                    dx=str(right),
                    dy=str(below),
                    text_anchor=anchor,
                    class_="label",
                    aria_hidden="true",
                )
                break


def _box(
    place: tuple[float, float], anchor: str, letters: int
) -> tuple[float, float, float, float]:
    """The left, right, upper and lower end of a label."""
    wide = LETTER * letters
    left = place[0] - {"start": 0.0, "middle": wide / 2, "end": wide}[anchor]
    return left, left + wide, place[1] - TALL + 1, place[1] + 1


def _overlap(
    one: tuple[float, float, float, float], other: tuple[float, float, float, float]
) -> bool:
    across = one[0] < other[1] and other[0] < one[1]
    return across and one[2] < other[3] and other[2] < one[3]
