"""Show several results of one model: quality against time, MACs and size, and a table of them."""

from __future__ import annotations

from collections.abc import Callable, Mapping, Sequence
from dataclasses import dataclass

from onnxprune.report.html.elements import Content, Element, el, prefixed
from onnxprune.report.html.figure import Drawing
from onnxprune.report.html.parts import Column, Section, table
from onnxprune.report.html.scales import Scale, linear, percent
from onnxprune.report.html.trade_off import Dot, trade_off

__all__ = ["Candidate", "Quality", "candidates", "efficient"]

#: Costs that candidates are drawn by: their names, and what they are called.
COSTS = {"latency": "time of one run", "macs": "MACs", "size": "size of the file"}


@dataclass(frozen=True)
class Candidate:
    """One result among several.

    Attributes:
        name: its target, as a user writes it.
        costs: by metric in shares of the original's.
        quality: accuracy, score or agreement; None where the target is out of reach.
        remark: what else there is to say.
    """

    name: str
    costs: Mapping[str, float]
    quality: float | None
    remark: str = ""


@dataclass(frozen=True)
class Quality:
    """What candidates are judged by.

    Attributes:
        name: what it is called.
        original: the original's.
        text: how it is written.
        least: what is wanted at least; None where nothing is said about it.
    """

    name: str
    original: float
    text: Callable[[float], str] = percent
    least: float | None = None

    @property
    def floor(self) -> float:
        """The least that is drawn: where much less is found than wanted, that says nothing."""
        return float("-inf") if self.least is None else self.original - 4 * self.drop

    @property
    def drop(self) -> float:
        """How much less than the original's is wanted at least; never nothing."""
        least = self.original if self.least is None else self.least
        return max(self.original - least, abs(self.original) / 100, 1e-9)


def candidates(
    prefix: str, found: Sequence[Candidate], quality: Quality, chosen: int = -1
) -> Section:
    """Draw all candidates by every cost that is known of them, and list them.

    Args:
        prefix: of the section's id.
        found: the candidates.
        quality: what they are judged by.
        chosen: the number of the one that was taken; -1 for none.
    """
    known = [one for one in found if one.quality is not None]
    costs = [cost for cost in COSTS if known and all(cost in one.costs for one in known)]
    drawn = [one for one in known if (one.quality or 0.0) >= quality.floor]
    levels = [quality.original, *(one.quality or 0.0 for one in drawn)]
    levels += [] if quality.least is None else [quality.least]
    scale = linear(quality.name, levels, quality.text)
    plots = [_plot(prefix, cost, found, (quality, scale)) for cost in costs]
    told = (
        "Numbers are those of the table. No other candidate beats a dot on the dashed line in both "
        "quality and cost."
    )
    if len(drawn) < len(known):
        told += f" {len(known) - len(drawn)} with much less are not drawn."
    content = (el("p", told), el("div", plots, class_="pair"), _table(found, quality, chosen))
    return Section(prefixed(prefix, "candidates"), "All candidates", content)


def efficient(found: Sequence[Candidate], cost: str) -> list[bool]:
    """Whether each candidate is beaten by no other in both cost and quality."""

    def beats(other: Candidate, one: Candidate) -> bool:
        assert other.quality is not None and one.quality is not None, "both are known"
        no_worse = other.quality >= one.quality and other.costs[cost] <= one.costs[cost]
        return no_worse and (other.quality, other.costs[cost]) != (one.quality, one.costs[cost])

    known = [one for one in found if one.quality is not None]
    return [one in known and not any(beats(other, one) for other in known) for one in found]


def _plot(
    prefix: str, cost: str, found: Sequence[Candidate], judged: tuple[Quality, Scale]
) -> Element:
    quality, scale = judged
    told = f"original: {quality.text(quality.original)}"
    dots = [Dot("", 1.0, quality.original, told, "ring")]
    best = efficient(found, cost)
    for number, (one, good) in enumerate(zip(found, best, strict=True), 1):
        if one.quality is not None and one.quality >= quality.floor:
            share = percent(one.costs[cost])
            told = f"{number}, {one.name}: {quality.text(one.quality)} at {share} of {COSTS[cost]}"
            dots.append(
                Dot(str(number), one.costs[cost], one.quality, told, "after" if good else "before")
            )
    drawing = Drawing(
        prefixed(prefix, f"candidates-{cost}"),
        f"Against {COSTS[cost]}",
        f"{quality.name} of {len(dots) - 1} candidates and the original against {COSTS[cost]} in "
        "shares of the original's. The table holds all numbers.",
    )
    label = f"{COSTS[cost]}, share of the original's"
    x = linear(label, [dot.cost for dot in dots], percent)
    return trade_off(drawing, x, scale, dots, quality.least)


def _table(found: Sequence[Candidate], quality: Quality, chosen: int) -> Element:
    costs = [*COSTS, "params"]
    titles = {**COSTS, "params": "parameters"}
    columns = [Column("target"), Column(quality.name)]
    columns += [Column(titles[cost]) for cost in costs] + [Column("remark", "left")]
    rows: list[list[Content]] = []
    for number, one in enumerate(found, 1):
        judged = "–" if one.quality is None else quality.text(one.quality)
        shares = [percent(one.costs[cost]) if cost in one.costs else "–" for cost in costs]
        rows.append([f"{number}. {one.name}", judged, *shares, one.remark])
    start = f"Candidates in shares of the original, whose {quality.name} is "
    return table(f"{start}{quality.text(quality.original)}", columns, rows, chosen)
