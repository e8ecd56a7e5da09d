"""Pruning without data: closer to the original than dropping, said so, and off when told to be."""

import numpy as np
import onnx
import pytest
from networks import NETWORKS, Net
from normalised_networks import normalised, outputs
from paths import ROOT
from present import present

import onnxprune
from onnxprune import ops
from onnxprune.calibration.estimated_statistics import estimate_statistics
from onnxprune.compensation.data_free import fold
from onnxprune.groups.analysis import analyze
from onnxprune.ir import graph, runtime, tensors, zero_biases
from onnxprune.ir.zero_biases import biased
from onnxprune.types import Axis

DIGITS, CALIB = ROOT / "models" / "digits.onnx", ROOT / "models" / "digits_calib.npz"


def prune(model, target, **changes):
    return onnxprune.prune(model, target, **{"latency": False, **changes})


def folded():
    """Two convolutions with a bias and a ReLU between, as a folded normalisation leaves them.

    The filters of the first are mixtures of four, their bias what brings the mean of noise to zero.
    """
    rng = np.random.default_rng(3)
    n = Net(x=("N", 3, 12, 12))
    mixed = (rng.standard_normal((8, 4)) @ rng.standard_normal((4, 27)) / 7).astype(np.float32)
    y = n.relu(n.op("Conv", "x", n.const(mixed.reshape(8, 3, 3, 3)), n.weight(8)))
    model = n.model(n.conv(y, 8, 5, pads=[0] * 4))
    return model, rng.standard_normal((64, 3, 12, 12)).astype(np.float32)


@pytest.mark.parametrize("importance", ["auto", "l2", "fan-out"])
@pytest.mark.parametrize("make", [lambda: normalised()[:2], folded], ids=["normalised", "folded"])
def test_folding_is_closer_than_dropping(make, importance):
    model, x = make()
    made = prune(model, {"macs": 0.75}, importance=importance, round_to=1)
    dropped = prune(model, {"macs": 0.75}, importance=importance, round_to=1, compensate=False)
    assert made.report.proof.passed and made.report.achieved["macs"] <= 0.75
    base = outputs(model, x)
    errors = [float(((outputs(r.model, x) - base) ** 2).mean()) for r in (made, dropped)]
    assert errors[0] < 0.8 * errors[1]
    onnx.checker.check_model(made.model, full_check=True)


@pytest.mark.parametrize("importance", ["auto", "l2"])
def test_digits_agree_with_the_original(importance):
    """At two thirds of the MACs, dropping by norm leaves half of the answers, by `fan-out` 69 %."""
    image = np.load(CALIB)["image"]

    def answers(model):
        session = runtime.open_session(graph.model_bytes(model))
        (logits,) = runtime.run(session, {"image": image}).values()
        return logits.argmax(1)

    base = answers(onnx.load(DIGITS))

    def agreement(**changes):
        made = prune(DIGITS, {"macs": 0.667}, round_to=1, **changes)
        return float((answers(made.model) == base).mean())

    made = agreement(importance=importance)
    assert made > 0.85
    for other in ("l2", "fan-out"):
        assert agreement(compensate=False, importance=other) < made - 0.1


def test_the_report_says_that_no_data_was_used():
    notes = prune(normalised()[0], {"macs": 0.7}).report.notes
    assert [n for n in notes if n.startswith("no data was used: 1 layers make up")]


def test_a_model_of_which_nothing_can_be_estimated_is_only_cut():
    n = Net(x=("N", 6, 9))
    y = n.relu(n.op("Conv", "x", n.weight(8, 6, 3)))
    model = n.model(n.op("Conv", y, n.weight(5, 8, 3)))
    made = prune(model, {"macs": 0.7})
    (note,) = [note for note in made.report.notes if "no data was used" in note]
    assert "nothing is believed" in note
    plain = prune(model, {"macs": 0.7}, compensate=False)
    assert graph.model_bytes(made.model) == graph.model_bytes(plain.model)


@pytest.mark.parametrize("name", ["chain", "batch_normalised", "residual_spine"])
def test_without_compensation_kept_weights_are_bit_identical(name):
    model = NETWORKS[name]()
    result = prune(model, {"macs": 0.6}, compensate=False)
    stored = {t.name: tensors.array(t) for t in model.graph.initializer}
    for tensor in result.model.graph.initializer:
        old = stored[tensor.name]
        for axis in range(old.ndim):
            keep = result.plan.keep.get(Axis(tensor.name, axis))
            old = old if keep is None else np.take(old, keep, axis)
        np.testing.assert_array_equal(old, tensors.array(tensor))
    assert not any("no data" in note for note in result.report.notes)


def test_layers_get_a_bias_where_it_takes_a_mean():
    """The first convolution reads nothing that is pruned, so that its added bias stays zero."""
    model, _, _ = normalised()
    first, last = (node for node in model.graph.node if node.op_type == "Conv")
    assert len(first.input) == 2
    del last.input[2:]
    result = prune(model, {"macs": 0.7})
    first, last = (node for node in result.model.graph.node if node.op_type == "Conv")
    stored = {t.name: tensors.array(t) for t in result.model.graph.initializer}
    assert len(first.input) == 2
    assert last.input[2].endswith(zero_biases.MARK) and stored[last.input[2]].any()


def test_an_estimate_without_a_scale_moves_no_bias():
    """What reads it is the same mixture, however large the input is estimated to be."""
    model, _ = folded()
    analysis = analyze(biased(model, ops.LAYERS))
    known = estimate_statistics(analysis.nodes, analysis.read, analysis.sample)
    assert not any(estimate.anchored for estimate in known.values())
    read, weight = (present(t).name for t in analysis.nodes[-1].inputs[:2])
    kept = [np.arange(8) < 5]
    patches = fold(analysis, kept, known)
    assert list(patches) == [weight]
    louder = {
        **known,
        read: type(known[read])(3 * known[read].mean, 9 * known[read].cov, anchored=False),
    }
    again = fold(analysis, kept, louder)[weight]
    np.testing.assert_allclose(again, patches[weight], rtol=1e-5, atol=1e-6)


@pytest.mark.parametrize("name", ["chain", "residual_spine", "batch_normalised", "dense_concat"])
def test_costs_are_those_that_an_analysis_of_the_result_counts(name: str):
    result = onnxprune.prune(NETWORKS[name](), {"macs": 0.7}, latency=False)
    macs, params = analyze(result.model).cost.full[:2]
    assert (result.report.after.macs, result.report.after.params) == (macs, params)
