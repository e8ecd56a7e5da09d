"""Operators behind the outputs of a model, which read further inputs: a loss of one's own."""

from __future__ import annotations

from collections.abc import Mapping
from typing import Any, NamedTuple

import numpy as np
import onnx
from onnx import ModelProto

from onnxprune.ir.graph_builder import GraphBuilder
from onnxprune.ir.later_opset import opset_of

__all__ = ["NewInput", "appended", "builder_for"]


class NewInput(NamedTuple):
    """Type and number of axes of an input that a model gets, whose sizes vary."""

    dtype: np.dtype[Any]
    rank: int


def builder_for(model: ModelProto, prefix: str) -> GraphBuilder:
    """Begin a list of operators for a model, whose names begin with `prefix`."""
    return GraphBuilder(opset_of(model), np.dtype(np.float32), prefix)


def appended(
    model: ModelProto, builder: GraphBuilder, inputs: Mapping[str, NewInput], output: str
) -> ModelProto:
    """Put operators behind a model.

    Args:
        model: it is not changed.
        builder: holds the operators and constants.
        inputs: by name what the model reads from then on beside its own.
        output: name of a tensor of float32 that it gives from then on.
    """
    new = ModelProto()
    new.CopyFrom(model)
    new.graph.node.extend(builder.nodes)
    for name, value in builder.constants.items():
        new.graph.initializer.append(onnx.numpy_helper.from_array(value, name))
    for name, (dtype, rank) in inputs.items():
        kind = onnx.helper.np_dtype_to_tensor_dtype(dtype)
        sizes = [f"{name}/{axis}" for axis in range(rank)]
        new.graph.input.append(onnx.helper.make_tensor_value_info(name, kind, sizes))
    float32 = onnx.TensorProto.FLOAT
    new.graph.output.append(onnx.helper.make_tensor_value_info(output, float32, None))
    return new
