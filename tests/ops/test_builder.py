"""Arithmetic behind a graph: what it computes, in every version of the operators."""

import numpy as np
import onnx
import pytest
from numpy.typing import NDArray

from onnxprune.ir import runtime, skeleton
from onnxprune.ir.graph_builder import GraphBuilder
from onnxprune.ops.builder import Builder
from onnxprune.types import Tensor

VERSIONS = [11, 13, 18]
X = np.random.default_rng(0).standard_normal((2, 3, 4)).astype(np.float32)


@pytest.fixture(params=VERSIONS)
def build(request: pytest.FixtureRequest) -> Builder:
    return Builder(GraphBuilder(request.param, np.dtype(np.float32)))


def computed(build: Builder, wanted: str, **values: NDArray[np.float32]) -> NDArray[np.float32]:
    """What the operators so far make of given tensors."""
    graph = build.graph
    assert isinstance(graph, GraphBuilder)
    bare = onnx.ModelProto(ir_version=8)
    bare.opset_import.append(onnx.helper.make_opsetid("", build.opset))
    model, outputs = skeleton.node_model(bare, graph.nodes, {**values, **graph.constants})
    found: NDArray[np.float32] = runtime.compute(model, outputs)[wanted]
    return found


def test_a_gradient_is_summed_over_the_axes_that_were_repeated(build: Builder) -> None:
    """Of y = b + x with b (3, 1), x (2, 3, 4): the gradient of b is the sum over axes 0 and 2."""
    out, b, x = Tensor("y", (2, 3, 4)), Tensor("b", (3, 1)), Tensor("x", (2, 3, 4))
    assert build.summed("dy", x, out) == "dy"
    assert build.summed("dy", Tensor("z", (1, 3, "L")), Tensor("y", (1, 3, "L"))) == "dy"
    found = computed(build, build.summed("dy", b, out), dy=X, b=np.zeros((3, 1), np.float32))
    np.testing.assert_allclose(found, X.sum((0, 2))[:, None], rtol=1e-5)  # float32 sums


def test_placing_is_the_inverse_of_taking(build: Builder) -> None:
    positions = [3, 0]
    small = build.take("x", 2, positions)
    back = build.placed(small, 2, positions, 4)
    assert build.placed("x", 2, range(4), 4) == "x"
    found = computed(build, back, x=X)
    assert np.array_equal(found[:, :, positions], X[:, :, positions])
    assert not found[:, :, [1, 2]].any() and found.shape == X.shape


def test_reductions_and_squeezes_over_axes(build: Builder) -> None:
    mean = build.mean("x", 1)
    flat = build.along("Squeeze", mean, [1])
    rows = build.along("Unsqueeze", flat, [0])  # (1, 2, 4)
    total = build.along("ReduceSum", rows, [0, 2], keep=False)
    means = X.mean(1, keepdims=True)
    np.testing.assert_allclose(computed(build, mean, x=X), means, rtol=1e-5)  # float32 sums
    np.testing.assert_allclose(computed(build, total, x=X), means.sum((1, 2)), rtol=1e-5)


def test_arithmetic_and_masks(build: Builder) -> None:
    mask = build.mask("Greater", "x", build.constant(0))
    y = build.total([build.scaled("x", 2.0), build.mul("x", mask, mask)])
    np.testing.assert_array_equal(computed(build, y, x=X), np.where(X > 0, 3 * X, 2 * X))
    z = build.over(build.minus(build.plus("x", 4.0), "x"), build.count("x"))
    np.testing.assert_allclose(computed(build, z, x=X), np.full_like(X, 4 / 24), rtol=1e-5)


def test_padding_and_strided_slices_undo_each_other(build: Builder) -> None:
    padded = build.padded("x", [0, 1, 2], [0, 1, 0])
    inner = build.every(padded, 1, starts=[1, 2], steps=[1, 1], counts=[3, 4])
    every = build.every(padded, 1, starts=[0, 1], steps=[2, 3], counts=[3, 2])
    expected = np.pad(X, [(0, 0), (1, 1), (2, 0)])
    assert build.padded("x", [0, 0, 0], [0, 0, 0]) == "x"
    assert np.array_equal(computed(build, inner, x=X), X)
    assert np.array_equal(computed(build, every, x=X), expected[:, 0:5:2, 1:5:3])


def test_the_last_two_axes_are_exchanged_and_shares_add_up_to_one(build: Builder) -> None:
    swapped = build.swapped("x", 3)
    shares = build.shares(swapped, 2)
    assert np.array_equal(computed(build, swapped, x=X), X.transpose(0, 2, 1))
    np.testing.assert_allclose(computed(build, shares, x=X).sum(2), 1, rtol=1e-5)
