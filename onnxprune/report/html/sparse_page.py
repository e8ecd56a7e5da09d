"""The page of a model whose single weights were set to zero: `sparsify`."""

from __future__ import annotations

import math
from collections import defaultdict
from collections.abc import Mapping, Sequence
from typing import Any

from onnxprune.report.html.about import About
from onnxprune.report.html.charts import bar
from onnxprune.report.html.costs import (
    accuracy_card,
    before_after,
    change,
    known,
    time_card,
)
from onnxprune.report.html.elements import Content, el, prefixed
from onnxprune.report.html.groups import reached
from onnxprune.report.html.parts import Card, Column, Page, Section, Verdict, details, notes, table
from onnxprune.report.html.scales import percent
from onnxprune.report.html.timing import timings
from onnxprune.report.text import amount

__all__ = ["sparse_page", "sparse_sections"]

Values = Mapping[str, Any]


def sparse_page(values: Values, about: About) -> Page:
    """Show a sparse model."""
    before, after = values["before"], values["after"]
    count = len(values["layers"])
    weights = f"{count} weight{'s' * (count != 1)}"
    zeros = f"{percent(1 - values['density'])} of the numbers in {weights} are zero"
    smaller = change(after["zip"] / max(before["zip"], 1))
    kept = "moved to make up for it" if values["updated"] else "bit-identical"
    cards = known(
        [
            Card("Numbers that are zero", percent(1 - values["density"]), f"others are {kept}"),
            Card(
                "Zipped file",
                smaller,
                f"{amount(before['zip'], 'bytes')} → {amount(after['zip'], 'bytes')}",
                "good" if after["zip"] < before["zip"] else "",
            ),
            time_card(before.get("latency"), after.get("latency")),
            accuracy_card(values.get("fidelity"), values.get("evaluation")),
        ]
    )
    text = f"{zeros}; zipped, the file changes by {smaller}."
    return Page("Made sparse", Verdict(text, cards), sparse_sections("", values))


def sparse_sections(prefix: str, values: Values) -> list[Section]:
    """Everything below the verdict; a recipe shows it for every stage that sparsifies."""
    right = (values.get("fidelity") or {}).get("accuracy") or (None, None)
    sides = [
        {**values[side], "accuracy": accuracy}
        for side, accuracy in zip(("before", "after"), right, strict=True)
    ]
    pair = [("original", sides[0].get("latency")), ("sparse", sides[1].get("latency"))]
    return [
        before_after(prefix, (sides[0], sides[1]), values.get("evaluation")),
        *_layers(prefix, values["layers"]),
        *timings(prefix, pair, values.get("environment", {})),
        *_skipped(prefix, values.get("skipped", {})),
        *reached(prefix, values.get("calibration")),
        *notes(values, prefix),
    ]


def _layers(prefix: str, layers: Sequence[Values]) -> list[Section]:
    """How dense each weight is, and what patterns it holds."""
    if not layers:
        return []
    columns = [Column("weight"), Column("operator", "left"), Column("numbers")]
    columns += [Column("not zero"), Column("share", "wide"), Column("patterns", "left")]
    rows: list[list[Content]] = [
        [
            row["name"],
            row["op"],
            amount(math.prod(row["shape"]), ""),
            percent(row["density"]),
            bar(row["density"]),
            " ".join(row.get("patterns", ())) or "–",
        ]
        for row in layers
    ]
    made = table("Density of the weights that were made sparse", columns, rows)
    return [Section(prefixed(prefix, "layers"), "Density of each weight", (made,))]


def _skipped(prefix: str, skipped: Mapping[str, str]) -> list[Section]:
    """What was left as it is, by reason."""
    by_reason = defaultdict[str, list[str]](list)
    for name, why in skipped.items():
        by_reason[why].append(name)
    if not by_reason:
        return []
    parts = [
        details(
            f"{len(names)} weight{'s' * (len(names) > 1)}: {why}",
            el("ul", (el("li", el("code", name)) for name in names[:60])),
        )
        for why, names in by_reason.items()
    ]
    return [Section(prefixed(prefix, "skipped"), "Left as it was, and why", tuple(parts))]
