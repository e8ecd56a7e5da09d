"""The page of a recipe: every stage beside the original, then what each stage did."""

from __future__ import annotations

from collections.abc import Mapping, Sequence
from typing import Any

from onnxprune.report.html.about import About
from onnxprune.report.html.charts import bar
from onnxprune.report.html.costs import (
    SAME,
    accuracy_card,
    change,
    headline,
    ms,
    proof_card,
    size_card,
    time_card,
)
from onnxprune.report.html.elements import Content, el
from onnxprune.report.html.parts import Column, Page, Section, Verdict, notes, section, table
from onnxprune.report.html.prune_page import prune_sections
from onnxprune.report.html.sparse_page import sparse_sections
from onnxprune.report.html.timing import timings
from onnxprune.report.text import amount

__all__ = ["recipe_page"]

Values = Mapping[str, Any]
#: What a stage did, in the words of its heading.
TITLES = {"prune": "pruned", "sparsify": "made sparse", "quantise": "quantised"}


def recipe_page(values: Values, about: About) -> Page:
    """Show a recipe."""
    stages = values["stages"]
    last = stages[-1]
    times = last.get("latency") or (None, None)
    score = None
    if values.get("score") is not None and last.get("score") is not None:
        score = {"before": values["score"], "after": last["score"], "function": "--evaluate"}
    cards = [
        size_card({"bytes": values["bytes"]}, {"bytes": last["bytes"]}),
        time_card(times[0], times[1]),
        accuracy_card(last["fidelity"], score),
    ]
    done = ", then ".join(TITLES.get(stage["kind"], stage["kind"]) for stage in stages)
    costs = {"bytes": values["bytes"], "latency": times[0]}
    slower = None
    if times[0] and times[1]:
        slower = times[1]["median_ms"] > (1 + SAME) * times[0]["median_ms"]
    worth, tone = headline(costs, {"bytes": last["bytes"], "latency": times[1]}, slower)
    steps = f"{done[:1].upper()}{done[1:]}."
    models = [("original", times[0]), ("after the last stage", times[1])]
    environment = values.get("environment", {})
    sections = [
        _stages(values),
        *timings("", models, environment),
        *(_stage(k, stage) for k, stage in enumerate(stages, 1)),
        *notes(values, ""),
    ]
    return Page("Recipe", Verdict(worth, cards, tone, steps), sections)


def _stages(values: Values) -> Section:
    """One row for each stage, beside the original."""
    columns = [
        Column("stage"),
        Column("file"),
        Column("share of the original", "wide"),
        Column("change"),
    ]
    columns += [Column("time"), Column("top-1"), Column("agreement"), Column("score")]
    score = "–" if values.get("score") is None else f"{values['score']:.4g}"
    first = amount(values["bytes"], "bytes")
    rows: list[list[Content]] = [
        ["original", first, bar(1.0, "before"), "", "", "", "", score],
        *(_row(k, stage, values["bytes"]) for k, stage in enumerate(values["stages"], 1)),
    ]
    made = table("Each stage beside the original", columns, rows)
    return Section("stages", "Stages", (made,))


def _row(k: int, stage: Values, whole: int) -> list[Content]:
    drift, times, ratio = stage["fidelity"], stage["latency_ms"], stage["bytes"] / max(whole, 1)
    right, agree = drift.get("accuracy"), drift.get("agreement")
    resumed = " (resumed)" if stage.get("resumed") else ""
    return [
        f"{k}, {stage['kind']}{resumed}",
        amount(stage["bytes"], "bytes"),
        bar(ratio),
        change(ratio),
        "–" if not times else f"{ms(times[1])} ({change(times[1] / times[0])})",
        "–" if not right else f"{right[1]:.2%}",
        "–" if agree is None else f"{agree:.1%}",
        "–" if stage.get("score") is None else f"{stage['score']:.4g}",
    ]


def _stage(k: int, stage: Values) -> Section:
    """What one stage did, as its own page would show it."""
    prefix, own = f"stage-{k}", stage["details"]
    inside: Sequence[Section]
    if stage["kind"] == "prune":
        inside = prune_sections(prefix, own)
    elif stage["kind"] == "sparsify":
        inside = sparse_sections(prefix, own)
    else:
        inside = notes(own, prefix)
    asked = own.get("asked") or own.get("target") or {}
    told = ", ".join(f"{name} {value}" for name, value in asked.items())
    content = [
        el("p", f"Asked for: {told}." if told else None, f" It took {stage['seconds']:.3g} s.")
    ]
    proved = proof_card(own.get("proof"))
    if proved is not None:
        content.append(el("p", f"Proof: {proved.value}, {proved.more}."))
    content += [section(one, level=3) for one in inside]
    title = f"Stage {k}: {TITLES.get(stage['kind'], stage['kind'])}"
    return Section(prefix, title, tuple(content))
