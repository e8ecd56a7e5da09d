"""The page of a table of sensitivities: `sensitivity`."""

from __future__ import annotations

from collections.abc import Mapping
from typing import Any

from onnxprune.report.html.about import About
from onnxprune.report.html.elements import Content
from onnxprune.report.html.groups import sensitivities
from onnxprune.report.html.parts import Card, Column, Page, Section, Verdict, notes, table
from onnxprune.report.html.scales import number

__all__ = ["sensitivity_page"]

Values = Mapping[str, Any]


def sensitivity_page(values: Values, about: About) -> Page:
    """Show how the outputs answer to the width of each group."""
    groups, data = values["groups"], values["calibration"]
    half = sorted(
        ((_at_half(row), row["name"]) for row in groups if row["channels"] > 1), reverse=True
    )
    cards = [
        Card("Groups", str(len(groups)), f"{sum(row['channels'] for row in groups)} channels"),
        Card("Samples", str(data["samples"]), str(data["source"])),
    ]
    if half:
        cards.insert(1, Card("Most sensitive", number(half[0][0]), f"{half[0][1]} at half width"))
        cards.insert(2, Card("Least", number(half[-1][0]), f"{half[-1][1]} at half width"))
    text = "No group of channels can get narrower."
    if half:
        text = f"{half[0][1]} is the most sensitive group, {half[-1][1]} the least."
    sections = [*sensitivities("", groups), _table(groups), *notes(values, "")]
    return Page("Sensitivity", Verdict(text, cards), sections)


def _at_half(row: Values) -> float:
    return float(row["errors"][round(row["channels"] / 2)])


def _table(groups: list[Values]) -> Section:
    """What was measured of each group, the most sensitive first."""
    ordered = sorted(groups, key=_at_half, reverse=True)
    columns = [Column("group"), Column("channels"), Column("divergence at half width")]
    columns.append(Column("measured, width: divergence", "left"))
    rows: list[list[Content]] = []
    for row in ordered:
        measured = [m for m in row["measured"] if m["width"] < row["channels"]]
        told = ", ".join(f"{m['width']}: {m['divergence']:.2g}" for m in measured)
        rows.append([row["name"], str(row["channels"]), number(_at_half(row)), told])
    made = table("Divergence of the outputs when one group alone is narrower", columns, rows)
    return Section("groups", "All groups", (made,))
