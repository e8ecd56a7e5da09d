"""Weights that the graph computes from others are stored; what moves or draws values is not."""

import numpy as np
import onnx
import pytest
from networks import NETWORKS, Net, samples_of
from onnx_text import parsed, run, stored

from onnxprune import ops
from onnxprune.ir import graph
from onnxprune.ir.constant_folding import FEWEST_ELEMENTS, precomputed, run_alone
from onnxprune.ir.shape_inference import describe


def folded(model: onnx.ModelProto, biases: bool = False) -> tuple[onnx.ModelProto, list[str]]:
    return precomputed(model, ops.traits(), biases_too=biases)


def product(*, rows: int, op: str = "Mul") -> onnx.ModelProto:
    """x (N, 8) times a matrix (8, rows) that is computed from two stored ones."""
    n = Net(x=("N", 8))
    a, b = n.weight(8, rows), n.weight(8, rows)
    w = n.op(op, a, b) if op == "Mul" else n.op(op, a, b, axis=1)
    return n.model(n.op("MatMul", "x", w))


def test_a_standardised_weight_is_stored_as_what_it_is() -> None:
    model = NETWORKS["standardised_weights"]()
    (conv,) = (n for n in model.graph.node if n.op_type == "Conv" and n.input[1].startswith("div"))
    new, notes = folded(model)
    assert notes == ["1 weights that the graph computes from others are stored as they are"]
    (w,) = (value for name, value in stored(new).items() if name == conv.input[1])
    np.testing.assert_allclose(w.sum(axis=(1, 2, 3)), 0, atol=1e-5)  # float32 sums
    np.testing.assert_allclose((w**2).sum(axis=(1, 2, 3)), 1, rtol=1e-5)
    assert {n.op_type for n in new.graph.node} == {"Conv", "Relu"}
    feeds = samples_of(model, np.random.default_rng(0))
    for name, value in run(model, **feeds).items():
        np.testing.assert_array_equal(run(new, **feeds)[name], value)


def test_what_only_made_the_weight_goes() -> None:
    model = product(rows=FEWEST_ELEMENTS // 8)
    new, _ = folded(model)
    assert list(stored(new)) == [model.graph.node[0].output[0]]
    expected = stored(model)["c0"] * stored(model)["c1"]
    assert np.array_equal(next(iter(stored(new).values())), expected)


@pytest.mark.parametrize(
    "model",
    [
        pytest.param(product(rows=FEWEST_ELEMENTS // 8 - 1), id="small"),
        pytest.param(product(rows=FEWEST_ELEMENTS // 8, op="Concat"), id="moved"),
        pytest.param(NETWORKS["chain"](), id="stored already"),
    ],
)
def test_other_models_stay_the_same_object(model: onnx.ModelProto) -> None:
    new, notes = folded(model)
    assert new is model and notes == []


@pytest.mark.parametrize("kind", [np.int8, np.float16])
def test_what_takes_fewer_bytes_as_it_is_stays(kind: type[np.generic]) -> None:
    """Decoded weights and tables of positions would make the file larger."""
    n = Net(x=("N", 8))
    coded = n.op("Cast", n.const(np.ones((8, 200), kind)), to=onnx.TensorProto.FLOAT)
    model = n.model(n.op("MatMul", "x", n.op("Mul", coded, n.weight(1, 200))))
    assert folded(model)[0] is model
    n = Net(x=("N", 8))
    table = n.op("Add", n.weight(8, 1), n.weight(1, 200))
    model = n.model(n.op("MatMul", "x", table))
    assert folded(model)[0] is model


def test_two_weights_made_from_one_are_not_both_stored() -> None:
    """Only the first takes the place of what it is made from."""
    n = Net(x=("N", 8))
    base = n.weight(8, 200)
    first, second = (n.op("Mul", base, n.weight(1, 200)) for _ in range(2))
    model = n.model(n.op("MatMul", "x", first), n.op("MatMul", "x", second))
    new, notes = folded(model)
    assert graph.stored_bytes(new) <= graph.stored_bytes(model), notes


def test_random_numbers_are_drawn_on_every_run() -> None:
    n = Net(x=("N", 8))
    noise = n.op("RandomNormalLike", n.weight(8, 200))
    model = n.model(n.op("MatMul", "x", n.op("Mul", noise, n.weight(8, 200))))
    assert folded(model)[0] is model


def test_a_weight_that_a_caller_may_feed_is_no_constant() -> None:
    n = Net(x=("N", 8), scale=(8, 200))
    model = n.model(n.op("MatMul", "x", n.op("Mul", "scale", n.weight(8, 200))))
    assert folded(model)[0] is model


def test_a_bias_that_is_filled_with_one_number_is_stored_however_small_it_is() -> None:
    """It can take up what is removed in front of its layer, where layers are refitted."""
    n = Net(x=("N", 6))
    half = onnx.numpy_helper.from_array(np.array([0.5], np.float32))
    bias = n.op("ConstantOfShape", n.const(np.array([4])), value=half)
    model = n.model(n.op("Gemm", "x", n.weight(6, 4), bias))
    assert folded(model)[0] is model
    new, _ = folded(model, biases=True)
    assert stored(new)[bias].tolist() == [0.5] * 4 and len(new.graph.node) == 1


def test_a_node_is_computed_alone_on_given_inputs() -> None:
    model = parsed("""
        g (float[2] x) => (float[2] y, float[2] z) <float high = {2.0}> {
            y = Clip(x, , high)
            z = com.microsoft.Mystery(x)
        }""")
    clip, unknown = describe(model, ops.traits())
    values = np.array([-3, 5], np.float32)
    found = run_alone(clip, [values, None, np.array(2, np.float32)])
    assert found is not None and found.tolist() == [-3, 2]
    assert run_alone(unknown, [values]) is None
