"""Weights that take their type from an activation: casts to a type that is known anyway.

Exporters put `CastLike(weight, x)` in front of a convolution. Its result then seems to depend on
the input, although nothing but the type of `x` counts.
"""

from __future__ import annotations

from collections.abc import Mapping

import onnx
from onnx import GraphProto, ModelProto, NodeProto

from onnxprune.ir import graph, subgraphs
from onnxprune.ir.result_kinds import element_types

__all__ = ["CAST", "settle_types"]

#: The operator, and what says the same where the types differ.
_CAST_LIKE = "CastLike"
CAST = "Cast"


def settle_types(model: ModelProto) -> tuple[ModelProto, int]:
    """Give constants that are cast like another tensor the type which that has.

    A cast to the type that a constant has anyway is left out, any other becomes a plain one.

    Returns:
        The model, the same object if nothing changes, and how many such casts there were.
    """
    casts = _casts(model)
    types = element_types(model) if casts else {}
    kinds = {name: types.get(node.input[1], 0) for name, node in casts.items()}
    kinds = {name: kind for name, kind in kinds.items() if kind}
    if not kinds:
        return model, 0
    outside = {output.name for output in model.graph.output}
    sources = {name: casts[name].input[0] for name in kinds}
    spare = {
        name: source
        for name, source in sources.items()
        if types.get(source) == kinds[name] and name not in outside
    }
    new = ModelProto()
    new.CopyFrom(model)
    nodes = []
    for node in new.graph.node:
        name = node.output[0] if node.output else ""
        if name in kinds and name not in spare:
            node = onnx.helper.make_node(CAST, [sources[name]], [name], node.name, to=kinds[name])
        if name not in spare:
            nodes.append(NodeProto.FromString(node.SerializeToString()))
    del new.graph.node[:]
    new.graph.node.extend(nodes)
    for info in [info for info in new.graph.value_info if info.name in spare]:
        new.graph.value_info.remove(info)
    _read_instead(new.graph, spare)
    return new, len(kinds)


def _casts(model: ModelProto) -> dict[str, NodeProto]:
    """Casts of constants to the type of what is none, by their results."""
    constant, casts = set(graph.constants(model)), dict[str, NodeProto]()
    for node in model.graph.node:
        if graph.op_key(node) == _CAST_LIKE and node.input[0] in constant:
            if node.input[1] not in constant:
                casts[node.output[0]] = node
            constant.add(node.output[0])
        elif node.input and constant.issuperset(node.input) and not subgraphs.is_control(node):
            constant.update(node.output)
    return casts


def _read_instead(outer: GraphProto, names: Mapping[str, str]) -> None:
    """Let all nodes, those of inner graphs too, read other tensors; chains are followed."""
    for node in outer.node:
        for k, name in enumerate(node.input):
            while name in names:
                name = names[name]
            node.input[k] = name
        inner = (*(body for _, body in subgraphs.bodies(node)), *subgraphs.hidden(node))
        for body in inner:
            _read_instead(body, names)
