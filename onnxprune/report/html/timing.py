"""Show what single runs of models took: distributions, and a table of medians."""

from __future__ import annotations

from collections.abc import Mapping, Sequence
from typing import Any

from onnxprune.report.html.charts import MODELS, Runs, distribution
from onnxprune.report.html.costs import ms
from onnxprune.report.html.elements import Content, Element, el, prefixed
from onnxprune.report.html.figure import Drawing
from onnxprune.report.html.parts import Column, Section, table

__all__ = ["environment_line", "timings"]

Values = Mapping[str, Any]


def timings(
    prefix: str, models: Sequence[tuple[str, Values | None]], environment: Values
) -> list[Section]:
    """How the times of single runs are distributed.

    Args:
        prefix: of the section's id.
        models: names and latencies; None for what was not timed.
        environment: what was timed on.
    """
    timed = [(name, latency) for name, latency in models if latency]
    if not timed:
        return []
    runs = [
        Runs(name, latency["quantiles_ms"], latency["runs"])
        for name, latency in timed
        if latency.get("quantiles_ms")
    ]
    drawn = None
    if runs:
        medians = ", ".join(f"{one.name} {ms(one.median_ms)}" for one in runs[: len(MODELS)])
        drawing = Drawing(
            prefixed(prefix, "timing-p"),
            "Times of single runs",
            f"How often a run takes how long; the medians are {medians}. The few that take "
            "much longer than the others are left out.",
            180,
        )
        drawn = distribution(drawing, runs[: len(MODELS)])
    content = (drawn, _medians(timed), environment_line(environment))
    return [Section(prefixed(prefix, "timing"), "Latency", content)]


def _medians(timed: Sequence[tuple[str, Values]]) -> Element:
    """Medians and percentiles as a table."""
    columns = [Column("model"), Column("median"), Column("10th percentile")]
    columns += [Column("90th percentile"), Column("runs"), Column("ratio")]
    first = timed[0][1]["median_ms"]
    rows: list[list[Content]] = [
        [
            name,
            *(ms(latency[key]) for key in ("median_ms", "p10_ms", "p90_ms")),
            str(latency["runs"]),
            f"{latency['median_ms'] / first:.3f}",
        ]
        for name, latency in timed
    ]
    return table("Models timed in turns, so that the machine's drift hits all alike", columns, rows)


def environment_line(environment: Values) -> Element:
    """What was measured on."""
    told = ", ".join(f"{name} {value}" for name, value in environment.items())
    return el("p", f"Measured on {told}." if told else None, class_="quiet")
