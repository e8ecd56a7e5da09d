"""Removal that changes nothing: planted dead channels, constants, borders."""

from typing import Any

import numpy as np
import onnx
import pytest
from networks import NETWORKS, Net
from planted_zeros import GATED, _set, channels, zero_filters

import onnxprune
from onnxprune import ops
from onnxprune.groups.analysis import analyze
from onnxprune.ir import graph
from onnxprune.surgery import lossless

EXACT = [
    "chain", "pooled_classifier", "spatial_flatten", "reduce_mean_head", "residual_spine",
    "inverted_residual", "dense_concat", "split_and_concat", "squeeze_and_excite", "unet",
    "pyramid_with_sizes", "one_and_three_dimensions", "batch_normalised", "channels_last",
    "pad_shortcut", "two_inputs", "symbolic_shape_arithmetic",
    "interleaved_pairs",
]  # fmt: skip


AFFINE = ("batch_normalised", "residual_spine", "channels_last")


@pytest.mark.parametrize("name", EXACT)
@pytest.mark.parametrize("bias", [0.0, 0.7, -0.7])
def test_planted_channels_go(name: str, bias: float):
    """Zeroed filters vanish; constants they emit are folded, at borders too."""
    model = NETWORKS[name]()
    before = channels(model)
    planted = zero_filters(model, bias)
    result = onnxprune.prune(model, lossless=True, latency=False)
    assert result.report.proof.max_relative_error <= lossless.TOLERANCE
    assert result.report.proof.reference == "original"
    removed = before - channels(result.model)
    constant = bias != 0 or name in AFFINE
    carriers = len(analyze(model).groups) if constant else 0  # one of a group may have to stay
    assert removed >= planted - carriers


@pytest.mark.parametrize("name", ["group_normalised", "length_over_channels"])
def test_planted_zeros_go_through_normalisations(name: str):
    """Whole groups of zeros leave the shift alone, and zeros add nothing to a length."""
    model = NETWORKS[name]()
    before, planted = channels(model), zero_filters(model)
    result = onnxprune.prune(model, lossless=True, latency=False)
    assert result.report.proof.max_relative_error <= lossless.TOLERANCE
    carriers = len(analyze(model).groups) if name == "group_normalised" else 0
    assert before - channels(result.model) >= planted - carriers


RECURRENT = [
    "lstm", "lstm_from_zero_state", "stacked_bidirectional_lstm", "gru_linear_before_reset",
    "rnn_over_image_rows", "lstm_over_an_embedding",
]  # fmt: skip


@pytest.mark.parametrize("name", RECURRENT)
def test_planted_units_go(name: str):
    """A unit without weights stays at the zero it started from, through all steps."""
    model = NETWORKS[name]()
    before = channels(model)
    planted = zero_filters(model, 0.0)
    result = onnxprune.prune(model, lossless=True, latency=False)
    assert result.report.proof.reference == "original"
    assert before - channels(result.model) == planted


def recurrent_layer(kind: str = "LSTM", dirs: int = 1, **attrs: object) -> tuple[Net, str]:
    """Six units; weights are c0 (W), c1 (R), c2 (B)."""
    n = Net(x=("T", "N", 5))
    return n, n.recurrent(kind, "x", 5, 6, dirs=dirs, **attrs)[1]


def kept_units(n: Net, last: str, *changes: tuple[str, int, list[int], float]) -> int:
    """Units left by lossless pruning after `changes` of weights (name, axis, positions, value)."""
    ends = n.op("Reshape", n.op("Transpose", last, perm=[1, 0, 2]), n.const(np.array([0, -1])))
    dirs = onnx.numpy_helper.to_array(n.weights[0]).shape[0]
    model = n.model(n.gemm(ends, 6 * dirs, 4))
    for name, axis, at, value in changes:
        _set(model, name, axis, np.array(at), value)
    result = onnxprune.prune(model, lossless=True, latency=False)
    (group,) = result.report.groups
    return int(group["kept"])


NEW = {"LSTM": 3, "GRU": 2, "RNN": 0}  # the block of the candidate


def silence(kind: str, unit: int) -> list[tuple[str, int, list[int], float]]:
    """Changes that leave the gates of a unit as they are, and nothing to let through them."""
    row, blocks = NEW[kind] * 6 + unit, {"LSTM": 4, "GRU": 3, "RNN": 1}[kind]
    return [("c0", 1, [row], 0.0), ("c1", 1, [row], 0.0), ("c2", 1, [row, blocks * 6 + row], 0.0)]


