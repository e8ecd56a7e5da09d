"""Graphs in later versions of the operators, which compute the same."""

import numpy as np
import onnx
import pytest
from networks import Net

from onnxprune.ir import graph, later_opset, runtime

X = np.random.default_rng(0).standard_normal((2, 3, 8, 8)).astype(np.float32)


def early() -> Net:
    """Operators that have other inputs, attributes or defaults since."""
    net = Net(8, x=("b", 3, 8, 8))
    y = net.op("Pad", net.op("Clip", "x", min=-0.7, max=0.9), pads=[0, 0, 1, 1, 0, 0, 1, 1])
    y = net.op("Slice", net.bn(y, 3), starts=[1], ends=[9], axes=[2])
    y = net.op("ReduceMean", net.op("Softmax", y, axis=2), axes=[3], keepdims=0)
    net.op("Unsqueeze", net.op("Dropout", y), axes=[1])
    net.nodes[-1].output[0] = "y"
    return net


def computed(model: onnx.ModelProto) -> np.ndarray:
    return runtime.run(runtime.open_session(graph.model_bytes(model)), {"x": X})["y"]


def test_what_is_computed_stays_and_so_do_names() -> None:
    model = early().model("y")
    made = later_opset.raised(model, 17)
    assert later_opset.opset_of(made) == 17 and later_opset.opset_of(model) == 8
    names = {name for node in made.graph.node for name in node.output}
    assert names >= {name for node in model.graph.node for name in node.output}
    np.testing.assert_allclose(computed(made), computed(model), rtol=1e-5)  # float32 sums


@pytest.mark.parametrize("kind", ["operator", "name", "late", "body"])
def test_what_cannot_be_converted_stays(kind: str) -> None:
    net = early()
    if kind == "operator":
        assert later_opset.raised(net.model("y"), 17, {"Clip"}).opset_import[0].version == 8
        return
    net.opset = 20 if kind == "late" else 9
    net.nodes = []
    if kind == "name":  # onnx writes another operator with a result of its own
        up = net.op("Upsample", "x", net.const(np.ones(4, np.float32)))
        net.op("Identity", up)
    elif kind == "late":
        net.op("Relu", "x")
    else:
        inner = onnx.helper.make_node("Identity", ["x"], ["inner"])
        body = onnx.helper.make_graph([inner], "b", [], [onnx.ValueInfoProto(name="inner")])
        net.op("If", net.const(np.array(True)), then_branch=body, else_branch=body)
    net.nodes[-1].output[0] = "y"
    model = net.model("y")
    assert later_opset.raised(model, 17) is model
