"""Draw axes with grid and ticks, as SVG that grows with the page while its text does not.

Places along both axes are percentages of the drawing, so that nothing has to be computed again when
a page gets wider: lines, circles and text take percentages themselves, paths lie in an inner
drawing of 100 by 100 units that is stretched, with strokes that keep their width.
"""

from __future__ import annotations

from collections.abc import Sequence
from dataclasses import dataclass

from onnxprune.report.html.elements import Content, Element, el
from onnxprune.report.html.scales import Scale

__all__ = ["Drawing", "Legend", "figure", "legend", "path", "percentage", "stretched"]


@dataclass(frozen=True)
class Drawing:
    """What a figure says of itself.

    Attributes:
        key: its id.
        title: what it shows, in a few words.
        about: the same in a sentence or two, for those who do not see it.
        height: in pixels.
    """

    key: str
    title: str
    about: str
    height: int = 240


@dataclass(frozen=True)
class Legend:
    """What a colour stands for: the class of its marks, and the text beside it."""

    class_: str
    text: str


def figure(
    drawing: Drawing, x: Scale, y: Scale | None, marks: Content, keys: Sequence[Legend] = ()
) -> Element:
    """Draw marks between axes; without `y` there is no scale upwards."""
    inside = [_grid_x(x), None if y is None else _grid_y(y), el("g", marks, class_="marks")]
    picture = el(
        "svg",
        el("title", drawing.title, id=f"{drawing.key}-t"),
        el("desc", drawing.about, id=f"{drawing.key}-d"),
        inside,
        role="img",
        aria_labelledby=f"{drawing.key}-t {drawing.key}-d",
        width="100%",
        height=str(drawing.height),
    )
    caption = el("figcaption", el("b", drawing.title), legend(keys) if keys else None)
    upward = None if y is None else el("p", y.label, class_="axis", aria_hidden="true")
    kind = "plot" if y is not None else "plot flat"
    along = el("p", x.label, class_="axis along", aria_hidden="true")
    return el("figure", caption, upward, el("div", picture, class_=kind), along)


def legend(keys: Sequence[Legend]) -> Element:
    """Say what each colour stands for."""
    return el(
        "span",
        (el("span", el("i", class_=f"key {one.class_}"), one.text) for one in keys),
        class_="legend",
    )


def percentage(value: float) -> str:
    """A place along an axis."""
    return f"{value:.2f}".rstrip("0").rstrip(".") + "%"


def stretched(*content: Content) -> Element:
    """An inner drawing of 100 by 100 units that fills the outer one."""
    return el(
        "svg",
        content,
        viewBox="0 0 100 100",
        preserveAspectRatio="none",
        width="100%",
        height="100%",
    )


def path(
    points: Sequence[tuple[float, float]], class_: str, title: str = "", closed: bool = False
) -> Element:
    """A line through points in percent, from the upper left; it lies in `stretched`."""
    steps = [f"{x:.5g} {y:.5g}" for x, y in points]
    return el(
        "path",
        el("title", title) if title else None,
        d=f"M{'L'.join(steps)}{'Z' if closed else ''}",
        class_=class_,
        vector_effect="non-scaling-stroke",
    )


def _grid_x(scale: Scale) -> Element:
    return el(
        "g",
        (_upright(scale, tick) for tick in scale.ticks),
        class_="grid",
        aria_hidden="true",
    )


def _upright(scale: Scale, tick: float) -> tuple[Element, Element]:
    """A line upwards and the number below it."""
    at = percentage(scale.at(tick))
    return (
        el("line", x1=at, x2=at, y1="0", y2="100%"),
        el(
            "text",
            scale.text(tick),
            x=at,
            y="100%",
            dy="1.35em",
            text_anchor="middle",
        ),
    )


def _grid_y(scale: Scale) -> Element:
    return el("g", (_level(scale, tick) for tick in scale.ticks), class_="grid", aria_hidden="true")


def _level(scale: Scale, tick: float) -> tuple[Element, Element]:
    """A line across and the number to the left of it."""
    at = percentage(100 - scale.at(tick))
    return (
        el("line", x1="0", x2="100%", y1=at, y2=at),
        el("text", scale.text(tick), x="-8", y=at, dy=".35em", text_anchor="end"),
    )