@pytest.mark.parametrize("dirs", [1, 2])
@pytest.mark.parametrize("kind", GATED)
def test_a_unit_whose_candidate_is_zero_goes(kind: str, dirs: int):
    assert kept_units(*recurrent_layer(kind, dirs), *silence(kind, 2), *silence(kind, 4)) == 4


@pytest.mark.parametrize(
    ("kind", "attrs"),
    [
        ("LSTM", {"activations": ["Sigmoid", "Sigmoid", "Tanh"]}),
        ("GRU", {"activations": ["Sigmoid", "HardSigmoid"]}),
        ("RNN", {"activations": ["Sigmoid"]}),
    ],
)
def test_a_unit_whose_activation_moves_zero_stays(kind: str, attrs: dict[str, Any]):
    assert kept_units(*recurrent_layer(kind, **attrs), *silence(kind, 2)) == 6


@pytest.mark.parametrize("kind", GATED)
def test_a_unit_with_a_bias_stays(kind: str):
    assert kept_units(*recurrent_layer(kind), *silence(kind, 2)[:2]) == 6


@pytest.mark.parametrize("value", [0.0, 0.3])
def test_a_unit_goes_if_it_starts_at_zero(value: float):
    n = Net(x=("T", 1, 5))
    h, c = (n.const(np.full((1, 1, 6), v, np.float32)) for v in (value, 0.0))
    last = n.recurrent("LSTM", "x", 5, 6, "", h, c)[1]
    shifted = [(f"c{int(w[1:]) + 2}", axis, at, v) for w, axis, at, v in silence("LSTM", 2)]
    ends = n.op("Squeeze", last, n.const(np.array([0])))
    model = n.model(n.gemm(ends, 6, 4))
    for name, axis, at, v in shifted:
        _set(model, name, axis, np.array(at), v)
    result = onnxprune.prune(model, lossless=True, latency=False)
    assert [g["kept"] for g in result.report.groups] == [6 if value else 5]


def test_units_that_feed_only_each_other_go():
    """Rows 1 and 2 of R read units 1 and 2, which never leave zero."""
    n, last = recurrent_layer("RNN")
    r = np.array(onnx.numpy_helper.to_array(n.weights[1]))
    r[0, 1:3, [0, 3, 4, 5]] = 0
    n.weights[1].CopyFrom(onnx.numpy_helper.from_array(r, "c1"))
    assert kept_units(n, last, ("c0", 1, [1, 2], 0.0), ("c2", 1, [1, 2, 7, 8], 0.0)) == 4


def test_a_unit_that_only_hears_itself_goes():
    n, last = recurrent_layer("GRU")
    r = np.array(onnx.numpy_helper.to_array(n.weights[1]))
    r[0, np.arange(18) % 6 != 4, 4] = 0
    n.weights[1].CopyFrom(onnx.numpy_helper.from_array(r, "c1"))
    assert kept_units(n, last, ("c4", 1, [4], 0.0)) == 5


def test_nothing_to_remove_changes_nothing():
    model = NETWORKS["residual_spine"]()
    result = onnxprune.prune(model, lossless=True, latency=False)
    assert graph.model_bytes(result.model) == graph.model_bytes(model)


def test_a_channel_that_nobody_reads_goes():
    model = NETWORKS["chain"]()
    _set(model, "c4", 1, np.array([1, 5]), 0.0)  # the last convolution's weight
    result = onnxprune.prune(model, lossless=True, latency=False)
    assert channels(model) - channels(result.model) == 2


def test_what_dies_upstream_goes_too():
    """Without readers, the second layer's channel is the only one that read the first's."""
    model = NETWORKS["chain"]()
    keep = np.setdiff1d(np.arange(16), [3])
    _set(model, "c4", 1, np.array([3]), 0.0)
    weight = onnx.numpy_helper.to_array(model.graph.initializer[2]).copy()
    weight[keep, 7] = 0.0
    model.graph.initializer[2].CopyFrom(onnx.numpy_helper.from_array(weight, "c2"))
    result = onnxprune.prune(model, lossless=True, latency=False)
    assert channels(model) - channels(result.model) == 2


def test_constant_through_a_bias_without_padding():
    """No border, a bias to fold into: no carrier stays."""
    n = Net(x=("N", 3, 8, 8))
    y = n.relu(n.conv("x", 3, 8))
    model = n.model(n.conv(y, 8, 4, 1))
    _set(model, "c0", 0, np.array([1, 2, 5]), 0.0)
    _set(model, "c1", 0, np.array([1, 2, 5]), 0.9)
    result = onnxprune.prune(model, lossless=True, latency=False)
    assert [g["kept"] for g in result.report.groups] == [5]


