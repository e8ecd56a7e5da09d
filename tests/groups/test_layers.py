"""A layer's rows times its matrix are what onnxruntime computes."""

import numpy as np
import onnx
import pytest
from networks import Net
from present import present

from onnxprune import ops
from onnxprune.calibration.moments import Moments
from onnxprune.compensation.obs import LayerProblem, eliminate, refit
from onnxprune.groups import layers
from onnxprune.groups.analysis import analyze
from onnxprune.groups.layers import POSITIONS, bias_of, layer_of
from onnxprune.ir import graph, runtime
from onnxprune.ir.shape_inference import describe

CASES = [
    ("Conv", (4, 5, 9, 8), (6, 5, 3, 3), {"pads": [1, 1, 1, 1]}),
    ("Conv", (4, 5, 9, 8), (6, 5, 3, 2), {"strides": [2, 3], "pads": [1, 0, 0, 1]}),
    ("Conv", (4, 5, 19), (6, 5, 5), {"strides": [2], "auto_pad": "SAME_LOWER"}),
    ("Conv", (4, 5, 19), (6, 5, 5), {"dilations": [2], "pads": [3, 1]}),
    ("Conv", (4, 5, 20), (6, 5, 4), {"strides": [3], "auto_pad": "SAME_UPPER"}),
    ("Conv", (2, 3, 5, 6, 7), (4, 3, 2, 3, 3), {"strides": [1, 2, 1]}),
    ("Conv", (4, 5, 9, 8), (5, 1, 3, 3), {"pads": [1, 1, 1, 1], "group": 5}),
    ("ConvTranspose", (4, 5, 6, 7), (5, 6, 3, 3), {"strides": [2, 2], "pads": [1, 0, 1, 1]}),
    ("ConvTranspose", (4, 5, 6), (5, 6, 4), {"strides": [3], "output_padding": [1]}),
    ("ConvTranspose", (4, 5, 6), (5, 6, 3), {"dilations": [2], "pads": [1, 1]}),
    ("MatMul", (3, 7, 5), (5, 4), {}),
    ("Gemm", (30, 5), (4, 5), {"transB": 1}),
    ("Gemm", (30, 5), (5, 4), {}),
]


@pytest.mark.parametrize("few", [0, 1000], ids=["picked", "laid out"])
@pytest.mark.parametrize("case", CASES)
def test_rows_times_matrix_is_the_operator(case, few, monkeypatch):
    op, x_shape, w_shape, attrs = case
    monkeypatch.setattr(layers, "FEW", few)
    rng = np.random.default_rng(0)
    w = rng.standard_normal(w_shape).astype(np.float32)
    model = onnx.helper.make_model(
        onnx.helper.make_graph(
            [onnx.helper.make_node(op, ["x", "w"], ["y"], **attrs)],
            "g",
            [onnx.helper.make_tensor_value_info("x", 1, x_shape)],
            [onnx.ValueInfoProto(name="y")],
            [onnx.numpy_helper.from_array(w, "w")],
        ),
        opset_imports=[onnx.helper.make_opsetid("", 17)],
        ir_version=8,
    )
    x = rng.standard_normal(x_shape).astype(np.float32)
    y = runtime.run(runtime.open_session(graph.model_bytes(model)), {"x": x})["y"]
    (node,) = describe(model, ops.traits())
    layer = layer_of(node, graph.reader(model))
    assert layer is not None
    places = layer.places(y.shape, rng)
    rows, result = layer.inputs(x, y.shape, places, w.shape), layer.outputs(y, places)
    matrix = layer.matrix(w)
    made = np.einsum("mtc,tc->mc", rows, matrix) if layer.depthwise else rows @ matrix
    np.testing.assert_allclose(made, result, rtol=1e-4, atol=1e-4)
    np.testing.assert_array_equal(layer.stored(matrix, w), w)
    whole = len(layer.outputs(y, None)) if layer.dense else y.size // y.shape[1]
    assert len(rows) == (whole if y.ndim == 2 else min(whole, POSITIONS * len(y)))


def test_a_sweep_prices_what_a_refit_costs():
    """The error of a sweep at k channels is that of the best weight on those channels."""
    rng = np.random.default_rng(1)
    x = rng.standard_normal((4000, 12)) @ rng.standard_normal((12, 12))
    w = rng.standard_normal((12, 3))
    moments = Moments()
    for part in np.split(x, 4):
        moments.add(part.astype(np.float32), (part @ w).astype(np.float32))
    found = moments.statistics()
    np.testing.assert_allclose(found.cov, np.cov(x.T, bias=True), rtol=1e-4, atol=1e-4)
    columns = np.arange(12).reshape(6, 2)
    order, errors = eliminate([LayerProblem(found.cov, w, columns, 1e-9)])
    assert sorted(order.tolist()) == list(range(6)) and (np.diff(errors) <= 0).all()
    for k in range(1, 7):
        kept = columns[order[6 - k :]].ravel()
        fitted = refit(found, w, np.sort(kept), 1e-9)
        share = found.error(fitted).sum() / found.var_y.sum()
        np.testing.assert_allclose(share, errors[k], rtol=1e-2, atol=1e-5)


@pytest.mark.parametrize(
    ("shape", "shared", "own"),
    [((6,), False, True), ((1, 6), False, True), ((), False, False), ((6,), True, False)],
)
def test_a_bias_counts_that_holds_a_number_for_each_result(shape, shared: bool, own: bool):
    """One number for all, or a bias that others read, cannot take the mean of one layer."""
    net = Net(x=("N", 4))
    bias = net.const(np.ones(shape, np.float32), "b")
    y = net.op("Gemm", "x", net.weight(4, 6), bias)
    if shared:
        y = net.op("Gemm", y, net.weight(6, 6), bias)
    analysis = analyze(net.model(y))
    nodes = [node for node in analysis.nodes if node.op == "Gemm"]
    layer = layer_of(nodes[0], analysis.read)
    assert layer is not None
    readers = {**analysis.index.readers}
    if shared:  # the analysis gives each its own copy: undone here
        readers[present(nodes[0].input(2)).name] = nodes
    name, _ = bias_of(layer, readers, analysis.read)
    assert bool(name) == own
