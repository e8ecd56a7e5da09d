"""Say for every node of the original how much of it stays, as Model Explorer lays it over a graph.

Format: node data of Model Explorer, `{graph: {"results": {node: {"value": …}}, "gradient": […]}}`
(google-ai-edge/model-explorer, `node_data_builder.py`). A node's key is its name in the file, or
the name of its first output where it has none. `reason`, `divergence` and `sensitivity` beside
`value` are for other readers; Model Explorer shows the value.
"""

from __future__ import annotations

from collections.abc import Mapping, Sequence
from typing import Any

from onnxprune.ir.graph import ModelProto, constants
from onnxprune.types import Plan

__all__ = ["GRADIENT", "overlay"]

#: Colours of nodes from those of which least stays to those that are whole.
GRADIENT = (
    {"stop": 0, "bgColor": "#0b7285", "textColor": "#ffffff"},
    {"stop": 0.5, "bgColor": "#8fc7d1", "textColor": "#16191d"},
    {"stop": 1, "bgColor": "#ffffff", "textColor": "#16191d"},
)


def overlay(
    model: ModelProto,
    plan: Plan,
    frozen: Sequence[Mapping[str, Any]],
    sensitivities: Mapping[str, float],
    divergences: Mapping[str, float],
) -> dict[str, Any]:
    """Node data for the original model.

    Args:
        model: the original.
        plan: the positions that stay.
        frozen: rows of the report: `used_by` which node a weight with a `reason` is frozen.
        sensitivities: by name of a weight what the width of its group costs, where it was measured.
        divergences: by name of a tensor how far it is from the original's, where it was compared.
    """
    shares = _shares(plan)
    reasons = {row["used_by"]: row["reason"] for row in frozen}
    stored = constants(model)
    results = {}
    for node in model.graph.node:
        key = node.name or next(iter(node.output), "")
        weights = [name for name in node.input if name in stored and name in shares]
        touched = weights or [name for name in node.output if name in shares]
        row: dict[str, Any] = {"value": min((shares[name] for name in touched), default=1.0)}
        if key in reasons:
            row["reason"] = reasons[key]
        own = [divergences[name] for name in node.output if name in divergences]
        costs = [sensitivities[name] for name in node.input if name in sensitivities]
        if own:
            row["divergence"] = max(own)
        if costs:
            row["sensitivity"] = max(costs)
        results[key] = row
    named = model.graph.name or "main_graph"
    return {named: {"results": results, "gradient": list(GRADIENT)}}


def _shares(plan: Plan) -> dict[str, float]:
    """The share of each tensor that stays, by its name; those that stay whole are left out."""
    shares: dict[str, float] = {}
    for axis, kept in plan.keep.items():
        size = plan.size[axis]  # positions beyond it are zeros that were added
        share = int((kept < size).sum()) / max(size, 1)
        shares[axis.tensor] = shares.get(axis.tensor, 1.0) * share
    return shares
