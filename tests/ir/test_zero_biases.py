"""Zero biases are added where layers have none, and leave no trace if they stay zero."""

import numpy as np
import onnx
import pytest
from networks import Net
from onnx_text import run, stored

from onnxprune import ops
from onnxprune.ir import graph, zero_biases
from onnxprune.ir.patch import patch


def layers() -> onnx.ModelProto:
    """Four layers without a bias and two with one: (2, 3, 4, 4) to (2, 7)."""
    n = Net(x=(2, 3, 4, 4))
    y = n.op("Conv", "x", n.weight(8, 3, 1, 1))
    y = n.op("ConvTranspose", y, n.weight(8, 3, 1, 1), group=2)
    y = n.conv(y, 6, 5)
    y = n.op("Flatten", n.op("GlobalAveragePool", n.relu(y)))
    y = n.op("Gemm", y, n.weight(5, 9), transB=0)
    y = n.op("Add", n.op("MatMul", y, n.weight(9, 4)), n.weight(4))
    return n.model(n.op("MatMul", n.relu(y), n.weight(4, 7)))


def biased(model: onnx.ModelProto) -> onnx.ModelProto:
    return zero_biases.biased(model, ops.LAYERS)


def added(model: onnx.ModelProto) -> dict[str, int]:
    """Lengths of biases that were added, by name."""
    return {name: len(v) for name, v in stored(model).items() if name.endswith("onnxprune/bias")}


X = np.random.default_rng(0).standard_normal((2, 3, 4, 4)).astype(np.float32)


def test_layers_without_a_bias_get_one_of_their_width() -> None:
    """Those that have one, or an addition behind them, do not."""
    model = layers()
    before = graph.model_bytes(model)
    new = biased(model)
    assert sorted(added(new).values()) == [6, 7, 8, 9] and added(model) == {}
    assert graph.model_bytes(model) == before
    for name, value in run(model, x=X).items():
        np.testing.assert_array_equal(run(new, x=X)[name], value)


def test_biases_that_stay_zero_leave_no_trace() -> None:
    model = layers()
    new = biased(model)
    assert zero_biases.spare_parameters(new) == 6 + 7 + 8 + 9
    assert zero_biases.spare_bytes(new) == sum(
        t.ByteSize() for t in new.graph.initializer if t.name in added(new)
    )
    assert graph.model_bytes(zero_biases.unbiased(new)) == graph.model_bytes(model)


def test_models_of_old_versions_list_their_biases() -> None:
    """Before IR version 4 what is stored is an input too, or the runtime asks for it."""
    model = layers()
    model.ir_version = 3
    graph.list_stored(model)
    before = graph.model_bytes(model)
    new = biased(model)
    for name, value in run(model, x=X).items():
        np.testing.assert_array_equal(run(new, x=X)[name], value)
    assert graph.model_bytes(zero_biases.unbiased(new)) == before


@pytest.mark.parametrize("width", [6, 7, 8, 9])
def test_a_bias_that_is_not_zero_stays_and_counts(width: int) -> None:
    """Whatever layer it belongs to, all others go."""
    new = biased(layers())
    (name,) = (name for name, size in added(new).items() if size == width)
    new = patch(new, {name: np.full(width, 0.5)})
    expected = run(new, x=X)
    assert zero_biases.spare_parameters(new) == 6 + 7 + 8 + 9 - width
    small = zero_biases.unbiased(new)
    assert list(added(small)) == [name]
    for output, value in expected.items():
        assert not np.array_equal(run(layers(), x=X)[output], value)
        np.testing.assert_array_equal(run(small, x=X)[output], value)


def test_a_product_whose_result_others_read_gets_a_bias_of_its_own() -> None:
    """The addition behind it is only for one of its readers."""
    n = Net(x=("N", 4))
    y = n.op("MatMul", "x", n.weight(4, 6))
    model = n.model(n.op("Mul", n.op("Add", y, n.weight(6)), y))
    assert list(added(biased(model)).values()) == [6]


def test_integers_and_what_is_computed_get_no_bias() -> None:
    n = Net(x=("N", 4))
    w = n.op("Neg", n.weight(4, 6))
    product = n.op("MatMul", "x", w)
    table = n.op("MatMul", n.op("Cast", product, to=7), n.const(np.ones((6, 2), np.int64)))
    assert added(biased(n.model(n.op("Cast", table, to=1)))) == {}
