"""Verdicts, sections, tables, folded lists."""

from pages import HOSTILE, tree, tree_of

from onnxprune.report.html.elements import html
from onnxprune.report.html.parts import (
    MOST,
    Card,
    Column,
    Section,
    Verdict,
    details,
    notes,
    section,
    table,
    verdict,
)


def test_a_verdict_says_first_what_counts() -> None:
    value = Verdict("50% less", [Card("Time", "slower", "2 ms", "bad")], "bad", "Asked: macs=0.5.")
    made = tree_of("".join(map(html, verdict(value))))
    assert made.text.startswith("50% less") and "Asked: macs=0.5." in made.text
    assert made.all("li")[0]["class"] == "bad" and made.all("p")[0]["class"] == "lead bad"


def test_a_section_is_named_by_its_heading() -> None:
    made = tree_of(html(section(Section("costs", HOSTILE, ("text",)))))
    assert made.all("section")[0] == {"id": "costs", "aria-labelledby": "costs-h"}
    assert made.all("h2")[0]["id"] == "costs-h"
    inner = tree_of(html(section(Section("stage-1-costs", HOSTILE, ("text",)), level=3)))
    assert inner.all("h3")[0]["id"] == "stage-1-costs-h" and not inner.all("section")


def test_a_table_has_caption_and_headings_of_rows_and_columns() -> None:
    columns = [Column("name"), Column("number"), Column("bar", "wide")]
    made = tree(table("A caption", columns, [["a", "1", None], ["b", "2", None]], chosen=1))
    assert [one["scope"] for one in made.all("th")] == ["col", "col", "col", "row", "row"]
    assert [one.get("class") for one in made.all("tr")] == [None, None, "chosen"]
    region = made.all("div")[0]
    assert region["role"] == "group" and region["tabindex"] == "0"
    assert [one["class"] for one in made.all("td")] == ["number", "wide", "number", "wide"]


def test_a_long_table_ends_and_says_so() -> None:
    made = tree(table("A caption", [Column("a")], [[str(k)] for k in range(MOST + 7)]))
    assert len(made.all("tr")) == MOST + 1 and "and 7 more" in made.text


def test_folded_content_and_notes() -> None:
    assert tree(details("more", "text", open_=True)).all("details")[0] == {"open": ""}
    (found,) = notes({"warnings": ["first"], "notes": ["second"]}, "stage-1")
    assert found.key == "stage-1-notes" and "first" in tree(found).text
    assert notes({}, "") == []
