"""Write a convolution of one position in place of operators that pick channels and places."""

from __future__ import annotations

from collections.abc import Sequence
from dataclasses import dataclass
from typing import Any

import onnx
from numpy.typing import NDArray
from onnx import ModelProto

from onnxprune.ir import edit, graph

__all__ = ["Selection", "selecting"]

#: How the weights are called, behind the name of the result.
MARK = "onnxprune/selection"


@dataclass(frozen=True)
class Selection:
    """Channels of a tensor, at every so many places, under another order, zeros among them.

    Attributes:
        source: name of the tensor that is read.
        result: name of the tensor that is made.
        strides: of every axis behind the channels.
        weight: (out, in) a one where channel `in` becomes channel `out`.
    """

    source: str
    result: str
    strides: tuple[int, ...]
    weight: NDArray[Any]


def selecting(model: ModelProto, selections: Sequence[Selection]) -> ModelProto:
    """Make some tensors by convolutions; operators that nothing reads any more go.

    Args:
        model: stays as it is.
        selections: of tensors that operators of the main graph make.
    """
    new = ModelProto()
    new.CopyFrom(model)
    by_result = {selection.result: selection for selection in selections}
    used = edit.used_counts(new.graph)
    unread = {tensor.name for tensor in new.graph.initializer if not used[tensor.name]}
    for node in new.graph.node:
        selection = by_result.get(node.output[0]) if node.output else None
        if selection is not None:
            weight, ones = f"{selection.result}/{MARK}", [1] * len(selection.strides)
            values = selection.weight.reshape(*selection.weight.shape, *ones)
            new.graph.initializer.append(onnx.numpy_helper.from_array(values, weight))
            made = onnx.helper.make_node(
                "Conv",
                [selection.source, weight],
                [selection.result],
                node.name,
                kernel_shape=ones,
                strides=list(selection.strides),
            )
            node.CopyFrom(made)
    edit.sweep(new.graph, used, unread)
    graph.list_stored(new)
    return new
