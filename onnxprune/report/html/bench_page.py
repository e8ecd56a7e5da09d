"""The page of models that were timed: `bench`."""

from __future__ import annotations

from collections.abc import Mapping, Sequence
from pathlib import PurePath
from typing import Any

from onnxprune.report.html.about import About
from onnxprune.report.html.charts import bar
from onnxprune.report.html.costs import change, ms
from onnxprune.report.html.elements import Content
from onnxprune.report.html.parts import Card, Column, Page, Section, Verdict, table
from onnxprune.report.html.scales import percent
from onnxprune.report.html.timing import timings
from onnxprune.report.text import amount

__all__ = ["bench_page"]

Values = Mapping[str, Any]
#: Operators that the table of a model names.
SHOWN = 20


def bench_page(values: Values, about: About) -> Page:
    """Show timed models; ratios are to the first."""
    models = _named(values["models"])
    fastest = min(models, key=lambda row: row["median_ms"])
    text = f"{fastest['model']} is the fastest: {ms(fastest['median_ms'])} a run."
    if len(models) == 1:
        text = f"{ms(fastest['median_ms'])} a run."
    cards = [_card(row, first=k == 0) for k, row in enumerate(models)]
    named = [(row["model"], row) for row in models]
    sections = [
        _table(models),
        *timings("", named, values.get("environment", {})),
        *(_operators(k, row) for k, row in enumerate(models) if row.get("operators")),
    ]
    return Page("Timed", Verdict(text, cards), sections)


def _named(models: Sequence[Values]) -> list[Values]:
    """The models by the names of their files, where these tell them apart."""
    names = [PurePath(row["model"]).name for row in models]
    if len(set(names)) < len(names):
        return list(models)
    return [{**row, "model": name} for row, name in zip(models, names, strict=True)]


def _card(row: Values, first: bool) -> Card:
    """The median of a model, and how it compares with the first."""
    rate = f"{amount(row['samples_per_second'], '')} samples a second"
    more = rate if first else f"{change(row['ratio'])} beside the first; {rate}"
    tone = "" if first or abs(row["ratio"] - 1) < 0.02 else "good" if row["ratio"] < 1 else "bad"
    return Card(row["model"], ms(row["median_ms"]), more, tone)


def _table(models: Sequence[Values]) -> Section:
    """Medians with bars, throughput and memory."""
    most = max(row["median_ms"] for row in models)
    columns = [
        Column("model"),
        Column("median"),
        Column("beside the slowest", "wide"),
        Column("ratio"),
    ]
    columns += [Column("spread"), Column("samples a second"), Column("memory")]
    rows: list[list[Content]] = [
        [
            row["model"],
            ms(row["median_ms"]),
            bar(row["median_ms"] / most, "before" if k == 0 else "after"),
            f"{row['ratio']:.3f}",
            percent(row["spread"]),
            amount(row["samples_per_second"], ""),
            "?" if row["peak_memory_bytes"] is None else amount(row["peak_memory_bytes"], "bytes"),
        ]
        for k, row in enumerate(models)
    ]
    made = table("Spread: 90th less 10th percentile, in shares of the median", columns, rows)
    return Section("models", "Models", (made,))


def _operators(k: int, model: Values) -> Section:
    """What the operators of a model take."""
    whole = sum(row["ms"] for row in model["operators"]) or 1.0
    most = sorted(model["operators"], key=lambda row: -row["ms"])[:SHOWN]
    columns = [Column("operator"), Column("kind", "left"), Column("time"), Column("share")]
    columns.append(Column("share of all", "wide"))
    rows: list[list[Content]] = [
        [row["name"], row["op"], ms(row["ms"]), percent(row["ms"] / whole), bar(row["ms"] / whole)]
        for row in most
    ]
    more = len(model["operators"]) - len(most)
    caption = "The operators that take most, the profiler's own time included"
    made = table(caption + (f"; {more} more are in the JSON" if more else ""), columns, rows)
    return Section(f"operators-{k}", f"Operators of {model['model']}", (made,))
