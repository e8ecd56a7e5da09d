"""Networks with channels that contribute nothing."""

import numpy as np
import onnx

from onnxprune.groups.analysis import analyze

BIASED = ("Conv", "ConvTranspose", "Gemm", "BatchNormalization", "InstanceNormalization")


GATED = ("LSTM", "GRU", "RNN")


def zero_filters(model: onnx.ModelProto, bias: float | None = 0.0) -> int:
    """Zero every second output channel of all weights that make channels; how many there are."""
    analysis = analyze(model)
    planted, zeroed = 0, set()
    biases = {n.input[2] for n in model.graph.node if n.op_type in BIASED and len(n.input) > 2}
    biases |= {n.input[3] for n in model.graph.node if n.op_type in GATED}
    for group in analysis.groups:
        for axis, positions in group.axes():
            if axis in analysis.roles.makes:
                zeroed.add(axis)
                _set(model, axis.tensor, axis.axis, positions[::2].ravel(), 0.0)
            elif axis.tensor in biases and bias is not None:
                _set(model, axis.tensor, axis.axis, positions[::2].ravel(), bias)
        planted += len(range(0, group.channels, 2))
    assert zeroed
    return planted


def _set(model: onnx.ModelProto, name: str, axis: int, at: np.ndarray, value: float) -> None:
    tensor = next(t for t in model.graph.initializer if t.name == name)
    values = onnx.numpy_helper.to_array(tensor).copy()
    np.moveaxis(values, axis, 0)[at] = value
    tensor.CopyFrom(onnx.numpy_helper.from_array(values, name))


def channels(model: onnx.ModelProto) -> int:
    return sum(group.channels for group in analyze(model).groups)
