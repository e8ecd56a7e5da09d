"""The same model in float32 where it computes in float16, so that small changes are not lost.

Inputs keep their type and are converted first; outputs are float32. Names stay, so that what is
learnt of a stored tensor can be written back, rounded once.
"""

from __future__ import annotations

from collections.abc import Iterator

import numpy as np
import onnx
from onnx import GraphProto, ModelProto, NodeProto, TensorProto

from onnxprune.ir import subgraphs, tensors
from onnxprune.ir.cast_like import CAST

__all__ = ["widened"]

_HALF, _SINGLE = TensorProto.FLOAT16, TensorProto.FLOAT
#: Attributes that name a type.
_TYPES = frozenset({"to", "dtype"})


def widened(model: ModelProto) -> ModelProto:
    """Convert a model that computes in float16; the same object where none of it does."""
    if not any(_is_half(tensor) for tensor in _stored(model.graph)):
        return model
    new = ModelProto()
    new.CopyFrom(model)
    for one in subgraphs.graphs(new.graph):
        _widen(one)
    stored = {tensor.name for tensor in new.graph.initializer}
    halves = [
        value.name
        for value in new.graph.input
        if value.type.tensor_type.elem_type == _HALF and value.name not in stored
    ]
    renamed = {name: f"onnxprune/wide/{name}" for name in halves}
    for one in subgraphs.graphs(new.graph):
        for node in one.node:
            for k, name in enumerate(node.input):
                node.input[k] = renamed.get(name, name)
    casts = [
        onnx.helper.make_node(CAST, [old], [wide], to=_SINGLE) for old, wide in renamed.items()
    ]
    nodes = [*casts, *(NodeProto.FromString(n.SerializeToString()) for n in new.graph.node)]
    del new.graph.node[:]
    new.graph.node.extend(nodes)
    return new


def _stored(one: GraphProto) -> Iterator[TensorProto]:
    """Every tensor that a graph and its bodies store."""
    for inner in subgraphs.graphs(one):
        yield from inner.initializer
        for node in inner.node:
            yield from (a.t for a in node.attribute if a.type == a.TENSOR)


def _is_half(tensor: TensorProto) -> bool:
    return bool(tensor.data_type == _HALF)


def _widen(one: GraphProto) -> None:
    """Convert all types of a graph but those of its inputs."""
    del one.value_info[:]
    names = {tensor.name for tensor in one.initializer if _is_half(tensor)}
    for tensor in [
        *one.initializer,
        *(a.t for n in one.node for a in n.attribute if a.type == a.TENSOR),
    ]:
        if _is_half(tensor):
            wide = onnx.numpy_helper.from_array(
                tensors.array(tensor).astype(np.float32), tensor.name
            )
            tensor.CopyFrom(wide)
    for value in (*one.output, *(v for v in one.input if v.name in names)):
        if value.type.tensor_type.elem_type == _HALF:
            value.type.tensor_type.elem_type = _SINGLE
    for node in one.node:
        for attr in node.attribute:
            if attr.name in _TYPES and attr.i == _HALF:
                attr.i = _SINGLE
