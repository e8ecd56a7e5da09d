"""Zero biases for layers that have none, so that what is removed can leave its mean behind."""

from __future__ import annotations

import math
from collections import Counter
from collections.abc import Callable, Mapping, Sequence
from typing import Any, Protocol

import numpy as np
import onnx
from onnx import ModelProto, NodeProto, TensorProto

from onnxprune.ir import graph, tensors

__all__ = ["Biased", "biased", "is_added", "plain", "spare_bytes", "spare_parameters", "unbiased"]

_KINDS = {TensorProto.FLOAT, TensorProto.DOUBLE}
MARK = "onnxprune/bias"
#: How the result of a layer ends behind which a bias was added.
_LESS = f"/{MARK}less"
#: What adds a bias behind a layer that takes none.
_ADD = "Add"


class Biased(Protocol):
    """An operator that multiplies with the stored tensor of input 1."""

    @property
    def bias(self) -> int | None:
        """The input that takes a bias; None if one can only be added behind it."""

    @property
    def width(self) -> Callable[[Mapping[str, Any], Sequence[int]], int]:
        """The number of channels made, from attributes and the stored tensor's shape."""


def biased(model: ModelProto, layers: Mapping[str, Biased]) -> ModelProto:
    """Give all layers a bias, of zeros where they have none: the model computes the same.

    Args:
        model: stays as it is.
        layers: the operators that are layers, by name.
    """
    stored = graph.constants(model)
    new = ModelProto()
    new.CopyFrom(model)
    readers = Counter(name for node in new.graph.node for name in node.input)
    readers.update(output.name for output in new.graph.output)
    vectors = {n: t for n, t in stored.items() if len(t.dims) == 1}
    adds = {
        name
        for node in new.graph.node
        if node.op_type == _ADD and any(v in vectors for v in node.input)
        for name in node.input
    }
    nodes: list[NodeProto] = []
    for node in new.graph.node:
        nodes.append(node)
        weight = stored.get(node.input[1]) if len(node.input) > 1 else None
        layer = layers.get(graph.op_key(node))
        if weight is None or weight.data_type not in _KINDS or layer is None:
            continue
        width = int(layer.width(graph.attributes(node), weight.dims))
        if layer.bias is not None and len(node.input) == layer.bias:
            node.input.append(_zeros(new, node, weight, width))
        elif layer.bias is None and len(weight.dims) == 2:
            has_one = node.output[0] in adds and readers[node.output[0]] == 1
            nodes += [] if has_one else [_added(node, _zeros(new, node, weight, width))]
    copies = [NodeProto.FromString(node.SerializeToString()) for node in nodes]
    del new.graph.node[:]
    new.graph.node.extend(copies)
    graph.list_stored(new)
    return new


def _added(node: NodeProto, bias: str) -> NodeProto:
    """An addition that takes over the name of a node's result."""
    name = node.output[0]
    node.output[0] = f"{name}{_LESS}"
    return onnx.helper.make_node(_ADD, [node.output[0], bias], [name], f"{name}/{MARK}")


def _zeros(model: ModelProto, node: NodeProto, weight: TensorProto, width: int) -> str:
    dtype = onnx.helper.tensor_dtype_to_np_dtype(weight.data_type)
    name = f"{node.output[0]}/{MARK}"
    model.graph.initializer.append(onnx.numpy_helper.from_array(np.zeros(width, dtype), name))
    return name


def is_added(name: str) -> bool:
    """Whether a tensor is a bias that `biased` added."""
    return name.endswith(MARK)


def plain(name: str) -> str:
    """The name that a tensor has in the model before `biased`."""
    return name.removesuffix(_LESS)


def unbiased(model: ModelProto) -> ModelProto:
    """The model without the biases that stayed zero, changed in place."""
    zero = {tensor.name for tensor in _empty(model)}
    makers = {name: node for node in model.graph.node for name in node.output}
    for node in list(model.graph.node):
        if node.op_type == _ADD and len(node.input) == 2 and node.input[1] in zero:
            makers[node.input[0]].output[0] = node.output[0]
            model.graph.node.remove(node)
        elif len(node.input) == 3 and node.input[2] in zero:
            del node.input[2:]
    for tensor in [t for t in model.graph.initializer if t.name in zero]:
        model.graph.initializer.remove(tensor)
    for value in [v for v in model.graph.input if v.name in zero]:
        model.graph.input.remove(value)
    return model


def spare_bytes(model: ModelProto) -> int:
    """By how much, at least, `unbiased` makes a model's file smaller."""
    return sum(int(tensor.ByteSize()) for tensor in _empty(model))


def spare_parameters(model: ModelProto) -> int:
    """How many numbers `unbiased` removes."""
    return sum(math.prod(tensor.dims) for tensor in _empty(model))


def _empty(model: ModelProto) -> list[TensorProto]:
    """Biases that were added and stayed zero."""
    return [
        tensor
        for tensor in model.graph.initializer
        if is_added(tensor.name) and not tensors.array(tensor).any()
    ]
