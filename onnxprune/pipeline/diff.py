"""Tell what changed between two models: nodes, weights, inputs and outputs, and what they cost."""

from __future__ import annotations

from onnxprune.errors import OnnxpruneError
from onnxprune.groups.analysis import analyze, load
from onnxprune.ir import save
from onnxprune.ir.graph import ModelProto
from onnxprune.ir.load import Source
from onnxprune.ir.model_changes import model_changes
from onnxprune.report.difference import Difference

__all__ = ["diff"]


def diff(before: Source, after: Source) -> Difference:
    """Compare two models node by node: `diff("model.onnx", "small.onnx").text()`.

    Names of nodes and of tensors inside the graph may differ; `onnxprune.ir.model_changes` says
    which nodes and weights belong together.

    Args:
        before: path or ModelProto.
        after: another model.

    Raises:
        InputError: a model cannot be read.
    """
    models = load(before), load(after)
    costs = [_cost(model) for model in models]
    (a, b), (first, second) = models, (counted for counted, _ in costs)
    totals = {name: (first.get(name), second.get(name)) for name in ("macs", "params")}
    totals["bytes"] = (save.file_bytes(a), save.file_bytes(b))
    totals["nodes"] = (len(a.graph.node), len(b.graph.node))
    sides = zip(("first", "second"), (why for _, why in costs), strict=True)
    notes = tuple(f"MACs and parameters of the {side} model: {why}" for side, why in sides if why)
    return Difference(model_changes(a, b), totals, notes)


def _cost(model: ModelProto) -> tuple[dict[str, float], str]:
    """MACs and parameters, or why they cannot be counted."""
    try:
        macs, params, *_ = analyze(model).original_cost.tolist()
    except OnnxpruneError as error:
        return {}, str(error)
    return {"macs": macs, "params": params}, ""
