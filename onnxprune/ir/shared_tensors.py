"""Stored tensors that several operators share: separated while pruning, reunited where possible."""

from __future__ import annotations

import math
from collections.abc import Collection, Iterator, Mapping

import numpy as np
from onnx import GraphProto, ModelProto, NodeProto, TensorProto

from onnxprune.ir import graph, subgraphs, tensors
from onnxprune.ir.edit import used_counts
from onnxprune.types import Traits

__all__ = ["reunite", "separate"]


def separate(model: ModelProto, traits: Traits) -> tuple[ModelProto, dict[str, str]]:
    """Give every reader of a shared vector or fill its own, so that it ties no layers together.

    Exporters store equal vectors (a bias of zeros) once, and fill the initial states of all
    recurrent layers in one go, by what `traits` call fills. Returns the model (the same one if
    nothing is shared) and for each copy's name the original's. Matrices stay shared: their
    readers' channels are pruned together.
    """
    counts = used_counts(model.graph)
    shared, fills = _shared(model, counts, traits)
    if not shared and not fills:
        return model, {}
    new = ModelProto()
    new.CopyFrom(model)
    copies: dict[str, str] = {}
    seen: set[str] = set()
    for node in subgraphs.nodes(new.graph):
        for index, name in enumerate(node.input):
            if name in shared and name in seen:
                copy = f"{name}_{len(copies) + 1}"
                while counts[copy]:
                    copy += "_"
                node.input[index] = copy
                copies[copy] = name
                new.graph.initializer.add().CopyFrom(shared[name])
                new.graph.initializer[-1].name = copy
            seen.add(name)
    _separate_fills(new.graph, fills, copies)
    return new, copies


def _shared(
    model: ModelProto, counts: Mapping[str, int], traits: Traits
) -> tuple[dict[str, TensorProto], set[str]]:
    """Vectors and fills that several operators read, and nothing else."""
    shared = {
        tensor.name: tensor
        for tensor in model.graph.initializer
        if counts[tensor.name] > 1
        and sum(d > 1 for d in tensor.dims) == 1
        and tensor.data_type not in (TensorProto.INT64, TensorProto.INT32)
    }
    inputs = {value.name for value in model.graph.input}
    outside = {output.name for output in model.graph.output}
    nodes = list(subgraphs.nodes(model.graph))
    whole = {name for node in nodes if node.op_type != "Slice" for name in node.input}
    outside |= shared.keys() - whole  # slices (gates) of one vector do not meet
    for node in nodes:
        outside |= subgraphs.captured(node)
    shared = {n: t for n, t in shared.items() if n not in outside and n not in inputs}
    return shared, {n for n in _fills(model, traits) if counts[n] > 1 and n not in outside}


def _fills(model: ModelProto, traits: Traits) -> Iterator[str]:
    """Results that hold one number everywhere, and take no space in the file."""
    scalars = {name for name, t in graph.constants(model).items() if math.prod(t.dims) == 1}
    for node in model.graph.node:
        given = list(node.input[:-1])  # the last one is the shape
        if graph.op_key(node) in traits.fills and scalars.issuperset(given):
            yield node.output[0]


def _separate_fills(g: GraphProto, fills: Collection[str], copies: dict[str, str]) -> None:
    """Put a copy of a fill, under a name of its own, in front of each reader but the first."""
    makers = {node.output[0]: node for node in g.node if node.output and node.output[0] in fills}
    taken = {name for node in g.node for name in node.output}
    seen: set[str] = set()
    ordered: list[NodeProto] = []
    for node in g.node:
        for name in [name for name in dict.fromkeys(node.input) if name in seen]:
            copy = f"{name}_{len(copies) + 1}"
            while copy in taken:
                copy += "_"
            fresh = NodeProto.FromString(makers[name].SerializeToString())
            # an ending that messages leave out, see `runtime.message_of`
            fresh.name = f"{fresh.name or name}_token_{len(copies) + 1}"
            fresh.output[0] = copy
            ordered.append(fresh)
            copies[copy] = name
            for index in (k for k, source in enumerate(node.input) if source == name):
                node.input[index] = copy
        seen.update(name for name in node.input if name in makers)
        ordered.append(NodeProto.FromString(node.SerializeToString()))
    if fills:
        del g.node[:]
        g.node.extend(ordered)


def reunite(model: ModelProto, copies: Mapping[str, str]) -> ModelProto:
    """Undo `separate` for copies that stayed equal to what they came from."""
    _reunite_fills(model.graph, copies)
    stored = {tensor.name: tensor for tensor in model.graph.initializer}
    back = {
        copy: name
        for copy, name in copies.items()
        if copy in stored and name in stored and _same(stored[copy], stored[name])
    }
    if not back:
        return model
    for node in subgraphs.nodes(model.graph):
        for index, name in enumerate(node.input):
            if name in back:
                node.input[index] = back[name]
    for copy in back:
        model.graph.initializer.remove(stored[copy])
    return model


def _reunite_fills(g: GraphProto, copies: Mapping[str, str]) -> None:
    makers = {node.output[0]: node for node in g.node if node.output}
    back = {
        copy: name
        for copy, name in copies.items()
        if copy in makers
        and name in makers
        and makers[copy].input == makers[name].input
        and makers[copy].attribute == makers[name].attribute
    }
    for copy in back:
        g.node.remove(makers[copy])
    for node in g.node if back else ():
        for index, name in enumerate(node.input):
            node.input[index] = back.get(name, name)


def _same(a: TensorProto, b: TensorProto) -> bool:
    same_shape = a.data_type == b.data_type and list(a.dims) == list(b.dims)
    return same_shape and bool(np.array_equal(tensors.array(a), tensors.array(b)))
