"""Pruning on calibration data: closer to the original than dropping, and proved all the same."""

from typing import Any

import numpy as np
import onnx
import pytest
from networks import NETWORKS
from paths import ROOT
from running import outputs, samples

import onnxprune
from onnxprune import ops
from onnxprune.ir import save, tensors, zero_biases
from onnxprune.pipeline import prune_calibrated, size_budget

DIGITS = ROOT / "models" / "digits.onnx"
CALIB, TEST = ROOT / "models" / "digits_calib.npz", ROOT / "models" / "digits_test.npz"

NETS = [
    "chain", "batch_normalised", "residual_spine", "inverted_residual", "dense_concat",
    "transposed_convolutions", "vision_transformer", "one_and_three_dimensions",
]  # fmt: skip


@pytest.mark.parametrize("name", NETS)
def test_refitting_is_closer_than_dropping(name):
    model = NETWORKS[name]()
    feeds = samples(model)
    options: dict[str, Any] = {"calib": feeds, "latency": False}
    kept = onnxprune.prune(model, {"macs": 0.7}, **options)
    dropped = onnxprune.prune(model, {"macs": 0.7}, compensate=False, **options)
    assert kept.report.proof.passed and kept.report.achieved["macs"] <= 0.7
    base = outputs(model, feeds)
    errors = [float(((outputs(r.model, feeds) - base) ** 2).mean()) for r in (kept, dropped)]
    assert errors[0] < errors[1]
    onnx.checker.check_model(kept.model, full_check=True)


def test_digits_keep_their_accuracy():
    """At half the MACs, dropping leaves a quarter of the answers right."""
    result = onnxprune.prune(
        DIGITS, {"macs": 0.5}, calib=CALIB, calib_samples=128, data=TEST, latency=False
    )
    assert result.report.after.accuracy is not None and result.report.after.accuracy > 0.97
    assert any("calibrated on 128 samples" in note for note in result.report.notes)


def test_several_steps_reach_the_target():
    model = NETWORKS["residual_spine"]()
    options: dict[str, Any] = {"calib": samples(model), "latency": False}
    result = onnxprune.prune(model, {"macs": 0.4}, steps=3, round_to=1, **options)
    assert 0.38 < result.report.achieved["macs"] <= 0.4
    assert sum("a step before removed" in note for note in result.report.notes) == 2


def test_no_compensation_keeps_weights_bit_identical():
    """Activations then only choose the channels."""
    model = NETWORKS["chain"]()
    result = onnxprune.prune(
        model, {"macs": 0.6}, calib=samples(model), importance="wanda", compensate=False,
        latency=False,
    )  # fmt: skip
    stored = {t.name: tensors.array(t) for t in model.graph.initializer}
    for tensor in result.model.graph.initializer:
        old = stored[tensor.name]
        for axis in range(old.ndim):
            keep = result.plan.keep.get(onnxprune.types.Axis(tensor.name, axis))
            old = old if keep is None else np.take(old, keep, axis)
        np.testing.assert_array_equal(old, tensors.array(tensor))


def without_biases() -> onnx.ModelProto:
    """Three convolutions without a bias."""
    model = NETWORKS["chain"]()
    for node in model.graph.node:
        if node.op_type == "Conv":
            del node.input[2:]
    return model


def test_layers_get_a_bias_where_it_takes_a_mean():
    """The first convolution reads nothing that is pruned, so that its added bias stays zero."""
    model = without_biases()
    result = onnxprune.prune(model, {"macs": 0.7}, calib=samples(model), distill=0, latency=False)
    first, *others = [n for n in result.model.graph.node if n.op_type == "Conv"]
    assert len(first.input) == 2
    stored = {t.name: tensors.array(t) for t in result.model.graph.initializer}
    for node in others:
        assert node.input[2].endswith(zero_biases.MARK) and stored[node.input[2]].any()


def test_biases_that_stay_zero_go_again():
    model = without_biases()
    again = zero_biases.unbiased(zero_biases.biased(model, ops.LAYERS))
    assert [n.SerializeToString() for n in again.graph.node] == [
        n.SerializeToString() for n in model.graph.node
    ]
    with_bias = zero_biases.biased(model, ops.LAYERS)
    feeds = samples(model)
    np.testing.assert_array_equal(outputs(with_bias, feeds), outputs(model, feeds))


def test_what_misses_its_size_is_not_distilled(monkeypatch: pytest.MonkeyPatch):
    """A file that is too large is cut anew before anything is tuned."""
    stages: list[Any] = []
    tuned: list[Any] = []

    def excess(stage, budgets, real=size_budget.excess_bytes):
        if not any(stage is known for known in stages):
            stages.append(stage)
        return 1000 if stage is stages[0] else real(stage, budgets)  # more than was counted on

    monkeypatch.setattr(prune_calibrated, "excess_bytes", excess)
    monkeypatch.setattr(size_budget, "excess_bytes", excess)
    monkeypatch.setattr(prune_calibrated, "distill", lambda *given: tuned.append(given))
    result = onnxprune.prune(DIGITS, {"size": 0.5}, calib=CALIB, calib_samples=32, latency=False)
    assert len(tuned) == 1
    assert save.file_bytes(stages[1].model) < save.file_bytes(stages[0].model)
    assert result.report.achieved["size"] <= 0.5
