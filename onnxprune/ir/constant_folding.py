"""Weights that the graph computes from stored ones alone, with arithmetic: stored as what they are.

Weight standardisation and exports without constant folding compute a kernel from constants on
every run. Statistics over a weight's input channels would freeze them; the result itself is an
ordinary weight. What only moves values (Transpose, Slice, Concat, a cast, quantised weights) stays
as it is: rules follow those to the stored tensor.
"""

from __future__ import annotations

from collections.abc import Mapping, Sequence
from typing import Any

import numpy as np

from onnxprune.ir import edit, graph, runtime, skeleton
from onnxprune.ir.graph import ModelProto

__all__ = ["precomputed"]

_MOVING = frozenset(
    """
    Cast CastLike Concat Constant ConstantOfShape DequantizeLinear Expand Flatten Gather Identity
    Pad QuantizeLinear Range Reshape Shape Size Slice Split Squeeze Tile Transpose Unsqueeze Where
    """.split()
)
_RANDOM = ("Bernoulli", "Multinomial", "Random")
#: Smaller results are shapes and scalars, which are looked into anyway.
FEWEST_ELEMENTS = 1024


def precomputed(model: ModelProto) -> tuple[ModelProto, list[str]]:
    """The model with computed weights stored (the same object if there are none), and a note."""
    makers, arithmetic = _constant_nodes(model)
    read = {
        name
        for node in model.graph.node
        if not (node.output and node.output[0] in makers)
        for name in node.input
    }
    wanted = sorted(read & arithmetic)
    stored = graph.reader(model) if wanted else None
    values = {}
    for name in wanted:
        nodes = _ancestors(name, makers)
        needs = {n for node in nodes for n in node.input if n} - makers.keys()
        assert stored is not None
        known = {n: value for n in needs if (value := stored(n)) is not None}
        found = runtime.compute(*skeleton.node_model(model, nodes, known)).get(name)
        if (
            found is not None
            and found.size >= FEWEST_ELEMENTS
            and np.issubdtype(found.dtype, np.floating)
        ):
            values[name] = found
    if not values:
        return model, []
    note = f"{len(values)} weights that the graph computes from others are stored as they are"
    return edit.store(model, values), [note]


def _constant_nodes(model: ModelProto) -> tuple[dict[str, Any], set[str]]:
    """Operators on constants alone by what they make, and the results of real arithmetic."""
    constant = set(graph.constants(model)) - {value.name for value in graph.graph_inputs(model)}
    makers: dict[str, Any] = {}
    arithmetic: set[str] = set()
    for node in graph.walk(model):
        plain = not any(a.type in (a.GRAPH, a.GRAPHS) for a in node.attribute)
        if not (plain and node.input and constant.issuperset(n for n in node.input if n)):
            continue
        if node.op_type.startswith(_RANDOM) or node.domain not in ("", "ai.onnx"):
            continue
        constant.update(node.output)
        makers.update(dict.fromkeys((name for name in node.output if name), node))
        if node.op_type not in _MOVING or arithmetic.intersection(node.input):
            arithmetic.update(name for name in node.output if name)
    return makers, arithmetic


def _ancestors(name: str, makers: Mapping[str, Any]) -> Sequence[Any]:
    """The operators that lead to a tensor, in the order they run in."""
    wanted, found = {name}, []
    for node in reversed(list({id(node): node for node in makers.values()}.values())):
        if wanted.intersection(node.output):
            wanted.update(node.input)
            found.append(node)
    return found[::-1]
