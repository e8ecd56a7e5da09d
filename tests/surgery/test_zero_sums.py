"""Sums with zeros go, where what they add to has no other reader."""

import numpy as np
import onnx
import pytest
from text_models import text_model

from onnxprune.ir import graph, runtime
from onnxprune.surgery.zero_sums import without_zero_sums

FEEDS = {"x": np.random.default_rng(0).standard_normal((5, 3)).astype(np.float32)}
LINEAR = """
net (float[N, 3] x) => (float[N, 2] z) {
    s = Gemm <transB = 1> (x, w0)
    y = Add (s, l)
    z = Gemm <transB = 1> (y, w1)
}
"""
RECTIFIED = """
net (float[N, 3] x) => (float[N, 2] z) {
    s = Gemm <transB = 1> (x, w0)
    r = Relu (s)
    y = Add (l, r)
    t = Relu (y)
    z = Gemm <transB = 1> (t, w1)
}
"""
NOT_RECTIFIED_AGAIN = RECTIFIED.replace("t = Relu", "t = Tanh")
READ_TWICE = LINEAR.replace("z = Gemm <transB = 1> (y, w1)", "q = Add (s, y)\n    z = Gemm (q, w2)")


def outputs(model: onnx.ModelProto) -> np.ndarray:
    (y,) = runtime.run(runtime.open_session(graph.model_bytes(model)), FEEDS).values()
    return y


def made(text: str, addend: np.ndarray) -> onnx.ModelProto:
    weights = {"w0": (4, 3), "w1": (2, 4), "w2": (4, 2)}
    return text_model(text, l=addend, **{k: v for k, v in weights.items() if k in text})


@pytest.mark.parametrize(("text", "left"), [(LINEAR, "Gemm Gemm"), (RECTIFIED, "Gemm Relu Gemm")])
def test_a_sum_with_zeros_goes_and_keeps_its_name(text: str, left: str):
    model = made(text, np.zeros((1, 4), np.float32))
    smaller = without_zero_sums(model, ["l"])
    assert " ".join(node.op_type for node in smaller.graph.node) == left
    assert smaller.graph.node[0].output == ["y"]
    assert "l" not in {tensor.name for tensor in smaller.graph.initializer}
    onnx.checker.check_model(smaller, full_check=True)
    np.testing.assert_array_equal(outputs(smaller), outputs(model))


def test_a_relu_that_no_other_follows_stays():
    text = NOT_RECTIFIED_AGAIN
    smaller = without_zero_sums(made(text, np.zeros((1, 4), np.float32)), ["l"])
    assert "Add" in {node.op_type for node in smaller.graph.node}


@pytest.mark.parametrize("text", [READ_TWICE, LINEAR.replace("(float[N, 2] z)", "(s, z)")])
def test_what_others_read_stays(text: str):
    model = made(text, np.zeros((1, 4), np.float32))
    assert without_zero_sums(model, ["l"]) == model


def test_early_files_list_no_stored_tensor_that_is_gone():
    model = made(LINEAR, np.zeros((1, 4), np.float32))
    model.ir_version = 3
    graph.list_stored(model)
    smaller = without_zero_sums(model, ["l"])
    assert {value.name for value in smaller.graph.input} == {"x", "w0", "w1"}


def test_a_sum_with_other_numbers_stays():
    model = made(LINEAR, np.array([[0, 0, 1e-9, 0]], np.float32))
    assert without_zero_sums(model, ["l"]) == model
