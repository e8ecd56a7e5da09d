"""Weights of bytes: no two neighbours exceed what 16 bits hold, and no more is lost than needed."""

import numpy as np
import onnx
import pytest
from networks import NETWORKS, Net, samples_of
from quantised_models import NETS

from onnxprune import ops
from onnxprune.calibration.samples import calibration
from onnxprune.ir import graph, tensors
from onnxprune.pipeline.paired_weights import INTEGERS, SCALE, Narrowed, narrow, neighbours
from onnxprune.pipeline.quantize import MODES, Quantization, quantized

NAMES = ("chain", "mlp", "pooled_classifier", "grouped_convolutions", "squeeze_and_excite")


def made(name: str, mode: str, full_range: bool = False):
    model = NETS[name]()
    data = calibration(samples_of(model, np.random.default_rng(0)), model)
    return quantized(model, Quantization(mode, full_range=full_range), data)


def largest_sums(model: onnx.ModelProto) -> list[int]:
    """The largest sum of two neighbours of every weight that kernels multiply in pairs."""
    stored = {t.name: tensors.array(t) for t in model.graph.initializer}
    decoded = {n.output[0]: n.input[0] for n in model.graph.node if n.op_type in ops.DECODERS}
    found = []
    for node in model.graph.node:
        name = decoded.get(node.input[1]) if len(node.input) > 1 else None
        if graph.op_key(node) in ops.PAIRS:
            name = node.input[1] if node.op_type == "MatMulInteger" else None
        group = graph.attributes(node).get("group", 1)
        if name not in stored or stored[name].ndim < 2 or group == len(stored[name]):
            continue
        for rows in neighbours(stored[name].astype(np.int64), node):
            if rows.shape[-1] > 1:
                found.append(int(np.abs(rows[..., 1:] + rows[..., :-1]).max()))
    return found


@pytest.mark.parametrize("mode", MODES)
@pytest.mark.parametrize("name", NAMES)
def test_no_pair_saturates(name: str, mode: str):
    """255 · 128 is the most that two products add up to, below 2 ** 15."""
    model, _ = made(name, mode)
    full, _ = made(name, mode, full_range=True)
    assert all(total <= 128 for total in largest_sums(model))
    if largest_sums(full):
        assert max(largest_sums(full)) > 128, "nothing to mend: the test would see nothing"


@pytest.mark.parametrize("mode", MODES)
def test_the_report_says_what_it_costs(mode: str):
    _, notes = made("mlp", mode)
    assert len(notes) == 1 and "weights keep 7." in notes[0] and "full_range" in notes[0]
    assert made("mlp", mode, full_range=True)[1] == []


def matrix(weight: np.ndarray) -> tuple[onnx.ModelProto, onnx.ModelProto]:
    """A product of reals, and of integers with one scale for each column."""
    n = Net(x=("N", len(weight)))
    n.op("MatMul", "x", n.const(weight))
    before = n.model("matmul1_0")
    (name,) = (t.name for t in before.graph.initializer)
    scale = (np.abs(weight).max(0) / 127).astype(np.float32)
    after = onnx.ModelProto.FromString(before.SerializeToString())
    del after.graph.initializer[:]
    after.graph.initializer.extend([
        onnx.numpy_helper.from_array(np.rint(weight / scale).astype(np.int8), name + INTEGERS),
        onnx.numpy_helper.from_array(scale, name + SCALE),
    ])  # fmt: skip
    after.graph.node[0].CopyFrom(
        onnx.helper.make_node("MatMulInteger", ["x", name + INTEGERS], ["y"])
    )
    return before, after


def test_only_channels_that_need_it_get_a_larger_scale():
    """Column 0 alternates in sign, column 1 has two equal neighbours."""
    weight = np.array([[1, 1], [-1, 1], [1, 0]], np.float32)
    before, after = matrix(weight)
    found = narrow(before, after)
    stored = graph.constants(after)
    (integers,) = (tensors.array(t) for name, t in stored.items() if name.endswith(INTEGERS))
    (scale,) = (tensors.array(t) for name, t in stored.items() if name.endswith(SCALE))
    np.testing.assert_allclose(scale, [1 / 127, 2 / 127], rtol=1e-6)
    assert integers[:, 0].tolist() == [127, -127, 127]
    assert integers[:, 1].tolist() == [64, 64, 0]
    assert found == Narrowed(1, (pytest.approx(7.5), pytest.approx(7)))  # type: ignore[arg-type]


def test_reals_that_are_not_known_are_read_from_the_integers():
    weight = np.array([[1, 1], [-1, 1], [1, 0]], np.float32)
    before, after = matrix(weight)
    del before.graph.initializer[:]
    assert narrow(before, after).weights == 1
    (integers,) = (tensors.array(t) for t in after.graph.initializer if t.name.endswith(INTEGERS))
    assert integers[:, 1].tolist() == [64, 64, 0]


def test_convolutions_have_two_orders_of_neighbours():
    node = onnx.helper.make_node("Conv", ["x", "w"], ["y"])
    weight = np.arange(2 * 3 * 1 * 2).reshape(2, 3, 1, 2)
    first, second = neighbours(weight, node)
    assert first[0].tolist() == [0, 1, 2, 3, 4, 5]
    assert second[0].tolist() == [0, 2, 4, 1, 3, 5]


def test_a_model_without_quantised_weights_is_left_alone():
    model = NETWORKS["chain"]()
    before = model.SerializeToString()
    found = narrow(model, model)
    assert model.SerializeToString() == before
    assert found.weights == 0 and found.note() == ""
