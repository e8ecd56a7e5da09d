"""Show how far single layers of a pruned model are from the original's."""

from __future__ import annotations

from collections.abc import Mapping
from typing import Any

from onnxprune.report.html.charts import bar, columns
from onnxprune.report.html.elements import Content, el, prefixed
from onnxprune.report.html.figure import Drawing
from onnxprune.report.html.parts import Column, Section, details, table
from onnxprune.report.html.scales import linear, percent

__all__ = ["layer_divergences"]

#: Layers up to which their table is open.
OPEN = 16


def layer_divergences(prefix: str, layers: Mapping[str, Any] | None) -> list[Section]:
    """How far every layer drifted, from the first in the graph to the last."""
    if not layers or not layers["rows"]:
        return []
    rows = [(row["name"], float(row["divergence"])) for row in layers["rows"]]
    most = max(value for _, value in rows)
    count = layers["samples"]
    told = (
        "The energy of the difference between pruned and original model at the output of each "
        "layer, in shares of the original's, where channels stay. "
        f"{count} sample{'s' * (count != 1)}, {layers['data']}."
    )
    drawing = Drawing(
        prefixed(prefix, "layers-p"),
        "Divergence of every layer",
        f"Columns for {len(rows)} layers in the order of the graph, the largest {percent(most)}. "
        "The table below holds all numbers.",
    )
    high = linear("divergence", [value for _, value in rows], percent, zero=True)
    shown = [Column("layer"), Column("divergence"), Column("beside the largest", "wide")]
    cells: list[list[Content]] = [
        [name, percent(value), bar(value / most if most else 0.0)] for name, value in rows
    ]
    made = table("Divergence of each layer", shown, cells)
    folded = details(f"All {len(rows)} layers", made, open_=len(rows) <= OPEN)
    content = (el("p", told), columns(drawing, rows, high), folded)
    return [Section(prefixed(prefix, "layers"), "Divergence of the layers", content)]
