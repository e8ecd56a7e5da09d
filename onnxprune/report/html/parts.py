"""The parts that pages are made of: verdict with cards, sections, tables, lists."""

from __future__ import annotations

from collections.abc import Sequence
from dataclasses import dataclass
from typing import Any

from onnxprune.report.html.elements import Content, Element, el, prefixed

__all__ = [
    "Card",
    "Column",
    "Page",
    "Section",
    "Verdict",
    "details",
    "notes",
    "section",
    "table",
    "verdict",
]

#: Rows that a table shows; all of them are in the embedded JSON.
MOST = 300


@dataclass(frozen=True)
class Card:
    """One number that counts: its name, the number, a line about it, whether it is good or bad."""

    name: str
    value: str
    more: str = ""
    tone: str = ""


@dataclass(frozen=True)
class Verdict:
    """What a result is worth, in a sentence and a few numbers; `more` is what was asked for."""

    headline: str
    cards: Sequence[Card]
    tone: str = ""
    more: str = ""


@dataclass(frozen=True)
class Section:
    """A part of the page under a heading of its own; `key` is its id."""

    key: str
    title: str
    content: tuple[Content, ...]


@dataclass(frozen=True)
class Column:
    """A column of a table: `class_` is `left`, or `wide` for bars."""

    name: str
    class_: str = ""


def verdict(value: Verdict) -> list[Element]:
    """Write a verdict."""
    cards = (
        el(
            "li",
            el("span", card.name, class_="name"),
            el("b", card.value),
            el("p", card.more, class_="more") if card.more else None,
            class_=card.tone or None,
        )
        for card in value.cards
    )
    tone = f"lead {value.tone}".strip()
    more = el("p", value.more) if value.more else None
    return [
        el("p", el("b", value.headline), class_=tone),
        *([more] if more else []),
        el("ul", cards, class_="cards"),
    ]


def section(value: Section, level: int = 2) -> Element:
    """Write a section; `level` is that of its heading. Parts of a section are no landmarks."""
    heading = el(f"h{level}", value.title, id=f"{value.key}-h")
    if level > 2:
        return el("div", heading, value.content, id=value.key)
    return el("section", heading, value.content, id=value.key, aria_labelledby=f"{value.key}-h")


def table(
    caption: str, columns: Sequence[Column], rows: Sequence[Sequence[Content]], chosen: int = -1
) -> Element:
    """Write a table, with the first column as headings of the rows.

    Args:
        caption: what it shows.
        columns: of the table.
        rows: content of the cells.
        chosen: the number of a row to mark, -1 for none.
    """
    head = el("tr", (el("th", c.name, scope="col", class_=c.class_ or None) for c in columns))
    body = (
        el("tr", _cells(columns, row), class_="chosen" if k == chosen else None)
        for k, row in enumerate(rows[:MOST])
    )
    made = el("table", el("caption", caption), el("thead", head), el("tbody", body))
    more = len(rows) - MOST
    rest = el("p", f"and {more} more, in the JSON within this page", class_="quiet")
    region = el("div", made, class_="scroll", role="group", aria_label=caption, tabindex="0")
    return el("div", region, rest) if more > 0 else region


def _cells(columns: Sequence[Column], row: Sequence[Content]) -> list[Element]:
    cells = [el("th", row[0], scope="row")]
    for column, content in zip(columns[1:], row[1:], strict=True):
        cells.append(el("td", content, class_=column.class_ or "number"))
    return cells


def details(summary: str, *content: Content, open_: bool = False) -> Element:
    """Content that is folded away on a screen and printed all the same."""
    return el("details", el("summary", summary), content, open=open_ or None)


def notes(values: Any, prefix: str) -> list[Section]:
    """What else there is to say, where there is something."""
    lines = [*values.get("warnings", ()), *values.get("notes", ())]
    if not lines:
        return []
    content = el("ul", (el("li", str(line)) for line in lines))
    return [Section(prefixed(prefix, "notes"), "Notes", (content,))]


@dataclass(frozen=True)
class Page:
    """A page: its title, its verdict, its sections, what was measured on."""

    title: str
    verdict: Verdict
    sections: Sequence[Section]