def test_constant_into_padding_keeps_one_carrier():
    n = Net(x=("N", 3, 8, 8))
    y = n.relu(n.conv("x", 3, 8))
    model = n.model(n.conv(y, 8, 4, 3))
    _set(model, "c0", 0, np.array([1, 2, 5]), 0.0)
    _set(model, "c1", 0, np.array([1, 2, 5]), 0.9)
    result = onnxprune.prune(model, lossless=True, latency=False)
    assert [g["kept"] for g in result.report.groups] == [6]


def test_gates_that_vary_are_no_constants():
    """A dead filter with a bias, multiplied by a gate that depends on the input, is not dead."""
    n = Net(x=("N", 3, 8, 8))
    y = n.conv("x", 3, 6)
    gate = n.op("Sigmoid", n.conv(n.op("GlobalAveragePool", "x"), 3, 6, 1))
    model = n.model(n.conv(n.op("Mul", y, gate), 6, 4, 1))
    _set(model, "c0", 0, np.array([0, 1]), 0.0)
    _set(model, "c1", 0, np.array([0]), 0.5)
    _set(model, "c1", 0, np.array([1]), 0.0)
    result = onnxprune.prune(model, lossless=True, latency=False)
    assert [g["kept"] for g in result.report.groups] == [5]  # channel 1 is zero whatever the gate


def test_lossless_then_target():
    model = NETWORKS["residual_spine"]()
    zero_filters(model, None)
    result = onnxprune.prune(model, {"macs": 0.4}, lossless=True, latency=False)
    assert result.report.achieved["macs"] <= 0.4
    onnx.checker.check_model(result.model, full_check=True)


def test_without_compensation_kept_weights_do_not_change():
    n = Net(x=("N", 3, 8, 8))
    model = n.model(n.conv(n.relu(n.conv("x", 3, 8)), 8, 4, 1))
    _set(model, "c0", 0, np.array([1, 2, 5]), 0.0)
    _set(model, "c1", 0, np.array([1, 2]), 0.9)
    _set(model, "c1", 0, np.array([5]), -0.9)  # which Relu turns into zero
    result = onnxprune.prune(model, lossless=True, compensate=False, latency=False)
    assert [g["kept"] for g in result.report.groups] == [7]
    before = {t.name: onnx.numpy_helper.to_array(t) for t in model.graph.initializer}
    for tensor in result.model.graph.initializer:
        if tensor.name == "c3":
            assert np.array_equal(onnx.numpy_helper.to_array(tensor), before["c3"])


def test_a_constant_that_a_transposed_product_sums_up_stays() -> None:
    """Sigmoid makes 0.5 of channels of zeros, and the stored operand has no bias to take it."""
    n = Net(x=(1, 5))
    weight = n.rng.standard_normal((5, 12)).astype(np.float32)
    weight[:, 4:8] = 0
    y = n.op("Sigmoid", n.op("MatMul", "x", n.const(weight)))
    y = n.op("Reshape", y, n.const(np.array([1, 3, 4])))
    z = n.op("FusedMatMul", y, n.weight(3, 2), domain="com.microsoft", transA=1)
    model = n.model(n.op("ReduceMax", z, keepdims=0))
    result = onnxprune.prune(model, lossless=True, latency=False)
    assert result.report.proof.passed


def test_what_a_stored_vector_reads_stays() -> None:
    """A vector has no axis for results, so it is no layer; it reads channels all the same."""
    n = Net(x=(1, 5))
    y = n.op("Reshape", n.op("MatMul", "x", n.weight(5, 6)), n.const(np.array([1, 2, 3])))
    model = n.model(n.op("MatMul", y, n.weight(3)))
    result = onnxprune.prune(model, lossless=True, latency=False)
    assert result.report.proof.passed and channels(result.model) == channels(model)


@pytest.mark.parametrize("home", [0.0, np.nan])
def test_a_carrier_without_a_number_takes_nothing(home: float) -> None:
    """Here nobody reads the channel that goes; elsewhere the carrier stands for it."""
    n = Net(x=(1, 5))
    weight = n.rng.standard_normal((2, 3)).astype(np.float32)
    weight[1] = 0
    analysis = analyze(
        n.model(n.op("MatMul", n.op("MatMul", "x", n.weight(5, 2)), n.const(weight)))
    )
    node = analysis.nodes[-1]
    (kernel,) = ops.kernels_of(node)
    used, arrives = weight.T != 0, np.array([home, 0.5])
    reader = lossless._Reader(node, kernel, used, arrives, np.array([[0], [1]]), True, False)
    work = lossless._Work(analysis.read)
    lossless._fold(reader, np.array([1]), 0, work)
    name = node.inputs[kernel.index]
    assert name is not None and np.array_equal(work.weight(name.name), weight)
