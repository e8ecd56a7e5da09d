"""A convolution in place of slices and pads gives the same numbers, and leaves nothing behind."""

import numpy as np
from networks import NETWORKS, Net
from onnx_text import run

from onnxprune.ir import graph
from onnxprune.ir.selection import Selection, selecting


def test_channels_are_picked_by_a_convolution() -> None:
    model = NETWORKS["pad_shortcut"]()
    (pad,) = (node for node in model.graph.node if node.op_type == "Pad")
    (cut,) = (node for node in model.graph.node if node.op_type == "Slice")
    weight = np.pad(np.eye(8, dtype=np.float32), [(4, 4), (0, 0)])
    before = graph.model_bytes(model)
    made = selecting(model, [Selection(cut.input[0], pad.output[0], (2, 2), weight)])
    assert graph.model_bytes(model) == before
    kinds = [node.op_type for node in made.graph.node]
    assert "Pad" not in kinds and "Slice" not in kinds and kinds.count("Conv") == 5
    used = {name for node in made.graph.node for name in node.input}
    assert {tensor.name for tensor in made.graph.initializer} <= used
    shape = [d.dim_value or 1 for d in model.graph.input[0].type.tensor_type.shape.dim]
    x = np.random.default_rng(0).standard_normal(shape).astype(np.float32)
    for name, value in run(model, x=x).items():
        np.testing.assert_allclose(run(made, x=x)[name], value, rtol=1e-5, atol=1e-6)


def test_what_others_read_stays() -> None:
    n = Net(x=(2, 4, 8))
    padded = n.op("Pad", "x", n.const(np.array([0, 0, 0, 0, 2, 0])))
    model = n.model(n.op("Add", n.op("Relu", padded), padded))
    weight = np.pad(np.eye(4, dtype=np.float32), [(0, 2), (0, 0)])
    made = selecting(model, [Selection("x", padded, (1,), weight)])
    assert [node.op_type for node in made.graph.node] == ["Conv", "Relu", "Add"]
    x = np.random.default_rng(0).standard_normal((2, 4, 8)).astype(np.float32)
    for name, value in run(model, x=x).items():
        np.testing.assert_array_equal(run(made, x=x)[name], value)
