"""Heads and columns of attention that are always zero go, and nothing else does."""

from __future__ import annotations

import numpy as np
import onnx
import pytest
from networks import NETWORKS, Net
from onnx import numpy_helper

import onnxprune
from onnxprune.groups.analysis import analyze

#: Kept of every group after its odd channels were planted dead: the stream, where it is no input,
#: which a normalisation reads, then heads, columns, hidden units.
LEFT = {
    "gpt_with_tied_head": [24, 4, 4, 20, 4, 4, 20, 2, 2],
    "llama": [2, 4, 20, 4, 20, 1, 1],
    "llama_of_opset_23": [4, 20, 2, 4, 20, 2, 1, 1],
    "t5_with_relative_bias": [4, 4, 4, 4, 20, 2, 2],
    "bert_as_onnxruntime_fuses_it": [24, 4, 4, 20, 4, 4, 20, 2, 2],
    # blocks of eight columns are not all dead
    "decoder_as_onnxruntime_fuses_it": [2, 4, 2, 20, 2, 2],
}


def zeroed(model: onnx.ModelProto, name: str, axis: int, positions: np.ndarray) -> None:
    """Zeros at positions of a stored tensor's axis."""
    for tensor in model.graph.initializer:
        if tensor.name == name:
            values = numpy_helper.to_array(tensor).copy()
            values[(slice(None),) * axis + (positions,)] = 0
            tensor.CopyFrom(numpy_helper.from_array(values, name))


@pytest.mark.parametrize("name", LEFT)
def test_planted_heads_and_columns_go(name: str):
    model = NETWORKS[name]()
    analysis = analyze(model)
    for group in analysis.groups:
        for axis, positions in group.axes():
            vector = len(analysis.stored.get(axis.tensor, ())) == 1
            if axis in analysis.roles.makes or vector:
                zeroed(model, axis.tensor, axis.axis, positions[1::2].ravel())
    result = onnxprune.prune(model, lossless=True, latency=False)
    assert result.report.proof.reference == "original"
    assert [group["kept"] for group in result.report.groups] == LEFT[name]


@pytest.mark.parametrize("dead", ["q", "k", "v", "q+bias", "v+bias"])
def test_a_bias_inside_attention_keeps_its_columns(dead: str):
    """Columns 1 and 3 of both heads: zero only if the bias that is added there is zero too."""
    n = Net(x=("N", 5, 6))
    parts = [n.op("MatMul", "x", n.weight(6, 8, name=name)) for name in "qkv"]
    y = n.op("MultiHeadAttention", *parts, n.weight(24, name="b"), num_heads=2,
             domain="com.microsoft")  # fmt: skip
    model = n.model(n.op("MatMul", y, n.weight(8, 3)))
    shape = onnx.helper.make_tensor_value_info("y", 1, ["N", 5, 3])
    model.graph.output[0].type.CopyFrom(shape.type)
    columns, part = np.array([1, 3, 5, 7]), dead[0]
    zeroed(model, part, 1, columns)
    if "bias" in dead:
        for start in (0, 8) if part == "q" else (16,):
            zeroed(model, "b", 0, start + columns)
    report = onnxprune.prune(model, lossless=True, latency=False).report
    lost = {group["name"]: group["channels"] - group["kept"] for group in report.groups}
    assert lost == {"q": 2 * (dead == "q+bias"), "v": 2 * (dead == "v+bias"), "q#2": 0}
